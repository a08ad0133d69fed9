//! Current values: what every stream gets that joins a channel, with and without a history.

use serde_json::{Value, json};

use super::{Stage, assert_next, assert_next_or_position, event, gap, numbers, position};
use crate::support::{BUFFERED, Client, OK, assert_error, post_send};

/// Both kinds of gateway.
const KINDS: [(&str, bool); 2] = [("0", false), ("1000000", true)];

/// A send that makes this the current value of a channel.
fn retained(channel: &str, data: &str) -> Value {
    json!({"channel": channel, "event": {"data": data, "retain": true}})
}

/// What a stream in these channels gets as it opens: these, and where it is if there is a history.
#[track_caller]
fn assert_gets(stage: &Stage, has_history: bool, channels: &[&str], texts: &[&str]) -> Client {
    let (mut client, _) = stage.join(channels, None);
    assert_next(&mut client, texts);
    // Nothing else comes before this.
    let end = stage.to_everybody("end");
    assert_end(&mut client, has_history, &end);
    client
}

/// The end, behind a position if there is a history.
#[track_caller]
fn assert_end(client: &mut Client, has_history: bool, end: &str) {
    if has_history {
        let text = client.next_event();
        assert!(text.starts_with("id: ") && !text.contains("data"), "{text}");
    }
    assert_next(client, [end]);
}

impl Stage {
    /// A broadcast as it stands on the stream, whether there is a history or not.
    #[track_caller]
    fn to_everybody(&self, data: &str) -> String {
        self.send(&json!({"broadcast": true, "event": {"data": data}}))
    }

    /// The same for any event that has nothing but data.
    #[track_caller]
    fn send(&self, command: &Value) -> String {
        let response = post_send(&self.gateway, command);
        assert_eq!(response.status(), 200, "{}", response.text());
        let json: Value = serde_json::from_slice(&response.body).expect("JSON");
        let data = command["event"]["data"].as_str().expect("data");
        match json["id"].as_str() {
            Some(id) => event(id, data),
            None => format!("data: {data}\n\n"),
        }
    }
}

#[test]
fn a_wrong_retain_refuses_the_send() {
    for (bytes, has_history) in KINDS {
        let stage = Stage::with(&[("HISTORY_BYTES", bytes)]);
        let (mut client, token) = stage.join(&["c"], None);
        let targets = [
            (json!({"channel": "c"}), true),
            (json!({"channels": ["c"]}), true),
            (json!({"token": token}), false),
            (json!({"tokens": [token]}), false),
            (json!({"broadcast": true}), false),
        ];
        for (target, has_channel) in &targets {
            for retain in [json!("true"), json!(1), json!(null), json!({}), json!(true)] {
                if *has_channel && retain == json!(true) {
                    continue;
                }
                let mut command = target.clone();
                command["event"] = json!({"data": "never", "retain": retain});
                command["close"] = json!(true);
                let response = post_send(&stage.gateway, &command);
                assert_error(&response, 400, "INVALID_EVENT_RETAIN");
                // It is looked at behind everything else.
                for (field, wrong, code) in [
                    ("id", json!(""), "INVALID_EVENT_ID"),
                    ("retry", json!(-1), "INVALID_EVENT_RETRY"),
                    ("key", json!(""), "INVALID_EVENT_KEY"),
                    ("data", json!(7), "INVALID_EVENT_DATA_MISSING"),
                ] {
                    let mut command = command.clone();
                    command["event"][field] = wrong;
                    assert_error(&post_send(&stage.gateway, &command), 400, code);
                }
            }
        }
        // False is as if it were not there.
        let mut texts = Vec::new();
        for (mut target, _) in targets {
            target["event"] = json!({"data": "x", "retain": false});
            texts.push(stage.send(&target));
        }
        if has_history {
            client.next_event();
        }
        assert_next(&mut client, &texts);
        let late = assert_gets(&stage, has_history, &["c"], &[]);
        stage.end([client, late]);
    }
}

#[test]
fn a_retain_in_a_connect_answer_is_dropped() {
    let stage = Stage::new();
    for retain in [json!(true), json!("x")] {
        let answer = json!({"channels": ["c"], "event": {"data": "x", "retain": retain}});
        let (mut client, token) = stage.visit(None, &answer);
        assert_next(&mut client, ["data: x\n\n"]);
        let line = stage.gateway.wait_log_all(&["[ERROR]", &token, "retain"]);
        assert!(line.is_error);
        client.reset();
        assert_gets(&stage, true, &["c"], &[]).reset();
    }
    stage.end([]);
}

