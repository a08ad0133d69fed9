//! A replay is taken from the history as the socket takes it: whoever reads slowly gets all of it,
//! and what was sent meanwhile in its place, or learns that it was overtaken.

use serde_json::{Value, json};

use super::{Stage, assert_next, event, gap, id_of, position, request};
use crate::channels::{pipeline, to_channel};
use crate::support::{Callback, Client, OK, assert_ok, assert_sent, post_send};

/// Room for all that these tests send.
const LARGE: &[(&str, &str)] = &[("HISTORY_BYTES", "100000000")];

/// A receive buffer that takes little in advance, but enough to be read swiftly.
const LITTLE: usize = 32 * 1024;

/// A client that has asked for a stream and reads nothing by itself.
pub(super) fn ask(stage: &Stage, version: &str, header: Option<&str>) -> (Client, Callback) {
    let mut client = Client::with_receive_buffer(stage.gateway.port(), LITTLE);
    client.send(request(version, header));
    (client, stage.backend.next_connect())
}

/// Events that are sent, and how they stand on the stream.
pub(super) fn publish_all(stage: &Stage, commands: &[Value]) -> Vec<String> {
    let mut texts = Vec::new();
    for some in commands.chunks(500) {
        let answers = pipeline(&stage.gateway, some);
        texts.extend(some.iter().zip(&answers).map(|(command, answer)| {
            let data = command["event"]["data"].as_str().expect("data");
            event(&id_of(answer), data)
        }));
    }
    texts
}

/// The id of an event as it stands on the stream.
fn id_in(text: &str) -> &str {
    let line = text.lines().next().expect("a line");
    line.strip_prefix("id: ").expect("an id")
}

/// Events as they stand in the body of an HTTP/1.1 response.
fn chunks<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<u8> {
    let texts = texts.into_iter();
    let chunks = texts.map(|text| format!("{:x}\r\n{text}\r\n", text.len()));
    chunks.collect::<String>().into_bytes()
}

/// Exactly these bytes come next, however many they are.
#[track_caller]
fn assert_bytes(client: &mut Client, expected: &[u8]) {
    let got = client.read_exact(expected.len());
    let at = got.iter().zip(expected).position(|(got, it)| got != it);
    if let Some(at) = at {
        let shown = |bytes: &[u8]| {
            let end = bytes.len().min(at + 100);
            String::from_utf8_lossy(&bytes[at.saturating_sub(100)..end]).into_owned()
        };
        panic!("at {at}: {:?}, not {:?}", shown(&got), shown(expected));
    }
}

