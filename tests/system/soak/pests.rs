//! Those who do not mean a stream: publishers that do not read their answers, slow heads, garbage,
//! silence; and the health checks that must not feel any of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::audience::expect_data;
use super::churn::{Opened, post, rest, try_open};
use super::world::{Count, Rng, World};
use crate::support::Client;

/// The longest that a health check may take on a busy host of two cores.
pub(crate) const SLOWEST_PROBE: Duration = Duration::from_secs(2);

// ---- health ----

/// A health check on a connection of its own; gives the connection.
pub(crate) fn probe_once(world: &World) -> Client {
    let start = Instant::now();
    let mut client = Client::connect(world.port);
    client.get("/healthz");
    assert_eq!(client.read_response().status(), 200);
    world.probed(start.elapsed());
    client
}

/// Health checks, on new connections and on kept ones, and readiness.
pub(crate) fn probe(world: &World, rng: &mut Rng) {
    let mut client = probe_once(world);
    for _ in 0..rng.below(20) {
        for path in ["/healthz", "/readyz"] {
            let start = Instant::now();
            client.get(path);
            assert_eq!(client.read_response().status(), 200);
            world.probed(start.elapsed());
        }
        world.pause(Duration::from_millis(40));
    }
}

// ---- publishers that do not read ----

/// Pipelines sends and reads no answer until the gateway reads no further; then reads them all, or
/// leaves.
pub(crate) fn unread_answers(world: &World, rng: &mut Rng) {
    /// Their answers fill every buffer on the way.
    const REQUESTS: usize = 6000;
    let Some(Opened {
        mut client,
        token,
        present: _present,
    }) = try_open(world, "unread", None)
    else {
        return rest(world, rng);
    };
    world.book.allow(&token, &["client_closed"]);
    let no_op = post(json!({ "token": token }).to_string().as_bytes());
    let last = json!({"token": token, "event": {"data": "behind"}});
    let mut requests = no_op.repeat(REQUESTS);
    requests.extend(post(last.to_string().as_bytes()));
    let mut publisher = Client::with_receive_buffer(world.port, 4096);
    let mut writing = publisher.stream().try_clone().expect("a descriptor");
    let leaves = rng.is_one_in(3);
    thread::scope(|scope| {
        // It ends with the requests, or when the connection does.
        let writer = scope.spawn(move || writing.write_all(&requests).is_ok());
        world.pause(Duration::from_millis(500));
        if leaves {
            publisher.stream().shutdown(Shutdown::Both).expect("open");
            return;
        }
        for at in 0..=REQUESTS {
            let status = publisher.read_response().status();
            if status != 200 {
                world.report(format!("{token}: {status} for request {at}"));
                break;
            }
        }
        assert!(writer.join().expect("no panic"));
        expect_data(&mut client, "behind");
    });
    if leaves {
        publisher.reset();
    }
    world.count(Count::Unread);
    drop(client);
    rest(world, rng);
}

// ---- slow heads, silence ----

/// Drips a head that never ends, drips a body, or says nothing at all.
pub(crate) fn loris(world: &World, rng: &mut Rng) {
    let parts: (&[u8], &[u8]) = match rng.below(3) {
        0 => (b"", b""),
        1 => (b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"y"),
        _ => (
            b"POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 999\r\n\r\n",
            b" ",
        ),
    };
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("an option");
    let (start, is_silent) = (Instant::now(), parts.0.is_empty());
    let mut answer = Vec::new();
    let mut is_whole = stream.write_all(parts.0).is_err();
    let mut room = [0; 4096];
    while !is_whole && world.is_on() {
        // The read's time-out is the drip's pace; writes fail once the gateway has closed.
        let _ = stream.write_all(parts.1);
        match stream.read(&mut room) {
            Ok(0) => is_whole = true,
            Ok(n) => answer.extend_from_slice(&room[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => is_whole = true,
        }
        if start.elapsed() > Duration::from_secs(8) {
            return world.report(format!("a loris lives, {parts:?}"));
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let is_right = match is_silent {
        true => text.is_empty(),
        false => text.starts_with("HTTP/1.1 408 "),
    };
    if is_whole && !is_right {
        world.report(format!("a loris got {text:?}"));
    }
    world.count(Count::Loris);
}

// ---- garbage ----

const GARBAGE: [(&[u8], &str); 14] = [
    (b"\r\n\r\n\r\n \r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\nHost: h\n\n", "400"),
    (b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
    (b"GET / HTTP/3.7\r\nHost: h\r\n\r\n", "505"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "400"),
    (
        b"POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        b"POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        "501",
    ),
    (
        b"POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "400",
    ),
    (
        b"POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n",
        "413",
    ),
    (
        b"POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\n",
        "400",
    ),
    (b"DELETE / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "405"),
    (
        b"POST /internal/send HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\n{{{",
        "400",
    ),
];

/// A request that is wrong in a known way, or bytes that mean nothing.
pub(crate) fn garbage(world: &World, rng: &mut Rng) {
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("an option");
    let (bytes, status) = if rng.is_one_in(2) {
        let (bytes, status) = rng.pick(&GARBAGE);
        (bytes.to_vec(), status)
    } else {
        let length = rng.below(3000);
        // A bare LF at its beginning, so that it can be no request whatever follows.
        let mut bytes = b"x\n".to_vec();
        bytes.extend((0..length).map(|_| rng.next() as u8));
        (bytes, "400")
    };
    for part in bytes.chunks(1 + rng.below(bytes.len() as u64) as usize) {
        // The gateway may have closed by now.
        let _ = stream.write_all(part);
    }
    let mut answer = Vec::new();
    if stream.read_to_end(&mut answer).is_err() {
        world.report(format!("a reset or silence for {:?}", bytes.escape_ascii()));
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    if !text.starts_with(&format!("HTTP/1.1 {status} ")) {
        let bytes = bytes.escape_ascii();
        world.report(format!("{text:?} for {bytes}"));
    }
    world.count(Count::Garbage);
    let a_moment = rng.millis(150);
    world.pause(a_moment);
}
