//! A restart of the gateway, as real clients live through it (contract, section 14): they come back
//! when the last words of their streams said, and forget that at once.

use std::time::Duration;

use serde_json::json;

use crate::door::{Door, Visit};
use crate::program::Program;
use crate::stage::{begin, url};
use crate::support::{Backend, Builder, Gateway};
use crate::{browser, tools};

/// Streams of one client; of a browser all that it opens to one origin, but one.
const STREAMS: usize = 5;

/// What every stream begins with, and how long clients wait by it.
const FIRST_WORDS: &str = "\r\n\r\nd\r\nretry: 3000\n\n\r\n";
const BY_FIRST_WORDS: Duration = Duration::from_millis(3_000);

/// Longer than that, by more than any host takes.
const CERTAINLY_LONGER: Duration = Duration::from_secs(13);

/// What a client's own clock may be off.
const SLACK: Duration = Duration::from_millis(20);

const PATH: &str = "/events";

/// Starts a client of all the streams behind this port.
type Start = fn(u16) -> Program;

fn orders(port: u16) -> serde_json::Value {
    json!({"url": url(port, PATH), "names": [], "tabs": STREAMS})
}

fn chromium(port: u16) -> Program {
    let mut command = tools::node("tests/clients/programs/page.js");
    begin(command.env("CHROMIUM", browser::chromium()), &orders(port))
}

fn node(port: u16) -> Program {
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    begin(&mut command, &orders(port))
}

fn spreading(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("RECONNECT_SPREAD_SECONDS", "20")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
}

/// What a stream's last words said.
#[track_caller]
fn told(stream: &str) -> Duration {
    let words = stream.strip_suffix("\n\n\r\n0\r\n\r\n").expect(stream);
    let (_, millis) = words.rsplit_once("retry: ").expect(stream);
    Duration::from_millis(millis.parse().expect(stream))
}

fn live_through_a_restart(start: Start) {
    let backend = Backend::with(|callback| {
        let is_other = callback.is_connect() && callback.url() != PATH;
        callback.answer(if is_other { 404 } else { 200 }, "");
    });
    let door = Door::new();
    let mut gateway = spreading(&backend).start();
    let port = gateway.port();
    door.open(port);
    let mut program = start(door.port());
    // As many visits as this make the streams of one gateway.
    let have_opened = |time: usize| {
        let numbers = time * STREAMS..(time + 1) * STREAMS;
        let opened = |it: &Visit| it.got.contains(FIRST_WORDS);
        let visits = numbers.map(|number| door.wait_visit(PATH, number, opened));
        visits.collect::<Vec<Visit>>()
    };
    have_opened(0);

    door.close();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let again = || spreading(&backend).env("PORT", &port.to_string());
    let mut successor = again().start();
    door.open(port);
    let second = have_opened(1);
    let first = have_opened(0);
    let mut told: Vec<Duration> = first.iter().map(|it| told(&it.got)).collect();
    told.sort_unstable();
    let waits = waited(&first, &second);
    println!("told {told:?}, waited {waits:?}");
    // Nobody is early: whoever comes as the third has been told the third moment, or an earlier one.
    for (wait, told) in waits.iter().zip(&told) {
        assert!(*wait + SLACK >= *told, "{waits:?} of {told:?}");
    }

    // It ends without a word.
    door.close();
    successor.signal("KILL");
    successor.wait_exit();
    let _last = again().start();
    door.open(port);
    let third = have_opened(2);
    let waits = waited(&have_opened(1), &third);
    println!("waited {waits:?}");
    assert!(waits[0] + SLACK >= BY_FIRST_WORDS, "{waits:?}");
    let longest = told[STREAMS - 1];
    let has_forgotten = longest < CERTAINLY_LONGER || waits[STREAMS - 1] < longest;
    assert!(has_forgotten, "{waits:?} of {longest:?}");
    program.say("close");
    assert!(program.wait_exit().success());
}

/// How long it took each of them to come again, the shortest time first: at most, as all count from
/// the first end.
fn waited(ended: &[Visit], came: &[Visit]) -> Vec<Duration> {
    let ends = ended.iter().map(|it| it.ended.expect("an end"));
    let first = ends.min().expect("streams");
    let mut waits: Vec<Duration> = came.iter().map(|it| it.came - first).collect();
    waits.sort_unstable();
    waits
}

#[test]
#[ignore = "needs Node and Chromium"]
fn chromium_comes_back_when_it_was_told_to_and_forgets_it() {
    let _alone = browser::alone();
    live_through_a_restart(chromium);
}

#[test]
#[ignore = "needs Node"]
fn node_comes_back_when_it_was_told_to_and_forgets_it() {
    live_through_a_restart(node);
}
