//! The harness of the black-box tests: the real binary over real sockets, a backend that answers
//! when the test says so, clients that look at every byte.
//!
//! Laws: nothing sleeps to let something happen; whatever must come is waited for, [`PATIENCE`] at
//! most, and what came instead is shown.
// Each test binary uses the part of the harness that it needs.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod backend;
mod callback;
mod client;
pub mod crowd;
mod folder;
mod gateway;
mod ledger;
pub mod metrics;
mod ports;
pub mod process;
mod program;
pub mod readme;
mod scraper;
mod shared;

use std::time::Duration;

use serde_json::Value;

pub use backend::Backend;
pub use callback::Callback;
pub use client::{Client, Head, Response};
pub use folder::Folder;
pub use gateway::{Builder, Gateway, Line, each_line, signal};
pub use ledger::Ledger;
pub use ports::Port;
pub use program::{assert_refused, demo, program};
pub use scraper::Scraper;
pub use shared::Shared;

/// The longest that one wait lasts, be it for a callback, for a line of the log or for the next
/// bytes on a connection; a test may need many of them.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// With a connect's limit of one second: when a backend answers whose answer comes behind the 504
/// and still counts, from its callback on. The middle of the second in which it does, as far as can
/// be from either end on a busy host.
pub const LATE: Duration = Duration::from_millis(1500);

/// Opens a stream: the request, the callback (answered 200 unless the backend has answered it by
/// itself), the head. Gives the client, behind the head, and the token.
pub fn open_stream(gateway: &Gateway, backend: &Backend, path: &str) -> (Client, String) {
    open_on(gateway.connect(), backend, path)
}

/// A stream whose client has a small receive buffer, from the handshake on, and reads nothing
/// behind the head.
pub fn open_narrow(
    gateway: &Gateway,
    backend: &Backend,
    path: &str,
    receive_buffer: usize,
) -> (Client, String) {
    let client = Client::with_receive_buffer(gateway.port(), receive_buffer);
    open_on(client, backend, path)
}

fn open_on(mut client: Client, backend: &Backend, path: &str) -> (Client, String) {
    client.get(path);
    let callback = backend.next_connect_of(path);
    if !callback.is_answered() {
        callback.answer(200, "");
    }
    let head = client.read_head();
    assert_eq!(head.status, 200, "{}", head.text());
    (client, callback.token())
}

/// The bytes of a send with this body.
pub fn send_request(body: &str) -> String {
    let length = body.len();
    format!("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The connection is one on which requests are served.
#[track_caller]
pub fn assert_served(client: &mut Client) {
    client.get("/healthz");
    assert_ok(&client.read_response(), OK);
}

/// One send on a connection of its own.
pub fn post_send(gateway: &Gateway, command: &Value) -> Response {
    post_body(gateway, command.to_string().as_bytes())
}

/// One send whose body may be anything.
pub fn post_body(gateway: &Gateway, body: &[u8]) -> Response {
    let mut client = gateway.connect();
    client.post(body);
    client.read_response()
}

/// An event without a name to a token.
pub fn send_data(gateway: &Gateway, token: &str, data: &str) -> Response {
    post_send(
        gateway,
        &serde_json::json!({"token": token, "event": {"data": data}}),
    )
}

/// A close of a token's stream.
pub fn send_close(gateway: &Gateway, token: &str) -> Response {
    post_send(gateway, &serde_json::json!({"token": token, "close": true}))
}

/// The answer is the contract's error object and nothing else.
#[track_caller]
pub fn assert_error(response: &Response, status: u16, code: &str) {
    let text = response.text();
    assert_eq!(response.head.status, status, "{text}");
    assert_eq!(
        response.head.value("content-type"),
        Some("application/json"),
        "{text}"
    );
    let json: Value = serde_json::from_slice(&response.body).expect(&text);
    assert_eq!(json["error"]["code"], code, "{text}");
    let message = json["error"]["message"].as_str().expect(&text);
    assert!(!message.is_empty(), "{text}");
    let fields = |value: &Value| value.as_object().map(serde_json::Map::len);
    assert_eq!(
        (fields(&json), fields(&json["error"])),
        (Some(1), Some(2)),
        "{text}"
    );
}

/// The answer is 200 with exactly this body.
#[track_caller]
pub fn assert_ok(response: &Response, body: &str) {
    assert_eq!(response.head.status, 200, "{}", response.text());
    assert_eq!(String::from_utf8_lossy(&response.body), body);
}

/// The answer is 200, and tells how many bytes are left unsent, if any are.
#[track_caller]
pub fn assert_sent(response: &Response) -> usize {
    assert_eq!(response.head.status, 200, "{}", response.text());
    let json: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(json["status"], "ok", "{json}");
    let Some(queued) = json.get("queued") else {
        assert_ok(response, OK);
        return 0;
    };
    let queued = queued.as_u64().expect("a number");
    assert_ok(response, &format!(r#"{{"status":"ok","queued":{queued}}}"#));
    assert!(queued > 0, "{json}");
    queued as usize
}

/// What a send is answered when its event was handed on.
pub const OK: &str = r#"{"status":"ok"}"#;
/// What a send is answered while the connect callback is out.
pub const BUFFERED: &str = r#"{"status":"buffered"}"#;
