//! HTTP/1.1 and HTTP/1.0 as good clients use them (contract, section 7, and the sentences of
//! section 1 on answers and bodies).

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{
    Backend, Client, Gateway, Head, OK, assert_error, assert_ok, assert_served, open_stream,
    post_send, send_close, send_request,
};

const READY: &str = r#"{"status":"ready","configured":true}"#;
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

fn send(token: &str, data: &str) -> String {
    send_request(&json!({"token": token, "event": {"data": data}}).to_string())
}

fn chunked(body: &str) -> String {
    let (front, back) = body.split_at(body.len() / 2);
    format!(
        "{:020x} ;ext=\"1;\\\"\"; a = b\r\n{front}\r\n{:X}\r\n{back}\r\n0;z\r\nA-Trailer: x\r\n\r\n",
        front.len(),
        back.len()
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

// ---- persistence and pipelining ----

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let mut requests = String::new();
    for round in 0..50 {
        requests += &get("/healthz");
        requests += &send(&token, &format!("a{round}"));
        requests += &send(UNKNOWN, "x");
        requests += "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
        requests += "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
        requests += "DELETE /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
        requests += &get("/readyz");
        requests += &send(&token, &format!("b{round}"));
    }
    // Whole, and in pieces that cut heads and bodies anywhere.
    for size in [requests.len(), 7] {
        let mut client = gateway.connect();
        for piece in requests.as_bytes().chunks(size) {
            client.send(piece);
        }
        for round in 0..50 {
            assert_ok(&client.read_response(), OK);
            assert_ok(&client.read_response(), OK);
            assert_error(&client.read_response(), 404, "TOKEN_NOT_FOUND");
            assert_error(&client.read_response(), 404, "NOT_FOUND");
            assert_error(&client.read_response(), 400, "INVALID_JSON");
            assert_eq!(client.read_response().status(), 405);
            assert_ok(&client.read_response(), READY);
            assert_ok(&client.read_response(), OK);
            assert_eq!(stream.next_event(), format!("data: a{round}\n\n"));
            assert_eq!(stream.next_event(), format!("data: b{round}\n\n"));
        }
    }
    assert_ok(&send_close(&gateway, &token), OK);
    stream.expect_last_chunk_and_eof();
    backend.assert_balanced();
}

/// A stream request in a pipeline: a rejection keeps the connection and what stands behind it.
#[test]
fn requests_behind_a_stream_request_wait_for_its_rejection() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    client.send(get("/a") + &get("/b") + &get("/healthz"));
    backend.next_connect_of("/a").answer(404, "");
    assert_error(&client.read_response(), 404, "BACKEND_ERROR");
    backend.next_connect_of("/b").answer(403, "");
    assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
    assert_ok(&client.read_response(), OK);
    backend.assert_idle();
}

#[test]
fn an_answer_about_content_keeps_the_connection() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    let bad = |fields: &str| format!("POST /internal/send HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let table = [
        (bad("Content-Length: 0\r\n"), 400),
        (bad("Content-Length: 1\r\n") + "{", 400),
        (send("", "x"), 400),
        (send(UNKNOWN, "x"), 404),
        (
            bad("Content-Length: 2\r\nContent-Encoding: gzip\r\n") + "{}",
            415,
        ),
        ("POST /x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        (get("/internal/send"), 405),
        ("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
    ];
    for (request, status) in table {
        client.send(&request);
        let response = client.read_response();
        assert_eq!(response.status(), status, "{request}");
        assert_eq!(response.head.value("connection"), None, "{request}");
    }
    assert_served(&mut client);
}

#[test]
fn who_keeps_the_connection_by_version_and_wish() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let table = [
        ("HTTP/1.1", "", true, None),
        ("HTTP/1.1", "Connection: keep-alive\r\n", true, None),
        ("HTTP/1.1", "Connection: close\r\n", false, Some("close")),
        ("HTTP/1.1", "connection: x, CLOSE\r\n", false, Some("close")),
        ("HTTP/1.0", "", false, Some("close")),
        (
            "HTTP/1.0",
            "Connection: Keep-Alive\r\n",
            true,
            Some("keep-alive"),
        ),
        ("HTTP/1.0", "Connection: close\r\n", false, Some("close")),
    ];
    for (version, fields, is_kept, told) in table {
        for target in ["GET /healthz", "POST /nowhere"] {
            let request = format!("{target} {version}\r\nHost: h\r\n{fields}\r\n");
            let mut client = gateway.connect();
            client.send(request.repeat(2));
            let head = client.read_response().head;
            assert_eq!(head.value("connection"), told, "{request}");
            if is_kept {
                assert_eq!(client.read_response().head.value("connection"), told);
            } else {
                client.expect_eof();
            }
        }
    }
    // HTTP/1.0 needs no Host.
    let mut client = gateway.connect();
    client.send("GET /healthz HTTP/1.0\r\n\r\n");
    assert_ok(&client.read_response(), OK);
    client.expect_eof();
}

