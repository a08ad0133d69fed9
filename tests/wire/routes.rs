//! Contract, section 1: which request goes where, and the bytes of the fixed answers.

use serde_json::json;

use crate::support::{
    Backend, Gateway, OK, Response, assert_error, assert_ok, assert_served, open_stream, send_close,
};

/// One request on a connection of its own.
fn ask(gateway: &Gateway, method: &str, target: &str) -> Response {
    let mut client = gateway.connect();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n"
    ));
    let response = match method {
        "HEAD" => Response {
            head: client.read_head(),
            body: Vec::new(),
        },
        _ => client.read_response(),
    };
    // Exactly one answer, and the connection is still good.
    assert_served(&mut client);
    response
}

/// The head that every JSON answer on a kept connection has.
fn json_head(status_line: &str, length: usize, fields: &str) -> String {
    format!(
        "HTTP/1.1 {status_line}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Date: DATE\r\n{fields}\r\n"
    )
}

const READY: &str = r#"{"status":"ready","configured":true}"#;

#[test]
fn health_and_readiness_to_the_byte() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let table = [
        ("GET", "/healthz", OK),
        ("GET", "/healthz?a=/b", OK),
        ("GET", "http://other/healthz", OK),
        ("GET", "HTTP://other:80/healthz?x", OK),
        ("HEAD", "/healthz", OK),
        ("GET", "/readyz", READY),
        ("HEAD", "/readyz?", READY),
    ];
    for (method, target, json) in table {
        let response = ask(&gateway, method, target);
        let expected = json_head("200 OK", json.len(), "");
        assert_eq!(response.head.undated(), expected, "{method} {target}");
        let body = if method == "HEAD" { "" } else { json };
        assert_eq!(String::from_utf8_lossy(&response.body), body, "{target}");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn without_a_callback_url_only_streams_are_refused() {
    let gateway = Gateway::builder().start();
    assert!(gateway.wait_log("start").contains("callbackUrl=unset"));
    assert_ok(&ask(&gateway, "GET", "/healthz"), OK);
    let json = r#"{"status":"not_ready","configured":false}"#;
    for method in ["GET", "HEAD"] {
        let response = ask(&gateway, method, "/readyz");
        let expected = json_head("503 Service Unavailable", json.len(), "");
        assert_eq!(response.head.undated(), expected);
        if method == "GET" {
            assert_eq!(String::from_utf8_lossy(&response.body), json);
        }
    }
    assert_error(&ask(&gateway, "GET", "/a"), 503, "SERVICE_NOT_CONFIGURED");
    let line = gateway.wait_log_all(&["[ERROR]", "CALLBACK_URL"]);
    assert!(line.is_error);
    let token = "00000000-0000-4000-8000-000000000000";
    assert_error(&send_close(&gateway, token), 404, "TOKEN_NOT_FOUND");
}

#[test]
fn what_is_no_route_is_refused() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let table = [
        ("GET", "/internal/send", 405, "POST"),
        ("GET", "/internal/send?token=a", 405, "POST"),
        ("GET", "http://h/internal/send", 405, "POST"),
        ("HEAD", "/internal/send", 405, "POST"),
        ("PUT", "/internal/send", 405, "POST"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("DELETE", "/healthz", 405, "GET, HEAD"),
        ("POST", "/readyz", 405, "GET, HEAD"),
        ("OPTIONS", "/readyz", 405, "GET, HEAD"),
        ("HEAD", "/", 405, "GET"),
        ("PUT", "/a", 405, "GET"),
        ("DELETE", "/internal", 405, "GET"),
        ("DELETE", "/internalx", 405, "GET"),
        ("OPTIONS", "*", 405, "GET"),
        ("get", "/", 405, "GET"),
        ("CONNECT", "h:80", 405, "GET"),
        ("TRACE", "/a", 405, "GET"),
        ("FROBNICATE", "/a?b", 405, "GET"),
        ("POST", "/", 404, ""),
        // Reserved, whatever the method.
        ("GET", "/internal/", 404, ""),
        ("POST", "/internal/metrics", 405, "GET"),
        ("HEAD", "/internal/streams/x", 405, "GET"),
        ("GET", "/internal/metrics/", 404, ""),
        ("GET", "/internal/send/", 404, ""),
        ("GET", "/internal/%73end", 404, ""),
        ("GET", "http://h/internal/other", 404, ""),
        ("HEAD", "/internal/other", 404, ""),
        ("DELETE", "/internal/send/../send", 404, ""),
        ("OPTIONS", "/internal/other", 404, ""),
        ("POST", "/internal/send/", 404, ""),
        ("POST", "/internal/Send", 404, ""),
        ("POST", "/internal//send", 404, ""),
        ("POST", "/%69nternal/send", 404, ""),
        ("POST", "/x?/internal/send", 404, ""),
        ("POST", "http://h/internal", 404, ""),
    ];
    for (method, target, status, allow) in table {
        let response = ask(&gateway, method, target);
        let (status_line, allow_field, code) = match status {
            405 => (
                "405 Method Not Allowed",
                format!("Allow: {allow}\r\n"),
                "METHOD_NOT_ALLOWED",
            ),
            _ => ("404 Not Found", String::new(), "NOT_FOUND"),
        };
        let stated = response.head.value("content-length").expect("a length");
        let stated: usize = stated.parse().expect("a number");
        let expected = json_head(status_line, stated, &allow_field);
        assert_eq!(response.head.undated(), expected, "{method} {target}");
        if method != "HEAD" {
            assert_error(&response, status, code);
        }
    }
    assert_eq!(backend.connections(), 0);
}

/// The path is compared octet by octet: what only looks like a route of the gateway is a stream's.
#[test]
fn every_other_get_is_a_stream() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    for target in [
        "/",
        "/?",
        "/a/b?c=d",
        "/internal",
        "/internal?/send",
        "/internalx",
        "/Internal/send",
        "//internal/send",
        "/%69nternal/send",
        "/Healthz",
        "/healthz/",
        "/healthz;a",
        "/%68ealthz",
        "//healthz",
        "/x/../healthz",
        "/?/internal/send",
        "http://h",
        "http://h/",
        "http://h/a?b",
        "http://h?/healthz",
        "https://h/a",
    ] {
        let (client, token) = open_stream(&gateway, &backend, target);
        assert_ok(&send_close(&gateway, &token), OK);
        drop(client);
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(disconnect.url(), target);
    }
    backend.assert_balanced();
}

#[test]
fn the_route_of_a_send_ends_at_the_question_mark() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut client, token) = open_stream(&gateway, &backend, "/");
    let body = json!({"token": token, "event": {"data": "x"}}).to_string();
    for target in [
        &b"/internal/send?a=b"[..],
        b"/internal/send?\xe9",
        b"http://any/internal/send",
        b"HTTPS://any/internal/send?\xe9",
    ] {
        let mut publisher = gateway.connect();
        let length = body.len();
        let fields = format!("Host: h\r\nContent-Length: {length}\r\n\r\n{body}");
        publisher.send([b"POST ", target, b" HTTP/1.1\r\n", fields.as_bytes()].concat());
        assert_ok(&publisher.read_response(), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
    }
    client.reset();
    backend.assert_balanced();
}
