//! The connection manager.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::Backend;
use crate::support::process::eventually;
use crate::world::{Stream, World, pass, sent};

const MADE_UP: &str = "00000000-0000-4000-8000-000000000000";

#[test]
fn a_new_connection_replaces_the_old_one_and_survives_its_disconnect() {
    let world = World::start();
    let mut old = world.open("/events?client=a");
    let token = world.demo.token_of("/events?client=a");
    let mut new = world.open("/events?client=a");
    old.expect_close("replaced");
    world
        .demo
        .wait_line(&["disconnect ", &token, "server_closed"]);
    assert!(world.demo.is_connected("client:a"));
    world.demo.announce("1");
    new.expect_version("1");
}

#[test]
fn a_close_that_takes_long_holds_up_nobody() {
    let (world, gate) = World::gated(|send| send["close"] == true);
    let mut old = world.open("/events?client=a");
    // Its connect callback is answered and its stream open while the close is held.
    let mut new = world.open("/events?client=a");
    let close = gate.next_where("close", |send| send.json["close"] == true);
    assert_eq!(close.json["token"], world.demo.token_of("/events?client=a"));
    let mut other = world.open("/events?client=b");
    assert!(world.demo.is_connected("client:a"));
    world.demo.announce("1");
    other.expect_version("1");
    new.expect_version("1");
    // Had they waited for the close, it would have been given up before.
    assert!(!world.demo.has_line("send failed"));
    pass(world.gateway.port(), &close);
    // What went to everybody meanwhile went to this one too.
    old.expect_version("1");
    old.expect_close("replaced");
}

#[test]
fn what_the_gateway_does_not_know_is_forgotten() {
    let world = World::start();
    let (status, _) = world.demo.callback("connect", MADE_UP, "/events?client=a");
    assert_eq!(status, 200);
    // A room is joined without a stream as well.
    assert_eq!(world.demo.room("join", "x", "a"), json!(["x"]));
    world.demo.wait_line(&["forgotten ", MADE_UP]);
    let (_, told) = world.open_told("/events?client=a");
    assert_eq!(told["rooms"], json!(["x"]));
}

#[test]
fn whether_somebody_is_connected_is_asked_of_the_gateway() {
    let world = World::start();
    world.demo.callback("connect", MADE_UP, "/events?client=a");
    assert!(!world.demo.is_connected("client:a"));
    world.demo.wait_line(&["forgotten ", MADE_UP]);
    let _stream = world.open("/events?client=a");
    assert!(world.demo.is_connected("client:a"));
}

#[test]
fn a_404_for_an_old_connection_does_not_touch_its_successor() {
    let (world, gate) = World::gated(|send| send["token"] == MADE_UP && send["close"] != true);
    world.demo.callback("connect", MADE_UP, "/events?client=a");
    thread::scope(|scope| {
        let joining = scope.spawn(|| world.demo.room("join", "x", "a"));
        let send = gate.next_where("join", |send| send.json["token"] == MADE_UP);
        let (mut stream, told) = world.open_told("/events?client=a");
        // The room was noted before the join was sent.
        assert_eq!(told["rooms"], json!(["x"]));
        assert!(pass(world.gateway.port(), &send).contains("TOKEN_NOT_FOUND"));
        stream.expect("room_joined", &json!({"room": "x"}));
        joining.join().expect("an answer");
        assert_eq!(world.demo.say("x", "b", "hello"), 1);
        assert!(world.demo.is_connected("client:a"));
    });
}

#[test]
fn callbacks_that_come_twice_change_nothing() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    let token = world.demo.token_of(target);
    let (status, answer) = world.demo.callback("connect", &token, target);
    assert_eq!((status, sent(&answer).0), (200, "connection_open"));
    world.demo.announce("1");
    stream.expect_version("1");
    world.leave(stream, target);
    for (action, expected) in [("disconnect", 204), ("connect", 200), ("disconnect", 204)] {
        assert_eq!(world.demo.callback(action, &token, target).0, expected);
        assert!(!world.demo.is_connected("client:a"), "{action}");
    }
}

#[test]
fn a_repeated_connect_does_not_bring_back_who_was_replaced() {
    let world = World::start();
    let target = "/events?client=a";
    let mut old = world.open(target);
    let token = world.demo.token_of(target);
    let mut new = world.open(target);
    old.expect_close("replaced");
    assert_eq!(world.demo.callback("connect", &token, target).0, 200);
    world.demo.announce("1");
    new.expect_version("1");
}

