//! Contract, section 5 and section 2, step 5: the bytes of a stream, its heartbeats, and what its
//! client may send.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, assert_error, assert_ok, assert_sent, open_narrow,
    open_stream, post_send, send_close, send_data,
};

const HEARTBEAT: &str = ": heartbeat\n\n";

/// Name, data, and the bytes of the event.
const EVENTS: [(&str, &str, &str); 24] = [
    ("", "", "data: \n\n"),
    ("", "x", "data: x\n\n"),
    ("", " x ", "data:  x \n\n"),
    ("tick", "x", "event: tick\ndata: x\n\n"),
    ("tick", "", "event: tick\ndata: \n\n"),
    (" a: b ", "x", "event:  a: b \ndata: x\n\n"),
    ("é€", "ü😀", "event: é€\ndata: ü😀\n\n"),
    ("", "a\nb", "data: a\ndata: b\n\n"),
    ("", "a\rb", "data: a\ndata: b\n\n"),
    ("", "a\r\nb", "data: a\ndata: b\n\n"),
    ("", "a\n\rb", "data: a\ndata: \ndata: b\n\n"),
    ("", "a\r\r\nb", "data: a\ndata: \ndata: b\n\n"),
    ("", "a\n", "data: a\ndata: \n\n"),
    ("", "a\r", "data: a\ndata: \n\n"),
    ("", "a\r\n", "data: a\ndata: \n\n"),
    ("", "\n", "data: \ndata: \n\n"),
    ("", "\r\n\r\n", "data: \ndata: \ndata: \n\n"),
    (
        "",
        "x\n\nevent: forged",
        "data: x\ndata: \ndata: event: forged\n\n",
    ),
    (
        "",
        "x\n\n\ndata: forged\n\n",
        "data: x\ndata: \ndata: \ndata: data: forged\ndata: \ndata: \n\n",
    ),
    ("", "x\r\rid: 7", "data: x\ndata: \ndata: id: 7\n\n"),
    ("", ": heartbeat", "data: : heartbeat\n\n"),
    ("", "0\r\n\r\n", "data: 0\ndata: \ndata: \n\n"),
    // Other separators of lines are none here.
    (
        "",
        "a\u{b}b\u{c}c\u{85}d\u{2028}e\u{2029}f",
        "data: a\u{b}b\u{c}c\u{85}d\u{2028}e\u{2029}f\n\n",
    ),
    ("", "\u{feff}\0\t\u{7f}", "data: \u{feff}\0\t\u{7f}\n\n"),
];

#[test]
fn events_to_the_byte_one_chunk_each() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut chunked, chunked_token) = open_stream(&gateway, &backend, "/chunked");
    let mut plain = gateway.connect();
    plain.send("GET /plain HTTP/1.0\r\n\r\n");
    let connect = backend.next_connect_of("/plain");
    connect.answer(200, "");
    plain.read_head();
    for (name, data, expected) in EVENTS {
        for token in [&chunked_token, &connect.token()] {
            let mut event = json!({"data": data});
            if !name.is_empty() {
                event["name"] = json!(name);
            }
            let command = json!({"token": token, "event": event});
            assert_ok(&post_send(&gateway, &command), OK);
        }
        let chunk = String::from_utf8(chunked.next_chunk()).expect("UTF-8");
        assert_eq!(chunk, expected);
        let bytes = String::from_utf8(plain.read_exact(expected.len())).expect("UTF-8");
        assert_eq!(bytes, expected);
    }
    for token in [&chunked_token, &connect.token()] {
        assert_ok(&send_close(&gateway, token), OK);
        backend.next_disconnect_of(token).answer(200, "");
    }
    chunked.expect_last_chunk_and_eof();
    plain.expect_eof();
    backend.assert_balanced();
}

/// The same bytes, whichever way an event comes in.
#[test]
fn events_of_the_callback_window_to_the_byte() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/");
    let connect = backend.next_connect();
    for (name, data, _) in EVENTS {
        let event = json!({"name": name, "data": data});
        let command = json!({"token": connect.token(), "event": event});
        assert_ok(&post_send(&gateway, &command), BUFFERED);
    }
    let (name, data, first) = EVENTS[17];
    let answer = json!({"event": {"name": name, "data": data}});
    connect.answer(200, &answer.to_string());
    client.read_head();
    for expected in std::iter::once(first).chain(EVENTS.map(|(_, _, expected)| expected)) {
        assert_eq!(String::from_utf8_lossy(&client.next_chunk()), expected);
    }
    client.reset();
    backend.next_disconnect().answer(200, "");
    backend.assert_balanced();
}