/// By an answer, by a send, during the callback; whoever is in it already has it.
#[test]
fn every_stream_that_joins_gets_it() {
    for (bytes, has_history) in KINDS {
        let stage = Stage::with(&[("HISTORY_BYTES", bytes)]);
        let (mut member, _) = stage.join(&["c"], None);
        if has_history {
            member.next_event();
        }
        let told = stage.send(&retained("c", "now"));
        assert_next(&mut member, [&told]);
        let (value, end) = ("data: now\n\n", "data: end\n\n");
        for _ in 0..2 {
            assert_gets(&stage, has_history, &["c"], &[value]).reset();
            assert_gets(&stage, has_history, &["d"], &[]).reset();
        }
        // By a send, before its own event.
        let (mut client, token) = stage.join(&["d"], None);
        if has_history {
            client.next_event();
        }
        let command = json!({"token": token, "subscribe": ["c", "d"], "event": {"data": "own"}});
        stage.post(&command, OK);
        assert_next(&mut client, [value, "data: own\n\n"]);
        // It is in it.
        stage.post(&command, OK);
        assert_next(&mut client, ["data: own\n\n"]);
        let command = json!({
            "token": token, "unsubscribe": ["c"], "subscribe": ["c"], "event": {"data": "own"},
        });
        stage.post(&command, OK);
        assert_next(&mut client, [value, "data: own\n\n"]);
        client.reset();
        // During the callback: where the send stands that joins.
        let (mut client, connect) = stage.ask(None);
        let token = connect.token();
        let own = |data: &str| json!({"token": token, "event": {"data": data}});
        stage.post(&own("1"), BUFFERED);
        let subscribe = json!({"token": token, "subscribe": ["c"], "event": {"data": "2"}});
        stage.post(&subscribe, BUFFERED);
        stage.post(&own("3"), BUFFERED);
        let answer = json!({"channels": ["c"], "event": {"data": "0"}});
        connect.answer(200, &answer.to_string());
        assert_eq!(client.read_head().status, 200);
        assert_next(&mut client, ["data: 0\n\n", "data: 1\n\n", value]);
        assert_next(&mut client, ["data: 2\n\n", "data: 3\n\n"]);
        stage.post(&own("end"), OK);
        assert_end(&mut client, has_history, end);
        stage.end([client, member]);
    }
}

/// Behind the answer's own event, before what was buffered, in the order in which they were read.
#[test]
fn values_of_several_channels() {
    for (bytes, has_history) in KINDS {
        let stage = Stage::with(&[("HISTORY_BYTES", bytes)]);
        for name in ["a", "b", "c"] {
            stage.send(&retained(name, name));
        }
        stage.send(&json!({"channels": ["d", "e"], "event": {"data": "both", "retain": true}}));
        for name in ["d", "e"] {
            assert_gets(&stage, has_history, &[name], &["data: both\n\n"]).reset();
        }
        // It is one event, whatever the number of its channels.
        assert_gets(&stage, has_history, &["e", "d"], &["data: both\n\n"]).reset();
        let (mut client, connect) = stage.ask(None);
        let token = connect.token();
        stage.post(&json!({"token": token, "event": {"data": "own"}}), BUFFERED);
        connect.answer(
            200,
            r#"{"channels":["c","x","a","d","b"],"event":{"data":"first"}}"#,
        );
        assert_eq!(client.read_head().status, 200);
        let texts = ["first", "a", "b", "c", "both", "own"];
        assert_next(&mut client, texts.map(|data| format!("data: {data}\n\n")));
        let end = stage.to_everybody("end");
        assert_end(&mut client, has_history, &end);
        stage.end([client]);
    }
}

/// The last one counts; an empty one is delivered, and then there is none.
#[test]
fn a_value_is_replaced_and_cleared() {
    for (bytes, has_history) in KINDS {
        let stage = Stage::with(&[("HISTORY_BYTES", bytes)]);
        let (mut member, _) = stage.join(&["a", "b"], None);
        if has_history {
            member.next_event();
        }
        let both =
            |data: &str| json!({"channels": ["a", "b"], "event": {"data": data, "retain": true}});
        let plain = json!({"channel": "a", "event": {"data": "plain"}});
        let table: [(Value, &[&str], &[&str]); 9] = [
            (retained("a", "1"), &["1"], &[]),
            (retained("a", "2"), &["2"], &[]),
            // What is not to be kept leaves it as it is.
            (plain, &["2"], &[]),
            (both("3"), &["3"], &["3"]),
            (retained("b", "4"), &["3"], &["4"]),
            (retained("b", ""), &["3"], &[]),
            (retained("b", ""), &["3"], &[]),
            (both("5"), &["5"], &["5"]),
            (both(""), &[], &[]),
        ];
        for (command, of_a, of_b) in table {
            println!("{command}");
            let told = stage.send(&command);
            assert_next(&mut member, [told]);
            for (name, values) in [("a", of_a), ("b", of_b)] {
                let values = values.iter().map(|data| format!("data: {data}\n\n"));
                let values: Vec<String> = values.collect();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                let client = assert_gets(&stage, has_history, &[name], &values);
                client.reset();
                member.next_event();
            }
        }
        stage.end([member]);
    }
}

