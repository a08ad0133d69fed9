//! Streams whose time is over (contract, section 14): when that is, what comes before the end, and
//! what the backend and the log are told.

use std::time::Duration;

use ssegateway::callback::{Job, Outcome, Reason};
use ssegateway::gateway::{ConnId, Settings};

use super::capture::lines;
use super::driver::*;

/// No timer is later than this behind its deadline.
const LATE: u64 = 50;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn lasting(seconds: u64) -> Settings {
    Settings {
        max_stream: Duration::from_secs(seconds),
        ..settings()
    }
}

/// An answer that says how long its stream lasts.
fn expiring(mut answer: Outcome, span: Duration) -> Outcome {
    if let Outcome::Answered { directives, .. } = &mut answer {
        directives.expires_in = Some(span);
    }
    answer
}

fn stream(s: &mut Script, answer: Outcome) -> (ConnId, Job) {
    let (client, job) = s.await_callback();
    s.result(&job, answer);
    assert_eq!(s.got(client), STREAM_HEAD);
    s.did();
    lines();
    (client, job)
}

/// Nothing happens up to the moment, and the clean end with its disconnect then.
#[track_caller]
fn assert_ends_after(s: &mut Script, client: ConnId, span: Duration) {
    s.pass(span - millis(1));
    assert_eq!(
        (s.got(client).replace(BEAT, ""), s.did()),
        (String::new(), vec![])
    );
    s.pass(millis(1 + LATE));
    assert_eq!(s.got(client), LAST_CHUNK);
    let gone = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), gone);
}

fn closed(job: &Job, limit: &str) -> String {
    let token = job.token;
    format!("[INFO] closed token={token} url=/s?x=1 reason=server_closed limit={limit}")
}

#[test]
fn an_answer_says_how_long_its_stream_lasts() {
    for span in [1, 49, 400, 7_500, 15_000, 100_001] {
        let mut s = Script::new();
        let (client, job) = stream(&mut s, expiring(accepted(), millis(span)));
        assert_ends_after(&mut s, client, millis(span));
        assert_eq!(lines(), [closed(&job, "expires_in")]);
        let publisher = s.open();
        let answer = s.send(publisher, &event_for(&job, "x"));
        assert_eq!(answer, "404 TOKEN_NOT_FOUND");
    }
}

/// Each stream's span is drawn, a tenth more or less.
#[test]
fn a_setting_says_it_give_or_take_a_tenth() {
    // 20 seconds are 400 ticks, of which 81 numbers are drawn.
    for (drawn, span) in [
        (0, 18_000),
        (40, 20_000),
        (80, 22_000),
        (81, 18_000),
        (79, 21_950),
    ] {
        let mut s = Script::with(lasting(20));
        s.drawn.set(drawn);
        let (client, job) = stream(&mut s, accepted());
        assert_ends_after(&mut s, client, millis(span));
        assert_eq!(lines(), [closed(&job, "MAX_STREAM_SECONDS")]);
    }
    // The shortest, and a year.
    for (seconds, drawn, span) in [
        (1, 0, 900),
        (1, 4, 1_100),
        (31_536_000, 2 * 63_072_000, 34_689_600_000),
    ] {
        let mut s = Script::with(lasting(seconds));
        s.drawn.set(drawn);
        let (client, _) = stream(&mut s, accepted());
        // The loop need not wake for each heartbeat of a year.
        s.jump(millis(span - 1));
        assert!(!s.got(client).ends_with(LAST_CHUNK));
        s.pass(millis(1 + LATE));
        assert!(s.got(client).ends_with(LAST_CHUNK));
    }
}

/// Exactly, be it shorter or longer.
#[test]
fn the_answer_wins_over_the_setting() {
    for span in [3_000, 60_000] {
        let mut s = Script::with(lasting(20));
        let (client, job) = stream(&mut s, expiring(accepted(), millis(span)));
        assert_ends_after(&mut s, client, millis(span));
        assert_eq!(lines(), [closed(&job, "expires_in")]);
    }
}

