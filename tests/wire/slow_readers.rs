//! Those who read too slowly or not at all (contract, section 6): they alone are hurt, and the
//! memory that they cost is bounded.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::process::{eventually, resident_kib, write_until_stuck};
use crate::support::{
    BUFFERED, Backend, Builder, Client, Gateway, OK, assert_error, assert_ok, assert_sent,
    open_narrow, open_stream, post_send, send_close, send_data, send_request,
};

/// Small buffers on both sides, so that little data is a lot.
fn narrow(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("SEND_BUFFER_BYTES", "4096")
}

/// Bytes of a receive buffer that takes little in advance.
const LITTLE: usize = 2048;

fn event(token: &str, data: &str) -> Value {
    json!({"token": token, "event": {"data": data}})
}

/// Sends until an answer is not 200; how many were, and that answer.
fn fill(gateway: &Gateway, token: &str, data: &str) -> (usize, crate::support::Response) {
    let mut publisher = gateway.connect();
    for taken in 0..100_000 {
        publisher.post(event(token, data).to_string().as_bytes());
        let response = publisher.read_response();
        if response.status() != 200 {
            return (taken, response);
        }
    }
    panic!("there is no limit");
}

/// The stream was dropped: told to the backend once, forgotten, logged, reset.
fn assert_dropped(
    gateway: &Gateway,
    backend: &Backend,
    client: &mut Client,
    token: &str,
    limit: &str,
) {
    let callback = backend.next_disconnect_of(token);
    assert_eq!(callback.reason(), "error");
    callback.answer(200, "");
    assert_error(&send_data(gateway, token, "late"), 404, "TOKEN_NOT_FOUND");
    client.expect_reset();
    let line = gateway.wait_log_all(&["[WARN]", token, "url=/", "reason=error"]);
    assert!(line.is_error);
    assert!(
        line.text.contains(&format!("limit={limit}")),
        "{}",
        line.text
    );
}

#[test]
fn a_full_queue_drops_its_stream_and_no_other() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "16384").start();
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow", LITTLE);
    let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
    let (taken, response) = fill(&gateway, &token, &"x".repeat(1000));
    assert_error(&response, 500, "WRITE_FAILED");
    assert!(taken >= 16, "{taken}");
    assert_ok(&send_data(&gateway, &other_token, "unharmed"), OK);
    assert_eq!(other.next_event(), "data: unharmed\n\n");
    assert_dropped(&gateway, &backend, &mut slow, &token, "MAX_UNSENT_BYTES");
    assert_ok(&send_close(&gateway, &other_token), OK);
    other.expect_last_chunk_and_eof();
    backend.next_disconnect_of(&other_token).answer(200, "");
    backend.assert_balanced();
}

#[test]
fn one_event_larger_than_the_limit_is_taken_by_an_empty_queue() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "1024").start();
    let big = "x".repeat(1_000_000);
    let (mut stream, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
    // Again and again, as long as the reader empties the queue in between.
    for round in 0..3 {
        assert_sent(&send_data(&gateway, &token, &big));
        assert_eq!(stream.next_event().len(), big.len() + 8, "{round}");
        assert_ok(&send_data(&gateway, &token, "small"), OK);
        assert_eq!(stream.next_event(), "data: small\n\n");
    }
    // Behind unsent bytes nothing more is taken.
    assert_sent(&send_data(&gateway, &token, &big));
    let response = send_data(&gateway, &token, "small");
    assert_error(&response, 500, "WRITE_FAILED");
    assert_dropped(&gateway, &backend, &mut stream, &token, "MAX_UNSENT_BYTES");
    backend.assert_balanced();
}

