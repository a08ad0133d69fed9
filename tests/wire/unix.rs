//! Unix sockets that the gateway listens on (contract, section 13).

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::process::{Process, eventually};
use crate::support::{
    Backend, Builder, Client, Folder, Gateway, OK, assert_error, assert_ok, assert_refused,
    assert_sent, assert_served, open_stream, post_send, program, send_close, send_data,
};

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// A socket file on which nobody listens, as a process leaves it that was killed.
fn leave_over(path: &Path) {
    drop(UnixListener::bind(path).expect("a socket"));
}

/// A gateway with these settings has one sentence to say, with these parts, and does not start.
#[track_caller]
fn refusal(settings: &[(&str, &str)], parts: &[&str]) {
    let mut builder = Gateway::builder();
    for (name, value) in settings {
        builder = builder.env(name, value);
    }
    let mut gateway = builder.spawn();
    assert_eq!(gateway.wait_exit().code(), Some(1));
    let lines = gateway.lines();
    assert!(lines.len() == 1 && lines[0].is_error, "{lines:?}");
    let line = &lines[0].text;
    assert!(line.starts_with("ssegateway: "), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part} in {line}");
    }
}

fn mode(path: &Path) -> u32 {
    let file = fs::symlink_metadata(path).expect("a file");
    assert!(file.file_type().is_socket());
    file.permissions().mode() & 0o7777
}

// ---- listening ----

#[test]
fn clients_and_publishers_are_served_on_a_unix_socket() {
    let folder = Folder::new("both");
    let path = folder.path("gateway.sock");
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend).at_socket(&path);
    let port = builder.port();
    let mut gateway = builder.start();
    let line = gateway.wait_log("[INFO] start ");
    let place = format!("start socket={} callbackUrl=set ", path.display());
    assert!(line.contains(&place) && !line.contains("port="), "{line}");
    // The port is unused, so that anybody may have it.
    drop(TcpListener::bind(("127.0.0.1", port)).expect("a free port"));
    let (mut client, token) = open_stream(&gateway, &backend, "/events?x=1");
    let event = json!({"token": token, "event": {"name": "n", "data": "d"}});
    assert_ok(&post_send(&gateway, &event), OK);
    assert_eq!(client.next_event(), "event: n\ndata: d\n\n");
    // A client that leaves, in either way that there is.
    for half in [false, true] {
        let (other, token) = open_stream(&gateway, &backend, "/other");
        if half {
            other.shutdown_write();
        } else {
            drop(other);
        }
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(disconnect.reason(), "client_closed");
        disconnect.answer(200, "");
    }
    // A publisher that half-closes gets its answer; who speaks no HTTP gets his, and the end.
    let mut publisher = gateway.connect();
    publisher.post(event.to_string().as_bytes());
    publisher.shutdown_write();
    assert_ok(&publisher.read_response(), OK);
    publisher.expect_eof();
    let mut stranger = gateway.connect();
    stranger.send("nonsense\r\n\r\n");
    assert_error(&stranger.read_response(), 400, "BAD_REQUEST");
    stranger.expect_eof();
    assert_eq!(client.next_event(), "event: n\ndata: d\n\n");
    gateway.signal("TERM");
    client.expect_last_chunk_and_eof();
    backend.next_disconnect_of(&token).answer(200, "");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    backend.assert_balanced();
    assert!(!path.exists());
}

/// Requests that are longer than a read, and answers that are longer than a write.
#[test]
fn large_bodies_pass() {
    let folder = Folder::new("large");
    let backend = Backend::accepting();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.at_socket(&folder.path("s")).start();
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    let data = "x".repeat(2_000_000);
    assert_sent(&send_data(&gateway, &token, &data));
    assert_eq!(client.next_event().len(), data.len() + 8);
    assert_ok(&send_close(&gateway, &token), OK);
    client.expect_last_chunk_and_eof();
    backend.assert_balanced();
}

#[test]
fn publishers_have_a_socket_of_their_own() {
    let folder = Folder::new("internal");
    let (public, internal) = (folder.path("public"), folder.path("internal"));
    let on_port = Gateway::builder;
    let on_socket = || Gateway::builder().at_socket(&public);
    for builder in [on_port(), on_socket()] {
        let backend = Backend::accepting();
        let builder = builder.backend(&backend);
        let gateway = builder.env("INTERNAL_LISTEN", &unix(&internal)).start();
        let (mut stream, token) = open_stream(&gateway, &backend, "/s");
        let refused = post_send(&gateway, &json!({"token": token}));
        assert_error(&refused, 404, "NOT_FOUND");
        let mut own = Client::to_socket(&internal);
        own.get("/s");
        assert_error(&own.read_response(), 404, "NOT_FOUND");
        let command = json!({"token": token, "event": {"data": "x"}});
        own.post(command.to_string().as_bytes());
        assert_ok(&own.read_response(), OK);
        assert_served(&mut own);
        assert_eq!(stream.next_event(), "data: x\n\n");
    }
}

