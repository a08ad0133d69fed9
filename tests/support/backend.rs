//! A backend that is held by gates: it answers a callback when the test says so, or by itself as
//! the test has told it.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use socket2::{Domain, SockAddr, Socket, Type};

use super::callback::{Callback, Wire};
use super::{Ledger, Port, Shared};

/// What the backend does by itself with each callback, before the test sees it.
type Habit = Box<dyn Fn(&Callback) + Send + Sync>;

/// A backend on the loopback interface, whose port is its own even while nobody listens, or at the
/// path of a Unix socket.
pub struct Backend {
    place: Place,
    common: Arc<Common>,
    acceptor: Option<(Arc<Socket>, JoinHandle<()>)>,
}

enum Place {
    Port(Port),
    Path(PathBuf),
}

struct Common {
    habit: Habit,
    ledger: Arc<Ledger>,
    arrived: Shared<VecDeque<Callback>>,
    wires: Shared<Vec<Arc<Wire>>>,
}

impl Backend {
    /// Answers nothing by itself.
    pub fn start() -> Backend {
        Backend::with(|_| {})
    }

    /// Answers every callback 200 with an empty body.
    pub fn accepting() -> Backend {
        Backend::with(|callback| callback.answer(200, ""))
    }

    /// Does this with every callback, each connection on a thread of its own; what it leaves
    /// unanswered is the test's.
    pub fn with(habit: impl Fn(&Callback) + Send + Sync + 'static) -> Backend {
        let mut backend = Backend::refusing(habit);
        backend.listen();
        backend
    }

    /// Not listening yet: connections are refused.
    pub fn refusing(habit: impl Fn(&Callback) + Send + Sync + 'static) -> Backend {
        Backend::of(Place::Port(Port::reserve_local()), habit)
    }

    /// The same at a Unix socket, whose file is there as soon as it listens, and stays.
    pub fn at_socket(path: &Path, habit: impl Fn(&Callback) + Send + Sync + 'static) -> Backend {
        Backend::of(Place::Path(path.to_owned()), habit)
    }

    fn of(place: Place, habit: impl Fn(&Callback) + Send + Sync + 'static) -> Backend {
        Backend {
            place,
            common: Arc::new(Common {
                habit: Box::new(habit),
                ledger: Arc::default(),
                arrived: Shared::default(),
                wires: Shared::default(),
            }),
            acceptor: None,
        }
    }

