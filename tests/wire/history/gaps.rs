//! A stream that has missed what is no longer kept is told so, and no other one is.

use serde_json::{Value, json};

use super::{Stage, assert_next, assert_next_or_position, event, gap, id_of, position};
use crate::channels::{pipeline, to_channel};
use crate::support::process::eventually;
use crate::support::{Client, OK};

/// Room for some of what [`fill`] sends.
const SMALL: &[(&str, &str)] = &[("HISTORY_BYTES", "20000"), ("LOG_LEVEL", "debug")];

/// More than [`SMALL`] keeps.
fn fill(stage: &Stage, channel: &str) -> Vec<String> {
    let data = "x".repeat(1000);
    let commands: Vec<Value> = (0..40).map(|_| to_channel(channel, &data)).collect();
    let answers = pipeline(&stage.gateway, &commands);
    answers.iter().map(id_of).collect()
}

/// What the next event, a gap, says that the client asked for.
#[track_caller]
fn next_gap(client: &mut Client) -> String {
    let text = client.next_event();
    let data = text.strip_prefix("event: gap\ndata: ").expect(&text);
    assert!(!data.trim_end().contains('\n'), "one line: {text}");
    let json: Value = serde_json::from_str(data).expect(&text);
    assert_eq!(
        json.as_object().map(serde_json::Map::len),
        Some(1),
        "{text}"
    );
    json["last_event_id"].as_str().expect(&text).to_owned()
}

/// It depends on what was lost of the channels of the stream, not on what was lost.
#[test]
fn what_is_forgotten_for_its_size() {
    let stage = Stage::with(SMALL);
    let begin = stage.to("c", "0");
    let first = stage.to("c", "1");
    let quiet = stage.to("quiet", "2");
    let late = stage.to("late", "3");
    let noise = fill(&stage, "noise");
    let (last, before) = (&noise[39], &noise[38]);
    let later = stage.to("late", "4");
    let table: [(&[&str], &str, bool); 12] = [
        (&["c"], &begin, true),
        (&["c"], &first, false),
        (&["c"], &late, false),
        (&["quiet"], &begin, true),
        (&["quiet"], &first, true),
        (&["quiet"], &quiet, false),
        (&["c", "quiet"], &first, true),
        (&["c", "quiet"], &quiet, false),
        (&["c", "quiet", "noise"], &late, true),
        (&["c", "unused"], &first, false),
        (&["unused"], &begin, false),
        (&[], &begin, false),
    ];
    for (channels, asked, is_lost) in table {
        println!("{channels:?} {asked}");
        let (mut client, token) = stage.join(channels, Some(asked));
        if is_lost {
            assert_next(&mut client, [gap(asked)]);
            let asked = format!("last_event_id={asked}");
            stage
                .gateway
                .wait_log_all(&["[DEBUG] gap ", &format!("token={token}"), &asked]);
        }
        assert_next(&mut client, [position(&later)]);
        client.reset();
    }
    // What was lost is told of once, and what is kept behind it does not come: fetch anew.
    let (mut client, _) = stage.join(&["late"], Some(&begin));
    assert_next(&mut client, [gap(&begin), position(&later)]);
    let (mut other, _) = stage.join(&["late"], Some(&late));
    assert_next(&mut other, [event(&later, "4"), position(&later)]);
    let (mut noisy, _) = stage.join(&["noise"], Some(before));
    let data = "x".repeat(1000);
    assert_next(&mut noisy, [event(last, &data), position(&later)]);
    let live = stage.publish(&json!({"channels": ["late", "noise"], "event": {"data": "live"}}));
    for client in [&mut client, &mut other, &mut noisy] {
        assert_next(client, [event(&live, "live")]);
    }
    stage.end([client, other, noisy]);
}

/// Everybody has missed a broadcast, whatever the channels.
#[test]
fn a_broadcast_that_is_forgotten() {
    let stage = Stage::with(SMALL);
    let begin = stage.to("c", "0");
    let all = stage.to_all("1");
    let behind = stage.to("c", "2");
    let noise = fill(&stage, "noise");
    for channels in [&[][..], &["quiet"], &["c"]] {
        let (mut client, _) = stage.join(channels, Some(&begin));
        assert_next(&mut client, [gap(&begin), position(&noise[39])]);
        client.reset();
        for asked in [&all, &behind] {
            let (mut client, _) = stage.join(channels, Some(asked));
            let is_lost = channels == ["c"] && *asked == all;
            assert_next(&mut client, is_lost.then(|| gap(asked)));
            assert_next(&mut client, [position(&noise[39])]);
            client.reset();
        }
    }
    stage.end([]);
}