#[test]
fn more_than_can_be_counted_is_never() {
    for span in [
        Duration::MAX,
        millis(u64::MAX),
        Duration::from_secs(1 << 40),
    ] {
        let mut s = Script::with(lasting(20));
        let (client, _) = stream(&mut s, expiring(accepted(), span));
        s.jump(Duration::from_secs(5 * 365 * 86_400));
        assert_eq!((s.got(client), s.did()), (BEAT.to_owned(), vec![]));
    }
}

/// None is sent early because of the end, and none with it.
#[test]
fn heartbeats_keep_their_cadence() {
    let mut s = Script::new();
    let (client, _) = stream(&mut s, expiring(accepted(), millis(37_000)));
    let (other, _) = stream(&mut s, expiring(accepted(), millis(30_000)));
    for beat in [15_000, 15_000] {
        s.pass(millis(beat - 1));
        assert_eq!(s.got(client), "");
        s.pass(millis(1));
        assert_eq!(s.got(client), BEAT);
    }
    assert_eq!(s.got(other), BEAT.to_owned() + LAST_CHUNK);
    s.pass(millis(6_999));
    assert_eq!(s.got(client), "");
    s.pass(millis(1));
    assert_eq!(s.got(client), LAST_CHUNK);
}

#[test]
fn a_loop_that_was_away_ends_it_without_a_heartbeat() {
    let mut s = Script::new();
    let (client, _) = stream(&mut s, expiring(accepted(), millis(16_000)));
    s.jump(millis(40_000));
    assert_eq!(s.got(client), LAST_CHUNK);
}

/// What was sent before comes before, be it on its way to many or unsent; the token is unknown at once.
#[test]
fn what_was_sent_to_it_comes_first() {
    let mut s = Script::new();
    let publisher = s.open();
    let (client, job) = stream(&mut s, expiring(accepted(), millis(1_000)));
    s.takes(client, Takes::Bytes(4));
    s.send(publisher, &event_for(&job, "begun"));
    s.send(publisher, &event_for(&job, "waits"));
    let answer = s.send(
        publisher,
        "{\"broadcast\":true,\"event\":{\"data\":\"all\"}}",
    );
    assert_eq!(answer, "200 {\"status\":\"ok\",\"receivers\":1}");
    s.pass(millis(1_000));
    assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
    let answer = s.send(publisher, &event_for(&job, "late"));
    assert_eq!(answer, "404 TOKEN_NOT_FOUND");
    s.takes(client, Takes::All);
    let all = [&chunk("begun"), &chunk("waits"), &chunk("all"), LAST_CHUNK].concat();
    assert_eq!(s.got(client), all);
    assert_eq!(s.did(), [Did::Fin(client)]);
}

/// Who does not read is dropped at its stall all the same, and told of once.
#[test]
fn an_end_that_nobody_reads() {
    let mut s = Script::new();
    let publisher = s.open();
    let (client, job) = stream(&mut s, expiring(accepted(), millis(10_000)));
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &event_for(&job, "x"));
    s.pass(millis(29_999));
    assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
    s.pass(millis(1 + LATE));
    assert_eq!(s.did(), [Did::Abort(client)]);
}

/// A close that is pending is the end, whatever its time says; both are one end.
#[test]
fn who_is_closed_meanwhile_ends_once() {
    let mut s = Script::new();
    let publisher = s.open();
    let (client, job) = stream(&mut s, expiring(accepted(), millis(1_000)));
    s.send(
        publisher,
        "{\"broadcast\":true,\"event\":{\"data\":\"bye\"},\"close\":true}",
    );
    lines();
    s.pass(millis(1_000));
    assert_eq!(s.got(client), chunk("bye") + LAST_CHUNK);
    let gone = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), gone);
    let token = job.token;
    let line = format!("[INFO] closed token={token} url=/s?x=1 reason=server_closed");
    assert_eq!(lines(), [line]);
    let (client, _) = stream(&mut s, expiring(directing(None, false), millis(1_000)));
    s.eof(client);
    assert_eq!(s.did(), [Did::Disconnect(Reason::ClientClosed)]);
    s.pass(millis(2_000));
    assert_eq!(s.did(), []);
}

