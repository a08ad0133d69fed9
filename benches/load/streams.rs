//! The clients: each opens a stream and checks every byte that comes.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use socket2::{Domain, Socket, Type};

use crate::Outcome;
use crate::kept::{self, Classes, Piece};
use crate::many::EVERYONE;
use crate::wire::{
    self, CHUNK_BYTES, CHUNK_HEAD, CHUNK_TAIL, DATA_BYTES, HEARTBEAT, Mark, STREAM_HEAD,
};

/// What all streams together have seen.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    /// Ids without an event.
    pub(crate) positions: u64,
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
            bytes: 0,
            events: 0,
            positions: 0,
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

/// How streams are opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// Whose events they get; those for everyone if there are no classes.
    pub(crate) classes: Option<Classes>,
    /// The first of these that comes, and the number of those that were sent before it opens.
    pub(crate) first: u64,
    pub(crate) sent: u64,
    /// What was seen last.
    pub(crate) seen: Option<String>,
    /// The floor's streams get so many bytes of filler.
    pub(crate) filler: u64,
    /// They read nothing, and have little room for it.
    pub(crate) is_deaf: bool,
}

/// What a connect that does not wait gives on Linux.
const EINPROGRESS: i32 = 115;

/// The receive buffer of a stream that reads nothing.
const DEAF_BYTES: usize = 4096;

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
    /// The number in the marks of its shared events.
    shared_number: u32,
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
    /// Bytes of filler that are still to come.
    filler: u64,
    is_deaf: bool,
}

impl Stream {
    /// Begins to connect.
    pub(crate) fn connect(
        server: SocketAddr,
        number: u32,
        token: mio::Token,
        registry: &Registry,
        manner: &Manner,
    ) -> Outcome<Stream> {
        let connect = || {
            let mut socket = match manner.is_deaf {
                true => connect_deaf(server)?,
                false => TcpStream::connect(server)?,
            };
            registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(socket)
        };
        let failed = |error: std::io::Error| format!("stream {number}: cannot connect: {error}");
        Ok(Stream {
            socket: connect().map_err(failed)?,
            number,
            phase: Phase::Connecting,
            own: Sequence::default(),
            shared: Sequence {
                sent: manner.sent,
                expected: manner.first,
                missing: Vec::new(),
            },
            shared_number: manner
                .classes
                .map_or(EVERYONE, |classes| classes.shared_number(number)),
            received: 0,
            beat: 0,
            rest: Vec::new(),
            filler: manner.filler,
            is_deaf: manner.is_deaf,
        })
    }

    /// Writes the request, if the connection stands.
    pub(crate) fn ask(&mut self, server: SocketAddr, seen: Option<&str>) -> Outcome<()> {
        let request = wire::stream_request(self.number, server.port(), seen);
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
        while !self.is_deaf {
            let n = match self.socket.read(buffer) {
                Ok(0) => return Err(self.fault("the server closed it")),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.fault(&format!("cannot read: {error}"))),
            };
            let at = now();
            tally.bytes += n as u64;
            if self.rest.is_empty() {
                self.take(&buffer[..n], tally, at)?;
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(&buffer[..n]);
                self.take(&whole, tally, at)?;
            }
            // Less than was asked for: there is no more now, and more will be announced.
            if n < buffer.len() {
                break;
            }
        }
        Ok(())
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
        if self.filler > 0 {
            let left = self.filler.checked_sub(bytes.len() as u64);
            self.filler = left.ok_or_else(|| self.fault("it got too much"))?;
            return Ok(());
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
            } else if self.shared_number != EVERYONE {
                match kept::piece(bytes) {
                    Piece::Event { data, behind } => {
                        self.count(Mark::read(&data[..DATA_BYTES]), tally, now)?;
                        bytes = behind;
                    }
                    Piece::Position { behind } => {
                        tally.positions += 1;
                        bytes = behind;
                    }
                    Piece::Foreign => return Err(self.unexpected(bytes)),
                    Piece::Part => {
                        self.rest = bytes.to_vec();
                        break;
                    }
                }
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
            number if number == self.shared_number => &mut self.shared,
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

/// Begins to connect with a small receive buffer, which must be asked for before.
fn connect_deaf(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_recv_buffer_size(DEAF_BYTES)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}
