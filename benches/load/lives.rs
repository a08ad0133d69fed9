//! The scenarios about streams that open, stay and leave.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::load::Load;
use crate::process::{Kind, Server};
use crate::run::Run;
use crate::scenario::{Metric, Plan};
use crate::sends::PUBLISHERS;

/// How long the server's memory is left alone before it is read: longer than a callback worker
/// lives without work.
const SETTLE: Duration = Duration::from_secs(3);

/// From the last client's leaving to the last look at the memory.
const AFTERMATH: Duration = Duration::from_secs(10);

/// How long a log line may be on its way to the pipe; its cost belongs to what it tells.
const LOG_DELAY: Duration = Duration::from_millis(200);

/// A heartbeat interval that no run lives to see.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Events that a stream of the scenario `churn` gets before it leaves.
const EVENTS_OF_A_LIFE: u64 = 4;

/// Each so-many-th stream of the scenario `churn` leaves as soon as it has asked.
const HASTY: u32 = 8;

/// Starts in one run of the scenario `start`.
const STARTS: usize = 20;

/// From the program's start until it says that it is ready, or, for the floor, until it listens.
pub(crate) fn start(kind: Kind, plan: &Plan) -> Outcome<Vec<Metric>> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = Server::start(kind, plan.cores, DAY, Some("http://127.0.0.1:9/"), &[])?;
        if kind == Kind::Gateway {
            server.assert_ready()?;
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let median = times[STARTS / 2].as_secs_f64() * 1e3;
    let slowest = times[STARTS - 1].as_secs_f64() * 1e3;
    Ok(vec![
        Metric::new("start to ready", "ms", median),
        Metric::new("slowest of 20", "ms", slowest),
    ])
}

/// Opens all streams; gives the server's memory before and after, in bytes.
fn fill(run: &mut Run<'_>) -> Outcome<(u64, u64)> {
    run.load.turns_for(Duration::from_millis(300))?;
    let empty = run.server.memory()?;
    run.load.open(run.streams)?;
    run.load.turns_for(SETTLE)?;
    Ok((empty, run.server.memory()?))
}

/// The server's memory for each of many streams.
pub(crate) fn memory_per_stream(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    let (empty, full) = fill(run)?;
    let bytes = full.saturating_sub(empty) as f64 / f64::from(run.streams);
    Ok(vec![Metric::new("memory per stream", "B", bytes)])
}

/// Many streams with nothing but heartbeats, and then none.
pub(crate) fn idle(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    let (empty, full) = fill(run)?;

    let meter = run.meter()?;
    let before = run.load.peers.tally.heartbeats;
    run.load.turns_for(run.duration)?;
    let cost = run.cost(&meter)?;
    let heartbeats = run.load.peers.tally.heartbeats - before;

    let count = u64::from(run.streams);
    let mut metrics = vec![
        Metric::new(
            "memory per stream",
            "B",
            full.saturating_sub(empty) as f64 / count as f64,
        ),
        Metric::new("memory without streams", "KiB", empty as f64 / 1024.0),
        Metric::new("heartbeats", "1/s", cost.rate(heartbeats)),
        Metric::new("server CPU per heartbeat", "µs", cost.each(heartbeats)),
    ];
    metrics.extend(all_leave(run, count)?);
    let left = run.server.memory()? as f64 - empty as f64;
    metrics.push(Metric::new("memory kept 10 s after", "KiB", left / 1024.0));
    Ok(metrics)
}

/// All at once. Leaves [`AFTERMATH`] behind.
fn all_leave(run: &mut Run<'_>, count: u64) -> Outcome<Vec<Metric>> {
    let meter = run.meter()?;
    let begun = Instant::now();
    run.load.peers.streams.clear();
    let mut metrics = Vec::new();
    if let Some(backend) = run.backend {
        while backend.accounts().disconnects < count {
            run.load.turn(Duration::from_millis(10))?;
        }
        let last = backend.accounts().last;
        let took = last.map_or(Duration::ZERO, |last| last.duration_since(begun));
        metrics.push(Metric::new(
            "until every disconnect arrived",
            "ms",
            took.as_secs_f64() * 1e3,
        ));
    }
    run.load.turns_for(Duration::from_secs(1))?;
    let cost = run.cost(&meter)?;
    metrics.push(Metric::new("server CPU per leave", "µs", cost.each(count)));
    run.load
        .turns_for(AFTERMATH.saturating_sub(begun.elapsed()))?;
    Ok(metrics)
}

/// Streams opened as fast as they can be, some under way at once.
pub(crate) fn connect(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    let meter = run.meter()?;
    run.load.open(run.streams)?;
    let opening = run.cost(&meter)?;
    run.load.turns_for(LOG_DELAY)?;
    let cost = run.cost(&meter)?;
    let count = u64::from(run.streams);
    let mut metrics = vec![
        Metric::new("server CPU per connect", "µs", cost.each(count)),
        Metric::new("connects", "1/s", opening.rate(count)),
    ];
    metrics.extend(opening.busy());
    Ok(metrics)
}

/// Streams that come and go, with events in between.
pub(crate) fn churn(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    let slots = run.streams as usize;
    run.load.peers.add_publishers(PUBLISHERS)?;
    let meter = run.meter()?;
    let mut number = 0;
    for slot in 0..slots {
        run.load.peers.connect(slot, number)?;
        number += 1;
    }
    let until = Instant::now() + run.duration;
    while Instant::now() < until {
        run.load.turn(Duration::from_millis(50))?;
        for slot in lives_over(&mut run.load)? {
            run.load.peers.connect(slot, number)?;
            number += 1;
        }
    }
    let cost = run.cost(&meter)?;
    let lives = u64::from(number) - slots as u64;
    finish(run)?;
    let mut metrics = vec![
        Metric::new("server CPU per life", "µs", cost.each(lives)),
        Metric::new("lives", "1/s", cost.rate(lives)),
    ];
    metrics.extend(cost.busy());
    Ok(metrics)
}

/// Lets those who are open have their events, and gives the slots of those who leave now.
fn lives_over(load: &mut Load<'_>) -> Outcome<Vec<usize>> {
    let opened = std::mem::take(&mut load.peers.opened);
    for &slot in &opened {
        let publisher = slot % PUBLISHERS;
        for _ in 0..EVENTS_OF_A_LIFE {
            load.peers.push(publisher, slot, 0);
        }
        load.peers.publishers[publisher].flush()?;
    }
    load.peers.opened = opened;
    let peers = &load.peers;
    let is_hasty = |slot: &usize| peers.streams[*slot].number % HASTY == HASTY - 1;
    let is_done = |slot: &usize| peers.streams[*slot].received >= EVENTS_OF_A_LIFE;
    let hasty = peers.asked.iter().copied().filter(is_hasty);
    let done = peers.reached.iter().copied().filter(is_done);
    let mut over: Vec<usize> = hasty.chain(done).collect();
    over.sort_unstable();
    over.dedup();
    Ok(over)
}

/// Lets the last ones live their lives to the end.
fn finish(run: &mut Run<'_>) -> Outcome<()> {
    let is_over = |load: &Load<'_>| {
        let mut streams = load.peers.streams.iter();
        streams.all(|stream| stream.received >= EVENTS_OF_A_LIFE)
    };
    while !is_over(&run.load) {
        run.load.turn(Duration::from_millis(50))?;
        lives_over(&mut run.load)?;
    }
    Ok(())
}
