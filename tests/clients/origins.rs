//! A page of another origin than the gateway's, in a real browser (contract, section 13): what it may
//! read, what the backend sees of it, and what is kept from one that is not listed.

use serde_json::{Value, json};

use crate::program::Program;
use crate::stage::{begin, url};
use crate::support::{Backend, Callback, Gateway};
use crate::{browser, tools};

/// What a page of this gateway, which is there for that alone, does one after the other. The page is its
/// health, at this name of the host.
fn page(at: &Gateway, host: &str, steps: &Value) -> Program {
    let mut command = tools::node("tests/clients/programs/origins.js");
    let page = format!("http://{host}:{}/healthz", at.port());
    let orders = json!({"page": page, "cookie": "who=me", "steps": steps});
    begin(command.env("CHROMIUM", browser::chromium()), &orders)
}

fn next(program: &mut Program) {
    program.say("next");
}

#[track_caller]
fn close(mut program: Program) {
    program.say("close");
    assert!(program.wait_exit().success());
}

/// A field of the client's request.
fn field(callback: &Callback, name: &str) -> Value {
    callback.json["request"]["headers"][name].clone()
}

const EVENT: &str = r#"{"event":{"data":"hello"}}"#;

#[test]
#[ignore = "needs Node and Chromium"]
fn a_page_that_is_listed_reads_streams_and_refusals() {
    let _alone = browser::alone();
    let pages = Gateway::builder().start();
    let backend = Backend::start();
    let origin = format!("http://127.0.0.1:{}", pages.port());
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CORS_ORIGINS", &format!("https://app.example,{origin}"))
        .env("MAX_STREAMS", "2")
        .start();
    let events = url(gateway.port(), "/events");
    let with_cookie = json!({"headers": {"X-Tab": "7"}, "credentials": "include"});
    let steps = json!([
        {"step": "source", "url": events, "init": {"withCredentials": true}},
        {"step": "source", "url": events},
        {"step": "fetch", "url": events},
        {"step": "leave"},
        {"step": "fetch", "url": events, "init": with_cookie},
        {"step": "fetch", "url": events, "init": with_cookie},
    ]);
    let mut page = page(&pages, "127.0.0.1", &steps);

    // With credentials, and without.
    for cookie in [json!("who=me"), Value::Null] {
        let callback = backend.next_connect();
        assert_eq!(field(&callback, "cookie"), cookie);
        assert_eq!(field(&callback, "origin"), json!(origin));
        callback.answer(200, EVENT);
        assert_eq!(page.report(), json!({"data": "hello"}));
        next(&mut page);
    }
    // One too many: the page learns when to come again.
    let refused = json!({"status": 503, "code": "OVERLOADED", "retryAfter": "5"});
    assert_eq!(page.report(), refused);
    next(&mut page);
    assert_eq!(page.report(), json!({"left": 2}));
    for _ in 0..2 {
        backend.next_disconnect().answer(200, "");
    }
    // A field of its own, so that the browser asks first; and the answer to that is relied on.
    next(&mut page);
    let callback = backend.next_connect();
    assert_eq!(field(&callback, "x-tab"), "7");
    assert_eq!(field(&callback, "cookie"), "who=me");
    callback.answer(200, EVENT);
    assert_eq!(
        page.report(),
        json!({"status": 200, "data": "data: hello\n\n"})
    );
    next(&mut page);
    backend.next_connect().answer(403, "");
    let refused = json!({"status": 403, "code": "BACKEND_FORBIDDEN", "retryAfter": null});
    assert_eq!(page.report(), refused);
    close(page);
}

#[test]
#[ignore = "needs Node and Chromium"]
fn a_page_that_is_not_listed_reads_nothing() {
    let _alone = browser::alone();
    let pages = Gateway::builder().start();
    let backend = Backend::start();
    let listed = format!("http://127.0.0.1:{}", pages.port());
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("CORS_ORIGINS", &listed).start();
    let events = url(gateway.port(), "/events");
    let steps = json!([
        {"step": "source", "url": events},
        {"step": "fetch", "url": events},
        {"step": "fetch", "url": events, "init": {"headers": {"X-Tab": "7"}}},
    ]);
    // The same page by another name.
    let mut page = page(&pages, "localhost", &steps);
    // The backend is asked, as it is by whoever needs no browser; the browser shows the page nothing.
    for report in [json!({"error": 2}), json!({"failed": true})] {
        let callback = backend.next_connect();
        let origin = format!("http://localhost:{}", pages.port());
        assert_eq!(field(&callback, "origin"), origin);
        callback.answer(200, EVENT);
        assert_eq!(page.report(), report);
        let disconnect = backend.next_disconnect_of(&callback.token());
        assert_eq!(disconnect.reason(), "client_closed");
        disconnect.answer(200, "");
        next(&mut page);
    }
    // What has to be asked for first is not even sent.
    assert_eq!(page.report(), json!({"failed": true}));
    backend.assert_idle();
    close(page);
}

#[test]
#[ignore = "needs Node and Chromium"]
fn any_page_reads_what_needs_no_credentials() {
    let _alone = browser::alone();
    let pages = Gateway::builder().start();
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("CORS_ORIGINS", "*").start();
    let events = url(gateway.port(), "/events");
    let steps = json!([
        {"step": "source", "url": events},
        {"step": "fetch", "url": events, "init": {"headers": {"Authorization": "Bearer x"}}},
        {"step": "source", "url": events, "init": {"withCredentials": true}},
    ]);
    let mut page = page(&pages, "localhost", &steps);
    let expected = [
        (Value::Null, json!({"data": "hello"})),
        (
            json!("Bearer x"),
            json!({"status": 200, "data": "data: hello\n\n"}),
        ),
        (Value::Null, json!({"error": 2})),
    ];
    for (authorization, report) in expected {
        let callback = backend.next_connect();
        assert_eq!(field(&callback, "authorization"), authorization);
        callback.answer(200, EVENT);
        assert_eq!(page.report(), report);
        if report.get("error").is_none() {
            next(&mut page);
        }
    }
    close(page);
}
