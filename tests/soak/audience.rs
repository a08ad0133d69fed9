//! Many streams, few publishers: each publisher pipelines batches of sends to the seats of its own
//! hall, whose readers stay a while and leave in every way. A seat's events are numbered without a
//! gap; who asks for the end gets all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde_json::json;

use super::churn::{Opened, next_event, post, rest, try_open};
use super::support::Client;
use super::world::{Count, Rng, World};

const HALLS: usize = 3;
const SEATS: usize = 6;
/// Sends in one batch, all to random seats.
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
struct Seat {
    token: String,
    mode: Mode,
    /// The next event's number.
    next: u64,
}

#[derive(Default)]
struct Hall([Mutex<Seat>; SEATS]);

impl Hall {
    fn seat(&self, at: usize) -> MutexGuard<'_, Seat> {
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn spawn<'s>(world: &'s Arc<World>, scope: &'s Scope<'s, '_>) {
    for _ in 0..HALLS {
        let hall = Arc::new(Hall::default());
        for at in 0..SEATS {
            let hall = Arc::clone(&hall);
            world.spawn(scope, "reader", move |world, rng| {
                read(world, rng, &hall, at);
                rest(world, rng);
            });
        }
        let mut client = Client::connect(world.port);
        world.spawn(scope, "publisher", move |world, rng| {
            publish(world, rng, &hall, &mut client);
            let a_moment = Duration::from_millis(10) + rng.millis(30);
            world.pause(a_moment);
        });
    }
}

// ---- the publisher ----

/// One send as it was composed.
struct Sent {
    seat: usize,
    token: String,
    mode: Mode,
}

fn publish(world: &World, rng: &mut Rng, hall: &Hall, client: &mut Client) {
    let (mut requests, mut batch) = (Vec::new(), Vec::new());
    for _ in 0..rng.below(BATCH) {
        let at = rng.below(SEATS as u64) as usize;
        let mut seat = hall.seat(at);
        if !matches!(seat.mode, Mode::Reading | Mode::Leaving) {
            continue;
        }
        let is_last = seat.mode == Mode::Leaving;
        if is_last {
            seat.mode = Mode::Ending;
        }
        let size = if rng.is_one_in(20) {
            4000
        } else {
            rng.below(200)
        };
        let data = format!("{} {}", seat.next, "é\n".repeat(size as usize / 3));
        seat.next += 1;
        let json = json!({"token": seat.token, "event": {"data": data}, "close": is_last});
        requests.extend(post(json.to_string().as_bytes()));
        batch.push(Sent {
            seat: at,
            token: seat.token.clone(),
            mode: seat.mode,
        });
    }
    client.send(&requests);
    for sent in batch {
        let status = client.read_response().status();
        world.count(Count::Sent);
        let seat = hall.seat(sent.seat);
        let is_there = seat.token == sent.token && seat.mode != Mode::Away;
        if status != 200 && (is_there || sent.mode == Mode::Ending) {
            world.fault(format!("{}: {status} while it was read", sent.token));
        }
        if ![200, 404, 500].contains(&status) {
            world.fault(format!("{}: {status}", sent.token));
        }
    }
}

// ---- the readers ----

fn read(world: &World, rng: &mut Rng, hall: &Hall, at: usize) {
    let Some(Opened {
        mut client,
        token,
        present: _present,
    }) = try_open(world, "audience", None)
    else {
        return;
    };
    *hall.seat(at) = Seat {
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
        0 => ask_for_the_end(world, hall, at, client, expected),
        way => {
            hall.seat(at).mode = Mode::Away;
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
        world.fault(format!("{token}: {event:?}, not number {expected}"));
    }
    world.count(Count::Read);
}

/// Everything that was sent comes, then the last chunk and the FIN.
fn ask_for_the_end(world: &World, hall: &Hall, at: usize, mut client: Client, mut expected: u64) {
    let token = {
        let mut seat = hall.seat(at);
        seat.mode = Mode::Leaving;
        seat.token.clone()
    };
    loop {
        if !world.is_on() && hall.seat(at).mode == Mode::Leaving {
            // The publisher may be gone before it saw the wish.
            world
                .book
                .allow(&token, &["client_closed", "server_closed", "error"]);
            hall.seat(at).mode = Mode::Away;
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
    let mut seat = hall.seat(at);
    if seat.next != expected {
        world.fault(format!("{token}: {expected} of {} events", seat.next));
    }
    seat.mode = Mode::Away;
    world.book.allow(&token, &["server_closed"]);
}

/// Opens a stream and reads it once, for those who need an event or two.
pub(crate) fn expect_data(client: &mut Client, data: &str) {
    assert_eq!(next_event(client), format!("data: {data}\n\n"));
}
