//! The ids that the gateway gives, and what has none.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Stage, assert_next, event, id_of, numbers, position};
use crate::channels::pipeline;
use crate::support::{BUFFERED, OK, PATIENCE, assert_error, post_send};

/// The real clock's milliseconds.
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time of today").as_millis() as u64
}

/// Whoever it is for, one behind the other, as the number that they are and not as text; in the
/// answer and on the stream.
#[test]
fn each_id_is_greater_than_the_last() {
    let stage = Stage::new();
    let (mut client, connect) = stage.ask(None);
    let mut last = connect.json["position"].as_str().expect("one").to_owned();
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, [position(&last)]);
    let targets = [
        (json!({"channel": "c"}), true),
        (json!({"channel": "nobody"}), false),
        (json!({"channels": ["c", "d"]}), true),
        (json!({"broadcast": true}), true),
    ];
    let commands: Vec<(Value, bool)> = (0..200)
        .map(|number: usize| {
            let (mut command, is_for_it) = targets[number % targets.len()].clone();
            command["event"] = json!({"data": number.to_string()});
            (command, is_for_it)
        })
        .collect();
    let before = clock();
    let all: Vec<Value> = commands.iter().map(|it| it.0.clone()).collect();
    let answers = pipeline(&stage.gateway, &all);
    for (number, ((_, is_for_it), answer)) in commands.iter().zip(&answers).enumerate() {
        let id = id_of(answer);
        assert!(numbers(&id) > numbers(&last), "{last} {id}");
        // The gateway looks at its clock now and then.
        let slack = PATIENCE.as_millis() as u64;
        let millis = numbers(&id).0;
        assert!((before - slack..=clock() + 1).contains(&millis), "{id}");
        if *is_for_it {
            assert_next(&mut client, [event(&id, &number.to_string())]);
        }
        last = id;
    }
    stage.end([client]);
}

/// Every connect callback tells the id of the last event so far; a disconnect does not.
#[test]
fn the_position_in_the_callback() {
    let stage = Stage::new();
    let of = |header| {
        let (client, connect) = stage.ask(header);
        let position = connect.json["position"].as_str().expect("one").to_owned();
        client.reset();
        connect.answer(403, "");
        position
    };
    let first = of(None);
    numbers(&first);
    assert_eq!(of(Some("1-1")), first);
    let mut before = first;
    for command in [
        json!({"channel": "nobody", "event": {"data": "x"}}),
        json!({"channels": ["a", "b"], "event": {"data": "x"}}),
        json!({"broadcast": true, "event": {"data": ""}}),
    ] {
        let id = stage.publish(&command);
        assert!(numbers(&id) > numbers(&before));
        assert_eq!(of(None), id);
        before = id;
    }
    // These are no events to channels.
    let (client, token) = stage.join(&["c"], None);
    stage.post(&json!({"token": token, "event": {"data": "x"}}), OK);
    stage.post(&json!({"channel": "c"}), r#"{"status":"ok","receivers":1}"#);
    stage.post(
        &json!({"channels": [], "event": {"data": "x"}}),
        r#"{"status":"ok","receivers":0}"#,
    );
    assert_eq!(of(None), before);
    client.reset();
    let gone = stage.backend.next_disconnect_of(&token);
    assert_eq!(gone.json.get("position"), None, "{}", gone.text());
    stage.end([]);
}

/// No process gives an id that an earlier one has given.
#[test]
fn ids_are_not_given_again_after_a_restart() {
    let ids_of_one = || {
        let stage = Stage::new();
        (0..20).map(|_| stage.to("c", "x")).collect::<Vec<String>>()
    };
    let (one, other) = (ids_of_one(), ids_of_one());
    assert!(
        one.iter().all(|id| !other.contains(id)),
        "{one:?} {other:?}"
    );
}

/// In every kind of send, whatever its value; before what stands behind it in the order of checks.
#[test]
fn an_id_of_ones_own_is_refused() {
    let stage = Stage::new();
    let (mut client, token) = stage.join(&["c"], None);
    let begin = client.next_event();
    for target in [
        json!({"token": token}),
        json!({"tokens": [token]}),
        json!({"channel": "c"}),
        json!({"channel": "nobody"}),
        json!({"channels": ["c"]}),
        json!({"broadcast": true}),
    ] {
        for id in [
            json!("own"),
            json!("1-1"),
            json!("earliest"),
            json!(""),
            json!(7),
            json!(null),
        ] {
            let mut command = target.clone();
            command["event"] =
                json!({"data": "never", "id": id, "retry": -1, "key": "", "retain": 1});
            command["close"] = json!(true);
            let response = post_send(&stage.gateway, &command);
            assert_error(&response, 400, "INVALID_EVENT_ID");
        }
    }
    let id = stage.to("c", "end");
    assert_next(&mut client, [event(&id, "end")]);
    let (mut again, _) = stage.visit(
        None,
        &json!({"channels": ["c"], "last_event_id": "earliest"}),
    );
    assert_next(&mut again, [event(&id, "end"), position(&id)]);
    assert!(numbers(&id) > numbers(begin[4..].trim_end()));
    stage.end([client, again]);
}

#[test]
fn an_id_of_ones_own_in_a_connect_answer_is_dropped() {
    let stage = Stage::new();
    for id in [json!("own"), json!("1-1"), json!(7), json!(null)] {
        let answer = json!({"event": {"name": "n", "id": id, "retry": 5, "data": "x"}});
        let (mut client, token) = stage.visit(None, &answer);
        assert_eq!(client.next_event(), "event: n\nretry: 5\ndata: x\n\n");
        let line = stage.gateway.wait_log_all(&["[ERROR]", &token, "event.id"]);
        assert!(line.is_error);
        client.reset();
    }
    stage.end([]);
}

/// Neither do they come again, nor a close that came with an event.
#[test]
fn what_is_sent_by_token_has_no_id() {
    let stage = Stage::new();
    let (mut client, connect) = stage.ask(None);
    let token = connect.token();
    let first = connect.json["position"].as_str().expect("one").to_owned();
    let by_token = |data: &str| json!({"token": token, "event": {"data": data}});
    stage.post(&by_token("window"), BUFFERED);
    connect.answer(200, r#"{"channels":["c"],"event":{"data":"answer"}}"#);
    assert_eq!(client.read_head().status, 200);
    stage.post(&by_token("live"), OK);
    stage.post(
        &json!({"tokens": [token], "event": {"data": "tokens"}}),
        r#"{"status":"ok","receivers":1}"#,
    );
    let last = stage.publish(&json!({"channel": "c", "event": {"data": "last"}, "close": true}));
    assert_next(&mut client, ["data: answer\n\n", "data: window\n\n"]);
    assert_next(&mut client, [position(&first)]);
    assert_next(&mut client, ["data: live\n\n", "data: tokens\n\n"]);
    assert_next(&mut client, [event(&last, "last")]);
    client.expect_last_chunk_and_eof();
    let (mut again, token) = stage.join(&["c"], Some(&first));
    assert_next(&mut again, [event(&last, "last"), position(&last)]);
    stage.post(&json!({"token": token, "event": {"data": "open"}}), OK);
    assert_next(&mut again, ["data: open\n\n"]);
    // A close alone is nothing to be kept.
    stage.post(
        &json!({"channel": "c", "close": true}),
        r#"{"status":"ok","receivers":1}"#,
    );
    again.expect_last_chunk_and_eof();
    let (mut third, _) = stage.join(&["c"], Some(&last));
    assert_next(&mut third, [position(&last)]);
    stage.end([third]);
}
