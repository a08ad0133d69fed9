//! What there is at a moment: connections, bytes that wait, memory, members, the past.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{LITTLE, OPENED, event_to, narrow, open_answered};
use crate::support::process::{Process, descriptors, eventually, resident_kib};
use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, Scraper, assert_ok, assert_sent, open_narrow,
    open_stream, post_send, send_data,
};

#[test]
fn settings_and_the_process_are_told_as_they_are() {
    let backend = Backend::accepting();
    let settings = [
        ("MAX_STREAMS", "77"),
        ("MAX_HELD_BYTES", "70001"),
        ("MAX_INBOUND_BYTES", "70002"),
        ("MAX_KEPT_HEADER_BYTES", "70003"),
        ("HISTORY_BYTES", "70004"),
        ("MAX_RETAINED_BYTES", "70005"),
        ("CONNECT_QUEUE", "70006"),
    ];
    let unix = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time")
    };
    let before = unix().as_secs();
    let process = Process::start("exec \"$0\"", &backend, &settings);
    let after = unix().as_secs();
    let mut scraper = Scraper::over(process.connect());
    let metrics = scraper.look();
    let series = [
        "max_streams",
        "max_held_bytes towards=clients",
        "max_held_bytes towards=publishers",
        "max_kept_header_bytes",
        "max_history_bytes",
        "max_retained_bytes",
        "max_callback_queue kind=connect",
    ];
    for (series, (_, value)) in series.iter().zip(settings) {
        assert_eq!(metrics.count(series).to_string(), value, "{series}");
    }
    let start = metrics.count("start_time_seconds");
    assert!(before <= start && start <= after, "{start}");
    assert_eq!(metrics.count("ready"), 1);
    let connections: Vec<Client> = (0..10).map(|_| process.connect()).collect();
    let metrics = scraper.wait("connections", |it| it.count("connections") == 11);
    // Linux tells it since 6.2, elsewhere they are as many as there are connections.
    let is_told = fs::metadata("/proc/self/fd").is_ok_and(|folder| folder.len() > 0);
    let open = if is_told {
        descriptors(process.pid())
    } else {
        11
    };
    assert_eq!(metrics.count("open_descriptors"), open as u64);
    assert!(metrics.count("max_descriptors") >= metrics.count("max_connections"));
    let (resident, kib) = (
        metrics.count("resident_memory_bytes"),
        resident_kib(process.pid()) as u64,
    );
    let range = kib * 1024 / 2..kib * 1024 * 2;
    assert!(range.contains(&resident), "{resident} and {kib} KiB");
    drop(connections);
    scraper.wait("one connection", |it| it.count("connections") == 1);
    let accepted = scraper.get("connections_accepted_total");
    assert_eq!(accepted, 11);
}

/// What waits for a reader: in the figures, in the answer to the send, and in the list of streams.
#[test]
fn bytes_that_nobody_reads_are_told_wherever_they_are() {
    let backend = Backend::start();
    let gateway = narrow(&backend).start();
    let mut scraper = Scraper::of(&gateway);
    let streams = ["/1", "/2"].map(|path| open_narrow(&gateway, &backend, path, LITTLE));
    let (_other, other) = open_stream(&gateway, &backend, "/other");
    assert_eq!(scraper.get("unsent_bytes"), 0);
    let mut unsent = 0;
    for ((_, token), length) in streams.iter().zip([300_000, 700_000]) {
        // By every way there is.
        assert_sent(&send_data(&gateway, token, &"x".repeat(length)));
        let tokens = json!({"tokens": [token]});
        assert_eq!(event_to(&gateway, &tokens, &"y".repeat(1000)).status(), 200);
        let keyed = json!({"token": token, "event": {"data": "z", "key": "k"}});
        let queued = assert_sent(&post_send(&gateway, &keyed));
        assert!(queued > length / 2, "{queued}");
        unsent += queued as u64;
    }
    assert_ok(&send_data(&gateway, &other, "x"), OK);
    // Their sockets may take a little more behind an answer.
    eventually("figures that agree", || {
        let [before, after] = [(); 2].map(|()| scraper.get("unsent_bytes"));
        before == after && listed_unsent(&gateway) == after && scraper.get("unsent_bytes") == after
    });
    let still = scraper.get("unsent_bytes");
    assert!(unsent / 2 < still && still <= unsent, "{still} of {unsent}");
    let held = scraper.get("held_bytes towards=clients");
    assert!(held >= still, "{held} {still}");
    for (mut client, _) in streams {
        while client.next_event() != "data: z\n\n" {}
    }
    let metrics = scraper.wait("readers that have caught up", |it| {
        it.count("unsent_bytes") == 0
    });
    assert_eq!(metrics.count("held_bytes towards=clients"), 0);
    assert_eq!(listed_unsent(&gateway), 0);
}

