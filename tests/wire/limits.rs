//! Limits of requests in size and time, of streams, and of bytes held (contract, section 6), each
//! by its setting made small and some by their defaults.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::process::{eventually, wait_until_read};
use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, Response, assert_error, assert_ok, assert_served,
    open_stream, post_send, send_close, send_data, send_request,
};

fn head(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

/// A request whose head has exactly this many bytes.
fn head_of(bytes: usize) -> String {
    let frame = head("X: \r\n").len();
    head(&format!("X: {}\r\n", "x".repeat(bytes - frame)))
}

fn target_of(bytes: usize) -> String {
    format!("POST /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(bytes))
}

fn fields(number: usize) -> String {
    let more: String = (1..number).map(|n| format!("X{n}: y\r\n")).collect();
    head(&more)
}

fn body_of(bytes: usize) -> String {
    head(&format!("Content-Length: {bytes}\r\n")) + &"x".repeat(bytes)
}

fn chunks_of(bytes: usize) -> String {
    let half = bytes / 2;
    let (a, b) = ("x".repeat(half), "x".repeat(bytes - half));
    let rest = bytes - half;
    head("Transfer-Encoding: chunked\r\n")
        + &format!("{half:x}\r\n{a}\r\n{rest:x}\r\n{b}\r\n0\r\n\r\n")
}

/// The answer, and whether the connection is kept behind it.
fn ask(gateway: &Gateway, request: &str) -> Response {
    let mut client = gateway.connect();
    client.send(request);
    let response = client.read_response();
    match response.head.value("connection") {
        Some("close") => client.expect_eof(),
        _ => assert_served(&mut client),
    }
    response
}

#[track_caller]
fn assert_verdicts(gateway: &Gateway, table: &[(String, u16)]) {
    for (request, status) in table {
        let shown = format!("{request:.100} of {} bytes", request.len());
        let response = ask(gateway, request);
        assert_eq!(response.status(), *status, "{shown}");
        let is_closed = response.head.value("connection").is_some();
        assert_eq!(is_closed, *status != 404, "{shown}");
    }
}

#[test]
fn sizes_of_requests_up_to_and_beyond_their_settings() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_HEAD_BYTES", "1024")
        .flag("--max-headers", "5")
        .env("MAX_BODY_BYTES", "2048")
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let chunked = head("Transfer-Encoding: chunked\r\n");
    let table = [
        (head_of(1024), 404),
        (head_of(1025), 431),
        (fields(5), 404),
        (fields(6), 431),
        (target_of(900), 404),
        (target_of(1100), 414),
        (body_of(2048), 404),
        (body_of(2049), 413),
        // The length alone decides, before any byte of the body.
        (head("Content-Length: 2049\r\n"), 413),
        (chunks_of(2048), 404),
        (chunks_of(2049), 413),
        (format!("{chunked}801\r\n"), 413),
        // Trailers are bounded as heads are.
        (format!("{chunked}0\r\nX: {}\r\n\r\n", "x".repeat(900)), 404),
        (
            format!("{chunked}0\r\nX: {}\r\n\r\n", "x".repeat(1100)),
            431,
        ),
    ];
    assert_verdicts(&gateway, &table);
    for limit in ["MAX_HEAD_BYTES", "MAX_HEADERS", "MAX_BODY_BYTES"] {
        let line = gateway.wait_log_all(&["[WARN]", &format!("limit={limit}")]);
        assert!(line.is_error);
    }
    assert_ok(&send_data(&gateway, &token, "unharmed"), OK);
    assert_eq!(stream.next_event(), "data: unharmed\n\n");
}

#[test]
fn sizes_of_requests_by_default() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    const MIB: usize = 1024 * 1024;
    let table = [
        (head_of(32 * 1024), 404),
        (head_of(32 * 1024 + 1), 431),
        (target_of(32_000), 404),
        (target_of(33_000), 414),
        (fields(100), 404),
        (fields(101), 431),
        (body_of(4 * MIB), 404),
        (head(&format!("Content-Length: {}\r\n", 4 * MIB + 1)), 413),
        (chunks_of(4 * MIB), 404),
    ];
    assert_verdicts(&gateway, &table);
}

// ---- time ----

