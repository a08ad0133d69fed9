//! Channels: who is in them, and what is kept of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{json_of, unhurried};
use crate::support::process::eventually;
use crate::support::{BUFFERED, Backend, Client, Gateway, OK, assert_ok, open_stream, post_send};

/// Members, events and bytes by name, of all pages.
#[track_caller]
fn channels(gateway: &Gateway, query: &str) -> BTreeMap<String, (u64, u64, u64)> {
    let mut all = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = json_of(gateway, &format!("/internal/channels?{query}{after}"));
        for channel in page["channels"].as_array().expect("channels") {
            let number = |field: &str| channel[field].as_u64().expect("a number");
            assert_eq!(channel.as_object().map(serde_json::Map::len), Some(4));
            let name = channel["name"].as_str().expect("a name").to_owned();
            let told = (number("members"), number("events"), number("bytes"));
            assert_eq!(all.insert(name, told), None, "twice in {page}");
        }
        match &page["next"] {
            Value::Null => return all,
            next => after = format!("&after={next}"),
        }
    }
}

#[track_caller]
fn join(gateway: &Gateway, backend: &Backend, channels: &[&str]) -> (Client, String) {
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    callback.answer(200, &json!({"channels": channels}).to_string());
    assert_eq!(client.read_head().status, 200);
    (client, callback.token())
}

fn named<const N: usize>(
    channels: [(&str, (u64, u64, u64)); N],
) -> BTreeMap<String, (u64, u64, u64)> {
    channels.map(|(name, told)| (name.to_owned(), told)).into()
}

#[test]
fn a_channel_is_listed_as_long_as_somebody_is_in_it() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).start();
    assert_eq!(channels(&gateway, ""), named([]));
    let (_one, token) = join(&gateway, &backend, &["a", "b"]);
    let (two, _) = join(&gateway, &backend, &["b", "<it's>"]);
    // One whose callback is out is a member too.
    let _waiting = gateway.get("/w");
    let callback = backend.next_connect();
    let subscribe = json!({"token": callback.token(), "subscribe": ["b"]});
    assert_ok(&post_send(&gateway, &subscribe), BUFFERED);
    let expected = named([("a", (1, 0, 0)), ("b", (3, 0, 0)), ("<it's>", (1, 0, 0))]);
    assert_eq!(channels(&gateway, ""), expected);
    assert_eq!(channels(&gateway, "limit=1"), expected);
    callback.answer(403, "");
    drop(two);
    backend.next_disconnect().answer(200, "");
    let leave = json!({"token": token, "unsubscribe": ["a"]});
    assert_ok(&post_send(&gateway, &leave), OK);
    eventually("one channel", || {
        channels(&gateway, "") == named([("b", (1, 0, 0))])
    });
    // Neither events nor current values make one, where no past is kept.
    let event = json!({"data": "x", "retain": true});
    let command = json!({"channel": "c", "event": event});
    assert_eq!(post_send(&gateway, &command).status(), 200);
    assert_eq!(channels(&gateway, ""), named([("b", (1, 0, 0))]));
}

/// Bytes are those that a member was sent.
#[test]
fn what_is_kept_is_told_by_channel() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).env("HISTORY_BYTES", "1000000").start();
    let (mut client, _) = join(&gateway, &backend, &["a", "b"]);
    let mut bytes = |command: Value| {
        assert_eq!(post_send(&gateway, &command).status(), 200);
        loop {
            // A position comes first.
            let event = client.next_event();
            if event.contains("data: ") {
                let length = event.len();
                break (length + format!("{length:x}\r\n\r\n").len()) as u64;
            }
        }
    };
    let one = bytes(json!({"channel": "a", "event": {"data": "x", "name": "n"}}));
    let both = bytes(json!({"channels": ["a", "b"], "event": {"data": "y".repeat(10_000)}}));
    // What is for everybody, or for one, is in no channel.
    bytes(json!({"broadcast": true, "event": {"data": "z"}}));
    // Of a channel that nobody is in.
    for _ in 0..2 {
        let past = json!({"channels": ["past", "a"], "event": {"data": "x"}});
        bytes(past);
    }
    let told = channels(&gateway, "");
    let past = told["past"];
    let expected = named([
        ("a", (1, 4, one + both + past.2)),
        ("b", (1, 1, both)),
        ("past", (0, 2, past.2)),
    ]);
    assert_eq!(told, expected);
    assert!(past.2 > 0 && past.2 < both, "{past:?}");
    assert_eq!(channels(&gateway, "limit=1"), expected);
    // Who joins is in it, and it is listed once.
    let (late, _) = join(&gateway, &backend, &["past"]);
    assert_eq!(channels(&gateway, "limit=1")["past"], (1, 2, past.2));
    drop(late);
    backend.next_disconnect().answer(200, "");
    assert_eq!(channels(&gateway, ""), expected);
}

/// The oldest go for want of room, or for their age, and the channels that nobody is in with them.
#[test]
fn what_is_forgotten_is_told_no_more() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).env("HISTORY_BYTES", "20000").start();
    let (_client, _) = join(&gateway, &backend, &["a"]);
    let to = |gateway: &Gateway, channel: &str| {
        let event = json!({"data": "x".repeat(1000)});
        let command = json!({"channel": channel, "event": event});
        assert_eq!(post_send(gateway, &command).status(), 200);
    };
    for channel in ["a", "old"] {
        to(&gateway, channel);
    }
    let before = channels(&gateway, "");
    assert_eq!((before["a"].0, before["a"].1), (1, 1));
    assert_eq!((before["old"].0, before["old"].1), (0, 1));
    assert!((1000..1100).contains(&before["a"].2), "{before:?}");
    let mut most = 0;
    for _ in 0..40 {
        to(&gateway, "new");
        let told = channels(&gateway, "");
        let (_, events, bytes) = told["new"];
        assert_eq!(bytes, events * before["a"].2);
        most = most.max(events);
    }
    assert!((10..20).contains(&most), "{most}");
    let told = channels(&gateway, "");
    let new = told["new"];
    assert_eq!(told, named([("a", (1, 0, 0)), ("new", new)]));

    let gateway = unhurried(&backend)
        .env("HISTORY_BYTES", "100000")
        .env("HISTORY_SECONDS", "1")
        .start();
    let (_client, _) = open_stream(&gateway, &backend, "/s");
    to(&gateway, "old");
    eventually("an event that is forgotten", || {
        channels(&gateway, "").is_empty()
    });
}
