//! The README's nginx between clients and the gateway.

use serde_json::json;

use crate::lines::curl;
use crate::nginx::Nginx;
use crate::program::Program;
use crate::readme;
use crate::stage::{
    NAMES, accept, begin, expect_disconnect, lines_of, lively, play, report_of, restart, send, url,
};
use crate::support::{Backend, Client, Gateway, OK, assert_error, assert_ok, send_close};
use crate::tools;

/// Lines of the block that some tests take out or change.
const BUFFERING: &str = "proxy_buffering off;";
const VERSION: &str = "proxy_http_version 1.1;";
const READ_TIMEOUT: &str = "proxy_read_timeout 60s;";

/// Opens a stream through nginx; gives the client, behind the head, and the token.
fn open(nginx: &Nginx, backend: &Backend) -> (Client, String) {
    let mut client = nginx.get("/events");
    let callback = accept(backend);
    assert_eq!(callback.url(), "/events");
    assert_eq!(client.read_head().status, 200);
    (client, callback.token())
}

/// nginx may cut or join what it passes on: lines are what counts.
fn expect_lines(client: &mut Client, name: &str, data: &str) {
    let wanted = lines_of(name, data).join("\n") + "\n";
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        let chunk = client.next_chunk();
        assert!(!chunk.is_empty(), "the stream's end");
        seen.extend(chunk);
    }
    assert_eq!(String::from_utf8_lossy(&seen), wanted);
}

/// Every event comes before the next is sent, whatever nginx was told.
fn expect_at_once(changes: &[(&str, &str)]) {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::with(gateway.port(), changes);
    let (mut client, token) = open(&nginx, &backend);
    play(gateway.port(), &token, |name, data| {
        expect_lines(&mut client, name, data);
    });
    assert_ok(&send_close(&gateway, &token), OK);
    assert!(client.next_chunk().is_empty(), "the stream's end");
    expect_disconnect(&backend, &token, "server_closed");
}

#[test]
#[ignore = "needs nginx"]
fn nginx_passes_events_at_once() {
    expect_at_once(&[]);
}

#[test]
#[ignore = "needs nginx"]
fn the_gateway_tells_nginx_not_to_buffer() {
    expect_at_once(&[(BUFFERING, "")]);
}

#[test]
#[ignore = "needs nginx"]
fn nginx_may_speak_http_1_0_to_the_gateway_or_keep_alive() {
    expect_at_once(&[(VERSION, "")]);
    expect_at_once(&[(
        VERSION,
        "proxy_http_version 1.1; proxy_set_header Connection '';",
    )]);
}

#[test]
#[ignore = "needs nginx"]
fn nginx_passes_the_head_uncompressed() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let mut client = nginx.connect();
    client.send("GET /events?a=%20b HTTP/1.1\r\nHost: h:1\r\nAccept-Encoding: gzip\r\n\r\n");
    let callback = accept(&backend);
    assert_eq!(callback.url(), "/events?a=%20b");
    let fields = &callback.json["request"]["headers"];
    assert_eq!(fields["host"], "h:1");
    assert_eq!(fields["connection"], "close");
    assert_eq!(fields["x-forwarded-for"], "127.0.0.1");
    let head = client.read_head();
    assert_eq!(head.value("content-type"), Some("text/event-stream"));
    assert_eq!(head.value("cache-control"), Some("no-cache"));
    assert_eq!(head.value("content-encoding"), None);
    // A second proxy in front of this one is not told.
    assert_eq!(head.value("x-accel-buffering"), None);
    send(gateway.port(), &callback.token(), "", "x");
    expect_lines(&mut client, "", "x");
}

#[test]
#[ignore = "needs nginx"]
fn heartbeats_keep_a_stream_open_behind_nginx() {
    let backend = Backend::start();
    let gateway = lively(&backend);
    let nginx = Nginx::with(gateway.port(), &[(READ_TIMEOUT, "proxy_read_timeout 2s;")]);
    let (mut client, token) = open(&nginx, &backend);
    // Twice the time-out and more.
    for _ in 0..5 {
        assert_eq!(client.next_event(), ": heartbeat\n\n");
    }
    send(gateway.port(), &token, "", "x");
    expect_lines(&mut client, "", "x");
}