#[test]
fn a_large_event_is_one_chunk_and_what_follows_keeps_its_place() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("SEND_BUFFER_BYTES", "4096")
        .start();
    let (mut client, token) = open_narrow(&gateway, &backend, "/", 4096);
    // Nobody reads meanwhile: all but the first few bytes wait in the gateway, the end as well.
    let sizes = [1_000_000, 1, 100_000, 0, 4096, 15, 16, 17];
    for size in sizes {
        assert_sent(&send_data(&gateway, &token, &"x".repeat(size)));
    }
    assert_ok(&send_close(&gateway, &token), OK);
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    assert_eq!(backend.next_disconnect_of(&token).reason(), "server_closed");
    for size in sizes {
        let chunk = client.next_chunk();
        assert_eq!(chunk.len(), size + "data: \n\n".len());
        assert!(chunk.ends_with(b"\n\n"));
    }
    client.expect_last_chunk_and_eof();
    backend.assert_balanced();
}

/// A thread that sends an event to a stream every so often, until it is dropped.
struct Ticker {
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(port: u16, token: String, every: Duration) -> Ticker {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let mut publisher = Client::connect(port);
            let body = json!({"token": token, "event": {"data": "tick"}}).to_string();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                publisher.post(body.as_bytes());
                assert_ok(&publisher.read_response(), OK);
            }
        });
        Ticker {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic while another one is under way would hide both.
            assert!(
                thread.join().is_ok() || thread::panicking(),
                "a send failed"
            );
        }
    }
}

