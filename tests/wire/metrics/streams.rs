//! Streams that open and end, and those that are dropped by a limit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use super::{LITTLE, OPENED, TOLD, and, event_to, narrow, open_answered};
use crate::support::crowd::Over;
use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, Scraper, assert_error, assert_ok, open_narrow,
    open_stream, send_close, send_data,
};

const LEFT: (&str, u64) = ("streams_ended_total reason=client_closed", 1);
const CLOSED: (&str, u64) = ("streams_ended_total reason=server_closed", 1);
const FAILED: (&str, u64) = ("streams_ended_total reason=error", 1);
const SENT: (&str, u64) = ("sends_total target=token answer=ok", 1);

#[test]
fn a_stream_counts_when_it_opens_and_when_it_ends() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let mut now = |grown: &[(&str, u64)], connecting: u64, streams: u64| {
        scraper.expect(grown);
        let metrics = &scraper.last;
        assert_eq!(metrics.count("streams_connecting"), connecting);
        assert_eq!(metrics.count("streams"), streams);
    };
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    now(&[], 1, 0);
    callback.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    now(&OPENED, 0, 1);
    let (other, _) = open_stream(&gateway, &backend, "/other");
    now(&OPENED, 0, 2);
    // A FIN; then a reset.
    drop(client);
    backend.next_disconnect().answer(200, "");
    now(&[LEFT, TOLD], 0, 1);
    other.reset();
    backend.next_disconnect().answer(200, "");
    now(&[LEFT, TOLD], 0, 0);
}

/// By its token, by its connect callback's answer, by a send that waits for that, by a send to many.
#[test]
fn a_stream_that_the_backend_closes_counts_as_that() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let (mut client, token) = open_stream(&gateway, &backend, "/1");
    scraper.expect(&OPENED);
    assert_ok(&send_close(&gateway, &token), OK);
    client.expect_last_chunk_and_eof();
    backend.next_disconnect().answer(200, "");
    scraper.expect(&[CLOSED, SENT, TOLD]);

    let (mut client, _) = open_answered(&gateway, &backend, "/2", &json!({"close": true}));
    client.expect_last_chunk_and_eof();
    backend.next_disconnect().answer(200, "");
    scraper.expect(&and(&OPENED, &[CLOSED, TOLD]));

    let mut client = gateway.get("/3");
    let callback = backend.next_connect();
    assert_ok(&send_close(&gateway, &callback.token()), BUFFERED);
    callback.answer(200, "");
    client.read_head();
    client.expect_last_chunk_and_eof();
    backend.next_disconnect().answer(200, "");
    let buffered = ("sends_total target=token answer=buffered", 1);
    scraper.expect(&and(&OPENED, &[CLOSED, TOLD, buffered]));

    let answer = json!({"channels": ["a"]});
    let streams = ["/4", "/5"].map(|path| open_answered(&gateway, &backend, path, &answer).0);
    scraper.expect(&OPENED.map(|(name, by)| (name, 2 * by)));
    let response = event_to(&gateway, &json!({"channel": "a", "close": true}), "x");
    assert_ok(&response, r#"{"status":"ok","receivers":2}"#);
    for mut client in streams {
        assert_eq!(client.next_event(), "data: x\n\n");
        client.expect_last_chunk_and_eof();
        backend.next_disconnect().answer(200, "");
    }
    scraper.expect(&[
        (CLOSED.0, 2),
        (TOLD.0, 2),
        ("events_delivered_total", 2),
        ("sends_total target=channels answer=ok", 1),
    ]);
}

/// A stream that is ended by a limit is counted once by its reason, and once by the limit's name.
#[track_caller]
fn expect_dropped(backend: &Backend, scraper: &mut Scraper, limit: &str, others: &[(&str, u64)]) {
    backend.next_disconnect().answer(200, "");
    let dropped = format!("streams_dropped_total limit={limit}");
    let hit = format!("limits_hit_total limit={limit}");
    let grown = [(&*dropped, 1), (&*hit, 1), FAILED, TOLD];
    scraper.expect(&and(&grown, others));
}

