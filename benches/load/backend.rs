//! The backend: accepts every stream, and keeps account of its callbacks token by token.
//!
//! One thread with connections that are kept alive; it does as little as it can, since it shares
//! a core with the load.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Waker};

use crate::kept::Joins;
use crate::wire::{self, TOKEN_BYTES, Token};

const LISTENER: mio::Token = mio::Token(usize::MAX);
const WAKER: mio::Token = mio::Token(usize::MAX - 1);

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the callbacks said.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Each stream's token, by its number.
    tokens: Vec<Option<Token>>,
    /// Connects and disconnects of each token.
    of_token: HashMap<Token, (u32, u32)>,
    pub(crate) connects: u64,
    pub(crate) disconnects: u64,
    /// When the last callback came.
    pub(crate) last: Option<Instant>,
    /// What was not a callback.
    problem: Option<String>,
}

impl Accounts {
    /// A stream's token; known as soon as the stream is open, as it is told before.
    pub(crate) fn token(&self, number: u32) -> Option<Token> {
        self.tokens.get(number as usize).copied().flatten()
    }

    /// Tokens that did not get exactly one connect and one disconnect.
    pub(crate) fn unbalanced(&self) -> u64 {
        let is_balanced = |counts: &&(u32, u32)| **counts != (1, 1);
        self.of_token.values().filter(is_balanced).count() as u64
    }

    /// Notes a callback; gives the stream's number if it is a connect.
    fn note(&mut self, body: &[u8]) -> Result<Option<u32>, &'static str> {
        let token = behind(body, b"\"token\":\"", TOKEN_BYTES).ok_or("no token")?;
        let token: Token = token.try_into().map_err(|_| "no token")?;
        let counts = self.of_token.entry(token).or_default();
        let mut opening = None;
        if body.starts_with(b"{\"action\":\"connect\",") {
            let url = [b"\"url\":\"", wire::TARGET.as_bytes()].concat();
            let digits = behind(body, &url, 8).ok_or("no stream number")?;
            let number = wire::decimal(digits) as usize;
            opening = Some(number as u32);
            counts.0 += 1;
            self.connects += 1;
            if self.tokens.len() <= number {
                self.tokens.resize(number + 1, None);
            }
            self.tokens[number] = Some(token);
        } else {
            counts.1 += 1;
            self.disconnects += 1;
        }
        self.last = Some(Instant::now());
        Ok(opening)
    }
}

/// The `n` bytes behind the first `mark`.
fn behind<'a>(body: &'a [u8], mark: &[u8], n: usize) -> Option<&'a [u8]> {
    let at = memmem::find(body, mark)? + mark.len();
    body.get(at..at + n)
}

/// A backend on a thread of its own, as long as this lives.
pub(crate) struct Backend {
    address: SocketAddr,
    accounts: Arc<Mutex<Accounts>>,
    is_over: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Backend {
    /// Every stream joins these channels.
    pub(crate) fn start(joins: Joins) -> io::Result<Backend> {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let accounts = Arc::new(Mutex::new(Accounts::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut desk = Desk {
            poll,
            listener,
            peers: slab::Slab::new(),
            accounts: Arc::clone(&accounts),
            is_over: Arc::clone(&is_over),
            joins,
        };
        let thread = std::thread::Builder::new().name("backend".to_owned());
        Ok(Backend {
            address,
            accounts,
            is_over,
            waker,
            thread: Some(thread.spawn(move || desk.serve())?),
        })
    }

    /// Where callbacks go.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    /// The accounts as they are now.
    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What went wrong here, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Err("the backend has failed".to_owned());
        }
        self.accounts().problem.take().map_or(Ok(()), Err)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A thread that cannot be woken is gone already.
        let _ = self.waker.wake();
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the backend failed: {error}");
        }
    }
}

struct Peer {
    socket: TcpStream,
    input: Vec<u8>,
}

/// What the backend's thread works with.
struct Desk {
    poll: Poll,
    listener: TcpListener,
    peers: slab::Slab<Peer>,
    accounts: Arc<Mutex<Accounts>>,
    is_over: Arc<AtomicBool>,
    /// What connect callbacks are answered.
    joins: Joins,
}

impl Desk {
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; 64 * 1024];
        while !self.is_over.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {}
                    mio::Token(index) => self.read(index, &mut buffer),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let entry = self.peers.vacant_entry();
            let token = mio::Token(entry.key());
            self.poll
                .registry()
                .register(&mut socket, token, Interest::READABLE)?;
            entry.insert(Peer {
                socket,
                input: Vec::with_capacity(4096),
            });
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        while let Some(peer) = self.peers.get_mut(index) {
            match peer.socket.read(buffer) {
                Ok(n) if n > 0 => {
                    peer.input.extend_from_slice(&buffer[..n]);
                    if answer(peer, &self.accounts, self.joins).is_err() {
                        self.peers.remove(index);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // A worker of the gateway that ended.
                Ok(_) | Err(_) => drop(self.peers.remove(index)),
            }
        }
    }
}

/// Answers every callback that is there whole.
fn answer(peer: &mut Peer, accounts: &Mutex<Accounts>, joins: Joins) -> io::Result<()> {
    while let Some((head, end)) = wire::ends(&peer.input)
        && end <= peer.input.len()
    {
        let body = &peer.input[head..end];
        let mut accounts = accounts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let opening = accounts.note(body).unwrap_or_else(|problem| {
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]);
            accounts.problem = Some(format!("the backend got a callback, {problem}: {shown:?}"));
            None
        });
        drop(accounts);
        peer.input.drain(..end);
        match opening.and_then(|number| joins.body(number)) {
            None => peer.socket.write_all(ANSWER.as_bytes())?,
            Some(body) => {
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Length: ";
                let answer = format!("{head}{length}\r\n\r\n{body}");
                peer.socket.write_all(answer.as_bytes())?;
            }
        }
    }
    Ok(())
}
