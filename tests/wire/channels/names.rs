//! Names of channels, and in how many a stream may be.

use serde_json::{Value, json};

use super::{assert_members, assert_receivers, joining, next_data, one_in, to_channel};
use crate::support::{
    BUFFERED, Backend, Gateway, OK, assert_error, assert_ok, open_stream, post_send, send_close,
    send_data,
};

/// Names that are none.
fn bad_names() -> Vec<String> {
    let mut names: Vec<String> = ["", " ", "a b", "a\tb", "a\"b", "a\\b", "\u{7f}", "é", "\0"]
        .map(str::to_owned)
        .into();
    names.push("n".repeat(201));
    names
}

/// Every byte that a name may hold, and a name as long as can be.
fn good_names() -> Vec<String> {
    let all = (0x21..=0x7e).filter(|byte| !b"\"\\".contains(byte));
    vec![all.map(char::from).collect(), "n".repeat(200), "n".into()]
}

/// So many names.
fn names(number: usize) -> Vec<String> {
    (0..number).map(|at| format!("name.{at}")).collect()
}

#[test]
fn names_that_are_good_everywhere() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    connect.answer(200, &json!({"channels": good_names()}).to_string());
    assert_eq!(client.read_head().status, 200);
    for name in good_names() {
        assert_receivers(&post_send(&gateway, &to_channel(&name, "x")), 1);
        assert_eq!(next_data(&mut client), "x");
        let leaves = json!({"token": connect.token(), "unsubscribe": [name]});
        assert_ok(&post_send(&gateway, &leaves), OK);
        assert_members(&gateway, &name, 0);
    }
    client.reset();
    backend.next_disconnect().answer(200, "");
    backend.assert_balanced();
}

/// A stream that would be deaf opens nothing: the client, the log and the backend are told.
#[test]
fn an_answer_whose_channels_cannot_be_joined() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut answers: Vec<Value> = bad_names()
        .into_iter()
        .map(|name| json!(["good", name]))
        .collect();
    answers.extend([
        json!("good"),
        json!({"good": true}),
        json!(true),
        json!(["good", 7]),
        json!(["good", null]),
        json!([["good"]]),
        json!(names(65)),
        json!(names(1001)),
    ]);
    for channels in answers {
        let mut client = gateway.get("/s");
        let connect = backend.next_connect_of("/s");
        let token = connect.token();
        assert_ok(&send_data(&gateway, &token, "never seen"), BUFFERED);
        let answer = json!({"channels": channels, "event": {"data": "never seen"}});
        connect.answer(200, &answer.to_string());
        assert_error(&client.read_response(), 502, "BACKEND_ERROR");
        let line = gateway.wait_log_all(&["[ERROR]", &token, "'channels'"]);
        assert!(line.is_error);
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(disconnect.reason(), "error", "{channels}");
        disconnect.answer(200, "");
        assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
        assert_members(&gateway, "good", 0);
        assert_members(&gateway, "name.0", 0);
        // It was an answer like others: the connection goes on.
        client.get("/healthz");
        assert_ok(&client.read_response(), OK);
    }
    assert_eq!(gateway.count_log("stream opened"), 0);
    backend.assert_balanced();
}

/// So is a client told whose answer comes behind its 504, or that has left: not at all, but the
/// backend is.
#[test]
fn an_answer_that_cannot_be_joined_is_paid_for_once_when_its_client_has_left() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    client.reset();
    gateway.wait_log_all(&["disconnected", &connect.token()]);
    connect.answer(200, r#"{"channels":5}"#);
    let disconnect = backend.next_disconnect();
    assert_eq!(disconnect.reason(), "client_closed");
    disconnect.answer(200, "");
    backend.assert_balanced();
}

