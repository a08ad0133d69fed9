//! When the kernel gives no more (contract, section 6). Descriptors: streams are refused before the
//! last one is taken from callbacks, sends and health checks; when they run out all the same,
//! accepting pauses, nothing spins, and everything goes on once there are some again. Memory: what
//! is held for all connections keeps the process within its address space.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rlimit::Resource;
use serde_json::json;

use crate::support::process::{
    Process, cpu_ticks, descriptors, eventually, next_descriptor, wait_until_read,
};
use crate::support::{
    Backend, Client, Gateway, OK, assert_error, assert_ok, assert_served, open_stream, send_close,
    send_data,
};

/// Ticks of 10 ms that a second without work may cost at most, on a machine that is slow.
const IDLE_TICKS: u64 = 25;

/// Sooner than any connection that lingers is given up.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// Processor time that the process uses between two heartbeats, one second.
fn ticks_of_a_second(pid: u32, stream: &mut Client) -> u64 {
    assert_eq!(stream.next_event(), ": heartbeat\n\n");
    let before = cpu_ticks(pid);
    assert_eq!(stream.next_event(), ": heartbeat\n\n");
    cpu_ticks(pid) - before
}

#[test]
fn streams_leave_descriptors_for_everything_else() {
    let backend = Backend::accepting();
    let gateway = Process::start("ulimit -n 64; exec \"$0\"", &backend, &[]);
    let mut streams = Vec::new();
    let refused = loop {
        let mut client = gateway.get(&format!("/{}", streams.len()));
        let head = client.read_head();
        if head.status != 200 {
            break head;
        }
        streams.push(client);
        assert!(streams.len() < 64, "no limit");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.value("retry-after").is_some());
    assert!(streams.len() >= 16, "{}", streams.len());
    assert!(descriptors(gateway.pid()) <= 64);
    // Sends, health checks, and both callbacks have theirs.
    for (number, stream) in streams.iter_mut().enumerate() {
        let token = backend.next_connect_of(&format!("/{number}")).token();
        let command = json!({"token": token, "event": {"data": "x"}, "close": number % 2 == 0});
        assert_ok(&gateway.post(&command), OK);
        assert_eq!(stream.next_event(), "data: x\n\n");
        assert_served(&mut Client::connect(gateway.port()));
    }
    for _ in 0..streams.len().div_ceil(2) {
        assert_eq!(backend.next_disconnect().reason(), "server_closed");
    }
    gateway.open_stream(&backend, "/again");
    drop(streams);
    backend.assert_balanced();
}

/// Connections that say nothing fill the house; the next ones wait in the kernel's queue.
#[test]
fn a_full_house_pauses_accepting_and_recovers() {
    let backend = Backend::accepting();
    let settings = [("HEARTBEAT_INTERVAL_SECONDS", "1")];
    let gateway = Process::start("ulimit -n 64; exec \"$0\"", &backend, &settings);
    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    let silent: Vec<TcpStream> = (0..80)
        .map(|_| TcpStream::connect(("127.0.0.1", gateway.port())).expect("the kernel's queue"))
        .collect();
    let mut waiting = gateway.get("/healthz");
    let ticks = ticks_of_a_second(gateway.pid(), &mut stream);
    assert!(ticks < IDLE_TICKS, "{ticks} ticks in a second");
    assert!(descriptors(gateway.pid()) <= 64);
    drop(silent);
    assert_ok(&waiting.read_response(), OK);
    assert_ok(&gateway.post(&json!({"token": token, "close": true})), OK);
    backend.assert_balanced();
}

/// Clients that were refused and do not close their side cost a full house nothing: a connection
/// that is only waited for to go gives its descriptor to the next one at once, not when its two
/// seconds are over.
#[test]
fn a_full_house_does_not_wait_for_those_it_has_refused() {
    let backend = Backend::accepting();
    let gateway = Process::start("ulimit -n 64; exec \"$0\"", &backend, &[]);
    let mut streams = Vec::new();
    loop {
        let mut client = gateway.get("/s");
        match client.read_head().status {
            200 => streams.push(client),
            _ => break,
        }
    }
    // All of them wait when the gateway looks, so that the house is full before one is refused.
    gateway.signal("STOP");
    let mut refused: Vec<Client> = (0..20).map(|_| gateway.get("/s")).collect();
    let mut health = gateway.get("/healthz");
    let start = Instant::now();
    gateway.signal("CONT");
    for client in &mut refused {
        assert_eq!(client.read_head().status, 503);
    }
    assert_ok(&health.read_response(), OK);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    drop((streams, refused));
    backend.assert_balanced();
}

/// As many connections as there may be come and go: any of them may find the last descriptor taken,
/// and however often that is, the log says so now and then.
#[test]
fn pauses_of_accepting_are_told_at_a_bounded_rate() {
    let backend = Backend::accepting();
    let settings = [("HEARTBEAT_INTERVAL_SECONDS", "1")];
    let mut gateway = Process::start("ulimit -n 16; exec \"$0\"", &backend, &settings);
    let (_stream, _) = gateway.open_stream(&backend, "/s");
    let start = Instant::now();
    for _ in 0..100 {
        let crowd: Vec<TcpStream> = (0..6)
            .map(|_| TcpStream::connect(("127.0.0.1", gateway.port())).expect("the queue"))
            .collect();
        drop(crowd);
    }
    assert_served(&mut gateway.connect());
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let log = gateway.rest_of_stderr();
    let told = log.matches("accepting pauses").count();
    let most = 20 * (start.elapsed().as_secs() as usize + 1);
    assert!(told <= most, "{told} times, not {most}");
}