#[test]
fn megabytes_come_byte_for_byte() {
    let stage = Stage::with(LARGE);
    let begin = stage.to("x", "begin");
    let commands: Vec<Value> = (0..2500)
        .map(|number: usize| {
            let length = match number % 500 {
                99 => 100_000,
                300 if number > 1000 => 1_000_000,
                rest => rest / 4,
            };
            let data = format!("{number} {}", "x".repeat(length));
            match number % 7 {
                0 => json!({"channels": ["a", "b"], "event": {"data": data}}),
                1 => json!({"broadcast": true, "event": {"data": data}}),
                2 => to_channel("b", &data),
                3 => to_channel("other", &data),
                _ => to_channel("a", &data),
            }
        })
        .collect();
    let all = publish_all(&stage, &commands);
    let is_theirs = |command: &&Value| command["channel"] != "other";
    let both = commands.iter().zip(&all);
    let theirs = both.filter(|(command, _)| is_theirs(command));
    let mut expected: Vec<String> = theirs.map(|(_, text)| text.clone()).collect();
    // Three streams: of both versions, and one that subscribes with its past when it is open, which
    // was there for the broadcasts.
    let mut clients = Vec::new();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let (mut client, connect) = ask(&stage, version, Some(&begin));
        connect.answer(200, r#"{"channels":["a","b"]}"#);
        assert_eq!(client.read_head().status, 200);
        clients.push((client, connect.token()));
    }
    let (mut open, connect) = ask(&stage, "HTTP/1.1", None);
    connect.answer(200, "");
    assert_eq!(open.read_head().status, 200);
    let open_token = connect.token();
    assert_next(&mut open, [position(id_in(all.last().expect("one")))]);
    let subscribe = json!({
        "token": open_token, "subscribe": ["a", "b"], "last_event_id": begin,
    });
    assert_ok(&post_send(&stage.gateway, &subscribe), OK);
    // All of them are in the middle of it when these come.
    let mut more = Vec::new();
    for round in 0..3 {
        for (_, token) in &clients {
            let data = format!("own {round} {}", "y".repeat(round * 50_000));
            let own = json!({"token": token, "event": {"data": data}});
            let queued = assert_sent(&post_send(&stage.gateway, &own));
            assert!(queued >= data.len(), "{queued}");
            if token == &clients[0].1 {
                more.push((true, format!("data: {data}\n\n")));
            }
        }
        for command in [
            to_channel("b", "later"),
            json!({"broadcast": true, "event": {"data": "later"}}),
            to_channel("a", &"z".repeat(100_000)),
        ] {
            more.extend(
                publish_all(&stage, &[command])
                    .into_iter()
                    .map(|it| (false, it)),
            );
        }
    }
    // The subscriber has no broadcast of before, and was sent nothing of its own.
    let both = commands.iter().zip(&all);
    let subscribed = both.filter(|(command, _)| is_theirs(command) && command["broadcast"] != true);
    let mut subscribed: Vec<String> = subscribed.map(|(_, text)| text.clone()).collect();
    subscribed.extend(more.iter().filter(|it| !it.0).map(|it| it.1.clone()));
    expected.extend(more.iter().map(|it| it.1.clone()));
    let last = id_in(expected.last().expect("one"));
    let end = position(last);
    expected.push(end.clone());
    subscribed.push(end);
    for (at, (client, _)) in clients.iter_mut().enumerate() {
        let bytes = match at {
            0 => chunks(&expected),
            _ => expected.concat().into_bytes(),
        };
        assert!(bytes.len() > 4_000_000, "{}", bytes.len());
        assert_bytes(client, &bytes);
    }
    assert_bytes(&mut open, &chunks(&subscribed));
    // From here on they are like all others.
    let live = stage.to("a", "live");
    for (mut client, token) in clients.into_iter().chain([(open, open_token)]) {
        let own = json!({"token": token, "event": {"data": "own"}});
        assert_ok(&post_send(&stage.gateway, &own), OK);
        assert_next(&mut client, [&event(&live, "live"), "data: own\n\n"]);
        client.reset();
    }
    stage.end([]);
}

/// Other streams are served while a long replay goes on, and others' replays too.
#[test]
fn nobody_waits_for_a_slow_reader() {
    let stage = Stage::with(LARGE);
    let begin = stage.to("x", "begin");
    let data = "x".repeat(4000);
    let commands: Vec<Value> = (0..500).map(|_| to_channel("c", &data)).collect();
    let all = publish_all(&stage, &commands);
    let (mut slow, connect) = ask(&stage, "HTTP/1.1", Some(&begin));
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(slow.read_head().status, 200);
    let (mut swift, _) = stage.join(&["c"], Some(&begin));
    assert_bytes(&mut swift, &chunks(&all));
    assert_next(&mut swift, [position(id_in(&all[499]))]);
    let live = stage.to("c", "live");
    assert_next(&mut swift, [event(&live, "live")]);
    assert_bytes(&mut slow, &chunks(&all));
    assert_next(&mut slow, [event(&live, "live"), position(&live)]);
    stage.end([slow, swift]);
}

