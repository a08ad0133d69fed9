//! Connections that are no streams, in a full house (contract, section 6): the one that has idled
//! longest goes for the newcomer, the internal listener has places of its own, and callbacks have
//! their descriptors all the while.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use ssegateway::config::{DescriptorBudget, Limits, Wishes};

use crate::support::crowd::need_descriptors;
use crate::support::process::{Process, descriptors, eventually};
use crate::support::{Backend, Client, OK, Port, assert_ok, assert_served};

/// In which a health check is answered, whoever else is there: what a supervisor waits for.
const AT_ONCE: Duration = Duration::from_secs(10);

const SMALL: u64 = 64;

/// What a process with so many descriptors makes of them.
fn budget(descriptors: u64) -> DescriptorBudget {
    let limits = Limits::default();
    let wishes = Wishes {
        connect_workers: limits.connect_workers,
        disconnect_workers: limits.disconnect_workers,
        max_streams: None,
    };
    DescriptorBudget::of(descriptors, &wishes)
}

fn start(descriptors: u64, backend: &Backend, settings: &[(&str, &str)]) -> Process {
    let script = format!("ulimit -n {descriptors}; exec \"$0\"");
    Process::start(&script, backend, settings)
}

/// The connection is there and says nothing.
fn is_open(client: &Client) -> bool {
    let mut stream = client.stream();
    stream.set_nonblocking(true).expect("an option");
    let result = stream.read(&mut [0]);
    stream.set_nonblocking(false).expect("an option");
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Does something on and on beside something else, and ends with it.
fn beside<R>(mut again: impl FnMut() + Send, act: impl FnOnce() -> R) -> R {
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                again();
            }
        });
        let _over = crate::support::crowd::Over(is_over);
        act()
    })
}

/// More kept-alive connections than there are places, all of them in use now and then, and each
/// made anew when it was closed.
#[test]
fn strangers_who_keep_their_connections_do_not_reach_the_internal_listener() {
    let internal = Port::reserve_local();
    let at = format!("127.0.0.1:{}", internal.number());
    let backend = Backend::accepting();
    let gateway = start(SMALL, &backend, &[("INTERNAL_LISTEN", &at)]);
    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    let mut publisher = Client::connect(internal.number());
    let mut strangers: Vec<Client> = (0..40).map(|_| gateway.connect()).collect();
    let again = || {
        for stranger in &mut strangers {
            if !stranger.try_send(b"POST /x HTTP/1.1\r\nHost: h\r\n\r\n") || !has_answer(stranger) {
                *stranger = gateway.connect();
            }
        }
    };
    let act = || {
        for round in 0..60 {
            let begun = Instant::now();
            assert_served(&mut Client::connect(internal.number()));
            let event = json!({"token": token, "event": {"data": round.to_string()}});
            publisher.post(event.to_string().as_bytes());
            assert_ok(&publisher.read_response(), OK);
            assert_eq!(stream.next_event(), format!("data: {round}\n\n"));
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
            // Now and then, so that there is always somebody who idles.
            thread::sleep(Duration::from_millis(20));
        }
    };
    beside(again, act);
    drop((stream, strangers));
    backend.assert_balanced();
}

/// Whether a request was answered 404 before long; if not, it waits for a place, or its connection
/// was closed for another.
fn has_answer(stranger: &Client) -> bool {
    let mut stream = stranger.stream();
    let patience = Some(Duration::from_millis(50));
    stream.set_read_timeout(patience).expect("a time-out");
    let mut room = [0; 1024];
    matches!(stream.read(&mut room), Ok(n) if room[..n].starts_with(b"HTTP/1.1 404 "))
}

/// Connections that say nothing and come again as soon as they are closed.
#[test]
fn health_checks_get_in_among_the_silent() {
    const SILENT: usize = 1_100;
    need_descriptors(2_000);
    let internal = Port::reserve_local();
    let at = format!("127.0.0.1:{}", internal.number());
    let backend = Backend::accepting();
    let gateway = start(1024, &backend, &[("INTERNAL_LISTEN", &at)]);
    let silent = || {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).expect("the queue");
        stream.set_nonblocking(true).expect("an option");
        stream
    };
    let mut crowd: Vec<TcpStream> = (0..SILENT).map(|_| silent()).collect();
    let places = budget(1024).max_connections - budget(1024).publishers.div_ceil(2);
    eventually("a full house", || descriptors(gateway.pid()) >= places);
    let mut returns = 0;
    let again = || {
        for stream in &mut crowd {
            let is_there = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
            if !stream.read(&mut [0]).is_err_and(is_there) {
                *stream = silent();
                returns += 1;
            }
        }
        thread::sleep(Duration::from_millis(1));
    };
    let slowest = beside(again, || {
        let ports = [gateway.port(), internal.number()];
        let mut slowest = Duration::ZERO;
        for _ in 0..4 {
            slowest = slowest.max(probe(&ports, 16));
        }
        slowest
    });
    println!("{slowest:.1?} at most, {returns} came again");
    assert!(slowest < AT_ONCE, "{slowest:?}");
    assert!(returns > 0, "nobody was closed");
}

