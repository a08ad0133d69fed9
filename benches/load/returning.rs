//! The scenarios about clients that come again, all at once, and have missed something.
//!
//! Beside them, in the same run: as many who have missed nothing, at a gateway without history, and
//! the floor, which writes as many bytes in as many pieces.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::feed::Feed;
use crate::history::{FOR_LONG, LIMIT};
use crate::kept::{Classes, Joins};
use crate::lives::DAY;
use crate::process::Kind;
use crate::run::{Party, Run};
use crate::scenario::{Metric, Plan, Sample, Scenario};
use crate::streams::Manner;
use crate::wire::{DATA_BYTES, STREAM_HEAD};

const CHANNELS: u32 = 1_000;

/// Events that are kept.
const EVENTS: u64 = 100_000;

/// Events of each channel that were missed, with the figures' names.
const MISSED: [(u64, Names); 2] = [
    (
        10,
        Names {
            ratio: "10 missed: by connect + writing",
            cpu: "10 missed",
            plain: "10 missed: connect without history",
            bare: "10 missed: connect, no channel",
            writing: "10 missed: writing",
            peak: "10 missed: peak beyond connects'",
        },
    ),
    (
        100,
        Names {
            ratio: "100 missed: by connect + writing",
            cpu: "100 missed",
            plain: "100 missed: connect without history",
            bare: "100 missed: connect, no channel",
            writing: "100 missed: writing",
            peak: "100 missed: peak beyond connects'",
        },
    ),
];

struct Names {
    ratio: &'static str,
    cpu: &'static str,
    plain: &'static str,
    bare: &'static str,
    writing: &'static str,
    peak: &'static str,
}

/// Clients that are on their way at once: fewer than callbacks that may wait, and so many that what
/// each of them takes meanwhile would show.
const AT_ONCE: usize = 1_000;

/// From one look at the memory to the next.
const LOOK: Duration = Duration::from_millis(10);

/// How long the log may be on its way, and threads that nobody needs any more live.
const LOG_DELAY: Duration = Duration::from_millis(200);
const SETTLE: Duration = Duration::from_secs(3);

/// Of those who read nothing: the channels, and events of 1,000 bytes in each.
const DEAF: Classes = Classes {
    count: 10,
    channels_each: 1,
};
const DEAF_EVENTS: u64 = 10_000;
const DEAF_DATA: usize = 1_000;

/// What a crowd's coming has cost.
struct Crowd {
    /// Microseconds of the server for each.
    cpu: f64,
    /// Bytes that came to all of them, if they read.
    bytes: u64,
    /// The server's memory before, at most meanwhile, and at rest.
    before: u64,
    peak: u64,
    after: u64,
}

impl Crowd {
    fn growth(&self) -> f64 {
        self.peak as f64 - self.before as f64
    }
}

/// Clients in so many channels each, which have missed events in each.
pub(crate) fn returning(
    scenario: Scenario,
    kind: Kind,
    plan: &Plan,
    channels_each: u32,
) -> Outcome<Sample> {
    let mut sample = Sample::default();
    if kind == Kind::Floor {
        return Ok(sample);
    }
    let (streams, _) = scenario.size(plan);
    let classes = Classes {
        count: CHANNELS / channels_each,
        channels_each,
    };
    for (missed, names) in MISSED {
        let joins = Joins::Class(classes);
        let flags = ["--history-bytes", "268435456", FOR_LONG[0], FOR_LONG[1]];
        let party = Party::start(Kind::Gateway, plan, DAY, joins, &flags)?;
        let seen = EVENTS - missed * u64::from(CHANNELS);
        let prepare = |run: &mut Run<'_>| missed_since(run, classes, seen);
        let mut crowd_of = |party: &Party, prepare: &dyn Fn(&mut Run<'_>) -> Outcome<Manner>| {
            let mut run = party.run(streams, LIMIT)?;
            let crowd = prepare(&mut run).and_then(|manner| come(&mut run, manner));
            let crowd = crowd.map_err(|error| party.explain(error))?;
            sample.faults.add(run.close()?);
            Ok::<_, String>(crowd)
        };
        let crowd = crowd_of(&party, &prepare)?;
        let mut other = |kind, joins, manner: Manner| {
            let party = Party::start(kind, plan, DAY, joins, &[])?;
            crowd_of(&party, &|_| Ok(manner.clone()))
        };
        let plain = other(Kind::Gateway, joins, Manner::default())?;
        let bare = other(Kind::Gateway, Joins::Nothing, Manner::default())?;
        let empty = other(Kind::Floor, Joins::Nothing, Manner::default())?;
        let filler = crowd.bytes / u64::from(streams) - STREAM_HEAD.len() as u64;
        let filled = Manner {
            filler,
            seen: Some(filler.to_string()),
            ..Manner::default()
        };
        let filled = other(Kind::Floor, Joins::Nothing, filled)?;
        let writing = filled.cpu - empty.cpu;
        let kib = (crowd.growth() - plain.growth()) / 1024.0;
        sample.metrics.extend([
            Metric::new(names.ratio, "times", crowd.cpu / (plain.cpu + writing)),
            Metric::new(names.cpu, "µs", crowd.cpu),
            Metric::new(names.plain, "µs", plain.cpu),
            Metric::new(names.bare, "µs", bare.cpu),
            Metric::new(names.writing, "µs", writing),
            Metric::new(names.peak, "KiB", kib),
        ]);
    }
    Ok(sample)
}

