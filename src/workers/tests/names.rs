//! Finding the backend's addresses.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use ureq::Error;

use super::backend::*;
use crate::callback::Outcome;
use crate::workers::Workers;
use crate::workers::dial::{Dial, Inner, Watch};
use crate::workers::exchange::Exchange;
use crate::workers::fields::Fields;
use crate::workers::resolver::Lookup;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn by_url(url: &str) -> Vec<SocketAddr> {
    let lookup = Arc::new(Lookup::new(&url.parse().expect("a URL")));
    lookup
        .addresses(Duration::ZERO)
        .expect("a literal")
        .to_vec()
}

#[test]
fn literals_need_no_lookup() {
    assert_eq!(by_url("http://127.0.0.1/"), [address("127.0.0.1:80")]);
    assert_eq!(by_url("https://10.1.2.3/x"), [address("10.1.2.3:443")]);
    assert_eq!(by_url("http://u:p@10.1.2.3:81/"), [address("10.1.2.3:81")]);
    assert_eq!(by_url("http://[::1]:8080/"), [address("[::1]:8080")]);
}

/// Lookups that end when the test says so.
struct Gated {
    lookup: Arc<Lookup>,
    begun: Arc<AtomicUsize>,
    go: Sender<io::Result<Vec<SocketAddr>>>,
}

fn gated() -> Gated {
    let (go, gate): (_, Receiver<io::Result<Vec<SocketAddr>>>) = channel();
    let gate = Mutex::new(gate);
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let lookup = Arc::new(Lookup::by(move || {
        count.fetch_add(1, Ordering::SeqCst);
        let gate = gate.lock().expect("the gate");
        gate.recv_timeout(PATIENCE).map_err(io::Error::other)?
    }));
    Gated { lookup, begun, go }
}

#[test]
fn waiting_for_a_name_is_bounded_and_shared() {
    let gated = gated();
    let begun = Instant::now();
    let short = gated.lookup.addresses(Duration::from_millis(50));
    assert!(matches!(short, Err(Error::Timeout(_))));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let lookup = Arc::clone(&gated.lookup);
            thread::spawn(move || lookup.addresses(PATIENCE).map(|found| found.to_vec()))
        })
        .collect();
    let two = vec![address("[::1]:1"), address("127.0.0.1:1")];
    gated.go.send(Ok(two.clone())).expect("the lookup");
    for waiter in waiters {
        assert_eq!(waiter.join().expect("no panic").expect("found"), two);
    }
    // Kept for the next.
    assert_eq!(
        gated
            .lookup
            .addresses(Duration::ZERO)
            .expect("kept")
            .to_vec(),
        two
    );
    assert_eq!(gated.begun.load(Ordering::SeqCst), 1);
}

#[test]
fn a_failure_is_kept_for_a_second() {
    let gated = gated();
    let begun = Instant::now();
    for (count, answer) in [(1, Err(io::Error::other("trouble"))), (2, Ok(Vec::new()))] {
        gated.go.send(answer).expect("the lookup");
        for _ in 0..10 {
            let found = gated.lookup.addresses(PATIENCE);
            assert!(matches!(found, Err(Error::HostNotFound)));
        }
        assert_eq!(gated.begun.load(Ordering::SeqCst), count);
        until(|| {
            let found = gated.lookup.addresses(Duration::ZERO);
            matches!(found, Err(Error::Timeout(_)))
        });
        assert!(begun.elapsed() >= Duration::from_secs(count as u64));
    }
}

#[test]
fn abandoning_frees_who_waits() {
    let gated = gated();
    let lookup = Arc::clone(&gated.lookup);
    let waiter = thread::spawn(move || lookup.addresses(PATIENCE).map(drop));
    until(|| gated.begun.load(Ordering::SeqCst) == 1);
    let begun = Instant::now();
    gated.lookup.abandon();
    assert!(matches!(
        waiter.join().expect("no panic"),
        Err(Error::Io(_))
    ));
    assert!(begun.elapsed() < PATIENCE / 2);
}

fn exchange(lookup: &Arc<Lookup>) -> Exchange {
    let dial = Dial {
        inner: Arc::new(Inner::new(None)),
        lookup: Arc::clone(lookup),
        watch: Arc::new(Watch::default()),
    };
    let url = "http://backend.invalid/".parse().expect("a URL");
    let fields = Fields::new(&settings("127.0.0.1:1"));
    Exchange::new(url, PATIENCE, dial, Arc::new(fields))
}

