//! Sockets that a service manager has opened (contract, sections 10 and 14; sd_listen_fds(3)).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::process::eventually;
use crate::support::{
    Backend, Builder, Client, Folder, Gateway, OK, Response, assert_error, assert_ok,
    assert_served, program,
};

/// A socket that is opened once and listens, whoever serves it.
struct Opened {
    socket: Socket,
    place: Place,
}

enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Opened {
    fn tcp() -> Opened {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = listening(Domain::IPV4, &at.into());
        let address = socket.local_addr().expect("an address").as_socket();
        let place = Place::Tcp(address.expect("an address of IPv4"));
        Opened { socket, place }
    }

    fn unix(path: &Path) -> Opened {
        let address = SockAddr::unix(path).expect("an address");
        let socket = listening(Domain::UNIX, &address);
        let place = Place::Unix(path.to_owned());
        Opened { socket, place }
    }

    fn connect(&self) -> Client {
        match &self.place {
            Place::Tcp(address) => Client::to(*address),
            Place::Unix(path) => Client::to_socket(path),
        }
    }

    fn get(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.get(path);
        client
    }

    fn post(&self, command: &serde_json::Value) -> Response {
        let mut client = self.connect();
        client.post(command.to_string().as_bytes());
        client.read_response()
    }

    /// Opens a stream, whose connect callback the backend answers by itself; gives its token too.
    fn open_stream(&self, backend: &Backend, path: &str) -> (Client, String) {
        let mut client = self.get(path);
        let token = backend.next_connect_of(path).token();
        assert_eq!(client.read_head().status, 200);
        (client, token)
    }
}

fn listening(domain: Domain, address: &SockAddr) -> Socket {
    let socket = Socket::new(domain, Type::STREAM, None).expect("a socket");
    socket.bind(address).expect("a free place");
    socket.listen(1024).expect("a listener");
    socket
}

fn given(builder: Builder, sockets: &[(&str, &Opened)]) -> Builder {
    let sockets: Vec<(&str, &dyn AsFd)> = sockets
        .iter()
        .map(|(name, opened)| (*name, &opened.socket as &dyn AsFd))
        .collect();
    builder.inheriting(&sockets)
}

/// Nobody listens at the port that it would have without.
fn assert_port_is_unused(gateway: &Gateway) {
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).is_err());
}

#[test]
fn one_socket_is_for_clients_and_publishers() {
    let folder = Folder::new("one");
    let path = folder.path("clients");
    for opened in [Opened::tcp(), Opened::unix(&path)] {
        let backend = Backend::accepting();
        let builder = Gateway::builder().backend(&backend);
        let mut gateway = given(builder, &[("ssegateway.socket", &opened)]).start();
        let place = match &opened.place {
            Place::Tcp(address) => format!("start port={} callbackUrl=", address.port()),
            Place::Unix(path) => format!("start socket={} callbackUrl=", path.display()),
        };
        gateway.wait_log(&place);
        gateway.wait_log("taken over from the service manager sockets=1");
        assert_port_is_unused(&gateway);
        let (mut client, token) = opened.open_stream(&backend, "/s");
        let command = json!({"token": token, "event": {"data": "x"}, "close": true});
        assert_ok(&opened.post(&command), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
        client.expect_last_chunk_and_eof();
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0));
        backend.assert_balanced();
    }
    // The file is its owner's.
    assert!(path.exists());
}

