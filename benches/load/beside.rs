//! What others feel while broadcasts follow each other without a pause.
//!
//! The others have a thread of their own: behind the 10,000 clients they would measure how long
//! this process takes to read those. They share its core all the same, so their times hold that
//! thread's waiting for the core: how late it does what is due at fixed times stands beside them
//! (up to a millisecond of it is the poller's, which waits for whole ones), and so do the floor's
//! times. The heartbeats are read by the clients' thread and hold its being behind.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Registry, Token};

use crate::Outcome;
use crate::load;
use crate::many::{HEALTH, ManyRequest, Target};
use crate::publishers::Publisher;
use crate::run::Run;
use crate::scenario::Metric;
use crate::sends::histogram;
use crate::streams::{Beats, Manner, Phase, Stream, Tally};
use crate::wire::{self, Mark, SendRequest};

/// The heartbeats' interval.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Broadcasts that their publisher keeps in flight: the next one is there when one is answered.
const BROADCASTS: usize = 2;

/// Streams that get events of their own.
const CHOSEN: usize = 20;

/// From one event by token to the next: 200 in a second.
const SEND_GAP: Duration = Duration::from_millis(5);

/// From one health check to the next.
const HEALTH_GAP: Duration = Duration::from_millis(50);

/// From one new client to the next.
const NEWCOMER_GAP: Duration = Duration::from_millis(200);

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(10);

const SENDER: Token = Token(usize::MAX);
const WATCHER: Token = Token(usize::MAX - 1);

/// A connection whose requests go out at fixed times, whatever is unanswered.
struct Timed {
    publisher: Publisher,
    gap: Duration,
    due: Instant,
    /// Requests so far.
    requests: usize,
    /// When those without an answer were sent.
    sent: VecDeque<Instant>,
    /// From the sending of a request to its answer, in nanoseconds.
    times: Histogram<u64>,
}

impl Timed {
    fn connect(
        server: SocketAddr,
        token: Token,
        registry: &Registry,
        gap: Duration,
    ) -> Outcome<Timed> {
        Ok(Timed {
            publisher: Publisher::connect(server, token, registry)?,
            gap,
            due: Instant::now() + gap,
            requests: 0,
            sent: VecDeque::new(),
            times: histogram()?,
        })
    }

    /// Sends what was pushed, which was due.
    fn send(&mut self) -> Outcome<()> {
        self.due += self.gap;
        self.requests += 1;
        self.sent.push_back(Instant::now());
        self.publisher.flush()
    }

    fn ready(&mut self, buffer: &mut [u8]) -> Outcome<()> {
        self.publisher.flush()?;
        for _ in 0..self.publisher.readable(buffer)? {
            if let Some(sent) = self.sent.pop_front() {
                self.times
                    .saturating_record(sent.elapsed().as_nanos() as u64);
            }
        }
        Ok(())
    }
}

/// The others: a publisher to single streams, a watcher of the server's health, new clients.
struct Others {
    server: SocketAddr,
    poll: Poll,
    epoch: Instant,
    sender: Timed,
    request: SendRequest,
    /// The streams that get events of their own, and how many each has got.
    chosen: Vec<(u32, wire::Token, u64)>,
    watcher: Timed,
    newcomer_due: Instant,
    /// Clients that came, `None` when their head has come too.
    newcomers: Vec<Option<(Stream, Instant)>>,
    /// The number of the first of them.
    first_number: u32,
    heads: Histogram<u64>,
    /// From when something was due to when this thread came to do it, in nanoseconds.
    own_lateness: Histogram<u64>,
}

