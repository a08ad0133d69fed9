//! Callbacks, by their kind and how they ended, how long they took, and how many wait.

use std::thread;
use std::time::{Duration, Instant};

use super::{OPENED, TOLD};
use crate::support::{Backend, Callback, Gateway, Scraper, assert_error, open_stream, send_close};

const LEFT: (&str, u64) = ("streams_ended_total reason=client_closed", 1);

/// How a callback ends, by the name of that.
type Ending = (&'static str, fn(&Callback));

/// What an answer, or none, comes to: for a connect, and for a disconnect.
fn endings() -> Vec<Ending> {
    vec![
        ("accepted", |callback| callback.answer(204, "")),
        ("rejected", |callback| callback.answer(500, "")),
        ("failed", Callback::reset),
        ("failed", |callback| {
            callback.write(b"what is this\r\n\r\n");
            callback.close();
        }),
        ("unfinished", |callback| {
            callback.note_accepted();
            callback.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
            callback.close();
        }),
        ("timed_out", |_| {}),
    ]
}

#[test]
fn a_callback_counts_once_by_how_it_ends() {
    for (outcome, end) in endings() {
        let backend = Backend::start();
        let gateway = Gateway::builder()
            .backend(&backend)
            .env("CONNECT_TIMEOUT_SECONDS", "60")
            .env("DISCONNECT_TIMEOUT_SECONDS", "1")
            .start();
        let mut scraper = Scraper::of(&gateway);
        let (client, _) = open_stream(&gateway, &backend, "/s");
        scraper.expect(&OPENED);
        drop(client);
        let disconnect = backend.next_disconnect();
        end(&disconnect);
        let ended = format!("callbacks_total kind=disconnect outcome={outcome}");
        scraper.expect(&[LEFT, (&ended, 1)]);
        assert_eq!(scraper.last.count("callbacks_pending kind=disconnect"), 0);
    }
}

#[test]
fn a_connect_callback_counts_once_by_how_it_ends() {
    for (outcome, end) in endings() {
        let backend = Backend::start();
        let seconds = if outcome == "timed_out" { "1" } else { "60" };
        let builder = Gateway::builder().backend(&backend);
        let gateway = builder.env("CONNECT_TIMEOUT_SECONDS", seconds).start();
        let mut scraper = Scraper::of(&gateway);
        let mut client = gateway.get("/s");
        let callback = backend.next_connect();
        end(&callback);
        let head = client.read_head();
        let ended = format!("callbacks_total kind=connect outcome={outcome}");
        let mut grown = vec![(&*ended, 1)];
        match (outcome, head.status) {
            ("accepted", 200) => grown.push(OPENED[1]),
            ("rejected", 500) => grown.push(("refusals_total code=BACKEND_ERROR", 1)),
            ("failed", 503) => grown.push(("refusals_total code=BACKEND_UNAVAILABLE", 1)),
            ("unfinished", 503) => {
                grown.push(("refusals_total code=BACKEND_UNAVAILABLE", 1));
                // Its head was a yes.
                backend.next_disconnect().answer(200, "");
                grown.push(TOLD);
            }
            ("timed_out", 504) => grown.push(("refusals_total code=GATEWAY_TIMEOUT", 1)),
            other => panic!("{other:?}"),
        }
        scraper.expect(&grown);
        assert_eq!(scraper.last.count("callbacks_pending kind=connect"), 0);
    }
}

/// A client that leaves while its callback is under way: that is answered, and counts.
#[test]
fn a_callback_whose_client_has_left_counts_by_its_answer() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut scraper = Scraper::of(&gateway);
    for (status, outcome) in [(403, "rejected"), (200, "accepted")] {
        let client = gateway.get("/s");
        let callback = backend.next_connect();
        let waiting = scraper.get("streams_connecting");
        assert_eq!(waiting, 1);
        drop(client);
        scraper.wait("a client that leaves", |metrics| {
            metrics.count("streams_connecting") == 0
        });
        assert_eq!(scraper.get("callbacks_pending kind=connect"), 1);
        callback.answer(status, "");
        let ended = format!("callbacks_total kind=connect outcome={outcome}");
        let mut grown = vec![(&*ended, 1)];
        if status == 200 {
            backend.next_disconnect().answer(200, "");
            grown.push(TOLD);
        }
        scraper.expect(&grown);
    }
}

