//! What a service manager is told (contract, section 14; sd_notify(3)).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::support::process::eventually;
use crate::support::{
    Backend, Builder, Folder, Gateway, PATIENCE, assert_served, open_stream, program,
};

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Manager {
        Manager(UnixDatagram::bind(path).expect("a socket"))
    }

    /// What it is told next, within so long.
    fn told_within(&self, time: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(time)).expect("a time-out");
        let mut room = [0; 4096];
        loop {
            match self.0.recv(&mut room) {
                Ok(length) => return Some(String::from_utf8_lossy(&room[..length]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // The test itself was stopped meanwhile (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    fn told(&self) -> String {
        self.told_within(PATIENCE).expect("a message")
    }

    /// Waits until it is told this, behind what was under way.
    #[track_caller]
    fn told_at_last(&self, what: &str) {
        eventually(what, || self.told() == what);
    }

    /// Forgets what it was told so far; how much that was.
    fn forget(&self) -> usize {
        self.0.set_nonblocking(true).expect("an option");
        let mut room = [0; 4096];
        let mut count = 0;
        while self.0.recv(&mut room).is_ok() {
            count += 1;
        }
        self.0.set_nonblocking(false).expect("an option");
        count
    }
}

fn notifying(path: &Path) -> Builder {
    let path = path.to_str().expect("a text");
    Gateway::builder().env("NOTIFY_SOCKET", path)
}

#[test]
fn it_is_ready_when_it_listens_and_says_that_it_stops() {
    let folder = Folder::new("notify");
    let path = folder.path("notify");
    // An abstract name beside the path: it is as unique.
    let name = path.to_str().expect("a text");
    let abstract_name = SocketAddr::from_abstract_name(name).expect("an address");
    let abstracted = Manager(UnixDatagram::bind_addr(&abstract_name).expect("a socket"));
    let managers = [
        (name.to_owned(), Manager::at(&path)),
        (format!("@{name}"), abstracted),
    ];
    for (at, manager) in managers {
        let backend = Backend::start();
        let mut gateway = Gateway::builder()
            .backend(&backend)
            .env("NOTIFY_SOCKET", &at)
            .env("DISCONNECT_TIMEOUT_SECONDS", "600")
            .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
            .spawn();
        assert_eq!(manager.told(), "READY=1");
        let (mut stream, token) = open_stream(&gateway, &backend, "/s");
        gateway.signal("TERM");
        assert_eq!(manager.told(), "STOPPING=1");
        stream.expect_last_chunk_and_eof();
        let held = backend.next_disconnect_of(&token);
        assert_served(&mut gateway.connect());
        held.answer(200, "");
        assert_eq!(gateway.wait_exit().code(), Some(0));
        assert_eq!(manager.forget(), 0);
    }
}

#[test]
fn one_that_cannot_listen_is_never_ready() {
    let folder = Folder::new("never");
    let path = folder.path("notify");
    let manager = Manager::at(&path);
    let gateway = Gateway::builder().start();
    let port = gateway.port().to_string();
    let settings = [("NOTIFY_SOCKET", path.to_str().expect("a text"))];
    let output = program(&settings, &["--port", &port]).output();
    assert_eq!(output.expect("a program").status.code(), Some(1));
    // Nor is one that only asks.
    let output = program(&settings, &["--healthcheck", "--port", &port]).output();
    assert_eq!(output.expect("a program").status.code(), Some(0));
    assert_eq!(manager.forget(), 0);
}

/// Names of the threads of a process.
fn threads(gateway: &Gateway) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("a process");
    let names = tasks.flatten().map(|task| task.path().join("comm"));
    names.flat_map(fs::read_to_string).collect()
}

/// While the loop turns, whatever it does, and not while it stands still.
#[test]
fn signs_of_life_come_as_long_as_the_loop_turns() {
    const WATCHDOG: Duration = Duration::from_millis(600);
    let folder = Folder::new("watchdog");
    let path = folder.path("notify");
    let manager = Manager::at(&path);
    let backend = Backend::start();
    let mut gateway = notifying(&path)
        .backend(&backend)
        .env("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
        .env("DISCONNECT_TIMEOUT_SECONDS", "600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .env("WORKER_IDLE_SECONDS", "1")
        .start();
    let sign = |streams: usize| format!("WATCHDOG=1\nSTATUS=streams: {streams}");
    assert_eq!(manager.told(), "READY=1");
    for _ in 0..5 {
        assert_eq!(manager.told(), sign(0));
    }
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    manager.told_at_last(&sign(1));
    // No thread but those that any gateway has: the loop itself gives the signs.
    let other = Gateway::builder().start();
    let at_rest = || threads(&gateway) == threads(&other);
    eventually("rest", at_rest);
    gateway.signal("STOP");
    manager.forget();
    assert_eq!(manager.told_within(3 * WATCHDOG), None);
    gateway.signal("CONT");
    for _ in 0..3 {
        assert_eq!(manager.told(), sign(1));
    }
    gateway.signal("TERM");
    stream.expect_last_chunk_and_eof();
    let held = backend.next_disconnect_of(&token);
    manager.told_at_last("STOPPING=1");
    for _ in 0..3 {
        assert_eq!(manager.told(), sign(0));
    }
    held.answer(200, "");
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_watchdog_for_another_process_is_not_ours() {
    let folder = Folder::new("other");
    let path = folder.path("notify");
    let manager = Manager::at(&path);
    let gateway = notifying(&path)
        .env("WATCHDOG_USEC", "3000")
        .env("WATCHDOG_PID", "1")
        .start();
    assert_eq!(manager.told(), "READY=1");
    assert_served(&mut gateway.connect());
    gateway.signal("TERM");
    assert_eq!(manager.told(), "STOPPING=1");
}

/// One that does not read holds up nothing, and is told as soon as there is room.
#[test]
fn a_service_manager_that_is_busy_is_told_later() {
    let folder = Folder::new("busy");
    let path = folder.path("notify");
    let manager = Manager::at(&path);
    let other = UnixDatagram::unbound().expect("a socket");
    other.set_nonblocking(true).expect("an option");
    while other.send_to(b"x", &path).is_ok() {}
    let mut gateway = notifying(&path).env("WATCHDOG_USEC", "3000").start();
    assert_served(&mut gateway.connect());
    assert!(manager.forget() > 0);
    // What is said behind it fills its queue again, as often as it likes.
    assert_eq!(manager.told(), "READY=1");
    assert_eq!(manager.told(), "WATCHDOG=1\nSTATUS=streams: 0");
    assert_served(&mut gateway.connect());
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(!gateway.log().contains("cannot be told"));
}

#[test]
fn a_service_manager_that_is_gone_is_missed_once() {
    let folder = Folder::new("gone");
    let mut gateway = notifying(&folder.path("notify"))
        .env("WATCHDOG_USEC", "3000")
        .start();
    let line = gateway.wait_log("the service manager cannot be told error=");
    assert!(line.starts_with("[WARN] "), "{line}");
    assert_served(&mut gateway.connect());
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert_eq!(gateway.count_log("cannot be told"), 1);
}
