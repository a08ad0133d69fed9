//! The scenarios about what a history costs: processor time of each send, and memory.
//!
//! What is compared with it is the gateway itself, without history or before it; the floor keeps
//! nothing.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::feed::Feed;
use crate::kept::{self, Classes, Joins};
use crate::lives::DAY;
use crate::process::Kind;
use crate::report::median;
use crate::run::{Party, Run};
use crate::scenario::{Metric, Plan, Sample};
use crate::wire::DATA_BYTES;

/// Of time nothing is forgotten.
pub(crate) const FOR_LONG: [&str; 2] = ["--history-seconds", "86400"];

/// Longer than any of these takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// Of the scenario `history_publish`: publishers, each with a channel of its own.
const CHANNELS: Classes = Classes {
    count: 4,
    channels_each: 1,
};

/// Bytes of its history, and events of 100 bytes that fill it.
const KEPT: &str = "67108864";
const FILLING: u64 = 340_000;

/// Events of one round while it fills, and members of each channel and events of one round later,
/// with the figures' names: kept, not kept, the one by the other.
const FILLING_ROUND: u64 = 20_000;
const FILLING_NAMES: [&str; 3] = ["while it fills", "the same, off", "the same, on / off"];
const ROUNDS: [(u32, u64, [&str; 3]); 3] = [
    (
        0,
        20_000,
        ["nobody there", "nobody, off", "nobody, on / off"],
    ),
    (
        1,
        8_000,
        ["1 member", "1 member, off", "1 member, on / off"],
    ),
    (
        100,
        400,
        ["100 members", "100 members, off", "100 members, on / off"],
    ),
];

/// Of the scenario `history_memory`.
const MANY_CHANNELS: Classes = Classes {
    count: 1_000,
    channels_each: 1,
};
const EVENTS: u64 = 200_000;
/// Bytes of data, channels of each event, the figure's name.
const MEMORY: [(usize, usize, &str); 4] = [
    (DATA_BYTES, 1, "100 bytes, 1 channel: beyond them"),
    (1_000, 1, "1,000 bytes, 1 channel: beyond them"),
    (DATA_BYTES, 4, "100 bytes, 4 channels: beyond them"),
    (1_000, 4, "1,000 bytes, 4 channels: beyond them"),
];
const BOUND: u64 = 16 << 20;
const BOUNDED: [(usize, &str); 2] = [
    (DATA_BYTES, "16 MiB at most, of 100 bytes"),
    (1_000, "16 MiB at most, of 1,000 bytes"),
];

/// The server's processor time of a send, with history and without, in turns.
pub(crate) fn publish(kind: Kind, plan: &Plan) -> Outcome<Sample> {
    let mut sample = Sample::default();
    if kind == Kind::Floor {
        return Ok(sample);
    }
    for (members, events, names) in ROUNDS {
        let start = |flags: &[&str]| Party::start(kind, plan, DAY, Joins::Class(CHANNELS), flags);
        let with = start(&["--history-bytes", KEPT, FOR_LONG[0], FOR_LONG[1]])?;
        let without = start(&[])?;
        let mut both = [Side::new(&with)?, Side::new(&without)?];
        let filling = rounds(&mut both, FILLING_ROUND, |events, _| events < FILLING);
        let filling = filling.map_err(|error| with.explain(error))?;
        if members == 0 {
            sample.metrics.extend(compared(FILLING_NAMES, &filling));
        }
        for side in &mut both {
            side.open(members)?;
        }
        let Plan { seconds, .. } = plan;
        let time = Duration::from_secs(seconds.unwrap_or(10));
        let costs = rounds(&mut both, events, |_, spent| spent < time);
        let costs = costs.map_err(|error| with.explain(error))?;
        sample.metrics.extend(compared(names, &costs));
        for side in &mut both {
            sample.faults.add(side.run.close()?);
        }
    }
    Ok(sample)
}

/// A gateway and its publishers.
struct Side<'a> {
    run: Run<'a>,
    feed: Feed,
}

