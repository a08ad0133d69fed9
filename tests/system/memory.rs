//! What a crowd costs (contract, section 6): the budgets hold for the memory of the process as the
//! system sees it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::support::crowd::{Taken, need_descriptors, open_crowd, read_all, watched};
use crate::support::process::{eventually_within, proportional_kib};
use crate::support::{
    Backend, Builder, Client, Gateway, OK, assert_error, assert_ok, assert_sent, assert_served,
    open_stream, send_data, send_request,
};

const MIB: usize = 1024 * 1024;

/// KiB beyond a budget that are everything else's: threads, sockets' bookkeeping, what the
/// allocator keeps.
const ELSE: usize = 16 * 1024;

/// Whatever time a crowd takes, nothing but memory is a reason to drop anybody, and no heartbeat
/// comes between the bytes.
fn unhurried(backend: &Backend) -> Builder {
    [
        "CONNECT_TIMEOUT_SECONDS",
        "HEARTBEAT_INTERVAL_SECONDS",
        "NEW_CONNECTION_TIMEOUT_SECONDS",
        "PEER_TIMEOUT_SECONDS",
        "REQUEST_TIMEOUT_SECONDS",
        "STALL_TIMEOUT_SECONDS",
    ]
    .into_iter()
    .fold(Gateway::builder().backend(backend), |builder, setting| {
        builder.env(setting, "600")
    })
}

/// KiB that a process may have which had `start` and uses a budget of so many bytes.
fn bound(start: usize, budget: usize) -> usize {
    start + budget / 1024 * 13 / 10 + ELSE
}

/// KiB that stay when a crowd has left: the ends of the heaps of threads, and what this process has
/// of the program alone, once others that run it end.
const LEFT: usize = 16 * 1024;

/// What a crowd needed goes back to the system when it has left.
#[track_caller]
fn assert_given_back(gateway: &Gateway, start: usize) {
    let mut now = 0;
    eventually_within("memory given back", Duration::from_secs(30), || {
        now = proportional_kib(gateway.pid());
        now <= start + LEFT
    });
    println!("pss {now} KiB when all have left");
}

fn clients(crowd: &[(Client, String)]) -> impl Iterator<Item = &Client> {
    crowd.iter().map(|(client, _)| client)
}

/// An event to a stream as it comes in one chunk: begun with its number, of so many bytes.
fn chunk(number: usize, length: usize) -> Vec<u8> {
    let data = data(number, length);
    let size = data.len() + "data: \n\n".len();
    format!("{size:x}\r\ndata: {data}\n\n\r\n").into_bytes()
}

fn data(number: usize, length: usize) -> String {
    format!("{number:0>8}{}", "x".repeat(length - 8))
}

fn event(token: &str, number: usize, length: usize) -> String {
    let data = data(number, length);
    send_request(&format!(
        r#"{{"token":"{token}","event":{{"data":"{data}"}}}}"#
    ))
}

/// Everybody got all of his event, or was reset within it; how many were.
fn assert_whole_or_reset(reads: &[Taken], expected: impl Fn(usize) -> Vec<u8>) -> usize {
    let mut dropped = 0;
    for (number, read) in reads.iter().enumerate() {
        let expected = expected(number);
        assert!(!read.is_ended, "{number} ended cleanly");
        assert!(expected.starts_with(&read.bytes), "{number}");
        let (got, all) = (read.bytes.len(), expected.len());
        assert!(read.is_reset || got == all, "{got} of {all}, {number}");
        dropped += usize::from(read.is_reset);
    }
    dropped
}

/// Each reads all of a large event but its end. What was read costs nothing any more, though it was
/// in the same piece of memory.
#[test]
fn the_ends_of_large_events_cost_their_own_bytes() {
    const STREAMS: usize = 32;
    const EVENT: usize = 4_000_000;
    // Some 400,000 of them are in the kernels' buffers.
    const UNREAD: usize = 800_000;
    let backend = Backend::accepting();
    let gateway = unhurried(&backend).start();
    let crowd = open_crowd(&backend, STREAMS, |_| {
        Client::with_receive_buffer(gateway.port(), 64 * 1024)
    });
    let start = proportional_kib(gateway.pid());
    let mut publisher = gateway.connect();
    let (mut begun, most) = watched(gateway.pid(), || {
        let each = crowd.iter().enumerate().map(|(number, (client, token))| {
            publisher.send(event(token, number, EVENT));
            assert_sent(&publisher.read_response());
            read_all([client], EVENT - UNREAD).remove(0)
        });
        each.collect::<Vec<Taken>>()
    });
    println!("pss {start} KiB, then {most} KiB at most");
    // Far below what all may hold, so that nobody is dropped.
    assert!(
        most <= bound(start, STREAMS * UNREAD),
        "{start}, {most} KiB"
    );
    let rest = read_all(clients(&crowd), chunk(0, EVENT).len() - (EVENT - UNREAD));
    for (begun, rest) in begun.iter_mut().zip(rest) {
        begun.bytes.extend(rest.bytes);
        begun.is_reset |= rest.is_reset;
    }
    let dropped = assert_whole_or_reset(&begun, |number| chunk(number, EVENT));
    assert_eq!(dropped, 0);
    drop(crowd);
    backend.assert_balanced();
    assert_given_back(&gateway, start);
}