fn beating(backend: &Backend) -> Gateway {
    Gateway::builder()
        .backend(backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .env("SEND_BUFFER_BYTES", "4096")
        .start()
}

/// When a stream's head was sent: behind the first of these moments, before the second one.
#[derive(Clone, Copy)]
struct Opened {
    /// Before the backend's answer.
    before: Instant,
    /// Behind the head's arrival.
    behind: Instant,
}

impl Opened {
    /// Opens a stream with this.
    fn by<T>(open: impl FnOnce() -> T) -> (T, Opened) {
        let before = Instant::now();
        let opened = open();
        let behind = Instant::now();
        (opened, Opened { before, behind })
    }

    /// The heartbeat that has just come did so not before its time, and not much later.
    #[track_caller]
    fn assert_beat(self, number: u32) {
        let due = Duration::from_secs(1) * number;
        // The gateway's clock counts whole milliseconds.
        let took = self.before.elapsed() + Duration::from_millis(1);
        assert!(took >= due, "{number}: {took:?}");
        let took = self.behind.elapsed();
        assert!(took < due + Duration::from_secs(3), "{number}: {took:?}");
    }
}

#[test]
fn heartbeats_keep_their_cadence_whether_events_flow_or_not() {
    let backend = Backend::start();
    let gateway = beating(&backend);
    let date = || {
        let mut client = gateway.get("/healthz");
        let head = client.read_response().head;
        let date = head.value("date").expect("a Date");
        httpdate::parse_http_date(date).expect("an HTTP date")
    };
    let first_date = date();
    // One that is quiet, one that gets events much more often than heartbeats, one of HTTP/1.0.
    let open = |path| open_stream(&gateway, &backend, path);
    let ((mut quiet, quiet_token), quiet_opened) = Opened::by(|| open("/quiet"));
    let ((mut busy, busy_token), busy_opened) = Opened::by(|| open("/busy"));
    let ticker = Ticker::start(
        gateway.port(),
        busy_token.clone(),
        Duration::from_millis(100),
    );
    let mut plain = gateway.connect();
    plain.send("GET /plain HTTP/1.0\r\n\r\n");
    let connect = backend.next_connect_of("/plain");
    let (_, plain_opened) = Opened::by(|| {
        connect.answer(200, "");
        plain.read_head()
    });
    for number in 1..=2 {
        assert_eq!(quiet.next_event(), HEARTBEAT);
        quiet_opened.assert_beat(number);
        let mut events = 0;
        loop {
            match &*busy.next_event() {
                HEARTBEAT => break,
                "data: tick\n\n" => events += 1,
                other => panic!("{other}"),
            }
            assert!(events < 100, "no heartbeat among {events} events");
        }
        assert!(events > 0);
        busy_opened.assert_beat(number);
        assert_eq!(plain.read_exact(HEARTBEAT.len()), HEARTBEAT.as_bytes());
        plain_opened.assert_beat(number);
    }
    drop(ticker);
    // Two intervals later, and loops that slept meanwhile have looked at the clock again.
    assert!(date() > first_date);
    for token in [&quiet_token, &busy_token, &connect.token()] {
        assert_ok(&send_close(&gateway, token), OK);
        backend.next_disconnect_of(token).answer(200, "");
    }
    backend.assert_balanced();
}

/// Contract, section 16: in an envelope, whatever way the event came.
#[test]
fn events_in_envelopes() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("EVENT_FORMAT", "envelope")
        .start();
    let mut client = gateway.get("/");
    let connect = backend.next_connect();
    let token = connect.token();
    let send = |name: &str, data: &str| {
        let event = json!({"name": name, "data": data, "id": "7-1"});
        post_send(&gateway, &json!({"token": token, "event": event}))
    };
    assert_ok(&send("step", "{\"done\":5}"), BUFFERED);
    connect.answer(200, r#"{"event":{"name":"hello","data":"you"}}"#);
    client.read_head();
    let hello = r#"{"type":"hello","payload":"you"}"#;
    assert_eq!(client.next_event(), format!("data: {hello}\n\n"));
    let step = r#"{"type":"step","payload":{"done":5}}"#;
    assert_eq!(client.next_event(), format!("id: 7-1\ndata: {step}\n\n"));
    for (name, data, expected) in [
        (
            "a\"b",
            "[1,\n2]",
            "id: 7-1\ndata: {\"type\":\"a\\\"b\",\"payload\":[1,\ndata: 2]}",
        ),
        ("", "{}", "id: 7-1\ndata: {}"),
        (
            "connection_close",
            "{}",
            "event: connection_close\nid: 7-1\ndata: {}",
        ),
    ] {
        assert_ok(&send(name, data), OK);
        assert_eq!(client.next_event(), format!("{expected}\n\n"));
    }
    client.reset();
    backend.assert_balanced();
}

#[test]
fn the_first_heartbeat_comes_one_interval_after_the_head() {
    let backend = Backend::start();
    let gateway = beating(&backend);
    let mut client = gateway.get("/late");
    let connect = backend.next_connect_of("/late");
    // The client's request is one and a half intervals old when the head comes, and there has
    // been nothing before it.
    let (mut clock, clock_token) = open_stream(&gateway, &backend, "/clock");
    assert_eq!(clock.next_event(), HEARTBEAT);
    let (_hold, never) = channel::<()>();
    let half = never.recv_timeout(Duration::from_millis(500));
    assert_eq!(half, Err(RecvTimeoutError::Timeout));
    let (head, opened) = Opened::by(|| {
        connect.answer(200, r#"{"event":{"data":"x"}}"#);
        client.read_head()
    });
    assert_eq!(head.status, 200);
    assert_eq!(client.next_event(), "data: x\n\n");
    assert_eq!(client.next_event(), HEARTBEAT);
    opened.assert_beat(1);
    for (client, token) in [(client, connect.token()), (clock, clock_token)] {
        client.reset();
        backend.next_disconnect_of(&token).answer(200, "");
    }
    backend.assert_balanced();
}

/// Behind unsent bytes a heartbeat says nothing: it is left out, not queued.
#[test]
fn heartbeats_do_not_pile_up_behind_a_slow_reader() {
    let backend = Backend::start();
    let gateway = beating(&backend);
    let (mut slow, slow_token) = open_narrow(&gateway, &backend, "/slow", 4096);
    let data = "x".repeat(1_000_000);
    assert_sent(&send_data(&gateway, &slow_token, &data));
    let (mut clock, clock_token) = open_stream(&gateway, &backend, "/clock");
    for _ in 0..3 {
        assert_eq!(clock.next_event(), HEARTBEAT);
    }
    assert_eq!(slow.next_event().len(), data.len() + "data: \n\n".len());
    assert_ok(&send_close(&gateway, &slow_token), OK);
    // One may have come while this side read.
    let rest = String::from_utf8(slow.read_to_end()).expect("UTF-8");
    let beats = rest.matches(HEARTBEAT).count();
    assert!(beats <= 1 && rest.ends_with("0\r\n\r\n"), "{rest}");
    clock.reset();
    for token in [slow_token, clock_token] {
        backend.next_disconnect_of(&token).answer(200, "");
    }
    backend.assert_balanced();
}

// ---- what a stream's client sends ----

const DISCARDED: usize = 64 * 1024;

#[test]
fn bytes_behind_a_streams_request_are_discarded_up_to_the_limit() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut client, token) = open_stream(&gateway, &backend, "/flood");
    let request = "GET /again HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(request);
    client.send(vec![b'x'; DISCARDED - request.len()]);
    assert_ok(&send_data(&gateway, &token, "still there"), OK);
    assert_eq!(client.next_event(), "data: still there\n\n");
    client.send("x");
    client.expect_reset();
    assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
    gateway.wait_log_all(&[
        "[WARN]",
        &token,
        "url=/flood reason=error",
        "MAX_DISCARDED_BYTES",
    ]);
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    backend.assert_idle();
    backend.assert_balanced();
}

