//! The README's examples of the interface: each command is sent and each answer and stream compared
//! with what stands there; and what it says of channels beside them.

mod access;
mod history;
mod looks;
mod operation;
mod restart;

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::readme::{self, Example};
use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, assert_error, assert_ok, open_narrow, open_stream,
    post_send, send_data, send_request,
};

/// The README's token, and that of the second stream; a third one names no stream.
const FIRST: &str = "fa97a875-4339-4e5b-aae0-46ef2a8743aa";
const SECOND: &str = "0b9e5ca9-6f0c-4d6e-8f2b-0c8f4a6d1e35";

/// A stream whose connect callback is answered this.
#[track_caller]
fn open_answered(
    gateway: &Gateway,
    backend: &Backend,
    path: &str,
    answer: &str,
) -> (Client, String) {
    let mut client = gateway.get(path);
    let callback = backend.next_connect_of(path);
    callback.answer(200, answer);
    assert_eq!(client.read_head().status, 200);
    (client, callback.token())
}

/// A text of the README with the real tokens in place of those that it shows.
fn with_tokens(text: &str, tokens: &HashMap<&str, &str>) -> String {
    let replaced = |text: String, (shown, real): (&&str, &&str)| text.replace(shown, real);
    tokens.iter().fold(text.to_owned(), replaced)
}

/// Sends what an example sends, and compares the answer with what it shows.
#[track_caller]
fn run(gateway: &Gateway, example: &Example, tokens: &HashMap<&str, &str>) {
    assert_eq!(example.curl.target, "/internal/send");
    let body = with_tokens(example.curl.body.expect("a body"), tokens);
    let mut publisher = gateway.connect();
    publisher.post(body.as_bytes());
    let shown = with_tokens(&example.printed.join("\n"), tokens);
    assert_ok(&publisher.read_response(), &shown);
}

/// Whether a stream goes on with just these bytes.
#[track_caller]
fn expect_stream(client: &mut Client, shown: &str) {
    for event in shown.trim_end().split("\n\n") {
        assert_eq!(client.next_event(), format!("{event}\n\n"));
    }
}

#[test]
fn a_stream_and_a_send_are_as_shown() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let block = readme::blocks("console open")[0];
    let [open] = &readme::examples(block)[..] else {
        panic!("{block}");
    };
    let mut client = gateway.get(&open.curl.target);
    let callback = backend.next_connect_of(&open.curl.target);
    callback.answer(200, readme::blocks("json answer")[0]);
    let (head, events) = block.split_once("\n\n").expect("a head and events");
    let undated = |line: &&str| !line.starts_with('$') && !line.starts_with("Date: ");
    let shown: Vec<&str> = head.lines().filter(undated).collect();
    let head = client.read_head();
    let text = head.text();
    let seen: Vec<&str> = text.trim_end().lines().filter(undated).collect();
    assert_eq!(seen, shown);
    assert!(head.value("date").is_some());
    expect_stream(&mut client, events);
    let block = readme::blocks("console send")[0];
    let token = callback.token();
    let tokens = HashMap::from([(FIRST, token.as_str())]);
    for example in readme::examples(block) {
        run(&gateway, &example, &tokens);
    }
    assert_eq!(
        client.next_event(),
        "event: note\ndata: two\ndata: lines\n\n"
    );
}

#[test]
fn callbacks_are_as_shown() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let lines: Vec<&str> = readme::blocks("json callbacks")[0].lines().collect();
    let shown: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let request = &shown[0]["request"];
    let mut head = format!(
        "GET {} HTTP/1.1\r\n",
        request["url"].as_str().expect("a URL")
    );
    for (name, value) in request["headers"].as_object().expect("fields") {
        head += &format!("{name}: {}\r\n", value.as_str().expect("a string"));
    }
    let mut client = gateway.connect();
    client.send(head + "\r\n");
    let connect = backend.next_connect();
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    drop(client);
    let disconnect = backend.next_disconnect();
    disconnect.answer(200, "");
    for (callback, mut shown) in [connect, disconnect].into_iter().zip(shown) {
        shown["token"] = json!(callback.token());
        assert_eq!(callback.json, shown);
    }
}