// ---- Expect: 100-continue ----

fn expecting(target: &str, fields: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{fields}\r\n")
}

#[test]
fn a_body_that_is_wanted_is_asked_for() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let body = json!({"token": UNKNOWN}).to_string();
    let length = body.len();
    let ways = [
        (format!("Content-Length: {length}\r\n"), body.clone()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&body)),
    ];
    let mut client = gateway.connect();
    for (fields, body) in &ways {
        client.send(expecting("/internal/send", fields));
        let interim = client.read_head();
        assert_eq!((interim.status, interim.fields.len()), (100, 0));
        client.send(body);
        assert_error(&client.read_response(), 404, "TOKEN_NOT_FOUND");
    }
    // Nothing to ask for.
    client.send(expecting("/internal/send", "Content-Length: 0\r\n"));
    assert_error(&client.read_response(), 400, "INVALID_JSON");
    // HTTP/1.0 knows no interim answers.
    client.send(format!(
        "POST /internal/send HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    assert_error(&client.read_response(), 404, "TOKEN_NOT_FOUND");
    client.expect_eof();
}

#[test]
fn a_body_that_is_not_wanted_is_not_asked_for() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_BODY_BYTES", "1024")
        .start();
    let table = [
        ("/internal/send", "Content-Length: 1025\r\n", 413),
        ("/nowhere", "Content-Length: 2000\r\n", 413),
        (
            "/internal/send",
            "Content-Length: 9\r\nContent-Encoding: br\r\n",
            415,
        ),
        ("/nowhere", "Content-Length: 9\r\n", 404),
        ("/healthz", "Transfer-Encoding: chunked\r\n", 405),
        ("/internal/send", "Transfer-Encoding: gzip\r\n", 501),
    ];
    for (target, fields, status) in table {
        let mut client = gateway.connect();
        client.send(expecting(target, fields));
        assert_eq!(client.read_response().status(), status, "{target} {fields}");
        // Whether the body comes all the same cannot be known, so nothing else may.
        client.expect_eof();
    }
}

// ---- half-closing ----

#[test]
fn a_publisher_that_half_closes_is_answered() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let body = json!({"token": token, "event": {"data": "chunked"}}).to_string();
    let coded = format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunked(&body)
    );
    for request in [
        send(&token, "one"),
        coded,
        send(&token, "two") + &send(&token, "three"),
        // What is complete is served, what is not never will be.
        send(&token, "four") + "POST /internal/send HTTP/1.1\r\nHost: h\r\nConte",
    ] {
        let answers = request.matches("\"data\"").count();
        let mut client = gateway.connect();
        client.send(&request);
        client.shutdown_write();
        for _ in 0..answers {
            assert_ok(&client.read_response(), OK);
        }
        client.expect_eof();
    }
    for data in ["one", "chunked", "two", "three", "four"] {
        assert_eq!(stream.next_event(), format!("data: {data}\n\n"));
    }
    // The FIN of a stream's client means that it left.
    stream.shutdown_write();
    assert_eq!(backend.next_disconnect_of(&token).reason(), "client_closed");
    stream.expect_eof();
    backend.assert_balanced();
}

