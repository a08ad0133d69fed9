//! What the README says of what was missed, and of current values: its worked example is run line by
//! line, its tables row by row.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{BUFFERED, open_answered, with_tokens};
use crate::support::process::eventually;
use crate::support::readme;
use crate::support::{Backend, Callback, Client, Gateway, OK, assert_error, assert_ok, post_send};

fn start(history: usize, settings: &[(&str, &str)]) -> (Backend, Gateway) {
    let backend = Backend::start();
    let builder = Gateway::builder()
        .backend(&backend)
        .env("HISTORY_BYTES", &history.to_string());
    let builder = settings
        .iter()
        .fold(builder, |builder, (name, value)| builder.env(name, value));
    let gateway = builder.start();
    (backend, gateway)
}

/// Sends an event; gives its id.
#[track_caller]
fn publish(gateway: &Gateway, target: &Value, event: &Value) -> String {
    let mut command = target.clone();
    command["event"] = event.clone();
    let answer = post_send(gateway, &command);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
    json["id"].as_str().expect("an id").to_owned()
}

fn to(channel: &str) -> Value {
    json!({"channel": channel})
}

fn data(data: &str) -> Value {
    json!({"data": data})
}

/// A client that comes, and says this if it says anything; its callback is still out.
#[track_caller]
fn come(gateway: &Gateway, backend: &Backend, last_event_id: Option<&str>) -> (Client, Callback) {
    let mut client = gateway.connect();
    let field = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
    client.send(format!(
        "GET /s HTTP/1.1\r\nHost: h\r\n{}\r\n",
        field.unwrap_or_default()
    ));
    (client, backend.next_connect_of("/s"))
}

fn position(callback: &Callback) -> String {
    let position = callback.json["position"].as_str();
    position.expect("a position").to_owned()
}

/// What a stream begins with, an event each: their fields without ids, `event: gap` as what it says.
/// The last of them is the id alone, which is the position.
#[track_caller]
fn begins(
    gateway: &Gateway,
    backend: &Backend,
    answer: &Value,
    last_event_id: Option<&str>,
) -> Vec<String> {
    let (client, callback) = come(gateway, backend, last_event_id);
    let position = position(&callback);
    callback.answer(200, &answer.to_string());
    read_beginning(client, &position)
}

#[track_caller]
fn read_beginning(mut client: Client, position: &str) -> Vec<String> {
    assert_eq!(client.read_head().status, 200);
    let mut seen = Vec::new();
    loop {
        let event = client.next_event();
        if event == format!("id: {position}\n\n") {
            return seen;
        }
        let is_shown = |line: &&str| !line.is_empty() && !line.starts_with("id: ");
        let shown: Vec<&str> = event.lines().filter(is_shown).collect();
        assert!(!shown.is_empty(), "{event:?} is not behind {position}");
        seen.push(shown.join(" ").replace("data: ", ""));
    }
}

fn gap(asked: &str) -> String {
    format!("event: gap {{\"last_event_id\":\"{asked}\"}}")
}

