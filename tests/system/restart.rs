//! A restart under a crowd (contract, section 14): everybody is told a moment of his own, and comes
//! back then, so that the successor's backend is not stormed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::crowd::{need_descriptors, open_crowd, read_all};
use crate::support::process::eventually_within;
use crate::support::{Backend, Builder, Client, Gateway, Shared};

const STREAMS: usize = 5_000;
const SECONDS: usize = 10;
/// Bounds of those of one second, of whom there are 500 on average: twenty standard deviations away.
const FEWEST: usize = STREAMS / SECONDS / 4;
const MOST: usize = 2 * STREAMS / SECONDS;

/// Streams that are asked for at once: fewer than wait for a callback's worker at the most.
const AT_ONCE: usize = 500;

/// How far whoever comes back may be behind whom the backend has seen.
const UNDER_WAY: usize = 20;

/// What every stream begins with.
const FIRST_WORDS: &str = "retry: 3000\n\n";

/// For all disconnects, on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds since the first ones may come back. It stands still while somebody is late, so that a
/// host that is busy with something else bunches nobody.
#[derive(Default)]
struct Clock {
    now: AtomicU64,
    come: AtomicUsize,
    seen: AtomicUsize,
    arrivals: Shared<Vec<u64>>,
}

impl Clock {
    /// The backend is asked about somebody.
    fn see(&self) {
        let now = self.now.load(Ordering::Acquire);
        self.arrivals.change(|arrivals| arrivals.push(now));
        self.seen.fetch_add(1, Ordering::AcqRel);
    }

    fn is_late(&self) -> bool {
        let come = self.come.load(Ordering::Acquire);
        come > self.seen.load(Ordering::Acquire) + UNDER_WAY
    }
}

fn builder(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("RECONNECT_SPREAD_SECONDS", &SECONDS.to_string())
        .env("HEARTBEAT_INTERVAL_SECONDS", "86400")
        // However long the host takes.
        .env("CONNECT_TIMEOUT_SECONDS", "600")
        .env("DISCONNECT_TIMEOUT_SECONDS", "600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
}

/// What the rest of a stream tells: the milliseconds of its last words.
#[track_caller]
fn last_words(rest: &[u8]) -> u64 {
    let text = std::str::from_utf8(rest).expect("text");
    let words = text.strip_suffix("\n\n\r\n0\r\n\r\n").expect(text);
    let (_, millis) = words.split_once("\r\nretry: ").expect(text);
    millis.parse().expect(text)
}

/// How many there are of each second.
fn by_second(moments: impl IntoIterator<Item = u64>) -> [usize; SECONDS] {
    let mut numbers = [0; SECONDS];
    for moment in moments {
        numbers[(moment / 1000) as usize] += 1;
    }
    numbers
}

#[track_caller]
fn assert_spread(numbers: &[usize; SECONDS], slack: usize) {
    let expected = FEWEST - slack..=MOST + slack;
    let is_spread = numbers.iter().all(|number| expected.contains(number));
    assert!(is_spread, "{numbers:?}");
    assert_eq!(numbers.iter().sum::<usize>(), STREAMS);
}

/// Everybody comes back when he was told to, and not before; gives the streams, in that order.
fn come_back(mut told: Vec<u64>, port: u16, clock: &Clock) -> Vec<Client> {
    told.sort_unstable();
    let mut clients = Vec::new();
    let mut last = Instant::now();
    let mut now = Duration::ZERO;
    while clients.len() < told.len() {
        thread::sleep(Duration::from_millis(1));
        let passed = last.elapsed().min(Duration::from_millis(20));
        last = Instant::now();
        if clock.is_late() {
            continue;
        }
        now += passed;
        clock.now.store(now.as_millis() as u64, Ordering::Release);
        while let Some(moment) = told.get(clients.len())
            && Duration::from_millis(*moment) <= now
            && !clock.is_late()
        {
            clock.come.fetch_add(1, Ordering::AcqRel);
            let mut client = Client::connect(port);
            client.get("/again");
            clients.push(client);
        }
    }
    clients
}

#[test]
#[ignore = "takes a while"]
fn a_crowd_comes_back_over_the_whole_span() {
    need_descriptors(3 * STREAMS as u64);
    let clock = Arc::new(Clock::default());
    let seen = Arc::clone(&clock);
    let backend = Backend::with(move |callback| {
        if callback.is_connect() && callback.url() == "/again" {
            seen.see();
        }
        callback.answer(200, "");
    });
    let mut gateway = builder(&backend).start();
    let port = gateway.port();
    let mut crowd = Vec::new();
    while crowd.len() < STREAMS {
        crowd.extend(open_crowd(&backend, AT_ONCE, |_| gateway.connect()));
    }
    for (client, _) in &mut crowd {
        assert_eq!(client.next_event(), FIRST_WORDS);
    }
    gateway.signal("TERM");
    let ends = read_all(crowd.iter().map(|(client, _)| client), usize::MAX);
    let ledger = backend.ledger();
    eventually_within("all disconnects", PATIENCE, || ledger.open() == 0);
    assert!(gateway.wait_exit().success());
    assert!(ends.iter().all(|end| end.is_ended && !end.is_reset));
    let told: Vec<u64> = ends.iter().map(|end| last_words(&end.bytes)).collect();
    println!("told: {:?}", by_second(told.iter().copied()));
    assert_spread(&by_second(told.iter().copied()), 0);
    drop(crowd);
    backend.assert_balanced();

    let successor = builder(&backend).env("PORT", &port.to_string()).start();
    let mut clients = come_back(told, port, &clock);
    for client in &mut clients {
        assert_eq!(client.read_head().status, 200);
        assert_eq!(client.next_event(), FIRST_WORDS);
    }
    let arrivals = clock
        .arrivals
        .look(|arrivals| by_second(arrivals.iter().copied()));
    println!("came: {arrivals:?}");
    assert_spread(&arrivals, UNDER_WAY);
    drop(successor);
}
