//! `GET /internal/metrics` (contract, section 14): the figures agree with what a test did, to the last
//! event and byte.

mod callbacks;
mod delivered;
mod format;
mod gauges;
mod limits;
mod refusals;
mod sends;
mod streams;

use serde_json::{Value, json};

use crate::support::{Backend, Builder, Client, Gateway, Response, post_send};

/// The counters of a stream that has opened.
const OPENED: [(&str, u64); 2] = [
    ("callbacks_total kind=connect outcome=accepted", 1),
    ("streams_opened_total", 1),
];

/// The counter of a disconnect callback that was answered 2xx.
const TOLD: (&str, u64) = ("callbacks_total kind=disconnect outcome=accepted", 1);

/// Some counters and others.
fn and<'a>(some: &[(&'a str, u64)], others: &[(&'a str, u64)]) -> Vec<(&'a str, u64)> {
    [some, others].concat()
}

/// Time enough for every callback, and small buffers on the gateway's side, so that little data is a
/// lot.
fn narrow(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .env("SEND_BUFFER_BYTES", "4096")
}

/// Bytes of a receive buffer that takes little in advance.
const LITTLE: usize = 2048;

/// A stream whose connect callback is answered this; the client stands behind the head.
#[track_caller]
fn open_answered(
    gateway: &Gateway,
    backend: &Backend,
    path: &str,
    answer: &Value,
) -> (Client, String) {
    let mut client = gateway.get(path);
    let callback = backend.next_connect_of(path);
    callback.answer(200, &answer.to_string());
    assert_eq!(client.read_head().status, 200);
    (client, callback.token())
}

/// An event without a name to this target, `{"channel":"a"}` say.
fn event_to(gateway: &Gateway, target: &Value, data: &str) -> Response {
    let mut command = target.clone();
    command["event"] = json!({"data": data});
    post_send(gateway, &command)
}
