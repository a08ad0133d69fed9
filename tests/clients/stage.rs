//! What all clients are put through: the same events, one at a time.

use serde_json::{Value, json};

use crate::program::Program;
use crate::support::{Backend, Callback, Client, Gateway, open_stream};

/// Names and data that have been misread somewhere. One named `error` is an event like any other,
/// although an `EventSource` fires events of its own under this name.
const EVENTS: [(&str, &str); 17] = [
    ("", "x"),
    ("", ""),
    ("tick", "x"),
    ("tick", ""),
    ("", " x "),
    ("", "a\nb"),
    ("", "a\r\nb\rc"),
    ("", "a\n"),
    ("", "\n"),
    ("", "\n\na"),
    ("é€", "ü😀"),
    ("", "x\n\nevent: forged\ndata: y\n\n"),
    ("", ": no comment"),
    ("", "id: 7\nretry: 1"),
    ("", "{\"a\":\"\\n\"}"),
    // Line ends to Unicode, not to event streams.
    ("", "a\u{2028}b\u{85}c\u{b}d\u{c}e"),
    ("error", "mine"),
];

/// The names of all events that have one.
pub const NAMES: [&str; 4] = ["tick", "é€", "error", "big"];

/// The events, and one of a megabyte.
fn events() -> impl Iterator<Item = (String, String)> {
    let big = ("big".to_owned(), "0123456789abcde€".repeat(1 << 16));
    let table = EVENTS
        .iter()
        .map(|(name, data)| (name.to_string(), data.to_string()));
    table.chain([big])
}

/// Sends an event. Whether the connect callback's answer has been read
/// by then does not matter.
#[track_caller]
pub fn send(gateway: &Gateway, token: &str, name: &str, data: &str) {
    let event = json!({"token": token, "event": {"name": name, "data": data}});
    let mut publisher = gateway.connect();
    publisher.post(event.to_string().as_bytes());
    let response = publisher.read_response();
    assert_eq!(response.status(), 200, "{}", response.text());
}

/// The data as a client sees it: its line ends are LF.
fn seen(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

/// What a client that knows event streams reports of an event: no id, and a name of its own for
/// what has none.
pub fn report_of(name: &str, data: &str) -> Value {
    let name = if name.is_empty() { "message" } else { name };
    json!({"event": name, "data": seen(data), "id": ""})
}

/// What a client that shows lines shows of an event.
pub fn lines_of(name: &str, data: &str) -> Vec<String> {
    let name = (!name.is_empty()).then(|| format!("event: {name}"));
    let data = seen(data);
    let data = data.split('\n').map(|line| format!("data: {line}"));
    name.into_iter()
        .chain(data)
        .chain([String::new()])
        .collect()
}

/// Sends each event when `check` has seen the one before.
pub fn play(gateway: &Gateway, token: &str, mut check: impl FnMut(&str, &str)) {
    for (name, data) in events() {
        send(gateway, token, &name, &data);
        check(&name, &data);
    }
}

/// Starts a gateway in the place of one that has ended, and whose port stays its own while it lives.
pub fn restart(ended: &Gateway, backend: &Backend) -> Gateway {
    let port = ended.port().to_string();
    let builder = Gateway::builder().backend(backend);
    match ended.socket() {
        Some(path) => builder.at_socket(path).start(),
        None => builder.env("PORT", &port).start(),
    }
}

/// A gateway with a heartbeat each second.
pub fn lively(backend: &Backend) -> Gateway {
    let builder = Gateway::builder().backend(backend);
    builder.env("HEARTBEAT_INTERVAL_SECONDS", "1").start()
}

/// Returns when every stream that was open before has been sent a heartbeat at least: the cadence
/// is the same for all, so that two of a stream that opens now tell it.
pub fn wait_heartbeat(gateway: &Gateway, backend: &Backend) {
    let (mut watch, _) = open_stream(gateway, backend, "/watch");
    for _ in 0..2 {
        assert_eq!(watch.next_event(), ": heartbeat\n\n");
    }
    leave(backend, watch);
}

/// Ends a raw stream, and waits until the backend knows.
pub fn leave(backend: &Backend, client: Client) {
    drop(client);
    let disconnect = backend.next_disconnect();
    assert_eq!(disconnect.reason(), "client_closed");
    disconnect.answer(200, "");
}

/// Answers the next connect 200; gives its callback.
#[track_caller]
pub fn accept(backend: &Backend) -> Callback {
    let callback = backend.next_connect();
    callback.answer(200, "");
    callback
}

/// The next callback is a disconnect of this token for this reason.
#[track_caller]
pub fn expect_disconnect(backend: &Backend, token: &str, reason: &str) {
    let disconnect = backend.next_disconnect_of(token);
    assert_eq!(disconnect.reason(), reason);
    disconnect.answer(200, "");
}

/// A client that has said that it is ready, and was then told this.
#[track_caller]
pub fn begin(command: &mut std::process::Command, orders: &Value) -> Program {
    let mut program = Program::start(command);
    assert_eq!(program.report(), json!({"ready": true}));
    program.say(&orders.to_string());
    program
}

/// The URL of a path at a port.
pub fn url(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}
