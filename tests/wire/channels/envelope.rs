//! `EVENT_FORMAT=envelope` (contract, section 16): events with a name go out unnamed, the name
//! within the data.

use serde_json::{Value, json};

use super::{assert_receivers, open_old};
use crate::support::{BUFFERED, Backend, Gateway, OK, assert_ok, post_send};

/// Events, and what stands on the stream.
fn table() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"name": "n", "data": r#"{"a": [1, null]}"#}),
            r#"data: {"type":"n","payload":{"a": [1, null]}}"#,
        ),
        (
            json!({"name": "n", "data": "1"}),
            r#"data: {"type":"n","payload":1}"#,
        ),
        (
            json!({"name": "n", "data": r#""text""#}),
            r#"data: {"type":"n","payload":"text"}"#,
        ),
        // What is no JSON is a string.
        (
            json!({"name": "n", "data": "a \"b\" é"}),
            r#"data: {"type":"n","payload":"a \"b\" é"}"#,
        ),
        (
            json!({"name": "n", "data": ""}),
            r#"data: {"type":"n","payload":""}"#,
        ),
        (
            json!({"name": "n", "data": "{} {}"}),
            r#"data: {"type":"n","payload":"{} {}"}"#,
        ),
        (
            json!({"name": "a\"b\\c", "data": "null"}),
            r#"data: {"type":"a\"b\\c","payload":null}"#,
        ),
        // JSON of several lines stands in several lines, which a reader joins again.
        (
            json!({"name": "n", "data": "{\n}"}),
            "data: {\"type\":\"n\",\"payload\":{\ndata: }}",
        ),
        (
            json!({"name": "n", "data": "a\nb"}),
            r#"data: {"type":"n","payload":"a\nb"}"#,
        ),
        (
            json!({"name": "n", "data": "1", "id": "7", "retry": 5, "key": "k"}),
            "id: 7\nretry: 5\ndata: {\"type\":\"n\",\"payload\":1}",
        ),
        // As ever.
        (json!({"name": "", "data": "{}"}), "data: {}"),
        (json!({"data": "x"}), "data: x"),
        (
            json!({"name": "connection_close", "data": "{}"}),
            "event: connection_close\ndata: {}",
        ),
    ]
}

#[test]
fn events_with_a_name_go_out_in_an_envelope() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("EVENT_FORMAT", "envelope")
        .env("HEARTBEAT_INTERVAL_SECONDS", "86400")
        .start();
    for (event, text) in table() {
        let expected = format!("{text}\n\n");
        let mut client = gateway.get("/s");
        let connect = backend.next_connect_of("/s");
        let token = connect.token();
        let command = json!({"token": token, "subscribe": ["c"]});
        assert_ok(&post_send(&gateway, &command), BUFFERED);
        // A key would leave the last one only.
        let mut unkeyed = event.clone();
        unkeyed.as_object_mut().expect("an object").remove("key");
        let by_token = json!({"token": token, "event": unkeyed});
        let by_channel = json!({"channel": "c", "event": unkeyed});
        assert_ok(&post_send(&gateway, &by_token), BUFFERED);
        assert_receivers(&post_send(&gateway, &by_channel), 1);
        connect.answer(200, &json!({"event": event}).to_string());
        assert_eq!(client.read_head().status, 200);
        for _ in 0..3 {
            assert_eq!(client.next_event(), expected);
        }
        let by_token = json!({"token": token, "event": event});
        assert_ok(&post_send(&gateway, &by_token), OK);
        assert_eq!(client.next_event(), expected);
        for target in [
            json!({"channel": "c"}),
            json!({"tokens": [token]}),
            json!({"broadcast": true}),
        ] {
            let mut command = target;
            command["event"] = event.clone();
            assert_receivers(&post_send(&gateway, &command), 1);
            assert_eq!(client.next_event(), expected, "{command}");
        }
        client.reset();
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}

/// The gateway's own words are none of the backend's events.
#[test]
fn heartbeats_and_ends_are_as_ever() {
    let backend = super::joining();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("EVENT_FORMAT", "envelope")
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .start();
    let mut client = gateway.get("/s?c");
    assert_eq!(client.read_head().status, 200);
    let (mut old, _) = open_old(&gateway, &backend, "/old?c");
    for client in [&mut client, &mut old] {
        assert_eq!(client.next_event(), ": heartbeat\n\n");
    }
    let command = json!({"channel": "c", "event": {"name": "n", "data": "1"}, "close": true});
    assert_receivers(&post_send(&gateway, &command), 2);
    for client in [&mut client, &mut old] {
        let event = client.next_event_behind_heartbeats();
        assert_eq!(event, "data: {\"type\":\"n\",\"payload\":1}\n\n");
    }
    client.expect_last_chunk_and_eof();
    old.expect_eof();
    backend.assert_balanced();
}
