//! How long clients are told to wait before they come again (contract, section 14): at the beginning
//! of every stream, and at its end when the gateway goes.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{
    Backend, Client, Gateway, OK, assert_error, assert_ok, open_narrow, open_stream, post_send,
    send_close,
};

/// What the last words of a stream say, in milliseconds; nothing but its end comes behind them.
#[track_caller]
fn last_words(client: &mut Client) -> u64 {
    let text = client.next_event();
    client.expect_last_chunk_and_eof();
    millis(&text)
}

#[track_caller]
fn millis(text: &str) -> u64 {
    let number = text.strip_prefix("retry: ");
    let number = number.and_then(|rest| rest.strip_suffix("\n\n"));
    number.expect(text).parse().expect(text)
}

#[test]
fn every_stream_begins_with_the_setting() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("RETRY_MILLISECONDS", "1500")
        .env("EVENT_FORMAT", "envelope")
        .start();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut client = gateway.connect();
        client.send(format!("GET /s {version}\r\nHost: h\r\n\r\n"));
        let callback = backend.next_connect();
        callback.answer(200, r#"{"event":{"name":"n","data":"1","retry":7}}"#);
        assert_eq!(client.read_head().status, 200);
        assert_eq!(client.next_event(), "retry: 1500\n\n");
        let first = "retry: 7\ndata: {\"type\":\"n\",\"payload\":1}\n\n";
        assert_eq!(client.next_event(), first);
        assert_ok(&send_close(&gateway, &callback.token()), OK);
        if version == "HTTP/1.1" {
            client.expect_last_chunk_and_eof();
        } else {
            client.expect_eof();
        }
        backend.next_disconnect().answer(200, "");
    }
    let mut refused = gateway.get("/refused");
    backend.next_connect().answer(403, "");
    assert_error(&refused.read_response(), 403, "BACKEND_FORBIDDEN");
}

/// Who is told at the end when to come again is told at the beginning that this is over.
#[test]
fn a_shutdown_tells_each_stream_a_moment_of_its_own() {
    const STREAMS: usize = 40;
    let backend = Backend::accepting();
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("RECONNECT_SPREAD_SECONDS", "20")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start();
    let mut streams: Vec<Client> = (0..STREAMS)
        .map(|number| open_stream(&gateway, &backend, &format!("/{number}")).0)
        .collect();
    let (mut closed, token) = open_stream(&gateway, &backend, "/closed");
    for client in streams.iter_mut().chain([&mut closed]) {
        assert_eq!(client.next_event(), "retry: 3000\n\n");
    }
    assert_ok(&send_close(&gateway, &token), OK);
    closed.expect_last_chunk_and_eof();
    let mut old = gateway.connect();
    old.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(old.read_head().status, 200);
    assert_eq!(old.next_event(), "retry: 3000\n\n");

    gateway.signal("TERM");
    let told: Vec<u64> = streams.iter_mut().map(last_words).collect();
    assert!(millis(&old.next_event()) < 20_000);
    old.expect_eof();
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
    assert!(told.iter().all(|millis| *millis < 20_000), "{told:?}");
    // That two quarters of the span are empty is as likely as one in 2^38.
    let quarters: BTreeSet<u64> = told.iter().map(|millis| millis / 5_000).collect();
    assert!(quarters.len() > 2, "{told:?}");
}

#[test]
fn without_the_settings_nothing_is_said() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut stream, _) = open_stream(&gateway, &backend, "/s");
    gateway.signal("TERM");
    stream.expect_last_chunk_and_eof();
}

/// Nor is an event torn that a slow reader has got a part of.
#[test]
fn a_slow_reader_is_told_behind_all_that_waits() {
    let backend = Backend::accepting();
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("RECONNECT_SPREAD_SECONDS", "1")
        .env("RETRY_MILLISECONDS", "0")
        .env("SEND_BUFFER_BYTES", "4096")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start();
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow", 2048);
    assert_eq!(slow.next_event(), "retry: 0\n\n");
    let data = "x".repeat(300_000);
    for number in ["1", "2"] {
        let event = json!({"token": token, "event": {"data": format!("{number}{data}")}});
        assert_eq!(post_send(&gateway, &event).status(), 200);
    }
    gateway.signal("TERM");
    gateway.wait_log("[INFO] streams ended");
    for number in ["1", "2"] {
        assert!(slow.next_event() == format!("data: {number}{data}\n\n"));
    }
    assert!(last_words(&mut slow) < 1_000);
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
}

/// Whose callback is out gets its refusal, and no stream.
#[test]
fn who_waits_for_the_backend_is_refused_as_ever() {
    let backend = Backend::with(|callback| {
        if !callback.is_connect() {
            callback.answer(200, "");
        }
    });
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("RECONNECT_SPREAD_SECONDS", "3600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start();
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    gateway.signal("TERM");
    assert_error(&client.read_response(), 503, "SHUTTING_DOWN");
    callback.answer(200, "");
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
}