/// It counts from the opening on, not from the request.
#[test]
fn the_time_of_a_stream_begins_with_its_head() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    s.pass(millis(4_000));
    s.result(&job, expiring(accepted(), millis(2_000)));
    assert_eq!(s.got(client), STREAM_HEAD);
    s.did();
    assert_ends_after(&mut s, client, millis(2_000));
}

#[test]
fn a_time_that_is_none_opens_nothing() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    let publisher = s.open();
    s.send(publisher, &event_for(&job, "x"));
    let mut answer = accepted();
    if let Outcome::Answered { directives, .. } = &mut answer {
        *directives = ssegateway::wire::directives(Some(b"{\"expires_in\":0}"));
    }
    s.did();
    lines();
    s.result(&job, answer);
    assert_eq!(s.answers(client), "502 BACKEND_ERROR");
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
    let token = job.token;
    let last = format!(
        "[ERROR] connect callback answer cannot be used token={token} \
         error=\"'expires_in' is not a number of seconds above 0\""
    );
    assert_eq!(lines().last(), Some(&last));
    let answer = s.send(publisher, &event_for(&job, "x"));
    assert_eq!(answer, "404 TOKEN_NOT_FOUND");
}

/// What waits among what it has missed comes to its end if it has begun.
#[test]
fn an_event_that_has_begun_among_what_was_missed_comes_whole() {
    let mut settings = settings();
    settings.limits.history = 10_000_000;
    let mut s = Script::with(settings);
    let publisher = s.open();
    let (client, job) = s.await_callback();
    let large = "x".repeat(60_000);
    for data in [&large, "behind"] {
        let answer = s.send(publisher, &event_for(&job, data));
        assert_eq!(answer, "200 {\"status\":\"buffered\"}");
    }
    s.takes(client, Takes::Bytes(STREAM_HEAD.len() + 1_000));
    s.result(&job, expiring(accepted(), millis(1_000)));
    s.pass(millis(1_000));
    s.takes(client, Takes::All);
    let expected = [STREAM_HEAD, &chunk(&large), LAST_CHUNK].concat();
    assert!(s.got(client) == expected);
}

/// In the midst of what it has missed, and of an event: that comes to its end, nothing else does.
#[test]
fn a_replay_is_cut_where_it_is() {
    for is_closed in [false, true] {
        let mut settings = settings();
        settings.limits.history = 10_000_000;
        let mut s = Script::with(settings);
        let publisher = s.open();
        for _ in 0..3 {
            let data = "x".repeat(40_000);
            let event = format!("{{\"channel\":\"c\",\"event\":{{\"data\":\"{data}\"}}}}");
            s.send(publisher, &event);
        }
        let (client, job) = s.await_callback();
        s.takes(client, Takes::Bytes(STREAM_HEAD.len() + 100));
        let mut answer = expiring(joining(&["c"]), millis(3_000));
        if let Outcome::Answered { directives, .. } = &mut answer {
            let joins = directives.joins.as_mut().expect("channels");
            joins.last_event_id = Some("earliest".to_owned());
        }
        s.result(&job, answer);
        s.send(publisher, &event_for(&job, "behind the replay"));
        if is_closed {
            s.send(publisher, &close_for(&job));
        }
        s.did();
        s.pass(millis(3_000));
        assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
        s.takes(client, Takes::All);
        let got = s.got(client);
        let stream = got.strip_prefix(STREAM_HEAD).expect("a head");
        let event = stream.strip_suffix(LAST_CHUNK).expect("an end");
        assert!(
            event.ends_with("xx\n\n\r\n"),
            "{}",
            &event[event.len() - 60..]
        );
        assert_eq!(event.matches("data").count(), 1);
    }
}