/// With one worker, whoever comes second waits; and beyond the queue's length nobody does.
#[test]
fn callbacks_that_wait_are_seen_and_those_that_are_never_sent_counted() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .one_worker_each()
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .env("DISCONNECT_TIMEOUT_SECONDS", "60")
        .env("CONNECT_QUEUE", "2")
        .start();
    let mut scraper = Scraper::of(&gateway);
    assert_eq!(scraper.last.count("max_callback_queue kind=connect"), 2);
    let first = gateway.get("/1");
    let callback = backend.next_connect();
    let queued = ["/2", "/3"].map(|path| gateway.get(path));
    let waits = |scraper: &mut Scraper, kind: &str, pending: u64, queue: u64| {
        let [is_pending, is_queued] =
            ["callbacks_pending", "callback_queue"].map(|name| format!("{name} kind={kind}"));
        scraper.wait(&format!("{pending} {kind} callbacks"), |metrics| {
            metrics.count(&is_pending) == pending && metrics.count(&is_queued) == queue
        });
    };
    waits(&mut scraper, "connect", 3, 2);
    assert_eq!(scraper.get("streams_connecting"), 3);
    let response = gateway.get("/4").read_response();
    assert_error(&response, 503, "OVERLOADED");
    scraper.expect(&[
        ("callbacks_total kind=connect outcome=queue_full", 1),
        ("refusals_total code=OVERLOADED", 1),
        ("limits_hit_total limit=CONNECT_QUEUE", 1),
    ]);
    let [second, third] = queued;
    drop(second);
    scraper.expect(&[("callbacks_total kind=connect outcome=never_sent", 1)]);
    waits(&mut scraper, "connect", 2, 1);
    callback.answer(200, "");
    scraper.expect(&OPENED);
    backend.next_connect_of("/3").answer(200, "");
    scraper.expect(&OPENED);
    waits(&mut scraper, "connect", 0, 0);
    // The same for disconnects, of which each is sent.
    drop((first, third));
    let one = backend.next_disconnect();
    waits(&mut scraper, "disconnect", 2, 1);
    one.answer(200, "");
    let two = backend.next_disconnect();
    waits(&mut scraper, "disconnect", 1, 0);
    two.answer(200, "");
    scraper.expect(&[(LEFT.0, 2), (TOLD.0, 2)]);
}

/// The one that waits too long is never sent, and its client's time is over.
#[test]
fn a_callback_that_waits_too_long_is_never_sent() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .one_worker_each()
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let clients = ["/1", "/2"].map(|path| gateway.get(path));
    backend.next_connect();
    for mut client in clients {
        assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    }
    scraper.wait("an end of both", |metrics| {
        metrics.count("callbacks_pending kind=connect") == 0
    });
    scraper.expect(&[
        ("callbacks_total kind=connect outcome=timed_out", 1),
        ("callbacks_total kind=connect outcome=never_sent", 1),
        ("refusals_total code=GATEWAY_TIMEOUT", 2),
    ]);
    backend.assert_idle();
}

/// How long the backend took, and not how long a callback waited before.
#[test]
fn times_are_those_of_the_backend() {
    const TOOK: Duration = Duration::from_millis(300);
    let backend = Backend::with(|callback| {
        if callback.is_connect() {
            thread::sleep(TOOK);
        }
        callback.answer(200, "");
    });
    let gateway = Gateway::builder()
        .backend(&backend)
        .one_worker_each()
        .env("CONNECT_TIMEOUT_SECONDS", "60")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let number = 3;
    let begun = Instant::now();
    let mut clients: Vec<_> = (0..number).map(|_| gateway.get("/s")).collect();
    for client in &mut clients {
        assert_eq!(client.read_head().status, 200);
        let callback = backend.next_connect();
        assert_eq!(send_close(&gateway, &callback.token()).status(), 200);
        backend.next_disconnect();
    }
    let metrics = scraper.wait("all callbacks", |metrics| {
        metrics.count("callback_duration_seconds_count kind=disconnect") == number
    });
    assert_eq!(
        metrics.count("callback_duration_seconds_count kind=connect"),
        number
    );
    let below = |seconds: f64| {
        let buckets = metrics.buckets("callback_duration_seconds", " kind=connect");
        let bucket = buckets.iter().find(|(bound, _)| *bound == seconds);
        bucket.expect("a bucket").1
    };
    assert_eq!(below(0.25), 0.0);
    let sum = metrics.get("callback_duration_seconds_sum kind=connect");
    let least = TOOK.as_secs_f64() * number as f64;
    // With the time that they waited for each other it would be twice as much, less a little.
    let begun_to_end = begun.elapsed().as_secs_f64();
    assert!(
        least <= sum && sum <= begun_to_end,
        "{sum} of {begun_to_end}"
    );
    let bounds = metrics.buckets("callback_duration_seconds", " kind=disconnect");
    let bounds: Vec<f64> = bounds.iter().map(|(bound, _)| *bound).collect();
    let expected = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    ];
    assert_eq!(bounds[..expected.len()], expected);
    scraper.expect(&[
        (OPENED[0].0, number),
        (OPENED[1].0, number),
        (TOLD.0, number),
        ("streams_ended_total reason=server_closed", number),
        ("sends_total target=token answer=ok", number),
    ]);
}