/// What a client does that the gateway has to end, and what it gets before the FIN.
type Dawdler = (&'static str, fn(&mut Client) -> Instant, Option<u16>);

/// Sends this, and gives a moment before that: the gateway's time may begin before the client
/// goes on.
fn sent(client: &mut Client, bytes: &str) -> Instant {
    let start = Instant::now();
    client.send(bytes);
    start
}

const DAWDLERS: [Dawdler; 8] = [
    (
        "silence on a new connection",
        |client| {
            let start = Instant::now();
            // The one that there is may have been accepted long ago.
            *client = Client::to(client.stream().peer_addr().expect("an address"));
            start
        },
        None,
    ),
    (
        "silence between requests",
        |client| {
            let start = Instant::now();
            assert_served(client);
            start
        },
        None,
    ),
    (
        "half a request line",
        |client| sent(client, "GET /heal"),
        Some(408),
    ),
    (
        "a head without its end",
        |client| sent(client, "GET /a HTTP/1.1\r\nHost: h\r\n"),
        Some(408),
    ),
    (
        "half a body",
        |client| sent(client, &(head("Content-Length: 9\r\n") + "1234")),
        Some(408),
    ),
    (
        "half of the chunks",
        |client| {
            sent(
                client,
                &(head("Transfer-Encoding: chunked\r\n") + "1\r\na\r\n"),
            )
        },
        Some(408),
    ),
    (
        "the second request",
        |client| {
            assert_served(client);
            sent(client, "GET /a HTTP/1.1\r\n")
        },
        Some(408),
    ),
    (
        "one byte now and then",
        |client| {
            let start = sent(client, "POST /x HTTP/1.1\r\n");
            // Pauses, not waiting: each byte comes before a timer that it could push on.
            while start.elapsed() < Duration::from_millis(800) {
                client.send("X");
                thread::sleep(Duration::from_millis(50));
            }
            start
        },
        Some(408),
    ),
];

/// One gateway and all clients at once: none waits longer because of another.
#[test]
fn what_does_not_come_in_time_is_ended() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("REQUEST_TIMEOUT_SECONDS", "1")
        .env("NEW_CONNECTION_TIMEOUT_SECONDS", "1")
        .env("IDLE_TIMEOUT_SECONDS", "1")
        .start();
    // Neither a stream nor one that the backend thinks about is idle.
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let mut pending = gateway.get("/pending");
    let callback = backend.next_connect_of("/pending");
    thread::scope(|scope| {
        for (what, act, status) in DAWDLERS {
            let mut client = gateway.connect();
            scope.spawn(move || {
                let start = act(&mut client);
                if let Some(status) = status {
                    let response = client.read_response();
                    assert_error(&response, status, "REQUEST_TIMEOUT");
                    assert_eq!(response.head.value("connection"), Some("close"), "{what}");
                }
                client.expect_eof();
                let time = start.elapsed();
                // A gateway under load may be late; it is never early, timer ticks aside.
                let bounds = Duration::from_millis(850)..Duration::from_secs(6);
                assert!(bounds.contains(&time), "{what}: {time:?}");
            });
        }
    });
    callback.answer(200, "");
    assert_eq!(pending.read_head().status, 200);
    assert_ok(&send_data(&gateway, &token, "still here"), OK);
    assert_eq!(stream.next_event(), "data: still here\n\n");
    gateway.wait_log_all(&["[WARN]", "limit=REQUEST_TIMEOUT_SECONDS"]);
    drop((stream, pending));
    for _ in 0..2 {
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}

/// Each of the three times is its own setting.
#[test]
fn a_used_connection_may_idle_longer_than_a_new_one() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("NEW_CONNECTION_TIMEOUT_SECONDS", "1")
        .start();
    let (mut used, mut slow, mut new) = (gateway.connect(), gateway.connect(), gateway.connect());
    assert_served(&mut used);
    slow.send("GET /healthz HTT");
    new.expect_eof();
    let line = gateway.wait_log_all(&["[WARN]", "limit=NEW_CONNECTION_TIMEOUT_SECONDS"]);
    assert!(line.is_error);
    slow.send("P/1.1\r\nHost: h\r\n\r\n");
    assert_ok(&slow.read_response(), OK);
    assert_served(&mut used);
}

/// Behind a refusal bytes are discarded for two seconds at most; who still sends gets a reset.
#[test]
fn a_refused_client_cannot_keep_its_connection() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    let start = sent(&mut client, "GET /\r\n\r\n");
    assert_eq!(client.read_response().status(), 400);
    client.expect_eof();
    while client.try_send(b"x") {
        assert!(start.elapsed() < Duration::from_secs(8));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_millis(1800));
}

// ---- streams ----

#[test]
fn streams_beyond_the_limit_are_refused_and_nothing_else_is() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_STREAMS", "2")
        .start();
    let (mut first, token) = open_stream(&gateway, &backend, "/1");
    let mut second = gateway.get("/2");
    // A connect under way counts.
    let callback = backend.next_connect_of("/2");
    let mut third = gateway.get("/3");
    let response = third.read_response();
    assert_error(&response, 503, "OVERLOADED");
    let seconds = response.head.value("retry-after").map(str::parse::<u32>);
    assert!(matches!(seconds, Some(Ok(1..))), "{}", response.text());
    callback.answer(200, "");
    assert_eq!(second.read_head().status, 200);
    assert_error(&gateway.get("/4").read_response(), 503, "OVERLOADED");
    let mut health = gateway.connect();
    assert_served(&mut health);
    health.get("/readyz");
    assert_eq!(health.read_response().status(), 200);
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(first.next_event(), "data: x\n\n");
    let line = gateway.wait_log_all(&["[WARN]", "limit=MAX_STREAMS"]);
    assert!(line.is_error);
    // A stream's end makes room.
    assert_ok(&send_close(&gateway, &token), OK);
    first.expect_last_chunk_and_eof();
    let (_fifth, _) = open_stream(&gateway, &backend, "/5");
    backend.next_disconnect().answer(200, "");
    backend.assert_idle();
}