/// What the kernel holds unsent for a stream is bounded by two settings: all of it, and what is not
/// on the network yet.
#[test]
fn what_the_kernel_holds_is_part_of_the_bound() {
    let backend = Backend::accepting();
    let bytes_taken = |send_buffer: &str, not_sent: &str| {
        let gateway = Gateway::builder()
            .backend(&backend)
            .env("MAX_UNSENT_BYTES", "1024")
            .env("SEND_BUFFER_BYTES", send_buffer)
            .env("NOTSENT_LOWAT_BYTES", not_sent)
            .start();
        let (_client, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
        let (events, _) = fill(&gateway, &token, &"x".repeat(900));
        assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
        events * 900
    };
    let large = bytes_taken("1048576", "1048576");
    for small in [
        bytes_taken("4096", "1048576"),
        bytes_taken("1048576", "4096"),
    ] {
        assert!(small < 64 * 1024, "{small}");
        assert!(large > 4 * small, "{large} and {small}");
    }
    backend.assert_balanced();
}

#[test]
fn a_reader_that_catches_up_loses_nothing() {
    let backend = Backend::accepting();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "65536").start();
    let (mut stream, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
    let mut publisher = gateway.connect();
    let mut read = 0;
    for number in 0..400 {
        let data = format!("{number} {}", "x".repeat(400));
        publisher.post(event(&token, &data).to_string().as_bytes());
        assert_sent(&publisher.read_response());
        while number - read > 80 || (number == 399 && read < 400) {
            let event = stream.next_event();
            assert!(event.starts_with(&format!("data: {read} x")), "{event}");
            read += 1;
        }
    }
    assert_ok(&send_close(&gateway, &token), OK);
    stream.expect_last_chunk_and_eof();
    backend.assert_balanced();
}

#[test]
fn what_streams_may_hold_together_is_bounded() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_HELD_BYTES", "65536").start();
    let (mut first, first_token) = open_narrow(&gateway, &backend, "/1", LITTLE);
    let (mut second, second_token) = open_narrow(&gateway, &backend, "/2", LITTLE);
    let (mut idle, idle_token) = open_stream(&gateway, &backend, "/idle");
    // The first takes more than half of the total, in one event that its empty queue must take.
    assert_sent(&send_data(&gateway, &first_token, &"x".repeat(30_000)));
    // Who would grow it beyond the total is dropped; the one that was there first stays.
    let (_, response) = fill(&gateway, &second_token, &"y".repeat(1000));
    assert_error(&response, 500, "WRITE_FAILED");
    assert_dropped(
        &gateway,
        &backend,
        &mut second,
        &second_token,
        "MAX_HELD_BYTES",
    );
    assert_eq!(first.next_event().len(), 30_008);
    for (stream, token) in [(&mut first, &first_token), (&mut idle, &idle_token)] {
        assert_ok(&send_data(&gateway, token, "unharmed"), OK);
        assert_eq!(stream.next_event(), "data: unharmed\n\n");
        assert_ok(&send_close(&gateway, token), OK);
        stream.expect_last_chunk_and_eof();
        backend.next_disconnect_of(token).answer(200, "");
    }
    backend.assert_balanced();
}

#[test]
fn a_full_window_stores_nothing_and_its_connection_lives_on() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "1024").start();
    for (number, first) in ["x".repeat(300), "x".repeat(5000)].iter().enumerate() {
        let path = format!("/{number}");
        let mut client = gateway.get(&path);
        let callback = backend.next_connect_of(&path);
        let token = callback.token();
        // An empty window takes one event, whatever its size.
        let mut taken = 0;
        let refused = loop {
            let response = post_send(&gateway, &event(&token, first));
            if response.status() != 200 {
                break response;
            }
            assert_ok(&response, BUFFERED);
            taken += 1;
        };
        assert_error(&refused, 503, "BUFFER_FULL");
        assert_eq!(taken, if number == 0 { 3 } else { 1 });
        gateway.wait_log_all(&["[WARN]", &token, "limit=MAX_UNSENT_BYTES"]);
        callback.answer(200, "");
        assert_eq!(client.read_head().status, 200);
        for _ in 0..taken {
            assert_eq!(client.next_event(), format!("data: {first}\n\n"));
        }
        assert_ok(&send_data(&gateway, &token, "live"), OK);
        assert_eq!(client.next_event(), "data: live\n\n");
        client.reset();
        backend.next_disconnect_of(&token).answer(200, "");
    }
    backend.assert_balanced();
}

