//! Sends, by their target and what they were answered.

use serde_json::{Value, json};

use super::{LITTLE, OPENED, TOLD, and, event_to, narrow};
use crate::support::{
    Backend, Gateway, Scraper, assert_error, open_narrow, open_stream, post_body, post_send,
    send_data, send_request,
};

const DELIVERED: (&str, u64) = ("events_delivered_total", 1);

/// Every answer of the contract's sections 4, 11 and 12 that needs no more than one stream: the
/// command, the answer's status, its target and how it counts.
fn commands(token: &str) -> Vec<(Value, u16, &'static str, &'static str)> {
    let names: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let event = |fields: Value| json!({"channel": "a", "event": fields});
    vec![
        (json!({"token": token}), 200, "token", "ok"),
        (json!({"tokens": [token]}), 200, "tokens", "ok"),
        (json!({"tokens": []}), 200, "tokens", "ok"),
        (json!({"tokens": ["nobody"]}), 200, "tokens", "ok"),
        (json!({"channel": "a"}), 200, "channels", "ok"),
        (json!({"channels": ["a", "b"]}), 200, "channels", "ok"),
        (json!({"broadcast": true}), 200, "broadcast", "ok"),
        (json!({"token": "nobody"}), 404, "token", "TOKEN_NOT_FOUND"),
        (
            json!({"token": token, "subscribe": names}),
            400,
            "none",
            "INVALID_CHANNEL",
        ),
        (json!({"channel": "a b"}), 400, "none", "INVALID_CHANNEL"),
        (json!([]), 400, "none", "INVALID_JSON"),
        (
            json!({"token": token, "channel": "a"}),
            400,
            "none",
            "INVALID_TARGET",
        ),
        (json!({"channels": names}), 400, "none", "INVALID_TARGET"),
        (json!({}), 400, "none", "INVALID_TOKEN_MISSING"),
        (
            json!({"token": token, "event": 1}),
            400,
            "none",
            "INVALID_EVENT_TYPE",
        ),
        (event(json!({})), 400, "none", "INVALID_EVENT_DATA_MISSING"),
        (
            event(json!({"data": "", "name": 1})),
            400,
            "none",
            "INVALID_EVENT_NAME_TYPE",
        ),
        (
            event(json!({"data": "", "name": "\n"})),
            400,
            "none",
            "INVALID_EVENT_NAME",
        ),
        (
            json!({"token": token, "close": 1}),
            400,
            "none",
            "INVALID_CLOSE_TYPE",
        ),
        (
            event(json!({"data": "", "id": ""})),
            400,
            "none",
            "INVALID_EVENT_ID",
        ),
        (
            event(json!({"data": "", "retry": -1})),
            400,
            "none",
            "INVALID_EVENT_RETRY",
        ),
        (
            event(json!({"data": "", "key": ""})),
            400,
            "none",
            "INVALID_EVENT_KEY",
        ),
        (
            json!({"broadcast": true, "event": {"data": "", "retain": true}}),
            400,
            "none",
            "INVALID_EVENT_RETAIN",
        ),
        (
            event(json!({"data": "x".repeat(1000), "retain": true})),
            503,
            "channels",
            "RETAINED_FULL",
        ),
    ]
}

#[test]
fn a_send_counts_once_under_its_target_and_its_answer() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_RETAINED_BYTES", "1000").start();
    let mut scraper = Scraper::of(&gateway);
    let (_client, token) = open_stream(&gateway, &backend, "/s");
    scraper.expect(&OPENED);
    for (command, status, target, answer) in commands(&token) {
        let response = post_send(&gateway, &command);
        if answer == "ok" {
            assert_eq!(response.status(), status, "{command}: {}", response.text());
        } else {
            assert_error(&response, status, answer);
        }
        let series = format!("sends_total target={target} answer={answer}");
        let mut grown = vec![(&*series, 1)];
        if answer == "RETAINED_FULL" {
            grown.push(("limits_hit_total limit=MAX_RETAINED_BYTES", 1));
        }
        scraper.expect(&grown);
    }
    // Both, neither of which is a command's.
    post_body(&gateway, b"\xff");
    scraper.expect(&[("sends_total target=none answer=INVALID_JSON", 1)]);
    // No more channels than it may have, those that it is in included.
    let names: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    let join = json!({"token": token, "subscribe": names});
    assert_eq!(post_send(&gateway, &join).status(), 200);
    scraper.expect(&[("sends_total target=token answer=ok", 1)]);
    let join = json!({"token": token, "subscribe": ["one more"]});
    assert_error(&post_send(&gateway, &join), 400, "INVALID_CHANNEL");
    scraper.expect(&[("sends_total target=none answer=INVALID_CHANNEL", 1)]);
    let join = json!({"token": token, "subscribe": ["one-more"]});
    assert_error(&post_send(&gateway, &join), 400, "INVALID_CHANNEL");
    scraper.expect(&[("sends_total target=token answer=INVALID_CHANNEL", 1)]);
}