#[test]
fn who_passes_max_unsent_bytes_is_counted_under_its_name() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_UNSENT_BYTES", "1024").start();
    let mut scraper = Scraper::of(&gateway);
    let (mut slow, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
    scraper.expect(&OPENED);
    // An empty queue takes one event.
    let big = "x".repeat(1_000_000);
    assert_eq!(send_data(&gateway, &token, &big).status(), 200);
    scraper.expect(&[SENT, ("events_delivered_total", 1)]);
    assert_error(&send_data(&gateway, &token, "x"), 500, "WRITE_FAILED");
    slow.expect_reset();
    let failed = ("sends_total target=token answer=WRITE_FAILED", 1);
    expect_dropped(&backend, &mut scraper, "MAX_UNSENT_BYTES", &[failed]);

    // By a send to many: the send is good, and of the event that does not fit nothing is delivered.
    let answer = json!({"channels": ["a"]});
    let mut client = Client::with_receive_buffer(gateway.port(), LITTLE);
    client.get("/t");
    backend.next_connect().answer(200, &answer.to_string());
    client.read_head();
    scraper.expect(&OPENED);
    let channel = json!({"channel": "a"});
    assert_eq!(event_to(&gateway, &channel, &big).status(), 200);
    let sent = ("sends_total target=channels answer=ok", 1);
    scraper.expect(&[sent]);
    assert_eq!(event_to(&gateway, &channel, "x").status(), 200);
    client.expect_reset();
    expect_dropped(&backend, &mut scraper, "MAX_UNSENT_BYTES", &[sent]);
}

#[test]
fn who_holds_most_is_counted_under_its_name() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_HELD_BYTES", "65536").start();
    let mut scraper = Scraper::of(&gateway);
    let (mut slow, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
    scraper.expect(&OPENED);
    let response = send_data(&gateway, &token, &"x".repeat(1_000_000));
    assert_error(&response, 500, "WRITE_FAILED");
    slow.expect_reset();
    let others = [
        ("sends_total target=token answer=WRITE_FAILED", 1),
        ("events_delivered_total", 1),
    ];
    expect_dropped(&backend, &mut scraper, "MAX_HELD_BYTES", &others);
}

#[test]
fn who_stalls_is_counted_under_its_name() {
    for (setting, data) in [
        ("STALL_TIMEOUT_SECONDS", 1_000_000),
        ("PEER_TIMEOUT_SECONDS", 1_000_000),
    ] {
        let backend = Backend::start();
        let gateway = narrow(&backend).env(setting, "1").start();
        let mut scraper = Scraper::of(&gateway);
        let (_slow, token) = open_narrow(&gateway, &backend, "/s", LITTLE);
        scraper.expect(&OPENED);
        let response = send_data(&gateway, &token, &"x".repeat(data));
        assert_eq!(response.status(), 200);
        let others = [SENT, ("events_delivered_total", 1)];
        expect_dropped(&backend, &mut scraper, setting, &others);
    }
}

#[test]
fn who_sends_what_nobody_wants_is_counted_under_its_name() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_DISCARDED_BYTES", "1024").start();
    let mut scraper = Scraper::of(&gateway);
    let (mut client, _) = open_stream(&gateway, &backend, "/s");
    scraper.expect(&OPENED);
    client.send([b'x'; 1025]);
    client.expect_eof_or_reset();
    expect_dropped(&backend, &mut scraper, "MAX_DISCARDED_BYTES", &[]);
    // The same while the backend is asked: there is no stream that could be dropped.
    let mut client = gateway.get("/t");
    let callback = backend.next_connect();
    client.send([b'x'; 1025]);
    client.expect_eof_or_reset();
    callback.answer(403, "");
    scraper.expect(&[
        ("limits_hit_total limit=MAX_DISCARDED_BYTES", 1),
        ("callbacks_total kind=connect outcome=rejected", 1),
    ]);
}