/// The sum of what the list says.
fn listed_unsent(gateway: &Gateway) -> u64 {
    let mut client = gateway.get("/internal/streams");
    let json: Value = serde_json::from_slice(&client.read_response().body).expect("JSON");
    let streams = json["streams"].as_array().expect("streams");
    let unsent = streams.iter().map(|stream| stream["unsent"].as_u64());
    unsent.map(|it| it.expect("a number")).sum()
}

#[test]
fn memory_that_is_held_is_told_by_whom_it_is_held_for() {
    let backend = Backend::start();
    let gateway = narrow(&backend)
        .env("REQUEST_TIMEOUT_SECONDS", "60")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let own = scraper.last.count("held_bytes towards=publishers");
    // A callback's window.
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    let data = "x".repeat(10_000);
    assert_ok(&send_data(&gateway, &callback.token(), &data), BUFFERED);
    let held = scraper.get("held_bytes towards=clients");
    assert!((10_000..20_000).contains(&held), "{held}");
    callback.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.next_event().len(), 10_008);
    assert_eq!(scraper.get("held_bytes towards=clients"), 0);
    // A body under way.
    let mut publisher = gateway.connect();
    let head = "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 30000\r\n\r\n";
    publisher.send(head.to_owned() + &"x".repeat(20_000));
    let metrics = scraper.wait("a body under way", |it| {
        it.count("held_bytes towards=publishers") >= 20_000
    });
    let held = metrics.count("held_bytes towards=publishers");
    assert!(held < 40_000, "{held}");
    drop(publisher);
    scraper.wait("nothing that is held", |it| {
        it.count("held_bytes towards=publishers") == own
    });
    // The fields of a stream's head.
    let before = scraper.get("kept_header_bytes");
    let mut other = gateway.connect();
    let field = "abcdefghi ".repeat(1000);
    other.send(format!("GET /t HTTP/1.1\r\nHost: h\r\nA: {field}\r\n\r\n"));
    backend.next_connect().answer(200, "");
    assert_eq!(other.read_head().status, 200);
    let kept = scraper.get("kept_header_bytes");
    assert!(kept >= before + 10_000, "{before} {kept}");
    drop(other);
    backend.next_disconnect().answer(200, "");
    scraper.wait("fields that are gone", |it| {
        it.count("kept_header_bytes") == before
    });
}

#[test]
fn channels_and_memberships_are_counted() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let mut counted = || {
        let metrics = scraper.look();
        (metrics.count("channels"), metrics.count("memberships"))
    };
    let joined = |channels: &[&str]| {
        let answer = json!({"channels": channels});
        open_answered(&gateway, &backend, "/s", &answer)
    };
    assert_eq!(counted(), (0, 0));
    let (_one, token) = joined(&["a", "b"]);
    let (other, _) = joined(&["b", "c"]);
    assert_eq!(counted(), (3, 4));
    // One that waits for the backend's word may be a member.
    let _waiting = gateway.get("/t");
    let callback = backend.next_connect();
    let join = json!({"token": callback.token(), "subscribe": ["c", "d"]});
    assert_ok(&post_send(&gateway, &join), BUFFERED);
    assert_eq!(counted(), (4, 6));
    callback.answer(403, "");
    assert_ok(
        &post_send(&gateway, &json!({"token": token, "unsubscribe": ["a"]})),
        OK,
    );
    drop(other);
    backend.next_disconnect().answer(200, "");
    scraper.wait("one channel with one member", |it| {
        (it.count("channels"), it.count("memberships")) == (1, 1)
    });
}