/// A stream that was there when a broadcast came has not missed it: a subscription is about the
/// channels that it names.
#[test]
fn a_subscription_is_not_about_broadcasts() {
    let stage = Stage::with(SMALL);
    let (mut client, token) = stage.join(&[], None);
    let begin = client.next_event()[4..].trim_end().to_owned();
    let all = stage.to_all("all");
    assert_next(&mut client, [event(&all, "all")]);
    fill(&stage, "noise");
    let kept = stage.to("c", "kept");
    let subscribe = json!({"token": token, "subscribe": ["c"], "last_event_id": begin});
    stage.post(&subscribe, OK);
    assert_next(&mut client, [event(&kept, "kept"), position(&kept)]);
    stage.end([client]);
}

#[test]
fn what_is_forgotten_for_its_age() {
    let stage = Stage::with(&[("HISTORY_BYTES", "1000000"), ("HISTORY_SECONDS", "1")]);
    let begin = stage.to("c", "0");
    let mut first = stage.to("c", "1");
    let (mut client, _) = stage.join(&["c"], Some(&begin));
    let mut text = client.next_event();
    if text == gap(&begin) {
        // A busy machine: the second was over already.
        first = String::new();
    } else {
        assert_eq!(text, event(&first, "1"));
    }
    eventually("its end", || {
        let (mut again, _) = stage.join(&["c"], Some(&begin));
        text = again.next_event();
        again.reset();
        text == gap(&begin) || !first.is_empty() && text != event(&first, "1")
    });
    assert_eq!(text, gap(&begin));
    let last = stage.to("c", "2");
    // Whoever had it has missed nothing.
    if !first.is_empty() {
        let (mut again, _) = stage.join(&["other"], Some(&first));
        assert_next(&mut again, [position(&last)]);
        again.reset();
    }
    stage.end([client]);
}

/// What an earlier process has said means nothing to this one.
#[test]
fn ids_from_before_a_restart() {
    let ids = {
        let stage = Stage::new();
        let (client, connect) = stage.ask(None);
        let position = connect.json["position"].as_str().expect("one").to_owned();
        client.reset();
        connect.answer(403, "");
        [position, stage.to("c", "0"), stage.to("c", "1")]
    };
    let stage = Stage::new();
    for is_first in [true, false] {
        for id in &ids {
            let (mut client, _) = stage.join(&["c"], Some(id));
            assert_next(&mut client, [gap(id)]);
            let now = client.next_event();
            assert!(now.starts_with("id: ") && !now.contains("data"), "{now}");
            client.reset();
        }
        if is_first {
            stage.to("c", "0");
        }
    }
    stage.end([]);
}

