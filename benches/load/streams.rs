//! The clients: each opens a stream and checks every byte that comes.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Interest, Registry};

use crate::Outcome;
use crate::many::EVERYONE;
use crate::wire::{self, CHUNK_BYTES, CHUNK_HEAD, CHUNK_TAIL, HEARTBEAT, Mark, STREAM_HEAD};

/// What all streams together have seen.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) heartbeats: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) misordered: u64,
    /// From when an event was to be sent to its receipt, in nanoseconds.
    pub(crate) latency: Option<Histogram<u64>>,
    /// How the heartbeats keep their time. `None`: each stream learns its cadence.
    pub(crate) beats: Option<Beats>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            events: 0,
            heartbeats: 0,
            lost: 0,
            duplicated: 0,
            misordered: 0,
            latency: None,
            beats: None,
        }
    }
}

/// How the heartbeats keep their time.
#[derive(Debug)]
pub(crate) struct Beats {
    /// From one to the next, in nanoseconds.
    pub(crate) interval: u64,
    /// Behind the cadence, in nanoseconds: less than an interval.
    pub(crate) lateness: Histogram<u64>,
    /// Those that did not come before the next one was due.
    pub(crate) left_out: u64,
}

impl Beats {
    /// Notes a heartbeat that was due at a time and came `now`; gives when it was due, or the one
    /// that it must have been.
    fn note(&mut self, mut due: u64, now: u64) -> u64 {
        while now >= due + self.interval {
            due += self.interval;
            self.left_out += 1;
        }
        self.lateness.saturating_record(now.saturating_sub(due));
        due
    }
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its request is not written.
    Connecting,
    /// Its request is written.
    Asked,
    /// Its head was read.
    Open,
}

/// Events that one publisher sent to a stream: they have an order.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    /// Those that the publisher was told to send.
    pub(crate) sent: u64,
    /// The place of the one that is to come next.
    expected: u64,
    /// Places that were passed over.
    missing: Vec<u64>,
}

impl Sequence {
    fn note(&mut self, place: u64, tally: &mut Tally) {
        if place >= self.expected {
            self.missing.extend(self.expected..place);
            self.expected = place + 1;
        } else if let Some(at) = self.missing.iter().position(|&it| it == place) {
            self.missing.swap_remove(at);
            tally.misordered += 1;
        } else {
            tally.duplicated += 1;
        }
    }

    fn lost(&self) -> u64 {
        self.missing.len() as u64 + self.sent.saturating_sub(self.expected)
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    pub(crate) number: u32,
    pub(crate) phase: Phase,
    /// Events for it alone.
    pub(crate) own: Sequence,
    /// Events for everyone.
    pub(crate) shared: Sequence,
    /// Its events that came.
    pub(crate) received: u64,
    /// When its last heartbeat was due, in nanoseconds since the load's start; while the cadence
    /// is being learnt, when it came.
    beat: u64,
    /// The front of a chunk whose rest is not there yet.
    rest: Vec<u8>,
}

impl Stream {
    /// Begins to connect.
    pub(crate) fn connect(
        server: SocketAddr,
        number: u32,
        token: mio::Token,
        registry: &Registry,
    ) -> Outcome<Stream> {
        let connect = || {
            let mut socket = TcpStream::connect(server)?;
            registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(socket)
        };
        let failed = |error: std::io::Error| format!("stream {number}: cannot connect: {error}");
        Ok(Stream {
            socket: connect().map_err(failed)?,
            number,
            phase: Phase::Connecting,
            own: Sequence::default(),
            shared: Sequence::default(),
            received: 0,
            beat: 0,
            rest: Vec::new(),
        })
    }

    /// Writes the request, if the connection stands.
    pub(crate) fn ask(&mut self, server: SocketAddr) -> Outcome<()> {
        let request = wire::stream_request(self.number, server.port());
        match self.socket.write(&request) {
            Ok(n) if n == request.len() => self.phase = Phase::Asked,
            Ok(_) => return Err(self.fault("its request was cut")),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => return Err(self.fault(&format!("cannot ask: {error}"))),
        }
        Ok(())
    }