impl Others {
    fn new(run: &Run<'_>) -> Outcome<Others> {
        let failed = |error: std::io::Error| format!("no event loop for the others: {error}");
        let poll = Poll::new().map_err(failed)?;
        let (server, registry) = (run.server.address, poll.registry());
        let peers = &run.load.peers;
        let numbers = peers.streams.iter().map(|stream| stream.number);
        let tokens = numbers.zip(peers.tokens().iter().copied());
        // From among all: the server's order must not matter.
        let step = (peers.streams.len() / CHOSEN).max(1);
        let chosen = tokens.step_by(step).take(CHOSEN);
        Ok(Others {
            server,
            epoch: peers.epoch,
            sender: Timed::connect(server, SENDER, registry, SEND_GAP)?,
            request: SendRequest::new(server.port()),
            chosen: chosen.map(|(number, token)| (number, token, 0)).collect(),
            watcher: Timed::connect(server, WATCHER, registry, HEALTH_GAP)?,
            newcomer_due: Instant::now() + NEWCOMER_GAP,
            newcomers: Vec::new(),
            first_number: run.streams,
            heads: histogram()?,
            own_lateness: histogram()?,
            poll,
        })
    }

    /// Does its part until then, and waits for what is unanswered.
    fn live(mut self, until: Instant) -> Outcome<Others> {
        let mut events = Events::with_capacity(64);
        let mut buffer = vec![0; 64 * 1024];
        let mut tally = Tally::new();
        loop {
            let now = Instant::now();
            if now < until {
                self.act(now)?;
            } else if self.is_answered() {
                return Ok(self);
            } else if now > until + PATIENCE {
                return Err("the others wait for their answers for too long".to_owned());
            }
            let due = self.sender.due.min(self.watcher.due).min(self.newcomer_due);
            let pause = match now < until {
                true => due.saturating_duration_since(now),
                false => Duration::from_millis(50),
            };
            load::wait(&mut self.poll, &mut events, pause)?;
            for event in &events {
                match event.token() {
                    SENDER => self.sender.ready(&mut buffer)?,
                    WATCHER => self.watcher.ready(&mut buffer)?,
                    Token(at) => {
                        let is_readable = event.is_readable();
                        self.ready(at, is_readable, &mut buffer, &mut tally)?;
                    }
                }
            }
        }
    }

    /// Does what is due.
    fn act(&mut self, now: Instant) -> Outcome<()> {
        while self.sender.due <= now {
            self.note_lateness(self.sender.due);
            let at = self.sender.requests % self.chosen.len();
            let (number, token, sent) = &mut self.chosen[at];
            let mark = Mark {
                number: *number,
                sequence: *sent,
                due: self.epoch.elapsed().as_nanos() as u64,
            };
            *sent += 1;
            self.sender.publisher.push(&self.request, token, mark);
            self.sender.send()?;
        }
        while self.watcher.due <= now {
            self.note_lateness(self.watcher.due);
            self.watcher.publisher.push_bytes(HEALTH);
            self.watcher.send()?;
        }
        if self.newcomer_due <= now {
            self.newcomer_due += NEWCOMER_GAP;
            let at = self.newcomers.len();
            let number = self.first_number + at as u32;
            let registry = self.poll.registry();
            let manner = Manner::default();
            let begun = Instant::now();
            let stream = Stream::connect(self.server, number, Token(at), registry, &manner)?;
            self.newcomers.push(Some((stream, begun)));
        }
        Ok(())
    }

    fn note_lateness(&mut self, due: Instant) {
        let late = due.elapsed().as_nanos() as u64;
        self.own_lateness.saturating_record(late);
    }

    fn is_answered(&self) -> bool {
        let unanswered = self.sender.sent.len() + self.watcher.sent.len();
        unanswered == 0 && self.newcomers.iter().all(Option::is_none)
    }

    /// A newcomer asks, or has got its head and leaves. What it gets behind the head counts for
    /// nothing: nobody knows which broadcasts it is too late for.
    fn ready(
        &mut self,
        at: usize,
        is_readable: bool,
        buffer: &mut [u8],
        tally: &mut Tally,
    ) -> Outcome<()> {
        let Some((stream, begun)) = &mut self.newcomers[at] else {
            return Ok(());
        };
        if stream.phase == Phase::Connecting {
            stream.ask(self.server, None)?;
        }
        if is_readable {
            stream.readable(buffer, tally, || 0)?;
        }
        if stream.phase == Phase::Open {
            let took = begun.elapsed().as_nanos() as u64;
            self.heads.saturating_record(took);
            self.newcomers[at] = None;
        }
        Ok(())
    }
}