// ---- fields of answers ----

#[track_caller]
fn assert_fields(head: &Head, content_type: &str) {
    let text = head.text();
    let date = head.value("date").expect(&text);
    let at = httpdate::parse_http_date(date).expect(date);
    assert_eq!(httpdate::fmt_http_date(at), date);
    let now = SystemTime::now();
    let age = now.duration_since(at).unwrap_or_default();
    assert!(age < Duration::from_secs(20) && at <= now, "{text}");
    assert_eq!(head.value("content-type"), Some(content_type), "{text}");
    assert_eq!(head.value("content-encoding"), None, "{text}");
    assert_eq!(head.value("location"), None, "{text}");
}

#[test]
fn every_answer_has_a_date_and_its_type_and_is_never_compressed() {
    let backend = Backend::with(|callback| {
        let status = callback.url().trim_start_matches('/').parse();
        callback.answer(status.unwrap_or(200), "");
    });
    let gateway = Gateway::of(&backend);
    let with = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, br\r\n{fields}\r\n")
    };
    let sends = "POST /internal/send";
    let table = [
        (with("GET /healthz", ""), 200),
        (with("GET /readyz", ""), 200),
        (with(sends, "Content-Length: 0\r\n"), 400),
        (send(UNKNOWN, "x"), 404),
        (with("POST /x", ""), 404),
        (with("PUT /x", ""), 405),
        (with(sends, "Content-Encoding: gzip\r\n"), 415),
        (with(sends, "Content-Length: 99999999\r\n"), 413),
        (with("GET /healthz", "Transfer-Encoding: x\r\n"), 501),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("GET /\r\n\r\n".to_owned(), 400),
        (with("GET /302", ""), 302),
        (with("GET /401", ""), 401),
        (with("GET /500", ""), 500),
        (with("GET /304", ""), 502),
    ];
    for (request, status) in table {
        let mut client = gateway.connect();
        client.send(&request);
        let response = client.read_response();
        assert_eq!(response.status(), status, "{request}");
        assert_fields(&response.head, "application/json");
        assert!(serde_json::from_slice::<serde_json::Value>(&response.body).is_ok());
    }
    let mut client = gateway.connect();
    client.send(with("GET /stream", ""));
    assert_fields(&client.read_head(), "text/event-stream");
    let token = backend.next_connect_of("/stream").token();
    let taken = post_send(&gateway, &json!({"token": token}));
    assert_ok(&taken, OK);
    assert_fields(&taken.head, "application/json");
    client.reset();
    let mut client = gateway.connect();
    client.send(with("HEAD /healthz", "") + &with("HEAD /readyz", "") + &get("/healthz"));
    for length in [OK.len(), READY.len()] {
        let head = client.read_head();
        assert_fields(&head, "application/json");
        assert_eq!(head.value("content-length"), Some(&*length.to_string()));
    }
    assert_ok(&client.read_response(), OK);
    backend.assert_balanced();
}

// ---- bodies that nobody needs ----

#[test]
fn a_body_without_use_is_never_the_next_request() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let hidden = get("/hidden");
    let length = hidden.len();
    let ways = [
        (format!("Content-Length: {length}\r\n"), hidden.clone()),
        (
            "Transfer-Encoding: chunked\r\n".to_owned(),
            chunked(&hidden),
        ),
    ];
    let lines = [
        ("GET /healthz", 200),
        ("GET /readyz", 200),
        ("PUT /healthz", 405),
        ("POST /nowhere", 404),
        ("DELETE /x", 405),
        ("GET /internal/send", 405),
    ];
    let mut client = gateway.connect();
    for (line, status) in lines {
        for (fields, body) in &ways {
            let request = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}");
            let requests = request.clone() + &get("/readyz");
            for size in [requests.len(), 1] {
                for piece in requests.as_bytes().chunks(size) {
                    client.send(piece);
                }
                assert_eq!(client.read_response().status(), status, "{request}");
                assert_ok(&client.read_response(), READY);
            }
        }
    }
    // A stream's request with a body: rejected once, opened once.
    for (fields, body) in &ways {
        let request = format!("GET /s HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}");
        client.send(request + &get("/readyz"));
        backend.next_connect_of("/s").answer(400, "");
        assert_error(&client.read_response(), 400, "BACKEND_ERROR");
        assert_ok(&client.read_response(), READY);
    }
    client.send(format!(
        "GET /s HTTP/1.1\r\nHost: h\r\n{}\r\n{hidden}{hidden}",
        ways[0].0
    ));
    let callback = backend.next_connect_of("/s");
    callback.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    assert_ok(&send_close(&gateway, &callback.token()), OK);
    client.expect_last_chunk_and_eof();
    backend.next_disconnect().answer(200, "");
    backend.assert_balanced();
    backend.assert_idle();
}