/// A full window takes a close, which needs no room: nothing of it is stored bytes.
#[test]
fn a_full_window_takes_a_close() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "1024").start();
    let mut client = gateway.get("/s");
    let callback = backend.next_connect_of("/s");
    let token = callback.token();
    let data = "x".repeat(2000);
    assert_ok(&send_data(&gateway, &token, &data), BUFFERED);
    // Refused as a whole: its close is not stored either.
    let both = json!({"token": token, "event": {"data": "x"}, "close": true});
    assert_error(&post_send(&gateway, &both), 503, "BUFFER_FULL");
    assert_error(&send_data(&gateway, &token, "x"), 503, "BUFFER_FULL");
    assert_ok(&send_close(&gateway, &token), BUFFERED);
    // What comes behind it comes to nothing, and needs no room either.
    assert_ok(&send_data(&gateway, &token, "x"), BUFFERED);
    callback.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.next_event(), format!("data: {data}\n\n"));
    client.expect_last_chunk_and_eof();
    backend.next_disconnect_of(&token).answer(200, "");
    backend.assert_balanced();
}

// ---- time ----

/// Two gateways: at one the loop's own clock ends a stream, at the other the kernel's.
#[test]
fn unsent_bytes_without_progress_are_waited_for_so_long() {
    let backend = Backend::accepting();
    let stalling = narrow(&backend).env("STALL_TIMEOUT_SECONDS", "1").start();
    // A full receive window with its probes answered is the peer that makes no progress either.
    let vanishing = narrow(&backend).env("PEER_TIMEOUT_SECONDS", "1").start();
    let start = Instant::now();
    let slow = |gateway| {
        let (client, token) = open_narrow(gateway, &backend, "/slow", LITTLE);
        assert_sent(&send_data(gateway, &token, &"x".repeat(100_000)));
        (client, token)
    };
    let (mut stalled, stalled_token) = slow(&stalling);
    let (_vanished, vanished_token) = slow(&vanishing);
    let (mut other, other_token) = open_stream(&stalling, &backend, "/other");
    // A publisher that does not read its answers is a slow reader, too.
    let mut publisher = Client::with_receive_buffer(stalling.port(), LITTLE);
    let unknown = "POST /x HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2000);
    write_until_stuck(
        publisher.stream(),
        unknown.as_bytes(),
        Duration::from_millis(300),
    );
    assert_dropped(
        &stalling,
        &backend,
        &mut stalled,
        &stalled_token,
        "STALL_TIMEOUT_SECONDS",
    );
    let callback = backend.next_disconnect_of(&vanished_token);
    assert_eq!(callback.reason(), "error");
    let time = start.elapsed();
    let bounds = Duration::from_millis(900)..Duration::from_secs(8);
    assert!(bounds.contains(&time), "{time:?}");
    vanishing.wait_log_all(&["[WARN]", &vanished_token, "reason=error"]);
    publisher.expect_reset();
    assert_ok(&send_data(&stalling, &other_token, "unharmed"), OK);
    assert_eq!(other.next_event(), "data: unharmed\n\n");
    drop(other);
    backend.assert_balanced();
}

