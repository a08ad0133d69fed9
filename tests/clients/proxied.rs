//! The README's proxies between clients and the gateway.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::caddy::CADDY;
use crate::haproxy::HAPROXY;
use crate::lines::curl;
use crate::nginx::NGINX;
use crate::program::Program;
use crate::proxy::{Change, Kind, Proxy};
use crate::readme;
use crate::stage::{
    NAMES, accept, begin, expect_disconnect, lines_of, play, report_of, restart, send, url,
};
use crate::support::{
    Backend, Builder, Client, Folder, Gateway, OK, assert_error, assert_ok, send_close,
};
use crate::tools;

/// Lines of the blocks that some tests take out or change.
const BUFFERING: &str = "proxy_buffering off;";
const VERSION: &str = "proxy_http_version 1.1;";

/// The cases that every proxy is put through, those of its own, and those where it reaches the gateway
/// through a Unix socket.
macro_rules! cases {
    ($($proxy:ident, $kind:ident, $needs:literal: $($own:ident)*; $($by_socket:ident)*;)*) => {$(
        mod $proxy {
            cases! {
                @ Way::port(&$kind), $needs:
                events_come_at_once
                the_head_comes_uncompressed
                heartbeats_keep_a_stream_open
                a_stream_that_is_silent_for_longer_than_the_time_out_ends
                a_client_that_leaves_has_left_the_gateway
                a_refusal_comes_with_its_code
                sends_do_not_pass
                a_gateway_that_restarts_ends_the_streams
                a_gateway_that_is_killed_looks_like_an_end_or_not
                an_event_source_reads
                curl_reads_by_http_2
                one_http_2_connection_carries_many_streams
                $($own)*
            }

            mod by_socket {
                cases! {
                    @ Way::socket(&$kind), $needs:
                    events_come_at_once
                    a_client_that_leaves_has_left_the_gateway
                    a_refusal_comes_with_its_code
                    sends_do_not_pass
                    a_gateway_that_restarts_ends_the_streams
                    a_gateway_that_is_killed_looks_like_an_end_or_not
                    $($by_socket)*
                }
            }
        }
    )*};
    (@ $way:expr, $needs:literal: $($case:ident)*) => {$(
        #[test]
        #[ignore = $needs]
        fn $case() {
            use crate::proxied::*;
            crate::proxied::$case(&$way);
        }
    )*};
}

cases! {
    nginx, NGINX, "needs nginx, Node and curl": ;;
    haproxy, HAPROXY, "needs HAProxy, Node and curl":
        who_comes_during_a_restart_waits_for_its_end;;
    caddy, CADDY, "needs Caddy, Node and curl":
        who_comes_during_a_restart_waits_for_its_end;
        who_comes_during_a_restart_waits_for_its_end;
}

/// A proxy, and how it reaches the gateway.
struct Way {
    kind: &'static Kind,
    /// That of the gateway's socket, if it has one.
    folder: Option<Folder>,
}

impl Way {
    fn port(kind: &'static Kind) -> Way {
        Way { kind, folder: None }
    }

    fn socket(kind: &'static Kind) -> Way {
        let folder = Some(Folder::new(kind.name));
        Way { kind, folder }
    }

    /// No heartbeat comes unless a test says so, however long it takes.
    fn builder(&self, backend: &Backend) -> Builder {
        let builder = Gateway::builder().backend(backend);
        let builder = builder.env("HEARTBEAT_INTERVAL_SECONDS", "86400");
        match &self.folder {
            Some(folder) => builder.at_socket(&folder.path("public.sock")),
            None => builder,
        }
    }

    fn gateway(&self, backend: &Backend) -> Gateway {
        self.builder(backend).start()
    }

    /// With these settings of the proxy changed.
    #[track_caller]
    fn proxy_with(&self, gateway: &Gateway, changes: &[Change]) -> Proxy {
        Proxy::start(self.kind, gateway, changes)
    }

    #[track_caller]
    fn proxy(&self, gateway: &Gateway) -> Proxy {
        self.proxy_with(gateway, &[])
    }
}

/// Opens a stream through a proxy; gives the client, behind the head, and the token.
fn open(proxy: &Proxy, backend: &Backend) -> (Client, String) {
    let mut client = proxy.get("/events");
    let callback = accept(backend);
    assert_eq!(callback.url(), "/events");
    assert_eq!(client.read_head().status, 200);
    (client, callback.token())
}

/// A proxy may cut or join what it passes on: the bytes are what counts.
#[track_caller]
fn expect_text(client: &mut Client, wanted: &str) {
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        let chunk = client.next_proxied_chunk();
        assert!(!chunk.is_empty(), "the stream's end");
        seen.extend(chunk);
    }
    assert_eq!(String::from_utf8_lossy(&seen), wanted);
}

#[track_caller]
fn expect_lines(client: &mut Client, name: &str, data: &str) {
    expect_text(client, &(lines_of(name, data).join("\n") + "\n"));
}