/// Broadcasts without a pause, and the others beside them.
pub(crate) fn beside(run: &mut Run<'_>) -> Outcome<Vec<Metric>> {
    run.load.open(run.streams)?;
    // Every stream has a heartbeat, which shows its cadence.
    run.load.turns_for(HEARTBEAT + HEARTBEAT / 5)?;
    run.load.peers.tally.beats = Some(Beats {
        interval: HEARTBEAT.as_nanos() as u64,
        lateness: histogram()?,
        left_out: 0,
    });
    run.load.peers.add_publishers(1)?;
    let mut request = ManyRequest::new(run.server.address.port(), Target::Broadcast);
    let others = Others::new(run)?;
    let meter = run.meter()?;
    let before = run.load.peers.tally.events;
    let until = Instant::now() + run.duration;
    let thread = thread::spawn(move || others.live(until));
    while Instant::now() < until {
        broadcast(run, &mut request)?;
        run.load.turn(Duration::from_millis(50))?;
    }
    let cost = run.cost(&meter)?;
    let deliveries = run.load.peers.tally.events - before;
    let beats = run.load.peers.tally.beats.take();
    while !thread.is_finished() {
        run.load.turn(Duration::from_millis(50))?;
    }
    let others = thread.join().map_err(|_| "the others panicked")??;
    for (number, _, sent) in &others.chosen {
        run.load.peers.streams[*number as usize].own.sent = *sent;
    }
    let mut metrics = figures(&others);
    if let Some(beats) = beats {
        metrics.extend(times(&BEAT_NAMES, &beats.lateness));
        let all = beats.lateness.len() + beats.left_out;
        let left_out = 100.0 * beats.left_out as f64 / all.max(1) as f64;
        metrics.push(Metric::new("heartbeats left out", "%", left_out));
    }
    metrics.push(Metric::new("deliveries", "1/s", cost.rate(deliveries)));
    metrics.extend(cost.busy());
    Ok(metrics)
}

/// Fills up what is in flight.
fn broadcast(run: &mut Run<'_>, request: &mut ManyRequest) -> Outcome<()> {
    let peers = &mut run.load.peers;
    while peers.publishers[0].in_flight < BROADCASTS {
        let mark = peers.mark_for_everyone(peers.now());
        peers.publishers[0].push_bytes(request.marked(mark));
    }
    peers.publishers[0].flush()
}

/// Names of a histogram's median, 99th percentile and maximum.
type Names = [&'static str; 3];

const SEND_NAMES: Names = [
    "send's answer p50",
    "send's answer p99",
    "send's answer max",
];
const HEALTH_NAMES: Names = ["health check p50", "health check p99", "health check max"];
const NEWCOMER_NAMES: Names = [
    "new client's head p50",
    "new client's head p99",
    "new client's head max",
];
const BEAT_NAMES: Names = [
    "heartbeat's lateness p50",
    "heartbeat's lateness p99",
    "heartbeat's lateness max",
];
const OWN_NAMES: Names = [
    "the load's own lateness p50",
    "the load's own lateness p99",
    "the load's own lateness max",
];

fn times(names: &Names, histogram: &Histogram<u64>) -> [Metric; 3] {
    let at = |name, nanos: u64| Metric::new(name, "ms", nanos as f64 / 1e6);
    [
        at(names[0], histogram.value_at_quantile(0.5)),
        at(names[1], histogram.value_at_quantile(0.99)),
        at(names[2], histogram.max()),
    ]
}

fn figures(others: &Others) -> Vec<Metric> {
    [
        times(&SEND_NAMES, &others.sender.times),
        times(&HEALTH_NAMES, &others.watcher.times),
        times(&NEWCOMER_NAMES, &others.heads),
        times(&OWN_NAMES, &others.own_lateness),
    ]
    .concat()
}
