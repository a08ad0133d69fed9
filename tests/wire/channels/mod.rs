//! Contract, sections 11 and 16: channels, sends to many, and what an event has beside its data.

mod answers;
mod crowds;
mod envelope;
mod fields;
mod joining;
mod keep_latest;
mod names;
mod order;
mod receivers;
mod targets;
mod throttled;
mod turns;

use serde_json::{Value, json};

use crate::support::{
    Backend, Builder, Client, Gateway, Response, assert_ok, open_narrow, open_stream, post_send,
    send_request,
};

/// A backend that answers every connect with the channels that stand behind `?` in its path:
/// `/path?a,b`.
pub(super) fn joining() -> Backend {
    Backend::with(|callback| match callback.url().split_once('?') {
        Some((_, list)) if callback.is_connect() => {
            let channels: Vec<&str> = list.split(',').collect();
            callback.answer(200, &json!({"channels": channels}).to_string());
        }
        _ => callback.answer(200, ""),
    })
}

/// A stream of HTTP/1.0, by a backend that answers by itself.
pub(super) fn open_old(gateway: &Gateway, backend: &Backend, path: &str) -> (Client, String) {
    let mut client = gateway.connect();
    client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
    let token = backend.next_connect_of(path).token();
    assert_eq!(client.read_head().status, 200);
    (client, token)
}

/// Small buffers on both sides, so that a little data is too much for a reader that does not read.
pub(super) fn narrow(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("SEND_BUFFER_BYTES", "4096")
}

/// A stream whose reader does not read, and whose buffers a first event of its own has filled; that
/// event is `data`.
fn open_blocked(gateway: &Gateway, backend: &Backend, path: &str, data: &str) -> (Client, String) {
    let (client, token) = open_narrow(gateway, backend, path, 2048);
    let first = json!({"token": token, "event": {"data": data}});
    let queued = crate::support::assert_sent(&post_send(gateway, &first));
    assert!(queued > 0 && queued < data.len(), "{queued}");
    (client, token)
}

/// More than the buffers of [`narrow`] hold.
fn large() -> String {
    "x".repeat(100_000)
}

/// Sends that are written at once, each one's answer in their order.
pub(super) fn pipeline(gateway: &Gateway, commands: &[Value]) -> Vec<Response> {
    let mut publisher = gateway.connect();
    publisher.send(batch(commands));
    commands.iter().map(|_| publisher.read_response()).collect()
}

/// The bytes of sends, one behind the other.
pub(super) fn batch(commands: &[Value]) -> String {
    let requests = commands.iter().map(|it| send_request(&it.to_string()));
    requests.collect()
}

/// An event without a name to a channel.
pub(super) fn to_channel(channel: &str, data: &str) -> Value {
    json!({"channel": channel, "event": {"data": data}})
}

/// An event without a name to a token.
pub(super) fn to_token(token: &str, data: &str) -> Value {
    json!({"token": token, "event": {"data": data}})
}

/// The answer to a send to many, and no more than that.
#[track_caller]
fn assert_receivers(response: &Response, receivers: usize) {
    assert_ok(
        response,
        &format!(r#"{{"status":"ok","receivers":{receivers}}}"#),
    );
}

/// How many streams a channel has now, by an empty send to it, which reaches nobody.
#[track_caller]
fn assert_members(gateway: &Gateway, channel: &str, members: usize) {
    let response = post_send(gateway, &json!({"channel": channel}));
    assert_receivers(&response, members);
}

/// The next event's data, of an event that has nothing else; however long the test takes.
#[track_caller]
fn next_data(client: &mut Client) -> String {
    let event = client.next_event_behind_heartbeats();
    let data = event.strip_prefix("data: ").expect(&event);
    data.strip_suffix("\n\n").expect(&event).to_owned()
}

/// A gateway with one open stream in these channels.
fn one_in(path: &str) -> (Backend, Gateway, Client, String) {
    let backend = joining();
    let gateway = Gateway::of(&backend);
    let (client, token) = open_stream(&gateway, &backend, path);
    (backend, gateway, client, token)
}
