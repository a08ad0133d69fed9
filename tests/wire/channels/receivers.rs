//! What becomes of the receivers of a send to many: closes, and those who cannot take it.

use serde_json::json;

use super::{
    assert_members, assert_receivers, joining, narrow, next_data, one_in, open_old, pipeline,
    to_channel, to_token,
};
use crate::support::crowd::open_crowd;
use crate::support::{
    BUFFERED, Backend, Gateway, OK, assert_error, assert_ok, open_narrow, open_stream, post_send,
    send_close, send_data,
};

#[test]
fn a_close_may_be_for_many() {
    let targets = [
        json!({"channel": "c"}),
        json!({"channels": ["c", "d"]}),
        json!({"broadcast": true}),
    ];
    for (has_event, target) in [(true, 0), (false, 0), (true, 1), (false, 2)] {
        let (backend, gateway, mut one, _) = one_in("/1?c");
        let (mut two, _) = open_stream(&gateway, &backend, "/2?c,d");
        let (mut old, _) = open_old(&gateway, &backend, "/old?c");
        let mut command = targets[target].clone();
        command["close"] = json!(true);
        if has_event {
            command["event"] = json!({"data": "bye"});
        }
        assert_receivers(&post_send(&gateway, &command), 3);
        for client in [&mut one, &mut two, &mut old] {
            if has_event {
                assert_eq!(next_data(client), "bye");
            }
        }
        one.expect_last_chunk_and_eof();
        two.expect_last_chunk_and_eof();
        old.expect_eof();
        for _ in 0..3 {
            assert_eq!(backend.next_disconnect().reason(), "server_closed");
        }
        assert_members(&gateway, "c", 0);
        backend.assert_balanced();
    }
}

/// As if it had been carried out when it was read, although members enough for several slices
/// stand before the one that is looked at.
#[test]
fn behind_a_close_for_many_a_stream_is_gone() {
    let backend = joining();
    let gateway = Gateway::of(&backend);
    let (mut client, token) = open_stream(&gateway, &backend, "/s?c");
    let others = open_crowd(&backend, 150, |_| gateway.connect());
    let commands = [
        to_channel("c", "last"),
        json!({"broadcast": true, "event": {"data": "bye"}, "close": true}),
        to_token(&token, "never"),
        json!({"token": token, "subscribe": ["d"]}),
        json!({"token": token, "subscribe": ["d"], "event": {"data": "never"}, "close": true}),
    ];
    let answers = pipeline(&gateway, &commands);
    assert_receivers(&answers[1], 151);
    for answer in &answers[2..] {
        assert_error(answer, 404, "TOKEN_NOT_FOUND");
    }
    assert_eq!(next_data(&mut client), "last");
    assert_eq!(next_data(&mut client), "bye");
    client.expect_last_chunk_and_eof();
    for (mut other, _) in others {
        assert_eq!(next_data(&mut other), "bye");
        other.expect_last_chunk_and_eof();
    }
    backend.assert_balanced();
}

#[test]
fn a_receiver_whose_queue_is_full_is_dropped_and_hurts_no_other() {
    let backend = joining();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "16384").start();
    let (mut first, _) = open_stream(&gateway, &backend, "/first?c");
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow?c", 2048);
    let (mut last, _) = open_stream(&gateway, &backend, "/last?c");
    let mut taken = 0;
    loop {
        let data = format!("{taken} {}", "x".repeat(1000));
        let response = post_send(&gateway, &to_channel("c", &data));
        assert_eq!(next_data(&mut first), data);
        assert_eq!(next_data(&mut last), data);
        if response.body == br#"{"status":"ok","receivers":2}"# {
            break;
        }
        assert_receivers(&response, 3);
        taken += 1;
        assert!(taken < 1000, "there is no limit");
    }
    assert!(taken >= 16, "{taken}");
    assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
    slow.expect_reset();
    let facts = ["[WARN]", &token, "reason=error", "limit=MAX_UNSENT_BYTES"];
    gateway.wait_log_all(&facts);
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    assert_eq!(backend.ledger().open(), 2);
    drop((first, last));
    backend.assert_balanced();
}

