//! Many streams, few publishers: each publisher pipelines batches of sends to the subscribers of its own
//! group, whose readers stay a while and leave in every way. A subscriber's events are numbered without a
//! gap; who asks for the end gets all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde_json::json;

use super::churn::{Opened, next_event, post, rest, try_open};
use super::world::{Count, Rng, World};
use crate::support::Client;

const GROUPS: usize = 3;
const SUBSCRIBERS: usize = 6;
/// Sends in one batch, all to random subscribers.
const BATCH: u64 = 24;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Nobody, or somebody who may be gone at any moment.
    #[default]
    Away,
    Reading,
    /// Wants the end with the next event.
    Leaving,
    /// The end is asked for.
    Ending,
}

#[derive(Default)]
struct Subscriber {
    token: String,
    mode: Mode,
    /// The next event's number.
    next: u64,
}

#[derive(Default)]
struct Group([Mutex<Subscriber>; SUBSCRIBERS]);

impl Group {
    fn subscriber(&self, at: usize) -> MutexGuard<'_, Subscriber> {
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn spawn<'s>(world: &'s Arc<World>, scope: &'s Scope<'s, '_>) {
    for _ in 0..GROUPS {
        let group = Arc::new(Group::default());
        for at in 0..SUBSCRIBERS {
            let group = Arc::clone(&group);
            world.spawn(scope, "reader", move |world, rng| {
                read(world, rng, &group, at);
                rest(world, rng);
            });
        }
        let mut client = Client::connect(world.port);
        world.spawn(scope, "publisher", move |world, rng| {
            publish(world, rng, &group, &mut client);
            let a_moment = Duration::from_millis(10) + rng.millis(30);
            world.pause(a_moment);
        });
    }
}

// ---- the publisher ----

/// One send as it was composed.
struct Sent {
    subscriber: usize,
    token: String,
    mode: Mode,
}

fn publish(world: &World, rng: &mut Rng, group: &Group, client: &mut Client) {
    let (mut requests, mut batch) = (Vec::new(), Vec::new());
    for _ in 0..rng.below(BATCH) {
        let at = rng.below(SUBSCRIBERS as u64) as usize;
        let mut subscriber = group.subscriber(at);
        if !matches!(subscriber.mode, Mode::Reading | Mode::Leaving) {
            continue;
        }
        let is_last = subscriber.mode == Mode::Leaving;
        if is_last {
            subscriber.mode = Mode::Ending;
        }
        let size = if rng.is_one_in(20) {
            4000
        } else {
            rng.below(200)
        };
        let data = format!("{} {}", subscriber.next, "é\n".repeat(size as usize / 3));
        subscriber.next += 1;
        let json = json!({"token": subscriber.token, "event": {"data": data}, "close": is_last});
        requests.extend(post(json.to_string().as_bytes()));
        batch.push(Sent {
            subscriber: at,
            token: subscriber.token.clone(),
            mode: subscriber.mode,
        });
    }
    client.send(&requests);
    for sent in batch {
        let status = client.read_response().status();
        world.count(Count::Sent);
        let subscriber = group.subscriber(sent.subscriber);
        let is_there = subscriber.token == sent.token && subscriber.mode != Mode::Away;
        if status != 200 && (is_there || sent.mode == Mode::Ending) {
            world.report(format!("{}: {status} while it was read", sent.token));
        }
        if ![200, 404, 500].contains(&status) {
            world.report(format!("{}: {status}", sent.token));
        }
    }
}

// ---- the readers ----

fn read(world: &World, rng: &mut Rng, group: &Group, at: usize) {
    let Some(Opened {
        mut client,
        token,
        present: _present,
    }) = try_open(world, "audience", None)
    else {
        return;
    };
    *group.subscriber(at) = Subscriber {
        token: token.clone(),
        mode: Mode::Reading,
        next: 0,
    };
    let ends = Instant::now() + Duration::from_millis(500) + rng.millis(8000);
    let mut expected = 0;
    // Heartbeats of one second bound the wait for the end.
    while Instant::now() < ends && world.is_on() {
        let event = client.next_event();
        if !event.starts_with(':') {
            check(world, &token, &event, expected);
            expected += 1;
        }
    }
    match rng.below(3) {
        0 => ask_for_the_end(world, group, at, client, expected),
        way => {
            group.subscriber(at).mode = Mode::Away;
            // A write may meet the leaving client first.
            world.book.allow(&token, &["client_closed", "error"]);
            if way == 1 {
                client.reset();
            }
        }
    }
}

fn check(world: &World, token: &str, event: &str, expected: u64) {
    let number = event.strip_prefix("data: ").and_then(|rest| {
        let (number, _) = rest.split_once(' ')?;
        number.parse::<u64>().ok()
    });
    if number != Some(expected) {
        world.report(format!("{token}: {event:?}, not number {expected}"));
    }
    world.count(Count::Read);
}

/// Everything that was sent comes, then the last chunk and the FIN.
fn ask_for_the_end(world: &World, group: &Group, at: usize, mut client: Client, mut expected: u64) {
    let token = {
        let mut subscriber = group.subscriber(at);
        subscriber.mode = Mode::Leaving;
        subscriber.token.clone()
    };
    loop {
        if !world.is_on() && group.subscriber(at).mode == Mode::Leaving {
            // The publisher may be gone before it saw the wish.
            world
                .book
                .allow(&token, &["client_closed", "server_closed", "error"]);
            group.subscriber(at).mode = Mode::Away;
            return;
        }
        let chunk = client.next_chunk();
        if chunk.is_empty() {
            client.expect_eof();
            break;
        }
        let event = String::from_utf8(chunk).expect("UTF-8");
        if !event.starts_with(':') {
            check(world, &token, &event, expected);
            expected += 1;
        }
    }
    let mut subscriber = group.subscriber(at);
    if subscriber.next != expected {
        world.report(format!("{token}: {expected} of {} events", subscriber.next));
    }
    subscriber.mode = Mode::Away;
    world.book.allow(&token, &["server_closed"]);
}

/// The next event that is no heartbeat is a nameless one with this data.
pub(crate) fn expect_data(client: &mut Client, data: &str) {
    assert_eq!(next_event(client), format!("data: {data}\n\n"));
}