#[test]
#[ignore = "needs nginx"]
fn nginx_ends_a_stream_that_is_silent_for_longer_than_its_time_out() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::with(gateway.port(), &[(READ_TIMEOUT, "proxy_read_timeout 1s;")]);
    let (mut client, token) = open(&nginx, &backend);
    // Without the last chunk.
    client.expect_eof();
    expect_disconnect(&backend, &token, "client_closed");
}

/// Long before a heartbeat could tell.
#[test]
#[ignore = "needs nginx"]
fn a_client_that_leaves_nginx_has_left_the_gateway() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let (client, token) = open(&nginx, &backend);
    drop(client);
    expect_disconnect(&backend, &token, "client_closed");
    let (client, token) = open(&nginx, &backend);
    client.reset();
    expect_disconnect(&backend, &token, "client_closed");
    // During the connect callback too.
    let client = nginx.get("/events");
    let callback = backend.next_connect();
    drop(client);
    gateway.wait_log_all(&["disconnected", &callback.token()]);
    callback.answer(200, "");
    expect_disconnect(&backend, &callback.token(), "client_closed");
}

#[test]
#[ignore = "needs nginx"]
fn nginx_passes_a_refusal_with_its_code() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let refusals = [
        (401, "BACKEND_AUTH_FAILED"),
        (403, "BACKEND_FORBIDDEN"),
        (404, "BACKEND_ERROR"),
        (503, "BACKEND_ERROR"),
    ];
    for (status, code) in refusals {
        let mut client = nginx.get("/events");
        backend.next_connect().answer(status, "");
        assert_error(&client.read_response(), status, code);
    }
}

#[test]
#[ignore = "needs nginx"]
fn sends_do_not_pass_nginx() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let (mut client, token) = open(&nginx, &backend);
    let body = json!({"token": token, "event": {"data": "forged"}}).to_string();
    let targets = [
        "/internal/send",
        "/internal/send?x",
        "/internal/",
        "//internal/send",
        "/internal//send",
        "/internal%2Fsend",
        "/%69nternal/send",
        "/internal/./send",
        "/events/../internal/send",
        "/events/%2e%2e/internal/send",
        "/events/..%2finternal/send",
        "/events?/../internal/send",
        "/internal/send/../../events",
        "/internal/send?/../../events",
        "/internal/send#/../../events",
        "http://h/internal/send",
        "http://h/events/../internal/send",
    ];
    for target in targets {
        let mut publisher = nginx.connect();
        let length = body.len();
        publisher.send(format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let status = publisher.read_response().status();
        assert_eq!(status, 404, "{target}");
    }
    assert_eq!(gateway.count_log("/internal/send"), 0, "{}", gateway.log());
    send(gateway.port(), &token, "", "true");
    expect_lines(&mut client, "", "true");
}

#[test]
#[ignore = "needs nginx"]
fn a_gateway_that_restarts_ends_the_streams_behind_nginx() {
    let backend = Backend::start();
    let mut gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let (mut client, token) = open(&nginx, &backend);
    gateway.signal("TERM");
    assert!(client.next_chunk().is_empty(), "a clean end");
    expect_disconnect(&backend, &token, "server_closed");
    assert!(gateway.wait_exit().success());
    assert_eq!(nginx.get("/events").read_response().status(), 502);

    let _second = restart(&gateway, &backend);
    let (mut client, token) = open(&nginx, &backend);
    send(gateway.port(), &token, "", "x");
    expect_lines(&mut client, "", "x");
}

/// Over HTTP/1.1 nginx sees that the last chunk is missing, and leaves it out too. Over HTTP/1.0
/// it cannot know: why the README's block says which.
#[test]
#[ignore = "needs nginx and curl"]
fn a_gateway_that_is_killed_does_not_look_like_an_end_behind_nginx() {
    for (version, code) in [(VERSION, 18), ("proxy_http_version 1.0;", 0)] {
        let backend = Backend::start();
        let gateway = Gateway::of(&backend);
        let nginx = Nginx::with(gateway.port(), &[(VERSION, version)]);
        let mut program = Program::start(&mut curl(&["-N", &url(nginx.port(), "/events")]));
        send(gateway.port(), &accept(&backend).token(), "", "x");
        assert_eq!([program.line(), program.line()], ["data: x", ""]);
        gateway.signal("KILL");
        assert_eq!(program.wait_exit().code(), Some(code), "{version}");
    }
}