#[test]
fn channels_are_as_shown() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let [answer] = readme::blocks("json answer")[..] else {
        panic!("more than one answer");
    };
    let (mut first, token) = open_answered(&gateway, &backend, "/1", answer);
    let other = r#"{"channels":["user.7","news"]}"#;
    let (mut second, second_token) = open_answered(&gateway, &backend, "/2", other);
    let tokens = HashMap::from([(FIRST, token.as_str()), (SECOND, second_token.as_str())]);
    assert_eq!(first.next_event(), "event: greeting\ndata: hello\n\n");
    for block in &readme::blocks("console send")[1..] {
        for example in readme::examples(block) {
            run(&gateway, &example, &tokens);
        }
    }
    let [stream] = readme::blocks("text stream")[..] else {
        panic!("more than one stream");
    };
    expect_stream(&mut first, stream);
    first.expect_last_chunk_and_eof();
    let seen = [
        "data: to some\n\n",
        "data: to a channel\n\n",
        "event: progress\nid: 5\nretry: 2000\ndata: 70 %\n\n",
        "event: version\ndata: 1.2.3\n\n",
    ];
    for event in seen {
        assert_eq!(second.next_event(), event);
    }
    second.expect_last_chunk_and_eof();
    for token in [&token, &second_token] {
        let disconnect = backend.next_disconnect_of(token);
        assert_eq!(disconnect.reason(), "server_closed");
        disconnect.answer(200, "");
    }
    // Their channels are left with them.
    let all = json!({"channels": ["user.42", "user.7", "news", "room.7"]});
    assert_ok(
        &post_send(&gateway, &all),
        r#"{"status":"ok","receivers":0}"#,
    );
}

/// `data` that is JSON and `data` that is not; what has no name, and the name that is left alone.
#[test]
fn an_envelope_is_as_shown() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("EVENT_FORMAT", "envelope").start();
    let (mut client, token) = open_stream(&gateway, &backend, "/s");
    let mut sent = |name: &str, data: &str| {
        let event = json!({"token": token, "event": {"name": name, "data": data}});
        assert_ok(&post_send(&gateway, &event), OK);
        client.next_event()
    };
    let event = sent("note", r#"{"text":"hello"}"#);
    let shown = format!("`{}`", event.trim_end());
    assert!(readme::text().contains(&shown), "{shown}");
    let event = sent("note", "hello");
    assert_eq!(event, "data: {\"type\":\"note\",\"payload\":\"hello\"}\n\n");
    assert_eq!(sent("", "hello"), "data: hello\n\n");
    let event = sent("connection_close", "{}");
    assert_eq!(event, "event: connection_close\ndata: {}\n\n");
}

#[test]
fn the_line_of_a_send_to_many_is_as_shown() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("LOG_LEVEL", "debug").start();
    let answer = r#"{"channels":["news"]}"#;
    let streams = ["/1", "/2"].map(|path| open_answered(&gateway, &backend, path, answer));
    let event = json!({"channel": "news", "event": {"data": "to a channel"}});
    assert_ok(
        &post_send(&gateway, &event),
        r#"{"status":"ok","receivers":2}"#,
    );
    let line = gateway.wait_log("event sent channel=");
    assert!(readme::text().contains(&format!("`{line}`")), "{line}");
    drop(streams);
    // Nobody is there: the line tells where the event went all the same.
    let event = json!({"channels": ["nows", "users"], "event": {"data": "x"}});
    assert_ok(
        &post_send(&gateway, &event),
        r#"{"status":"ok","receivers":0}"#,
    );
    gateway.wait_log("event sent channel=nows,users receivers=0 length=1");
}

