//! The publishers: kept-alive connections that send events, any number at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};

use mio::net::TcpStream;
use mio::{Interest, Registry};

use crate::Outcome;
use crate::kept;
use crate::many;
use crate::wire::{self, ANSWER, Mark, OK, OK_BODY, SendRequest, Token};

/// What the body of every good answer begins with.
const OK_FRONT: &[u8] = b"{\"status\":\"ok\"";

/// One publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    socket: TcpStream,
    /// Requests that the socket has not taken.
    out: Vec<u8>,
    /// The front of an answer whose rest is not there yet.
    rest: Vec<u8>,
    /// Requests without an answer.
    pub(crate) in_flight: usize,
    /// How many streams the last send to many has addressed, as its answer says.
    pub(crate) receivers: u64,
    /// The id of the last event that got one.
    pub(crate) last_id: Vec<u8>,
}

impl Publisher {
    pub(crate) fn connect(
        server: SocketAddr,
        token: mio::Token,
        registry: &Registry,
    ) -> Outcome<Publisher> {
        let connect = || {
            let socket = StdStream::connect(server)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(socket)
        };
        let failed = |error: std::io::Error| format!("a publisher cannot connect: {error}");
        Ok(Publisher {
            socket: connect().map_err(failed)?,
            out: Vec::with_capacity(64 * 1024),
            rest: Vec::new(),
            in_flight: 0,
            receivers: 0,
            last_id: Vec::new(),
        })
    }

    /// Makes one more request; [`Publisher::flush`] sends it.
    pub(crate) fn push(&mut self, request: &SendRequest, token: &Token, mark: Mark) {
        request.write(&mut self.out, token, mark);
        self.in_flight += 1;
    }

    /// Takes one more request as it is; [`Publisher::flush`] sends it.
    pub(crate) fn push_bytes(&mut self, request: &[u8]) {
        self.out.extend_from_slice(request);
        self.in_flight += 1;
    }

    /// Writes what was made, in one piece if the socket takes it.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a publisher cannot write: {error}")),
            }
        }
        Ok(())
    }

    /// Reads what there is; gives the number of answers.
    pub(crate) fn readable(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let mut answers = 0;
        loop {
            let n = match self.socket.read(buffer) {
                Ok(0) => return Err("the server closed a publisher's connection".to_owned()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a publisher cannot read: {error}")),
            };
            if self.rest.is_empty() {
                answers += self.take(&buffer[..n])?;
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(&buffer[..n]);
                answers += self.take(&whole)?;
            }
            // Less than was asked for: there is no more now, and more will be announced.
            if n < buffer.len() {
                break;
            }
        }
        self.in_flight = self
            .in_flight
            .checked_sub(answers)
            .ok_or("a publisher got more answers than it asked for")?;
        Ok(answers)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Outcome<usize> {
        let mut count = 0;
        while !bytes.is_empty() {
            // As nearly all are.
            let is_plain = bytes.get(..ANSWER.len()).is_some_and(is_plain);
            let end = match is_plain {
                true => Some(ANSWER.len()),
                false => self.take_other(bytes)?,
            };
            let Some(end) = end else { break };
            bytes = &bytes[end..];
            count += 1;
        }
        self.rest = bytes.to_vec();
        Ok(count)
    }

    /// An answer of another length: to a send to many, to a health check, or one that tells of
    /// unsent bytes. Gives where it ends, once it is there whole.
    fn take_other(&mut self, bytes: &[u8]) -> Outcome<Option<usize>> {
        let known = bytes.len().min(OK.len());
        if bytes[..known] != OK[..known] {
            return Err(unexpected(bytes));
        }
        let Some((head, end)) = wire::ends(bytes) else {
            return Ok(None);
        };
        let Some(body) = bytes.get(head..end) else {
            return Ok(None);
        };
        if !body.starts_with(OK_FRONT) || !body.ends_with(b"}") {
            return Err(unexpected(bytes));
        }
        if let Some(receivers) = many::receivers(body) {
            self.receivers = receivers;
        }
        if let Some(id) = kept::id(body) {
            self.last_id.clear();
            self.last_id.extend_from_slice(id);
        }
        Ok(Some(end))
    }
}

fn is_plain(answer: &[u8]) -> bool {
    answer.starts_with(OK) && answer.ends_with(OK_BODY)
}

fn unexpected(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    format!("a publisher got {shown:?}")
}
