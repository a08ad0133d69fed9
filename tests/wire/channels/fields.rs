//! What an event has beside its name and its data: `id`, `retry`, `key`.

use serde_json::{Value, json};

use super::{assert_receivers, next_data, one_in, to_token};
use crate::support::{
    BUFFERED, Backend, Gateway, OK, assert_error, assert_ok, post_send, send_close,
};

#[test]
fn fields_stand_in_their_order() {
    let (backend, gateway, mut client, token) = one_in("/s?c");
    let longest = "~".repeat(200);
    let table = [
        (
            json!({"retry": 5, "data": "a\nb", "id": "7", "key": "k", "name": "n"}),
            "event: n\nid: 7\nretry: 5\ndata: a\ndata: b\n\n".to_owned(),
        ),
        (
            json!({"data": "", "id": longest}),
            format!("id: {longest}\ndata: \n\n"),
        ),
        (
            json!({"data": "x", "id": "!"}),
            "id: !\ndata: x\n\n".to_owned(),
        ),
        (
            json!({"data": "x", "id": "earliest.1"}),
            "id: earliest.1\ndata: x\n\n".to_owned(),
        ),
        (
            json!({"data": "x", "retry": 0}),
            "retry: 0\ndata: x\n\n".to_owned(),
        ),
        (
            json!({"data": "x", "retry": 86_400_000}),
            "retry: 86400000\ndata: x\n\n".to_owned(),
        ),
        // A key is the gateway's alone.
        (
            json!({"data": "x", "key": longest}),
            "data: x\n\n".to_owned(),
        ),
    ];
    for (event, expected) in &table {
        let targets = [
            json!({"token": token}),
            json!({"tokens": [token]}),
            json!({"channel": "c"}),
            json!({"channels": ["c"]}),
            json!({"broadcast": true}),
        ];
        for (at, mut command) in targets.into_iter().enumerate() {
            command["event"] = event.clone();
            let response = post_send(&gateway, &command);
            match at {
                0 => assert_ok(&response, OK),
                _ => assert_receivers(&response, 1),
            }
            assert_eq!(&client.next_event(), expected, "{command}");
        }
    }
    client.reset();
    backend.assert_balanced();
}

/// Values that the fields do not allow, and the codes.
fn wrong() -> Vec<(&'static str, Value, &'static str)> {
    let long = "x".repeat(201);
    let words = [
        json!(""),
        json!(" "),
        json!("a b"),
        json!("\u{7f}"),
        json!("é"),
        json!("a\nb"),
        json!("\0"),
        json!(long),
        json!(7),
        json!(null),
        json!(["x"]),
    ];
    let mut all = Vec::new();
    for word in words {
        all.push(("id", word.clone(), "INVALID_EVENT_ID"));
        all.push(("key", word, "INVALID_EVENT_KEY"));
    }
    all.push(("id", json!("earliest"), "INVALID_EVENT_ID"));
    for retry in [
        json!(86_400_001),
        json!(4_294_967_296_u64 + 5),
        json!(-1),
        json!(1.5),
        json!(1e3),
        json!("1"),
        json!(true),
        json!(null),
    ] {
        all.push(("retry", retry, "INVALID_EVENT_RETRY"));
    }
    all
}

#[test]
fn a_wrong_field_refuses_the_send() {
    let (backend, gateway, mut client, token) = one_in("/s?c");
    for (field, value, code) in wrong() {
        for target in [json!({"token": token}), json!({"channel": "c"})] {
            let mut command = target;
            command["event"] = json!({"data": "never"});
            command["event"][field] = value.clone();
            command["close"] = json!(true);
            assert_error(&post_send(&gateway, &command), 400, code);
        }
    }
    assert_ok(&post_send(&gateway, &to_token(&token, "end")), OK);
    assert_eq!(next_data(&mut client), "end");
    client.reset();
    backend.assert_balanced();
}

/// In a connect answer a wrong field is dropped and logged, and the rest of the event comes.
#[test]
fn a_wrong_field_of_a_connect_answer_is_dropped() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for (field, value, _) in wrong() {
        let mut client = gateway.get("/s");
        let connect = backend.next_connect_of("/s");
        let mut answer = json!({
            "event": {"name": "n", "id": "7", "retry": 5, "key": "k", "data": "x"},
        });
        answer["event"][field] = value;
        connect.answer(200, &answer.to_string());
        assert_eq!(client.read_head().status, 200, "{answer}");
        let expected = match field {
            "id" => "event: n\nretry: 5\ndata: x\n\n",
            "retry" => "event: n\nid: 7\ndata: x\n\n",
            _ => "event: n\nid: 7\nretry: 5\ndata: x\n\n",
        };
        assert_eq!(client.next_event(), expected, "{answer}");
        let problem = format!("'event.{field}'");
        let line = gateway.wait_log_all(&["[ERROR]", &connect.token(), &problem]);
        assert!(line.is_error);
        assert_ok(&send_close(&gateway, &connect.token()), OK);
        client.expect_last_chunk_and_eof();
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}

/// They are on the stream whichever way an event comes there.
#[test]
fn fields_of_the_answer_and_of_the_window() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for version in ["HTTP/1.1\r\nHost: h", "HTTP/1.0"] {
        let mut client = gateway.connect();
        client.send(format!("GET /s {version}\r\n\r\n"));
        let connect = backend.next_connect_of("/s");
        let event = json!({"name": "w", "id": "2", "retry": 2, "data": "x"});
        let command = json!({"token": connect.token(), "event": event});
        assert_ok(&post_send(&gateway, &command), BUFFERED);
        connect.answer(
            200,
            r#"{"event":{"id":"1","key":"k","retry":1,"name":"a","data":"x"}}"#,
        );
        assert_eq!(client.read_head().status, 200);
        for text in [
            "event: a\nid: 1\nretry: 1\ndata: x\n\n",
            "event: w\nid: 2\nretry: 2\ndata: x\n\n",
        ] {
            assert_eq!(client.next_event(), text);
        }
        client.reset();
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}