/// All that an event has, but for an id.
#[test]
fn a_value_as_it_stands_on_the_stream() {
    let event = json!({
        "name": "n", "retry": 5, "key": "k", "data": "{}\n[]", "retain": true,
    });
    let stage = Stage::with(&[]);
    let mut own = json!({"channel": "c", "event": event});
    own["event"]["id"] = json!("own");
    stage.post(&own, r#"{"status":"ok","receivers":0}"#);
    let value = "event: n\nretry: 5\ndata: {}\ndata: []\n\n";
    assert_gets(&stage, false, &["c"], &[value]).reset();
    stage.end([]);
    let settings = [("HISTORY_BYTES", "1000000"), ("EVENT_FORMAT", "envelope")];
    let stage = Stage::with(&settings);
    let mut sent = json!({"channel": "c", "event": event});
    sent["event"]["data"] = json!("{}");
    stage.publish(&sent);
    let value = "retry: 5\ndata: {\"type\":\"n\",\"payload\":{}}\n\n";
    assert_gets(&stage, true, &["c"], &[value]).reset();
    // An old client gets it in its own way.
    let mut old = stage.gateway.connect();
    old.send(super::request("HTTP/1.0", None));
    let connect = stage.backend.next_connect();
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(old.read_head().status, 200);
    assert_next(&mut old, [value]);
    stage.end([old]);
}

/// It comes once: by the replay with its id, or by itself without.
#[test]
fn a_value_that_the_replay_brings_comes_by_it_alone() {
    let stage = Stage::new();
    let before = stage.to("c", "before");
    let value = stage.publish(&retained("c", "value"));
    let behind = stage.to("c", "behind");
    let (brought, alone) = (event(&value, "value"), "data: value\n\n".to_owned());
    let (first, last) = (event(&before, "before"), event(&behind, "behind"));
    let end = position(&behind);
    let table = [
        (json!(before), vec![&brought, &last]),
        (json!("earliest"), vec![&first, &brought, &last]),
        (json!(value), vec![&alone, &last]),
        (json!(behind), vec![&alone]),
        (json!(""), vec![&alone]),
    ];
    for (last_event_id, texts) in &table {
        let answer = json!({"channels": ["c"], "last_event_id": last_event_id});
        let (mut client, _) = stage.visit(None, &answer);
        assert_next(&mut client, texts);
        assert_next(&mut client, [&end]);
        client.reset();
        // And by a send of an open stream.
        let (mut client, token) = stage.join(&[], None);
        assert_next(&mut client, [&end]);
        let mut subscribe = json!({"token": token, "subscribe": ["c"]});
        subscribe["last_event_id"] = last_event_id.clone();
        stage.post(&subscribe, OK);
        assert_next(&mut client, texts);
        stage.post(&json!({"token": token, "event": {"data": "end"}}), OK);
        assert_next_or_position(&mut client, "data: end\n\n");
        client.reset();
    }
    // Set while the callback was out: it is behind the stream's begin.
    let (mut client, connect) = stage.ask(None);
    let value = stage.publish(&retained("c", "newer"));
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, [event(&value, "newer"), position(&value)]);
    // With a gap the stream goes on from now, and this is what is now.
    for asked in ["1-1", "x"] {
        let (mut client, _) = stage.join(&["c"], Some(asked));
        assert_next(
            &mut client,
            [&gap(asked), "data: newer\n\n", &position(&value)],
        );
        client.reset();
    }
    stage.end([client]);
}