/// Its time being over is a limit that drops nobody.
#[test]
fn a_stream_whose_time_is_over_counts_under_the_name_of_that() {
    let backend = Backend::start();
    let gateway = narrow(&backend).env("MAX_STREAM_SECONDS", "1").start();
    let mut scraper = Scraper::of(&gateway);
    let answers = [
        ("MAX_STREAM_SECONDS", json!({})),
        ("expires_in", json!({"expires_in": 1})),
    ];
    for (limit, answer) in answers {
        let (mut client, _) = open_answered(&gateway, &backend, "/s", &answer);
        client.expect_last_chunk_and_eof();
        backend.next_disconnect().answer(200, "");
        let hit = format!("limits_hit_total limit={limit}");
        scraper.expect(&and(&OPENED, &[CLOSED, TOLD, (&hit, 1)]));
    }
}

/// Figures can be had as long as the process lives, and its last ends are in them.
#[test]
fn a_shutdown_is_seen_in_the_figures() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let mut gateway = builder
        .env("SHUTDOWN_TIMEOUT_SECONDS", "60")
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .env("DISCONNECT_TIMEOUT_SECONDS", "60")
        .start();
    let mut scraper = Scraper::of(&gateway);
    assert_eq!(scraper.last.count("ready"), 1);
    let (mut client, _) = open_stream(&gateway, &backend, "/s");
    scraper.expect(&OPENED);
    gateway.signal("TERM");
    client.expect_last_chunk_and_eof();
    let disconnect = backend.next_disconnect();
    assert_error(&gateway.get("/t").read_response(), 503, "SHUTTING_DOWN");
    scraper.expect(&[CLOSED, ("refusals_total code=SHUTTING_DOWN", 1)]);
    assert_eq!(scraper.last.count("ready"), 0);
    assert_eq!(scraper.last.count("callbacks_pending kind=disconnect"), 1);
    disconnect.answer(200, "");
    assert!(gateway.wait_exit().success());
}

/// While streams come and go, each look finds as many open as have opened and not ended, and at the
/// end nothing was counted twice or not at all.
#[test]
fn the_figures_agree_while_streams_come_and_go() {
    const CLIENTS: usize = 50;
    const LOOKS: usize = 100;
    let backend = Backend::accepting();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    let is_over = AtomicBool::new(false);
    let lives = thread::scope(|scope| {
        let live = |number: usize| {
            let (gateway, is_over) = (&gateway, &is_over);
            move || {
                let mut lives = 0;
                while !is_over.load(Ordering::Acquire) {
                    let mut client = gateway.get(&format!("/{number}"));
                    assert_eq!(client.read_head().status, 200);
                    lives += 1;
                    if lives % 2 == 0 {
                        client.reset();
                    }
                }
                lives
            }
        };
        let over = Over(&is_over);
        let threads: Vec<_> = (0..CLIENTS).map(|it| scope.spawn(live(it))).collect();
        scraper.wait("streams", |metrics| {
            metrics.count("streams_opened_total") > 0
        });
        for _ in 0..LOOKS {
            scraper.look();
        }
        drop(over);
        let lives = threads.into_iter().map(|it| it.join().expect("no panic"));
        lives.sum::<u64>()
    });
    let grown = [
        ("callbacks_total kind=connect outcome=accepted", lives),
        ("callbacks_total kind=disconnect outcome=accepted", lives),
        ("streams_opened_total", lives),
        ("streams_ended_total reason=client_closed", lives),
    ];
    scraper.expect(&grown);
    assert_eq!(scraper.last.count("streams"), 0);
    let accepted = scraper.last.count("connections_accepted_total");
    assert_eq!(accepted, lives + 1, "and the scraper");
    backend.assert_balanced();
}
