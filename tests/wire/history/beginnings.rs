//! Where a stream begins in the channels that it joins.

use serde_json::{Value, json};

use super::{Stage, assert_next, assert_next_or_position, event, gap, position, request};
use crate::support::{BUFFERED, OK, assert_error, assert_ok, post_send};

/// Four events: of the channel, of another one, of all, of the channel.
fn four(stage: &Stage) -> [String; 4] {
    [
        stage.to("c", "0"),
        stage.to("other", "never"),
        stage.to_all("2"),
        stage.to("c", "3"),
    ]
}

/// What comes to a member of the channel from the event of this number on.
fn from(ids: &[String; 4], first: usize) -> Vec<String> {
    let all = [(0, "0"), (2, "2"), (3, "3")];
    let behind = all.into_iter().filter(|(at, _)| *at >= first);
    let mut texts: Vec<String> = behind.map(|(at, data)| event(&ids[at], data)).collect();
    texts.push(position(&ids[3]));
    texts
}

/// Nothing, for an answer.
fn none() -> Value {
    Value::Null
}

#[test]
fn the_client_says_it_unless_the_answer_does() {
    let stage = Stage::new();
    let before = stage.to("c", "before");
    let ids = four(&stage);
    let [first, second, third, fourth] = &ids;
    let (nowhere, all) = (4, 0);
    let table = [
        // The client.
        (None, none(), nowhere),
        (Some(before.as_str()), none(), 0),
        (Some(first.as_str()), none(), 1),
        (Some(second.as_str()), none(), 2),
        (Some(third.as_str()), none(), 3),
        (Some(fourth.as_str()), none(), nowhere),
        (Some(""), none(), nowhere),
        (Some(" "), none(), nowhere),
        // The answer.
        (None, json!(first), 1),
        (None, json!(third), 3),
        (None, json!(""), nowhere),
        // Both.
        (Some(first.as_str()), json!(third), 3),
        (Some(third.as_str()), json!(before), all),
        (Some(first.as_str()), json!(""), nowhere),
        (Some("earliest"), json!(third), 3),
        (Some("no id"), json!(third), 3),
    ];
    for (header, last_event_id, first) in table {
        let what = format!("{header:?} {last_event_id}");
        println!("{what}");
        let answer = json!({"channels": ["c"], "last_event_id": last_event_id});
        let (mut client, _) = stage.visit(header, &answer);
        assert_next(&mut client, from(&ids, first));
        client.reset();
    }
    // All that is kept has one event more.
    for (header, last_event_id) in [
        (Some("earliest"), none()),
        (None, json!("earliest")),
        (Some(fourth.as_str()), json!("earliest")),
        (Some("no id"), json!("earliest")),
    ] {
        let answer = json!({"channels": ["c"], "last_event_id": last_event_id});
        let (mut client, _) = stage.visit(header, &answer);
        assert_next(&mut client, [event(&before, "before")]);
        assert_next(&mut client, from(&ids, 0));
        client.reset();
    }
    assert_eq!(stage.gateway.count_log("[ERROR]"), 0);
    stage.end([]);
}

/// It is absent then, and the log tells.
#[test]
fn a_last_event_id_of_a_wrong_type_in_an_answer() {
    let stage = Stage::new();
    let ids = four(&stage);
    for (at, wrong) in [json!(7), json!(true), json!({}), json!(["earliest"])]
        .into_iter()
        .enumerate()
    {
        let answer = json!({"channels": ["c"], "last_event_id": wrong, "event": {"data": "x"}});
        let header = (at % 2 == 0).then_some(ids[0].as_str());
        let (mut client, token) = stage.visit(header, &answer);
        assert_next(&mut client, ["data: x\n\n"]);
        let first = if header.is_some() { 1 } else { 4 };
        assert_next(&mut client, from(&ids, first));
        let line = stage
            .gateway
            .wait_log_all(&["[ERROR]", &token, "last_event_id"]);
        assert!(line.is_error);
        client.reset();
    }
    stage.end([]);
}