#[test]
fn the_file_has_its_mode_whatever_the_umask() {
    let folder = Folder::new("mode");
    let path = folder.path("gateway.sock");
    let table = [("", 0o660), ("666", 0o666), ("0600", 0o600), ("777", 0o777)];
    for (setting, expected) in table {
        for umask in ["077", "000"] {
            let backend = Backend::accepting();
            let script = format!("umask {umask}; exec \"$0\"");
            let settings = [("HOST", &*unix(&path)), ("UNIX_MODE", setting)];
            let mut gateway = Process::start(&script, &backend, &settings);
            assert_eq!(mode(&path), expected, "{setting:?}, umask {umask}");
            assert_served(&mut Client::to_socket(&path));
            gateway.signal("TERM");
            assert!(gateway.wait_exit().success());
        }
    }
}

/// Behind a path that is anything but plain, the line of the log is whole.
#[test]
fn a_path_with_spaces_is_quoted_in_the_log() {
    let folder = Folder::new("name");
    let path = folder.path("a b=\"c\".sock");
    let gateway = Gateway::builder().at_socket(&path).start();
    let line = gateway.wait_log("[INFO] start ");
    assert!(
        line.contains("/a b=\\\"c\\\".sock\" callbackUrl="),
        "{line}"
    );
    assert_served(&mut gateway.connect());
}

// ---- what is at the path already ----

#[test]
fn what_a_killed_gateway_left_is_replaced() {
    let folder = Folder::new("stale");
    let path = folder.path("gateway.sock");
    let mut first = Gateway::builder().at_socket(&path).start();
    first.signal("KILL");
    first.wait_exit();
    assert_eq!(mode(&path), 0o660);
    let mut second = Gateway::builder().at_socket(&path).start();
    assert_served(&mut second.connect());
    second.signal("TERM");
    assert!(second.wait_exit().success());
    assert!(!path.exists());
}

#[test]
fn what_somebody_else_has_there_is_in_use() {
    let folder = Folder::new("used");
    let path = folder.path("gateway.sock");
    let at = unix(&path);
    let in_use = |settings: &[(&str, &str)], setting: &str| {
        refusal(settings, &[setting, &at, "already in use", "path"]);
    };
    let both = || {
        in_use(&[("HOST", &at)], "HOST: ");
        in_use(&[("INTERNAL_LISTEN", &at)], "INTERNAL_LISTEN: ");
    };
    let gateway = Gateway::builder().at_socket(&path).start();
    both();
    assert_served(&mut gateway.connect());
    drop(gateway);
    fs::remove_file(&path).expect("what it left");
    // Somebody who does not accept, with a queue that is full.
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    full.bind(&SockAddr::unix(&path).expect("an address"))
        .expect("a file");
    full.listen(0).expect("a listener");
    let _waits = UnixStream::connect(&path).expect("a place");
    both();
    fs::remove_file(&path).expect("its file");
    // What refuses, but is no stream's socket or no socket at all.
    let datagrams = UnixDatagram::bind(&path).expect("a socket");
    both();
    assert!(path.exists());
    fs::remove_file(&path).expect("its file");
    drop(datagrams);
    fs::write(&path, "precious").expect("a file");
    both();
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
    let link = folder.path("link");
    fs::rename(&path, &link).expect("another name");
    symlink(&link, &path).expect("a link");
    both();
    fs::remove_file(&link).expect("the file");
    both();
    fs::remove_file(&path).expect("the link");
    fs::create_dir(&path).expect("a folder");
    both();
    assert!(path.is_dir());
}

#[test]
fn a_path_that_cannot_be_had_is_told_of() {
    let folder = Folder::new("none");
    let at = unix(&folder.path("nowhere/gateway.sock"));
    refusal(
        &[("HOST", &at)],
        &["HOST: cannot listen on", &at, "No such"],
    );
    // Both settings with one path: the second finds the first, whose file goes again.
    let path = folder.path("gateway.sock");
    let at = unix(&path);
    let settings = [("HOST", &*at), ("INTERNAL_LISTEN", &*at)];
    refusal(&settings, &["INTERNAL_LISTEN: ", &at, "already in use"]);
    assert!(!path.exists());
}