/// What the channels of an answer bring before it is read does not come, what those of a send bring
/// waits behind the answer's event, and of a key the last.
#[test]
fn who_subscribes_during_the_callback_misses_nothing() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/s");
    let callback = backend.next_connect_of("/s");
    let join = json!({"token": callback.token(), "subscribe": ["job"]});
    assert_ok(&post_send(&gateway, &join), BUFFERED);
    for (channel, percent, receivers) in [("job", 10, 1), ("news", 0, 0), ("job", 20, 1)] {
        let event = json!({"data": percent.to_string(), "key": "job.progress"});
        let answer = post_send(&gateway, &json!({"channel": channel, "event": event}));
        let shown = format!(r#"{{"status":"ok","receivers":{receivers}}}"#);
        assert_ok(&answer, &shown);
    }
    callback.answer(200, r#"{"event":{"data":"0"},"channels":["news","job"]}"#);
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.next_event(), "data: 0\n\n");
    assert_eq!(client.next_event(), "data: 20\n\n");
    let later = json!({"channel": "news", "event": {"data": "now"}});
    assert_ok(
        &post_send(&gateway, &later),
        r#"{"status":"ok","receivers":1}"#,
    );
    assert_eq!(client.next_event(), "data: now\n\n");
}

#[test]
fn an_answer_whose_channels_cannot_be_opens_nothing() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    for channels in [json!("news"), json!(["a b"]), json!(many)] {
        let mut client = gateway.get("/s");
        let callback = backend.next_connect_of("/s");
        callback.answer(200, &json!({"channels": channels}).to_string());
        assert_error(&client.read_response(), 502, "BACKEND_ERROR");
        let disconnect = backend.next_disconnect_of(&callback.token());
        assert_eq!(disconnect.reason(), "error");
        disconnect.answer(200, "");
    }
}

/// What the README says may be too much, or wrong, of a send to many.
#[test]
fn the_codes_of_what_cannot_be_sent_are_in_the_readme() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (_client, token) = open_stream(&gateway, &backend, "/s");
    let names = |most: usize| (0..most).map(|n| n.to_string()).collect::<Vec<_>>();
    let event =
        |field: &str, value: Value| json!({"channel": "c", "event": {"data": "", field: value}});
    for (command, code) in [
        (json!({"token": token, "channel": "c"}), "INVALID_TARGET"),
        (json!({"tokens": names(1001)}), "INVALID_TARGET"),
        (json!({"channels": names(65)}), "INVALID_TARGET"),
        (
            json!({"channel": "c", "subscribe": ["d"]}),
            "INVALID_TARGET",
        ),
        (json!({"channel": "a b"}), "INVALID_CHANNEL"),
        (
            json!({"token": token, "subscribe": names(65)}),
            "INVALID_CHANNEL",
        ),
        (event("id", json!("earliest")), "INVALID_EVENT_ID"),
        (event("retry", json!(86_400_001)), "INVALID_EVENT_RETRY"),
        (event("key", json!("")), "INVALID_EVENT_KEY"),
        (event("retain", json!("")), "INVALID_EVENT_RETAIN"),
    ] {
        assert_error(&post_send(&gateway, &command), 400, code);
        assert!(readme::text().contains(&format!("`{code}`")), "{code}");
    }
    for command in [
        json!({"tokens": names(1000)}),
        json!({"channels": names(64)}),
    ] {
        assert_eq!(post_send(&gateway, &command).status(), 200);
    }
    let join = json!({"token": token, "subscribe": names(64)});
    assert_ok(&post_send(&gateway, &join), OK);
    let one_more = json!({"token": token, "subscribe": ["x"]});
    assert_error(&post_send(&gateway, &one_more), 400, "INVALID_CHANNEL");
}