/// Names of fields have no case, and who speaks HTTP/1.0 comes again like others.
#[test]
fn the_field_of_the_client_as_it_may_be_written() {
    let stage = Stage::new();
    let ids = four(&stage);
    for field in ["last-event-id:", "LAST-EVENT-ID: \t", "Last-Event-Id: "] {
        let id = &ids[0];
        let mut client = stage.gateway.connect();
        client.send(format!("GET /s HTTP/1.1\r\nHost: h\r\n{field}{id}\r\n\r\n"));
        let connect = stage.backend.next_connect();
        assert_eq!(
            connect.json["request"]["headers"]["last-event-id"],
            json!(id)
        );
        connect.answer(200, r#"{"channels":["c"]}"#);
        assert_eq!(client.read_head().status, 200);
        assert_next(&mut client, from(&ids, 1));
        client.reset();
    }
    let mut old = stage.gateway.connect();
    old.send(request("HTTP/1.0", Some(&ids[0])));
    stage
        .backend
        .next_connect()
        .answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(old.read_head().status, 200);
    assert_next(&mut old, from(&ids, 1));
    stage.end([old]);
}

/// Nothing falls between what the backend has read while it held the callback and the stream,
/// although the channel is joined by the answer only; nothing comes twice.
#[test]
fn without_a_word_it_begins_at_the_position_of_the_callback() {
    let stage = Stage::new();
    stage.to("c", "never");
    stage.to_all("never");
    for header in [None, Some("")] {
        let (mut client, connect) = stage.ask(header);
        let ids = four(&stage);
        connect.answer(200, r#"{"channels":["c"]}"#);
        assert_eq!(client.read_head().status, 200);
        assert_next(&mut client, from(&ids, 0));
        let id = stage.to("c", "live");
        assert_next(&mut client, [event(&id, "live")]);
        client.reset();
    }
    // The answer may say so itself, or that it begins only now.
    let (mut client, connect) = stage.ask(None);
    let ids = four(&stage);
    let answer = json!({"channels": ["c"], "last_event_id": connect.json["position"]});
    connect.answer(200, &answer.to_string());
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, from(&ids, 0));
    let (mut late, connect) = stage.ask(Some(&ids[0]));
    let ids = four(&stage);
    connect.answer(200, r#"{"channels":["c"],"last_event_id":""}"#);
    assert_eq!(late.read_head().status, 200);
    assert_next(&mut late, [position(&ids[3])]);
    stage.end([client, late]);
}

/// A stream without channels gets the broadcasts that it has missed.
#[test]
fn a_stream_in_no_channel_has_missed_broadcasts() {
    let stage = Stage::new();
    let ids = four(&stage);
    let (mut client, _) = stage.visit(Some(&ids[0]), &json!({}));
    assert_next(&mut client, [event(&ids[2], "2"), position(&ids[3])]);
    let (mut other, connect) = stage.ask(None);
    let id = stage.to_all("window");
    connect.answer(200, "");
    assert_eq!(other.read_head().status, 200);
    for client in [&mut client, &mut other] {
        assert_next(client, [event(&id, "window")]);
    }
    assert_next(&mut other, [position(&id)]);
    stage.end([client, other]);
}

/// The one that a send names, else now; whoever is in it already has it all.
#[test]
fn an_open_stream_that_subscribes() {
    let stage = Stage::new();
    let ids = [stage.to("c", "0"), stage.to("c", "1"), stage.to("d", "2")];
    let table: [(Value, &[usize]); 5] = [
        (json!(ids[0]), &[1]),
        (json!("earliest"), &[0, 1]),
        (json!(""), &[]),
        (none(), &[]),
        (json!("no id of ours"), &[]),
    ];
    for (last_event_id, brought) in table {
        println!("{last_event_id}");
        let (mut client, token) = stage.join(&["d"], None);
        let now = client.next_event();
        let mut command = json!({
            "token": token, "subscribe": ["c"], "event": {"data": "own"},
        });
        if !last_event_id.is_null() {
            command["last_event_id"] = last_event_id.clone();
        }
        assert_eq!(post_send(&stage.gateway, &command).status(), 200);
        if last_event_id == "no id of ours" {
            assert_next(&mut client, [gap("no id of ours")]);
        }
        for at in brought {
            assert_next(&mut client, [event(&ids[*at], &at.to_string())]);
        }
        assert_next(&mut client, ["data: own\n\n"]);
        if !brought.is_empty() {
            assert_next(&mut client, [&now]);
        }
        // Once more is nothing, whatever it says.
        for last_event_id in ["earliest", "", &ids[0], "no id of ours"] {
            let command =
                json!({"token": token, "subscribe": ["c", "d"], "last_event_id": last_event_id});
            stage.post(&command, OK);
        }
        let (c, d) = (stage.to("c2", "never"), stage.to("d", "live"));
        assert!(super::numbers(&c) < super::numbers(&d));
        assert_next_or_position(&mut client, &event(&d, "live"));
        client.reset();
    }
    stage.end([]);
}

/// What happens in the window stands in its place among what is buffered there.
#[test]
fn subscribing_during_the_callback() {
    let stage = Stage::new();
    let old = [stage.to("c", "old"), stage.to("d", "old")];
    let (mut client, connect) = stage.ask(None);
    let token = connect.token();
    let unheard = stage.to("c", "unheard");
    let joins = json!({"token": token, "subscribe": ["c"]});
    stage.post(&joins, BUFFERED);
    let heard = stage.to("c", "heard");
    let joins = json!({"token": token, "subscribe": ["d"], "last_event_id": "earliest"});
    stage.post(&joins, BUFFERED);
    let last = stage.to("d", "last");
    // Again, and from elsewhere: it is in it.
    let joins = json!({"token": token, "subscribe": ["c"], "last_event_id": old[0]});
    stage.post(&joins, BUFFERED);
    connect.answer(200, r#"{"event":{"data":"first"}}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, ["data: first\n\n"]);
    assert_next(&mut client, [event(&old[1], "old"), event(&heard, "heard")]);
    assert_next(&mut client, [event(&last, "last"), position(&last)]);
    assert!(super::numbers(&unheard) < super::numbers(&heard));
    stage.end([client]);
}

/// Wrong in type, it refuses a send, which changes nothing then.
#[test]
fn a_last_event_id_of_a_wrong_type_in_a_send() {
    let stage = Stage::new();
    let (mut client, token) = stage.join(&["d"], None);
    client.next_event();
    for wrong in [json!(7), json!(false), json!({}), json!(["1-1"])] {
        let command = json!({
            "token": token, "unsubscribe": ["d"], "subscribe": ["c"], "last_event_id": wrong,
            "event": {"data": "never"}, "close": true,
        });
        let response = post_send(&stage.gateway, &command);
        assert_error(&response, 400, "INVALID_EVENT_ID");
    }
    stage.to("c", "never");
    let id = stage.to("d", "d");
    assert_next(&mut client, [event(&id, "d")]);
    // Null is absent, as in what stands beside it.
    let command = json!({"token": token, "subscribe": ["c"], "last_event_id": null});
    assert_ok(&post_send(&stage.gateway, &command), OK);
    let id = stage.to("c", "c");
    assert_next(&mut client, [event(&id, "c")]);
    stage.end([client]);
}