/// Each is sent an event and reads nothing: whoever holds most goes, until the others fit.
#[test]
fn readers_that_never_read_cost_what_all_may_hold() {
    const STREAMS: usize = 800;
    const EVENT: usize = 150_000;
    const BUDGET: usize = 64 * MIB;
    need_descriptors(2_000);
    let backend = Backend::accepting();
    let gateway = unhurried(&backend).env("SEND_BUFFER_BYTES", "4096").start();
    let crowd = open_crowd(&backend, STREAMS, |_| {
        Client::with_receive_buffer(gateway.port(), 2048)
    });
    let start = proportional_kib(gateway.pid());
    let (failed, most) = watched(gateway.pid(), || send_all(&gateway, &crowd, EVENT));
    println!("pss {start} KiB, then {most} KiB at most");
    assert!(most <= bound(start, BUDGET), "{start}, {most} KiB");
    let reads = read_all(clients(&crowd), chunk(0, EVENT).len());
    let dropped = assert_whole_or_reset(&reads, |number| chunk(number, EVENT));
    println!("{dropped} dropped, {failed} sends failed");
    // No more than had to be, but for what the kernels hold and the slack of queues.
    let (stay, fit) = (STREAMS - dropped, BUDGET / EVENT);
    assert!((fit * 2 / 3..=fit * 5 / 4).contains(&stay), "{stay}");
    gateway.wait_log_all(&["[WARN]", "reason=error", "limit=MAX_HELD_BYTES"]);
    drop(crowd);
    backend.assert_balanced();
    assert_given_back(&gateway, start);
}

/// An event to each, pipelined; how many were answered 500, all others being 200.
fn send_all(gateway: &Gateway, crowd: &[(Client, String)], length: usize) -> usize {
    let mut publisher = gateway.connect();
    let mut socket = publisher.stream().try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(move || {
            for (number, (_, token)) in crowd.iter().enumerate() {
                let request = event(token, number, length);
                socket.write_all(request.as_bytes()).expect("a write");
            }
        });
        let statuses = crowd.iter().map(|_| {
            let response = publisher.read_response();
            match response.status() {
                200 => _ = assert_sent(&response),
                _ => assert_error(&response, 500, "WRITE_FAILED"),
            }
            response.status()
        });
        statuses.filter(|status| *status == 500).count()
    })
}

/// Header fields that no two clients share: those for which there is no room are refused, and
/// nobody else is.
#[test]
fn header_fields_of_a_crowd_cost_what_all_may_keep() {
    const CLIENTS: usize = 3_000;
    const FIELDS: usize = 29_000;
    const BUDGET: usize = 64 * MIB;
    need_descriptors(4_000);
    let backend = Backend::accepting();
    let gateway = unhurried(&backend).start();
    let (mut other, token) = open_stream(&gateway, &backend, "/other");
    let start = proportional_kib(gateway.pid());
    let (crowd, most) = watched(gateway.pid(), || {
        let mut crowd: Vec<Client> = (0..CLIENTS).map(|_| gateway.connect()).collect();
        for (number, client) in crowd.iter_mut().enumerate() {
            let field = data(number, FIELDS);
            client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {field}\r\n\r\n"));
        }
        crowd.retain_mut(|client| is_taken(client, &backend));
        crowd
    });
    println!(
        "pss {start} KiB, then {most} KiB at most, {} streams",
        crowd.len()
    );
    assert!(most <= bound(start, BUDGET), "{start}, {most} KiB");
    // Links between the pieces of a field, and entries, take an eighth.
    let fit = BUDGET / FIELDS;
    assert!(
        (fit * 8 / 10..=fit).contains(&crowd.len()),
        "{}",
        crowd.len()
    );
    gateway.wait_log_all(&["[WARN]", "limit=MAX_KEPT_HEADER_BYTES"]);
    assert_served(&mut gateway.connect());
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(other.next_event(), "data: x\n\n");
    drop(crowd);
    assert_given_back(&gateway, start);
}

/// Whether a stream opened; if not, the answer told why.
fn is_taken(client: &mut Client, backend: &Backend) -> bool {
    let head = client.read_head();
    match head.status {
        200 => assert!(backend.next_connect().is_answered()),
        _ => {
            assert_eq!(head.status, 503, "{}", head.text());
            assert!(head.value("retry-after").is_some(), "{}", head.text());
        }
    }
    head.status == 200
}
