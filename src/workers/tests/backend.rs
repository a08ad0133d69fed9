//! A backend that does what the test says, when the test says it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use uuid::Uuid;

use crate::callback::{Action, CallbackResult, Job, JobId, Outcome, Reason};
use crate::header_store::{HeaderStore, Request};
use crate::time::Time;
use crate::workers::resolver::Lookup;
use crate::workers::{CallbackSettings, Workers};

/// No test waits longer for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const BOOT: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

pub(super) struct Backend {
    listener: TcpListener,
}

impl Backend {
    pub(super) fn new() -> Backend {
        Backend::on("127.0.0.1:0").expect("a port")
    }

    pub(super) fn on(address: &str) -> std::io::Result<Backend> {
        let listener = TcpListener::bind(address)?;
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
        Ok(Backend { listener })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next connection.
    pub(super) fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Peer(stream)
    }

    /// Nobody has connected since the last `accept`.
    pub(super) fn assert_idle(&self) {
        self.listener.set_nonblocking(true).expect("non-blocking");
        let error = self.listener.accept().expect_err("no connection");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.listener.set_nonblocking(false).expect("blocking");
    }

    /// Answers everything with 200, a thread per connection.
    pub(super) fn serve(self) -> SocketAddr {
        let address = self.address();
        thread::spawn(move || {
            while let Ok((stream, _)) = self.listener.accept() {
                thread::spawn(move || {
                    let mut peer = Peer(stream);
                    while peer.try_request().is_some() {
                        peer.send(OK);
                    }
                });
            }
        });
        address
    }
}

/// A port of its own at which nobody listens: connections are refused.
pub(super) struct Refusing(Socket);

impl Refusing {
    pub(super) fn new() -> Refusing {
        Refusing::on((Ipv4Addr::LOCALHOST, 0).into()).expect("a port")
    }

    pub(super) fn on(address: SocketAddr) -> std::io::Result<Refusing> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&address.into())?;
        Ok(Refusing(socket))
    }

    pub(super) fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().expect("an address");
        address.as_socket().expect("an IP address")
    }
}

/// The backend's end of one connection; dropped, it is closed.
pub(super) struct Peer(TcpStream);

impl Peer {
    /// The next request, its head and body in one.
    pub(super) fn request(&mut self) -> String {
        String::from_utf8(self.request_bytes()).expect("text")
    }

    /// What comes in one read.
    pub(super) fn piece(&mut self) -> String {
        let mut piece = vec![0; 4096];
        let length = self.0.read(&mut piece).expect("a request");
        piece.truncate(length);
        String::from_utf8(piece).expect("text")
    }

    pub(super) fn request_bytes(&mut self) -> Vec<u8> {
        self.try_request().expect("a request")
    }

    fn try_request(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().expect("a length"));
                if bytes.len() >= end + 4 + length {
                    return Some(bytes);
                }
            }
            match self.0.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            }
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("room");
    }

    /// As `send`, for bytes that the gateway need not wait for.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub(super) fn reset(self) {
        SockRef::from(&self.0)
            .set_linger(Some(Duration::ZERO))
            .expect("linger");
    }

    /// Waits for the gateway's end to close.
    pub(super) fn closed(&mut self) {
        match self.0.read(&mut [0; 16]) {
            Ok(0) => {}
            // What the gateway had not read makes its close a reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}, not the end"),
        }
    }

    pub(super) fn is_closed(&mut self) -> bool {
        self.0.set_nonblocking(true).expect("non-blocking");
        let closed =
            !matches!(self.0.read(&mut [0; 16]), Err(e) if e.kind() == ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).expect("blocking");
        closed
    }
}

pub(super) fn settings(address: impl ToString) -> CallbackSettings {
    let url = format!("http://{}/hook?key=s%20ecret", address.to_string());
    CallbackSettings {
        url: url.parse().expect("a URL"),
        boot: BOOT,
        gateway_url: None,
        authorization: None,
        socket: None,
        connect_workers: 1,
        connect_queue: 64,
        disconnect_workers: 1,
        disconnect_queue: 64,
        disconnect_timeout: PATIENCE,
        worker_idle: Duration::from_secs(60),
    }
}

/// Workers, and the loop's side of them.
pub(super) struct Rig {
    pub(super) workers: Workers,
    pub(super) wakes: Receiver<()>,
}

impl Rig {
    pub(super) fn new(settings: CallbackSettings) -> Rig {
        Rig::since(settings, Instant::now())
    }

    pub(super) fn since(settings: CallbackSettings, epoch: Instant) -> Rig {
        let lookup = Lookup::new(&settings.url);
        Rig::with(settings, epoch, lookup)
    }

    pub(super) fn with(settings: CallbackSettings, epoch: Instant, lookup: Lookup) -> Rig {
        let (sender, wakes) = channel();
        let wake = Box::new(move || {
            let _ = sender.send(());
        });
        let workers = Workers::with(settings, epoch, wake, lookup);
        Rig { workers, wakes }
    }

    /// Runs `hook` before each exchange.
    pub(super) fn hook(&self, hook: impl Fn(&Job) + Send + Sync + 'static) {
        let set = self.workers.shared.hook.set(Box::new(hook));
        assert!(set.is_ok());
    }

    pub(super) fn submit(&self, job: Job) {
        self.workers.submit(job).expect("room");
    }

    pub(super) fn result(&self) -> CallbackResult {
        loop {
            if let Some(result) = self.workers.try_result() {
                return result;
            }
            self.wakes.recv_timeout(PATIENCE).expect("a result");
        }
    }

    /// One callback over the backend's next connection.
    pub(super) fn outcome(&self, job: Job) -> Outcome {
        let id = job.id;
        self.submit(job);
        let result = self.result();
        assert_eq!(result.id, id);
        result.outcome
    }
}

pub(super) fn connect(id: u64) -> Job {
    connect_until(id, Time(3_600_000))
}

pub(super) fn connect_until(id: u64, expires: Time) -> Job {
    job(id, Action::Connect { expires })
}

pub(super) fn disconnect(id: u64) -> Job {
    let reason = Reason::ClientClosed;
    job(id, Action::Disconnect { reason })
}

fn job(id: u64, action: Action) -> Job {
    Job {
        id: JobId(id),
        token: token(id),
        action,
        request: request_of("/"),
        position: None,
    }
}

pub(super) fn token(id: u64) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(id))
}

/// Why it failed.
pub(super) fn sentence(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

/// 0 for no answer at all.
pub(super) fn status(outcome: &Outcome) -> u16 {
    match outcome {
        Outcome::Answered { status, .. } => *status,
        _ => 0,
    }
}

/// Waits for what happens by itself and cannot be waited for.
pub(super) fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "it never came");
        thread::yield_now();
    }
}

/// A request for `url` without header fields.
pub(super) fn request_of(url: &str) -> Request {
    request_with(url, &[])
}

/// A request with these header fields, lower-cased names and values read as Latin-1.
pub(super) fn request_with(url: &str, fields: &[(&str, &str)]) -> Request {
    let mut parts = serde_json::to_string(url).expect("text");
    let mut ends = vec![parts.len()];
    for (name, value) in fields {
        let value = serde_json::to_string(value).expect("text");
        parts += &format!("\"{name}\":{value}");
        ends.push(parts.len());
    }
    let store = HeaderStore::new(1 << 26);
    store.keep(parts.as_bytes(), &ends).expect("room")
}
