//! The load: all clients and publishers on one thread, one turn of readiness at a time.
//!
//! A turn only notes what happened; what follows from it is the scenario's.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry, Token};

use crate::Outcome;
use crate::backend::Backend;
use crate::many::EVERYONE;
use crate::publishers::Publisher;
use crate::streams::{Manner, Phase, Stream, Tally};
use crate::wire::{self, Mark, SendRequest};

/// Publishers' readiness counts up from here, streams' from 0.
const PUBLISHERS: usize = 1 << 24;

/// Connects under way at once while streams are opened.
pub(crate) const OPENING: u32 = 64;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// Clients and publishers of one server.
pub(crate) struct Load<'a> {
    poll: Poll,
    events: Events,
    pub(crate) peers: Peers<'a>,
    /// When the scenario's time is over, whatever it waits for.
    deadline: Instant,
}

/// Everything but the readiness of it.
pub(crate) struct Peers<'a> {
    registry: Registry,
    server: SocketAddr,
    /// Who knows the tokens; the floor's follow from the numbers.
    backend: Option<&'a Backend>,
    pub(crate) streams: Vec<Stream>,
    tokens: Vec<wire::Token>,
    pub(crate) publishers: Vec<Publisher>,
    /// Events for everyone so far.
    for_everyone: u64,
    request: SendRequest,
    /// How streams are opened.
    pub(crate) manner: Manner,
    pub(crate) tally: Tally,
    buffer: Vec<u8>,
    /// The load's start.
    pub(crate) epoch: Instant,
    /// Streams whose request was written in this turn.
    pub(crate) asked: Vec<usize>,
    /// Streams that were opened in this turn.
    pub(crate) opened: Vec<usize>,
    /// Streams that got events in this turn.
    pub(crate) reached: Vec<usize>,
    /// Publishers that got answers in this turn.
    pub(crate) answered: Vec<usize>,
}

impl<'a> Load<'a> {
    pub(crate) fn new(
        server: SocketAddr,
        backend: Option<&'a Backend>,
        limit: Duration,
    ) -> Outcome<Load<'a>> {
        let make = || {
            let poll = Poll::new()?;
            Ok((poll.registry().try_clone()?, poll))
        };
        let failed = |error: std::io::Error| format!("no event loop for the load: {error}");
        let (registry, poll) = make().map_err(failed)?;
        let epoch = Instant::now();
        Ok(Load {
            poll,
            events: Events::with_capacity(1024),
            peers: Peers {
                registry,
                server,
                backend,
                streams: Vec::new(),
                tokens: Vec::new(),
                publishers: Vec::new(),
                for_everyone: 0,
                request: SendRequest::new(server.port()),
                manner: Manner::default(),
                tally: Tally::new(),
                buffer: vec![0; READ_BYTES],
                epoch,
                asked: Vec::new(),
                opened: Vec::new(),
                reached: Vec::new(),
                answered: Vec::new(),
            },
            deadline: epoch + limit,
        })
    }

    /// Waits for something to happen, at most so long, and notes it.
    pub(crate) fn turn(&mut self, timeout: Duration) -> Outcome<()> {
        if Instant::now() >= self.deadline {
            return Err(format!("out of time: {}", self.peers.state()));
        }
        self.peers.asked.clear();
        self.peers.opened.clear();
        self.peers.reached.clear();
        self.peers.answered.clear();
        wait(&mut self.poll, &mut self.events, timeout)?;
        for event in &self.events {
            self.peers.ready(event)?;
        }
        Ok(())
    }

    /// Takes turns for so long.
    pub(crate) fn turns_for(&mut self, duration: Duration) -> Outcome<()> {
        let until = Instant::now() + duration;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left)?;
        }
    }

    /// Opens streams 0 to `count`, a few at once, until all are open.
    pub(crate) fn open(&mut self, count: u32) -> Outcome<()> {
        let mut open = 0;
        while open < count {
            let begun = self.peers.streams.len() as u32;
            for number in begun..count.min(open + OPENING) {
                self.peers.connect(number as usize, number)?;
            }
            self.turn(Duration::from_secs(1))?;
            open += self.peers.opened.len() as u32;
        }
        Ok(())
    }

    /// Takes turns until every request is answered and every event has come, or cannot be on its
    /// way any more; counts the lost ones.
    pub(crate) fn drain(&mut self) -> Outcome<()> {
        let patience = Duration::from_secs(2);
        let mut quiet_since = Instant::now();
        loop {
            let peers = &self.peers;
            let is_answered = peers.publishers.iter().all(|it| it.in_flight == 0);
            let lost = peers.streams.iter().map(Stream::lost).sum::<u64>();
            if is_answered && (lost == 0 || quiet_since.elapsed() > patience) {
                self.peers.tally.lost += lost;
                return Ok(());
            }
            self.turn(Duration::from_millis(100))?;
            if !(self.peers.reached.is_empty() && self.peers.answered.is_empty()) {
                quiet_since = Instant::now();
            }
        }
    }
}

