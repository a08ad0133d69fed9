//! What is refused, by its code; and nothing else.

use super::{OPENED, TOLD};
use crate::support::{
    Backend, Client, Gateway, OK, Scraper, assert_error, assert_ok, assert_served, open_stream,
    send_data,
};

/// Requests that are refused as they are, or for their size: the code, and the limit if it is one.
fn requests() -> Vec<(&'static str, String, &'static str)> {
    let head = |fields: &str| format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let malformed = "malformed_request";
    vec![
        ("BAD_REQUEST", "GET /a\r\n\r\n".to_owned(), malformed),
        ("BAD_REQUEST", head("A: b\r\n c\r\n"), malformed),
        (
            "NOT_FOUND",
            "POST /a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "",
        ),
        (
            "NOT_FOUND",
            "GET /internal/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "",
        ),
        (
            "METHOD_NOT_ALLOWED",
            "PUT /a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "",
        ),
        (
            "METHOD_NOT_ALLOWED",
            "GET /internal/send HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "",
        ),
        (
            "TOKEN_NOT_FOUND",
            "GET /internal/streams/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "",
        ),
        (
            "INVALID_PARAMETER",
            "GET /internal/streams?limit=a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "",
        ),
        (
            "CONTENT_TOO_LARGE",
            "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n".to_owned(),
            "MAX_BODY_BYTES",
        ),
        (
            "URI_TOO_LONG",
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(3000)),
            "MAX_HEAD_BYTES",
        ),
        (
            "REQUEST_HEADER_FIELDS_TOO_LARGE",
            head(&format!("A: {}\r\n", "a".repeat(3000))),
            "MAX_HEAD_BYTES",
        ),
        (
            "REQUEST_HEADER_FIELDS_TOO_LARGE",
            head(&"A: b\r\n".repeat(20)),
            "MAX_HEADERS",
        ),
        (
            "NOT_IMPLEMENTED",
            head("Transfer-Encoding: gzip\r\n"),
            malformed,
        ),
        (
            "HTTP_VERSION_NOT_SUPPORTED",
            "GET /a HTTP/1.2\r\nHost: h\r\n\r\n".to_owned(),
            malformed,
        ),
    ]
}

#[test]
fn a_request_that_is_refused_counts_once_under_its_code() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder
        .env("MAX_HEAD_BYTES", "2048")
        .env("MAX_HEADERS", "10")
        .env("MAX_BODY_BYTES", "4096")
        .start();
    let mut scraper = Scraper::of(&gateway);
    for (code, request, limit) in requests() {
        let mut client = gateway.connect();
        client.send(&request);
        let response = client.read_response();
        assert_error(&response, response.status(), code);
        let series = format!("refusals_total code={code}");
        let hit = format!("limits_hit_total limit={limit}");
        let mut grown = vec![(&*series, 1)];
        if !limit.is_empty() {
            grown.push((&*hit, 1));
        }
        scraper.expect(&grown);
    }
    // What is answered otherwise is no refusal.
    assert_served(&mut gateway.connect());
    let mut client = gateway.get("/readyz");
    assert_eq!(client.read_response().status(), 200);
    scraper.expect(&[]);
}