/// What waits for the backend's word, and what finds no room there.
#[test]
fn a_send_during_the_callback_counts_as_buffered() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "1024").start();
    let mut scraper = Scraper::of(&gateway);
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    let token = callback.token();
    let data = "x".repeat(2000);
    assert_eq!(send_data(&gateway, &token, &data).status(), 200);
    let buffered = ("sends_total target=token answer=buffered", 1);
    scraper.expect(&[buffered]);
    assert_eq!(post_send(&gateway, &json!({"token": token})).status(), 200);
    scraper.expect(&[buffered]);
    assert_error(&send_data(&gateway, &token, "x"), 503, "BUFFER_FULL");
    scraper.expect(&[
        ("sends_total target=token answer=BUFFER_FULL", 1),
        ("limits_hit_total limit=MAX_UNSENT_BYTES", 1),
    ]);
    // To many: the send is good, and the client that cannot get it is turned back.
    let channels = json!({"token": token, "subscribe": ["a"]});
    assert_eq!(post_send(&gateway, &channels).status(), 200);
    scraper.expect(&[buffered]);
    assert_eq!(
        event_to(&gateway, &json!({"channel": "a"}), "x").status(),
        200
    );
    assert_error(&client.read_response(), 503, "OVERLOADED");
    scraper.expect(&[
        ("sends_total target=channels answer=ok", 1),
        ("limits_hit_total limit=MAX_UNSENT_BYTES", 1),
        ("refusals_total code=OVERLOADED", 1),
    ]);
    callback.answer(200, "");
    backend.next_disconnect().answer(200, "");
    scraper.expect(&[OPENED[0], TOLD]);
}

/// By a publisher that pipelines, and by one that leaves before its answer.
#[test]
fn sends_count_however_they_come() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    scraper.expect(&OPENED);
    let event = send_request(&json!({"token": token, "event": {"data": "x"}}).to_string());
    let rounds = 100;
    let mut publisher = gateway.connect();
    let other = send_request("{}");
    publisher.send((event.clone() + &other).repeat(rounds));
    for _ in 0..rounds {
        assert_eq!(publisher.read_response().status(), 200);
        assert_error(&publisher.read_response(), 400, "INVALID_TOKEN_MISSING");
        assert_eq!(client.next_event(), "data: x\n\n");
    }
    scraper.expect(&[
        ("sends_total target=token answer=ok", rounds as u64),
        (
            "sends_total target=none answer=INVALID_TOKEN_MISSING",
            rounds as u64,
        ),
        ("events_delivered_total", rounds as u64),
    ]);
    let mut publisher = gateway.connect();
    publisher.send(&event);
    publisher.reset();
    assert_eq!(client.next_event(), "data: x\n\n");
    scraper.expect(&[("sends_total target=token answer=ok", 1), DELIVERED]);
    // One that is never whole, and one in an encoding that nobody reads, are none.
    let mut publisher = gateway.connect();
    publisher.send(&event[..event.len() - 1]);
    publisher.shutdown_write();
    publisher.expect_eof();
    let encoded = event.replacen("Host: h", "Host: h\r\nContent-Encoding: gzip", 1);
    publisher = gateway.connect();
    publisher.send(encoded);
    assert_error(&publisher.read_response(), 415, "UNSUPPORTED_MEDIA_TYPE");
    scraper.expect(&[("refusals_total code=UNSUPPORTED_MEDIA_TYPE", 1)]);
}

/// An event that is too much for its stream ends that: one send, one end.
#[test]
fn a_send_whose_write_fails_counts_as_that() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "1024").start();
    let mut scraper = Scraper::of(&gateway);
    let (_slow, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
    scraper.expect(&OPENED);
    // With keys, so that each is a piece of its own.
    let event = |number: usize| {
        let data = "x".repeat(100_000);
        json!({"token": token, "event": {"data": data, "key": format!("k{number}")}})
    };
    assert_eq!(post_send(&gateway, &event(0)).status(), 200);
    let ok = ("sends_total target=token answer=ok", 1);
    scraper.expect(&[ok]);
    assert_error(&post_send(&gateway, &event(1)), 500, "WRITE_FAILED");
    backend.next_disconnect().answer(200, "");
    let failed = [
        ("sends_total target=token answer=WRITE_FAILED", 1),
        ("streams_dropped_total limit=MAX_UNSENT_BYTES", 1),
        ("limits_hit_total limit=MAX_UNSENT_BYTES", 1),
        ("streams_ended_total reason=error", 1),
    ];
    scraper.expect(&and(&failed, &[TOLD]));
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    scraper.expect(&[("sends_total target=token answer=TOKEN_NOT_FOUND", 1)]);
}