#[test]
#[ignore = "needs nginx and Node"]
fn an_event_source_reads_behind_nginx() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    let orders = json!({"url": url(nginx.port(), "/events"), "names": NAMES});
    let mut program = begin(&mut command, &orders);
    let token = accept(&backend).token();
    assert_eq!(program.report(), json!({"open": 1}));
    play(gateway.port(), &token, |name, data| {
        assert_eq!(program.report(), report_of(name, data));
    });
    program.say("close");
    expect_disconnect(&backend, &token, "client_closed");
}

/// nginx answers 502 meanwhile: an `EventSource` alone would give up.
#[test]
#[ignore = "needs nginx and Node"]
fn the_readme_code_for_browsers_outlives_a_restart_behind_nginx() {
    let backend = Backend::start();
    let mut gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let orders = json!({"origin": url(nginx.port(), "/"), "code": readme::block("js")});
    let mut command = tools::node("tests/clients/programs/readme.js");
    let program = begin(&mut command, &orders);
    accept(&backend);
    assert_eq!(program.report(), json!({"open": true}));
    gateway.signal("KILL");
    gateway.wait_exit();
    assert_eq!(program.report(), json!({"state": 0}));
    assert_eq!(program.report(), json!({"state": 2}), "the 502");

    let _second = restart(&gateway, &backend);
    let token = accept(&backend).token();
    while program.report() != json!({"open": true}) {}
    send(gateway.port(), &token, "note", "back");
    assert_eq!(program.report(), json!({"log": ["note", "back"]}));
}

#[test]
#[ignore = "needs nginx and curl"]
fn curl_reads_behind_nginx_by_http_2() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let target = url(nginx.port2(), "/events");
    let mut program = Program::start(&mut curl(&["-N", "--http2-prior-knowledge", &target]));
    let token = accept(&backend).token();
    play(gateway.port(), &token, |name, data| {
        for wanted in lines_of(name, data) {
            assert_eq!(program.line(), wanted);
        }
    });
    assert_ok(&send_close(&gateway, &token), OK);
    assert!(program.wait_exit().success());
    assert!(nginx.program.line().ends_with(" HTTP/2.0 200 /events"));
}

/// As many as one connection may have by default (`http2_max_concurrent_streams`).
#[test]
#[ignore = "needs nginx and Node"]
fn http_2_carries_128_streams_in_one_connection() {
    const STREAMS: usize = 128;
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let nginx = Nginx::of(gateway.port());
    let paths: Vec<String> = (0..STREAMS).map(|n| format!("/events/{n}")).collect();
    let orders = json!({"origin": url(nginx.port2(), ""), "paths": paths});
    let mut program = begin(&mut tools::node("tests/clients/programs/http2.js"), &orders);
    let mut tokens = Vec::new();
    for path in &paths {
        let callback = backend.next_connect_of(path);
        callback.answer(200, "");
        tokens.push(callback.token());
        let stream = tokens.len() - 1;
        assert_eq!(program.report(), json!({"stream": stream, "status": 200}));
    }
    // All are open; each event comes at once, to its stream alone.
    for (stream, token) in tokens.iter().enumerate().rev() {
        send(gateway.port(), token, "", "x");
        for line in ["data: x", ""] {
            assert_eq!(program.report(), json!({"stream": stream, "line": line}));
        }
    }
    for (stream, token) in tokens.iter().enumerate() {
        assert_ok(&send_close(&gateway, token), OK);
        expect_disconnect(&backend, token, "server_closed");
        assert_eq!(program.report(), json!({"stream": stream, "end": 0}));
    }
    assert!(program.wait_exit().success());

    let entries: Vec<String> = tokens.iter().map(|_| nginx.program.line()).collect();
    let connection = entries[0].split(' ').next().expect("a number").to_owned();
    let wanted = format!("{connection} HTTP/2.0 200 /events/");
    for entry in entries {
        assert!(entry.starts_with(&wanted), "{entry}, not {wanted}");
    }
}