#[test]
fn a_socket_by_its_name_is_for_publishers() {
    let folder = Folder::new("two");
    let (clients, internal) = (Opened::tcp(), Opened::unix(&folder.path("internal")));
    let (named, unnamed) = (("internal", &internal), ("", &clients));
    for sockets in [[unnamed, named], [named, unnamed]] {
        let backend = Backend::accepting();
        let builder = Gateway::builder().backend(&backend);
        // What is configured for the same purpose is not opened.
        let configured = folder.path("configured");
        let builder = builder.env("INTERNAL_LISTEN", &format!("unix:{}", configured.display()));
        let gateway = given(builder, &sockets).start();
        let Place::Tcp(address) = &clients.place else {
            panic!("the clients' is of TCP");
        };
        gateway.wait_log(&format!("start port={} ", address.port()));
        assert!(!configured.exists());
        assert_port_is_unused(&gateway);
        let (mut client, token) = clients.open_stream(&backend, "/s");
        let command = json!({"token": token, "event": {"data": "x"}});
        assert_error(&clients.post(&command), 404, "NOT_FOUND");
        assert_ok(&internal.post(&command), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
        let response = internal.get("/s").read_response();
        assert_error(&response, 404, "NOT_FOUND");
    }
}

#[test]
fn one_alone_is_joined_by_what_is_configured() {
    let folder = Folder::new("alone");
    let backend = Backend::accepting();
    let (opened, own) = (Opened::tcp(), folder.path("own"));
    let at = format!("unix:{}", own.display());
    let event = |token: &str| json!({"token": token, "event": {"data": "x"}});
    // Publishers' alone: clients come to the port.
    let builder = Gateway::builder().backend(&backend);
    let gateway = given(builder, &[("internal", &opened)]).start();
    gateway.wait_log(&format!("start port={} ", gateway.port()));
    let (mut client, token) = crate::support::open_stream(&gateway, &backend, "/s");
    assert_error(
        &crate::support::post_send(&gateway, &event(&token)),
        404,
        "NOT_FOUND",
    );
    assert_ok(&opened.post(&event(&token)), OK);
    assert_eq!(client.next_event(), "data: x\n\n");
    drop(gateway);
    // Clients' alone, and INTERNAL_LISTEN.
    let builder = Gateway::builder().backend(&backend);
    let builder = builder.env("INTERNAL_LISTEN", &at);
    let gateway = given(builder, &[("clients", &opened)]).start();
    assert_port_is_unused(&gateway);
    let (mut client, token) = opened.open_stream(&backend, "/t");
    assert_error(&opened.post(&event(&token)), 404, "NOT_FOUND");
    let mut publisher = Client::to_socket(&own);
    publisher.post(event(&token).to_string().as_bytes());
    assert_ok(&publisher.read_response(), OK);
    assert_eq!(client.next_event(), "data: x\n\n");
}

#[test]
fn what_another_process_was_given_is_not_taken() {
    let settings = [("LISTEN_PID", "1"), ("LISTEN_FDS", "1")];
    for settings in [&settings[..], &settings[1..]] {
        let mut builder = Gateway::builder();
        for (name, value) in settings {
            builder = builder.env(name, value);
        }
        let gateway = builder.start();
        assert_served(&mut gateway.connect());
        assert_eq!(gateway.count_log("taken over"), 0);
    }
}

/// One sentence, and exit code 1.
#[track_caller]
fn assert_no_start(builder: Builder, part: &str) {
    let mut gateway = builder.spawn();
    assert_eq!(gateway.wait_exit().code(), Some(1), "{part}");
    let lines = gateway.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0].text;
    assert!(line.starts_with("ssegateway: LISTEN_FD"), "{line}");
    assert!(line.contains(part), "{part} in {line}");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let folder = Folder::new("wrong");
    let good = Opened::tcp();
    let builder = || Gateway::builder().inheriting(&[("http", &good.socket)]);
    let names = "must hold a name for each";
    assert_no_start(builder().env("LISTEN_FDNAMES", "http:internal"), names);
    assert_no_start(builder().env("LISTEN_FDS", "2"), names);
    assert_no_start(builder().env("LISTEN_FDS", "two"), "a number of sockets");
    // More than there are.
    let more = builder().env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "");
    assert_no_start(more, "descriptor 4, name \"\", must be");
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let unix_datagrams = UnixDatagram::bind(folder.path("datagrams")).expect("a socket");
    // One that was accepted already, as with Accept=yes.
    let accepted = TcpStream::connect(
        good.socket
            .local_addr()
            .expect("one")
            .as_socket()
            .expect("it"),
    );
    let accepted = accepted.expect("a connection");
    let file = fs::File::open(&folder.0).expect("a folder");
    let unheard = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let wrong: [&dyn AsFd; 5] = [&datagrams, &unix_datagrams, &accepted, &file, &unheard];
    for socket in wrong {
        let builder = Gateway::builder().inheriting(&[("a b", socket)]);
        assert_no_start(
            builder,
            "descriptor 3, name \"a b\", must be a TCP or Unix stream",
        );
        let both: [(&str, &dyn AsFd); 2] = [("http", &good.socket), ("internal", socket)];
        let builder = Gateway::builder().inheriting(&both);
        assert_no_start(builder, "descriptor 4, name internal, must be");
    }
    // Who asks a gateway that runs elsewhere, or for the version, needs none of them.
    let output = program(&[("LISTEN_FDS", "1")], &["--version"]).output();
    assert_eq!(output.expect("a program").status.code(), Some(0));
}

// ---- the end ----

/// The stream whose disconnect is not answered before the test says so.
const HELD: &str = "/held";

/// A gateway that stops as slowly as the test likes, once it is told to: a disconnect is held.
struct Stopping<'b> {
    gateway: Gateway,
    held: crate::support::Callback,
    _backend: &'b Backend,
}

fn untimed(builder: Builder, backend: &Backend) -> Builder {
    builder
        .backend(backend)
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .env("DISCONNECT_TIMEOUT_SECONDS", "600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
}

fn stop<'b>(gateway: Gateway, opened: &Opened, backend: &'b Backend) -> Stopping<'b> {
    let (mut client, token) = opened.open_stream(backend, HELD);
    gateway.signal("TERM");
    client.expect_last_chunk_and_eof();
    let held = backend.next_disconnect_of(&token);
    Stopping {
        gateway,
        held,
        _backend: backend,
    }
}

