//! Keep-latest in seconds: what a reader behind a slow link sees of a progress bar.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::joining;
use crate::support::crowd::Over;
use crate::support::{Client, Gateway};

/// What the link carries: 20 kB/s.
const PIECE: usize = 1000;
const PIECE_TIME: Duration = Duration::from_millis(50);

/// Between two steps of the bar, each an event of about [`STEP_BYTES`]: two and a half times what
/// the link carries.
const STEP_TIME: Duration = Duration::from_millis(20);
const STEP_BYTES: usize = 1000;

/// What a reader may be behind; the law says seconds, not what the kernel has room for.
const FRESH: Duration = Duration::from_secs(3);

/// A link that takes from the gateway what it carries, by its own clock, and no more than its
/// receive buffer in advance.
struct Link {
    /// Where the client connects.
    address: SocketAddr,
    is_over: std::sync::Arc<AtomicBool>,
}

impl Link {
    /// `receive_buffer`: `None` for what the kernel gives by itself.
    fn start(gateway: &Gateway, receive_buffer: Option<usize>) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let upstream =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        if let Some(bytes) = receive_buffer {
            // From the handshake on: later it would not narrow the window.
            upstream.set_recv_buffer_size(bytes).expect("an option");
        }
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway.port()));
        upstream.connect(&to.into()).expect("a connection");
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&is_over);
        thread::spawn(move || {
            let (down, _) = listener.accept().expect("a client");
            carry(&upstream.into(), down, &seen);
        });
        Link { address, is_over }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// The client's request at once, then the stream at its pace, until either end is gone.
fn carry(mut up: &TcpStream, mut down: TcpStream, is_over: &AtomicBool) {
    let mut room = [0; PIECE];
    let Ok(n) = down.read(&mut room) else {
        return;
    };
    if up.write_all(&room[..n]).is_err() || up.set_nonblocking(true).is_err() {
        return;
    }
    let begun = Instant::now();
    for number in 1.. {
        // This pacing is what the test is about.
        thread::sleep((begun + PIECE_TIME * number).saturating_duration_since(Instant::now()));
        if is_over.load(Ordering::Acquire) {
            return;
        }
        match up.read(&mut room) {
            Ok(0) => return,
            Ok(n) => {
                if down.write_all(&room[..n]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// How old the state is that a reader sees: when it came, and how long before that the gateway had
/// said that it was sent.
struct Ages(Vec<(Duration, Duration)>);

impl Ages {
    fn most_after(&self, from: Duration) -> Duration {
        let late = self.0.iter().filter(|(at, _)| *at >= from);
        late.map(|(_, age)| *age).max().expect("a step")
    }
}

/// So many seconds of a progress bar behind the link. A step is as old as its successor lets it be:
/// what is shown is looked at just before the next step replaces it.
fn watch(key: Option<&str>, lowat: Option<&str>, buffer: Option<usize>, time: Duration) -> Ages {
    let backend = joining();
    let mut builder = Gateway::builder().backend(&backend);
    if let Some(lowat) = lowat {
        builder = builder.env("NOTSENT_LOWAT_BYTES", lowat);
    }
    let gateway = builder.start();
    let link = Link::start(&gateway, buffer);
    let mut reader = Client::to(link.address);
    reader.get("/s?c");
    assert_eq!(reader.read_head().status, 200);
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut publisher = gateway.connect();
            for number in 0_u32.. {
                thread::sleep(
                    (begun + STEP_TIME * number).saturating_duration_since(Instant::now()),
                );
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let data = format!("{} {}", begun.elapsed().as_micros(), "x".repeat(STEP_BYTES));
                let mut command = json!({"channel": "c", "event": {"data": data}});
                if let Some(key) = key {
                    command["event"]["key"] = json!(key);
                }
                publisher.post(command.to_string().as_bytes());
                assert_eq!(publisher.read_response().status(), 200);
            }
        });
        let over = Over(&is_over);
        let mut shown = VecDeque::new();
        let mut ages = Vec::new();
        while begun.elapsed() < time {
            let event = reader.next_event_behind_heartbeats();
            let at = begun.elapsed();
            if let Some(last) = shown.pop_front() {
                ages.push((at, at - last));
            }
            let sent = event
                .strip_prefix("data: ")
                .and_then(|it| it.split(' ').next());
            let sent = sent.and_then(|it| it.parse().ok()).expect("a time");
            shown.push_back(Duration::from_micros(sent));
        }
        drop(over);
        publisher.join().expect("no panic");
        Ages(ages)
    })
}

fn print(what: &str, ages: &Ages) {
    let late: Vec<f64> = ages.0.iter().map(|(_, age)| age.as_secs_f64()).collect();
    let most = late.iter().copied().fold(0.0, f64::max);
    let last = late.last().copied().unwrap_or(0.0);
    println!(
        "{what}: {} steps seen, {most:.2} s at most, {last:.2} s at the end",
        late.len()
    );
}

/// Three links side by side: what they differ in is all that makes the difference.
#[test]
fn a_progress_bar_on_a_slow_link_is_seconds_old_at_most() {
    let time = Duration::from_secs(8);
    let small = Some(4096);
    let (keyed, plain) = thread::scope(|scope| {
        let keyed = scope.spawn(|| watch(Some("job.7.progress"), None, small, time));
        let plain = scope.spawn(|| watch(None, None, small, time));
        (
            keyed.join().expect("no panic"),
            plain.join().expect("no panic"),
        )
    });
    print("with a key", &keyed);
    print("without a key", &plain);
    assert!(keyed.most_after(Duration::ZERO) < FRESH);
    // It falls behind by three seconds in five, and would go on so.
    assert!(plain.most_after(Duration::from_secs(7)) > FRESH);
    // It sees as much as the link carries.
    assert!(
        keyed.0.len() * 2 > plain.0.len(),
        "{} {}",
        keyed.0.len(),
        plain.0.len()
    );
}

/// For whoever asks what the settings are worth: run with `--ignored --nocapture`.
#[test]
#[ignore = "figures, no law"]
fn figures_of_the_slow_link() {
    let time = Duration::from_secs(20);
    thread::scope(|scope| {
        for lowat in ["1024", "4096", "16384", "65536", "131072"] {
            for (name, buffer) in [
                ("2 KiB", Some(2048)),
                ("4 KiB", Some(4096)),
                ("default", None),
            ] {
                scope.spawn(move || {
                    let ages = watch(Some("k"), Some(lowat), buffer, time);
                    print(
                        &format!("NOTSENT_LOWAT_BYTES={lowat}, receive buffer {name}"),
                        &ages,
                    );
                });
            }
        }
    });
}
