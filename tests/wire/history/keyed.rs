//! Of events with a key a replay brings the last only.

use serde_json::{Value, json};

use super::{Stage, assert_next, event, position};
use crate::support::{BUFFERED, Client};

fn keyed(target: &Value, key: &str, data: &str) -> Value {
    let mut command = target.clone();
    command["event"] = json!({"data": data, "key": key});
    command
}

#[test]
fn the_last_of_each_key_comes() {
    let stage = Stage::new();
    let begin = stage.to("x", "begin");
    let (a, b) = (json!({"channel": "a"}), json!({"channel": "b"}));
    let (both, all) = (json!({"channels": ["a", "b"]}), json!({"broadcast": true}));
    let commands = [
        (&a, Some("k"), 0),
        (&a, None, 1),
        (&b, Some("k"), 2),
        (&a, Some("l"), 3),
        (&a, Some("k"), 4),
        (&b, Some("k"), 5),
        (&b, None, 6),
        (&both, Some("m"), 7),
        (&all, Some("n"), 8),
        (&a, Some("m"), 9),
        (&a, Some("n"), 10),
        (&b, Some("l"), 11),
    ];
    let ids: Vec<String> = commands
        .iter()
        .map(|(target, key, number)| {
            let data = number.to_string();
            let mut command = keyed(target, key.unwrap_or("none"), &data);
            if key.is_none() {
                command["event"] = json!({"data": data});
            }
            stage.publish(&command)
        })
        .collect();
    // Keys are the stream's: what comes by another of its channels counts, what comes by a channel
    // that it is not in does not.
    let table: [(&[&str], &str, &[usize]); 7] = [
        (&["a", "b"], &begin, &[1, 5, 6, 9, 10, 11]),
        (&["a"], &begin, &[1, 3, 4, 9, 10]),
        (&["b"], &begin, &[5, 6, 7, 8, 11]),
        (&[], &begin, &[8]),
        (&["a"], &ids[3], &[4, 9, 10]),
        (&["a"], &ids[4], &[9, 10]),
        (&["a", "b"], "earliest", &[1, 5, 6, 9, 10, 11]),
    ];
    let mut clients: Vec<Client> = Vec::new();
    for (channels, begin, expected) in table {
        let (mut client, _) = stage.join(channels, Some(begin));
        for number in expected {
            assert_next(&mut client, [event(&ids[*number], &number.to_string())]);
        }
        assert_next(&mut client, [position(&ids[11])]);
        clients.push(client);
    }
    // Who keeps up gets every step, also of a key that is known.
    for data in ["1", "2", "3"] {
        let id = stage.publish(&keyed(&all, "k", data));
        for client in &mut clients {
            assert_next(client, [event(&id, data)]);
        }
    }
    stage.end(clients);
}

/// What comes to channels during the callback is of the history too.
#[test]
fn the_last_of_each_key_from_before_and_during_the_callback() {
    let stage = Stage::new();
    let begin = stage.to("x", "begin");
    let c = json!({"channel": "c"});
    stage.publish(&keyed(&c, "k", "old"));
    let other = stage.publish(&keyed(&c, "l", "other"));
    let (mut client, connect) = stage.ask(Some(&begin));
    stage.post(
        &json!({"token": connect.token(), "event": {"data": "own"}}),
        BUFFERED,
    );
    stage.publish(&keyed(&c, "k", "newer"));
    let last = stage.publish(&keyed(&c, "k", "newest"));
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, [&event(&other, "other"), "data: own\n\n"]);
    assert_next(&mut client, [event(&last, "newest"), position(&last)]);
    stage.end([client]);
}

/// Large ones are kept in another way than small ones.
#[test]
fn keys_of_large_events() {
    let stage = Stage::with(&[("HISTORY_BYTES", "10000000")]);
    let begin = stage.to("x", "begin");
    let c = json!({"channel": "c"});
    let large = |letter: &str| letter.repeat(200_000);
    let key = "k".repeat(200);
    let mut ids = Vec::new();
    for (key, data) in [
        (key.as_str(), large("a")),
        ("l", large("b")),
        (&key, "c".to_owned()),
        ("l", large("d")),
        (&key[1..], large("e")),
    ] {
        ids.push((stage.publish(&keyed(&c, key, &data)), data));
    }
    let (mut client, _) = stage.join(&["c"], Some(&begin));
    for (id, data) in &ids[2..] {
        assert_next(&mut client, [event(id, data)]);
    }
    assert_next(&mut client, [position(&ids[4].0)]);
    stage.end([client]);
}

/// Keys are the stream's, whichever way an event came: what is still to come from the history is taken
/// out by an event by token, and the other way round.
#[test]
fn keys_of_events_by_token_and_by_channel() {
    let stage = Stage::new();
    let c = json!({"channel": "c"});
    let (mut client, connect) = stage.ask(None);
    let token = json!({"token": connect.token()});
    let by_token = |key: &str, data: &str| stage.post(&keyed(&token, key, data), BUFFERED);
    let join = json!({"token": connect.token(), "subscribe": ["c"]});
    stage.post(&join, BUFFERED);
    by_token("k", "1");
    by_token("l", "2");
    stage.publish(&keyed(&c, "k", "3"));
    by_token("k", "4");
    stage.publish(&keyed(&c, "m", "5"));
    let last = stage.publish(&keyed(&c, "l", "6"));
    by_token("m", "7");
    connect.answer(200, "{}");
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, ["data: 4\n\n", &event(&last, "6")]);
    assert_next(&mut client, ["data: 7\n\n", &position(&last)]);
    stage.end([client]);
}

/// A current value that was read later takes out what waits, though it comes in front of it.
#[test]
fn a_value_with_the_key_of_what_waits() {
    let stage = Stage::new();
    let c = json!({"channel": "c"});
    let (mut client, connect) = stage.ask(None);
    let token = json!({"token": connect.token()});
    stage.post(&keyed(&token, "k", "old"), BUFFERED);
    stage.post(&keyed(&token, "l", "other"), BUFFERED);
    let mut value = keyed(&c, "k", "new");
    value["event"]["retain"] = json!(true);
    let last = stage.publish(&value);
    connect.answer(200, r#"{"channels":["c"],"last_event_id":""}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, ["data: new\n\n", "data: other\n\n"]);
    assert_next(&mut client, [position(&last)]);
    stage.end([client]);
}