/// The limit is for what a socket would not take, not for what it was not offered yet.
#[test]
fn a_receiver_that_keeps_up_is_not_dropped_for_what_is_pending() {
    let backend = joining();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_UNSENT_BYTES", "1024")
        .start();
    let (mut client, token) = open_stream(&gateway, &backend, "/s?c");
    let data = |number: usize| format!("{number} {}", "x".repeat(800));
    let mut commands: Vec<_> = (0..6).map(|at| to_channel("c", &data(at))).collect();
    commands.push(to_token(&token, &data(6)));
    commands.push(to_channel("c", &data(7)));
    let answers = pipeline(&gateway, &commands);
    for (at, answer) in answers.iter().enumerate() {
        match at {
            6 => assert_ok(answer, OK),
            _ => assert_receivers(answer, 1),
        }
    }
    for at in 0..8 {
        assert_eq!(next_data(&mut client), data(at));
    }
    client.reset();
    backend.assert_balanced();
}

/// And what a socket would not take of all that was pending is what the limit is for.
#[test]
fn a_receiver_that_takes_too_little_of_what_is_pending_is_dropped() {
    let backend = joining();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "16384").start();
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow?c", 2048);
    let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
    // All of them at once, and nothing behind them that could be the last straw.
    let data = "x".repeat(10_000);
    let commands: Vec<_> = (0..6).map(|_| to_channel("c", &data)).collect();
    for answer in pipeline(&gateway, &commands) {
        assert_receivers(&answer, 1);
    }
    assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
    slow.expect_reset();
    gateway.wait_log_all(&["[WARN]", &token, "limit=MAX_UNSENT_BYTES"]);
    assert_ok(&send_data(&gateway, &other_token, "end"), OK);
    assert_eq!(next_data(&mut other), "end");
    other.reset();
    backend.assert_balanced();
}

/// A client that would miss an event and not know is sent away, and the backend is told.
#[test]
fn a_window_that_cannot_take_it() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_UNSENT_BYTES", "1024")
        .start();
    for status in [200, 403] {
        let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
        let mut client = gateway.get("/s");
        let connect = backend.next_connect_of("/s");
        let token = connect.token();
        for token in [&token, &other_token] {
            let joins = json!({"token": token, "subscribe": ["c"]});
            assert_eq!(post_send(&gateway, &joins).status(), 200);
        }
        let data = "x".repeat(800);
        assert_receivers(&post_send(&gateway, &to_channel("c", &data)), 2);
        assert_receivers(&post_send(&gateway, &to_channel("c", &data)), 2);
        let response = client.read_response();
        assert_error(&response, 503, "OVERLOADED");
        gateway.wait_log_all(&["[WARN]", "limit=MAX_UNSENT_BYTES"]);
        assert_members(&gateway, "c", 1);
        assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
        connect.answer(status, "");
        if status == 200 {
            let disconnect = backend.next_disconnect_of(&token);
            assert_eq!(disconnect.reason(), "error");
            disconnect.answer(200, "");
        }
        // It hurts no other.
        assert_eq!(next_data(&mut other), data);
        assert_eq!(next_data(&mut other), data);
        assert_ok(&send_close(&gateway, &other_token), OK);
        other.expect_last_chunk_and_eof();
        backend.next_disconnect_of(&other_token).answer(200, "");
    }
    backend.assert_balanced();
    backend.assert_idle();
}

/// Nothing of a send that its window cannot take is done, be it to channels.
#[test]
fn a_full_window_refuses_all_of_a_send() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_UNSENT_BYTES", "1024")
        .start();
    let mut client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    let token = connect.token();
    let data = "x".repeat(800);
    let taken = json!({"token": token, "subscribe": ["c"], "event": {"data": data}});
    assert_ok(&post_send(&gateway, &taken), BUFFERED);
    let refused = json!({
        "token": token, "unsubscribe": ["c"], "subscribe": ["d"],
        "event": {"data": data}, "close": true,
    });
    assert_error(&post_send(&gateway, &refused), 503, "BUFFER_FULL");
    assert_members(&gateway, "c", 1);
    assert_members(&gateway, "d", 0);
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    assert_eq!(next_data(&mut client), data);
    assert_receivers(&post_send(&gateway, &to_channel("c", "live")), 1);
    assert_eq!(next_data(&mut client), "live");
    client.reset();
    backend.next_disconnect_of(&token).answer(200, "");
    backend.assert_balanced();
}
