//! How long clients are told to wait before they come again (contract, section 14): what every stream
//! begins with, and its last words at a shutdown.

use std::time::Duration;

use ssegateway::callback::{Job, Reason};
use ssegateway::gateway::{ConnId, Settings};
use ssegateway::sse::Format;
use ssegateway::wire::{Directives, Event};

use super::driver::*;

const SPAN: u64 = 10_000;

/// The chunk that a `retry` alone takes.
fn retry(millis: u64) -> String {
    let block = format!("retry: {millis}\n\n");
    format!("{:x}\r\n{block}\r\n", block.len())
}

fn beginning_with(millis: u32) -> Settings {
    Settings {
        retry: Some(millis),
        ..settings()
    }
}

/// The last words of each stream are drawn from [`SPAN`].
fn spreading() -> Settings {
    Settings {
        reconnect_spread: Duration::from_millis(SPAN),
        ..settings()
    }
}

fn old(s: &mut Script) -> (ConnId, Job) {
    let client = s.open();
    s.bytes(client, "GET /old HTTP/1.0\r\n\r\n");
    (client, s.job())
}

fn to_all(data: &str, close: bool) -> String {
    format!("{{\"broadcast\":true,\"event\":{{\"data\":\"{data}\"}},\"close\":{close}}}")
}

// ---- at the beginning ----

#[test]
fn every_stream_begins_with_it() {
    let mut s = Script::with(beginning_with(2_500));
    let (client, job) = s.await_callback();
    let publisher = s.open();
    s.send(publisher, &event_for(&job, "buffered"));
    s.result(&job, directing(Some(("hello", "first")), false));
    let first = "1a\r\nevent: hello\ndata: first\n\n\r\n";
    let expected = [STREAM_HEAD, &retry(2_500), first, &chunk("buffered")].concat();
    assert_eq!(s.got(client), expected);
    assert_eq!(s.writes(client), [expected.len()], "one write opens");
    s.send(publisher, &event_for(&job, "live"));
    assert_eq!(s.got(client), chunk("live"), "and it is not said again");
}

#[test]
fn so_does_one_of_http_1_0_and_one_that_ends_at_once() {
    let mut s = Script::with(beginning_with(0));
    let (client, job) = old(&mut s);
    s.result(&job, directing(Some(("", "first")), false));
    let head = STREAM_HEAD.replace("Transfer-Encoding: chunked\r\n", "");
    assert_eq!(s.got(client), head + "retry: 0\n\ndata: first\n\n");
    let (client, job) = s.await_callback();
    s.result(&job, directing(Some(("", "last")), true));
    let expected = [STREAM_HEAD, &retry(0), &chunk("last"), LAST_CHUNK].concat();
    assert_eq!(s.got(client), expected);
    assert_eq!(s.writes(client), [expected.len()]);
}

/// Neither an event that others may take out, nor what is told of the history, comes before it, and
/// no envelope is around it.
#[test]
fn it_is_before_everything_else() {
    let mut settings = beginning_with(86_400_000);
    settings.event_format = Format::Envelope;
    settings.limits.history = 1_000_000;
    let mut s = Script::with(settings);
    let client = s.open();
    let request = "GET /s HTTP/1.1\r\nHost: h\r\nLast-Event-ID: nonsense\r\n\r\n";
    s.bytes(client, request);
    let job = s.job();
    let event = Event {
        data: "1".into(),
        key: Some("k".into()),
        retry: Some(7),
        ..Event::default()
    };
    let mut outcome = accepted();
    if let ssegateway::callback::Outcome::Answered { directives, .. } = &mut outcome {
        *directives = Directives {
            event: Some(Box::new(event)),
            ..Directives::default()
        };
    }
    s.result(&job, outcome);
    let got = s.got(client);
    let rest = got.strip_prefix(STREAM_HEAD).expect(&got);
    let rest = rest.strip_prefix(&retry(86_400_000)).expect(&got);
    let blocks: Vec<&str> = rest.split("\r\n").filter(|it| it.contains('\n')).collect();
    let starts = ["retry: 7\ndata: 1\n\n", "event: gap\n", "id: "];
    assert_eq!(blocks.len(), starts.len(), "{got}");
    for (block, start) in blocks.iter().zip(starts) {
        assert!(block.starts_with(start), "{got}");
    }
}

#[test]
fn refusals_have_none_and_no_stream_has_one_that_is_not_set() {
    let mut s = Script::with(beginning_with(5));
    let (client, job) = s.await_callback();
    s.result(&job, status(403));
    assert_eq!(s.answers(client), "403 BACKEND_FORBIDDEN");
    let mut s = Script::with(spreading());
    s.stream();
}

// ---- at the end ----

#[test]
fn a_shutdown_has_each_stream_tell_a_moment_of_its_own() {
    let mut s = Script::with(spreading());
    let (client, _) = s.stream();
    let (other, _) = s.stream();
    s.writes(client);
    s.writes(other);
    s.drawn.set(SPAN * 7 + 1_234);
    s.shutdown();
    for client in [client, other] {
        let expected = retry(1_234) + LAST_CHUNK;
        assert_eq!(s.got(client), expected);
        assert_eq!(s.writes(client), [expected.len()], "one write ends");
    }
    let gone = [Did::Disconnect(Reason::ServerClosed); 2];
    assert_eq!(s.did()[..2], gone);
}