    /// Starts to listen, the first time or again.
    pub fn listen(&mut self) {
        let socket = |domain| Socket::new(domain, Type::STREAM, None).expect("a socket");
        let (socket, address) = match &self.place {
            Place::Port(_) => (socket(Domain::IPV4), self.address().into()),
            Place::Path(path) => {
                // What was left by the last time.
                let _ = fs::remove_file(path);
                let address = SockAddr::unix(path).expect("an address");
                (socket(Domain::UNIX), address)
            }
        };
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&address).expect("the own place");
        socket.listen(1024).expect("a listener");
        let listener = Arc::new(socket);
        let (accepting, common) = (Arc::clone(&listener), Arc::clone(&self.common));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let (common, stream) = (Arc::clone(&common), TcpStream::from(stream));
                let wire = common.enter(&stream);
                thread::spawn(move || common.serve(stream, &wire));
            }
        });
        self.acceptor = Some((listener, thread));
    }

    /// Stops listening; connections that there are stay.
    pub fn stop_listening(&mut self) {
        if let Some((listener, thread)) = self.acceptor.take() {
            listener.shutdown(Shutdown::Both).expect("a listener");
            thread.join().expect("no panic");
        }
    }

    /// Stops listening and closes every connection, as a process does that ends.
    pub fn leave(&mut self) {
        self.stop_listening();
        self.common.wires.look(|wires| {
            for wire in wires {
                wire.end(false);
            }
        });
    }

    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Port(port) => (Ipv4Addr::LOCALHOST, port.number()).into(),
            Place::Path(path) => panic!("{} is no address", path.display()),
        }
    }

    pub fn url(&self) -> String {
        match &self.place {
            Place::Port(_) => format!("http://{}/callback", self.address()),
            Place::Path(path) => format!("http://unix:{}:/callback", path.display()),
        }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.common.ledger
    }

    /// See [`Ledger::assert_balanced`].
    #[track_caller]
    pub fn assert_balanced(&self) {
        self.common.ledger.assert_balanced();
    }

    // ---- callbacks that arrived ----

    /// The next callback of any kind.
    #[track_caller]
    pub fn next(&self) -> Callback {
        self.next_where("callback", |_| true)
    }

    #[track_caller]
    pub fn next_connect(&self) -> Callback {
        self.next_where("connect callback", Callback::is_connect)
    }

    /// The next connect callback for this request target.
    #[track_caller]
    pub fn next_connect_of(&self, url: &str) -> Callback {
        self.next_where(&format!("connect callback of {url}"), |callback| {
            callback.is_connect() && callback.url() == url
        })
    }

    #[track_caller]
    pub fn next_disconnect(&self) -> Callback {
        self.next_where("disconnect callback", |callback| !callback.is_connect())
    }

    /// The next disconnect callback for this token.
    #[track_caller]
    pub fn next_disconnect_of(&self, token: &str) -> Callback {
        self.next_where(&format!("disconnect callback of {token}"), |callback| {
            !callback.is_connect() && callback.token() == token
        })
    }

    /// Takes the first callback that `wanted` accepts; those before it stay.
    #[track_caller]
    pub fn next_where(&self, what: &str, wanted: impl Fn(&Callback) -> bool) -> Callback {
        let arrived = &self.common.arrived;
        let found = arrived.wait(|queue| {
            let at = queue.iter().position(&wanted)?;
            queue.remove(at)
        });
        found.unwrap_or_else(|| panic!("no {what}; there are {:?}", arrived.look(listed)))
    }

    /// Callbacks that arrived and were not taken.
    pub fn waiting(&self) -> usize {
        self.common.arrived.look(VecDeque::len)
    }

    /// Nothing has arrived that was not taken. Says nothing of what is on its way: something that
    /// would come later must have been waited for.
    #[track_caller]
    pub fn assert_idle(&self) {
        let arrived = self.common.arrived.look(listed);
        assert!(arrived.is_empty(), "unexpected: {arrived:?}");
    }

    // ---- connections ----

    /// Connections that were made so far.
    pub fn connections(&self) -> usize {
        self.common.wires.look(Vec::len)
    }

    /// Waits until the connection with this number has ended.
    #[track_caller]
    pub fn wait_ended(&self, connection: usize) {
        let wire = self
            .common
            .wires
            .look(|wires| Arc::clone(&wires[connection]));
        wire.wait_ended();
    }
}

fn listed(queue: &VecDeque<Callback>) -> Vec<String> {
    queue.iter().map(Callback::text).collect()
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.leave();
        let violations = self.ledger().violations();
        if !thread::panicking() {
            assert!(violations.is_empty(), "{violations:?}");
        }
    }
}

impl Common {
    fn enter(&self, stream: &TcpStream) -> Arc<Wire> {
        let own = stream.try_clone().expect("a descriptor");
        self.wires.change(|wires| {
            let wire = Wire::new(wires.len(), own);
            wires.push(Arc::clone(&wire));
            wire
        })
    }

    fn serve(self: Arc<Self>, mut stream: TcpStream, wire: &Arc<Wire>) {
        let _serving = Serving {
            ledger: &self.ledger,
            wire,
        };
        let mut bytes = Vec::new();
        while let Some((head, body)) = read_request(&mut stream, &mut bytes) {
            let callback = Callback::new(wire, &self.ledger, head, body);
            if callback.json["action"] == "disconnect" {
                self.ledger.disconnect(&callback.token(), callback.reason());
            }
            (self.habit)(&callback);
            self.arrived.change(|queue| queue.push_back(callback));
        }
    }
}

/// One connection's thread. It is detached, so that its panic, a habit's assertion for one, would
/// be lost.
struct Serving<'b> {
    ledger: &'b Ledger,
    wire: &'b Wire,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.ledger.violate("a panic of the backend");
        }
        self.wire.note_ended();
    }
}

/// Reads until a head and the body that its Content-Length announces are there; `None` at the
/// connection's end.
fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut room = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                let value = line.strip_prefix("content-length:")?;
                value.trim().parse::<usize>().ok()
            });
            let total = end + 4 + length.unwrap_or(0);
            if bytes.len() >= total {
                let body = bytes[end + 4..total].to_vec();
                bytes.drain(..total);
                return Some((head, body));
            }
        }
        match stream.read(&mut room) {
            Ok(n @ 1..) => bytes.extend_from_slice(&room[..n]),
            _ => return None,
        }
    }
}
