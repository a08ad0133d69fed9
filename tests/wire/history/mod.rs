//! Contract, section 12: what was missed comes again, and current values.

mod again;
mod beginnings;
mod ends;
mod gaps;
mod ids;
mod keyed;
mod limits;
mod off;
mod order;
mod slow;
mod values;

use serde_json::{Value, json};

use crate::support::{Backend, Builder, Client, Gateway, Response, post_send};

/// A gateway that keeps what is sent to channels, and a backend whose connect answers are the test's.
struct Stage {
    gateway: Gateway,
    backend: Backend,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(&[("HISTORY_BYTES", "1000000")])
    }

    fn with(settings: &[(&str, &str)]) -> Stage {
        let backend = deciding();
        let mut builder = steady(&backend);
        for (name, value) in settings {
            builder = builder.env(name, value);
        }
        Stage {
            gateway: builder.start(),
            backend,
        }
    }

    /// A client that has asked for a stream, and its callback.
    fn ask(&self, header: Option<&str>) -> (Client, crate::support::Callback) {
        let mut client = self.gateway.connect();
        client.send(request("HTTP/1.1", header));
        (client, self.backend.next_connect())
    }

    /// A stream whose client sends this `Last-Event-ID`, behind the head; its token.
    #[track_caller]
    fn visit(&self, header: Option<&str>, answer: &Value) -> (Client, String) {
        let (mut client, connect) = self.ask(header);
        connect.answer(200, &answer.to_string());
        assert_eq!(client.read_head().status, 200, "{answer}");
        (client, connect.token())
    }

    /// The same with nothing but channels in the answer.
    #[track_caller]
    fn join(&self, channels: &[&str], header: Option<&str>) -> (Client, String) {
        self.visit(header, &json!({"channels": channels}))
    }

    /// A send to channels or to all, and the id that its event got.
    #[track_caller]
    fn publish(&self, command: &Value) -> String {
        id_of(&post_send(&self.gateway, command))
    }

    /// An event with nothing but data.
    #[track_caller]
    fn to(&self, channel: &str, data: &str) -> String {
        self.publish(&json!({"channel": channel, "event": {"data": data}}))
    }

    #[track_caller]
    fn to_all(&self, data: &str) -> String {
        self.publish(&json!({"broadcast": true, "event": {"data": data}}))
    }

    /// A send whose answer is this one.
    #[track_caller]
    fn post(&self, command: &Value, answer: &str) {
        crate::support::assert_ok(&post_send(&self.gateway, command), answer);
    }

    /// All streams end, and each is paid for.
    #[track_caller]
    fn end(&self, clients: impl IntoIterator<Item = Client>) {
        clients.into_iter().for_each(Client::reset);
        self.backend.assert_balanced();
    }
}

/// A backend that leaves connects to the test and answers everything else.
fn deciding() -> Backend {
    Backend::with(|callback| {
        if !callback.is_connect() {
            callback.answer(200, "");
        }
    })
}

/// Nothing comes by itself, and no callback is late, however long a test takes.
fn steady(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "86400")
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .env("DISCONNECT_TIMEOUT_SECONDS", "60")
}

/// What an `EventSource` sends, the first time or again.
fn request(version: &str, header: Option<&str>) -> String {
    let header = header.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
    format!("GET /s {version}\r\nHost: h\r\n{header}\r\n")
}

/// The id in a send's answer, which holds that, the number of receivers, and nothing else.
#[track_caller]
fn id_of(response: &Response) -> String {
    assert_eq!(response.status(), 200, "{}", response.text());
    let json: Value = serde_json::from_slice(&response.body).expect("JSON");
    let id = json["id"].as_str().expect("an id");
    let receivers = json["receivers"].as_u64().expect("a number");
    let body = format!(r#"{{"status":"ok","receivers":{receivers},"id":"{id}"}}"#);
    crate::support::assert_ok(response, &body);
    id.to_owned()
}

/// Both numbers of an id, which is written as the contract says.
#[track_caller]
fn numbers(id: &str) -> (u64, u64) {
    let number = |text: &str| {
        assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
        text.parse::<u64>().expect(id)
    };
    let (millis, rest) = id.split_once('-').expect(id);
    (number(millis), number(rest))
}

/// An event of the history as it stands on the stream.
fn event(id: &str, data: &str) -> String {
    format!("id: {id}\ndata: {data}\n\n")
}

/// What tells the client where it is.
fn position(id: &str) -> String {
    format!("id: {id}\n\n")
}

/// What tells it that something is lost.
fn gap(asked: &str) -> String {
    let data = json!({"last_event_id": asked});
    format!("event: gap\ndata: {data}\n\n")
}

/// Exactly these come next.
#[track_caller]
fn assert_next<T: AsRef<str>>(client: &mut Client, texts: impl IntoIterator<Item = T>) {
    for (at, text) in texts.into_iter().enumerate() {
        assert_eq!(client.next_event(), text.as_ref(), "number {at}");
    }
}

/// This is next, behind a position if the client is told of one: where nothing of the past was brought,
/// that is nobody's business.
#[track_caller]
fn assert_next_or_position(client: &mut Client, expected: &str) {
    let mut text = client.next_event();
    if !text.contains("data") {
        text = client.next_event();
    }
    assert_eq!(text, expected);
}