/// `queued` grows while nobody reads, is that stream's alone, and is gone when all is read.
#[test]
fn queued_tells_of_a_stream_that_nobody_reads() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("SEND_BUFFER_BYTES", "4096").start();
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow", 2048);
    let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
    let data = "x".repeat(20_000);
    let mut events = 0;
    let mut send = || {
        events += 1;
        let answer = send_data(&gateway, &token, &data);
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        json["queued"].as_u64().unwrap_or(0)
    };
    while send() == 0 {}
    let (one, two) = (send(), send());
    assert!(one < two && two > 20_000, "{one} {two}");
    assert_ok(&send_data(&gateway, &other_token, "x"), OK);
    assert_eq!(other.next_event(), "data: x\n\n");
    for _ in 0..events {
        assert_eq!(slow.next_event().len(), data.len() + "data: \n\n".len());
    }
    assert_ok(&send_data(&gateway, &token, "x"), OK);
}

/// Steps of a progress bar to a stream that nobody reads: few come, the last does, none goes back;
/// and fewer, the less the kernel is given ahead of the network.
#[test]
fn of_a_progress_bar_a_slow_stream_sees_fewer_steps() {
    let [few, many] = ["4096", "131072"].map(steps_seen);
    assert!(few < many && many < 100, "{few} {many}");
}

/// How many of 200 steps of 2 KiB a client sees that reads behind the last one.
fn steps_seen(ahead: &str) -> usize {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("NOTSENT_LOWAT_BYTES", ahead).start();
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow", 2048);
    let join = json!({"token": token, "subscribe": ["job.7"]});
    assert_ok(&post_send(&gateway, &join), OK);
    let steps = 200;
    let rest = " ".repeat(2000);
    for step in 1..=steps {
        let event = json!({"data": format!("{step}{rest}"), "key": "job.7.progress"});
        let answer = post_send(&gateway, &json!({"channel": "job.7", "event": event}));
        assert_ok(&answer, r#"{"status":"ok","receivers":1}"#);
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&steps) {
        let event = slow.next_event();
        let step = event.trim_start_matches("data: ").trim_end();
        seen.push(step.parse::<i32>().expect(step));
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    seen.len()
}

/// One stream, addressed in every way by a publisher that pipelines.
#[test]
fn the_order_is_that_of_the_requests_however_they_are_addressed() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let answer = r#"{"channels":["a","b"]}"#;
    let (mut client, token) = open_answered(&gateway, &backend, "/s", answer);
    let targets = [
        json!({"channel": "a"}),
        json!({"token": token}),
        json!({"channels": ["a", "b"]}),
        json!({"tokens": [token]}),
        json!({"broadcast": true}),
    ];
    let rounds = 20;
    let mut pipeline = String::new();
    for number in 0..rounds * targets.len() {
        let mut command = targets[number % targets.len()].clone();
        command["event"] = json!({"data": number.to_string()});
        pipeline += &send_request(&command.to_string());
    }
    let mut publisher = gateway.connect();
    publisher.send(pipeline);
    for number in 0..rounds * targets.len() {
        assert_eq!(publisher.read_response().status(), 200);
        assert_eq!(client.next_event(), format!("data: {number}\n\n"));
    }
}

/// A window that is full: no stream with a hole in it.
#[test]
fn a_client_whose_window_cannot_take_what_is_for_many_is_turned_back() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("MAX_UNSENT_BYTES", "16384").start();
    let mut client = gateway.get("/s");
    let callback = backend.next_connect_of("/s");
    let (mut other, _) = open_stream(&gateway, &backend, "/other");
    let command = json!({"broadcast": true, "event": {"data": "x".repeat(10_000)}});
    for _ in 0..2 {
        assert_ok(
            &post_send(&gateway, &command),
            r#"{"status":"ok","receivers":2}"#,
        );
    }
    assert_error(&client.read_response(), 503, "OVERLOADED");
    callback.answer(200, "");
    let disconnect = backend.next_disconnect_of(&callback.token());
    assert_eq!(disconnect.reason(), "error");
    disconnect.answer(200, "");
    for _ in 0..2 {
        assert_eq!(other.next_event().len(), 10_000 + "data: \n\n".len());
    }
}