#[test]
fn a_stream_is_in_64_channels_at_most() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    let token = connect.token();
    // A repeated name is one name.
    let mut channels = names(64);
    channels.push("name.7".into());
    connect.answer(200, &json!({"channels": channels}).to_string());
    assert_eq!(client.read_head().status, 200);
    let refused = [
        json!({"subscribe": ["one.more"], "event": {"data": "never"}, "close": true}),
        json!({"subscribe": ["one.more", "name.1"], "unsubscribe": ["elsewhere"]}),
        json!({"subscribe": ["one.more", "two.more"], "unsubscribe": ["name.0"]}),
        json!({"subscribe": names(65), "unsubscribe": names(64)}),
    ];
    for mut command in refused {
        command["token"] = json!(token);
        assert_error(&post_send(&gateway, &command), 400, "INVALID_CHANNEL");
        assert_members(&gateway, "one.more", 0);
        assert_members(&gateway, "name.0", 1);
    }
    // What it is in already, and what it leaves at the same time, is no more.
    let taken = [
        json!({"subscribe": ["name.0", "name.63"]}),
        json!({"subscribe": ["one.more"], "unsubscribe": ["name.0"]}),
        json!({"subscribe": names(64), "unsubscribe": ["one.more"]}),
    ];
    for mut command in taken {
        command["token"] = json!(token);
        assert_ok(&post_send(&gateway, &command), OK);
    }
    assert_members(&gateway, "name.0", 1);
    assert_members(&gateway, "one.more", 0);
    assert_ok(&send_data(&gateway, &token, "end"), OK);
    assert_eq!(next_data(&mut client), "end");
    client.reset();
    backend.next_disconnect().answer(200, "");
    backend.assert_balanced();
}

#[test]
fn the_number_of_channels_is_a_setting() {
    let backend = joining();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_CHANNELS", "2")
        .start();
    let mut refused = gateway.get("/s?a,b,c");
    assert_error(&refused.read_response(), 502, "BACKEND_ERROR");
    let (client, token) = open_stream(&gateway, &backend, "/s?a,b");
    let third = json!({"token": token, "subscribe": ["c"]});
    assert_error(&post_send(&gateway, &third), 400, "INVALID_CHANNEL");
    client.reset();
    backend.assert_balanced();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_CHANNELS", "100")
        .start();
    let path = format!("/s?{}", names(100).join(","));
    let (client, token) = open_stream(&gateway, &backend, &path);
    assert_members(&gateway, "name.99", 1);
    let more = json!({"token": token, "subscribe": ["one.more"]});
    assert_error(&post_send(&gateway, &more), 400, "INVALID_CHANNEL");
    client.reset();
    backend.assert_balanced();
}

/// The answer's come on top of those that were joined before it; what is the same counts once.
#[test]
fn channels_of_the_window_and_of_the_answer_count_together() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for (number, is_too_many) in [(4, false), (5, true)] {
        let mut client = gateway.get("/s");
        let connect = backend.next_connect_of("/s");
        let token = connect.token();
        let window: Vec<String> = (0..60).map(|at| format!("window.{at}")).collect();
        let joins = json!({"token": token, "subscribe": window});
        assert_ok(&post_send(&gateway, &joins), BUFFERED);
        // The answer repeats half of them.
        let mut channels = names(number);
        channels.extend_from_slice(&window[..30]);
        connect.answer(200, &json!({"channels": channels}).to_string());
        if is_too_many {
            assert_error(&client.read_response(), 502, "BACKEND_ERROR");
            gateway.wait_log_all(&["[ERROR]", &token, "MAX_CHANNELS"]);
            assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
            assert_members(&gateway, "window.0", 0);
        } else {
            assert_eq!(client.read_head().status, 200);
            assert_members(&gateway, "name.3", 1);
            assert_members(&gateway, "window.59", 1);
            assert_ok(&send_close(&gateway, &token), OK);
            client.expect_last_chunk_and_eof();
            backend.next_disconnect_of(&token).answer(200, "");
        }
    }
    backend.assert_balanced();
}

/// In a send they are 400, and nothing changes.
#[test]
fn bad_names_in_a_send() {
    let (backend, gateway, mut client, token) = one_in("/s?c");
    let mut commands = Vec::new();
    for name in bad_names() {
        commands.extend([
            json!({"token": token, "subscribe": ["new", name]}),
            json!({"token": token, "unsubscribe": ["c", name], "subscribe": ["new"]}),
            json!({"channel": name}),
            json!({"channels": ["c", name]}),
        ]);
    }
    for list in [json!("new"), json!(7), json!({}), json!(["new", 7])] {
        commands.extend([
            json!({"token": token, "subscribe": list, "unsubscribe": ["c"]}),
            json!({"token": token, "unsubscribe": list, "subscribe": ["new"]}),
        ]);
    }
    for mut command in commands {
        command["event"] = json!({"data": "never"});
        command["close"] = json!(true);
        let response = post_send(&gateway, &command);
        assert_error(&response, 400, "INVALID_CHANNEL");
    }
    assert_members(&gateway, "new", 0);
    assert_members(&gateway, "c", 1);
    assert_ok(&send_data(&gateway, &token, "end"), OK);
    assert_eq!(next_data(&mut client), "end");
    client.reset();
    backend.assert_balanced();
}
