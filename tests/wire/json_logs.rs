//! `LOG_FORMAT=json`: the same lines on the same outputs, each an object (contract, section 14).

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{
    Backend, Gateway, Line, OK, assert_error, assert_ok, assert_refused, open_stream, post_body,
    post_send, program, send_close,
};

fn json_gateway(backend: &Backend) -> Gateway {
    let gateway = Gateway::builder()
        .backend(backend)
        .env("LOG_FORMAT", "json")
        .env("LOG_LEVEL", "debug")
        .env("MAX_HEADERS", "20")
        .spawn();
    gateway.wait_log(r#""message":"start""#);
    gateway
}

/// The object that a line is, without its time. What holds for every line is looked at.
#[track_caller]
fn object(line: &Line) -> Value {
    let text = &line.text;
    assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
    let mut object: Value = serde_json::from_str(text).expect(text);
    let members = object.as_object_mut().expect(text);
    for key in members.keys() {
        // A quote within a value has a backslash before it.
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{text}");
    }
    let time = members.remove("time").expect(text);
    let time = time.as_str().expect(text);
    assert!(
        text.starts_with(&format!("{{\"time\":\"{time}\",\"level\":\"")),
        "{text}"
    );
    let (second, millis) = time.split_at(19);
    let now = SystemTime::now();
    let earliest = shown(now - Duration::from_secs(600));
    assert!(*earliest <= *second && *second <= *shown(now), "{time}");
    let digits = millis.strip_prefix('.').and_then(|m| m.strip_suffix('Z'));
    let is_millis = |m: &str| m.len() == 3 && m.bytes().all(|b| b.is_ascii_digit());
    assert!(digits.is_some_and(is_millis), "{time}");
    let level = members["level"].as_str().expect(text);
    assert!(
        ["error", "warn", "info", "debug"].contains(&level),
        "{text}"
    );
    assert_eq!(line.is_error, matches!(level, "error" | "warn"), "{text}");
    let numbers = [
        "status",
        "length",
        "streams",
        "connections",
        "port",
        "heartbeat",
        "receivers",
        "more",
        "undelivered",
        "unanswered",
        "connectCallbacks",
        "disconnectCallbacks",
    ];
    for (key, value) in members {
        let is_right = if numbers.contains(&key.as_str()) {
            value.is_u64()
        } else {
            value.is_string()
        };
        assert!(is_right, "{key} in {text}");
    }
    object
}

/// A time as it stands in the log, to the second, by the library that makes the dates of answers.
fn shown(time: SystemTime) -> String {
    // Sun, 06 Nov 1994 08:49:37 GMT
    let date = httpdate::fmt_http_date(time);
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(&date[8..11]).expect("a month") / 3 + 1;
    let (year, day, clock) = (&date[12..16], &date[5..7], &date[17..25]);
    format!("{year}-{month:02}-{day}T{clock}")
}

#[track_caller]
fn assert_object(gateway: &Gateway, expected: &Value) {
    gateway.wait_log_where(&expected.to_string(), |line| object(line) == *expected);
}

#[test]
fn every_line_is_an_object_and_tells_what_its_text_tells() {
    let backend = Backend::with(|callback| match callback.url() {
        "/rejected" => callback.answer(403, ""),
        "/odd" if callback.is_connect() => callback.answer(200, "{\"close\":1}"),
        _ => callback.answer(200, r#"{"channels":["news"]}"#),
    });
    let mut gateway = json_gateway(&backend);
    let expect = |expected: Value| assert_object(&gateway, &expected);
    let port = gateway.port();
    expect(
        json!({"level": "info", "message": "start", "port": port, "callbackUrl": "set", "heartbeat": 15}),
    );
    let (mut client, token) = open_stream(&gateway, &backend, "/s?q=%20&a=b");
    let url = "/s?q=%20&a=b";
    expect(json!({"level": "info", "message": "new connection", "token": token, "url": url}));
    expect(
        json!({"level": "info", "message": "connect callback answered", "token": token, "status": 200}),
    );
    expect(
        json!({"level": "info", "message": "connect answer", "token": token, "hasEvent": "false", "hasClose": "false"}),
    );
    expect(
        json!({"level": "info", "message": "stream opened", "token": token, "url": url, "heartbeat": 15}),
    );
    let name = "a \"b\\ token=forged é \u{1f600}\u{202e}\u{85}";
    let event = json!({"token": token, "event": {"name": name, "data": "12345"}});
    assert_ok(&post_send(&gateway, &event), OK);
    expect(
        json!({"level": "debug", "message": "event sent", "token": token, "event": name, "length": 5, "url": url}),
    );
    let event = json!({"channel": "news", "event": {"data": "x"}});
    assert_ok(
        &post_send(&gateway, &event),
        r#"{"status":"ok","receivers":1}"#,
    );
    expect(
        json!({"level": "debug", "message": "event sent", "channel": "news", "receivers": 1, "length": 1}),
    );
    assert_ok(&send_close(&gateway, &token), OK);
    client.next_event_behind_heartbeats();
    client.next_event_behind_heartbeats();
    client.expect_last_chunk_and_eof();
    expect(
        json!({"level": "info", "message": "closed", "token": token, "url": url, "reason": "server_closed"}),
    );
    // A client that leaves, with a URL that is no text: where its bytes are UTF-8 they are told as that,
    // elsewhere as Latin-1.
    let mut client = gateway.connect();
    client.send(b"GET /\xc3\xa9\"\xe9/\xf0\x9f\x98\x80 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.read_head().status, 200);
    drop(client);
    let token = gateway_token(&gateway, "disconnected");
    expect(
        json!({"level": "info", "message": "disconnected", "token": token, "url": "/é\"é/\u{1f600}", "reason": "client_closed"}),
    );
    // What is too long is cut.
    let long = format!("/{}", "x".repeat(1000));
    drop(open_stream(&gateway, &backend, &long));
    let cut = format!("{}...", &long[..256]);
    gateway.wait_log_where("a long URL", |line| object(line)["url"] == cut.as_str());
    // Errors and warnings.
    assert_eq!(gateway.get("/rejected").read_response().status(), 403);
    let token = gateway_token(&gateway, "connect callback rejected");
    expect(
        json!({"level": "error", "message": "connect callback rejected", "token": token, "status": 403}),
    );
    drop(open_stream(&gateway, &backend, "/odd"));
    let token = gateway_token(&gateway, "connect callback answer cannot be used");
    let line = gateway.wait_log("answer cannot be used");
    let error = serde_json::from_str::<Value>(&line).expect("JSON")["error"].clone();
    expect(
        json!({"level": "error", "message": "connect callback answer cannot be used", "token": token, "error": error}),
    );
    assert!(
        error.as_str().is_some_and(|error| error.contains(' ')),
        "{error}"
    );
    assert_error(&post_body(&gateway, b"{}"), 400, "INVALID_TOKEN_MISSING");
    expect(
        json!({"level": "error", "message": "/internal/send refused", "code": "INVALID_TOKEN_MISSING"}),
    );
    let unknown = json!({"token": "t\n{\"level\":\"error\"}"});
    assert_error(&post_send(&gateway, &unknown), 404, "TOKEN_NOT_FOUND");
    expect(
        json!({"level": "info", "message": "/internal/send unknown token", "token": "t\n{\"level\":\"error\"}"}),
    );
    let mut client = gateway.connect();
    client.send(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(21)));
    assert_eq!(client.read_response().status(), 431);
    expect(json!({"level": "warn", "message": "limit reached", "limit": "MAX_HEADERS"}));
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let lines = gateway.lines();
    assert!(lines.len() > 25, "{}", gateway.log());
    let last = lines
        .iter()
        .map(object)
        .rfind(|object| object["message"] == "exit");
    assert_eq!(
        last,
        Some(json!({"level": "info", "message": "exit", "undelivered": 0, "unanswered": 0}))
    );
}

/// The token of the last line with this message, once there is one.
#[track_caller]
fn gateway_token(gateway: &Gateway, message: &str) -> Value {
    let line = gateway.wait_log_where(message, |line| object(line)["message"] == message);
    object(&line)["token"].clone()
}

/// Sentences about settings are a message, though they hold what looks like facts.
#[test]
fn a_sentence_is_a_message() {
    let gateway = Gateway::builder()
        .env("LOG_FORMAT", "JSON")
        .env("STALL_TIMEOUT_SECONDS", "60")
        .spawn();
    let line = gateway.wait_log_where("a note", |line| {
        line.text.contains("STALL_TIMEOUT_SECONDS=60 ")
    });
    let object = object(&line);
    assert_eq!(
        object.as_object().map(serde_json::Map::len),
        Some(2),
        "{object}"
    );
    let message = object["message"].as_str().expect("a message");
    assert!(
        message.starts_with("STALL_TIMEOUT_SECONDS=60 is more than PEER_TIMEOUT_SECONDS=30,"),
        "{message}"
    );
}

/// What is said before there is a log is said to whoever starts the program.
#[test]
fn a_start_that_fails_is_told_in_plain_text() {
    let json = ("LOG_FORMAT", "json");
    let output = program(&[json, ("PORT", "0")], &[])
        .output()
        .expect("a program");
    assert_refused(&output, 2, &["PORT"]);
    let other = Gateway::builder().start();
    let port = other.port().to_string();
    let output = program(&[json, ("PORT", &port)], &[])
        .output()
        .expect("a program");
    assert_refused(&output, 1, &["PORT", "already in use"]);
}

#[test]
fn only_text_and_json_are_formats() {
    let output = program(&[("LOG_FORMAT", "xml")], &[])
        .output()
        .expect("a program");
    assert_refused(&output, 2, &["LOG_FORMAT", "xml", "text or json"]);
}
