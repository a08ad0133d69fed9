//! The floor: a server that does the gateway's socket traffic with the least code imaginable.
//!
//! One read of the request, one write to each of its streams, one write of the answers; everything
//! stands at a fixed offset, nothing is parsed, checked, limited, logged or asked of a backend. What
//! it costs is what the kernel and the event loop cost, so the ratio to it tells what the gateway
//! adds. Whatever it is not made for is a panic.
//!
//! A send to a channel or to tokens is answered first, as early as anything can answer it, and
//! then written to all in one go. A broadcast is written in slices, with whoever else is ready in
//! between, and answered behind the last, so that a publisher cannot run ahead.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::many::{self, Kind, Shape};
use crate::wire::{
    self, ANSWER, CHUNK_BYTES, CHUNK_HEAD, CHUNK_TAIL, DATA_BYTES, HEARTBEAT, SendRequest,
};

const LISTENER: Token = Token(usize::MAX);

/// Bytes of one read, as the gateway's.
const READ_BYTES: usize = 16 * 1024;

/// Connections that are written to before others have their turn. One more poll in each slice is
/// less than a hundredth of its cost.
const SLICE: usize = 64;

/// Bytes of filler in one write, as many as the gateway takes from its history at once.
const FILLER_BYTES: usize = 48 * 1024;

/// Where a stream is not.
const NOWHERE: usize = usize::MAX;

struct Conn {
    socket: TcpStream,
    /// The front of a request whose rest is not there yet.
    rest: Vec<u8>,
    role: Role,
    /// Bytes of filler that it is still to get, with what is before.
    filler: usize,
    /// Some of them were written.
    is_begun: bool,
}

/// What a connection is, by the first bytes that came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Unknown,
    Stream,
    /// It asks for the server's health.
    Watcher,
    /// It sends to one stream at a time.
    Publisher,
    PublisherToMany(Shape),
}

/// The same bytes for all streams, under way in slices.
struct Job {
    bytes: Vec<u8>,
    /// The connection that is next.
    next: usize,
    /// Who gets an answer in the end.
    publisher: Option<usize>,
}

struct Floor {
    poll: Poll,
    conns: slab::Slab<Conn>,
    /// Each stream's connection, by its number.
    streams: Vec<usize>,
    /// Streams that are open.
    open: usize,
    /// Broadcasts and heartbeats, in their order.
    jobs: VecDeque<Job>,
    request: SendRequest,
    /// Bytes of one read: as many as the longest request has.
    read_bytes: usize,
    buffer: Vec<u8>,
    chunk: [u8; CHUNK_BYTES],
    answers: Vec<u8>,
    /// The stream's head, and any bytes behind it.
    filler: Vec<u8>,
}

/// Serves until it is killed.
pub(crate) fn serve(port: u16, heartbeat: Duration) -> std::io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    let mut floor = Floor::new(port)?;
    let registry = floor.poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(512);
    let mut next_beat = Instant::now() + heartbeat;
    loop {
        let timeout = match floor.jobs.is_empty() {
            true => next_beat.saturating_duration_since(Instant::now()),
            false => Duration::ZERO,
        };
        match floor.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener)?,
                Token(index) => {
                    if event.is_readable() {
                        floor.read(index, event.is_read_closed())?;
                    }
                    if event.is_writable() {
                        floor.fill(index);
                    }
                }
            }
        }
        if Instant::now() >= next_beat {
            next_beat += heartbeat;
            // Before the broadcasts: it must not be late because of them.
            floor.jobs.push_front(Job::new(HEARTBEAT, None));
        }
        floor.advance()?;
    }
}