impl Stopping<'_> {
    fn end(mut self) {
        self.held.answer(200, "");
        assert_eq!(self.gateway.wait_exit().code(), Some(0));
    }
}

/// Answers by itself all but what keeps a gateway from its end.
fn holding() -> Backend {
    Backend::with(|callback| {
        if callback.is_connect() || callback.url() != HELD {
            callback.answer(200, "");
        }
    })
}

/// Who comes to a socket that outlives the gateway waits for the next one; who was there already, and
/// who comes to a socket of the gateway's own, is told.
#[test]
fn while_it_stops_newcomers_wait_on_what_was_inherited_alone() {
    let folder = Folder::new("stops");
    let opened = [Opened::tcp(), Opened::unix(&folder.path("clients"))];
    for (at, opened) in opened.into_iter().enumerate() {
        let backend = holding();
        let own = folder.path(&format!("internal-{at}"));
        let internal = format!("unix:{}", own.display());
        let builder = untimed(Gateway::builder(), &backend).env("INTERNAL_LISTEN", &internal);
        let gateway = given(builder, &[("http", &opened)]).start();
        let mut early = opened.connect();
        assert_served(&mut early);
        let stopping = stop(gateway, &opened, &backend);
        let mut waiting = opened.get("/waits");
        let mut checking = opened.get("/healthz");
        early.get("/new");
        assert_error(&early.read_response(), 503, "SHUTTING_DOWN");
        // Its own socket goes on being served, and all that is ready has been looked at then.
        assert_served(&mut Client::to_socket(&own));
        assert_served(&mut Client::to_socket(&own));
        for client in [&waiting, &checking] {
            let stream = client.stream();
            stream.set_nonblocking(true).expect("an option");
            let peeked = stream.peek(&mut [0]).expect_err("nothing");
            assert_eq!(peeked.kind(), std::io::ErrorKind::WouldBlock);
            stream.set_nonblocking(false).expect("an option");
        }
        stopping.end();
        assert!(!own.exists());
        let builder = untimed(Gateway::builder(), &backend);
        let next = given(builder, &[("http", &opened)]).start();
        assert_ok(&checking.read_response(), OK);
        let callback = backend.next_connect_of("/waits");
        assert!(callback.is_answered());
        assert_eq!(waiting.read_head().status, 200);
        drop(next);
    }
}

/// Two hundred clients come while one process goes and the next comes: each has its stream.
#[test]
fn nobody_is_refused_while_it_is_started_anew() {
    const CLIENTS: usize = 200;
    let folder = Folder::new("anew");
    for opened in [Opened::tcp(), Opened::unix(&folder.path("clients"))] {
        let backend = holding();
        let start = || {
            let builder = untimed(Gateway::builder(), &backend);
            given(builder, &[("http", &opened)]).start()
        };
        let first = start();
        let old: Vec<Client> = (0..CLIENTS / 2)
            .map(|at| opened.open_stream(&backend, &format!("/old/{at}")).0)
            .collect();
        let stopping = stop(first, &opened, &backend);
        for mut client in old {
            client.expect_last_chunk_and_eof();
        }
        let get = |at: usize| opened.get(&format!("/new/{at}"));
        let mut clients: Vec<Client> = (0..CLIENTS / 2).map(get).collect();
        stopping.end();
        clients.extend((CLIENTS / 2..CLIENTS).map(get));
        let _second = start();
        for client in &mut clients {
            assert_eq!(client.read_head().status, 200);
        }
    }
}

/// Clients that come all the time, through several restarts: whoever comes once the gateway has met the
/// signal gets a stream, whether the old process is still there, none is, or the next begins. Who is let
/// in before may be told that it stops: when the signal comes nobody is.
#[test]
fn whoever_comes_behind_the_signal_has_a_stream() {
    let folder = Folder::new("always");
    for opened in [Opened::tcp(), Opened::unix(&folder.path("clients"))] {
        let backend = Backend::accepting();
        let start = || {
            let builder = untimed(Gateway::builder(), &backend);
            given(builder, &[("http", &opened)]).start()
        };
        let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        let on_their_way = RwLock::new(());
        thread::scope(|scope| {
            let come = || {
                while !is_over.load(Ordering::Acquire) {
                    let own = on_their_way.read();
                    let mut client = opened.get("/s");
                    assert_eq!(client.read_head().status, 200);
                    drop(own);
                    served.fetch_add(1, Ordering::AcqRel);
                }
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
            for _ in 0..4 {
                let mut gateway = start();
                let before = served.load(Ordering::Acquire);
                eventually("streams", || served.load(Ordering::Acquire) > before + 20);
                let nobody = on_their_way.write();
                gateway.signal("TERM");
                gateway.wait_log("streams ended");
                drop(nobody);
                assert_eq!(gateway.wait_exit().code(), Some(0));
            }
            let _last = start();
            is_over.store(true, Ordering::Release);
            for client in clients {
                client.join().expect("no panic");
            }
        });
    }
}