/// Fills the history; gives how clients come that have seen so many of the events.
fn missed_since(run: &mut Run<'_>, classes: Classes, seen: u64) -> Outcome<Manner> {
    let mut feed = Feed::new(run, classes, 1, 1, DATA_BYTES)?;
    // One that nobody misses, but whose id is known.
    let before = u64::from(CHANNELS);
    feed.publish(run, before + seen)?;
    let id = feed.last_id(run)?;
    feed.publish(run, EVENTS - seen)?;
    Ok(Manner {
        classes: Some(classes),
        first: classes.each(before + seen),
        sent: classes.each(feed.events),
        seen: Some(id),
        ..Manner::default()
    })
}

/// All streams open, and get what they are to get.
fn come(run: &mut Run<'_>, manner: Manner) -> Outcome<Crowd> {
    run.load.turns_for(Duration::from_millis(300))?;
    let before = run.server.anonymous()?;
    let mut peak = before;
    let each = (manner.sent - manner.first, manner.filler);
    let is_of_history = manner.classes.is_some();
    run.load.peers.manner = manner;
    let all = run.streams as usize;
    let whole = run.load.peers.tally.events + all as u64 * each.0;
    let bytes = run.load.peers.tally.bytes;
    let whole_bytes = bytes + all as u64 * each.1;
    let meter = run.meter()?;
    let mut open = 0;
    let mut looked = Instant::now();
    while open < all
        || run.load.peers.tally.events < whole
        || run.load.peers.tally.bytes < whole_bytes
    {
        let begun = run.load.peers.streams.len();
        for number in begun..all.min(open + AT_ONCE) {
            run.load.peers.connect(number, number as u32)?;
        }
        run.load.turn(Duration::from_secs(1))?;
        open += run.load.peers.opened.len();
        if looked.elapsed() > LOOK {
            peak = peak.max(run.server.anonymous()?);
            looked = Instant::now();
        }
    }
    run.load.turns_for(LOG_DELAY)?;
    let cost = run.cost(&meter)?;
    let positions = run.load.peers.tally.positions;
    if is_of_history && positions != all as u64 {
        return Err(format!(
            "{positions} of {all} streams were told the position"
        ));
    }
    let after = run.server.anonymous()?;
    Ok(Crowd {
        cpu: cost.each(all as u64),
        bytes: run.load.peers.tally.bytes - bytes,
        before,
        peak: peak.max(after),
        after,
    })
}

/// Clients that have missed a megabyte each and read nothing, and as many plain ones.
pub(crate) fn deaf(kind: Kind, plan: &Plan) -> Outcome<Sample> {
    let mut sample = Sample::default();
    if kind == Kind::Floor {
        return Ok(sample);
    }
    let (streams, _) = Scenario::ReturningDeaf.size(plan);
    let flags = ["--history-bytes", "67108864", FOR_LONG[0], FOR_LONG[1]];
    let mut crowds = Vec::new();
    for flags in [&flags[..], &[]] {
        let party = Party::start(kind, plan, DAY, Joins::Class(DEAF), flags)?;
        let mut run = party.run(streams, LIMIT)?;
        let mut manner = Manner {
            is_deaf: true,
            ..Manner::default()
        };
        if !flags.is_empty() {
            let mut feed = Feed::new(&mut run, DEAF, 1, 1, DEAF_DATA)?;
            feed.publish(&mut run, DEAF.count.into())?;
            manner.seen = Some(feed.last_id(&run)?);
            feed.publish(&mut run, DEAF_EVENTS)?;
        }
        run.load.peers.manner = manner;
        let crowd = come_deaf(&mut run).map_err(|error| party.explain(error))?;
        crowds.push(crowd);
        sample.faults.add(run.close()?);
    }
    let [with, without] = &crowds[..] else {
        return Err("there are two crowds".to_owned());
    };
    let kib = |bytes: f64| bytes / 1024.0;
    let rest = |crowd: &Crowd| kib(crowd.after as f64 - crowd.before as f64);
    sample.metrics = vec![
        Metric::new(
            "peak beyond connects'",
            "KiB",
            kib(with.growth() - without.growth()),
        ),
        Metric::new(
            "at rest beyond connects'",
            "KiB",
            rest(with) - rest(without),
        ),
        Metric::new("peak growth", "KiB", kib(with.growth())),
        Metric::new("peak growth, no history", "KiB", kib(without.growth())),
        Metric::new("server CPU for each", "µs", with.cpu),
        Metric::new("server CPU for each, no history", "µs", without.cpu),
    ];
    Ok(sample)
}

/// All streams open, and take what their sockets have room for; the backend tells when.
fn come_deaf(run: &mut Run<'_>) -> Outcome<Crowd> {
    run.load.turns_for(Duration::from_millis(300))?;
    let before = run.server.anonymous()?;
    let backend = run.backend.ok_or("only the gateway's streams are deaf")?;
    let all = u64::from(run.streams);
    let meter = run.meter()?;
    let mut peak = before;
    let mut is_there = None;
    while is_there.is_none_or(|since: Instant| since.elapsed() < SETTLE) {
        let open = backend.accounts().connects;
        let begun = run.load.peers.streams.len();
        for number in begun..run.streams.min(open as u32 + AT_ONCE as u32) as usize {
            run.load.peers.connect(number, number as u32)?;
        }
        run.load.turn(LOOK)?;
        peak = peak.max(run.server.anonymous()?);
        if open == all && is_there.is_none() {
            is_there = Some(Instant::now());
        }
    }
    let cost = run.cost(&meter)?;
    let left = backend.accounts().disconnects;
    if left > 0 {
        return Err(format!("{left} streams were dropped"));
    }
    Ok(Crowd {
        cpu: cost.each(all),
        bytes: 0,
        before,
        peak,
        after: run.server.anonymous()?,
    })
}