impl Floor {
    fn new(port: u16) -> std::io::Result<Floor> {
        let mut chunk = [0; CHUNK_BYTES];
        chunk[..CHUNK_HEAD.len()].copy_from_slice(CHUNK_HEAD);
        chunk[CHUNK_BYTES - CHUNK_TAIL.len()..].copy_from_slice(CHUNK_TAIL);
        let request = SendRequest::new(port);
        Ok(Floor {
            poll: Poll::new()?,
            conns: slab::Slab::new(),
            streams: Vec::new(),
            open: 0,
            jobs: VecDeque::new(),
            read_bytes: READ_BYTES,
            buffer: vec![0; READ_BYTES],
            chunk,
            answers: ANSWER.repeat(2 * READ_BYTES / request.len()),
            request,
            filler: [wire::STREAM_HEAD, &[b'x'; FILLER_BYTES]].concat(),
        })
    }

    fn accept(&mut self, listener: &TcpListener) -> std::io::Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let entry = self.conns.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            let token = Token(entry.key());
            self.poll.registry().register(&mut socket, token, both)?;
            entry.insert(Conn {
                socket,
                rest: Vec::new(),
                role: Role::Unknown,
                filler: 0,
                is_begun: false,
            });
        }
    }

    fn read(&mut self, index: usize, is_closed: bool) -> std::io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(self.read_bytes, 0);
        while let Some(conn) = self.conns.get_mut(index) {
            let n = match conn.socket.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => 0,
            };
            if n == 0 {
                let conn = self.conns.remove(index);
                self.open -= usize::from(conn.role == Role::Stream);
                break;
            }
            self.take(index, &buffer[..n])?;
            if n < buffer.len() && !is_closed {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn take(&mut self, index: usize, bytes: &[u8]) -> std::io::Result<()> {
        if self.conns[index].role == Role::Unknown {
            self.meet(index, bytes)?;
        }
        let conn = &mut self.conns[index];
        let length = match conn.role {
            Role::Unknown | Role::Stream => return Ok(()),
            Role::Watcher => many::HEALTH.len(),
            Role::Publisher => self.request.len(),
            Role::PublisherToMany(shape) => shape.length,
        };
        if conn.rest.is_empty() && bytes.len().is_multiple_of(length) {
            return self.serve(index, bytes);
        }
        let mut whole = std::mem::take(&mut conn.rest);
        whole.extend_from_slice(bytes);
        let end = whole.len() - whole.len() % length;
        self.serve(index, &whole[..end])?;
        self.conns[index].rest = whole.split_off(end);
        Ok(())
    }

    /// The first bytes of a connection: they tell what it is, and open a stream.
    fn meet(&mut self, index: usize, bytes: &[u8]) -> std::io::Result<()> {
        let conn = &mut self.conns[index];
        conn.role = if bytes.starts_with(many::HEALTH) {
            Role::Watcher
        } else if bytes[0] == b'G' {
            Role::Stream
        } else if let Some(shape) = Shape::of(bytes) {
            self.read_bytes = self
                .read_bytes
                .max(shape.length.next_multiple_of(READ_BYTES));
            Role::PublisherToMany(shape)
        } else {
            Role::Publisher
        };
        if conn.role == Role::Stream {
            conn.filler = wire::seen_number(bytes) as usize;
            match conn.filler {
                0 => put(&mut conn.socket, wire::STREAM_HEAD)?,
                bytes => conn.filler = bytes + wire::STREAM_HEAD.len(),
            }
            let number = wire::requested_number(bytes).expect("a whole request") as usize;
            if self.streams.len() <= number {
                self.streams.resize(number + 1, NOWHERE);
            }
            self.streams[number] = index;
            self.open += 1;
            self.fill(index);
        }
        Ok(())
    }

    /// Writes as much filler as the socket takes, the stream's head before it.
    fn fill(&mut self, index: usize) {
        let conn = self.conns.get_mut(index);
        let Some(conn) = conn.filter(|conn| conn.filler > 0) else {
            return;
        };
        let mut piece = match std::mem::replace(&mut conn.is_begun, true) {
            false => &self.filler[..],
            true => &self.filler[wire::STREAM_HEAD.len()..],
        };
        while conn.filler > 0 {
            let bytes = &piece[..piece.len().min(conn.filler)];
            match conn.socket.write(bytes) {
                Ok(n) => conn.filler -= n,
                // The rest when there is room again, or never when the client left.
                Err(_) => return,
            }
            piece = &self.filler[wire::STREAM_HEAD.len()..];
        }
    }

    /// Whole requests.
    fn serve(&mut self, index: usize, requests: &[u8]) -> std::io::Result<()> {
        match self.conns[index].role {
            Role::PublisherToMany(shape) => {
                for request in requests.chunks_exact(shape.length) {
                    self.forward_to_many(index, shape, request)?;
                }
                Ok(())
            }
            Role::Watcher => {
                let bytes = requests.len() / many::HEALTH.len() * ANSWER.len();
                put(&mut self.conns[index].socket, &self.answers[..bytes])
            }
            _ => self.forward(index, requests),
        }
    }

    /// Whole requests: an event each, then their answers together.
    fn forward(&mut self, index: usize, requests: &[u8]) -> std::io::Result<()> {
        for request in requests.chunks_exact(self.request.len()) {
            let data = self.request.data(request);
            self.chunk[CHUNK_HEAD.len()..CHUNK_HEAD.len() + DATA_BYTES].copy_from_slice(data);
            let stream = self.streams[self.request.number(request)];
            put(&mut self.conns[stream].socket, &self.chunk)?;
        }
        let bytes = requests.len() / self.request.len() * ANSWER.len();
        put(&mut self.conns[index].socket, &self.answers[..bytes])
    }

    /// A send to many: the same bytes for each of them.
    fn forward_to_many(
        &mut self,
        index: usize,
        shape: Shape,
        request: &[u8],
    ) -> std::io::Result<()> {
        let data = shape.data(request);
        self.chunk[CHUNK_HEAD.len()..CHUNK_HEAD.len() + DATA_BYTES].copy_from_slice(data);
        match shape.kind {
            Kind::Broadcast => self.jobs.push_back(Job::new(&self.chunk, Some(index))),
            Kind::Channel => {
                put(&mut self.conns[index].socket, &many::answer(self.open))?;
                for (_, conn) in &mut self.conns {
                    if conn.role == Role::Stream {
                        put(&mut conn.socket, &self.chunk)?;
                    }
                }
            }
            Kind::Tokens { at, count } => {
                put(&mut self.conns[index].socket, &many::answer(count))?;
                for number in many::numbers(request, at, count) {
                    let stream = self.streams[number];
                    put(&mut self.conns[stream].socket, &self.chunk)?;
                }
            }
        }
        Ok(())
    }

    /// The first job's next slice.
    fn advance(&mut self) -> std::io::Result<()> {
        let Some(job) = self.jobs.front_mut() else {
            return Ok(());
        };
        let end = (job.next + SLICE).min(self.conns.capacity());
        for index in job.next..end {
            if let Some(conn) = self.conns.get_mut(index)
                && conn.role == Role::Stream
            {
                put(&mut conn.socket, &job.bytes)?;
            }
        }
        job.next = end;
        if end < self.conns.capacity() {
            return Ok(());
        }
        let publisher = job.publisher;
        self.jobs.pop_front();
        match publisher.and_then(|index| self.conns.get_mut(index)) {
            Some(conn) => put(&mut conn.socket, &many::answer(self.open)),
            None => Ok(()),
        }
    }
}

impl Job {
    fn new(bytes: &[u8], publisher: Option<usize>) -> Job {
        Job {
            bytes: bytes.to_vec(),
            next: 0,
            publisher,
        }
    }
}

/// One write that takes everything. A client that left is no failure: its end is announced.
fn put(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    match socket.write(bytes) {
        Ok(n) => assert_eq!(n, bytes.len(), "the kernel's buffer is full"),
        Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