/// The limit is lowered behind the gateway's back, so that its own reckoning is wrong.
#[test]
fn descriptors_that_run_out_all_the_same_pause_accepting() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let few = next_descriptor(gateway.pid()) + 4;
    let pid = gateway.pid().try_into().expect("a process id");
    let (_, hard) = Resource::NOFILE.get().expect("a limit");
    let limit = |soft: u64| rlimit::prlimit(pid, Resource::NOFILE, Some((soft, hard)), None);
    limit(few).expect("a lower limit");
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(("127.0.0.1", gateway.port())).expect("the kernel's queue"))
        .collect();
    let line = gateway.wait_log_all(&["[WARN]", "accepting pauses", "limit=descriptors"]);
    assert!(line.is_error);
    let mut waiting = gateway.get("/healthz");
    let ticks = ticks_of_a_second(gateway.pid(), &mut stream);
    assert!(ticks < IDLE_TICKS, "{ticks} ticks in a second");
    // Clients that leave make room without any limit being raised.
    drop(silent);
    assert_ok(&waiting.read_response(), OK);
    limit(hard).expect("the old limit");
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(stream.next_event_behind_heartbeats(), "data: x\n\n");
    let (other, other_token) = open_stream(&gateway, &backend, "/other");
    drop(other);
    assert_eq!(
        backend.next_disconnect_of(&other_token).reason(),
        "client_closed"
    );
    assert_ok(&send_close(&gateway, &token), OK);
    backend.assert_balanced();
}

/// No descriptor for the connection to the backend: the client is told at once, and later ones
/// are served.
#[test]
fn a_callback_without_a_descriptor_fails_alone() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    assert_served(&mut client);
    let none = next_descriptor(gateway.pid());
    let pid = gateway.pid().try_into().expect("a process id");
    let (_, hard) = Resource::NOFILE.get().expect("a limit");
    let limit = |soft: u64| rlimit::prlimit(pid, Resource::NOFILE, Some((soft, hard)), None);
    limit(none).expect("a lower limit");
    client.get("/a");
    assert_error(&client.read_response(), 503, "BACKEND_UNAVAILABLE");
    gateway.wait_log_all(&["[ERROR]", "connect callback", "token=", "error="]);
    limit(hard).expect("the old limit");
    client.get("/b");
    assert_eq!(client.read_head().status, 200);
    client.reset();
    backend.assert_balanced();
}

/// Every descriptor that a life of connections took is given back.
#[test]
fn descriptors_are_given_back() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("WORKER_IDLE_SECONDS", "1")
        .start();
    let before = descriptors(gateway.pid());
    let streams: Vec<_> = (0..50)
        .map(|number| open_stream(&gateway, &backend, &format!("/{number}")))
        .collect();
    assert!(descriptors(gateway.pid()) >= before + 50);
    for (number, (client, token)) in streams.into_iter().enumerate() {
        match number % 3 {
            0 => drop(client),
            1 => client.reset(),
            _ => assert_ok(&send_close(&gateway, &token), OK),
        }
    }
    backend.assert_balanced();
    eventually("the descriptors of before", || {
        descriptors(gateway.pid()) == before
    });
}

/// Address space runs short of what clients offer: the total of held bytes is what keeps the
/// process within it.
#[test]
fn a_memory_limit_is_kept_by_the_total_of_held_bytes() {
    const ROOM: u64 = 160 << 20;
    let backend = Backend::accepting();
    // Bodies stay under way until the last one was offered, however long that takes.
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("REQUEST_TIMEOUT_SECONDS", "600")
        .env("HEARTBEAT_INTERVAL_SECONDS", "600")
        .env("NEW_CONNECTION_TIMEOUT_SECONDS", "600")
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let pid = gateway.pid().try_into().expect("a process id");
    let limit = virtual_bytes(gateway.pid()) + ROOM;
    let limits = Some((limit, limit));
    rlimit::prlimit(pid, Resource::AS, limits, None).expect("a limit");
    let mut publishers: Vec<Client> = (0..40).map(|_| gateway.connect()).collect();
    let head = "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n";
    let (most, rest) = (vec![b' '; 4_000_000], vec![b' '; 194_304]);
    for publisher in &mut publishers {
        // Who is refused in the middle may find the connection closed.
        publisher.try_send(head.as_bytes());
        publisher.try_send(&most);
        wait_until_read(gateway.port());
    }
    let mut refused = 0;
    for publisher in &mut publishers {
        publisher.try_send(&rest);
        let response = publisher.read_response();
        match response.status() {
            400 => assert_error(&response, 400, "INVALID_JSON"),
            _ => assert_error(&response, 503, "OVERLOADED"),
        }
        refused += usize::from(response.status() == 503);
    }
    // Which ones depends on how their bytes were cut, as queues have some slack. Eight bodies fit.
    assert!((32..40).contains(&refused), "{refused}");
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(stream.next_event(), "data: x\n\n");
    drop((stream, publishers));
    backend.assert_balanced();
}

fn virtual_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("its size");
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .expect("pages");
    pages * 4096
}
