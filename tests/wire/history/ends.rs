//! What ends a stream, or its membership, in the middle of a long replay.

use serde_json::{Value, json};

use super::slow::{ask, publish_all};
use super::{Stage, assert_next, event, numbers, position};
use crate::channels::to_channel;
use crate::support::{Client, OK, assert_error, assert_ok, assert_sent, post_send, send_close};

/// A stream that has far more to come than all buffers hold.
struct Replaying {
    stage: Stage,
    client: Client,
    token: String,
    /// What is to come.
    all: Vec<String>,
}

impl Replaying {
    fn new() -> Replaying {
        Replaying::with_large(100)
    }

    /// The event of this number is a large one.
    fn with_large(large: usize) -> Replaying {
        let mut it = Replaying::answered(large, r#"{"channels":["c","d"]}"#);
        // More than is on its way has been taken in.
        assert_next(&mut it.client, &it.all[..20]);
        it
    }

    /// Nothing is read behind the head.
    fn answered(large: usize, answer: &str) -> Replaying {
        let stage = Stage::with(&[("HISTORY_BYTES", "100000000")]);
        let begin = stage.to("x", "begin");
        let commands: Vec<Value> = (0..150)
            .map(|number| match number == large {
                true => to_channel("c", &"y".repeat(500_000)),
                false => to_channel("c", &format!("{number:010000}")),
            })
            .collect();
        let all = publish_all(&stage, &commands);
        let (mut client, connect) = ask(&stage, "HTTP/1.1", Some(&begin));
        connect.answer(200, answer);
        assert_eq!(client.read_head().status, 200);
        Replaying {
            stage,
            client,
            token: connect.token(),
            all,
        }
    }

    /// An event of its own for the stream, which waits.
    #[track_caller]
    fn send(&self, data: &str) {
        let command = json!({"token": self.token, "event": {"data": data}});
        assert!(assert_sent(&post_send(&self.stage.gateway, &command)) > 0);
    }

    /// All that was to come has come.
    #[track_caller]
    fn assert_all(&mut self) {
        assert_next(&mut self.client, &self.all[20..]);
    }

    #[track_caller]
    fn assert_unknown(&self) {
        for command in [
            json!({"token": self.token}),
            json!({"token": self.token, "event": {"data": "never"}}),
            json!({"token": self.token, "subscribe": ["e"], "last_event_id": "earliest"}),
            json!({"token": self.token, "unsubscribe": ["c"], "close": true}),
        ] {
            let response = post_send(&self.stage.gateway, &command);
            assert_error(&response, 404, "TOKEN_NOT_FOUND");
        }
        let command = json!({"tokens": [self.token], "event": {"data": "never"}});
        let body = format!(
            r#"{{"status":"ok","receivers":0,"unknown":["{}"]}}"#,
            self.token
        );
        assert_ok(&post_send(&self.stage.gateway, &command), &body);
    }

    /// A send to many that reaches nobody.
    #[track_caller]
    fn assert_nobody(&self, command: &Value) {
        let response = post_send(&self.stage.gateway, command);
        let json: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(json["receivers"], 0, "{command} {json}");
    }

    /// The stream's clean end, perhaps behind its position, and its one disconnect. Whoever is told of
    /// a position beyond the last event before the close would miss what came behind it.
    #[track_caller]
    fn assert_closed(mut self, last: &str) {
        let rest = String::from_utf8(self.client.read_to_end()).expect("text");
        if let Some(told) = rest.lines().find_map(|line| line.strip_prefix("id: ")) {
            assert!(numbers(told) <= numbers(last), "{told} {last}");
        }
        assert!(
            rest.ends_with("0\r\n\r\n") && !rest.contains("data"),
            "{rest}"
        );
        let gone = self.stage.backend.next_disconnect_of(&self.token);
        assert_eq!(gone.reason(), "server_closed");
        self.stage.end([]);
        self.stage.backend.assert_idle();
    }
}

/// By its token: the end comes after everything, the token is unknown at once.
#[test]
fn a_close_by_token_comes_behind_everything() {
    for has_event in [true, false] {
        let mut it = Replaying::new();
        it.send("own");
        let later = it.stage.to("d", "later");
        if has_event {
            let close = json!({"token": it.token, "event": {"data": "bye"}, "close": true});
            assert!(assert_sent(&post_send(&it.stage.gateway, &close)) > 0);
        } else {
            assert_ok(&send_close(&it.stage.gateway, &it.token), OK);
        }
        it.assert_unknown();
        it.assert_nobody(&to_channel("c", "never"));
        it.assert_nobody(&json!({"channels": ["c", "d"], "event": {"data": "never"}}));
        it.assert_nobody(&json!({"broadcast": true, "event": {"data": "never"}}));
        it.assert_all();
        assert_next(&mut it.client, ["data: own\n\n", &event(&later, "later")]);
        if has_event {
            assert_next(&mut it.client, ["data: bye\n\n"]);
        }
        it.assert_closed(&later);
    }
}

#[test]
fn a_close_by_channel_comes_behind_everything() {
    for target in [
        json!({"channel": "c"}),
        json!({"channels": ["x", "d"]}),
        json!({"broadcast": true}),
    ] {
        let mut it = Replaying::new();
        it.send("own");
        let mut command = target;
        command["event"] = json!({"data": "bye"});
        command["close"] = json!(true);
        let bye = it.stage.publish(&command);
        it.assert_unknown();
        it.assert_nobody(&to_channel("c", "never"));
        it.assert_all();
        assert_next(&mut it.client, ["data: own\n\n", &event(&bye, "bye")]);
        it.assert_closed(&bye);
    }
}

/// What was sent there before comes still, and nothing behind it; what is in other channels does.
#[test]
fn an_unsubscription_in_the_middle() {
    let mut it = Replaying::new();
    let before = it.stage.to("c", "before");
    it.send("own");
    let leave = json!({"token": it.token, "unsubscribe": ["c"], "event": {"data": "left"}});
    assert!(assert_sent(&post_send(&it.stage.gateway, &leave)) > 0);
    it.assert_nobody(&to_channel("c", "never"));
    let both = json!({"channels": ["c", "d"], "event": {"data": "both"}});
    let both = it.stage.publish(&both);
    // It comes back, from now on.
    let join = json!({"token": it.token, "subscribe": ["c"], "event": {"data": "joined"}});
    assert!(assert_sent(&post_send(&it.stage.gateway, &join)) > 0);
    let last = it.stage.to("c", "last");
    it.assert_all();
    assert_next(&mut it.client, [&event(&before, "before"), "data: own\n\n"]);
    assert_next(&mut it.client, ["data: left\n\n", &event(&both, "both")]);
    assert_next(&mut it.client, ["data: joined\n\n", &event(&last, "last")]);
    assert_next(&mut it.client, [position(&last)]);
    let live = it.stage.to("c", "live");
    assert_next(&mut it.client, [event(&live, "live")]);
    it.stage.end([it.client]);
}

/// Channels that are joined in the middle, with a past and without.
#[test]
fn a_subscription_in_the_middle() {
    let mut it = Replaying::new();
    let past = [it.stage.to("e", "0"), it.stage.to("f", "1")];
    for (name, last_event_id) in [("e", "earliest"), ("f", ""), ("g", "earliest")] {
        let command = json!({
            "token": it.token, "subscribe": [name], "last_event_id": last_event_id,
        });
        assert_ok(&post_send(&it.stage.gateway, &command), OK);
    }
    let later = ["e", "f", "g"].map(|name| it.stage.to(name, "later"));
    assert!(numbers(&past[1]) < numbers(&later[0]));
    it.assert_all();
    assert_next(&mut it.client, [event(&past[0], "0")]);
    for id in &later {
        assert_next(&mut it.client, [event(id, "later")]);
    }
    assert_next(&mut it.client, [position(&later[2])]);
    it.stage.end([it.client]);
}

#[test]
fn a_client_that_leaves_in_the_middle() {
    let mut it = Replaying::new();
    it.send("never");
    let other = it.stage.gateway.connect();
    std::mem::replace(&mut it.client, other).reset();
    let gone = it.stage.backend.next_disconnect_of(&it.token);
    assert_eq!(gone.reason(), "client_closed");
    it.assert_unknown();
    it.assert_nobody(&to_channel("c", "never"));
    it.stage.end([]);
    it.stage.backend.assert_idle();
}

/// It ends cleanly where it is, behind a whole event.
#[test]
fn a_shutdown_in_the_middle() {
    // The second of them has begun with the large one.
    for large in [100, 28] {
        let mut it = Replaying::with_large(large);
        it.send("never");
        it.stage.gateway.signal("TERM");
        let mut got = 20;
        loop {
            let chunk = it.client.next_chunk();
            if chunk.is_empty() {
                break;
            }
            assert_eq!(String::from_utf8_lossy(&chunk), it.all[got], "{got}");
            got += 1;
        }
        it.client.expect_eof();
        assert!(got < it.all.len(), "{got}");
        let gone = it.stage.backend.next_disconnect_of(&it.token);
        assert_eq!(gone.reason(), "server_closed");
        assert!(it.stage.gateway.wait_exit().success());
        it.stage.end([]);
        it.stage.backend.assert_idle();
    }
}

/// So it does when its time is over, and its client comes back for the rest.
#[test]
fn an_expiry_in_the_middle() {
    let answer = r#"{"channels":["c","d"],"expires_in":0.5}"#;
    let mut it = Replaying::answered(100, answer);
    let gone = it.stage.backend.next_disconnect_of(&it.token);
    assert_eq!(gone.reason(), "server_closed");
    it.assert_unknown();
    let mut got = 0;
    loop {
        let chunk = it.client.next_chunk();
        if chunk.is_empty() {
            break;
        }
        assert_eq!(String::from_utf8_lossy(&chunk), it.all[got], "{got}");
        got += 1;
    }
    it.client.expect_eof();
    assert!((1..it.all.len()).contains(&got), "{got}");
    let last = &it.all[got - 1];
    let last = last.lines().find_map(|line| line.strip_prefix("id: "));
    let (mut client, connect) = ask(&it.stage, "HTTP/1.1", last);
    connect.answer(200, r#"{"channels":["c","d"]}"#);
    assert_eq!(client.read_head().status, 200);
    assert_next(&mut client, &it.all[got..]);
    it.stage.end([client]);
}

/// The same when it was closed before and is not there yet: it has its end, and one disconnect.
#[test]
fn a_shutdown_behind_a_close_in_the_middle() {
    let mut it = Replaying::new();
    assert_ok(&send_close(&it.stage.gateway, &it.token), OK);
    it.stage.gateway.signal("TERM");
    let rest = it.client.read_to_end();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"));
    let gone = it.stage.backend.next_disconnect_of(&it.token);
    assert_eq!(gone.reason(), "server_closed");
    assert!(it.stage.gateway.wait_exit().success());
    it.stage.end([]);
    it.stage.backend.assert_idle();
}
