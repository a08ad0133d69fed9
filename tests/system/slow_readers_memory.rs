//! What slow readers cost (contract, section 6): memory within the limit of one stream, and nobody
//! else's time.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::process::anonymous_kib;
use crate::support::{
    Backend, Client, Gateway, OK, assert_error, assert_ok, assert_sent, open_narrow, open_stream,
    send_data,
};

/// Beyond what the process held before: the default limit of unsent bytes, one event and one body
/// on their ways, and what the allocator keeps of both.
const ROOM: usize = 8 * 1024;
/// Offered in all.
const OFFERED: usize = 200 * 1024 * 1024;
const EVENT: usize = 64 * 1024;
/// Of a send with its event's arrival. Who waited for the reader that never reads would wait for
/// its stall time-out, 30 s; what is shorter is the host's business.
const LATENCY: Duration = Duration::from_secs(5);

fn command(token: &str, at: usize) -> Vec<u8> {
    let data = format!("{at} {}", "x".repeat(EVENT));
    let json = json!({"token": token, "event": {"data": data}});
    json.to_string().into_bytes()
}

/// Bytes of a receive buffer that takes little in advance.
const LITTLE: usize = 16 * 1024;

/// Offers events to a stream until all are offered; gives how many were taken, and the most memory
/// that was seen meanwhile.
fn offer(gateway: &Gateway, token: &str) -> (usize, usize) {
    let (mut publisher, mut taken, mut most) = (gateway.connect(), 0, 0);
    let command = command(token, 0);
    for at in 0..OFFERED / EVENT {
        publisher.post(&command);
        let response = publisher.read_response();
        match response.status() {
            200 => {
                assert_eq!(taken, at, "taken after it was refused");
                taken += 1;
            }
            500 => assert_error(&response, 500, "WRITE_FAILED"),
            _ => assert_error(&response, 404, "TOKEN_NOT_FOUND"),
        }
        if at % 16 == 0 {
            most = most.max(anonymous_kib(gateway.pid()));
        }
    }
    (taken, most)
}

/// One send after another to a stream that is read; gives the longest time from a send to its
/// event.
fn longest_turn(
    gateway: &Gateway,
    client: &mut Client,
    token: &str,
    is_over: impl Fn() -> bool,
) -> Duration {
    let mut longest = Duration::ZERO;
    let mut at = 0;
    while !is_over() || at < 100 {
        let sent = Instant::now();
        assert_ok(&send_data(gateway, token, &at.to_string()), OK);
        let event = client.next_event_behind_heartbeats();
        assert_eq!(event, format!("data: {at}\n\n"));
        longest = longest.max(sent.elapsed());
        at += 1;
    }
    println!("{at} events, {longest:.1?} at most");
    longest
}

#[test]
fn a_reader_that_never_reads_costs_its_limit_and_nobody_else() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (client, token) = open_narrow(&gateway, &backend, "/never", LITTLE);
    let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
    let start = anonymous_kib(gateway.pid());
    let longest = thread::scope(|scope| {
        let offering = scope.spawn(|| offer(&gateway, &token));
        let longest = longest_turn(&gateway, &mut other, &other_token, || {
            offering.is_finished()
        });
        let (taken, most) = offering.join().expect("no panic");
        println!("{taken} taken, pss {start} KiB, then {most} KiB at most");
        let limit = 4 * 1024 * 1024 / EVENT;
        // What both kernels hold comes on top.
        assert!((limit - 1..limit * 2).contains(&taken), "{taken}");
        assert!(most <= start + ROOM, "{start} KiB, then {most} KiB");
        longest
    });
    assert!(longest < LATENCY, "{longest:?}");
    let disconnect = backend.next_disconnect();
    assert_eq!(disconnect.token(), token);
    assert_eq!(disconnect.reason(), "error");
    disconnect.answer(200, "");
    gateway.wait_log_all(&["[WARN]", &token, "reason=error", "limit=MAX_UNSENT_BYTES"]);
    let mut client = client;
    client.expect_reset();
    backend.assert_idle();
    other.reset();
    backend.next_disconnect_of(&other_token).answer(200, "");
    backend.assert_balanced();
}

/// As long as it stays within the limit, however far behind it is.
#[test]
fn a_reader_that_reads_slowly_gets_everything() {
    const EVENTS: usize = 320;
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut client, token) = open_narrow(&gateway, &backend, "/slow", LITTLE);
    let start = anonymous_kib(gateway.pid());
    // It never lags further than this behind what was sent, three quarters of the limit.
    let lag = 3 * 1024 * 1024 / EVENT;
    let mut publisher = gateway.connect();
    let (mut sent, mut most) = (0, 0);
    for at in 0..EVENTS {
        while sent < EVENTS && sent < at + lag {
            publisher.post(&command(&token, sent));
            assert_sent(&publisher.read_response());
            sent += 1;
        }
        most = most.max(anonymous_kib(gateway.pid()));
        let event = client.next_event();
        let head = format!("data: {at} xx");
        assert!(event.starts_with(&head), "{:?}", &event[..20]);
        assert_eq!(event.len(), format!("data: {at} \n\n").len() + EVENT);
    }
    println!("anonymous {start} KiB, then {most} KiB at most");
    assert!(most <= start + ROOM, "{start} KiB, then {most} KiB");
    backend.assert_idle();
    client.reset();
    let disconnect = backend.next_disconnect_of(&token);
    assert_eq!(disconnect.reason(), "client_closed");
    disconnect.answer(200, "");
    backend.assert_balanced();
}