/// Every event comes before the next is sent, whatever the proxy was told.
fn expect_at_once(way: &Way, changes: &[Change]) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy_with(&gateway, changes);
    let (mut client, token) = open(&proxy, &backend);
    let (mut sent, mut quickest) = (Instant::now(), Duration::MAX);
    play(&gateway, &token, |name, data| {
        expect_lines(&mut client, name, data);
        quickest = quickest.min(sent.elapsed());
        sent = Instant::now();
    });
    // A busy host may hold up some of them; a proxy that waits for more, holds up all of them.
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");
    assert_ok(&send_close(&gateway, &token), OK);
    assert!(client.next_chunk().is_empty(), "the stream's end");
    expect_disconnect(&backend, &token, "server_closed");
}

fn events_come_at_once(way: &Way) {
    expect_at_once(way, &[]);
}

#[test]
#[ignore = "needs nginx"]
fn the_gateway_tells_nginx_not_to_buffer() {
    expect_at_once(&Way::port(&NGINX), &[(BUFFERING, "")]);
}

#[test]
#[ignore = "needs nginx"]
fn nginx_may_speak_http_1_0_to_the_gateway_or_keep_alive() {
    let way = Way::port(&NGINX);
    expect_at_once(&way, &[(VERSION, "")]);
    let kept = "proxy_http_version 1.1; proxy_set_header Connection '';";
    expect_at_once(&way, &[(VERSION, kept)]);
}

fn the_head_comes_uncompressed(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy(&gateway);
    let mut client = proxy.connect();
    client.send(
        "GET /events?a=%20b HTTP/1.1\r\nHost: h:1\r\nAccept-Encoding: gzip\r\n\
         X-Forwarded-For: 1.2.3.4\r\n\r\n",
    );
    let callback = accept(&backend);
    assert_eq!(callback.url(), "/events?a=%20b");
    let fields = &callback.json["request"]["headers"];
    assert_eq!(fields["host"], "h:1");
    assert_eq!(fields["x-forwarded-for"], "127.0.0.1");
    // Before any event.
    let head = client.read_head();
    assert_eq!(head.value("content-type"), Some("text/event-stream"));
    assert_eq!(head.value("cache-control"), Some("no-cache"));
    assert_eq!(head.value("content-encoding"), None);
    // Where it is gone, a second proxy in front of this one is not told.
    assert_eq!(head.value("x-accel-buffering"), way.kind.unbuffered);
    // Long enough for every proxy to think of compressing it.
    let data = "x".repeat(4096);
    send(&gateway, &callback.token(), "", &data);
    expect_lines(&mut client, "", &data);
}

