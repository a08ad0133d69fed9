//! Callbacks over a Unix socket (contract, sections 2 and 13).

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::process::eventually;
use crate::support::{
    Backend, Folder, Gateway, OK, assert_error, assert_ok, assert_served, open_stream, send_close,
    send_data,
};

#[test]
fn callbacks_go_to_the_socket() {
    let folder = Folder::new("backend");
    let path = folder.path("a b.sock");
    let mut backend = Backend::at_socket(&path, |_| {});
    backend.listen();
    // Every notation: with path and query, with a path alone, with neither.
    for (behind, target) in [(":/hook?key=s", "/hook?key=s"), (":/", "/"), ("", "/")] {
        let url = format!("http://unix:{}{behind}", path.display());
        let builder = Gateway::builder().env("CALLBACK_URL", &url);
        let mut gateway = builder.one_worker_each().start();
        let mut client = gateway.get("/events");
        let connect = backend.next_connect();
        let line = format!("POST {target} HTTP/1.1\r\n");
        assert!(connect.head.starts_with(&line), "{}", connect.head);
        assert_eq!(connect.field("host"), Some("localhost"));
        connect.answer(200, r#"{"event":{"data":"hello"}}"#);
        assert_eq!(client.read_head().status, 200);
        assert_eq!(client.next_event(), "data: hello\n\n");
        let token = connect.token();
        assert_ok(&send_data(&gateway, &token, "x"), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
        assert_ok(&send_close(&gateway, &token), OK);
        client.expect_last_chunk_and_eof();
        let first = backend.next_disconnect_of(&token);
        first.answer(200, "");
        // Each lane keeps its connection.
        let (other, token) = open_stream(&gateway, &backend, "/other");
        drop(other);
        let second = backend.next_disconnect_of(&token);
        assert_eq!(second.connection, first.connection);
        second.answer(200, "");
        gateway.wait_log_all(&["[INFO] disconnect callback answered", &token]);
        gateway.signal("TERM");
        assert!(gateway.wait_exit().success());
        let log = gateway.log();
        let folder = folder.0.to_str().expect("a text");
        assert!(!log.contains(folder) && !log.contains("unix"), "{log}");
    }
    backend.assert_balanced();
}

#[test]
fn a_stale_connection_costs_no_client_anything() {
    let folder = Folder::new("stale");
    crate::callback_connections::stale_connections(|| {
        let mut backend = Backend::at_socket(&folder.path("s"), |_| {});
        backend.listen();
        backend
    });
}

#[test]
fn a_backend_that_is_not_there_is_503_and_its_path_is_not_told() {
    let folder = Folder::new("absent");
    let path = folder.path("backend.sock");
    let mut backend = Backend::at_socket(&path, |callback| callback.answer(200, ""));
    let gateway = Gateway::builder().backend(&backend).start();
    let refused = |why: &str| {
        let mut client = gateway.get("/s");
        assert_error(&client.read_response(), 503, "BACKEND_UNAVAILABLE");
        gateway.wait_log_all(&["[ERROR]", "connect callback", "token=", why]);
        assert_served(&mut client);
    };
    refused(r#"error="connection refused, there is no such socket""#);
    backend.listen();
    let (client, token) = open_stream(&gateway, &backend, "/s");
    drop(client);
    assert_eq!(backend.next_disconnect_of(&token).reason(), "client_closed");
    backend.leave();
    refused(r#"error="connection refused""#);
    // A file that is no socket refuses as well.
    fs::remove_file(&path).expect("its file");
    fs::write(&path, "").expect("a file");
    refused(r#"error="connection refused""#);
    // Comes back, its file anew.
    backend.listen();
    let (client, token) = open_stream(&gateway, &backend, "/s");
    drop(client);
    assert_eq!(backend.next_disconnect_of(&token).reason(), "client_closed");
    let folder = folder.0.to_str().expect("a text");
    assert!(!gateway.log().contains(folder), "{}", gateway.log());
}

#[test]
fn the_time_limits_hold() {
    let folder = Folder::new("limits");
    let mut backend = Backend::at_socket(&folder.path("s"), |_| {});
    backend.listen();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .env("DISCONNECT_TIMEOUT_SECONDS", "1")
        .start();
    // One that hangs, the other kind of it, and an answer that is never whole.
    let mut client = gateway.get("/hangs");
    let held = backend.next_connect();
    assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    held.wait_ended();
    let (client, token) = open_stream(&gateway, &backend, "/s");
    drop(client);
    let held = backend.next_disconnect_of(&token);
    gateway.wait_log_all(&["[ERROR]", "disconnect callback", &token]);
    held.wait_ended();
    let mut client = gateway.get("/drips");
    let part = backend.next_connect();
    part.write(b"HTTP/1.1 404 \r\nContent-Length: 9\r\n\r\n{");
    assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    part.wait_ended();
}

/// A backend that does not accept, with a queue that is full: who connects to it waits in connect(2),
/// which knows no time.
fn full(path: &Path) -> (Socket, UnixStream) {
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(path).expect("an address");
    full.bind(&address).expect("a file");
    full.listen(0).expect("a listener");
    let first = UnixStream::connect(path).expect("the only place");
    (full, first)
}

/// Whether the gateway has a worker for connects, which has no way but to connect.
fn connects(gateway: &Gateway) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("a process");
    let names = tasks.flatten().map(|task| task.path().join("comm"));
    let mut names = names.flat_map(fs::read_to_string);
    names.any(|name| name == "connect\n")
}

#[test]
fn the_time_limit_holds_while_the_backend_does_not_accept() {
    let folder = Folder::new("queue");
    let path = folder.path("s");
    let (full, first) = full(&path);
    let url = format!("http://unix:{}:/", path.display());
    let start = |limit: &str| {
        let builder = Gateway::builder().env("CALLBACK_URL", &url);
        builder.env("CONNECT_TIMEOUT_SECONDS", limit).start()
    };
    let mut gateway = start("1");
    let mut client = gateway.get("/s");
    assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    // Its worker has given up as well, and ends for want of work.
    eventually("its end", || !connects(&gateway));
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    // Who has more time gets the place that becomes free.
    let gateway = start("60");
    let mut client = gateway.get("/s");
    eventually("a worker", || connects(&gateway));
    drop(first);
    drop(full.accept().expect("the first"));
    let (mut callback, _) = full.accept().expect("the callback");
    let mut begin = [0; 16];
    callback.read_exact(&mut begin).expect("a request");
    assert_eq!(&begin, b"POST / HTTP/1.1\r");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    callback.write_all(answer).expect("an answer");
    assert_eq!(client.read_head().status, 200);
}

/// The exit waits for callbacks as long as for any backend's, and not for one who still connects.
#[test]
fn what_is_under_way_at_the_exit_is_given_up() {
    let folder = Folder::new("exit");
    let mut backend = Backend::at_socket(&folder.path("s"), |_| {});
    backend.listen();
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("DISCONNECT_TIMEOUT_SECONDS", "600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "1")
        .start();
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    gateway.signal("TERM");
    client.expect_last_chunk_and_eof();
    let held = backend.next_disconnect_of(&token);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(gateway.log().contains("exit undelivered=1"));
    held.wait_ended();
    let path = folder.path("full");
    let _full = full(&path);
    let url = format!("http://unix:{}:/", path.display());
    let mut gateway = Gateway::builder()
        .env("CALLBACK_URL", &url)
        .env("CONNECT_TIMEOUT_SECONDS", "600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "1")
        .start();
    let mut client = gateway.get("/s");
    eventually("a worker", || connects(&gateway));
    gateway.signal("TERM");
    assert_error(&client.read_response(), 503, "SHUTTING_DOWN");
    assert_eq!(gateway.wait_exit().code(), Some(0));
}
