//! What the log says of limits and of what is lost (contract, section 9): that it says it, with the
//! limit's name and the token, and that it cannot be flooded.

use std::time::Duration;

use ssegateway::callback::Reason;

use super::capture::lines;
use super::driver::*;

fn limit(name: &str) -> String {
    format!("[WARN] limit reached limit={name}")
}

#[test]
fn a_disconnect_that_is_dropped_is_told_with_its_token() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    s.is_queue_full = true;
    lines();
    s.eof(client);
    let token = job.token;
    let expected = [
        format!("[INFO] disconnected token={token} url=/s?x=1 reason=client_closed"),
        format!("[ERROR] disconnect callback failed token={token} error=\"queue full\""),
    ];
    assert_eq!(lines(), expected);
}

/// One line, with what the head said and why that was all.
#[test]
fn an_answer_that_was_never_whole_is_told_with_its_status() {
    for (error, word) in [(None, "timeout"), (Some("cut short"), "\"cut short\"")] {
        let mut s = Script::new();
        let (_, job) = s.await_callback();
        lines();
        s.result(&job, unfinished(200, error));
        let token = job.token;
        let expected =
            format!("[ERROR] connect callback failed token={token} status=200 error={word}");
        assert_eq!(lines(), [expected]);
    }
}

#[test]
fn requests_that_are_refused() {
    let table = [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
            limit("MAX_HEADERS"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "[WARN] request refused cause=\"a line feed without carriage return\"".to_owned(),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nHost: h\r\n\r\n",
            limit("malformed_request"),
        ),
        ("GET / HTTP/2.0\r\n\r\n", limit("malformed_request")),
    ];
    for (text, expected) in table {
        let mut s = Script::with_limits(|limits| limits.max_headers = 2);
        let client = s.open();
        // The third field of the first request alone is one too many.
        let text = text.replace("A: b", "A: b\r\nC: d");
        s.bytes(client, &text);
        assert!(s.did().contains(&Did::Fin(client)), "{text}");
        assert_eq!(lines(), [expected], "{text}");
    }
}

#[test]
fn silence_on_a_new_connection_and_on_an_old_one() {
    let mut s = Script::new();
    let (silent, kept) = (s.open(), s.open());
    s.bytes(kept, HEALTH);
    s.pass(Duration::from_secs(80));
    assert!(s.is_closed(silent) && s.is_closed(kept));
    assert_eq!(lines(), [limit("NEW_CONNECTION_TIMEOUT_SECONDS")]);
}

#[test]
fn unread_answers_and_a_publisher_that_stalls() {
    let mut s = Script::with_limits(|limits| limits.max_unread_answer = 200);
    let publisher = s.open();
    s.takes(publisher, Takes::Bytes(0));
    s.bytes(publisher, HEALTH.repeat(5));
    assert_eq!(lines(), [limit("MAX_UNREAD_ANSWER_BYTES")]);
    s.bytes(publisher, HEALTH);
    s.pass(Duration::from_secs(31));
    assert_eq!(s.did(), [Did::Abort(publisher)]);
    assert_eq!(lines(), [limit("STALL_TIMEOUT_SECONDS")]);
}

#[test]
fn early_bytes_that_all_together_may_not_hold() {
    let mut s = Script::with_limits(|limits| limits.max_inbound = 2000);
    let (client, job) = s.await_callback();
    s.did();
    lines();
    s.bytes(client, "x".repeat(1000));
    assert_eq!((s.did(), lines()), (vec![], vec![]));
    s.bytes(client, "x".repeat(2000));
    assert_eq!(s.answers(client), "503 OVERLOADED close Retry-After=5");
    assert_eq!(s.did(), [Did::Withdraw(job.id), Did::Fin(client)]);
    assert_eq!(lines(), [limit("MAX_INBOUND_BYTES")]);
    let publisher = s.open();
    let answer = s.send(publisher, &event_for(&job, "x"));
    assert_eq!(answer, "404 TOKEN_NOT_FOUND");
    s.result(&job, accepted());
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
}

#[test]
fn dropped_streams_cannot_flood_the_log() {
    let mut s = Script::with_limits(|limits| limits.max_discarded = 1);
    let streams: Vec<_> = (0..25).map(|_| s.stream()).collect();
    lines();
    for (client, _) in &streams {
        s.bytes(*client, "xx");
    }
    let dropped: Vec<String> = streams[..10]
        .iter()
        .map(|(_, job)| {
            let token = job.token;
            format!(
                "[WARN] stream dropped token={token} url=/s?x=1 reason=error \
                 limit=MAX_DISCARDED_BYTES"
            )
        })
        .collect();
    assert_eq!(lines(), dropped);
    let told: Vec<Did> = s
        .did()
        .into_iter()
        .filter(|did| matches!(did, Did::Disconnect(_)))
        .collect();
    assert_eq!(
        told,
        [Did::Disconnect(Reason::Error); 25],
        "the backend is told of each"
    );
    s.pass(Duration::from_secs(1));
    let more = limit("MAX_DISCARDED_BYTES") + " more=15";
    assert_eq!(lines(), [more]);
    let (client, job) = s.stream();
    lines();
    s.bytes(client, "xx");
    assert_eq!(lines().len(), 1, "{} is told of again", job.token);
}