/// A socket that is bound and does not listen yet refuses as one does that was left over. So who
/// starts keeps its directory locked until it listens, and another start waits for that.
#[test]
fn a_start_waits_for_another_at_the_same_path() {
    let folder = Folder::new("race");
    let path = folder.path("gateway.sock");
    let directory = fs::File::open(&folder.0).expect("a folder");
    directory.lock().expect("the lock");
    let other = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(&path).expect("an address");
    other.bind(&address).expect("a file");
    let mut gateway = Gateway::builder().at_socket(&path).spawn();
    let opened = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("a process");
        let mut links = fds.flatten().flat_map(|fd| fs::read_link(fd.path()));
        links.any(|link| link == folder.0)
    };
    eventually("a look at the lock", opened);
    other.listen(1).expect("a listener");
    directory.unlock().expect("the lock");
    assert_eq!(gateway.wait_exit().code(), Some(1));
    assert!(
        gateway.log().contains("already in use"),
        "{}",
        gateway.log()
    );
    drop(UnixStream::connect(&path).expect("the other's file"));
}

/// Whatever the order of their steps, one serves and all others say that it is in use.
#[test]
fn of_many_that_start_at_once_one_is_there() {
    let folder = Folder::new("many");
    let path = folder.path("gateway.sock");
    leave_over(&path);
    let builders = (0..8).map(|_| Gateway::builder().at_socket(&path));
    let mut gateways: Vec<Gateway> = builders.map(Builder::spawn).collect();
    for gateway in &gateways {
        gateway.wait_log_where("start or refusal", |line| {
            line.text.contains("start socket=") || line.text.contains("already in use")
        });
    }
    let started = |gateway: &Gateway| gateway.count_log("start socket=") == 1;
    let at = gateways.iter().position(started).expect("one of them");
    let mut one = gateways.swap_remove(at);
    for gateway in &mut gateways {
        assert_eq!(gateway.wait_exit().code(), Some(1));
    }
    assert_served(&mut one.connect());
    one.signal("TERM");
    assert!(one.wait_exit().success());
    assert!(!path.exists());
}

// ---- the file's end ----

#[test]
fn the_file_goes_with_the_gateway_in_whatever_way_it_ends() {
    let folder = Folder::new("end");
    let (public, internal) = (folder.path("public"), folder.path("internal"));
    for signals in [["TERM"].as_slice(), &["INT"], &["TERM", "INT"]] {
        let backend = Backend::start();
        let mut gateway = Gateway::builder()
            .backend(&backend)
            .at_socket(&public)
            .env("INTERNAL_LISTEN", &unix(&internal))
            .env("DISCONNECT_TIMEOUT_SECONDS", "600")
            .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
            .start();
        let (mut stream, token) = open_stream(&gateway, &backend, "/s");
        gateway.signal(signals[0]);
        stream.expect_last_chunk_and_eof();
        let held = backend.next_disconnect_of(&token);
        // It is there until the end, and says what is to be said.
        let mut late = gateway.connect();
        late.get("/late");
        assert_error(&late.read_response(), 503, "SHUTTING_DOWN");
        match signals.get(1) {
            Some(second) => gateway.signal(second),
            None => held.answer(200, ""),
        }
        gateway.wait_exit();
        assert!(!public.exists() && !internal.exists(), "{signals:?}");
    }
}

#[test]
fn the_file_of_a_start_that_fails_goes() {
    let folder = Folder::new("fails");
    let path = folder.path("gateway.sock");
    let listening = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = listening.local_addr().expect("an address").to_string();
    let settings = [("HOST", &*unix(&path)), ("INTERNAL_LISTEN", &*taken)];
    refusal(&settings, &["INTERNAL_LISTEN", &taken]);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_somebody_elses_stays() {
    let folder = Folder::new("other");
    let (path, moved) = (folder.path("gateway.sock"), folder.path("moved"));
    // A successor that was given the place by hand.
    let mut first = Gateway::builder().at_socket(&path).start();
    fs::rename(&path, &moved).expect("another name");
    let mut second = Gateway::builder().at_socket(&path).start();
    first.signal("TERM");
    assert!(first.wait_exit().success());
    assert_served(&mut second.connect());
    second.signal("TERM");
    assert!(second.wait_exit().success());
    assert!(!path.exists() && moved.exists());
    // Whatever else may be there by then, and nothing at all.
    for content in [Some("precious"), None] {
        let mut gateway = Gateway::builder().at_socket(&path).start();
        fs::remove_file(&path).expect("its file");
        if let Some(content) = content {
            fs::write(&path, content).expect("a file");
        }
        gateway.signal("TERM");
        assert!(gateway.wait_exit().success());
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), content);
        let _ = fs::remove_file(&path);
    }
}

