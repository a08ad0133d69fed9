//! Contract, section 1: which request goes where, and the bytes of the fixed answers.

mod support;

use serde_json::json;
use support::{
    Backend, Gateway, OK, Response, assert_error, assert_ok, open_stream, post_send, send_close,
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
    client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_ok(&client.read_response(), OK);
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
fn not_ready_while_shutting_down() {
    let backend = Backend::start();
    let mut gateway = Gateway::of(&backend);
    let (mut client, token) = open_stream(&gateway, &backend, "/");
    gateway.signal("TERM");
    client.expect_last_chunk_and_eof();
    // The unanswered disconnect callback holds the shutdown here.
    let disconnect = backend.next_disconnect_of(&token);
    let response = ask(&gateway, "GET", "/readyz");
    assert_eq!(response.status(), 503);
    let json = r#"{"status":"not_ready","configured":true}"#;
    assert_eq!(String::from_utf8_lossy(&response.body), json);
    assert_ok(&ask(&gateway, "GET", "/healthz"), OK);
    disconnect.answer(200, "");
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
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
        ("DELETE", "/internal/other", 405, "GET"),
        ("OPTIONS", "*", 405, "GET"),
        ("get", "/", 405, "GET"),
        ("CONNECT", "h:80", 405, "GET"),
        ("TRACE", "/a", 405, "GET"),
        ("FROBNICATE", "/a?b", 405, "GET"),
        ("POST", "/", 404, ""),
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
        "/internal/other",
        "/internal/send/",
        "/internal",
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
    for target in ["/internal/send?a=b", "http://any/internal/send"] {
        let mut publisher = gateway.connect();
        publisher.send(format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_ok(&publisher.read_response(), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
    }
    client.reset();
    backend.assert_balanced();
}

/// A body that nobody needs is not the next request, whatever it says and however it is framed.
#[test]
fn a_useless_body_is_consumed() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let length = smuggled.len();
    let framings = [
        format!("Content-Length: {length}\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
    ];
    let table = [
        ("GET", "/healthz", 200),
        ("POST", "/a", 404),
        ("DELETE", "/a", 405),
        ("GET", "/internal/send", 405),
        ("PUT", "/readyz", 405),
    ];
    for framing in &framings {
        for (method, target, status) in table {
            let mut client = gateway.connect();
            client.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: h\r\n{framing}GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"
            ));
            assert_eq!(client.read_response().status(), status, "{method} {target}");
            assert_ok(&client.read_response(), READY);
        }
        // A stream's request may have one too; the rejected stream's connection goes on.
        let mut client = gateway.connect();
        client.send(format!(
            "GET /stream HTTP/1.1\r\nHost: h\r\n{framing}GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        backend.next_connect_of("/stream").answer(403, "");
        assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
        assert_ok(&client.read_response(), READY);
    }
    backend.assert_idle();
}

#[test]
fn every_answer_has_a_date_and_none_an_encoding() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (client, token) = open_stream(&gateway, &backend, "/");
    let mut stream = gateway.connect();
    stream.send("GET /s HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, br\r\n\r\n");
    let mut heads = vec![stream.read_head()];
    for (method, target) in [("GET", "/healthz"), ("POST", "/a"), ("PUT", "/a")] {
        heads.push(ask(&gateway, method, target).head);
    }
    for command in [json!({"token": token}), json!({}), json!({"token": "x"})] {
        heads.push(post_send(&gateway, &command).head);
    }
    let mut broken = gateway.connect();
    broken.send("GET /\r\n\r\n");
    heads.push(broken.read_response().head);
    for head in heads {
        head.undated();
        assert_eq!(head.value("content-encoding"), None, "{}", head.text());
    }
    drop((client, stream));
    backend.assert_balanced();
}
