//! Of events with the same key that wait there is the last one only.

use serde_json::{Value, json};

use super::{
    assert_receivers, joining, large, narrow, next_data, one_in, open_blocked, pipeline,
    to_channel, to_token,
};
use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, assert_ok, assert_sent, open_stream, post_send,
};

/// What may be addressed, as the start of a command.
fn targets(token: &str) -> [Value; 4] {
    [
        json!({"token": token}),
        json!({"channel": "c"}),
        json!({"channels": ["d", "c"]}),
        json!({"tokens": [token]}),
    ]
}

/// An event with this key, or without one.
fn with_key(target: &Value, key: Option<&str>, data: &str) -> Value {
    let mut command = target.clone();
    command["event"] = json!({"data": data});
    if let Some(key) = key {
        command["event"]["key"] = json!(key);
    }
    command
}

/// What is left of events of which none was written: every one without a key, the last of each key
/// in the place of that one.
fn left(events: &[(Option<String>, String)]) -> Vec<String> {
    let is_left = |(at, (key, _)): &(usize, &(Option<String>, String))| {
        key.is_none() || events[at + 1..].iter().all(|(later, _)| later != key)
    };
    let left = events.iter().enumerate().filter(is_left);
    left.map(|(_, (_, data))| data.clone()).collect()
}

/// Keys in an order that is no order, so many of them, with events without a key in between.
fn mixture(keys: usize, rounds: usize) -> Vec<(Option<String>, String)> {
    let mut events = Vec::new();
    for round in 0..rounds {
        for at in 0..keys {
            let key = (at * 7 + round * 3) % keys;
            events.push((Some(format!("key.{key}")), format!("{round}.{key}")));
            if at % 4 == 0 {
                events.push((None, format!("plain {round}.{at}")));
            }
        }
    }
    events
}

/// Few keys and many, which the gateway looks up in different ways; every way to address the
/// stream, one after the other.
#[test]
fn a_reader_that_is_behind_gets_the_last_of_each_key() {
    for (keys, rounds) in [(1, 40), (5, 6), (41, 4), (60, 3)] {
        let backend = joining();
        let gateway = narrow(&backend).start();
        let (mut slow, token) = open_blocked(&gateway, &backend, "/slow?c", &large());
        let events = mixture(keys, rounds);
        let targets = targets(&token);
        let commands = events.iter().enumerate().map(|(at, (key, data))| {
            let target = &targets[at % targets.len()];
            with_key(target, key.as_deref(), data)
        });
        let commands: Vec<Value> = commands.collect();
        let answers = pipeline(&gateway, &commands);
        assert!(answers.iter().all(|answer| answer.status() == 200));
        assert_eq!(next_data(&mut slow), large());
        let got: Vec<String> = left(&events).iter().map(|_| next_data(&mut slow)).collect();
        assert_eq!(got, left(&events), "{keys} keys");
        // It has caught up, and everything is as before.
        assert_ok(&post_send(&gateway, &to_token(&token, "end")), OK);
        assert_eq!(next_data(&mut slow), "end");
        slow.reset();
        backend.assert_balanced();
    }
}

/// A channel's member that keeps up gets every one, whatever the slow one beside it misses.
#[test]
fn a_reader_that_keeps_up_gets_every_one() {
    const STEPS: usize = 60;
    let backend = joining();
    let gateway = narrow(&backend).start();
    let (mut slow, _) = open_blocked(&gateway, &backend, "/slow?c", &large());
    let (mut fast, _) = open_stream(&gateway, &backend, "/fast?c");
    let step = |at: usize| with_key(&json!({"channel": "c"}), Some("job.7"), &at.to_string());
    for at in 0..STEPS {
        assert_receivers(&post_send(&gateway, &step(at)), 2);
        assert_eq!(next_data(&mut fast), at.to_string());
    }
    assert_eq!(next_data(&mut slow), large());
    assert_eq!(next_data(&mut slow), (STEPS - 1).to_string());
    drop((slow, fast));
    backend.assert_balanced();
}

/// What a publisher pipelines does not wait for the reader: it was not offered to it yet.
#[test]
fn a_reader_that_keeps_up_gets_every_one_of_a_pipeline() {
    const STEPS: usize = 60;
    let (backend, gateway, mut client, token) = one_in("/s?c");
    for target in targets(&token) {
        let step = |at: usize| with_key(&target, Some("job.7"), &at.to_string());
        let steps: Vec<Value> = (0..STEPS).map(step).collect();
        for answer in pipeline(&gateway, &steps) {
            assert_eq!(answer.status(), 200);
        }
        for at in 0..STEPS {
            assert_eq!(next_data(&mut client), at.to_string(), "{target}");
        }
    }
    // By turns, so that each way meets what another has pending.
    let steps: Vec<Value> = (0..STEPS)
        .map(|at| {
            let targets = targets(&token);
            with_key(&targets[at % 4], Some("job.7"), &at.to_string())
        })
        .collect();
    pipeline(&gateway, &steps);
    for at in 0..STEPS {
        assert_eq!(next_data(&mut client), at.to_string());
    }
    client.reset();
    backend.assert_balanced();
}