    /// Reads what there is. `now` is in nanoseconds since the load's start.
    pub(crate) fn readable(
        &mut self,
        buffer: &mut [u8],
        tally: &mut Tally,
        now: impl Fn() -> u64,
    ) -> Outcome<()> {
        loop {
            let n = match self.socket.read(buffer) {
                Ok(0) => return Err(self.fault("the server closed it")),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.fault(&format!("cannot read: {error}"))),
            };
            let at = now();
            if self.rest.is_empty() {
                self.take(&buffer[..n], tally, at)?;
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(&buffer[..n]);
                self.take(&whole, tally, at)?;
            }
            // Less than was asked for: there is no more now, and more will be announced.
            if n < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], tally: &mut Tally, now: u64) -> Outcome<()> {
        if self.phase != Phase::Open {
            let Some((head, behind)) = bytes.split_at_checked(STREAM_HEAD.len()) else {
                self.check(&bytes[..bytes.len().min(wire::OK.len())], &[wire::OK])?;
                self.rest = bytes.to_vec();
                return Ok(());
            };
            if !head.starts_with(wire::OK) || !head.ends_with(b"\r\n\r\n") {
                return Err(self.unexpected(bytes));
            }
            self.phase = Phase::Open;
            bytes = behind;
        }
        while !bytes.is_empty() {
            if let Some((chunk, behind)) = bytes.split_at_checked(CHUNK_BYTES)
                && chunk.starts_with(CHUNK_HEAD)
                && chunk.ends_with(CHUNK_TAIL)
            {
                let data = &chunk[CHUNK_HEAD.len()..CHUNK_BYTES - CHUNK_TAIL.len()];
                self.count(Mark::read(data), tally, now)?;
                bytes = behind;
            } else if let Some(behind) = bytes.strip_prefix(HEARTBEAT) {
                tally.heartbeats += 1;
                self.beat = match &mut tally.beats {
                    Some(beats) => beats.note(self.beat + beats.interval, now),
                    None => now,
                };
                bytes = behind;
            } else {
                let front = &bytes[..bytes.len().min(CHUNK_HEAD.len())];
                self.check(front, &[CHUNK_HEAD, HEARTBEAT])?;
                if bytes.len() >= CHUNK_BYTES {
                    return Err(self.unexpected(bytes));
                }
                self.rest = bytes.to_vec();
                break;
            }
        }
        Ok(())
    }

    fn count(&mut self, mark: Mark, tally: &mut Tally, now: u64) -> Outcome<()> {
        let sequence = match mark.number {
            EVERYONE => &mut self.shared,
            number if number == self.number => &mut self.own,
            other => return Err(self.fault(&format!("it got an event of stream {other}"))),
        };
        sequence.note(mark.sequence, tally);
        tally.events += 1;
        self.received += 1;
        if let Some(latency) = &mut tally.latency {
            latency.saturating_record(now.saturating_sub(mark.due));
        }
        Ok(())
    }

    /// Events that were sent and did not come.
    pub(crate) fn lost(&self) -> u64 {
        self.own.lost() + self.shared.lost()
    }

    /// Whether something has come that was not read.
    pub(crate) fn has_unread(&self) -> bool {
        self.socket.peek(&mut [0]).is_ok_and(|n| n > 0)
    }

    fn check(&self, front: &[u8], expected: &[&[u8]]) -> Outcome<()> {
        if expected.iter().any(|whole| whole.starts_with(front)) {
            return Ok(());
        }
        Err(self.unexpected(front))
    }

    fn unexpected(&self, bytes: &[u8]) -> String {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
        self.fault(&format!("it got {shown:?}"))
    }

    fn fault(&self, what: &str) -> String {
        format!("stream {} ({:?}): {what}", self.number, self.phase)
    }
}
