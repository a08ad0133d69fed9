//! Node's `EventSource`, and the README's code for browsers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::program::Program;
use crate::readme;
use crate::stage::{
    NAMES, accept, begin, expect_disconnect, lively, play, report_of, restart, send, url,
    wait_heartbeat,
};
use crate::support::{BUFFERED, Backend, Gateway, OK, assert_ok, post_send, send_close};
use crate::tools;

/// `readyState` of an `EventSource`.
const CONNECTING: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

fn event_source(port: u16, path: &str) -> Program {
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    begin(
        &mut command,
        &json!({"url": url(port, path), "names": NAMES}),
    )
}

/// Waits for `onopen`, which must be the next report; gives the token.
fn open(program: &Program, backend: &Backend) -> String {
    let callback = accept(backend);
    assert_eq!(program.report(), json!({"open": OPEN}));
    callback.token()
}

#[test]
#[ignore = "needs Node"]
fn node_gets_every_event_at_once() {
    let backend = Backend::start();
    let gateway = lively(&backend);
    let mut program = event_source(gateway.port(), "/events");
    let token = open(&program, &backend);
    play(&gateway, &token, |name, data| {
        assert_eq!(program.report(), report_of(name, data));
    });

    wait_heartbeat(&gateway, &backend);
    send(&gateway, &token, "tick", "behind a heartbeat");
    assert_eq!(program.report(), report_of("tick", "behind a heartbeat"));

    program.say("close");
    expect_disconnect(&backend, &token, "client_closed");
    assert!(program.wait_exit().success());
    assert_eq!(program.untaken(), [""; 0]);
}

#[test]
#[ignore = "needs Node"]
fn node_opens_before_the_first_event() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let program = event_source(gateway.port(), "/events");
    let callback = backend.next_connect();
    let token = callback.token();
    let early = json!({"token": token, "event": {"name": "tick", "data": "buffered"}});
    assert_ok(&post_send(&gateway, &early), BUFFERED);
    callback.answer(200, r#"{"event":{"data":"first"}}"#);
    assert_eq!(program.report(), json!({"open": OPEN}));
    assert_eq!(program.report(), report_of("", "first"));
    assert_eq!(program.report(), report_of("tick", "buffered"));
}

#[test]
#[ignore = "needs Node"]
fn node_reconnects_after_a_clean_end_and_after_a_lost_connection() {
    let backend = Backend::start();
    let mut gateway = Gateway::of(&backend);
    let port = gateway.port();
    let program = event_source(port, "/events");

    let token = open(&program, &backend);
    assert_ok(&send_close(&gateway, &token), OK);
    expect_disconnect(&backend, &token, "server_closed");
    assert_eq!(
        program.report(),
        json!({"error": null, "state": CONNECTING})
    );

    let callback = backend.next_connect();
    let fields = &callback.json["request"]["headers"];
    assert_eq!(fields["accept"], "text/event-stream");
    assert_eq!(fields.get("last-event-id"), None, "no event had an id");
    assert_ne!(callback.token(), token);
    callback.answer(200, "");
    assert_eq!(program.report(), json!({"open": OPEN}));
    send(&gateway, &callback.token(), "", "again");
    assert_eq!(program.report(), report_of("", "again"));

    gateway.signal("KILL");
    gateway.wait_exit();
    assert_eq!(
        program.report(),
        json!({"error": null, "state": CONNECTING})
    );
    let _second = restart(&gateway, &backend);
    let callback = accept(&backend);
    // Tries that met nobody are reported too.
    while program.report() != json!({"open": OPEN}) {}
    send(&gateway, &callback.token(), "", "restarted");
    assert_eq!(program.report(), report_of("", "restarted"));
}

/// An event's `id` is what a client comes back with, and its `retry` when.
#[test]
#[ignore = "needs Node"]
fn node_comes_back_with_the_id_of_the_last_event_when_it_was_told_to() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let program = event_source(gateway.port(), "/events");
    let token = open(&program, &backend);
    let event = json!({"data": "x", "id": "5", "retry": 1});
    let last = json!({"token": token, "event": event, "close": true});
    assert_ok(&post_send(&gateway, &last), OK);
    let seen = json!({"event": "message", "data": "x", "id": "5"});
    assert_eq!(program.report(), seen);
    let ended = Instant::now();
    expect_disconnect(&backend, &token, "server_closed");
    let callback = backend.next_connect();
    let fields = &callback.json["request"]["headers"];
    assert_eq!(fields["last-event-id"], "5");
    // By itself it waits for three seconds.
    assert!(ended.elapsed() < Duration::from_secs(2));
    callback.answer(200, "");
}

/// It ends when nothing is under way and no timer runs: a client that would come back does not.
#[track_caller]
fn expect_given_up(mut program: Program, status: u16) {
    assert_eq!(program.report(), json!({"error": status, "state": CLOSED}));
    assert!(program.wait_exit().success());
    assert_eq!(program.untaken(), [""; 0]);
}

#[test]
#[ignore = "needs Node"]
fn node_gives_up_after_a_refusal() {
    for status in [401, 503] {
        let backend = Backend::start();
        let gateway = Gateway::of(&backend);
        let program = event_source(gateway.port(), "/events");
        backend.next_connect().answer(status, "");
        expect_given_up(program, status);
        backend.assert_idle();
    }
}

#[test]
#[ignore = "needs Node"]
fn node_gives_up_when_the_backend_is_down() {
    let backend = Backend::refusing(|_| {});
    let gateway = Gateway::of(&backend);
    expect_given_up(event_source(gateway.port(), "/events"), 503);
}

#[test]
#[ignore = "needs Node"]
fn node_gives_up_when_it_comes_back_and_is_refused() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let program = event_source(gateway.port(), "/events");
    let token = open(&program, &backend);
    assert_ok(&send_close(&gateway, &token), OK);
    expect_disconnect(&backend, &token, "server_closed");
    assert_eq!(
        program.report(),
        json!({"error": null, "state": CONNECTING})
    );
    backend.next_connect().answer(401, "");
    expect_given_up(program, 401);
    backend.assert_idle();
}

#[test]
#[ignore = "needs Node"]
fn the_readme_code_for_browsers_comes_back_after_a_refusal() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let orders = json!({"origin": url(gateway.port(), "/"), "code": readme::block("js")});
    let mut command = tools::node("tests/clients/programs/readme.js");
    let program = begin(&mut command, &orders);
    for status in [503, 401] {
        let callback = backend.next_connect();
        assert_eq!(callback.url(), "/events/a");
        callback.answer(status, "");
        assert_eq!(program.report(), json!({"state": CLOSED}));
    }
    let token = accept(&backend).token();
    assert_eq!(program.report(), json!({"open": true}));
    for name in ["note", "greeting"] {
        send(&gateway, &token, name, "hello");
        assert_eq!(program.report(), json!({"log": [name, "hello"]}));
    }
    send(&gateway, &token, "", "hello");
    assert_eq!(program.report(), json!({"log": ["message", "hello"]}));
    assert_ok(&send_close(&gateway, &token), OK);
    assert_eq!(program.report(), json!({"state": CONNECTING}));
    accept(&backend);
    assert_eq!(program.report(), json!({"open": true}));
}
