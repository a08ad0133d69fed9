//! The way to the gateway: `POST /internal/send`.

use std::time::Duration;

use serde_json::{Value as Json, json};
use ureq::Agent;

use super::say;

/// Longest that a send may take, in all. The gateway answers at once; a send made while a callback
/// is being answered must end well before the gateway gives that callback up, which is after 5 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// An event as a browser is going to see it; the data is a JSON object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) data: Json,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The client will get it, if its connection lasts.
    Taken,
    /// The connection is gone: its token is unknown, or this very write failed.
    Gone,
    /// The gateway will never take this event: there is no use in sending it again.
    Refused,
    /// Not reached, not answered in time or not now: nothing is known of the connection, and the
    /// event may have been sent or not.
    Failed,
}

/// What the rooms above need of the gateway.
pub(crate) trait Gateway: Send + Sync {
    /// Sends an event to one connection and closes it then, if it is told to. It blocks: whoever
    /// calls holds no lock.
    fn send(&self, token: &str, event: &Event, close: bool) -> Outcome;
}

/// The gateway over HTTP.
pub(crate) struct Http {
    agent: Agent,
    url: String,
}

impl Http {
    pub(crate) fn new(url: String) -> Http {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Http { agent, url }
    }
}

impl Gateway for Http {
    fn send(&self, token: &str, event: &Event, close: bool) -> Outcome {
        let answer = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .send(command(token, event, close));
        // The body is read to its end, so that the connection serves the next send too.
        let read = answer.and_then(|mut answer| {
            let body = answer.body_mut().read_to_vec()?;
            Ok((answer.status().as_u16(), body))
        });
        let outcome = match &read {
            Ok((status, body)) => outcome(*status, body),
            Err(_) => Outcome::Failed,
        };
        match (outcome, read) {
            (Outcome::Taken | Outcome::Gone, _) => {}
            (_, Ok((status, _))) => say(&format!("send failed token={token} status={status}")),
            (_, Err(error)) => say(&format!("send failed token={token} ({error})")),
        }
        outcome
    }
}

/// The body of a send. The data travels as a string: the gateway looks into no event.
pub(crate) fn command(token: &str, event: &Event, close: bool) -> String {
    json!({"token": token, "event": wire(event), "close": close}).to_string()
}

/// An event as the gateway takes it, in a send as in the answer to a connect.
pub(crate) fn wire(event: &Event) -> Json {
    json!({"name": event.name, "data": event.data.to_string()})
}

/// The code decides, not the status alone: a 404 for a wrong URL tells nothing about a token.
fn outcome(status: u16, body: &[u8]) -> Outcome {
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    match (status, body["error"]["code"].as_str()) {
        (200..=299, _) => Outcome::Taken,
        (_, Some("TOKEN_NOT_FOUND" | "WRITE_FAILED")) => Outcome::Gone,
        (400 | 413, _) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// A gateway of the tests: it keeps what it is sent and answers as the test says, perhaps after
/// something else has happened, which is how races are played step by step.
#[cfg(test)]
pub(crate) mod fake {
    use std::sync::{Arc, Mutex, OnceLock};

    use super::{Event, Gateway, Json, Outcome};

    type React = Box<dyn Fn(&str, &Event) -> Outcome + Send + Sync>;

    #[derive(Default)]
    pub(crate) struct Fake {
        sent: Mutex<Vec<String>>,
        react: OnceLock<React>,
    }

    impl Fake {
        /// Without this everything is taken.
        pub(crate) fn react(
            &self,
            react: impl Fn(&str, &Event) -> Outcome + Send + Sync + 'static,
        ) {
            assert!(self.react.set(Box::new(react)).is_ok());
        }

        /// What was sent since the last call, each as `TOKEN NAME VALUES`, the data's values in
        /// the order of their fields' names, with `, close` behind if the stream was to end.
        pub(crate) fn sent(&self) -> Vec<String> {
            std::mem::take(&mut self.sent.lock().unwrap())
        }
    }

    impl Gateway for Arc<Fake> {
        fn send(&self, token: &str, event: &Event, close: bool) -> Outcome {
            let shown = |value: &Json| value.as_str().map_or(value.to_string(), str::to_owned);
            let values: Vec<String> = event
                .data
                .as_object()
                .unwrap()
                .values()
                .map(shown)
                .collect();
            let values = values.join(" ");
            let close = if close { ", close" } else { "" };
            let line = format!("{token} {} {values}{close}", event.name);
            self.sent.lock().unwrap().push(line);
            self.react
                .get()
                .map_or(Outcome::Taken, |react| react(token, event))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_what_became_of_a_send() {
        let table = [
            (200, r#"{"status":"ok"}"#, Outcome::Taken),
            (200, r#"{"status":"buffered"}"#, Outcome::Taken),
            (
                404,
                r#"{"error":{"code":"TOKEN_NOT_FOUND"}}"#,
                Outcome::Gone,
            ),
            (500, r#"{"error":{"code":"WRITE_FAILED"}}"#, Outcome::Gone),
            // A wrong URL, a proxy in between: neither says anything about the connection.
            (404, r#"{"error":{"code":"NOT_FOUND"}}"#, Outcome::Failed),
            (404, "<html>", Outcome::Failed),
            (500, "", Outcome::Failed),
            (503, r#"{"error":{"code":"BUFFER_FULL"}}"#, Outcome::Failed),
            (
                413,
                r#"{"error":{"code":"CONTENT_TOO_LARGE"}}"#,
                Outcome::Refused,
            ),
            (
                400,
                r#"{"error":{"code":"INVALID_JSON"}}"#,
                Outcome::Refused,
            ),
        ];
        for (status, body, expected) in table {
            assert_eq!(
                outcome(status, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn an_event_travels_as_a_name_and_a_string() {
        let event = Event {
            name: "version",
            data: json!({"version": "1\n2"}),
        };
        let sent: Json = serde_json::from_str(&command("t", &event, true)).unwrap();
        let expected = json!({
            "token": "t",
            "event": {"name": "version", "data": r#"{"version":"1\n2"}"#},
            "close": true,
        });
        assert_eq!(sent, expected);
    }
}
