//! Who is there (contract, section 14): `GET /internal/streams`, `/internal/streams/<token>` and
//! `/internal/channels`.

mod channels;
mod pages;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{
    BUFFERED, Backend, Builder, Client, Gateway, OK, Response, Scraper, assert_error, assert_ok,
    assert_sent, open_narrow, open_stream, post_send, send_close, send_data,
};

/// Time enough for every callback.
fn unhurried(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "86400")
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .env("DISCONNECT_TIMEOUT_SECONDS", "60")
}

fn ask(gateway: &Gateway, target: &str) -> Response {
    gateway.get(target).read_response()
}

/// An answer that is JSON and good.
#[track_caller]
fn json_of(gateway: &Gateway, target: &str) -> Value {
    let response = ask(gateway, target);
    let text = response.text();
    assert_eq!(response.status(), 200, "{text}");
    let field = response.head.value("content-type");
    assert_eq!(field, Some("application/json"), "{text}");
    serde_json::from_slice(&response.body).expect(&text)
}

/// All streams, of which there are few.
#[track_caller]
fn streams(gateway: &Gateway) -> Vec<Value> {
    let page = json_of(gateway, "/internal/streams");
    assert_eq!(page["next"], Value::Null, "{page}");
    page["streams"].as_array().expect("streams").clone()
}

/// What is told of one.
#[track_caller]
fn stream(gateway: &Gateway, token: &str) -> Value {
    json_of(gateway, &format!("/internal/streams/{token}"))
}

/// Nobody has this token, and the list says the same.
#[track_caller]
fn assert_unlisted(gateway: &Gateway, token: &str) {
    let response = ask(gateway, &format!("/internal/streams/{token}"));
    assert_error(&response, 404, "TOKEN_NOT_FOUND");
    let all = streams(gateway);
    assert!(all.iter().all(|it| it["token"] != token), "{all:?}");
}

fn unix_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time since 1970").as_millis() as u64
}

#[test]
fn a_stream_is_listed_from_its_opening_to_its_end() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).start();
    assert!(streams(&gateway).is_empty());
    let mut client = gateway.get("/events?x=1");
    let callback = backend.next_connect();
    let token = callback.token();
    assert_ok(&send_data(&gateway, &token, "x"), BUFFERED);
    assert_unlisted(&gateway, &token);
    let before = unix_millis();
    callback.answer(200, r#"{"event":{"data":"first"},"channels":["news"]}"#);
    assert_eq!(client.read_head().status, 200);
    for event in ["data: first\n\n", "data: x\n\n"] {
        assert_eq!(client.next_event(), event);
    }
    let after = unix_millis();
    let told = stream(&gateway, &token);
    let since = told["since"].as_u64().expect("a number");
    // Of the second in which it opened there is no more to tell.
    let range = before / 1000..=after / 1000;
    assert!(range.contains(&(since / 1000)), "{since} of {range:?}");
    assert_eq!(since % 1000, 0);
    let expected = json!({
        "token": token, "url": "/events?x=1", "since": since, "channels": ["news"],
        "unsent": 0, "events": 2,
    });
    assert_eq!(told, expected);
    let [listed] = &streams(&gateway)[..] else {
        panic!("one stream");
    };
    let again = listed["since"].as_u64().expect("a number");
    assert!(since.abs_diff(again) <= 200, "{since} and {again}");
    assert_eq!(listed["events"], 2);
    // A query is no part of it.
    stream(&gateway, &format!("{token}?x"));
    json_of(&gateway, &format!("http://h/internal/streams/{token}"));
    assert_ok(&send_close(&gateway, &token), OK);
    assert_unlisted(&gateway, &token);
    client.expect_last_chunk_and_eof();
    backend.next_disconnect().answer(200, "");
    // Whoever leaves is gone by the time that the backend is told.
    let (client, token) = open_stream(&gateway, &backend, "/2");
    stream(&gateway, &token);
    drop(client);
    backend.next_disconnect_of(&token).answer(200, "");
    assert_unlisted(&gateway, &token);
}

#[test]
fn what_is_no_token_is_nobodys() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).start();
    let (_client, token) = open_stream(&gateway, &backend, "/s");
    stream(&gateway, &token);
    let others = [
        String::new(),
        "x".to_owned(),
        token.to_uppercase(),
        token.replace('-', ""),
        format!("{token}/"),
        format!("{token}0"),
        format!("%20{token}"),
        "fa97a875-4339-4e5b-aae0-46ef2a8743aa".to_owned(),
    ];
    for other in others.iter().filter(|other| **other != token) {
        let response = ask(&gateway, &format!("/internal/streams/{other}"));
        assert_error(&response, 404, "TOKEN_NOT_FOUND");
    }
}