#[test]
fn the_span_is_drawn_from_as_a_whole_and_not_beyond() {
    for (drawn, expected) in [(0, 0), (SPAN - 1, SPAN - 1), (SPAN, 0)] {
        let mut s = Script::with(spreading());
        let (client, _) = s.stream();
        s.drawn.set(drawn);
        s.shutdown();
        assert_eq!(s.got(client), retry(expected) + LAST_CHUNK);
    }
}

#[test]
fn an_old_client_is_told_before_its_connection_ends() {
    let mut s = Script::with(spreading());
    let (client, job) = old(&mut s);
    s.result(&job, accepted());
    s.got(client);
    s.drawn.set(77);
    s.shutdown();
    assert_eq!(s.got(client), "retry: 77\n\n");
    assert!(s.did().contains(&Did::Fin(client)));
}

/// Behind what is on its way to many, what waits unsent, and the rest of what has begun to be
/// written, of whichever kind.
#[test]
fn the_last_words_come_behind_everything() {
    let mut s = Script::with(spreading());
    let publisher = s.open();
    let (slow, job) = s.stream();
    let (fresh, _) = s.stream();
    s.takes(slow, Takes::Bytes(5));
    s.send(publisher, &event_for(&job, "begun"));
    s.send(publisher, &event_for(&job, "waits"));
    s.send(publisher, &to_all("pending", false));
    assert_eq!(s.got(slow), chunk("begun")[..5]);
    s.drawn.set(4_000);
    s.shutdown();
    let end = retry(4_000) + LAST_CHUNK;
    assert_eq!(s.got(fresh), chunk("pending") + &end);
    assert_eq!(s.got(slow), "");
    assert!(!s.gw.is_drained());
    s.takes(slow, Takes::All);
    let rest = &chunk("begun")[5..];
    let expected = [rest, &chunk("waits"), &chunk("pending"), &end].concat();
    assert_eq!(s.got(slow), expected);
}

#[test]
fn a_stream_that_has_not_got_its_first_words_gets_its_last_ones_behind_them() {
    let mut settings = spreading();
    settings.retry = Some(3_000);
    let mut s = Script::with(settings);
    let (slow, job) = s.await_callback();
    s.takes(slow, Takes::Bytes(10));
    s.result(&job, accepted());
    s.shutdown();
    s.takes(slow, Takes::All);
    let expected = [STREAM_HEAD, &retry(3_000), &retry(0), LAST_CHUNK].concat();
    assert_eq!(s.got(slow), expected);
}

#[test]
fn who_ends_otherwise_or_never_began_is_told_nothing() {
    let mut s = Script::with(spreading());
    let publisher = s.open();
    let (closed, job) = s.stream();
    s.takes(closed, Takes::Bytes(0));
    s.send(publisher, &close_for(&job));
    let (by_many, _) = s.stream();
    let (pending, _) = s.await_callback();
    let (left, _) = s.stream();
    s.eof(left);
    // The close was read before the shutdown, though nothing of it has come to the stream.
    s.send(publisher, &to_all("bye", true));
    s.shutdown();
    s.takes(closed, Takes::All);
    assert_eq!(s.got(closed), LAST_CHUNK);
    assert_eq!(s.got(by_many), chunk("bye") + LAST_CHUNK);
    assert_eq!(s.got(left), "");
    assert_eq!(s.answers(pending), "503 SHUTTING_DOWN close Retry-After=5");
    s.shutdown();
    assert_eq!(s.got(by_many), "", "once is enough");
}

/// Streams that have something to come from the history, be it that their end is behind that.
#[test]
fn a_replay_is_cut_and_the_words_come_behind_a_whole_event() {
    for is_closed in [false, true] {
        let mut settings = spreading();
        settings.limits.history = 10_000_000;
        let mut s = Script::with(settings);
        let publisher = s.open();
        let event = |data: &str| format!("{{\"channel\":\"c\",\"event\":{{\"data\":\"{data}\"}}}}");
        for _ in 0..3 {
            s.send(publisher, &event(&"x".repeat(40_000)));
        }
        let (client, job) = s.await_callback();
        s.takes(client, Takes::Bytes(STREAM_HEAD.len() + 100));
        let mut outcome = joining(&["c"]);
        if let ssegateway::callback::Outcome::Answered { directives, .. } = &mut outcome {
            let joins = directives.joins.as_mut().unwrap();
            joins.last_event_id = Some("earliest".to_owned());
        }
        s.result(&job, outcome);
        s.send(publisher, &event_for(&job, "behind the replay"));
        if is_closed {
            s.send(publisher, &close_for(&job));
        }
        s.drawn.set(9);
        s.shutdown();
        s.takes(client, Takes::All);
        let got = s.got(client);
        let stream = got.strip_prefix(STREAM_HEAD).expect("a head");
        let (event, end) = stream.split_at(stream.len() - (retry(9) + LAST_CHUNK).len());
        assert_eq!(end, retry(9) + LAST_CHUNK);
        assert!(
            event.ends_with("xx\n\n\r\n"),
            "{}",
            &event[event.len() - 60..]
        );
        assert_eq!(event.matches("data").count(), 1);
    }
}