/// A backend, and its port in the other family, which is its own as well: another's backend there
/// would answer in its stead.
fn beside_nobody(listen: &str, mut other: SocketAddr) -> (Backend, Refusing) {
    loop {
        let backend = Backend::on(listen).expect("a port");
        other.set_port(backend.address().port());
        if let Ok(nobody) = Refusing::on(other) {
            return (backend, nobody);
        }
    }
}

/// `localhost` has two addresses, and a backend often listens on one of them.
#[test]
fn one_working_address_is_enough() {
    let (four, six) = ("127.0.0.1:0", "[::1]:0");
    for (listen, other) in [(four, six), (six, four)] {
        // A machine without IPv6 has nothing to show.
        if Backend::on(six).is_err() {
            continue;
        }
        let (backend, _nobody) = beside_nobody(listen, address(other));
        let port = backend.address().port();
        let both = ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().expect("an IP"), port));
        let lookup = Arc::new(Lookup::by(move || Ok(both.to_vec())));
        let serve = thread::spawn(move || {
            let mut peer = backend.accept();
            peer.request();
            peer.send(OK);
        });
        assert_eq!(status(&exchange(&lookup).run(&connect(1), PATIENCE)), 200);
        serve.join().expect("no panic");
    }
}

#[test]
fn localhost_works() {
    let backend = Backend::new();
    let port = backend.address().port();
    let rig = Rig::new(settings(format!("localhost:{port}")));
    rig.submit(connect(1));
    let mut peer = backend.accept();
    let request = peer.request();
    assert!(request.contains(&format!("host: localhost:{port}\r\n")));
    peer.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
}

/// A kept connection needs no name: trouble with it hurts nobody who has one.
#[test]
fn a_name_is_looked_up_only_for_a_new_connection() {
    let backend = Backend::new();
    let found = backend.address();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let lookup = Arc::new(Lookup::by(move || {
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(vec![found]),
            _ => Err(io::Error::other("trouble")),
        }
    }));
    let mut exchange = exchange(&lookup);
    let serve = thread::spawn(move || {
        let mut peer = backend.accept();
        for _ in 0..2 {
            peer.request();
            peer.send(OK);
        }
    });
    assert_eq!(status(&exchange.run(&connect(1), PATIENCE)), 200);
    lookup.forget();
    assert_eq!(status(&exchange.run(&connect(2), PATIENCE)), 200);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    serve.join().expect("no panic");
}

/// An address that swallows connections leaves time for the next one.
#[test]
fn a_silent_address_does_not_eat_the_time() {
    // A listener whose backlog is full: the kernel drops what comes.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    silent.bind(&address("127.0.0.1:0").into()).expect("a port");
    silent.listen(0).expect("listening");
    let silent = TcpListener::from(silent);
    let silent_at = silent.local_addr().expect("an address");
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&silent_at, Duration::from_millis(200)) {
        filling.push(stream);
    }
    let backend = Backend::new();
    let addresses = vec![silent_at, backend.address()];
    let lookup = Arc::new(Lookup::by(move || Ok(addresses.clone())));
    let mut exchange = exchange(&lookup);
    let serve = thread::spawn(move || {
        let mut peer = backend.accept();
        peer.request();
        peer.send(OK);
    });
    let begun = Instant::now();
    let outcome = exchange.run(&connect(1), Duration::from_millis(1500));
    assert_eq!(status(&outcome), 200, "{outcome:?}");
    assert!(
        begun.elapsed() >= Duration::from_millis(500),
        "it was not silent"
    );
    serve.join().expect("no panic");
}

#[test]
fn a_name_that_hangs_times_out() {
    let gated = gated();
    let begun = Instant::now();
    let outcome = exchange(&gated.lookup).run(&connect(1), Duration::from_millis(100));
    assert!(matches!(outcome, Outcome::TimedOut));
    assert!(begun.elapsed() < PATIENCE / 2);
    drop(gated.go);
}

#[test]
fn a_backend_at_a_unix_socket_is_not_looked_up() {
    let path = std::env::temp_dir().join(format!("ssegateway-workers-{}", std::process::id()));
    let backend = UnixListener::bind(&path).expect("a socket");
    let mut settings = settings("nobody.invalid");
    settings.socket = Some(path.clone());
    let workers = Workers::new(settings, Instant::now(), || {});
    let literal = workers.shared.lookup.addresses(Duration::ZERO);
    assert_eq!(literal.expect("no lookup").len(), 1);
    workers.submit(connect(1)).expect("room");
    let (mut stream, _) = backend.accept().expect("a connection");
    let mut begin = [0; 33];
    stream.read_exact(&mut begin).expect("a request");
    assert_eq!(&begin, b"POST /hook?key=s%20ecret HTTP/1.1");
    std::fs::remove_file(&path).expect("its file");
}
