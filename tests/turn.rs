//! One turn of the loop ends, however much there is to read (contract, section 6): what many
//! publishers pipeline at once does not hold up who comes behind them, nor the clock.
//!
//! A process of its own: it measures what a crowd does to those beside it, and nothing else may be at
//! work. Beside another test, however idle, a health check was seen to wait for the whole crowd.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::crowd::{Over, read_all};
use crate::support::{Backend, Client, Gateway, assert_served, open_stream, send_request};

const PUBLISHERS: usize = 300;

/// Bytes of requests that each of them has sent before it reads an answer.
const PIPELINED: usize = 64 * 1024;

/// For a health check, and beyond a heartbeat's moment. Everything together takes several times as
/// long.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn what_many_pipeline_holds_up_nobody() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let request = send_request(&format!(r#"{{"token":"{token}"}}"#));
    let requests = PIPELINED / request.len();
    let mut publishers: Vec<Client> = (0..PUBLISHERS).map(|_| gateway.connect()).collect();
    publishers[0].send(&request);
    let answer = publishers[0].read_response().text();
    let (wanted, is_over) = (requests * answer.len(), AtomicBool::new(false));
    let begun = Instant::now();
    for publisher in &mut publishers {
        publisher.send(request.repeat(requests));
    }
    let ((slowest, checks), all) = thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(&publishers, wanted));
        let beating = scope.spawn(|| longest_silence(&mut stream, &is_over));
        let over = Over(&is_over);
        let found = check_until(&gateway, || reading.is_finished());
        let all = begun.elapsed();
        drop(over);
        for read in reading.join().expect("no panic") {
            assert_eq!(read.bytes.len(), wanted);
            let text = String::from_utf8(read.bytes).expect("ASCII");
            assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), requests);
        }
        let silence = beating.join().expect("no panic");
        println!("{silence:.1?} between two heartbeats at most");
        assert!(silence < Duration::from_secs(1) + SOON, "{silence:?}");
        (found, all)
    });
    println!("{slowest:.1?} at most in {checks} checks, {all:.1?} in all");
    assert!(slowest < SOON, "{slowest:?}");
    // Who comes behind them waits for a part of what each has sent.
    assert!(slowest < all / 2, "{slowest:?} of {all:?}");
}

/// One health check after another; the longest time that one took, and how many there were.
fn check_until(gateway: &Gateway, is_over: impl Fn() -> bool) -> (Duration, usize) {
    let (mut slowest, mut checks) = (Duration::ZERO, 0);
    while !is_over() {
        let begun = Instant::now();
        assert_served(&mut gateway.connect());
        slowest = slowest.max(begun.elapsed());
        checks += 1;
    }
    (slowest, checks)
}

/// Reads heartbeats; the longest time that one came behind the one before.
fn longest_silence(stream: &mut Client, is_over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    assert_eq!(stream.next_event(), ": heartbeat\n\n");
    while !is_over.load(Ordering::Acquire) {
        let begun = Instant::now();
        assert_eq!(stream.next_event(), ": heartbeat\n\n");
        longest = longest.max(begun.elapsed());
    }
    longest
}
