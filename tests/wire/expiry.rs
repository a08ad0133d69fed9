//! Streams that end because their time is over (contract, section 14), so that their clients are
//! authenticated anew.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, assert_error, assert_ok, open_stream, post_send,
    send_data,
};

/// A shutdown takes as long as the host needs.
const UNHURRIED: (&str, &str) = ("SHUTDOWN_TIMEOUT_SECONDS", "600");

fn of(backend: &Backend, settings: &[(&str, &str)]) -> Gateway {
    let builder = Gateway::builder().backend(backend);
    let all = settings.iter();
    all.fold(builder, |builder, (name, value)| builder.env(name, value))
        .start()
}

/// The backend answers connects with this.
fn answering(answer: &'static str) -> Backend {
    Backend::with(move |callback| {
        callback.answer(200, if callback.is_connect() { answer } else { "" });
    })
}

/// The stream has ended because of this limit, in order: its clean end, one disconnect, a line in the
/// log, and nobody knows its token.
#[track_caller]
fn assert_expired(gateway: &Gateway, backend: &Backend, token: &str, limit: &str) {
    let gone = backend.next_disconnect_of(token);
    assert_eq!(gone.reason(), "server_closed");
    let line = gateway.wait_log_all(&["[INFO] closed ", token]);
    let facts = format!(" token={token} url=/s reason=server_closed limit={limit}");
    assert!(
        line.text.ends_with(&facts) && !line.is_error,
        "{}",
        line.text
    );
    assert_error(&send_data(gateway, token, "x"), 404, "TOKEN_NOT_FOUND");
}

#[test]
fn an_answer_says_how_long_its_stream_lasts() {
    // It wins over the setting.
    for setting in ["0", "1000"] {
        let answer = r#"{"event":{"data":"first"},"expires_in":0.7}"#;
        let backend = answering(answer);
        let gateway = of(&backend, &[("MAX_STREAM_SECONDS", setting)]);
        let begun = Instant::now();
        let (mut client, token) = open_stream(&gateway, &backend, "/s");
        assert_eq!(client.next_event(), "data: first\n\n");
        client.expect_last_chunk_and_eof();
        assert!(begun.elapsed() >= Duration::from_millis(700));
        assert_expired(&gateway, &backend, &token, "expires_in");
        backend.assert_balanced();
    }
}

#[test]
fn a_setting_says_how_long_all_streams_last() {
    let backend = Backend::accepting();
    let gateway = of(&backend, &[("MAX_STREAM_SECONDS", "1")]);
    let begun = Instant::now();
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    client.expect_last_chunk_and_eof();
    assert!(begun.elapsed() >= Duration::from_millis(900));
    assert_expired(&gateway, &backend, &token, "MAX_STREAM_SECONDS");
    let mut old = gateway.connect();
    old.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(old.read_head().status, 200);
    old.expect_eof();
    backend.assert_balanced();
}

/// What is more than anybody lives to see is never, whatever the setting says: others that opened
/// later have ended meanwhile.
#[test]
fn a_very_long_time_is_as_good_as_never() {
    for value in ["1e300", "18446744073709551616", "4294967296"] {
        let backend = Backend::with(move |callback| {
            let long = format!("{{\"expires_in\":{value}}}");
            let is_long = callback.url() == "/long";
            callback.answer(200, if is_long { &long } else { "" });
        });
        let gateway = of(&backend, &[("MAX_STREAM_SECONDS", "1")]);
        let (mut long, token) = open_stream(&gateway, &backend, "/long");
        for _ in 0..2 {
            let (mut other, _) = open_stream(&gateway, &backend, "/s");
            other.expect_last_chunk_and_eof();
        }
        assert_ok(&send_data(&gateway, &token, "here"), OK);
        assert_eq!(long.next_event(), "data: here\n\n");
    }
}

/// Whoever says when a stream is to end means that it must: none that lasts for ever may open.
#[test]
fn what_is_no_time_opens_nothing() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for value in ["0", "-1", "-0.5", "null", "\"60\"", "true", "[60]", "{}"] {
        let mut client = gateway.get("/s");
        let connect = backend.next_connect();
        let answer = format!("{{\"event\":{{\"data\":\"x\"}},\"expires_in\":{value}}}");
        connect.answer(200, &answer);
        assert_error(&client.read_response(), 502, "BACKEND_ERROR");
        let gone = backend.next_disconnect_of(&connect.token());
        assert_eq!(gone.reason(), "error", "{value}");
        gone.answer(200, "");
        let line = gateway.wait_log_all(&["[ERROR]", &connect.token()]);
        assert!(line.text.contains("'expires_in'"), "{}", line.text);
    }
    backend.assert_balanced();
}

/// Heartbeats come when they would: none is early because of the end, nor with it.
#[test]
fn heartbeats_keep_their_cadence() {
    let backend = answering(r#"{"expires_in":2.5}"#);
    let gateway = of(&backend, &[("HEARTBEAT_INTERVAL_SECONDS", "1")]);
    let begun = Instant::now();
    let (mut client, _) = open_stream(&gateway, &backend, "/s");
    let mut beats = 0;
    loop {
        let chunk = client.next_chunk();
        if chunk.is_empty() {
            break;
        }
        assert_eq!(chunk, b": heartbeat\n\n");
        beats += 1;
        assert!(begun.elapsed() >= Duration::from_secs(beats));
    }
    client.expect_eof();
    assert!(begun.elapsed() >= Duration::from_millis(2_500));
    // Fewer on a host that stood still.
    assert!(beats <= 2);
}

/// What was sent before comes before the end, however slowly it is read.
#[test]
fn what_was_sent_before_comes_first() {
    let backend = Backend::start();
    let gateway = of(&backend, &[("SEND_BUFFER_BYTES", "4096")]);
    let mut slow = Client::with_receive_buffer(gateway.port(), 2048);
    slow.get("/s");
    let connect = backend.next_connect();
    let token = connect.token();
    let data = "x".repeat(200_000);
    let one = json!({
        "token": token, "subscribe": ["c"], "event": {"data": format!("one{data}")},
    });
    assert_ok(&post_send(&gateway, &one), BUFFERED);
    let many = json!({"channel": "c", "event": {"data": format!("many{data}")}});
    assert_ok(
        &post_send(&gateway, &many),
        r#"{"status":"ok","receivers":1}"#,
    );
    connect.answer(200, r#"{"expires_in":0.2}"#);
    assert_expired(&gateway, &backend, &token, "expires_in");
    assert_eq!(slow.read_head().status, 200);
    for name in ["one", "many"] {
        assert!(slow.next_event() == format!("data: {name}{data}\n\n"));
    }
    slow.expect_last_chunk_and_eof();
}

/// A shutdown ends those whose time is not over, and each stream has one end.
#[test]
fn a_shutdown_does_not_wait_for_it() {
    let backend = answering(r#"{"expires_in":600}"#);
    let settings = [("RECONNECT_SPREAD_SECONDS", "1"), UNHURRIED];
    let mut gateway = of(&backend, &settings);
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    assert_eq!(client.next_event(), "retry: 3000\n\n");
    gateway.signal("TERM");
    assert!(client.next_event().starts_with("retry: "));
    client.expect_last_chunk_and_eof();
    assert_eq!(backend.next_disconnect_of(&token).reason(), "server_closed");
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
}