/// During the callback such bytes may still turn out to be requests; they are kept, and count.
#[test]
fn bytes_behind_a_request_whose_callback_is_out() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let request = "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n";
    // Up to the limit.
    let mut client = gateway.connect();
    client.send(request);
    client.send(vec![b'x'; DISCARDED]);
    let connect = backend.next_connect();
    connect.answer(200, "");
    client.read_head();
    assert_ok(&send_data(&gateway, &connect.token(), "still there"), OK);
    assert_eq!(client.next_event(), "data: still there\n\n");
    // They count against the open stream's limit as well.
    client.send("x");
    client.expect_reset();
    let disconnect = backend.next_disconnect_of(&connect.token());
    assert_eq!(disconnect.reason(), "error");
    disconnect.answer(200, "");
    // Beyond it.
    let mut client = gateway.connect();
    client.send(request);
    let connect = backend.next_connect();
    client.try_send(&vec![b'x'; DISCARDED + 1]);
    client.expect_reset();
    let token = connect.token();
    gateway.wait_log_all(&["stream dropped", &token, "reason=error"]);
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    connect.answer(200, "");
    let disconnect = backend.next_disconnect_of(&token);
    assert_eq!(disconnect.reason(), "error");
    disconnect.answer(200, "");
    backend.assert_balanced();
}

#[test]
fn requests_behind_a_rejected_stream_are_served_and_behind_an_open_one_are_not() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut client = gateway.connect();
    let paths = [
        "/rejected",
        "/healthz",
        "/also-rejected",
        "/open",
        "/healthz",
        "/never",
    ];
    client.send(paths.map(get).concat());
    backend.next_connect_of("/rejected").answer(403, "");
    assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
    assert_ok(&client.read_response(), OK);
    backend.next_connect_of("/also-rejected").answer(500, "");
    assert_error(&client.read_response(), 500, "BACKEND_ERROR");
    let connect = backend.next_connect_of("/open");
    backend.assert_idle();
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    let farewell = json!({"token": connect.token(), "event": {"data": "x"}, "close": true});
    assert_ok(&post_send(&gateway, &farewell), OK);
    assert_eq!(client.next_event(), "data: x\n\n");
    // When a stream ends, so does its connection: what was sent behind it is never answered.
    client.expect_last_chunk_and_eof();
    backend.next_disconnect().answer(200, "");
    backend.assert_idle();
    backend.assert_balanced();
}

/// A rejected request that asked for the connection's end gets it.
#[test]
fn a_rejection_obeys_connection_close() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let requests = [
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ];
    for request in requests {
        let mut client = gateway.connect();
        client.send(request);
        backend.next_connect().answer(403, "");
        let response = client.read_response();
        assert_error(&response, 403, "BACKEND_FORBIDDEN");
        assert_eq!(response.head.value("connection"), Some("close"));
        client.expect_eof();
    }
    backend.assert_balanced();
}