/// The probes for a vanished peer begin when the setting says so.
#[test]
fn silent_connections_are_probed() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("KEEPALIVE_IDLE_SECONDS", "20000")
        .start();
    let (client, _) = open_stream(&gateway, &backend, "/s");
    let peer = client.stream().local_addr().expect("an address");
    let ends = [gateway.port(), peer.port()].map(|port| format!(":{port:04X}"));
    // Fields: number, local address, remote address, state, queues, timer:when, ...
    let timer = || {
        let table = ["/proc/net/tcp", "/proc/net/tcp6"]
            .map(|path| std::fs::read_to_string(path).unwrap_or_default())
            .concat();
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.len() > 5 && row[1].ends_with(&ends[0]) && row[2].ends_with(&ends[1]));
        let timer = row.expect("the gateway's side")[5].to_owned();
        timer.strip_prefix("02:").map(str::to_owned)
    };
    // Until the head is acknowledged another timer runs.
    let mut when = None;
    eventually("the keep-alive timer", || {
        when = timer();
        when.is_some()
    });
    let ticks = u64::from_str_radix(&when.expect("a timer"), 16).expect("a number");
    assert!((1_990_000..=2_000_000).contains(&ticks), "{ticks}");
}

// ---- publishers ----

#[test]
fn a_publisher_that_does_not_read_is_not_read_and_loses_nothing() {
    const REQUESTS: usize = 60_000;
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_UNREAD_ANSWER_BYTES", "4096")
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    // Every hundredth request is an event, the others are answered 404 and tell which they are.
    let filler = "x".repeat(100);
    let mut requests = String::new();
    for number in 0..REQUESTS {
        let body = match number % 100 {
            0 => event(&token, &number.to_string()).to_string(),
            _ => json!({"token": filler}).to_string(),
        };
        requests += &send_request(&body);
    }
    let before = resident_kib(gateway.pid());
    let mut publisher = Client::with_receive_buffer(gateway.port(), 4096);
    let socket = publisher.stream().try_clone().expect("a descriptor");
    socket2::SockRef::from(&socket)
        .set_send_buffer_size(64 * 1024)
        .expect("an option");
    // Half a second without a byte taken: it is not slow, it has stopped.
    let taken = write_until_stuck(&socket, requests.as_bytes(), Duration::from_millis(500));
    assert!(taken < requests.len() / 2, "{taken} of {}", requests.len());
    let grown = resident_kib(gateway.pid()).saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for unread answers");
    let line = gateway.wait_log_all(&["[WARN]", "limit=MAX_UNREAD_ANSWER_BYTES"]);
    assert!(line.is_error);
    // Nobody else is held up.
    assert_ok(&send_data(&gateway, &token, "other"), OK);
    let rest = requests.split_off(taken);
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        socket
            .set_write_timeout(Some(crate::support::PATIENCE))
            .expect("a time-out");
        (&socket).write_all(rest.as_bytes()).expect("it goes on");
    });
    for number in 0..REQUESTS {
        let response = publisher.read_response();
        let expected = if number % 100 == 0 { 200 } else { 404 };
        assert_eq!(response.status(), expected, "{number}");
    }
    writer.join().expect("no panic");
    let mut next = 0;
    while next < REQUESTS {
        let event = stream.next_event();
        if event != "data: other\n\n" {
            assert_eq!(event, format!("data: {next}\n\n"));
            next += 100;
        }
    }
}

/// The same publisher half-closes before it reads: what it asked for is done all the same.
#[test]
fn a_publisher_that_half_closes_behind_unread_answers_gets_them_all() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_UNREAD_ANSWER_BYTES", "1024")
        .env("SEND_BUFFER_BYTES", "4096")
        .start();
    // Also where the gateway closes behind the last answer by itself.
    for last in ["", "Connection: close\r\n"] {
        let mut publisher = Client::with_receive_buffer(gateway.port(), LITTLE);
        let requests = "POST /x HTTP/1.1\r\nHost: h\r\n\r\n".repeat(999);
        publisher.send(format!(
            "{requests}POST /x HTTP/1.1\r\nHost: h\r\n{last}\r\n"
        ));
        publisher.shutdown_write();
        for _ in 0..1000 {
            assert_error(&publisher.read_response(), 404, "NOT_FOUND");
        }
        publisher.expect_eof();
    }
}
