//! The log's outputs (contract, section 9): one that is full, closed or missing holds up nobody, what
//! is lost is counted, and what is left is written at exit.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use serde_json::json;

use crate::support::process::{Process, eventually};
use crate::support::{
    Backend, Client, Gateway, OK, PATIENCE, assert_ok, assert_sent, assert_served, open_stream,
    send_request,
};

const DEBUG: [(&str, &str); 1] = [("LOG_LEVEL", "debug")];

/// Pipelines sends whose log lines are long; every one is answered 200.
fn burst(port: u16, token: &str, number: usize) {
    let name = "n".repeat(300);
    let command = json!({"token": token, "event": {"name": name, "data": "d"}});
    let request = send_request(&command.to_string());
    let mut publisher = Client::connect(port);
    for _ in 0..number / 100 {
        publisher.send(request.repeat(100));
        for _ in 0..100 {
            assert_sent(&publisher.read_response());
        }
    }
}

/// A stream that gets so many events, and another one that opens meanwhile and ends; gives the
/// first one's token.
fn live(gateway: &Process, backend: &Backend, sends: usize) -> (Client, String) {
    let path = format!("/{}", "u".repeat(300));
    let (mut stream, token) = gateway.open_stream(backend, &path);
    burst(gateway.port(), &token, sends);
    for _ in 0..sends {
        stream.next_event();
    }
    let (other, _) = gateway.open_stream(backend, "/other");
    drop(other);
    assert_eq!(backend.next_disconnect().reason(), "client_closed");
    (stream, token)
}

fn is_of_a_send(line: &str) -> bool {
    line.starts_with("[DEBUG] event sent ")
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

/// All lines that there are still to come, up to the pipe's end.
fn rest_of(lines: &Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return rest,
            Err(RecvTimeoutError::Timeout) => panic!("the pipe does not end"),
        }
    }
}

/// How many lines such a life leaves besides those of the sends, where all of them are read.
fn lines_of_a_life() -> usize {
    let backend = Backend::accepting();
    let mut gateway = Process::start("exec \"$0\"", &backend, &DEBUG);
    let lines = lines_of(gateway.stdout.take().expect("a pipe"));
    let _stream = live(&gateway, &backend, 100);
    gateway.signal("TERM");
    let (sent, others): (Vec<_>, Vec<_>) =
        rest_of(&lines).into_iter().partition(|l| is_of_a_send(l));
    assert_eq!(sent.len(), 100);
    others.len()
}

#[test]
fn a_full_pipe_holds_up_nobody_and_what_is_lost_is_counted() {
    const SENDS: usize = 8000;
    let backend = Backend::accepting();
    let mut gateway = Process::start("exec \"$0\"", &backend, &DEBUG);
    // Megabytes that nobody reads; sends, streams and callbacks go on.
    let (_stream, token) = live(&gateway, &backend, SENDS);
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
    read.extend(rest_of(&lines));
    assert!(gateway.wait_exit().success());
    assert_eq!(read.iter().filter(|l| l.contains("dropped=")).count(), 0);
    // Each line was read or is counted.
    assert!(dropped > 1000, "{dropped}");
    assert_eq!(read.len() + dropped, SENDS + 100 + lines_of_a_life());
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

/// A log on a disk with a quota, until somebody makes room: what did not fit is lost, and told of
/// when there is room.
#[test]
fn a_log_file_that_may_not_grow_hurts_nobody() {
    const BLOCK: u64 = 512;
    let backend = Backend::accepting();
    let port = backend.address().port();
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("log-{port}"));
    // What an earlier run with the same port has left behind.
    let _ = fs::remove_file(&log);
    let script = format!("ulimit -f 1; exec \"$0\" >> '{}'", log.display());
    let mut gateway = Process::start_apart(&script, &backend, &DEBUG);
    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    burst(gateway.port(), &token, 500);
    for _ in 0..500 {
        stream.next_event();
    }
    assert_served(&mut gateway.connect());
    let length = || fs::metadata(&log).expect("the log").len();
    eventually("a full log", || length() == BLOCK);
    let other = gateway.open_stream(&backend, "/other");
    assert_eq!(length(), BLOCK);
    let room = fs::File::options().write(true).open(&log);
    room.and_then(|log| log.set_len(0)).expect("room");
    drop(other);
    eventually("the count of what is lost", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("dropped="))
    });
    drop(stream);
    backend.assert_balanced();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    fs::remove_file(&log).expect("the log");
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
    gateway.wait_log_times("event sent", 2000, |line| is_of_a_send(&line.text));
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