impl Side<'_> {
    fn new(party: &Party) -> Outcome<Side<'_>> {
        let mut run = party.run(0, LIMIT)?;
        let publishers = CHANNELS.count as usize;
        let feed = Feed::new(&mut run, CHANNELS, publishers, 1, DATA_BYTES)?;
        Ok(Side { run, feed })
    }

    /// So many join each channel.
    fn open(&mut self, members: u32) -> Outcome<()> {
        let manner = &mut self.run.load.peers.manner;
        manner.classes = Some(CHANNELS);
        manner.first = CHANNELS.each(self.feed.events);
        manner.sent = manner.first;
        self.run.load.open(members * CHANNELS.count)
    }

    /// Microseconds of each of so many sends.
    fn cost(&mut self, events: u64) -> Outcome<f64> {
        let meter = self.run.meter()?;
        self.feed.publish(&mut self.run, events)?;
        Ok(self.run.cost(&meter)?.each(events))
    }
}

/// What sends cost on both sides: in turns, each first in its turn, as long as `goes_on` says of the
/// events so far and of the time.
fn rounds(
    both: &mut [Side<'_>; 2],
    events: u64,
    goes_on: impl Fn(u64, Duration) -> bool,
) -> Outcome<[Vec<f64>; 2]> {
    let mut costs = [Vec::new(), Vec::new()];
    let begun = Instant::now();
    while goes_on(both[0].feed.events, begun.elapsed()) {
        let first = costs[0].len() % 2;
        for at in [first, 1 - first] {
            costs[at].push(both[at].cost(events)?);
        }
    }
    Ok(costs)
}

fn compared(names: [&'static str; 3], [with, without]: &[Vec<f64>; 2]) -> [Metric; 3] {
    let middle = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        median(&values).unwrap_or_default()
    };
    let (with, without) = (middle(with), middle(without));
    let ratio = with / without;
    [
        Metric::new(names[0], "µs", with),
        Metric::new(names[1], "µs", without),
        Metric::new(names[2], "times", ratio),
    ]
}

/// What the memory of an event is beyond its bytes on a stream, and that of a history that is full.
pub(crate) fn memory(kind: Kind, plan: &Plan) -> Outcome<Sample> {
    let mut sample = Sample::default();
    if kind == Kind::Floor {
        return Ok(sample);
    }
    for (data, channels, name) in MEMORY {
        let (growth, chunk) = growth(plan, 4 << 30, EVENTS, channels, data)?;
        let each = growth / EVENTS as f64 - chunk as f64;
        sample.metrics.push(Metric::new(name, "B", each));
    }
    for (data, name) in BOUNDED {
        let events = 10 * BOUND / data as u64;
        let (growth, _) = growth(plan, BOUND, events, 1, data)?;
        let mib = growth / f64::from(1 << 20);
        sample.metrics.push(Metric::new(name, "MiB", mib));
    }
    Ok(sample)
}

/// The growth of the gateway's memory by so many events, and the bytes of each on a stream.
fn growth(
    plan: &Plan,
    kept: u64,
    events: u64,
    channels: usize,
    data: usize,
) -> Outcome<(f64, usize)> {
    let kept = kept.to_string();
    let flags = ["--history-bytes", &kept, FOR_LONG[0], FOR_LONG[1]];
    let party = Party::start(Kind::Gateway, plan, DAY, Joins::Nothing, &flags)?;
    let mut run = party.run(0, LIMIT)?;
    let mut feed = Feed::new(&mut run, MANY_CHANNELS, 1, channels, data)?;
    run.load.turns_for(Duration::from_millis(300))?;
    let before = run.server.anonymous()?;
    let whole = events.next_multiple_of(MANY_CHANNELS.count.into());
    let published = feed.publish(&mut run, whole);
    published.map_err(|error| party.explain(error))?;
    run.load.turns_for(Duration::from_millis(300))?;
    let grown = run.server.anonymous()? as f64 - before as f64;
    let id = feed.last_id(&run)?;
    run.close()?;
    Ok((grown, kept::chunk_bytes(id.len(), data)))
}
