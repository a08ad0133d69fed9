//! The log's outputs (contract, section 9): one that is full, closed or missing holds up nobody, what
//! is lost is counted, and what is left is written at exit.

#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use process::Process;
use serde_json::json;
use support::{Backend, Client, Gateway, OK, PATIENCE, assert_ok, open_stream};

const DEBUG: [(&str, &str); 1] = [("LOG_LEVEL", "debug")];

/// Pipelines sends whose log lines are long; every one is answered 200.
fn burst(port: u16, token: &str, number: usize) {
    let name = "n".repeat(300);
    let body = json!({"token": token, "event": {"name": name, "data": "d"}}).to_string();
    let length = body.len();
    let request = format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut publisher = Client::connect(port);
    for _ in 0..number / 100 {
        publisher.send(request.repeat(100));
        for _ in 0..100 {
            assert_ok(&publisher.read_response(), OK);
        }
    }
}

/// The lines of a pipe, which somebody can wait for without waiting for ever.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(pipe).lines();
        lines
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    lines
}

#[test]
fn a_full_pipe_holds_up_nobody_and_what_is_lost_is_counted() {
    const SENDS: usize = 8000;
    let backend = Backend::accepting();
    let mut gateway = Process::start("exec \"$0\"", &backend, &DEBUG);
    let path = format!("/{}", "u".repeat(300));
    let (mut stream, token) = gateway.open_stream(&backend, &path);
    // Megabytes that nobody reads; sends, streams and callbacks go on.
    burst(gateway.port(), &token, SENDS);
    for _ in 0..SENDS {
        stream.next_event();
    }
    let (other, _) = gateway.open_stream(&backend, "/other");
    drop(other);
    assert_eq!(backend.next_disconnect().reason(), "client_closed");
    // Now somebody reads: in order, then how much is missing, then what came later.
    let lines = lines_of(gateway.stdout.take().expect("a pipe"));
    let mut read = Vec::new();
    let notice = loop {
        let line = lines.recv_timeout(PATIENCE).expect("a line");
        if line.contains("dropped=") {
            break line;
        }
        read.push(line);
    };
    assert!(notice.starts_with("[WARN] "), "{notice}");
    let dropped: usize = notice
        .rsplit('=')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    burst(gateway.port(), &token, 100);
    gateway.signal("TERM");
    read.extend(lines);
    assert!(gateway.wait_exit().success());
    let sent = read
        .iter()
        .filter(|l| l.starts_with("[DEBUG] event sent "))
        .count();
    assert_eq!(read.iter().filter(|l| l.contains("dropped=")).count(), 0);
    // What is missing are those sends, and the lines of the other stream where it fell in.
    let others = read.iter().filter(|l| l.contains("/other")).count();
    assert!(dropped > 1000, "{dropped}");
    let missing = SENDS + 100 - sent;
    assert!(
        (missing..missing + 12).contains(&dropped),
        "{dropped}, {sent}, {others}"
    );
    assert!(
        read.last().is_some_and(|line| line.contains("exit")),
        "{:?}",
        read.last()
    );
    assert!(read.iter().all(|line| line.starts_with('[')));
}

#[test]
fn a_full_pipe_does_not_hold_up_the_exit() {
    let backend = Backend::accepting();
    let mut gateway = Process::start("exec \"$0\"", &backend, &DEBUG);
    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    burst(gateway.port(), &token, 1000);
    gateway.signal("TERM");
    for _ in 0..1000 {
        stream.next_event();
    }
    stream.expect_last_chunk_and_eof();
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
}

#[test]
fn closed_outputs_hurt_nobody() {
    let backend = Backend::accepting();
    let mut gateway = Process::start("exec \"$0\"", &backend, &DEBUG);
    drop((gateway.stdout.take(), gateway.stderr.take()));
    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    burst(gateway.port(), &token, 500);
    for _ in 0..500 {
        stream.next_event();
    }
    // A line for standard error.
    assert_eq!(gateway.post(&json!({})).status(), 400);
    let close = json!({"token": token, "close": true});
    assert_ok(&gateway.post(&close), OK);
    stream.expect_last_chunk_and_eof();
    backend.assert_balanced();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
}

/// A gateway that was started without standard error.
#[test]
fn an_output_that_never_was_hurts_nobody() {
    let backend = Backend::accepting();
    let script = "exec \"$0\" 2>&-";
    let mut gateway = Process::start(script, &backend, &DEBUG);
    let (stream, token) = gateway.open_stream(&backend, "/s");
    assert_eq!(gateway.post(&json!({})).status(), 400);
    drop(stream);
    assert_eq!(backend.next_disconnect_of(&token).reason(), "client_closed");
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(gateway.rest_of_stdout().contains("[INFO] exit"));
}

/// A log on a disk that is full.
#[test]
fn a_full_disk_hurts_nobody() {
    let backend = Backend::accepting();
    let script = "exec \"$0\" 2> /dev/full";
    let mut gateway = Process::start(script, &backend, &DEBUG);
    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    for _ in 0..50 {
        assert_eq!(gateway.post(&json!({})).status(), 400);
    }
    burst(gateway.port(), &token, 100);
    for _ in 0..100 {
        stream.next_event();
    }
    drop(stream);
    backend.assert_balanced();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(gateway.rest_of_stdout().contains("[INFO] exit"));
}

/// `syscw` counts calls of write(2) by the process, on which sockets do not count.
#[test]
fn a_line_is_not_a_system_call() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .start();
    let (_stream, token) = open_stream(&gateway, &backend, "/s");
    let writes = || {
        let io = fs::read_to_string(format!("/proc/{}/io", gateway.pid())).expect("a process");
        let line = io.lines().find_map(|line| line.strip_prefix("syscw: "));
        line.and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    let before = writes();
    burst(gateway.port(), &token, 2000);
    process::eventually("all lines", || {
        gateway.count_log("[DEBUG] event sent ") == 2000
    });
    let made = writes() - before;
    assert!(made < 400, "{made} writes for 2000 lines");
}

#[test]
fn what_is_left_is_written_at_exit() {
    let backend = Backend::accepting();
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .start();
    let (stream, token) = open_stream(&gateway, &backend, "/s");
    burst(gateway.port(), &token, 500);
    gateway.signal("TERM");
    drop(stream);
    assert!(gateway.wait_exit().success());
    assert_eq!(gateway.count_log("[DEBUG] event sent "), 500);
    let lines = gateway.lines();
    let out: Vec<_> = lines.iter().filter(|line| !line.is_error).collect();
    assert!(out.last().is_some_and(|line| line.text.contains("exit")));
}
