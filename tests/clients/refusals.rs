//! Streams that are refused by a stream (contract, section 14), as a page sees them that has no code for
//! any of it: it lives through a backend that is down, and learns why it is refused.

use serde_json::{Value, json};

use crate::program::Program;
use crate::stage::{begin, url};
use crate::support::{Backend, Callback, Gateway, OK, assert_ok, post_send, send_close};
use crate::{browser, tools};

/// `readyState` of an `EventSource` that is going to come back by itself.
const CONNECTING: u8 = 0;

/// A browser loads other things of a page as well.
const PATH: &str = "/events";

fn by_stream(backend: &Backend) -> Gateway {
    let builder = Gateway::builder().backend(backend);
    builder.env("REFUSE_MODE", "stream").start()
}

/// Starts so many clients in one process.
type Start = fn(u16, usize) -> Program;

fn orders(port: u16, tabs: usize) -> Value {
    json!({"url": url(port, PATH), "names": ["rejected"], "tabs": tabs})
}

fn chromium(port: u16, tabs: usize) -> Program {
    let mut command = tools::node("tests/clients/programs/page.js");
    begin(
        command.env("CHROMIUM", browser::chromium()),
        &orders(port, tabs),
    )
}

fn node(port: u16, tabs: usize) -> Program {
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    begin(&mut command, &orders(port, tabs))
}

fn is_of_stream(callback: &Callback) -> bool {
    callback.url() == PATH
}

/// The backend goes while streams are open, and they end; it stays away until each client was refused
/// twice; then all are back. No program does anything for it but wait.
fn lives_through_a_backend_that_is_down(start: Start, tabs: usize) {
    let mut backend = Backend::with(|callback| match is_of_stream(callback) {
        true => callback.answer(200, r#"{"event":{"data":"hello"}}"#),
        false => callback.answer(404, ""),
    });
    let gateway = by_stream(&backend);
    let mut program = start(gateway.port(), tabs);
    let mut greeted = vec![0; tabs];
    let mut refused = vec![0; tabs];
    let read = |greeted: &mut [u32], refused: &mut [u32]| {
        let report = program.report();
        let tab = report["tab"].as_u64().expect("a tab") as usize;
        match report["event"].as_str() {
            Some("message") => {
                assert_eq!(report["data"], "hello");
                greeted[tab] += 1;
            }
            Some(_) => {
                assert_eq!(report["event"], "rejected");
                let data = report["data"].as_str().expect("data");
                let data: Value = serde_json::from_str(data).expect("JSON");
                let expected = json!({
                    "status": 503,
                    "code": "BACKEND_UNAVAILABLE",
                    "message": "The backend could not be reached.",
                });
                assert_eq!(data, expected);
                refused[tab] += 1;
            }
            // Each end is one, and none is the last.
            None if report.get("error").is_some() => assert_eq!(report["state"], CONNECTING),
            None => assert!(report.get("open").is_some(), "{report}"),
        }
    };
    while greeted.contains(&0) {
        read(&mut greeted, &mut refused);
    }
    let tokens: Vec<String> = (0..tabs)
        .map(|_| backend.next_connect_of(PATH).token())
        .collect();
    backend.leave();
    for token in tokens {
        assert_ok(&send_close(&gateway, &token), OK);
    }
    while refused.iter().any(|times| *times < 2) {
        read(&mut greeted, &mut refused);
    }
    assert_eq!(greeted, vec![1; tabs]);
    backend.listen();
    while greeted.contains(&1) {
        read(&mut greeted, &mut refused);
    }
    // They are streams like others.
    for _ in 0..tabs {
        let token = backend.next_connect_of(PATH).token();
        let last = json!({"token": token, "event": {"data": "hello"}});
        assert_ok(&post_send(&gateway, &last), OK);
    }
    while greeted.contains(&2) {
        read(&mut greeted, &mut refused);
    }
    program.say("close");
    assert!(program.wait_exit().success());
}

#[test]
#[ignore = "needs Node and Chromium"]
fn pages_in_chromium_live_through_a_backend_that_is_down() {
    let _alone = browser::alone();
    lives_through_a_backend_that_is_down(chromium, 3);
}

#[test]
#[ignore = "needs Node"]
fn node_lives_through_a_backend_that_is_down() {
    lives_through_a_backend_that_is_down(node, 3);
}

/// What it is refused for comes to the page; a stream that was refused is open first, and then it is as
/// one that has ended.
fn learns_why(start: Start) {
    let backend = Backend::with(|callback| match is_of_stream(callback) {
        true => callback.answer(403, ""),
        false => callback.answer(404, ""),
    });
    let gateway = by_stream(&backend);
    let mut program = start(gateway.port(), 1);
    assert_eq!(program.report(), json!({"open": 1, "tab": 0}));
    let report = program.report();
    assert_eq!(report["event"], "rejected");
    let data: Value = serde_json::from_str(report["data"].as_str().expect("data")).expect("JSON");
    let expected = json!({
        "status": 403,
        "code": "BACKEND_FORBIDDEN",
        "message": "The backend refused the connection.",
    });
    assert_eq!(data, expected);
    let end = json!({"error": null, "state": CONNECTING, "tab": 0});
    assert_eq!(program.report(), end);
    program.say("close");
    assert!(program.wait_exit().success());
}

#[test]
#[ignore = "needs Node and Chromium"]
fn a_page_in_chromium_learns_why_it_is_refused() {
    let _alone = browser::alone();
    learns_why(chromium);
}

#[test]
#[ignore = "needs Node"]
fn node_learns_why_it_is_refused() {
    learns_why(node);
}