/// A flood of refusals is a few lines and a number, which comes although nothing else happens.
#[test]
fn lines_about_a_limit_are_few_and_the_rest_is_counted() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_STREAMS", "1")
        .start();
    let (_stream, _) = open_stream(&gateway, &backend, "/1");
    for _ in 0..300 {
        assert_eq!(gateway.get("/x").read_response().status(), 503);
    }
    let told = |line: &str| {
        let (_, number) = line.split_once(" more=")?;
        number.parse::<usize>().ok()
    };
    let mut sums = (0, 0);
    eventually("the count of all refusals", || {
        let lines = gateway.lines();
        let of_limit: Vec<&str> = lines
            .iter()
            .map(|line| line.text.as_str())
            .filter(|line| line.contains("limit=MAX_STREAMS"))
            .collect();
        let counted: usize = of_limit.iter().filter_map(|line| told(line)).sum();
        let single = of_limit.iter().filter(|line| told(line).is_none()).count();
        sums = (single, counted);
        single + counted == 300
    });
    assert!(sums.0 < 150 && sums.1 > 0, "{sums:?}");
}

#[test]
fn what_a_streams_client_sends_is_discarded_up_to_a_limit() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_DISCARDED_BYTES", "4096")
        .start();
    let (mut chatty, token) = open_stream(&gateway, &backend, "/s");
    chatty.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    chatty.send([b'x'; 2000]);
    assert_served(&mut gateway.connect());
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(chatty.next_event(), "data: x\n\n");
    chatty.send([b'x'; 4096]);
    chatty.expect_reset();
    let callback = backend.next_disconnect_of(&token);
    assert_eq!(callback.reason(), "error");
    callback.answer(200, "");
    gateway.wait_log_all(&[
        "[WARN]",
        &token,
        "reason=error",
        "limit=MAX_DISCARDED_BYTES",
    ]);
    backend.assert_balanced();
}

// ---- bytes held for all ----

const HELD: &str = "65536";

#[test]
fn a_body_that_would_pass_the_total_is_refused_alone() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_INBOUND_BYTES", HELD)
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    // Three bodies under way fit, a fourth does not.
    let command = json!({"token": token, "event": {"data": "x".repeat(30_000)}});
    let request = send_request(&command.to_string());
    let (front, back) = request.split_at(20_000);
    let mut slow: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut slow {
        client.send(front);
        wait_until_read(gateway.port());
    }
    let mut fourth = gateway.connect();
    fourth.send(front);
    let response = fourth.read_response();
    assert_error(&response, 503, "OVERLOADED");
    assert_eq!(response.head.value("connection"), Some("close"));
    // The rest of it is discarded, not served.
    fourth.send(back);
    fourth.expect_eof();
    gateway.wait_log_all(&["[WARN]", "limit=MAX_INBOUND_BYTES"]);
    // The memory of the refused one is free again: the first one finishes, and so do the others.
    for client in &mut slow {
        client.send(back);
        assert_ok(&client.read_response(), OK);
        assert_eq!(stream.next_event().len(), 30_000 + "data: \n\n".len());
    }
    assert_ok(&send_data(&gateway, &token, "small"), OK);
    assert_eq!(stream.next_event(), "data: small\n\n");
}

#[test]
fn a_window_that_would_pass_the_total_is_full() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_HELD_BYTES", HELD)
        .start();
    let (mut one, mut two) = (gateway.get("/1"), gateway.get("/2"));
    let (first, second) = (backend.next_connect_of("/1"), backend.next_connect_of("/2"));
    let event = |token: &str| json!({"token": token, "event": {"data": "x".repeat(10_000)}});
    for _ in 0..5 {
        assert_ok(&post_send(&gateway, &event(&first.token())), BUFFERED);
    }
    let mut stored = 0;
    let refused = loop {
        let response = post_send(&gateway, &event(&second.token()));
        if response.status() != 200 {
            break response;
        }
        stored += 1;
    };
    assert_error(&refused, 503, "BUFFER_FULL");
    assert!(stored <= 1, "{stored}");
    gateway.wait_log_all(&["[WARN]", "limit=MAX_HELD_BYTES"]);
    // Both live on; what was taken is delivered and nothing else.
    for (client, callback, events) in [(&mut one, &first, 5), (&mut two, &second, stored)] {
        callback.answer(200, "");
        assert_eq!(client.read_head().status, 200);
        for _ in 0..events {
            assert_eq!(client.next_event().len(), 10_008);
        }
        assert_ok(&send_data(&gateway, &callback.token(), "live"), OK);
        assert_eq!(client.next_event(), "data: live\n\n");
    }
}

/// An event that fits is not counted twice while it moves from its body to the window.
#[test]
fn one_event_within_the_total_is_taken_by_an_empty_window() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_HELD_BYTES", HELD)
        .start();
    let _client = gateway.get("/1");
    let token = backend.next_connect_of("/1").token();
    assert_ok(&send_data(&gateway, &token, &"x".repeat(40_000)), BUFFERED);
}
