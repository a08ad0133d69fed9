//! The scenarios about one event for many, sent when the one before it has come to all.

use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Outcome;
use crate::load;
use crate::many::{ManyRequest, Target};
use crate::publishers::Publisher;
use crate::report::median;
use crate::run::Run;
use crate::scenario::Metric;

/// Events before the measured ones: caches, buffers and tables are warm then.
const WARM_UP: u32 = 3;

/// Deliveries of one run, about, so that few streams get more events than many.
const DELIVERIES: u32 = 300_000;

/// Clients that are looked at when an answer has come. So many take less than a hundredth of the
/// time that it takes to write to 10,000: all of them would take so long that the look would count
/// what was written meanwhile.
const LOOKED_AT: usize = 200;

/// How long an answer may take, and the last delivery.
const PATIENCE: Duration = Duration::from_secs(20);

/// A publisher that can be waited for alone. While it waits nobody reads what the clients get: the
/// answer is noticed when it comes, and all that was written before is there to be found.
struct Caller {
    poll: Poll,
    events: Events,
    publisher: Publisher,
    buffer: Vec<u8>,
}

impl Caller {
    fn connect(run: &Run<'_>) -> Outcome<Caller> {
        let failed = |error: std::io::Error| format!("no event loop for a publisher: {error}");
        let poll = Poll::new().map_err(failed)?;
        let publisher = Publisher::connect(run.server.address, Token(0), poll.registry())?;
        Ok(Caller {
            poll,
            events: Events::with_capacity(4),
            publisher,
            buffer: vec![0; 4096],
        })
    }

    /// Sends a request and waits for its answer.
    fn call(&mut self, request: &[u8]) -> Outcome<()> {
        let begun = Instant::now();
        self.publisher.push_bytes(request);
        self.publisher.flush()?;
        while self.publisher.in_flight > 0 {
            if begun.elapsed() > PATIENCE {
                return Err("a publisher waits for its answer for too long".to_owned());
            }
            load::wait(&mut self.poll, &mut self.events, PATIENCE)?;
            self.publisher.flush()?;
            self.publisher.readable(&mut self.buffer)?;
        }
        Ok(())
    }
}

/// What one event told.
struct Round {
    /// From its sending to the answer.
    answer: Duration,
    /// From its sending until the last client had read it.
    last: Duration,
    /// The part of the clients that it had reached when the answer was read: 0 to 1.
    reached: f64,
}

/// One event to a channel that all are in.
pub(crate) fn channel(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    run.load.open(run.streams)?;
    let request = ManyRequest::new(run.server.address.port(), Target::Channel);
    rounds(run, request)
}

/// One event to the tokens of all, named one by one.
pub(crate) fn tokens(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    run.load.open(run.streams)?;
    let target = Target::Tokens(run.load.peers.tokens());
    let request = ManyRequest::new(run.server.address.port(), target);
    rounds(run, request)
}

fn rounds(run: &mut Run<'_>, mut request: ManyRequest) -> Outcome<Vec<Metric>> {
    let mut caller = Caller::connect(run)?;
    for _ in 0..WARM_UP {
        round(run, &mut caller, &mut request)?;
    }
    let count = (DELIVERIES / run.streams).clamp(20, 300);
    let mut rounds = Vec::with_capacity(count as usize);
    let meter = run.meter()?;
    for _ in 0..count {
        rounds.push(round(run, &mut caller, &mut request)?);
    }
    let cost = run.cost(&meter)?;
    let deliveries = u64::from(count) * u64::from(run.streams);
    let mut metrics = vec![
        Metric::new("server CPU per delivery", "µs", cost.each(deliveries)),
        figure("delivered before the answer", "%", &rounds, |round| {
            100.0 * round.reached
        }),
        figure("time to the answer", "ms", &rounds, |round| {
            1e3 * round.answer.as_secs_f64()
        }),
        figure("time to the last delivery", "ms", &rounds, |round| {
            1e3 * round.last.as_secs_f64()
        }),
    ];
    metrics.extend(cost.busy());
    Ok(metrics)
}

/// A figure of each round, of which the median is taken: a round in which this process was kept
/// waiting for its core tells nothing about the server.
fn figure(
    name: &'static str,
    unit: &'static str,
    rounds: &[Round],
    of: fn(&Round) -> f64,
) -> Metric {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    Metric::new(name, unit, median(&values).unwrap_or_default())
}

/// One event, until everyone has it.
fn round(run: &mut Run<'_>, caller: &mut Caller, request: &mut ManyRequest) -> Outcome<Round> {
    let now = run.load.peers.now();
    let mark = run.load.peers.mark_for_everyone(now);
    let whole = run.load.peers.tally.events + u64::from(run.streams);
    let request = request.marked(mark);
    let begun = Instant::now();
    caller.call(request)?;
    let answer = begun.elapsed();
    let reached = part_reached(run);
    let receivers = caller.publisher.receivers;
    if receivers != u64::from(run.streams) {
        return Err(format!(
            "the answer speaks of {receivers} receivers instead of {}",
            run.streams
        ));
    }
    while run.load.peers.tally.events < whole {
        if begun.elapsed() > PATIENCE {
            let missing = whole - run.load.peers.tally.events;
            return Err(format!("{missing} deliveries of one event do not come"));
        }
        run.load.turn(Duration::from_millis(100))?;
    }
    Ok(Round {
        answer,
        last: begun.elapsed(),
        reached,
    })
}

/// The part of the clients that something has come to, by a look at some that stand evenly among
/// all: whatever the server's order is, it gets through them as through the others.
fn part_reached(run: &Run<'_>) -> f64 {
    let streams = &run.load.peers.streams;
    let looked_at = LOOKED_AT.min(streams.len());
    let reached = (0..looked_at)
        .filter(|at| streams[at * streams.len() / looked_at].has_unread())
        .count();
    reached as f64 / looked_at as f64
}
