//! What was missed comes in order, each event once, merged with what was buffered; then comes the
//! position, then what is live.

use serde_json::json;

use super::{Stage, assert_next, assert_next_or_position, event, gap, position, request};
use crate::channels::pipeline;
use crate::support::{BUFFERED, OK};

#[test]
fn an_event_for_several_channels_comes_once() {
    let stage = Stage::new();
    let begin = stage.to("x", "begin");
    let commands: Vec<_> = (0..60)
        .map(|number| {
            let mut command = match number % 6 {
                0 => json!({"channel": "a"}),
                1 => json!({"channels": ["b", "a"]}),
                2 => json!({"broadcast": true}),
                3 => json!({"channels": ["x", "c", "b", "a"]}),
                4 => json!({"channels": ["x", "y"]}),
                _ => json!({"channels": ["c", "x"]}),
            };
            command["event"] = json!({"data": number.to_string()});
            command
        })
        .collect();
    let answers = pipeline(&stage.gateway, &commands);
    let ids: Vec<String> = answers.iter().map(super::id_of).collect();
    let last = ids.last().expect("one");
    let table: [(&[&str], &[usize]); 5] = [
        (&["a", "b", "c"], &[0, 1, 2, 3, 5]),
        (&["a", "b"], &[0, 1, 2, 3]),
        (&["c"], &[2, 3, 5]),
        (&["y"], &[2, 4]),
        (&[], &[2]),
    ];
    let mut clients = Vec::new();
    for (channels, kinds) in table {
        let (mut client, _) = stage.join(channels, Some(&begin));
        for number in (0..60).filter(|number| kinds.contains(&(number % 6))) {
            let expected = event(&ids[number], &number.to_string());
            assert_next(&mut client, [expected]);
        }
        assert_next(&mut client, [position(last)]);
        clients.push(client);
    }
    let live = json!({"channels": ["a", "b", "c", "y"], "event": {"data": "live"}});
    let live = stage.publish(&live);
    for client in &mut clients[..4] {
        assert_next(client, [event(&live, "live")]);
    }
    let end = stage.to_all("end");
    for client in &mut clients {
        assert_next(client, [event(&end, "end")]);
    }
    stage.end(clients);
}

/// In the window too: by the order in which everything was read.
#[test]
fn what_was_buffered_stands_where_it_was_read() {
    let stage = Stage::new();
    let begin = stage.to("c", "begin");
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let missed = stage.to("c", "missed");
        let mut client = stage.gateway.connect();
        client.send(request(version, Some(&begin)));
        let connect = stage.backend.next_connect();
        let token = connect.token();
        let by_token = |data: &str| {
            let command = json!({"token": token, "event": {"data": data}});
            stage.post(&command, BUFFERED);
        };
        by_token("1");
        by_token("2");
        let third = stage.to("c", "3");
        by_token("4");
        let fifth = stage.to_all("5");
        let tokens = json!({"tokens": [token], "event": {"data": "6"}});
        stage.post(&tokens, r#"{"status":"ok","receivers":1}"#);
        let seventh = stage.to("c", "7");
        let answer = r#"{"channels":["c"],"event":{"name":"n","data":"first"}}"#;
        connect.answer(200, answer);
        assert_eq!(client.read_head().status, 200);
        assert_next(&mut client, ["event: n\ndata: first\n\n"]);
        while client.next_event() != event(&missed, "missed") {}
        assert_next(&mut client, ["data: 1\n\n", "data: 2\n\n"]);
        assert_next(&mut client, [&event(&third, "3"), "data: 4\n\n"]);
        assert_next(&mut client, [&event(&fifth, "5"), "data: 6\n\n"]);
        assert_next(&mut client, [event(&seventh, "7"), position(&seventh)]);
        let live = stage.to("c", "live");
        stage.post(&json!({"token": token, "event": {"data": "own"}}), OK);
        assert_next(&mut client, [&event(&live, "live"), "data: own\n\n"]);
        client.reset();
    }
    stage.end([]);
}

/// Also when nothing was missed and nobody was ever sent anything.
#[test]
fn the_position_comes_in_any_case() {
    let stage = Stage::new();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for answer in [
            "",
            "{}",
            "no JSON",
            r#"{"channels":["c"]}"#,
            r#"{"channels":["c"],"last_event_id":""}"#,
            r#"{"channels":["c"],"last_event_id":"earliest"}"#,
        ] {
            let mut client = stage.gateway.connect();
            client.send(request(version, None));
            let connect = stage.backend.next_connect();
            let now = connect.json["position"].as_str().expect("one").to_owned();
            connect.answer(200, answer);
            assert_eq!(client.read_head().status, 200);
            assert_next(&mut client, [position(&now)]);
            client.reset();
            // Whoever has that has all, and is told so again.
            let (mut again, _) = stage.join(&["c"], Some(&now));
            assert_next(&mut again, [position(&now)]);
            again.reset();
        }
    }
    stage.end([]);
}