/// Small buffers everywhere, so that little is on its way when the history moves on.
fn narrow() -> Stage {
    Stage::with(&[
        ("HISTORY_BYTES", "400000"),
        ("SEND_BUFFER_BYTES", "4096"),
        ("LOG_LEVEL", "debug"),
    ])
}

/// What was read comes in its order, then the gap in place of the rest, then what is not lost. What
/// has begun comes to its end.
#[test]
fn a_reader_that_eviction_overtakes() {
    for first in [1000, 300_000] {
        for asks_earliest in [false, true] {
            let stage = narrow();
            let begin = stage.to("x", "begin");
            let mut commands = vec![to_channel("c", &"f".repeat(first))];
            commands.extend((0..50).map(|number| to_channel("c", &format!("{number:01000}"))));
            let all = publish_all(&stage, &commands);
            let asked = if asks_earliest { "earliest" } else { &begin };
            let mut slow = Client::with_receive_buffer(stage.gateway.port(), 2048);
            slow.send(request("HTTP/1.1", Some(asked)));
            let connect = stage.backend.next_connect();
            let token = connect.token();
            connect.answer(200, r#"{"channels":["c"]}"#);
            assert_eq!(slow.read_head().status, 200);
            let own = json!({"token": token, "event": {"data": "own"}});
            assert!(assert_sent(&post_send(&stage.gateway, &own)) > 0);
            // In another channel: all of its own is forgotten.
            let noise = (0..500).map(|_| to_channel("noise", &"n".repeat(1000)));
            publish_all(&stage, &noise.collect::<Vec<Value>>());
            let last = stage.to("c", "last");
            let mut got = Vec::new();
            let end = loop {
                let text = slow.next_event();
                if text.starts_with("event: gap") {
                    break text;
                }
                got.push(text);
            };
            assert_eq!(end, gap(asked));
            assert!(!got.is_empty() && got.len() < all.len(), "{}", got.len());
            assert_eq!(got[..], all[..got.len()]);
            assert_next(&mut slow, ["data: own\n\n"]);
            // The gap may have found room on its way before the last one was sent.
            if slow.next_event() != position(&last) {
                assert_next(&mut slow, [event(&last, "last")]);
            }
            let live = stage.to("c", "live");
            assert_next(&mut slow, [event(&live, "live")]);
            let asked = format!("token={token} last_event_id={asked}");
            stage.gateway.wait_log_all(&["[DEBUG] gap ", &asked]);
            stage.end([slow]);
        }
    }
}

/// Who has lost nothing is told of no gap, however much others have lost, and however slowly it reads.
#[test]
fn a_slow_reader_whose_channels_are_kept() {
    let stage = Stage::with(&[("HISTORY_BYTES", "4000000"), ("SEND_BUFFER_BYTES", "4096")]);
    let lost: Vec<Value> = (0..250)
        .map(|_| to_channel("noise", &"n".repeat(4000)))
        .collect();
    publish_all(&stage, &lost);
    let begin = stage.to("x", "begin");
    let commands: Vec<Value> = (0..250)
        .map(|_| to_channel("c", &"c".repeat(4000)))
        .collect();
    let all = publish_all(&stage, &commands);
    let (mut slow, connect) = ask(&stage, "HTTP/1.1", Some(&begin));
    connect.answer(200, r#"{"channels":["c","noise"]}"#);
    assert_eq!(slow.read_head().status, 200);
    // The oldest noise goes, and what is behind the reader's begin stays.
    let noise: Vec<Value> = (0..500)
        .map(|_| to_channel("other", &"n".repeat(3600)))
        .collect();
    let more = publish_all(&stage, &noise);
    assert_bytes(&mut slow, &chunks(&all));
    assert_next(&mut slow, [position(id_in(&more[499]))]);
    let (mut old, _) = stage.join(&["noise"], Some("earliest"));
    let first = old.next_event();
    assert!(
        first.contains("nnn") || first == position(id_in(&more[499])),
        "{first}"
    );
    stage.end([slow, old]);
}
