//! Contract, section 13: the keys that open `/internal/`.

use serde_json::json;

use crate::support::{
    Backend, Builder, Client, Gateway, OK, Port, Response, assert_error, assert_ok, assert_served,
    open_stream,
};

const KEY: &str = "correct-horse";

fn locked(backend: &Backend) -> Builder {
    let builder = Gateway::builder().backend(backend);
    builder.env("INTERNAL_KEY", &format!("battery-staple,{KEY}"))
}

/// A request with a body, and this key if there is one.
fn request(method: &str, path: &str, key: Option<&str>, body: &str) -> String {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n"));
    let (key, length) = (key.unwrap_or_default(), body.len());
    format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{key}Content-Length: {length}\r\n\r\n{body}")
}

#[track_caller]
fn ask(gateway: &Gateway, request: &str) -> (Response, Client) {
    let mut client = gateway.connect();
    client.send(request);
    (client.read_response(), client)
}

/// A figure of the metrics, which ask for the key as well.
#[track_caller]
fn figure(gateway: &Gateway, name: &str) -> u64 {
    let (response, _) = ask(gateway, &request("GET", "/internal/metrics", Some(KEY), ""));
    assert_eq!(response.status(), 200, "{}", response.text());
    let text = response.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect(name).trim().parse().expect("a number")
}

#[test]
fn a_send_bears_a_key() {
    let backend = Backend::accepting();
    let gateway = locked(&backend).start();
    let (mut client, token) = open_stream(&gateway, &backend, "/events");
    let body = json!({"token": token, "event": {"data": "x"}}).to_string();
    for key in [Some(KEY), Some("battery-staple")] {
        let send = request("POST", "/internal/send", key, &body);
        let (response, mut publisher) = ask(&gateway, &send);
        assert_ok(&response, OK);
        assert_eq!(client.next_event_behind_heartbeats(), "data: x\n\n");
        assert_served(&mut publisher);
    }
    for key in [
        None,
        Some("correct-hors"),
        Some("battery-staple,correct-horse"),
    ] {
        let send = request("POST", "/internal/send", key, &body);
        let (response, mut publisher) = ask(&gateway, &send);
        assert_error(&response, 401, "UNAUTHORIZED");
        assert_eq!(response.head.value("www-authenticate"), Some("Bearer"));
        assert_eq!(response.head.value("connection"), Some("close"));
        publisher.expect_eof();
    }
    // Nothing of those came through.
    let last = json!({"token": token, "event": {"data": "y"}, "close": true}).to_string();
    let send = request("POST", "/internal/send", Some(KEY), &last);
    assert_ok(&ask(&gateway, &send).0, OK);
    assert_eq!(client.next_event_behind_heartbeats(), "data: y\n\n");
    client.expect_last_chunk_and_eof();
    assert_eq!(figure(&gateway, "ssegateway_keys_rejected_total "), 3);
}

/// Whatever there is, or is not, and whichever listener it is asked of.
#[test]
fn everything_below_internal_is_closed_and_nothing_else() {
    let backend = Backend::accepting();
    let port = Port::reserve_local();
    let internal = format!("127.0.0.1:{}", port.number());
    let gateway = locked(&backend).env("INTERNAL_LISTEN", &internal).start();
    let paths = [
        "send",
        "metrics",
        "streams",
        "streams/x",
        "channels",
        "",
        "nothing",
    ];
    for listener in [gateway.port(), port.number()] {
        let mut client = Client::connect(listener);
        for path in paths {
            for method in ["GET", "PUT", "OPTIONS"] {
                client.send(request(method, &format!("/internal/{path}"), None, ""));
                let response = client.read_response();
                assert_error(&response, 401, "UNAUTHORIZED");
                assert_eq!(response.head.value("allow"), None);
            }
        }
        assert_served(&mut client);
        client.get("/readyz");
        assert_eq!(client.read_response().status(), 200);
        client.send(request("GET", "/internal/nothing", Some(KEY), ""));
        assert_error(&client.read_response(), 404, "NOT_FOUND");
    }
    open_stream(&gateway, &backend, "/events");
}

/// The answer comes before the body, and no reset destroys it when that is sent all the same.
#[test]
fn the_answer_does_not_wait_for_a_body() {
    let backend = Backend::accepting();
    let gateway = locked(&backend).start();
    let body = "x".repeat(900_000);
    let whole = request("POST", "/internal/send", Some("wrong"), &body);
    let head = &whole[..whole.len() - body.len()];
    for sent in [head, &whole] {
        let mut client = gateway.connect();
        client.send(sent);
        assert_error(&client.read_response(), 401, "UNAUTHORIZED");
        client.expect_eof();
    }
}

#[test]
fn refusals_are_logged_and_no_key_is() {
    let backend = Backend::accepting();
    let gateway = locked(&backend).env("LOG_LEVEL", "debug").start();
    ask(
        &gateway,
        &request("POST", "/internal/send?hidden", Some("wrong-key"), "{}"),
    );
    let line = gateway.wait_log_all(&["UNAUTHORIZED"]);
    assert!(line.is_error);
    let expected = "[ERROR] request refused code=UNAUTHORIZED path=/internal/send";
    assert_eq!(line.text, expected);
    ask(
        &gateway,
        &request("POST", "/internal/send", Some(KEY), "{}"),
    );
    gateway.wait_log("INVALID_TOKEN_MISSING");
    let log = gateway.log();
    for secret in [KEY, "battery-staple", "wrong-key", "hidden"] {
        assert!(!log.contains(secret), "{log}");
    }
}