impl Peers<'_> {
    /// Nanoseconds since the load's start.
    pub(crate) fn now(&self) -> u64 {
        nanos_since(self.epoch)
    }

    /// Opens a stream in a slot; what was there leaves.
    pub(crate) fn connect(&mut self, slot: usize, number: u32) -> Outcome<()> {
        let stream = Stream::connect(
            self.server,
            number,
            Token(slot),
            &self.registry,
            &self.manner,
        )?;
        let token = wire::floor_token(number);
        if slot == self.streams.len() {
            self.streams.push(stream);
            self.tokens.push(token);
        } else {
            self.tally.lost += self.streams[slot].lost();
            self.streams[slot] = stream;
            self.tokens[slot] = token;
        }
        Ok(())
    }

    /// Connects publishers.
    pub(crate) fn add_publishers(&mut self, count: usize) -> Outcome<()> {
        for at in 0..count {
            let token = Token(PUBLISHERS + at);
            let publisher = Publisher::connect(self.server, token, &self.registry)?;
            self.publishers.push(publisher);
        }
        Ok(())
    }

    /// Makes a publisher's next request: an event to the stream in a slot. It is sent with the
    /// next flush.
    pub(crate) fn push(&mut self, publisher: usize, slot: usize, due: u64) {
        let stream = &mut self.streams[slot];
        let mark = Mark {
            number: stream.number,
            sequence: stream.own.sent,
            due,
        };
        stream.own.sent += 1;
        self.publishers[publisher].push(&self.request, &self.tokens[slot], mark);
    }

    /// The mark of one more event that every stream is to get. One publisher sends them all.
    pub(crate) fn mark_for_everyone(&mut self, due: u64) -> Mark {
        let mark = Mark {
            number: EVERYONE,
            sequence: self.for_everyone,
            due,
        };
        self.for_everyone += 1;
        for stream in &mut self.streams {
            stream.shared.sent += 1;
        }
        mark
    }

    /// The tokens of the streams, by slot; right as soon as a stream is open.
    pub(crate) fn tokens(&self) -> &[wire::Token] {
        &self.tokens
    }

    fn ready(&mut self, event: &Event) -> Outcome<()> {
        let Token(at) = event.token();
        if let Some(at) = at.checked_sub(PUBLISHERS) {
            let publisher = &mut self.publishers[at];
            if event.is_readable() && publisher.readable(&mut self.buffer)? > 0 {
                self.answered.push(at);
            }
            return publisher.flush();
        }
        let stream = &mut self.streams[at];
        if event.is_writable() && stream.phase == Phase::Connecting {
            stream.ask(self.server, self.manner.seen.as_deref())?;
            if stream.phase == Phase::Asked {
                self.asked.push(at);
            }
        }
        if !event.is_readable() {
            return Ok(());
        }
        let (phase, received) = (stream.phase, stream.received);
        let epoch = self.epoch;
        stream.readable(&mut self.buffer, &mut self.tally, || nanos_since(epoch))?;
        if stream.received > received {
            self.reached.push(at);
        }
        if phase != Phase::Open && stream.phase == Phase::Open {
            self.opened.push(at);
            if let Some(backend) = self.backend {
                let number = stream.number;
                let token = backend.accounts().token(number);
                self.tokens[at] =
                    token.ok_or_else(|| format!("stream {number} is open without a callback"))?;
            }
        }
        Ok(())
    }

    /// What is under way, for a failure's message.
    fn state(&self) -> String {
        let open = |stream: &&Stream| stream.phase == Phase::Open;
        format!(
            "{} of {} streams are open, {} requests without an answer, {} events on their way",
            self.streams.iter().filter(open).count(),
            self.streams.len(),
            self.publishers.iter().map(|it| it.in_flight).sum::<usize>(),
            self.streams.iter().map(Stream::lost).sum::<u64>(),
        )
    }
}

/// Waits for readiness, at most so long.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> Outcome<()> {
    match poll.poll(events, Some(timeout)) {
        // Without any event.
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        other => other.map_err(|error| format!("the load cannot wait: {error}")),
    }
}

fn nanos_since(epoch: Instant) -> u64 {
    epoch.elapsed().as_nanos() as u64
}