// ---- limits ----

/// Sends until one does not get in; how many bytes had been taken.
fn taken(gateway: &Gateway, backend: &Backend, token: &str) -> usize {
    let data = "x".repeat(900);
    let sends = (0..10_000).map(|_| send_data(gateway, token, &data));
    let taken = sends.take_while(|answer| answer.status() == 200).count() * data.len();
    let disconnect = backend.next_disconnect_of(token);
    assert_eq!(disconnect.reason(), "error");
    taken
}

#[test]
fn one_who_does_not_read_is_dropped_and_what_the_system_holds_is_bounded() {
    let folder = Folder::new("slow");
    let backend = Backend::accepting();
    let bytes_taken = |send_buffer: &str| {
        let gateway = Gateway::builder()
            .backend(&backend)
            .at_socket(&folder.path("s"))
            .env("MAX_UNSENT_BYTES", "1024")
            .env("SEND_BUFFER_BYTES", send_buffer)
            .start();
        let (mut slow, token) = open_stream(&gateway, &backend, "/slow");
        let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
        let taken = taken(&gateway, &backend, &token);
        let parts = ["[WARN]", &*token, "limit=MAX_UNSENT_BYTES"];
        gateway.wait_log_all(&parts);
        assert_ok(&send_data(&gateway, &other_token, "unharmed"), OK);
        assert_eq!(other.next_event(), "data: unharmed\n\n");
        // What it has not read is there, and behind it an end that is no clean one.
        let rest = slow.read_to_end();
        assert!(!rest.ends_with(b"0\r\n\r\n") && !rest.is_empty());
        taken
    };
    let (large, small) = (bytes_taken("1048576"), bytes_taken("4096"));
    assert!(small < 64 * 1024, "{small}");
    assert!(large > 4 * small, "{large} and {small}");
}

#[test]
fn one_who_stopped_reading_is_dropped_in_time_and_one_who_goes_on_gets_all() {
    let folder = Folder::new("stall");
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .at_socket(&folder.path("s"))
        .env("SEND_BUFFER_BYTES", "4096")
        .env("STALL_TIMEOUT_SECONDS", "1")
        .start();
    let (_stalled, token) = open_stream(&gateway, &backend, "/stalled");
    assert!(assert_sent(&send_data(&gateway, &token, &"x".repeat(100_000))) > 0);
    assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
    gateway.wait_log_all(&["[WARN]", &token, "limit=STALL_TIMEOUT_SECONDS"]);
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    let data = "x".repeat(1_000_000);
    assert!(assert_sent(&send_data(&gateway, &token, &data)) > 0);
    assert_eq!(client.next_event().len(), data.len() + 8);
    assert_ok(&send_data(&gateway, &token, "small"), OK);
    assert_eq!(client.next_event(), "data: small\n\n");
}

// ---- --healthcheck ----

#[test]
fn the_health_check_asks_at_the_socket() {
    let folder = Folder::new("health");
    let path = folder.path("gateway.sock");
    let at = unix(&path);
    let ask = || {
        let output = program(&[("HOST", &at)], &["--healthcheck"]).output();
        output.expect("a program")
    };
    let unhealthy = |part: &str| {
        let start = format!("no healthy gateway at {at}: ");
        assert_refused(&ask(), 1, &[&start, part]);
    };
    unhealthy("No such file");
    leave_over(&path);
    unhealthy("refused");
    let gateway = Gateway::builder().at_socket(&path).start();
    let output = ask();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    // It listens, and nothing more: the kernel takes the connection.
    gateway.signal("STOP");
    unhealthy("no whole answer in time");
    gateway.signal("CONT");
    assert_eq!(ask().status.code(), Some(0));
    drop(gateway);
    fs::remove_file(&path).expect("what it left");
    // Not even that, as its queue is full.
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    full.bind(&SockAddr::unix(&path).expect("an address"))
        .expect("a file");
    full.listen(0).expect("a listener");
    let _waits = UnixStream::connect(&path).expect("a place");
    unhealthy("no whole answer in time");
}