/// So many health checks at once at each port; the longest time that one took.
fn probe(ports: &[u16], number: usize) -> Duration {
    let begun = Instant::now();
    let all = ports.iter().cycle().take(ports.len() * number);
    let mut probes: Vec<Client> = all.map(|port| Client::connect(*port)).collect();
    for probe in &mut probes {
        probe.get("/healthz");
    }
    for probe in &mut probes {
        assert_ok(&probe.read_response(), OK);
    }
    begun.elapsed()
}

/// A house of streams, of which every place for something else is taken, too.
struct Full {
    streams: Vec<Client>,
    tokens: Vec<String>,
    /// In the order in which they were used last.
    idle: Vec<Client>,
    busy: Client,
}

impl Full {
    fn of(gateway: &Process, backend: &Backend) -> Full {
        let budget = budget(SMALL);
        let opened = (0..budget.max_streams)
            .map(|number| gateway.open_stream(backend, &format!("/{number}")));
        let (streams, tokens) = opened.unzip();
        let others = budget.max_connections - budget.max_streams;
        let mut idle: Vec<Client> = (1..others).map(|_| gateway.connect()).collect();
        let mut busy = gateway.connect();
        busy.send("GET /healthz HTTP/1.1\r\n");
        // Not in the order in which they came.
        idle.rotate_left(1);
        for client in &mut idle {
            assert_served(client);
            // Time that passes between them is what the order is of.
            thread::sleep(Duration::from_millis(5));
        }
        Full {
            streams,
            tokens,
            idle,
            busy,
        }
    }
}

#[test]
fn who_has_idled_longest_goes_for_a_newcomer() {
    let backend = Backend::accepting();
    let gateway = start(SMALL, &backend, &[]);
    let mut house = Full::of(&gateway, &backend);
    assert_eq!(house.idle.len(), 3);
    let mut newcomers = Vec::new();
    for gone in 0..house.idle.len() {
        let mut newcomer = gateway.get("/healthz");
        assert_ok(&newcomer.read_response(), OK);
        newcomers.push(newcomer);
        house.idle[gone].expect_eof();
        for client in house.idle[gone + 1..].iter().chain(&newcomers) {
            assert!(is_open(client), "not only the first {gone} have gone");
        }
    }
    house.busy.send("Host: h\r\n\r\n");
    assert_ok(&house.busy.read_response(), OK);
    for (stream, token) in house.streams.iter_mut().zip(&house.tokens) {
        let command = json!({"token": token, "event": {"data": "x"}});
        newcomers[0].post(command.to_string().as_bytes());
        assert_ok(&newcomers[0].read_response(), OK);
        assert_eq!(stream.next_event(), "data: x\n\n");
    }
    drop(house.streams);
    backend.assert_balanced();
}

/// Everybody leaves and as many come, all within one turn of the loop: neither those who were told
/// of nor those who are asked for lack a descriptor.
#[test]
fn a_full_house_that_turns_over_makes_its_callbacks() {
    // Each callback needs a connection of its own.
    let backend = Backend::with(|callback| {
        callback.answer_with(200, "Connection: close\r\n", b"");
        callback.close();
    });
    // However busy the machine is, no client is to be turned away for the time that it takes.
    let patient = [("CONNECT_TIMEOUT_SECONDS", "60")];
    let gateway = start(SMALL, &backend, &patient);
    let mut house = Full::of(&gateway, &backend);
    for round in 0..30 {
        gateway.signal("STOP");
        let number = house.streams.len();
        house.streams.clear();
        let clients = (0..number).map(|at| gateway.get(&format!("/{round}/{at}")));
        house.streams = clients.collect();
        gateway.signal("CONT");
        for client in &mut house.streams {
            assert_eq!(client.read_head().status, 200, "round {round}");
        }
        eventually("the disconnects", || backend.ledger().open() == number);
    }
    assert!(descriptors(gateway.pid()) as u64 <= SMALL);
    drop(house.streams);
    backend.assert_balanced();
}
