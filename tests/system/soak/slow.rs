//! Readers that are slow, that stop, and that never read.

use std::time::{Duration, Instant};

use serde_json::json;

use super::churn::{Opened, next_event, rest, try_open};
use super::world::{Count, Rng, World};
use crate::support::Client;

/// The limit of unsent bytes in this soak.
pub(crate) const MAX_UNSENT: usize = 512 * 1024;
/// Of one large event.
const EVENT: usize = 16 * 1024;
/// Of a receive buffer that holds little.
const SMALL: usize = 4096;

/// Sends numbered large events until `n` are sent or one is refused; gives the last
/// answer's status.
fn send_large(world: &World, publisher: &mut Client, token: &str, first: usize, n: usize) -> u16 {
    for at in first..first + n {
        let data = format!("{at} {}", "x".repeat(EVENT));
        let command = json!({"token": token, "event": {"data": data}});
        publisher.post(command.to_string().as_bytes());
        let status = publisher.read_response().status();
        world.count(Count::Sent);
        if status != 200 {
            return status;
        }
    }
    200
}

fn number(event: &str) -> Option<usize> {
    let (number, _) = event.strip_prefix("data: ")?.split_once(' ')?;
    number.parse().ok()
}

/// Reads all that it is sent, far behind, and is not dropped.
pub(crate) fn slow_reader(world: &World, rng: &mut Rng) {
    const BURST: usize = MAX_UNSENT * 3 / 4 / EVENT;
    let Some(Opened {
        mut client,
        token,
        present: _present,
    }) = try_open(world, "slow", Some(SMALL))
    else {
        return rest(world, rng);
    };
    let mut publisher = Client::connect(world.port);
    for round in 0..=rng.below(2) as usize {
        let first = round * BURST;
        let status = send_large(world, &mut publisher, &token, first, BURST);
        if status != 200 {
            world.report(format!("{token}: slow reader, {status}"));
            return;
        }
        for at in first..first + BURST {
            let event = next_event(&mut client);
            if number(&event) != Some(at) {
                world.report(format!("{token}: slow reader, {:?}", number(&event)));
            }
            world.count(Count::SlowRead);
            world.pause(Duration::from_millis(30));
        }
    }
    world.book.allow(&token, &["client_closed"]);
    drop(client);
    rest(world, rng);
}

/// Passes the limit of unsent bytes: the send that would is answered 500, later ones 404.
pub(crate) fn never_reader(world: &World, rng: &mut Rng) {
    let Some(Opened {
        client,
        token,
        present: _present,
    }) = try_open(world, "never", Some(SMALL))
    else {
        return rest(world, rng);
    };
    world.book.allow(&token, &["error"]);
    let mut publisher = Client::connect(world.port);
    let most = 4 * MAX_UNSENT / EVENT;
    let refused = send_large(world, &mut publisher, &token, 0, most);
    let later = send_large(world, &mut publisher, &token, most, 1);
    if (refused, later) != (500, 404) {
        world.report(format!("{token}: never-reader, {refused} and {later}"));
        return;
    }
    expect_prefix_and_reset(world, client, &token);
    world.pause(Duration::from_secs(1));
    rest(world, rng);
}

/// Leaves less than the limit unread, without any progress.
pub(crate) fn stalled_reader(world: &World, rng: &mut Rng) {
    let Some(Opened {
        client,
        token,
        present: _present,
    }) = try_open(world, "stalled", Some(SMALL))
    else {
        return rest(world, rng);
    };
    world.book.allow(&token, &["error"]);
    let mut publisher = Client::connect(world.port);
    // More than the kernel takes on both sides.
    let status = send_large(world, &mut publisher, &token, 0, MAX_UNSENT * 4 / 5 / EVENT);
    if status != 200 {
        world.report(format!("{token}: stalled reader, {status}"));
        return;
    }
    let start = Instant::now();
    loop {
        let command = json!({ "token": token }).to_string();
        publisher.post(command.as_bytes());
        let status = publisher.read_response().status();
        let is_late = start.elapsed() > Duration::from_secs(8);
        match status {
            404 => break,
            200 if !is_late => world.pause(Duration::from_millis(200)),
            _ => return world.report(format!("{token}: stalled reader, {status}")),
        }
        if !world.is_on() {
            // Leaving now is the client's doing.
            world.book.allow(&token, &["error", "client_closed"]);
            return;
        }
    }
    if start.elapsed() < Duration::from_secs(2) {
        world.report(format!("{token}: stalled for {:?} only", start.elapsed()));
    }
    expect_prefix_and_reset(world, client, &token);
}

/// What comes before the reset is what the kernel still held: more than nothing, as the connection
/// took more than a head before its reader fell behind.
fn expect_prefix_and_reset(world: &World, mut client: Client, token: &str) {
    let bytes = client.expect_reset();
    let text = String::from_utf8_lossy(&bytes);
    if !is_prefix(&text) {
        let at: Vec<_> = text.match_indices("data: ").map(|(at, _)| at).collect();
        let starts: Vec<_> = at.iter().map(|at| text.get(at + 6..at + 16)).collect();
        world.report(format!("{token}: {starts:?}"));
    }
    world.count(Count::Dropped);
}

/// Whether the events are numbered from 0 on without a gap; the last one alone may be cut.
fn is_prefix(text: &str) -> bool {
    let mut events: Vec<&str> = text.split("data: ").skip(1).collect();
    let Some(last) = events.pop() else {
        return false;
    };
    let number = events.len().to_string();
    let is_last = match last.split_once(' ') {
        Some((whole, _)) => whole == number,
        None => number.starts_with(last),
    };
    let mut earlier = events.iter().enumerate();
    is_last && earlier.all(|(at, event)| event.starts_with(&format!("{at} ")))
}

#[test]
fn a_prefix_may_be_cut_at_its_end_and_nowhere_else() {
    let events = |last| format!("head data: 0 x\n\ndata: 1 x\n\ndata: {last}");
    for last in ["", "2", "2 ", "2 x"] {
        assert!(is_prefix(&events(last)), "{last}");
    }
    for last in ["3", "20", "1 x", "2data: 3 "] {
        assert!(!is_prefix(&events(last)), "{last}");
    }
    assert!(is_prefix("data: 0"));
    assert!(!is_prefix("no event"));
}