#[test]
fn chunked_sends() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let mut client = gateway.connect();
    for (round, size) in [usize::MAX, 1, 3, 1000].into_iter().enumerate() {
        let data = format!("{round} {}", "long ".repeat(100));
        let body = json!({"token": token, "event": {"data": data}}).to_string();
        let request = format!(
            "POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n{}",
            chunked(&body)
        );
        for piece in request.as_bytes().chunks(size) {
            client.send(piece);
        }
        assert_ok(&client.read_response(), OK);
        assert_eq!(stream.next_event(), format!("data: {data}\n\n"));
    }
}

#[test]
fn forms_of_good_requests() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    // The authority of an absolute target is set aside, whatever the Host says.
    for (target, host) in [
        ("http://other.example:99/healthz?x", "h"),
        ("HTTPS://[::1]:1/healthz", "other"),
        ("/healthz?http://x/y", "[::1]:80"),
        ("/healthz", ""),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nhOST:{host}\r\n\r\n"));
        assert_ok(&client.read_response(), OK);
    }
    // Equal lengths are one; white space around a value is none of it; empty lines before a
    // request are passed over (RFC 9112, section 2.2).
    for fields in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: \t 02 \r\n",
    ] {
        client.send(format!(
            "\r\nPOST /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n{{}}"
        ));
        assert_error(&client.read_response(), 404, "NOT_FOUND");
    }
    client.send("GET http://other/events?a HTTP/1.1\r\nHost: h\r\n\r\n");
    let callback = backend.next_connect_of("http://other/events?a");
    assert_eq!(callback.json["request"]["headers"]["host"], "h");
    callback.answer(403, "");
    assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
}

/// The kernel hands out no byte behind an urgent one in the same read, and announces it once: all is
/// there before the gateway looks. The urgent byte itself is none of the stream (RFC 6093).
#[test]
fn an_urgent_byte_does_not_hide_what_follows_it() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    assert_served(&mut client);
    gateway.signal("STOP");
    client.send("GET /healthz HTTP/1.1\r\nHo");
    let urgent = socket2::SockRef::from(client.stream()).send_out_of_band(b"!");
    assert_eq!(urgent.expect("a write"), 1);
    client.send("st: x\r\n\r\n");
    gateway.signal("CONT");
    assert_ok(&client.read_response(), OK);
}

/// Two connections whose requests arrive byte by byte, in turns, and a third one that is whole.
#[test]
fn slow_requests_do_not_hold_up_each_other() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let requests = [send(&token, "one"), send(&token, "two")];
    let mut clients: [Client; 2] = [gateway.connect(), gateway.connect()];
    for at in 0..requests[0].len() {
        for (client, request) in clients.iter_mut().zip(&requests) {
            client.send(&request.as_bytes()[at..=at]);
        }
        if at % 50 == 0 {
            let command = json!({"token": token, "event": {"data": at.to_string()}});
            assert_ok(&post_send(&gateway, &command), OK);
            assert_eq!(stream.next_event(), format!("data: {at}\n\n"));
        }
    }
    for client in &mut clients {
        assert_ok(&client.read_response(), OK);
    }
    let mut last = [stream.next_event(), stream.next_event()];
    last.sort();
    assert_eq!(last, ["data: one\n\n", "data: two\n\n"]);
}