/// Whatever a target holds, the list is JSON, and says what the callback said.
#[test]
fn urls_are_told_as_the_callback_tells_them() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).start();
    let targets: [&[u8]; 6] = [
        b"/a?b=c&d",
        b"/\"quoted\"\\\\n",
        b"/Latin-1:\xe9\xff\x80",
        "/UTF-8:\u{e9}\u{1f600}".as_bytes(),
        b"/%22%00%0a",
        b"http://h/absolute?x=',]}",
    ];
    let mut clients = Vec::new();
    let mut expected = Vec::new();
    for target in targets {
        let mut client = gateway.connect();
        client.send([b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat());
        let callback = backend.next_connect();
        callback.answer(200, "");
        assert_eq!(client.read_head().status, 200);
        let latin1: String = target.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(callback.url(), latin1);
        let told = stream(&gateway, &callback.token());
        assert_eq!(told["url"], *latin1);
        expected.push(latin1);
        clients.push(client);
    }
    let mut urls: Vec<String> = streams(&gateway)
        .iter()
        .map(|it| it["url"].as_str().expect("a URL").to_owned())
        .collect();
    urls.sort();
    expected.sort();
    assert_eq!(urls, expected);
}

/// By whichever way they come, those that the client has read.
#[test]
fn events_are_those_that_came_to_the_stream() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).env("HISTORY_BYTES", "100000").start();
    let to = |target: Value| {
        let mut command = target;
        command["event"] = json!({"data": "x"});
        assert_eq!(post_send(&gateway, &command).status(), 200);
    };
    (0..3).for_each(|_| to(json!({"channel": "a"})));
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    let answer = json!({"event": {"data": "x"}, "channels": ["a"], "last_event_id": "earliest"});
    callback.answer(200, &answer.to_string());
    assert_eq!(client.read_head().status, 200);
    let token = callback.token();
    let (mut other, its_token) = open_stream(&gateway, &backend, "/other");
    for target in [
        json!({"channel": "a"}),
        json!({"token": token}),
        json!({"tokens": [token, its_token]}),
        json!({"broadcast": true}),
    ] {
        to(target);
    }
    for (client, token, events) in [
        (&mut client, &token, 1 + 3 + 4),
        (&mut other, &its_token, 2),
    ] {
        let mut read = 0;
        while read < events {
            read += u64::from(client.next_event().contains("data: x\n"));
        }
        assert_eq!(stream(&gateway, token)["events"], events);
    }
}

#[test]
fn bytes_that_a_stream_does_not_take_are_told_of_it_alone() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).env("SEND_BUFFER_BYTES", "4096").start();
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow", 2048);
    let (_other, other) = open_stream(&gateway, &backend, "/other");
    let queued = assert_sent(&send_data(&gateway, &token, &"x".repeat(1_000_000)));
    let unsent = stream(&gateway, &token)["unsent"]
        .as_u64()
        .expect("a number") as usize;
    assert!(queued / 2 < unsent && unsent <= queued, "{unsent} {queued}");
    assert_eq!(stream(&gateway, &other)["unsent"], 0);
    assert_eq!(slow.next_event().len(), 1_000_008);
    assert_eq!(stream(&gateway, &token)["unsent"], 0);
}

/// A stream that ends behind what is still to come to it has no token any more.
#[test]
fn who_is_about_to_end_is_not_listed() {
    let backend = Backend::start();
    let gateway = unhurried(&backend)
        .env("SEND_BUFFER_BYTES", "4096")
        .env("HISTORY_BYTES", "10000000")
        .start();
    let data = "x".repeat(5000);
    for _ in 0..400 {
        let command = json!({"channel": "a", "event": {"data": data}});
        assert_eq!(post_send(&gateway, &command).status(), 200);
    }
    let mut client = Client::with_receive_buffer(gateway.port(), 32 * 1024);
    client.get("/s");
    let callback = backend.next_connect();
    let answer = json!({"channels": ["a"], "last_event_id": "earliest"});
    callback.answer(200, &answer.to_string());
    assert_eq!(client.read_head().status, 200);
    let token = callback.token();
    assert_eq!(stream(&gateway, &token)["channels"], json!(["a"]));
    assert_ok(&send_close(&gateway, &token), OK);
    assert_unlisted(&gateway, &token);
    // It is open, and so it is counted.
    let mut scraper = Scraper::of(&gateway);
    assert_eq!(scraper.last.count("streams"), 1);
    client.read_to_end();
    backend.next_disconnect().answer(200, "");
    assert_eq!(scraper.get("streams"), 0);
}

/// They are for the backend: on the internal listener, with the key, by `GET`.
#[test]
fn lists_are_served_where_sends_are() {
    let backend = Backend::start();
    let port = crate::support::Port::reserve_local();
    let internal = format!("127.0.0.1:{}", port.number());
    let gateway = unhurried(&backend)
        .env("INTERNAL_LISTEN", &internal)
        .env("INTERNAL_KEY", "key")
        .start();
    for path in [
        "/internal/streams",
        "/internal/streams/x",
        "/internal/channels",
    ] {
        let mut inside = Client::connect(port.number());
        inside.get(path);
        assert_error(&inside.read_response(), 401, "UNAUTHORIZED");
        let field = "Authorization: Bearer key\r\n";
        let with_key = |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{field}\r\n");
        inside.send(with_key("GET"));
        let status = if path.ends_with('x') { 404 } else { 200 };
        assert_eq!(inside.read_response().status(), status, "{path}");
        inside.send(with_key("DELETE"));
        let response = inside.read_response();
        assert_error(&response, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(response.head.value("allow"), Some("GET"));
        let mut outside = gateway.connect();
        outside.send(with_key("GET"));
        assert_error(&outside.read_response(), 404, "NOT_FOUND");
    }
}
