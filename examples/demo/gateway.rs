//! The way to the gateway: `POST /internal/send`.

use std::time::Duration;

use serde_json::{Value as Json, json};
use ureq::Agent;

use super::say;

/// Longest that a send may take, in all. The gateway answers at once; a send made while a callback
/// is being answered must end well before the gateway gives that callback up, which is after 5 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// So many streams will get it, if their connections last.
    Taken { receivers: u64 },
    /// The one connection it was for is gone: its token is unknown, or this very write failed.
    Gone,
    /// The gateway will never take this: there is no use in sending it again.
    Refused,
    /// Not reached, not answered in time or not now: nothing is known of the connections, and the
    /// event may have been sent or not.
    Failed,
}

/// What the rooms above need of the gateway.
pub(crate) trait Gateway: Send + Sync {
    /// Sends a command, the JSON of the gateway's interface: whom it is for, the event, and whether
    /// their streams end. It blocks: whoever calls holds no lock.
    fn send(&self, command: &Json) -> Outcome;
}

/// An event as the gateway takes it, in a send as in the answer to a connect. The data travels as a
/// string: the gateway looks into no event.
pub(crate) fn event(name: &str, data: &Json) -> Json {
    json!({"name": name, "data": data.to_string()})
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
    fn send(&self, command: &Json) -> Outcome {
        let answer = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .send(command.to_string());
        // The body is read to its end, so that the connection serves the next send too.
        let read = answer.and_then(|mut answer| {
            let body = answer.body_mut().read_to_vec()?;
            Ok((answer.status().as_u16(), body))
        });
        let outcome = match &read {
            Ok((status, body)) => outcome(*status, body),
            Err(_) => Outcome::Failed,
        };
        let whom = whom(command);
        match (outcome, read) {
            (Outcome::Taken { .. } | Outcome::Gone, _) => {}
            (_, Ok((status, _))) => say(&format!("send failed {whom} status={status}")),
            (_, Err(error)) => say(&format!("send failed {whom} ({error})")),
        }
        outcome
    }
}

/// Whom a command is for, for people.
fn whom(command: &Json) -> String {
    let fields = ["token", "channel", "channels", "broadcast"];
    let given = fields.iter().find(|field| !command[**field].is_null());
    given.map_or(String::new(), |field| {
        format!("{field}={}", command[*field])
    })
}

/// The code decides, not the status alone: a 404 for a wrong URL tells nothing about a token.
fn outcome(status: u16, body: &[u8]) -> Outcome {
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    match (status, body["error"]["code"].as_str()) {
        // A send to one token does not count.
        (200..=299, _) => Outcome::Taken {
            receivers: body["receivers"].as_u64().unwrap_or(1),
        },
        (_, Some("TOKEN_NOT_FOUND" | "WRITE_FAILED")) => Outcome::Gone,
        (400 | 413, _) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// A gateway of the tests: it keeps what it is sent and answers as the test says, perhaps after
/// something else has happened, which is how races are played step by step.
#[cfg(test)]
pub(crate) mod fake {
    use std::sync::{Mutex, OnceLock};

    use super::{Gateway, Json, Outcome};

    type React = Box<dyn Fn(&Json) -> Outcome + Send + Sync>;

    #[derive(Default)]
    pub(crate) struct Fake {
        sent: Mutex<Vec<String>>,
        react: OnceLock<React>,
    }

    impl Fake {
        /// Without this everything is taken.
        pub(crate) fn react(&self, react: impl Fn(&Json) -> Outcome + Send + Sync + 'static) {
            assert!(self.react.set(Box::new(react)).is_ok());
        }

        /// What was sent since the last call, each as `WHOM NAME VALUES`: tokens and channels are
        /// named as they are, the data's values come in the order of their fields' names. In front
        /// of the name stands what is joined (`+`) and left (`-`), behind the values `, close`.
        pub(crate) fn sent(&self) -> Vec<String> {
            std::mem::take(&mut self.sent.lock().unwrap())
        }
    }

    /// A string, or strings, or a number, as they are to be read.
    fn shown(json: &Json) -> String {
        match json {
            Json::String(text) => text.clone(),
            Json::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(","),
            Json::Object(all) => all.values().map(shown).collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        }
    }

    fn line(command: &Json) -> String {
        let mut words = Vec::new();
        for (field, sign) in [
            ("token", ""),
            ("channel", ""),
            ("channels", ""),
            ("subscribe", "+"),
            ("unsubscribe", "-"),
        ] {
            if let Some(value) = command.get(field) {
                words.push(format!("{sign}{}", shown(value)));
            }
        }
        if command["broadcast"] == true {
            words.push("everybody".to_owned());
        }
        if let Some(event) = command.get("event") {
            let data: Json = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
            words.push(format!("{} {}", shown(&event["name"]), shown(&data)));
        }
        let close = if command["close"] == true {
            ", close"
        } else {
            ""
        };
        words.join(" ") + close
    }

    impl Gateway for Fake {
        fn send(&self, command: &Json) -> Outcome {
            self.sent.lock().unwrap().push(line(command));
            let taken = Outcome::Taken { receivers: 1 };
            self.react.get().map_or(taken, |react| react(command))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_what_became_of_a_send() {
        let taken = |receivers| Outcome::Taken { receivers };
        let table = [
            (200, r#"{"status":"ok"}"#, taken(1)),
            (200, r#"{"status":"buffered"}"#, taken(1)),
            (200, r#"{"status":"ok","receivers":0}"#, taken(0)),
            (200, r#"{"status":"ok","receivers":7}"#, taken(7)),
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
                r#"{"error":{"code":"INVALID_CHANNEL"}}"#,
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
        let expected = json!({"name": "version", "data": r#"{"version":"1\n2"}"#});
        assert_eq!(event("version", &json!({"version": "1\n2"})), expected);
    }
}