#[test]
fn the_past_is_told_as_long_as_it_is_kept() {
    let backend = Backend::start();
    let gateway = narrow(&backend)
        .env("HISTORY_BYTES", "100000")
        .env("HISTORY_SECONDS", "1")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let empty = scraper.last.count("history_bytes");
    let channel = json!({"channel": "a"});
    for number in 1..=3_u64 {
        assert_eq!(
            event_to(&gateway, &channel, &"x".repeat(1000)).status(),
            200
        );
        // The first may be forgotten by then.
        let metrics = scraper.look();
        let (events, bytes) = (
            metrics.count("history_events"),
            metrics.count("history_bytes"),
        );
        assert!(events <= number, "{events} of {number}");
        assert!(bytes >= empty + events * 1000, "{bytes} for {events}");
    }
    scraper.wait("nothing that is kept", |it| {
        it.count("history_events") == 0 && it.count("history_bytes") <= empty + 1000
    });
    // Beyond its bytes the oldest go.
    let gateway = narrow(&backend).env("HISTORY_BYTES", "100000").start();
    let mut scraper = Scraper::of(&gateway);
    for number in 1..=5 {
        assert_eq!(event_to(&gateway, &channel, "x").status(), 200);
        assert_eq!(scraper.get("history_events"), number);
    }
    for _ in 0..200 {
        assert_eq!(
            event_to(&gateway, &channel, &"x".repeat(1000)).status(),
            200
        );
    }
    let metrics = scraper.look();
    let (events, bytes) = (
        metrics.count("history_events"),
        metrics.count("history_bytes"),
    );
    assert!((50..100).contains(&events), "{events}");
    assert!(bytes <= metrics.count("max_history_bytes"), "{bytes}");
    // Streams whose callback is out have a place in it, and take nothing from there.
    let _waiting = gateway.get("/s");
    let callback = backend.next_connect();
    assert_eq!(scraper.get("replays"), 0);
    callback.answer(200, "");
    scraper.wait("a stream", |it| it.count("streams") == 1);
    assert_eq!(scraper.get("replays"), 0);
}

#[test]
fn current_values_are_told_until_they_are_cleared() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut scraper = Scraper::of(&gateway);
    assert_eq!(scraper.last.count("retained_bytes"), 0);
    let retain = |channels: &[&str], data: &str| {
        let event = json!({"data": data, "retain": true});
        let response = post_send(&gateway, &json!({"channels": channels, "event": event}));
        assert_eq!(response.status(), 200);
    };
    retain(&["a"], &"x".repeat(1000));
    let one = scraper.get("retained_bytes");
    assert!((1000..2000).contains(&one), "{one}");
    retain(&["a", "b"], &"y".repeat(1000));
    let two = scraper.get("retained_bytes");
    assert_eq!(two, 2 * one);
    retain(&["a", "b"], "");
    assert_eq!(scraper.get("retained_bytes"), 0);
}

/// A figure that is scraped does not change what it tells of.
#[test]
fn looking_changes_nothing() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let (_client, _) = open_stream(&gateway, &backend, "/s");
    scraper.expect(&OPENED);
    let before = scraper.look();
    for _ in 0..20 {
        let after = scraper.look();
        assert_eq!(after.since(&before).len(), 0);
        for (gauge, value) in ["streams", "connections", "unsent_bytes", "channels"]
            .map(|gauge| (gauge, before.count(gauge)))
        {
            assert_eq!(after.count(gauge), value, "{gauge}");
        }
    }
}
