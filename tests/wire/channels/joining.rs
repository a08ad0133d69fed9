//! Who is in which channel: by the connect answer, by a send, during the connect callback.

use serde_json::json;

use super::{
    assert_members, assert_receivers, joining, next_data, one_in, pipeline, to_channel, to_token,
};
use crate::support::{
    BUFFERED, Backend, Gateway, OK, assert_error, assert_ok, open_stream, post_send, send_close,
};

#[test]
fn the_connect_answer_names_channels() {
    let (backend, gateway, mut client, _) = one_in("/s?user.42,news");
    let (mut other, _) = open_stream(&gateway, &backend, "/other?news");
    for (channel, members) in [("user.42", 1), ("news", 2), ("olds", 0)] {
        let response = post_send(&gateway, &to_channel(channel, channel));
        assert_receivers(&response, members);
    }
    assert_eq!(next_data(&mut client), "user.42");
    assert_eq!(next_data(&mut client), "news");
    assert_eq!(next_data(&mut other), "news");
    client.reset();
    other.reset();
    backend.assert_balanced();
}

/// With its event and its close, which come in that order: head, event, end.
#[test]
fn an_answer_may_name_channels_beside_everything_else() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let table = [
        (r#"{"channels":null}"#, false, false),
        (r#"{"channels":[]}"#, false, false),
        (
            r#"{"channels":["c"],"event":{"data":"first"}}"#,
            true,
            false,
        ),
        (
            r#"{"close":true,"channels":["c"],"event":{"data":"first"}}"#,
            true,
            true,
        ),
    ];
    for (answer, has_event, is_closed) in table {
        let mut client = gateway.get("/s");
        let connect = backend.next_connect_of("/s");
        connect.answer(200, answer);
        assert_eq!(client.read_head().status, 200, "{answer}");
        if has_event {
            assert_eq!(next_data(&mut client), "first", "{answer}");
        }
        if is_closed {
            client.expect_last_chunk_and_eof();
            assert_members(&gateway, "c", 0);
        } else {
            assert_members(&gateway, "c", usize::from(has_event));
            assert_ok(&send_close(&gateway, &connect.token()), OK);
            client.expect_last_chunk_and_eof();
        }
        backend.next_disconnect().answer(200, "");
    }
    assert_eq!(gateway.count_log("[ERROR]"), 0);
    backend.assert_balanced();
}

#[test]
fn a_send_leaves_and_then_joins() {
    let (backend, gateway, mut client, token) = one_in("/s?a,b");
    let table = [
        (json!({"unsubscribe": ["a"]}), [0, 1, 0]),
        (json!({"subscribe": ["c", "a"]}), [1, 1, 1]),
        // Joining twice is joining once; a list that names it twice is the same.
        (json!({"subscribe": ["c", "c", "a"]}), [1, 1, 1]),
        // Leaving what it is not in is no error.
        (
            json!({"unsubscribe": ["x", "c", "c"], "subscribe": []}),
            [1, 1, 0],
        ),
        // First it leaves, then it joins, whichever field stands first.
        (json!({"subscribe": ["a"], "unsubscribe": ["a"]}), [1, 1, 0]),
        (
            json!({"unsubscribe": ["a", "b"], "subscribe": ["b"]}),
            [0, 1, 0],
        ),
        // No list is no change.
        (json!({"unsubscribe": null, "subscribe": null}), [0, 1, 0]),
        (json!({"unsubscribe": [], "subscribe": []}), [0, 1, 0]),
        (json!({"unsubscribe": ["b"]}), [0, 0, 0]),
    ];
    for (mut command, members) in table {
        command["token"] = json!(token);
        assert_ok(&post_send(&gateway, &command), OK);
        for (channel, members) in ["a", "b", "c"].into_iter().zip(members) {
            let response = post_send(&gateway, &to_channel(channel, channel));
            assert_receivers(&response, members);
            if members > 0 {
                assert_eq!(next_data(&mut client), channel, "{command}");
            }
        }
    }
    client.reset();
    backend.assert_balanced();
}

#[test]
fn a_send_that_joins_may_have_an_event_and_a_close() {
    let (backend, gateway, mut client, token) = one_in("/s");
    let joins = json!({"token": token, "subscribe": ["c"], "event": {"data": "joined"}});
    assert_ok(&post_send(&gateway, &joins), OK);
    assert_members(&gateway, "c", 1);
    assert_eq!(next_data(&mut client), "joined");
    // It has left before its event, and whoever is closed is in no channel.
    let leaves = json!({
        "token": token, "unsubscribe": ["c"], "subscribe": ["d"],
        "event": {"data": "left"}, "close": true,
    });
    assert_ok(&post_send(&gateway, &leaves), OK);
    assert_members(&gateway, "c", 0);
    assert_members(&gateway, "d", 0);
    assert_eq!(next_data(&mut client), "left");
    client.expect_last_chunk_and_eof();
    assert_error(&post_send(&gateway, &joins), 404, "TOKEN_NOT_FOUND");
    assert_members(&gateway, "c", 0);
    backend.assert_balanced();
}

/// All of it takes effect at once, and what channels bring is buffered among the sends.
#[test]
fn joining_during_the_connect_callback() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    let token = connect.token();
    let joins = json!({"token": token, "subscribe": ["a", "b"]});
    assert_ok(&post_send(&gateway, &joins), BUFFERED);
    assert_receivers(&post_send(&gateway, &to_channel("a", "1")), 1);
    assert_ok(&post_send(&gateway, &to_token(&token, "2")), BUFFERED);
    assert_receivers(&post_send(&gateway, &to_channel("b", "3")), 1);
    let leaves = json!({"token": token, "unsubscribe": ["a"], "event": {"data": "4"}});
    assert_ok(&post_send(&gateway, &leaves), BUFFERED);
    assert_receivers(&post_send(&gateway, &to_channel("a", "never")), 0);
    // Not in it yet.
    assert_receivers(&post_send(&gateway, &to_channel("c", "never")), 0);
    connect.answer(200, r#"{"channels":["c","b"],"event":{"data":"0"}}"#);
    assert_eq!(client.read_head().status, 200);
    for (channel, members) in [("a", 0), ("b", 1), ("c", 1)] {
        let response = post_send(&gateway, &to_channel(channel, channel));
        assert_receivers(&response, members);
    }
    for data in ["0", "1", "2", "3", "4", "b", "c"] {
        assert_eq!(next_data(&mut client), data);
    }
    client.reset();
    backend.next_disconnect_of(&token).answer(200, "");
    backend.assert_balanced();
}

/// A close for a channel ends the stream where it stands among the buffered sends.
#[test]
fn a_close_for_many_is_buffered_during_the_connect_callback() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    let token = connect.token();
    let joins = json!({"token": token, "subscribe": ["a"]});
    assert_ok(&post_send(&gateway, &joins), BUFFERED);
    let close = json!({"channel": "a", "event": {"data": "last"}, "close": true});
    assert_receivers(&post_send(&gateway, &close), 1);
    assert_ok(&post_send(&gateway, &to_token(&token, "never")), BUFFERED);
    connect.answer(200, r#"{"event":{"data":"first"}}"#);
    assert_eq!(client.read_head().status, 200);
    assert_eq!(next_data(&mut client), "first");
    assert_eq!(next_data(&mut client), "last");
    client.expect_last_chunk_and_eof();
    let disconnect = backend.next_disconnect_of(&token);
    assert_eq!(disconnect.reason(), "server_closed");
    disconnect.answer(200, "");
    backend.assert_balanced();
}

/// However a stream ends, or does not begin, it is in no channel afterwards.
#[test]
fn whoever_is_gone_is_in_no_channel() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut rejected = gateway.get("/rejected");
    let left = gateway.get("/left");
    let opened = gateway.get("/opened");
    let connects = ["/rejected", "/left", "/opened"].map(|path| {
        let connect = backend.next_connect_of(path);
        let joins = json!({"token": connect.token(), "subscribe": ["c"]});
        assert_ok(&post_send(&gateway, &joins), BUFFERED);
        connect
    });
    assert_members(&gateway, "c", 3);
    connects[0].answer(403, r#"{"channels":["c"]}"#);
    assert_error(&rejected.read_response(), 403, "BACKEND_FORBIDDEN");
    assert_members(&gateway, "c", 2);
    left.reset();
    gateway.wait_log_all(&["disconnected", "url=/left"]);
    assert_members(&gateway, "c", 1);
    connects[1].answer(200, r#"{"channels":["c"]}"#);
    backend.next_disconnect().answer(200, "");
    assert_members(&gateway, "c", 1);
    connects[2].answer(200, "");
    gateway.wait_log("stream opened");
    opened.reset();
    backend.next_disconnect().answer(200, "");
    assert_members(&gateway, "c", 0);
    backend.assert_balanced();
}

/// An answer that is no usable object opens, as it does without channels.
#[test]
fn a_body_that_is_no_object_opens_a_stream_in_no_channel() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for body in [
        r#"["c"]"#,
        r#"{"channels":["c"]"#,
        r#"{"channels":["c"],"channels":["c"]}"#,
    ] {
        let mut client = gateway.get("/s");
        backend.next_connect_of("/s").answer(200, body);
        assert_eq!(client.read_head().status, 200, "{body}");
        assert_members(&gateway, "c", 0);
        client.reset();
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}

/// What one publisher pipelines meets the members of its moment, not of the delivery's.
#[test]
fn joins_and_leaves_stand_in_the_order_of_the_requests() {
    let backend = joining();
    let gateway = Gateway::of(&backend);
    // Enough others for a fan-out to take several turns.
    let others = crate::support::crowd::open_crowd(&backend, 150, |_| gateway.connect());
    let (mut client, token) = open_stream(&gateway, &backend, "/s?c");
    let tokens: Vec<&String> = others.iter().map(|(_, token)| token).collect();
    for token in &tokens {
        let joins = json!({"token": token, "subscribe": ["c"]});
        assert_ok(&post_send(&gateway, &joins), OK);
    }
    let (leaves, joins) = (
        json!({"token": token, "unsubscribe": ["c"]}),
        json!({"token": token, "subscribe": ["c"]}),
    );
    let commands = [
        to_channel("c", "0"),
        leaves.clone(),
        to_channel("c", "1"),
        joins.clone(),
        to_channel("c", "2"),
        to_channel("c", "3"),
        leaves,
        joins,
        to_channel("c", "4"),
        to_token(&token, "end"),
    ];
    let answers = pipeline(&gateway, &commands);
    for (at, receivers) in [(0, 151), (2, 150), (4, 151), (5, 151), (8, 151)] {
        assert_receivers(&answers[at], receivers);
    }
    for data in ["0", "2", "3", "4", "end"] {
        assert_eq!(next_data(&mut client), data);
    }
    for (mut other, _) in others {
        for data in ["0", "1", "2", "3", "4"] {
            assert_eq!(next_data(&mut other), data);
        }
    }
    client.reset();
    backend.assert_balanced();
}
