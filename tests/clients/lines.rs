//! Python's httpx and requests, and curl.

use std::process::Command;

use serde_json::json;

use crate::program::Program;
use crate::stage::{
    accept, begin, expect_disconnect, lines_of, lively, play, report_of, send, url, wait_heartbeat,
};
use crate::support::{Backend, Gateway, OK, assert_ok, send_close};
use crate::tools;

fn python(library: &str, gateway: &Gateway) -> Program {
    let mut command = tools::python("tests/clients/programs/stream.py");
    let orders = json!({"url": url(gateway.port(), "/events")});
    begin(command.arg(library), &orders)
}

/// Without the files and the environment that could tell it otherwise.
pub fn curl(options: &[&str]) -> Command {
    let mut command = Command::new(tools::program("curl"));
    command
        .args(["--disable", "--noproxy", "*", "--silent"])
        .args(options);
    command
}

#[test]
#[ignore = "needs Python"]
fn httpx_gets_every_event_at_once() {
    let backend = Backend::start();
    let gateway = lively(&backend);
    let mut program = python("httpx", &gateway);
    let token = accept(&backend).token();
    assert_eq!(program.report(), json!({"open": "HTTP/1.1"}));
    play(&gateway, &token, |name, data| {
        assert_eq!(program.report(), report_of(name, data));
    });
    wait_heartbeat(&gateway, &backend);
    send(&gateway, &token, "tick", "last");
    assert_eq!(program.report(), report_of("tick", "last"));
    assert_ok(&send_close(&gateway, &token), OK);
    assert_eq!(program.report(), json!({"end": "clean"}));
    assert!(program.wait_exit().success());
}

/// Its default is shorter than the gateway's.
#[test]
#[ignore = "needs Python"]
fn httpx_does_not_wait_for_a_heartbeat_unless_it_is_told_to() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let program = python("httpx with its own time-out", &gateway);
    let token = accept(&backend).token();
    assert_eq!(program.report(), json!({"open": "HTTP/1.1"}));
    assert_eq!(program.report(), json!({"end": "ReadTimeout"}));
    expect_disconnect(&backend, &token, "client_closed");
}

#[test]
#[ignore = "needs Python"]
fn requests_gets_every_line_at_once() {
    let backend = Backend::start();
    let gateway = lively(&backend);
    let mut program = python("requests", &gateway);
    let token = accept(&backend).token();
    assert_eq!(program.report(), json!({"open": "HTTP/1.1"}));
    let line = || loop {
        let report = program.report();
        let line = report["line"]
            .as_str()
            .unwrap_or_else(|| panic!("{report}"))
            .to_owned();
        // A heartbeat is two lines, anywhere between events.
        if line != ": heartbeat" {
            return line;
        }
        assert_eq!(program.report(), json!({"line": ""}));
    };
    play(&gateway, &token, |name, data| {
        for wanted in lines_of(name, data) {
            assert_eq!(line(), wanted);
        }
    });
    assert_ok(&send_close(&gateway, &token), OK);
    while program.report() != json!({"end": "clean"}) {}
    assert!(program.wait_exit().success());
}

#[test]
#[ignore = "needs curl"]
fn curl_gets_every_line_at_once() {
    let backend = Backend::start();
    // No heartbeat comes within the test.
    let gateway = Gateway::of(&backend);
    let mut program = Program::start(&mut curl(&[
        "-N",
        "-H",
        "Last-Event-ID: 7",
        &url(gateway.port(), "/events"),
    ]));
    let callback = accept(&backend);
    assert_eq!(callback.json["request"]["headers"]["last-event-id"], "7");
    let token = callback.token();
    play(&gateway, &token, |name, data| {
        for wanted in lines_of(name, data) {
            assert_eq!(program.line(), wanted);
        }
    });
    assert_ok(&send_close(&gateway, &token), OK);
    assert!(program.wait_exit().success());
    assert_eq!(program.untaken(), [""; 0]);
}

#[test]
#[ignore = "needs Python"]
fn python_sees_a_refusal_with_its_code() {
    for library in ["httpx", "requests"] {
        let backend = Backend::start();
        let gateway = Gateway::of(&backend);
        let program = python(library, &gateway);
        backend.next_connect().answer(401, "");
        let refusal = json!({"status": 401, "code": "BACKEND_AUTH_FAILED"});
        assert_eq!(program.report(), refusal);
    }
}

/// A stream of each, open and with one event seen: only then curl has written anything.
fn three_streams(backend: &Backend, gateway: &Gateway) -> [(Program, String); 3] {
    let pythons = ["httpx", "requests"].map(|library| {
        let program = python(library, gateway);
        let token = accept(backend).token();
        assert_eq!(program.report(), json!({"open": "HTTP/1.1"}));
        (program, token)
    });
    let [httpx, requests] = pythons;
    let curl = Program::start(&mut curl(&["-N", &url(gateway.port(), "/events")]));
    let token = accept(backend).token();
    send(gateway, &token, "", "x");
    assert_eq!([curl.line(), curl.line()], ["data: x", ""]);
    [httpx, requests, (curl, token)]
}

/// A clean end is told from a lost connection by the last chunk.
#[test]
#[ignore = "needs Python and curl"]
fn python_and_curl_tell_a_lost_connection_from_an_end() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let [(httpx, _), (requests, _), (mut curl, _)] = three_streams(&backend, &gateway);
    gateway.signal("KILL");
    assert_eq!(httpx.report(), json!({"end": "RemoteProtocolError"}));
    assert_eq!(requests.report(), json!({"end": "ChunkedEncodingError"}));
    // "Transferred a partial file."
    assert_eq!(curl.wait_exit().code(), Some(18));
}

#[test]
#[ignore = "needs Python and curl"]
fn a_client_that_is_killed_has_left() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for (program, token) in three_streams(&backend, &gateway) {
        drop(program);
        expect_disconnect(&backend, &token, "client_closed");
    }
}