fn heartbeats_keep_a_stream_open(way: &Way) {
    let backend = Backend::start();
    let gateway = way
        .builder(&backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .start();
    let (old, new) = way.kind.time_out;
    let proxy = way.proxy_with(&gateway, &[(old, &new.replace("{}", "2"))]);
    let (mut client, token) = open(&proxy, &backend);
    // Twice the time-out and more.
    for _ in 0..5 {
        expect_text(&mut client, ": heartbeat\n\n");
    }
    send(&gateway, &token, "", "x");
    expect_lines(&mut client, "", "x");
}

fn a_stream_that_is_silent_for_longer_than_the_time_out_ends(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let (old, new) = way.kind.time_out;
    let proxy = way.proxy_with(&gateway, &[(old, &new.replace("{}", "1"))]);
    let (mut client, token) = open(&proxy, &backend);
    if way.kind.breaks_off {
        // Without the last chunk.
        client.expect_eof();
    } else {
        assert!(client.next_chunk().is_empty());
    }
    expect_disconnect(&backend, &token, "client_closed");
}

/// Long before a heartbeat could tell.
fn a_client_that_leaves_has_left_the_gateway(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy(&gateway);
    let (client, token) = open(&proxy, &backend);
    drop(client);
    expect_disconnect(&backend, &token, "client_closed");
    let (client, token) = open(&proxy, &backend);
    client.reset();
    expect_disconnect(&backend, &token, "client_closed");
    // During the connect callback too.
    let client = proxy.get("/events");
    let callback = backend.next_connect();
    drop(client);
    gateway.wait_log_all(&["disconnected", &callback.token()]);
    callback.answer(200, "");
    expect_disconnect(&backend, &callback.token(), "client_closed");
}

fn a_refusal_comes_with_its_code(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy(&gateway);
    let refusals = [
        (401, "BACKEND_AUTH_FAILED"),
        (403, "BACKEND_FORBIDDEN"),
        (404, "BACKEND_ERROR"),
        (503, "BACKEND_ERROR"),
    ];
    for (status, code) in refusals {
        let mut client = proxy.get("/events");
        backend.next_connect().answer(status, "");
        assert_error(&client.read_response(), status, code);
    }
}

/// Not even when the proxy sends everything that it may to the gateway.
fn sends_do_not_pass(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let all = way.proxy_with(&gateway, &[way.kind.everything]);
    let some = way.proxy(&gateway);
    let (mut client, token) = open(&some, &backend);
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
    for (proxy, elsewhere) in [(&all, 404), (&some, way.kind.elsewhere)] {
        for target in targets {
            let mut publisher = proxy.connect();
            let length = body.len();
            publisher.send(format!(
                "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            let status = publisher.read_response().status();
            // Not every proxy takes every target.
            let refusals = [400, 404, elsewhere];
            assert!(refusals.contains(&status), "{target}: {status}");
        }
    }
    assert_eq!(gateway.count_log("/internal/send"), 0, "{}", gateway.log());
    send(&gateway, &token, "", "true");
    expect_lines(&mut client, "", "true");
}

fn a_gateway_that_restarts_ends_the_streams(way: &Way) {
    let backend = Backend::start();
    let mut gateway = way.gateway(&backend);
    let proxy = way.proxy(&gateway);
    let (mut client, token) = open(&proxy, &backend);
    gateway.signal("TERM");
    assert!(client.next_chunk().is_empty(), "a clean end");
    expect_disconnect(&backend, &token, "server_closed");
    assert!(gateway.wait_exit().success());
    assert_eq!(proxy.get("/events").read_response().status(), way.kind.down);

    let _second = restart(&gateway, &backend);
    let (mut client, token) = open(&proxy, &backend);
    send(&gateway, &token, "", "x");
    expect_lines(&mut client, "", "x");
}

/// Those that wait do so for seconds, and the test for as long as the gateway needs to start.
fn who_comes_during_a_restart_waits_for_its_end(way: &Way) {
    let backend = Backend::start();
    let mut gateway = way.gateway(&backend);
    let proxy = way.proxy_with(&gateway, &[way.kind.patience.expect("patience")]);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let mut client = proxy.get("/events");
    let _second = restart(&gateway, &backend);
    let callback = accept(&backend);
    assert_eq!(client.read_head().status, 200);
    send(&gateway, &callback.token(), "", "x");
    expect_lines(&mut client, "", "x");
}

fn a_gateway_that_is_killed_looks_like_an_end_or_not(way: &Way) {
    expect_after_kill(way, &[], if way.kind.breaks_off { 18 } else { 0 });
}

/// By HTTP/1.0 it cannot know that the last chunk is missing: why the README's block says which.
#[test]
#[ignore = "needs nginx and curl"]
fn a_gateway_that_is_killed_looks_like_an_end_to_nginx_by_http_1_0() {
    expect_after_kill(
        &Way::port(&NGINX),
        &[(VERSION, "proxy_http_version 1.0;")],
        0,
    );
}

/// curl's exit code when the gateway is killed.
fn expect_after_kill(way: &Way, changes: &[Change], code: i32) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy_with(&gateway, changes);
    let mut program = Program::start(&mut curl(&["-N", &url(proxy.port(), "/events")]));
    send(&gateway, &accept(&backend).token(), "", "x");
    assert_eq!([program.line(), program.line()], ["data: x", ""]);
    gateway.signal("KILL");
    assert_eq!(program.wait_exit().code(), Some(code));
}

fn an_event_source_reads(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy(&gateway);
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    let orders = json!({"url": url(proxy.port(), "/events"), "names": NAMES});
    let mut program = begin(&mut command, &orders);
    let token = accept(&backend).token();
    assert_eq!(program.report(), json!({"open": 1}));
    play(&gateway, &token, |name, data| {
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
    let nginx = Way::port(&NGINX).proxy(&gateway);
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
    send(&gateway, &token, "note", "back");
    assert_eq!(program.report(), json!({"log": ["note", "back"]}));
}

fn curl_reads_by_http_2(way: &Way) {
    let backend = Backend::start();
    let gateway = way.gateway(&backend);
    let proxy = way.proxy(&gateway);
    let target = url(proxy.port2(), "/events");
    let version = ["-w", "%{http_version}\n"];
    let options = [&["-N", "--http2-prior-knowledge", &target], &version[..]].concat();
    let mut program = Program::start(&mut curl(&options));
    let token = accept(&backend).token();
    play(&gateway, &token, |name, data| {
        for wanted in lines_of(name, data) {
            assert_eq!(program.line(), wanted);
        }
    });
    assert_ok(&send_close(&gateway, &token), OK);
    assert!(program.wait_exit().success());
    assert_eq!(program.untaken(), ["2"]);
}

/// As many as it may have by default, which it is told.
fn one_http_2_connection_carries_many_streams(way: &Way) {
    let backend = Backend::start();
    let gateway = way
        .builder(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .start();
    let proxy = way.proxy(&gateway);
    let paths: Vec<String> = (0..way.kind.streams)
        .map(|n| format!("/events/{n}"))
        .collect();
    let orders = json!({"origin": url(proxy.port2(), ""), "paths": paths});
    let mut program = begin(&mut tools::node("tests/clients/programs/http2.js"), &orders);
    assert_eq!(program.report(), json!({"most": way.kind.streams}));
    let mut tokens = vec![String::new(); way.kind.streams];
    for _ in &paths {
        let callback = backend.next_connect();
        callback.answer(200, "");
        let stream = paths.iter().position(|path| path == callback.url());
        tokens[stream.expect("a path")] = callback.token();
        assert_eq!(program.report(), json!({"stream": stream, "status": 200}));
    }
    // All are open; each event comes at once, to its stream alone.
    for (stream, token) in tokens.iter().enumerate().rev() {
        send(&gateway, token, "", "x");
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
}
