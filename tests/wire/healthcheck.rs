//! `--healthcheck`: the program asks the gateway that runs with the same settings.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Backend, Gateway, Port, assert_refused, open_stream, program};

/// What the check promises.
const LIMIT: Duration = Duration::from_secs(2);

fn ask(port: u16, settings: &[(&str, &str)]) -> Output {
    let port = port.to_string();
    let mut command = program(settings, &["--healthcheck", "--port", &port]);
    command.output().expect("the program runs")
}

#[track_caller]
fn assert_healthy(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(output.stderr.is_empty() && output.stdout.is_empty());
}

/// Somebody at a port who does this with the first connection, and what the check says of it.
fn ask_about(answer: impl FnOnce(&mut std::net::TcpStream) + Send + 'static) -> Output {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        assert_ne!(stream.read(&mut request).unwrap(), 0);
        answer(&mut stream);
    });
    let output = ask(port, &[]);
    other.join().unwrap();
    output
}

#[test]
fn a_gateway_is_healthy_wherever_it_listens() {
    for host in [
        "",
        "0.0.0.0",
        "127.0.0.1",
        "::",
        "::1",
        "[::1]",
        "localhost",
    ] {
        let gateway = Gateway::builder().env("HOST", host).start();
        assert_healthy(&ask(gateway.port(), &[("HOST", host)]));
        // The port from the environment, and the question behind a setting.
        let port = gateway.port().to_string();
        let output = program(&[("PORT", &port)], &["--host", host, "--healthcheck"]).output();
        assert_healthy(&output.unwrap());
    }
}

#[test]
fn a_gateway_that_listens_elsewhere_is_not_found() {
    let gateway = Gateway::builder().env("HOST", "::1").start();
    // No HOST: the loopback address of IPv4 refuses, that of IPv6 does not.
    assert_healthy(&ask(gateway.port(), &[]));
    let port = gateway.port();
    let address = format!("127.0.0.1:{port}");
    for host in ["0.0.0.0", "127.0.0.1"] {
        assert_refused(&ask(port, &[("HOST", host)]), 1, &[&address, "refused"]);
    }
}

#[test]
fn a_gateway_that_is_full_or_ends_is_healthy() {
    let backend = Backend::start();
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_STREAMS", "1")
        .env("DISCONNECT_TIMEOUT_SECONDS", "600")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start();
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    assert_eq!(gateway.get("/full").read_response().status(), 503);
    assert_healthy(&ask(gateway.port(), &[]));
    gateway.signal("TERM");
    stream.expect_last_chunk_and_eof();
    let held = backend.next_disconnect_of(&token);
    assert_healthy(&ask(gateway.port(), &[]));
    held.answer(200, "");
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn the_gateway_notices_nothing() {
    let mut gateway = Gateway::builder().env("LOG_LEVEL", "debug").start();
    assert_healthy(&ask(gateway.port(), &[]));
    gateway.signal("TERM");
    gateway.wait_exit();
    for line in gateway.lines() {
        assert!(!line.is_error, "{}", line.text);
    }
}

#[test]
fn nobody_listens() {
    let port = Port::reserve();
    let number = port.number();
    let address = format!("127.0.0.1:{number}: ");
    assert_refused(&ask(number, &[]), 1, &[&address, "refused"]);
    let address = format!("[::1]:{number}: ");
    assert_refused(&ask(number, &[("HOST", "::1")]), 1, &[&address, "refused"]);
}

#[test]
fn somebody_else_listens() {
    let says = |answer: &'static str| {
        ask_about(move |stream| stream.write_all(answer.as_bytes()).expect("a connection"))
    };
    assert_refused(
        &says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        1,
        &["127.0.0.1:", "answered 404"],
    );
    assert_refused(&says("220 ready\r\n"), 1, &["127.0.0.1:", "not HTTP"]);
    assert_refused(&says(""), 1, &["127.0.0.1:", "not HTTP"]);
}

#[test]
fn the_limit_is_kept_against_silence() {
    let begun = Instant::now();
    let output = ask_about(|stream| {
        // The other side's FIN ends it.
        let _ = stream.read(&mut [0]);
    });
    assert_refused(&output, 1, &["127.0.0.1:", "in time"]);
    assert!(begun.elapsed() >= LIMIT);
}

/// Each byte is progress, and yet none extends the limit.
#[test]
fn the_limit_is_kept_against_single_bytes() {
    let begun = Instant::now();
    let output = ask_about(|stream| {
        stream.set_read_timeout(Some(LIMIT / 20)).unwrap();
        // The other side's FIN or reset ends it.
        while stream.write_all(b"H").is_ok() && stream.read(&mut [0]).is_err_and(is_time_out) {}
    });
    assert_refused(&output, 1, &["127.0.0.1:", "in time"]);
    assert!(begun.elapsed() >= LIMIT);
    assert!(begun.elapsed() < 2 * LIMIT, "{:?}", begun.elapsed());
}

#[expect(clippy::needless_pass_by_value, reason = "for is_err_and")]
fn is_time_out(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

#[test]
fn an_invalid_setting_is_exit_code_2() {
    assert_refused(&ask(0, &[]), 2, &["--port"]);
    assert_refused(&ask(3000, &[("LOG_LEVEL", "loud")]), 2, &["LOG_LEVEL"]);
    let valued = program(&[], &["--healthcheck=yes"]).output().unwrap();
    assert_refused(&valued, 2, &["--healthcheck takes no value"]);
}
