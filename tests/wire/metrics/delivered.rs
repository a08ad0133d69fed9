//! Events and bytes that are delivered: those that the clients read, no more and no less.

use serde_json::{Value, json};

use super::{LITTLE, event_to, narrow, open_answered};
use crate::support::{
    BUFFERED, Backend, Builder, Client, Gateway, OK, Response, Scraper, assert_ok, assert_sent,
    open_narrow, post_send, send_data,
};

/// Nothing comes by itself, and no callback is late.
fn steady(backend: &Backend) -> Builder {
    narrow(backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "86400")
        .env("DISCONNECT_TIMEOUT_SECONDS", "60")
}

/// Events up to the one with this data, which is one of them; what has no data is none.
#[track_caller]
fn events_until(client: &mut Client, last: &str) -> u64 {
    let mut events = 0;
    loop {
        let event = client.next_event();
        let is_last = event == format!("data: {last}\n\n");
        events += u64::from(event.contains("data: "));
        if is_last || event.ends_with(&format!("\ndata: {last}\n\n")) {
            return events;
        }
    }
}

/// So much was delivered in all: these events, and every byte that these clients read.
#[track_caller]
fn assert_delivered(scraper: &mut Scraper, clients: &[&Client], events: u64) {
    let bytes: u64 = clients.iter().map(|client| client.received).sum();
    let metrics = scraper.look();
    let delivered = (
        metrics.count("events_delivered_total"),
        metrics.count("delivered_bytes_total"),
    );
    assert_eq!(delivered, (events, bytes));
}

