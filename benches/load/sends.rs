//! The scenarios about events on open streams.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::load::Load;
use crate::run::Run;
use crate::scenario::Metric;

/// Publishers of the scenarios that have many.
pub(crate) const PUBLISHERS: usize = 16;

/// Events in a second of the scenario `rate`.
const RATE: u64 = 5_000;

/// From the first send to the measured interval: caches, buffers and tables are warm then.
const WARM_UP: Duration = Duration::from_millis(300);

/// Whose turn it is: every stream has one publisher, since only the events of one connection have
/// an order.
struct Rota {
    next: Vec<usize>,
    streams: usize,
}

impl Rota {
    fn new(run: &Run<'_>) -> Rota {
        Rota {
            next: (0..PUBLISHERS).collect(),
            streams: run.streams as usize,
        }
    }

    /// The stream that a publisher sends to next.
    fn stream_of(&mut self, publisher: usize) -> usize {
        let slot = self.next[publisher];
        let following = slot + PUBLISHERS;
        self.next[publisher] = if following < self.streams {
            following
        } else {
            publisher
        };
        slot
    }
}

/// Closed loop: each publisher keeps `depth` requests in flight.
pub(crate) fn closed(run: &mut Run<'_>, depth: usize) -> Outcome<Vec<Metric>> {
    run.load.open(run.streams)?;
    run.load.peers.add_publishers(PUBLISHERS)?;
    let mut rota = Rota::new(run);
    for publisher in 0..PUBLISHERS {
        refill(&mut run.load, &mut rota, publisher, depth)?;
    }
    pump(&mut run.load, &mut rota, depth, WARM_UP)?;
    let meter = run.meter()?;
    let before = run.load.peers.tally.events;
    pump(&mut run.load, &mut rota, depth, run.duration)?;
    let cost = run.cost(&meter)?;
    let events = run.load.peers.tally.events - before;
    let mut metrics = vec![
        Metric::new("server CPU per event", "µs", cost.each(events)),
        Metric::new("events", "1/s", cost.rate(events)),
    ];
    metrics.extend(cost.busy());
    Ok(metrics)
}

fn pump(load: &mut Load<'_>, rota: &mut Rota, depth: usize, duration: Duration) -> Outcome<()> {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        load.turn(Duration::from_millis(50))?;
        let answered = std::mem::take(&mut load.peers.answered);
        for &publisher in &answered {
            refill(load, rota, publisher, depth)?;
        }
        // Its memory is used again.
        load.peers.answered = answered;
    }
    Ok(())
}

fn refill(load: &mut Load<'_>, rota: &mut Rota, publisher: usize, depth: usize) -> Outcome<()> {
    while load.peers.publishers[publisher].in_flight < depth {
        load.peers.push(publisher, rota.stream_of(publisher), 0);
    }
    load.peers.publishers[publisher].flush()
}

/// A fixed schedule that waits for nothing: a server that stops for a while is late for everything
/// that was due meanwhile.
pub(crate) fn rate(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    run.load.open(run.streams)?;
    run.load.peers.add_publishers(PUBLISHERS)?;
    let mut rota = Rota::new(run);
    keep_schedule(&mut run.load, &mut rota, WARM_UP)?;
    run.load.peers.tally.latency = Some(histogram()?);
    let meter = run.meter()?;
    let before = run.load.peers.tally.events;
    keep_schedule(&mut run.load, &mut rota, run.duration)?;
    let cost = run.cost(&meter)?;
    let events = run.load.peers.tally.events - before;
    let mut metrics = vec![Metric::new("server CPU per event", "µs", cost.each(events))];
    metrics.extend(latencies(run));
    metrics.extend(cost.busy());
    Ok(metrics)
}

/// Sends at [`RATE`] for so long, then waits until everything has come.
fn keep_schedule(load: &mut Load<'_>, rota: &mut Rota, duration: Duration) -> Outcome<()> {
    let gap = 1_000_000_000 / RATE;
    let total = duration.as_nanos() as u64 / gap;
    let begin = load.peers.now() + gap;
    let mut next = 0;
    while next < total {
        let now = load.peers.now();
        while next < total && begin + next * gap <= now {
            let publisher = (next % PUBLISHERS as u64) as usize;
            let slot = rota.stream_of(publisher);
            load.peers.push(publisher, slot, begin + next * gap);
            load.peers.publishers[publisher].flush()?;
            next += 1;
        }
        // Without waiting: what the poller could wait for at least, a millisecond, is too long.
        load.turn(Duration::ZERO)?;
    }
    while load.peers.publishers.iter().any(|it| it.in_flight > 0) {
        load.turn(Duration::from_millis(10))?;
    }
    Ok(())
}

/// One event to each stream, each sent when the one before it was answered and has come.
pub(crate) fn sweep(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    run.load.open(run.streams)?;
    run.load.peers.add_publishers(1)?;
    run.load.peers.tally.latency = Some(histogram()?);
    let meter = run.meter()?;
    for slot in 0..run.streams as usize {
        let now = run.load.peers.now();
        run.load.peers.push(0, slot, now);
        run.load.peers.publishers[0].flush()?;
        let is_over = |load: &Load<'_>| {
            load.peers.publishers[0].in_flight == 0 && load.peers.streams[slot].received == 1
        };
        while !is_over(&run.load) {
            run.load.turn(Duration::from_millis(100))?;
        }
    }
    let cost = run.cost(&meter)?;
    let mut metrics = vec![
        Metric::new(
            "server CPU per event",
            "µs",
            cost.each(u64::from(run.streams)),
        ),
        Metric::new("the whole sweep", "ms", cost.wall.as_secs_f64() * 1e3),
    ];
    metrics.extend(latencies(run));
    Ok(metrics)
}

/// Nanoseconds up to a minute, three digits exact.
pub(crate) fn histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| error.to_string())
}

fn latencies(run: &Run<'_>) -> Vec<Metric> {
    let Some(histogram) = &run.load.peers.tally.latency else {
        return Vec::new();
    };
    let at = |name, nanos: u64| Metric::new(name, "µs", nanos as f64 / 1e3);
    vec![
        at("latency p50", histogram.value_at_quantile(0.5)),
        at("latency p90", histogram.value_at_quantile(0.9)),
        at("latency p99", histogram.value_at_quantile(0.99)),
        at("latency max", histogram.max()),
    ]
}
