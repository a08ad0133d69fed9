//! What strangers make the log say (contract, sections 6 and 9): a few lines a second, however much
//! they send, and a count of the others that is exact.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::crowd::Over;
use crate::support::process::eventually;
use crate::support::{Builder, Gateway, send_request};

/// Requests of one flood, on one connection.
const REQUESTS: usize = 100_000;

/// Lines of one kind that a flood may leave in its first second, and in each one behind that.
const FIRST: usize = 110;
const EACH: usize = 10;

/// What the log says of a flood: lines of its own, and how many it counts in others.
#[derive(Debug, Default)]
struct Told {
    lines: usize,
    notices: usize,
    counted: usize,
}

impl Told {
    /// `of`: what a line of its own holds; `limit`: the name under which the others are counted.
    fn by(gateway: &Gateway, of: &[&str], limit: &str) -> Told {
        let mut told = Told::default();
        let notice = format!("limit reached limit={limit} more=");
        for line in gateway.lines() {
            if let Some((_, number)) = line.text.split_once(&notice) {
                told.notices += 1;
                told.counted += number.parse::<usize>().expect("a number");
            } else if of.iter().any(|part| line.text.contains(part)) {
                told.lines += 1;
            }
        }
        told
    }
}

/// Waits until each of so many lines was written or counted, and holds that those which were
/// written are few.
#[track_caller]
fn assert_few(
    gateway: &Gateway,
    of: &[&str],
    limit: &str,
    all: usize,
    first: usize,
    begun: Instant,
) {
    let mut told = Told::default();
    eventually("the count of all", || {
        told = Told::by(gateway, of, limit);
        assert!(told.lines + told.counted <= all, "{told:?}");
        told.lines + told.counted == all
    });
    // Those of the second in which it began and of the one in which it ended come on top.
    let seconds = begun.elapsed().as_secs() as usize + 2;
    println!("{told:?} within {seconds} s");
    assert!(told.lines <= first + EACH * seconds, "{told:?}");
    assert!((1..=seconds).contains(&told.notices), "{told:?}");
}

/// Pipelines a request again and again; every answer has this status.
fn flood(gateway: &Gateway, request: &str, status: u16) {
    let mut client = gateway.connect();
    client.send(request);
    let one = client.read_response();
    assert_eq!(one.status(), status, "{}", one.text());
    let length = one.text().len();
    let mut socket = client.stream().try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(move || {
            let hundred = request.repeat(100);
            for sent in (1..REQUESTS).step_by(100) {
                let most = (REQUESTS - sent).min(100) * request.len();
                socket
                    .write_all(&hundred.as_bytes()[..most])
                    .expect("a write");
            }
        });
        for _ in 1..REQUESTS {
            let answer = client.read_exact(length);
            assert!(answer.starts_with(&one.head.raw[..12]), "another status");
        }
    });
}

#[track_caller]
fn assert_flood_is_few_lines(builder: Builder, request: &str, status: u16, of: &str, limit: &str) {
    let gateway = builder.start();
    let begun = Instant::now();
    flood(&gateway, request, status);
    assert_few(&gateway, &[of], limit, REQUESTS, FIRST, begun);
}

#[test]
fn sends_that_are_no_commands() {
    let of = "/internal/send refused code=INVALID_TOKEN_MISSING";
    let builder = Gateway::builder();
    assert_flood_is_few_lines(builder, &send_request("{}"), 400, of, "refused_sends");
}

#[test]
fn sends_to_tokens_that_nobody_knows() {
    let request = send_request(r#"{"token":"nobody"}"#);
    let of = "/internal/send unknown token token=nobody";
    let builder = Gateway::builder();
    assert_flood_is_few_lines(builder, &request, 404, of, "unknown_tokens");
}

#[test]
fn streams_that_nobody_can_decide_on() {
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let of = "CALLBACK_URL is not set url=/";
    assert_flood_is_few_lines(Gateway::builder(), request, 503, of, "CALLBACK_URL");
}

/// Not only when the flood is over, as it may last for days.
#[test]
fn the_count_is_told_while_the_flood_goes_on() {
    let gateway = Gateway::builder().start();
    let client = gateway.connect();
    let is_told = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let many = send_request("{}").repeat(1000);
            while !is_told.load(Ordering::Acquire) {
                client.stream().write_all(many.as_bytes()).expect("a write");
            }
            client.shutdown_write();
        });
        scope.spawn(|| {
            let mut room = [0; 64 * 1024];
            while client.stream().read(&mut room).expect("answers") > 0 {}
        });
        let _told = Over(&is_told);
        gateway.wait_log_all(&["[WARN]", "limit=refused_sends more="]);
    });
}