#[track_caller]
fn assert_receivers(response: &Response, receivers: usize) {
    assert_ok(
        response,
        &format!(r#"{{"status":"ok","receivers":{receivers}}}"#),
    );
}

/// By the answer to the connect callback, by token before and behind it, by tokens, channel and
/// broadcast, over both versions of HTTP, and with a close.
#[test]
fn whatever_comes_to_streams_counts_as_it_is_read() {
    let backend = Backend::start();
    let gateway = steady(&backend).start();
    let mut scraper = Scraper::of(&gateway);
    let mut clients = Vec::new();
    let mut tokens = Vec::new();
    let keyed = |data: &str| json!({"data": data, "key": "k"});
    for version in ["HTTP/1.1", "HTTP/1.0", "HTTP/1.1"] {
        let mut client = gateway.connect();
        client.send(format!("GET /s {version}\r\nHost: h\r\n\r\n"));
        let callback = backend.next_connect();
        let token = callback.token();
        for event in [json!({"data": "a\nb"}), keyed("1"), keyed("2"), keyed("3")] {
            let command = json!({"token": token, "event": event});
            assert_ok(&post_send(&gateway, &command), BUFFERED);
        }
        // What is not delivered does not count.
        assert_delivered(&mut scraper, &[], 0);
        tokens.push(token);
        clients.push((client, callback));
    }
    let answer = json!({"event": {"name": "first", "data": ""}, "channels": ["a", "b"]});
    let mut clients: Vec<Client> = clients
        .into_iter()
        .map(|(mut client, callback)| {
            callback.answer(200, &answer.to_string());
            assert_eq!(client.read_head().status, 200);
            client
        })
        .collect();
    for token in &tokens {
        assert_ok(&send_data(&gateway, token, "direct"), OK);
        let command = json!({"token": token, "event": keyed("direct")});
        assert_ok(&post_send(&gateway, &command), OK);
    }
    let all = |target: Value, data: &str| {
        assert_receivers(&event_to(&gateway, &target, data), 3);
    };
    all(json!({"tokens": tokens}), "some");
    all(json!({"channel": "a"}), "channel");
    all(json!({"channels": ["a", "b"]}), "channels");
    all(json!({"broadcast": true}), "everybody");
    assert_receivers(&event_to(&gateway, &json!({"channel": "c"}), "nobody"), 0);
    // The answer's, the window's first and last, two direct ones, four to many, and the one behind.
    let each = 1 + 2 + 2 + 4 + 1;
    all(json!({"broadcast": true, "close": true}), "end");
    for client in &mut clients {
        assert_eq!(events_until(client, "end"), each);
        client.read_to_end();
    }
    let clients: Vec<&Client> = clients.iter().collect();
    assert_delivered(&mut scraper, &clients, 3 * each);
}

/// Bytes that are no events.
#[test]
fn heartbeats_and_waits_count_as_bytes() {
    let backend = Backend::start();
    let gateway = narrow(&backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .env("RETRY_MILLISECONDS", "1234")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let (mut client, token) = open_answered(&gateway, &backend, "/s", &json!({}));
    assert_eq!(client.next_event(), "retry: 1234\n\n");
    for _ in 0..2 {
        assert_eq!(client.next_event(), ": heartbeat\n\n");
    }
    let close = json!({"token": token, "event": {"data": "x"}, "close": true});
    assert_ok(&post_send(&gateway, &close), OK);
    assert_eq!(client.next_event_behind_heartbeats(), "data: x\n\n");
    client.expect_last_chunk_and_eof();
    assert_delivered(&mut scraper, &[&client], 1);
}

/// Of a key the last comes, and the others neither to the client nor into the figures.
#[test]
fn what_is_taken_out_does_not_count() {
    let backend = Backend::start();
    let gateway = steady(&backend).start();
    let mut scraper = Scraper::of(&gateway);
    let (mut slow, token) = open_narrow(&gateway, &backend, "/slow", LITTLE);
    let join = json!({"token": token, "subscribe": ["a"]});
    assert_ok(&post_send(&gateway, &join), OK);
    let steps = 100;
    let rest = " ".repeat(5000);
    for step in 0..steps {
        let target = match step % 3 {
            0 => json!({"channel": "a"}),
            1 => json!({"broadcast": true}),
            _ => json!({"token": token}),
        };
        let mut command = target;
        command["event"] = json!({"data": format!("{step}{rest}"), "key": "k"});
        assert_eq!(post_send(&gateway, &command).status(), 200);
    }
    let ends = [
        json!({"token": token}),
        json!({"channel": "a", "close": true}),
    ];
    for (target, data) in ends.iter().zip(["direct", "end"]) {
        assert_eq!(event_to(&gateway, target, data).status(), 200);
    }
    let events = events_until(&mut slow, "end");
    assert!(events < steps, "{events}");
    slow.expect_last_chunk_and_eof();
    assert_delivered(&mut scraper, &[&slow], events);
}

/// A reader who is dropped: what his socket took counts, and of a send to many nothing else.
#[test]
fn what_does_not_come_to_a_stream_that_is_dropped_does_not_count() {
    let backend = Backend::start();
    let gateway = steady(&backend).env("MAX_UNSENT_BYTES", "65536").start();
    let mut scraper = Scraper::of(&gateway);
    let (slow, _) = open_narrow(&gateway, &backend, "/slow", LITTLE);
    let broadcast = json!({"broadcast": true});
    let data = "x".repeat(20_000);
    let head = scraper.get("delivered_bytes_total");
    let mut sent = 0;
    while scraper.get("streams") > 0 {
        assert_eq!(event_to(&gateway, &broadcast, &data).status(), 200);
        sent += 1;
    }
    let metrics = scraper.look();
    let unsent = 65536 / 20_000;
    let delivered = metrics.count("events_delivered_total");
    assert!(delivered + unsent <= sent, "{delivered} of {sent}");
    let bytes = metrics.count("delivered_bytes_total") - head;
    let chunk = "4e28\r\ndata: \n\n\r\n".len() as u64 + 20_000;
    assert!(bytes / chunk == delivered, "{bytes} of {delivered} events");
    drop(slow);
}

// ---- from the history ----

/// What was missed, the current value, and what is told of what is lost.
#[test]
fn what_comes_from_the_history_counts_as_it_is_read() {
    let backend = Backend::start();
    let gateway = steady(&backend).env("HISTORY_BYTES", "1000000").start();
    let mut scraper = Scraper::of(&gateway);
    let to = |channel: &str, event: Value| {
        let response = post_send(&gateway, &json!({"channel": channel, "event": event}));
        let json: Value = serde_json::from_slice(&response.body).expect("JSON");
        json["id"].as_str().expect("an id").to_owned()
    };
    let begin = to("a", json!({"data": "0"}));
    for number in 1..=20 {
        to("a", json!({"data": number.to_string()}));
        to("a", json!({"data": "step", "key": "k"}));
        to("b", json!({"data": "of nobody"}));
    }
    to("value", json!({"data": "v", "retain": true}));
    let come = |last: &str, version: &str, answer: Value| {
        let mut client = gateway.connect();
        let fields = format!("Host: h\r\nLast-Event-ID: {last}\r\n");
        client.send(format!("GET /s {version}\r\n{fields}\r\n"));
        backend.next_connect().answer(200, &answer.to_string());
        assert_eq!(client.read_head().status, 200);
        client
    };
    // Twenty, and of the steps the last.
    let channels = json!({"channels": ["a"]});
    let mut one = come(&begin, "HTTP/1.1", channels.clone());
    let mut two = come(&begin, "HTTP/1.0", channels.clone());
    // An id that nobody has given; what is current.
    let mut three = come("nothing", "HTTP/1.1", channels);
    let mut four = come(
        "",
        "HTTP/1.1",
        json!({"channels": ["value"], "last_event_id": ""}),
    );
    assert_receivers_and_id(&event_to(&gateway, &json!({"broadcast": true}), "end"), 4);
    let expected = [20 + 1 + 1, 20 + 1 + 1, 1 + 1, 1 + 1];
    for (client, expected) in [&mut one, &mut two, &mut three, &mut four]
        .into_iter()
        .zip(expected)
    {
        assert_eq!(events_until(client, "end"), expected);
    }
    assert_delivered(
        &mut scraper,
        &[&one, &two, &three, &four],
        expected.iter().sum(),
    );
    assert_eq!(scraper.get("gaps_total"), 1);
}

#[track_caller]
fn assert_receivers_and_id(response: &Response, receivers: usize) {
    let json: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(json["receivers"], receivers, "{json}");
    assert!(json["id"].is_string(), "{json}");
}

/// Megabytes that are taken piece by piece, with what is sent to the stream alone between them; and a
/// reader who is overtaken.
#[test]
fn what_is_taken_slowly_from_the_history_counts_as_it_is_read() {
    let backend = Backend::start();
    for (history, is_overtaken) in [("100000000", false), ("3000000", true)] {
        let gateway = steady(&backend).env("HISTORY_BYTES", history).start();
        let mut scraper = Scraper::of(&gateway);
        let channel = json!({"channel": "a"});
        let data = "x".repeat(5000);
        for _ in 0..500 {
            assert_eq!(event_to(&gateway, &channel, &data).status(), 200);
        }
        let mut slow = Client::with_receive_buffer(gateway.port(), 32 * 1024);
        slow.get("/slow");
        let callback = backend.next_connect();
        let answer = json!({"channels": ["a"], "last_event_id": "earliest"});
        callback.answer(200, &answer.to_string());
        assert_eq!(slow.read_head().status, 200);
        let metrics = scraper.look();
        assert_eq!(metrics.count("replays"), 1);
        assert!(metrics.count("events_delivered_total") < 500);
        assert_sent(&send_data(&gateway, &callback.token(), "alone"));
        let mut events = 0;
        if is_overtaken {
            for _ in 0..500 {
                assert_eq!(event_to(&gateway, &channel, &data).status(), 200);
            }
            // What comes from there is lost, and what comes behind that does come.
            let mut is_told = false;
            while !is_told {
                let event = slow.next_event();
                is_told = event.starts_with("event: gap\n");
                events += 1;
            }
        }
        assert_eq!(event_to(&gateway, &channel, "end").status(), 200);
        events += events_until(&mut slow, "end");
        if is_overtaken {
            assert!(events < 500, "{events}");
        } else {
            assert_eq!(events, 500 + 1 + 1);
        }
        // Its position may stand behind the last one.
        let close = json!({"token": callback.token(), "close": true});
        assert_ok(&post_send(&gateway, &close), OK);
        slow.read_to_end();
        assert_delivered(&mut scraper, &[&slow], events);
        assert_eq!(scraper.get("gaps_total"), u64::from(is_overtaken));
        assert_eq!(scraper.get("replays"), 0);
        backend.next_disconnect().answer(200, "");
    }
}

/// A client that leaves takes nothing more; what its socket took before counts.
#[test]
fn bytes_to_who_has_left_are_those_that_the_socket_took() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let (mut client, token) = open_answered(&gateway, &backend, "/s", &json!({}));
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(client.next_event(), "data: x\n\n");
    assert_delivered(&mut scraper, &[&client], 1);
    let received = client.received;
    drop(client);
    backend.next_disconnect().answer(200, "");
    assert_eq!(send_data(&gateway, &token, "late").status(), 404);
    assert_eq!(scraper.get("delivered_bytes_total"), received);
    assert_eq!(scraper.get("events_delivered_total"), 1);
}