/// What was pending for a reader when it fell behind has waited like everything else.
#[test]
fn a_reader_that_falls_behind_within_a_pipeline_gets_the_last() {
    let backend = joining();
    let gateway = narrow(&backend).start();
    let (mut slow, _) = crate::support::open_narrow(&gateway, &backend, "/slow?c", 2048);
    // All of it is pending at once, the part that blocks as well.
    let steps = ["1", "2", "3"];
    let step = |data: &&str| with_key(&json!({"channel": "c"}), Some("job.7"), data);
    let mut commands = vec![to_channel("c", &large())];
    commands.extend(steps.iter().map(step));
    for answer in pipeline(&gateway, &commands) {
        assert_receivers(&answer, 1);
    }
    assert_eq!(next_data(&mut slow), large());
    assert_eq!(next_data(&mut slow), "3");
    slow.reset();
    // The same with an end by token, which meets what is left of it.
    let (mut slow, token) = crate::support::open_narrow(&gateway, &backend, "/slow?c", 2048);
    pipeline(&gateway, &commands);
    let last = with_key(&json!({"token": token}), Some("job.7"), "4");
    assert_sent(&post_send(&gateway, &last));
    assert_eq!(next_data(&mut slow), large());
    assert_eq!(next_data(&mut slow), "4");
    slow.reset();
    backend.assert_balanced();
}

/// Its reader has a part of it, so it gets the rest.
#[test]
fn what_has_begun_to_be_written_stays() {
    let backend = joining();
    let gateway = narrow(&backend).start();
    for target in 0..4 {
        let (mut slow, token) = crate::support::open_narrow(&gateway, &backend, "/slow?c", 2048);
        let target = &targets(&token)[target];
        for data in [large().as_str(), "2", "3"] {
            let response = post_send(&gateway, &with_key(target, Some("k"), data));
            assert_eq!(response.status(), 200);
        }
        assert_eq!(next_data(&mut slow), large());
        assert_eq!(next_data(&mut slow), "3");
        slow.reset();
        backend.next_disconnect_of(&token);
    }
    backend.assert_balanced();
}

/// The queue of a reader who is behind does not grow with the steps, so the limit is not reached.
#[test]
fn steps_do_not_add_up() {
    let backend = joining();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "131072").start();
    let (mut slow, token) = open_blocked(&gateway, &backend, "/slow?c", &large());
    for number in 0..400 {
        let data = format!("{number} {}", "y".repeat(5000));
        let target = &targets(&token)[number % 4];
        let response = post_send(&gateway, &with_key(target, Some("k"), &data));
        match number % 4 {
            // What it was blocked by, of which it takes a little more, and one step.
            0 => assert!(assert_sent(&response) < 110_000),
            _ => assert_receivers(&response, 1),
        }
    }
    assert_eq!(next_data(&mut slow), large());
    let data = next_data(&mut slow);
    assert!(data.starts_with("399 y"), "{data}");
    slow.reset();
    backend.assert_balanced();
}

#[test]
fn in_the_window_the_last_one_stands_in_its_own_place() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for keys in [3, 50] {
        let (mut client, connect) = waiting(&gateway, &backend);
        let token = connect.token();
        let joins = json!({"token": token, "subscribe": ["c"]});
        assert_ok(&post_send(&gateway, &joins), BUFFERED);
        let events = mixture(keys, 3);
        for (at, (key, data)) in events.iter().enumerate() {
            let target = &targets(&token)[at % 4];
            let response = post_send(&gateway, &with_key(target, key.as_deref(), data));
            assert_eq!(response.status(), 200);
        }
        connect.answer(200, r#"{"event":{"data":"first"}}"#);
        assert_eq!(client.read_head().status, 200);
        assert_eq!(next_data(&mut client), "first");
        for data in left(&events) {
            assert_eq!(next_data(&mut client), data);
        }
        client.reset();
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}

/// The answer's event stands in front of what was buffered: of its key that is the older one.
#[test]
fn the_window_takes_out_the_answers_own_event() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for (key, expected) in [
        ("k", vec!["plain", "buffered"]),
        ("other", vec!["answer", "plain", "buffered"]),
    ] {
        let (mut client, connect) = waiting(&gateway, &backend);
        let target = json!({"token": connect.token()});
        for command in [
            with_key(&target, None, "plain"),
            with_key(&target, Some("k"), "buffered"),
        ] {
            assert_ok(&post_send(&gateway, &command), BUFFERED);
        }
        let event = json!({"event": {"data": "answer", "key": key}});
        connect.answer(200, &event.to_string());
        assert_eq!(client.read_head().status, 200);
        for data in expected {
            assert_eq!(next_data(&mut client), data);
        }
        client.reset();
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
}

fn waiting(gateway: &Gateway, backend: &Backend) -> (Client, crate::support::Callback) {
    let client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    (client, connect)
}

/// The same on a stream without chunks, where nothing but the events tells where they end.
#[test]
fn an_unchunked_reader_that_is_behind() {
    let backend = joining();
    let gateway = narrow(&backend).start();
    let mut slow = Client::with_receive_buffer(gateway.port(), 2048);
    slow.send("GET /old?c HTTP/1.0\r\n\r\n");
    let token = backend.next_connect_of("/old?c").token();
    assert_eq!(slow.read_head().status, 200);
    let first = to_token(&token, &large());
    assert!(assert_sent(&post_send(&gateway, &first)) > 0);
    let events = mixture(9, 4);
    for (at, (key, data)) in events.iter().enumerate() {
        let target = &targets(&token)[at % 4];
        let response = post_send(&gateway, &with_key(target, key.as_deref(), data));
        assert_eq!(response.status(), 200);
    }
    let close = json!({"broadcast": true, "close": true});
    assert_receivers(&post_send(&gateway, &close), 1);
    assert_eq!(next_data(&mut slow), large());
    for data in left(&events) {
        assert_eq!(next_data(&mut slow), data);
    }
    slow.expect_eof();
    backend.assert_balanced();
}