/// What the backend's answer, or its silence, comes to.
#[test]
fn a_client_that_the_backend_turns_away_counts_by_what_it_is_told() {
    let mut backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    for (status, told, code) in [
        (401, 401, "BACKEND_AUTH_FAILED"),
        (403, 403, "BACKEND_FORBIDDEN"),
        (500, 500, "BACKEND_ERROR"),
        (304, 502, "BACKEND_ERROR"),
    ] {
        let mut client = gateway.get("/s");
        backend.next_connect().answer(status, "");
        assert_error(&client.read_response(), told, code);
        scraper.expect(&[
            (&format!("refusals_total code={code}"), 1),
            ("callbacks_total kind=connect outcome=rejected", 1),
        ]);
    }
    // An answer that opens nothing is an answer all the same.
    let mut client = gateway.get("/s");
    backend.next_connect().answer(200, r#"{"channels":1}"#);
    assert_error(&client.read_response(), 502, "BACKEND_ERROR");
    backend.next_disconnect().answer(200, "");
    scraper.expect(&[("refusals_total code=BACKEND_ERROR", 1), OPENED[0], TOLD]);
    backend.leave();
    let response = gateway.get("/s").read_response();
    assert_error(&response, 503, "BACKEND_UNAVAILABLE");
    scraper.expect(&[
        ("refusals_total code=BACKEND_UNAVAILABLE", 1),
        ("callbacks_total kind=connect outcome=failed", 1),
    ]);
}

#[test]
fn a_gateway_without_a_callback_url_counts_whom_it_refuses() {
    let gateway = Gateway::builder().start();
    let mut scraper = Scraper::of(&gateway);
    assert_eq!(scraper.last.count("ready"), 0);
    let response = gateway.get("/s").read_response();
    assert_error(&response, 503, "SERVICE_NOT_CONFIGURED");
    scraper.expect(&[("refusals_total code=SERVICE_NOT_CONFIGURED", 1)]);
}

/// Each limit whose refusal says `OVERLOADED`: under one code, and under its own name.
#[test]
fn whoever_is_refused_for_a_limit_counts_under_both() {
    let overloaded = |gateway: &Gateway, scraper: &mut Scraper, mut client: Client, limit: &str| {
        assert_error(&client.read_response(), 503, "OVERLOADED");
        let hit = format!("limits_hit_total limit={limit}");
        scraper.expect(&[("refusals_total code=OVERLOADED", 1), (&hit, 1)]);
        assert_served(&mut gateway.connect());
    };
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_STREAMS", "1")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    scraper.expect(&OPENED);
    overloaded(&gateway, &mut scraper, gateway.get("/t"), "MAX_STREAMS");
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(stream.next_event(), "data: x\n\n");

    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_HEAD_BYTES", "131072")
        .env("MAX_KEPT_HEADER_BYTES", "65536")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let mut client = gateway.connect();
    let field = "a".repeat(100_000);
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nA: {field}\r\n\r\n"));
    overloaded(&gateway, &mut scraper, client, "MAX_KEPT_HEADER_BYTES");

    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("MAX_INBOUND_BYTES", "65536").start();
    let mut scraper = Scraper::of(&gateway);
    let mut client = gateway.connect();
    let head = "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n";
    client.send(head.to_owned() + &"a".repeat(150_000));
    overloaded(&gateway, &mut scraper, client, "MAX_INBOUND_BYTES");
}

#[test]
fn a_request_without_a_key_counts_beside_its_code() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("INTERNAL_KEY", "key").start();
    let mut scraper = Scraper::with_key(gateway.connect(), "key");
    let rejected = [
        ("keys_rejected_total", 1),
        ("refusals_total code=UNAUTHORIZED", 1),
    ];
    for path in ["/internal/metrics", "/internal/nothing"] {
        assert_error(&gateway.get(path).read_response(), 401, "UNAUTHORIZED");
        scraper.expect(&rejected);
    }
    // A send without it is none that was read.
    let response = send_data(&gateway, "t", "x");
    assert_error(&response, 401, "UNAUTHORIZED");
    scraper.expect(&rejected);
}

/// A refusal that is a stream is one all the same: no stream has opened, and nothing was delivered.
#[test]
fn a_refusal_by_a_stream_counts_as_a_refusal() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("REFUSE_MODE", "stream").start();
    let mut scraper = Scraper::of(&gateway);
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut client = gateway.connect();
        client.send(format!(
            "GET /s {version}\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"
        ));
        backend.next_connect().answer(403, "");
        assert_eq!(client.read_head().status, 200);
        assert!(client.next_event().starts_with("event: rejected\n"));
        client.read_to_end();
        scraper.expect(&[
            ("refusals_total code=BACKEND_FORBIDDEN", 1),
            ("callbacks_total kind=connect outcome=rejected", 1),
        ]);
        assert_eq!(scraper.last.count("delivered_bytes_total"), 0);
    }
}