/// Whatever it is, it comes back as it was, JSON in one line.
#[test]
fn what_is_no_id_of_ours() {
    let stage = Stage::with(&[("HISTORY_BYTES", "1000000"), ("LOG_LEVEL", "debug")]);
    let id = stage.to("c", "0");
    let last = stage.to("c", "1");
    let (millis, number) = super::numbers(&last);
    let mut all: Vec<String> = [
        "0-0",
        "1-1",
        "0",
        "-",
        "x",
        "Earliest",
        "earliest.",
        "*",
        "$",
        "a b",
        "a\"b\\c/",
        "{\"a\":1}",
        "99999999999999999999-1",
        "18446744073709551615-18446744073709551615",
    ]
    .map(str::to_owned)
    .into();
    all.extend([
        format!("{millis}-{}", number + 1),
        format!("{}-{number}", millis + 1_000_000),
        format!("{millis}-0"),
        format!("0-{number}"),
        format!("0{id}"),
        format!("{millis}-0{number}"),
        format!("+{id}"),
        format!("{id}-"),
        format!("{id}, {id}"),
        "x".repeat(3000),
    ]);
    for asked in &all {
        println!("{asked}");
        let (mut client, token) = stage.join(&["c"], Some(asked));
        assert_eq!(&next_gap(&mut client), asked);
        assert_next(&mut client, [position(&last)]);
        stage
            .gateway
            .wait_log_all(&["[DEBUG] gap ", &format!("token={token} last_event_id=")]);
        client.reset();
    }
    // An answer and a send can say what no field of HTTP can.
    all.extend(
        [
            "a\nb\r\n\nc",
            "\u{0}\u{1b}\u{2028}é",
            "🎈",
            " ",
            " earliest",
        ]
        .map(str::to_owned),
    );
    for asked in &all {
        println!("{asked}");
        let answer = json!({"channels": ["d"], "last_event_id": asked});
        let (mut client, token) = stage.visit(Some(&id), &answer);
        assert_eq!(&next_gap(&mut client), asked);
        assert_next(&mut client, [position(&last)]);
        let subscribe = json!({"token": token, "subscribe": ["c"], "last_event_id": asked});
        stage.post(&subscribe, OK);
        assert_eq!(&next_gap(&mut client), asked);
        stage.post(&json!({"token": token, "event": {"data": "end"}}), OK);
        assert_next_or_position(&mut client, "data: end\n\n");
        client.reset();
    }
    let quoted = r#"last_event_id="a b""#;
    stage.gateway.wait_log_all(&["[DEBUG] gap ", quoted]);
    // Octets above ASCII are what the callback told of them.
    let mut client = stage.gateway.connect();
    client.send(super::request("HTTP/1.1", Some("é")));
    let connect = stage.backend.next_connect();
    connect.answer(200, r#"{"channels":["c"]}"#);
    assert_eq!(client.read_head().status, 200);
    let told = &connect.json["request"]["headers"]["last-event-id"];
    assert_eq!(&json!(next_gap(&mut client)), told);
    stage.end([client]);
}

/// There is nothing that it could have missed.
#[test]
fn earliest_is_all_that_is_kept() {
    let stage = Stage::with(SMALL);
    let (mut client, token) = stage.join(&["c"], Some("earliest"));
    let empty = client.next_event();
    assert!(!empty.contains("data"), "{empty}");
    client.reset();
    stage.backend.next_disconnect_of(&token);
    let first = stage.to("c", "0");
    stage.to_all("never");
    let noise = fill(&stage, "noise");
    let kept = [stage.to("c", "1"), stage.to_all("2")];
    let answer = json!({"channels": ["c"], "last_event_id": "earliest"});
    let (mut client, token) = stage.visit(Some(&first), &answer);
    let texts = [
        event(&kept[0], "1"),
        event(&kept[1], "2"),
        position(&kept[1]),
    ];
    assert_next(&mut client, &texts);
    // Some of the noise is kept: its end.
    let subscribe = json!({"token": token, "subscribe": ["noise"], "last_event_id": "earliest"});
    stage.post(&subscribe, OK);
    let data = "x".repeat(1000);
    let first = client.next_event();
    let at = noise.iter().position(|id| first == event(id, &data));
    let at = at.expect("an event");
    assert!((20..39).contains(&at), "{at}");
    for id in &noise[at + 1..] {
        assert_next(&mut client, [event(id, &data)]);
    }
    assert_next(&mut client, [position(&kept[1])]);
    stage.end([client]);
}

/// The gateway's own words are as ever there, what was missed is in its envelope.
#[test]
fn in_the_format_of_the_envelope() {
    let stage = Stage::with(&[("HISTORY_BYTES", "1000000"), ("EVENT_FORMAT", "envelope")]);
    let id = stage.publish(&json!({"channel": "c", "event": {"name": "n", "data": "{}"}}));
    let expected = format!("id: {id}\ndata: {{\"type\":\"n\",\"payload\":{{}}}}\n\n");
    let (mut client, token) = stage.join(&["c"], Some("earliest"));
    assert_next(&mut client, [expected, position(&id)]);
    let subscribe = json!({"token": token, "subscribe": ["d"], "last_event_id": "1-1"});
    stage.post(&subscribe, OK);
    assert_next(&mut client, [gap("1-1")]);
    let (mut other, _) = stage.join(&["c"], Some("no id"));
    assert_next(&mut other, [gap("no id"), position(&id)]);
    stage.end([client, other]);
}