/// A close in the answer: nothing of the past.
#[test]
fn an_answer_that_closes_brings_nothing() {
    let stage = Stage::new();
    stage.to("c", "never");
    let answer = json!({
        "channels": ["c"], "last_event_id": "earliest", "close": true, "event": {"data": "x"},
    });
    let (mut client, token) = stage.visit(None, &answer);
    assert_next(&mut client, ["data: x\n\n"]);
    client.expect_last_chunk_and_eof();
    let gone = stage.backend.next_disconnect_of(&token);
    assert_eq!(gone.reason(), "server_closed");
    stage.end([]);
}

/// A close in the window: what came before it comes, what came behind it does not.
#[test]
fn a_close_in_the_window_stands_where_it_was_read() {
    let stage = Stage::new();
    let begin = stage.to("c", "begin");
    let missed = stage.to("c", "missed");
    let (mut client, connect) = stage.ask(Some(&begin));
    let token = connect.token();
    stage.post(&json!({"token": token, "event": {"data": "1"}}), BUFFERED);
    let second = stage.to("c", "2");
    let close = json!({"token": token, "event": {"data": "3"}, "close": true});
    stage.post(&close, BUFFERED);
    stage.post(
        &json!({"token": token, "event": {"data": "never"}}),
        BUFFERED,
    );
    stage.to("c", "never");
    stage.to_all("never");
    connect.answer(200, r#"{"channels":["c"],"event":{"data":"0"}}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, ["data: 0\n\n", &event(&missed, "missed")]);
    assert_next(
        &mut client,
        ["data: 1\n\n", &event(&second, "2"), "data: 3\n\n"],
    );
    let end = String::from_utf8(client.read_to_end()).expect("text");
    assert!(
        !end.contains("data") && end.ends_with("0\r\n\r\n"),
        "{end:?}"
    );
    if let Some(told) = end.lines().find_map(|line| line.strip_prefix("id: ")) {
        assert!(super::numbers(told) <= super::numbers(&second), "{told}");
    }
    assert_eq!(stage.backend.next_disconnect().reason(), "server_closed");
    stage.end([]);
}

/// The answer's event, then the gap, then what was buffered.
#[test]
fn a_gap_stands_in_the_place_of_what_was_missed() {
    let stage = Stage::new();
    stage.to("c", "never");
    let (mut client, connect) = stage.ask(Some("1-1"));
    let token = connect.token();
    stage.post(&json!({"token": token, "event": {"data": "own"}}), BUFFERED);
    connect.answer(200, r#"{"channels":["c"],"event":{"data":"first"}}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(
        &mut client,
        ["data: first\n\n", &gap("1-1"), "data: own\n\n"],
    );
    let now = client.next_event();
    let (mut other, connect) = stage.ask(None);
    assert_eq!(connect.json["position"], json!(now[4..].trim_end()));
    connect.answer(200, "");
    assert_eq!(other.read_head().status, 200);
    let live = stage.to("c", "live");
    assert_next(&mut client, [event(&live, "live")]);
    stage.end([client, other]);
}

/// The past that a subscription brings is followed by the position as well, and what is live meanwhile
/// is not brought twice.
#[test]
fn a_subscription_with_a_past() {
    let stage = Stage::new();
    let past = [stage.to("c", "0"), stage.to("d", "1"), stage.to("c", "2")];
    let (mut client, token) = stage.join(&["d"], None);
    let mut last = past[2].clone();
    assert_next(&mut client, [position(&last)]);
    for (name, expected) in [("c", &[0, 2][..]), ("e", &[]), ("f", &[])] {
        let command = json!({"token": token, "subscribe": [name], "last_event_id": "earliest"});
        stage.post(&command, OK);
        for at in expected {
            assert_next(&mut client, [event(&past[*at], &at.to_string())]);
        }
        if !expected.is_empty() {
            assert_next(&mut client, [position(&last)]);
        }
        let both = json!({"channels": [name, "d"], "event": {"data": "both"}});
        last = stage.publish(&both);
        if expected.is_empty() {
            // Nothing was kept: whether it is told where it is again is nobody's business.
            assert_next_or_position(&mut client, &event(&last, "both"));
        } else {
            assert_next(&mut client, [event(&last, "both")]);
        }
    }
    stage.end([client]);
}