/// The history forgets it, and it is still the current value; with it goes what was before it.
#[test]
fn a_value_outlives_the_history() {
    let stage = Stage::with(&[("HISTORY_BYTES", "20000")]);
    let begin = stage.to("x", "begin");
    let value = stage.publish(&retained("c", "value"));
    let data = "x".repeat(1000);
    let noise: Vec<String> = (0..30).map(|_| stage.to("noise", &data)).collect();
    let last = position(&noise[29]);
    assert!(numbers(&value) < numbers(&noise[0]));
    let table = [
        (begin.as_str(), vec![gap(&begin)]),
        (&value, vec![]),
        ("earliest", vec![]),
    ];
    for (asked, mut texts) in table {
        let (mut client, _) = stage.join(&["c"], Some(asked));
        texts.push("data: value\n\n".to_owned());
        texts.push(last.clone());
        assert_next(&mut client, texts);
        client.reset();
    }
    // One that is kept: behind a gap nothing else brings it.
    let newer = stage.publish(&retained("c", "newer"));
    let (mut client, _) = stage.join(&["c"], Some(&begin));
    assert_next(
        &mut client,
        [&gap(&begin), "data: newer\n\n", &position(&newer)],
    );
    client.reset();
    stage.end([]);
}

#[test]
fn values_are_bounded() {
    for (bytes, has_history) in KINDS {
        let stage = Stage::with(&[("HISTORY_BYTES", bytes), ("MAX_RETAINED_BYTES", "5000")]);
        let (mut member, _) = stage.join(&["a", "b", "c"], None);
        if has_history {
            member.next_event();
        }
        let big = |length: usize| "x".repeat(length);
        let mut expected = vec![stage.send(&retained("a", &big(3000)))];
        let refused = |command: Value| {
            let response = post_send(&stage.gateway, &command);
            assert_error(&response, 503, "RETAINED_FULL");
        };
        let both =
            |data: &str| json!({"channels": ["b", "c"], "event": {"data": data, "retain": true}});
        refused(retained("b", &big(3000)));
        refused(both(&big(2000)));
        refused(retained("a", &big(5000)));
        // With a close, which does not come either.
        let mut closing = retained("c", &big(3000));
        closing["close"] = json!(true);
        refused(closing);
        // None of it was stored, and what was there is there.
        let client = assert_gets(&stage, has_history, &["b", "c"], &[]);
        client.reset();
        let value = format!("data: {}\n\n", big(3000));
        let client = assert_gets(&stage, has_history, &["a"], &[&value]);
        client.reset();
        for _ in 0..2 {
            expected.push("end".to_owned());
        }
        // What is not to be stored goes.
        expected.push(stage.send(&json!({"channel": "b", "event": {"data": big(9000)}})));
        // Something smaller in its place makes room, and so does nothing.
        expected.push(stage.send(&retained("a", &big(1000))));
        expected.push(stage.send(&retained("b", &big(2000))));
        refused(retained("c", &big(2000)));
        expected.push(stage.send(&retained("a", "")));
        expected.push(stage.send(&retained("c", &big(1500))));
        for text in &expected {
            let next = member.next_event();
            assert!(
                &next == text || text == "end" && next.ends_with("data: end\n\n"),
                "{next}"
            );
        }
        let line = stage
            .gateway
            .wait_log_all(&["[WARN]", "limit=MAX_RETAINED_BYTES"]);
        assert!(line.is_error);
        stage.end([member]);
    }
}

/// Nothing may be stored; clearing is no storing.
#[test]
fn without_room_there_are_no_values() {
    let stage = Stage::with(&[("MAX_RETAINED_BYTES", "0"), ("HISTORY_BYTES", "1000000")]);
    let (mut member, connect) = stage.ask(None);
    let before = connect.json["position"].as_str().expect("one").to_owned();
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(member.read_head().status, 200);
    assert_next(&mut member, [position(&before)]);
    let response = post_send(&stage.gateway, &retained("c", "x"));
    assert_error(&response, 503, "RETAINED_FULL");
    let response = post_send(&stage.gateway, &retained("nobody", "x"));
    assert_error(&response, 503, "RETAINED_FULL");
    let (mut other, connect) = stage.ask(None);
    assert_eq!(connect.json["position"], json!(before), "nothing was kept");
    connect.answer(200, r#"{"channels":["c"],"last_event_id":"earliest"}"#);
    assert_eq!(other.read_head().status, 200);
    assert_next(&mut other, [position(&before)]);
    let cleared = stage.send(&retained("c", ""));
    let plain = stage.send(&json!({"channel": "c", "event": {"data": "x", "retain": false}}));
    for client in [&mut member, &mut other] {
        assert_next(client, [&cleared, &plain]);
    }
    stage.end([member, other]);
}