/// Carries out what stands in a block, each answer being as shown: the ids that it shows stand for
/// those that the gateway gave.
#[track_caller]
fn publish_shown(gateway: &Gateway, block: &'static str, ids: &mut HashMap<&'static str, String>) {
    for example in readme::examples(block) {
        let answer = post_send(
            gateway,
            &serde_json::from_str(example.curl.body.expect("a body")).expect("JSON"),
        );
        let shown: &'static str = example.printed[0];
        let (_, behind) = shown.split_once(r#""id":""#).expect(shown);
        let id = &behind[..behind.find('"').expect(shown)];
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        ids.insert(id, json["id"].as_str().expect("an id").to_owned());
        assert_ok(&answer, &real(shown, ids));
    }
}

fn real(shown: &str, ids: &HashMap<&'static str, String>) -> String {
    let ids = ids.iter().map(|(shown, real)| (*shown, real.as_str()));
    with_tokens(shown, &ids.collect())
}

/// A stream opens as a block shows its callback and the answer, and begins as another one shows.
#[track_caller]
fn open_shown(
    (backend, gateway): (&Backend, &Gateway),
    callback_and_answer: &str,
    stream: &str,
    ids: &HashMap<&'static str, String>,
) {
    let lines = real(callback_and_answer, ids);
    let (connect, answer) = lines.split_once('\n').expect("two lines");
    let mut connect: Value = serde_json::from_str(connect).expect("JSON");
    let url = connect["request"]["url"].as_str().expect("a URL");
    let mut head = format!("GET {url} HTTP/1.1\r\n");
    for (name, value) in connect["request"]["headers"].as_object().expect("fields") {
        head += &format!("{name}: {}\r\n", value.as_str().expect("a string"));
    }
    let mut client = gateway.connect();
    client.send(head + "\r\n");
    let callback = backend.next_connect_of(url);
    connect["token"] = json!(callback.token());
    assert_eq!(callback.json, connect);
    callback.answer(200, answer);
    assert_eq!(client.read_head().status, 200);
    super::expect_stream(&mut client, &real(stream, ids));
}

#[test]
fn a_text_that_grows_is_resumed_as_shown() {
    let (backend, gateway) = start(67_108_864, &[]);
    let both = (&backend, &gateway);
    let [first, second] = readme::blocks("console text")[..] else {
        panic!("other than two blocks of sends");
    };
    let [fresh, again] = readme::blocks("json text")[..] else {
        panic!("other than two callbacks");
    };
    let [beginning, rest] = readme::blocks("text text")[..] else {
        panic!("other than two streams");
    };
    let mut ids = HashMap::new();
    publish_shown(&gateway, first, &mut ids);
    open_shown(both, fresh, beginning, &ids);
    publish_shown(&gateway, second, &mut ids);
    open_shown(both, again, rest, &ids);
    // A page that is loaded anew: the first answer brings the whole text.
    let (_, answer) = fresh.split_once('\n').expect("two lines");
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    let done = json!({"name": "done", "data": ""});
    let mut close = to("text.9");
    close["close"] = json!(true);
    publish(&gateway, &close, &done);
    let seen = begins(&gateway, &backend, &answer, None);
    let words = ["Once", "upon", "a", "time"].map(|word| format!("event: word {word}"));
    assert_eq!(seen[..4], words);
    // The close does not come again: the stream has gone on to its position.
    assert_eq!(seen[4..], ["event: done "]);
    // An id of one's own.
    let mut own = to("text.9");
    own["event"] = json!({"data": "", "id": "5"});
    assert_error(&post_send(&gateway, &own), 400, "INVALID_EVENT_ID");
    let answer = json!({"event": {"data": "x", "id": "5"}});
    assert_eq!(begins(&gateway, &backend, &answer, None), ["x"]);
}

#[test]
fn a_stream_begins_where_the_table_says() {
    let (backend, gateway) = start(1_000_000, &[]);
    let ids = ["1", "2", "3"].map(|text| publish(&gateway, &to("a"), &data(text)));
    publish(&gateway, &json!({"broadcast": true}), &data("all"));
    let channels = json!(["a"]);
    let none: [&str; 0] = [];
    let answers = [
        (json!(ids[1]), vec!["3", "all"]),
        (json!("earliest"), vec!["1", "2", "3", "all"]),
        (json!(""), vec![]),
    ];
    for (begin, expected) in answers {
        let answer = json!({"channels": channels, "last_event_id": begin});
        let seen = begins(&gateway, &backend, &answer, Some(&ids[0]));
        assert_eq!(seen, expected, "{begin}");
    }
    let answer = json!({"channels": channels});
    let seen = begins(&gateway, &backend, &answer, Some(&ids[0]));
    assert_eq!(seen, ["2", "3", "all"]);
    assert_eq!(begins(&gateway, &backend, &answer, None), none);

    // By a send, while the callback is out: in its channels alone.
    let (client, callback) = come(&gateway, &backend, Some(&ids[0]));
    let position = position(&callback);
    for (channel, begin) in [("a", Some("earliest")), ("b", None)] {
        let mut join = json!({"token": callback.token(), "subscribe": [channel]});
        if let Some(begin) = begin {
            join["last_event_id"] = json!(begin);
        }
        assert_ok(&post_send(&gateway, &join), BUFFERED);
    }
    callback.answer(200, r#"{"last_event_id":"","event":{"data":"own"}}"#);
    assert_eq!(read_beginning(client, &position), ["own", "1", "2", "3"]);

    // By a send, later; without a word from now on.
    let (mut client, callback) = come(&gateway, &backend, Some(&ids[0]));
    callback.answer(200, r#"{"last_event_id":""}"#);
    assert_eq!(client.read_head().status, 200);
    client.next_event();
    let mut join = json!({"token": callback.token(), "subscribe": ["a"]});
    assert_ok(&post_send(&gateway, &join), OK);
    let last = publish(&gateway, &to("a"), &data("4"));
    assert_eq!(client.next_event(), format!("id: {last}\ndata: 4\n\n"));
    join["unsubscribe"] = json!(["a"]);
    join["last_event_id"] = json!(ids[2]);
    assert_ok(&post_send(&gateway, &join), OK);
    assert_eq!(client.next_event(), format!("id: {last}\ndata: 4\n\n"));
}

/// What the callback carries is where the stream begins: nothing falls between what the backend read
/// then and the stream.
#[test]
fn a_snapshot_that_is_read_in_the_callback_loses_nothing() {
    let (backend, gateway) = start(1_000_000, &[]);
    publish(&gateway, &to("a"), &data("in the snapshot"));
    let (mut client, callback) = come(&gateway, &backend, None);
    let id = publish(&gateway, &to("a"), &data("between"));
    assert_ne!(id, position(&callback));
    callback.answer(200, r#"{"channels":["a"],"event":{"data":"snapshot"}}"#);
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.next_event(), "data: snapshot\n\n");
    assert_eq!(client.next_event(), format!("id: {id}\ndata: between\n\n"));
    assert_eq!(client.next_event(), format!("id: {id}\n\n"));
}

#[test]
fn a_client_that_comes_back_sees_what_the_table_says() {
    let (backend, gateway) = start(6_000, &[]);
    let answer = json!({"channels": ["a", "b"], "event": {"data": "hello"}});
    let begin = |from: &str| begins(&gateway, &backend, &answer, Some(from));
    let first = publish(&gateway, &to("a"), &data("1"));
    publish(&gateway, &json!({"channels": ["b", "a"]}), &data("2"));
    publish(&gateway, &json!({"broadcast": true}), &data("3"));
    publish(&gateway, &to("others"), &data("x"));
    let step = |text: &str| json!({"data": text, "key": "step"});
    publish(&gateway, &to("b"), &step("4"));
    let last = publish(&gateway, &to("a"), &step("5"));
    assert_eq!(begin(&first), ["hello", "2", "3", "5"]);
    assert_eq!(begin(&last), ["hello"]);

    // By token: no id, and nothing of it later.
    let (mut client, token) = open_answered(&gateway, &backend, "/t", "");
    client.next_event();
    let send = json!({"token": token, "event": {"data": "to one"}});
    assert_ok(&post_send(&gateway, &send), OK);
    assert_eq!(client.next_event(), "data: to one\n\n");
    let send = json!({"tokens": [token], "event": {"data": "to one"}});
    let answered = r#"{"status":"ok","receivers":1}"#;
    assert_ok(&post_send(&gateway, &send), answered);
    assert_eq!(begin(&last), ["hello"]);

    // Others' channels have forgotten much.
    for _ in 0..100 {
        publish(&gateway, &to("others"), &data(&"x".repeat(100)));
    }
    assert_eq!(begin(&last), ["hello"]);
    let kept = publish(&gateway, &to("a"), &data("6"));
    assert_eq!(begin(&last), ["hello", "6"]);
    // Its own has.
    assert_eq!(begin(&first), ["hello".to_owned(), gap(&first)]);
    for foreign in ["5", "1-1", "x"] {
        assert_eq!(begin(foreign), ["hello".to_owned(), gap(foreign)]);
    }
    let answer = json!({"channels": ["a", "b"], "last_event_id": "earliest"});
    assert_eq!(begins(&gateway, &backend, &answer, None), ["6"]);
    // The gateway is another one.
    let (backend, gateway) = start(6_000, &[]);
    let answer = json!({"channels": ["a"]});
    let seen = begins(&gateway, &backend, &answer, Some(&kept));
    assert_eq!(seen, [gap(&kept)]);
}

#[test]
fn a_gap_is_as_shown() {
    let [shown] = readme::blocks("text gap")[..] else {
        panic!("more than one");
    };
    let (asked, behind) = shown.split_once("\n\n").expect("two events");
    let (_, asked) = asked.split_once(r#":""#).expect(asked);
    let asked = asked.trim_end_matches("\"}");
    let (backend, gateway) = start(6_000, &[]);
    let (mut client, callback) = come(&gateway, &backend, Some(asked));
    let real = shown.replace(
        behind.trim_start_matches("id: ").trim_end(),
        &position(&callback),
    );
    callback.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    super::expect_stream(&mut client, &real);
    let (backend, gateway) = start(6_000, &[("EVENT_FORMAT", "envelope")]);
    let seen = begins(&gateway, &backend, &json!({}), Some("x"));
    assert_eq!(seen, [gap("x")]);
}

/// Too old instead of too much.
#[test]
fn what_is_older_than_the_history_is_forgotten() {
    let (backend, gateway) = start(1_000_000, &[("HISTORY_SECONDS", "1")]);
    let first = publish(&gateway, &to("a"), &data("1"));
    publish(&gateway, &to("a"), &data("2"));
    let answer = json!({"channels": ["a"]});
    let mut seen = vec!["2".to_owned()];
    eventually("the end of an event", || {
        seen = begins(&gateway, &backend, &answer, Some(&first));
        seen != ["2"]
    });
    assert_eq!(seen, [gap(&first)]);
}

/// A client that does not read while what it missed is forgotten.
#[test]
fn a_reader_that_is_overtaken_is_told_so() {
    let (backend, gateway) = start(2_000_000, &[("SEND_BUFFER_BYTES", "4096")]);
    let first = publish(&gateway, &to("a"), &data("0"));
    let long = "x".repeat(50_000);
    let fill = || {
        for number in 0..50 {
            publish(&gateway, &to("a"), &data(&format!("{number} {long}")));
        }
    };
    for _ in 0..35 {
        publish(&gateway, &to("a"), &data(&format!("missed {long}")));
    }
    let (mut client, token) = open_narrow_behind(&gateway, &backend, &first);
    fill();
    let mut events = 0;
    let gap = loop {
        let event = client.next_event();
        if event.starts_with("event: gap\n") {
            break event;
        }
        assert!(event.contains("missed"), "{}", &event[..60]);
        events += 1;
    };
    assert!(events < 35, "{events}");
    assert_eq!(
        gap,
        format!("event: gap\ndata: {{\"last_event_id\":\"{first}\"}}\n\n")
    );
    // It is whole again from here on.
    client.next_event();
    assert_ok(
        &post_send(&gateway, &json!({"token": token, "event": data("new")})),
        OK,
    );
    assert_eq!(client.next_event(), "data: new\n\n");
}

/// Behind the head of a stream in the channel `a` that reads nothing more.
fn open_narrow_behind(gateway: &Gateway, backend: &Backend, from: &str) -> (Client, String) {
    let mut client = Client::with_receive_buffer(gateway.port(), 4096);
    client.send(format!(
        "GET /s HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {from}\r\n\r\n"
    ));
    let callback = backend.next_connect_of("/s");
    callback.answer(200, r#"{"channels":["a"]}"#);
    assert_eq!(client.read_head().status, 200);
    (client, callback.token())
}

/// The costs that are shown are those that are counted.
#[test]
fn an_event_costs_what_is_said() {
    let text = |number: usize| format!("{number:0100}");
    let wire = "id: 1795233600000-100000000000\ndata: \n\n".len() + 100;
    let chunk = format!("{wire:x}\r\n\r\n").len() + wire;
    let number = 20;
    // A channel's name is one byte, each key two, and twice.
    let max = number * (chunk + 56 + 8 + 4 + 72) + 2 * (1 + 160);
    let (backend, gateway) = start(max + 60, &[]);
    for at in 0..number * 2 {
        let event = json!({"data": text(at), "key": format!("{at:02}")});
        publish(&gateway, &json!({"channels": ["a", "b"]}), &event);
    }
    let answer = json!({"channels": ["a"], "last_event_id": "earliest"});
    let seen = begins(&gateway, &backend, &answer, None);
    // The digits of an id's number are twelve or a few less.
    assert!(
        (number..=number + 1).contains(&seen.len()),
        "{}",
        seen.len()
    );
}

#[test]
fn current_values_are_as_shown() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("MAX_RETAINED_BYTES", "1000").start();
    let [example] = &readme::examples(readme::blocks("console value")[0])[..] else {
        panic!("more than one send");
    };
    let body: Value = serde_json::from_str(example.curl.body.expect("a body")).expect("JSON");
    assert_ok(&post_send(&gateway, &body), example.printed[0]);
    let channel = body["channel"].clone();
    let answer = json!({"channels": [channel]}).to_string();
    let shown = readme::blocks("text value")[0];
    let (mut client, token) = open_answered(&gateway, &backend, "/1", &answer);
    super::expect_stream(&mut client, shown);
    // By a send as well, on every joining.
    let join = json!({"token": token, "unsubscribe": [channel], "subscribe": [channel]});
    assert_ok(&post_send(&gateway, &join), OK);
    super::expect_stream(&mut client, shown);
    let value = |data: &str| json!({"channel": channel, "event": {"data": data, "retain": true}});
    let full = post_send(&gateway, &value(&"x".repeat(1000)));
    assert_error(&full, 503, "RETAINED_FULL");
    let answered = r#"{"status":"ok","receivers":1}"#;
    for data in ["21.50", ""] {
        assert_ok(&post_send(&gateway, &value(data)), answered);
        assert_eq!(client.next_event(), format!("data: {data}\n\n"));
    }
    let (mut late, token) = open_answered(&gateway, &backend, "/2", &answer);
    let send = json!({"token": token, "event": {"data": "first"}});
    assert_ok(&post_send(&gateway, &send), OK);
    assert_eq!(late.next_event(), "data: first\n\n");
}

/// With a history: what was missed brings the value, or the value comes by itself, without an id.
#[test]
fn a_value_comes_once() {
    let (backend, gateway) = start(1_000_000, &[]);
    let first = publish(&gateway, &to("a"), &data("1"));
    publish(
        &gateway,
        &to("a"),
        &json!({"data": "value", "retain": true}),
    );
    publish(&gateway, &to("a"), &data("2"));
    let answer = json!({"channels": ["a"]});
    let seen = begins(&gateway, &backend, &answer, Some(&first));
    assert_eq!(seen, ["value", "2"]);
    let (mut client, callback) = come(&gateway, &backend, None);
    callback.answer(200, &answer.to_string());
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.next_event(), "data: value\n\n");
}