#[test]
fn a_gateway_that_hangs_costs_less_than_a_callback_may_take() {
    let (world, gate) = World::gated(|_| true);
    let _stream = world.open("/events?client=a");
    let begun = Instant::now();
    // The gateway gives a callback up after 5 s.
    let (status, _) = world.demo.callback("connect", MADE_UP, "/events?task=x");
    assert_eq!(status, 503);
    assert!(begun.elapsed() < Duration::from_secs(4));
    let send = gate.next_where("join", |send| send.json["token"] == MADE_UP);
    assert!(!send.is_answered());
    // Nothing is known of the connection, and so it counts as one.
    assert!(world.demo.is_connected("client:a"));
}

#[test]
fn what_is_sent_to_everybody_before_the_connect_is_answered_comes_behind_its_own() {
    let callbacks = Backend::start();
    let (world, sends) = World::behind(&callbacks);
    let target = "/events?client=a";
    let mut client = world.gateway.get(target);
    let callback = callbacks.next_connect_of(target);
    let (status, answer) = world.demo.ask("POST", "/callback", &callback.text());
    thread::scope(|scope| {
        let announcing = scope.spawn(|| world.demo.announce("1"));
        let send = sends.next_where("version", |_| true);
        pass(world.gateway.port(), &send);
        assert_eq!(announcing.join().expect("an answer"), 1);
    });
    callback.answer(status, &answer.to_string());
    assert_eq!(client.read_head().status, 200);
    let mut stream = Stream::of(client);
    assert_eq!(stream.next().0, "connection_open");
    stream.expect_version("1");
    // Whatever else is called back is of no interest here, but wants an answer.
    drop(stream);
    callbacks.next_disconnect().answer(204, "");
}

/// A line that is cut: the client is told how long to stay away, and when it comes back, as browsers
/// do, nothing is lost, and the usual delay holds again.
#[test]
fn who_is_cut_off_comes_back_and_has_missed_nothing() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    assert_eq!(stream.retry, 3000);
    world.demo.room("join", "x", "a");
    stream.expect("room_joined", &json!({"room": "x"}));
    world.demo.say("x", "b", "before");
    assert_eq!(stream.next().1["text"], "before");
    let (status, _) = world
        .demo
        .ask("POST", "/cut?client=a", r#"{"seconds":0.25}"#);
    assert_eq!(status, 200);
    stream.expect("line_cut", &json!({"seconds": 0.25}));
    assert_eq!(stream.retry, 250);
    stream.client.expect_last_chunk_and_eof();
    world.demo.wait_line(&["disconnect ", "server_closed"]);
    assert_eq!(world.demo.ask("POST", "/cut?client=a", "").0, 404);
    assert_eq!(world.demo.say("x", "b", "meanwhile"), 0);
    world.demo.announce("1");
    world.demo.announce("2");
    world
        .demo
        .task("?client=a", &json!({"seconds": 0, "name": "n"}));
    let ended =
        || world.demo.ask("GET", "/tasks?client=a", "").1["tasks"][0]["state"] == "completed";
    eventually("the end of the task", ended);
    let (mut again, _) = world.come_back(target, Some(&stream.seen));
    assert_eq!(again.retry, 3000);
    assert_eq!(again.next().1["text"], "meanwhile");
    // Of what has a key, the last.
    again.expect_version("2");
    assert_eq!(again.next().0, "task_completed");
    world.demo.say("x", "b", "after");
    assert_eq!(again.next().1["text"], "after");
    for body in [r#"{"seconds":-1}"#, r#"{"seconds":"1"}"#] {
        assert_eq!(world.demo.ask("POST", "/cut?client=a", body).0, 400);
    }
}

#[test]
fn a_stream_is_for_one_client_or_one_task() {
    let world = World::start();
    for (target, status) in [
        ("/events", 400),
        ("/events?client=", 400),
        ("/events?client=a/b", 400),
        ("/events?client=a&task=b", 400),
        ("/favicon.ico", 404),
    ] {
        assert_eq!(
            world.gateway.get(target).read_response().status(),
            status,
            "{target}"
        );
    }
}
