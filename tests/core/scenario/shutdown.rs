//! A shutdown meets a connection in each of its states (contract, section 10).

use std::time::Duration;

use ssegateway::callback::{Outcome, Reason};

use super::driver::*;

const OK: &str = "200 {\"status\":\"ok\"}";

#[test]
fn streams_end_cleanly_and_their_disconnects_are_waited_for() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    s.shutdown();
    assert_eq!(s.got(client), LAST_CHUNK);
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
    assert!(!s.gw.is_drained());
    let publisher = s.open();
    assert_eq!(
        s.send(publisher, &event_for(&job, "x")),
        "404 TOKEN_NOT_FOUND"
    );
    let goodbye = s.job();
    s.result(&goodbye, accepted());
    assert!(
        s.gw.is_drained(),
        "neither idle nor lingering is waited for"
    );
}

#[test]
fn a_stream_with_unsent_bytes_is_waited_for() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &event_for(&job, "last"));
    s.shutdown();
    let goodbye = s.job();
    s.result(&goodbye, accepted());
    assert!(!s.gw.is_drained());
    s.takes(client, Takes::All);
    assert_eq!(s.got(client), chunk("last") + LAST_CHUNK);
    assert!(s.gw.is_drained());
}

#[test]
fn a_pending_connect_gets_503_and_a_late_2xx_is_paid() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    s.did();
    s.bytes(client, HEALTH);
    s.shutdown();
    assert_eq!(s.answers(client), "503 SHUTTING_DOWN close Retry-After=5");
    assert_eq!(s.did(), [Did::Withdraw(job.id), Did::Fin(client)]);
    assert!(!s.gw.is_drained());
    s.result(&job, accepted());
    assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
    assert!(!s.gw.is_drained());
    let goodbye = s.job();
    s.result(&goodbye, accepted());
    assert!(s.gw.is_drained());
}

#[test]
fn a_pending_connect_that_is_given_back_is_not_waited_for() {
    let mut s = Script::new();
    s.gives_back = true;
    s.await_callback();
    s.shutdown();
    assert!(s.gw.is_drained());
}

#[test]
fn requests_under_way_and_new_ones_are_answered() {
    let mut s = Script::new();
    let (in_head, in_body, idle) = (s.open(), s.open(), s.open());
    s.bytes(in_head, &HEALTH[..20]);
    let command = post("{\"token\":\"t\"}");
    s.bytes(in_body, &command[..command.len() - 3]);
    s.shutdown();
    assert!(s.gw.is_drained());
    s.bytes(in_head, &HEALTH[20..]);
    s.bytes(in_body, &command[command.len() - 3..]);
    assert_eq!(s.answers(in_head), OK);
    assert_eq!(s.answers(in_body), "404 TOKEN_NOT_FOUND");
    s.bytes(idle, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
    let not_ready = "503 {\"status\":\"not_ready\",\"configured\":true}";
    assert_eq!(s.answers(idle), not_ready);
    s.bytes(idle, GET);
    assert_eq!(s.answers(idle), "503 SHUTTING_DOWN close Retry-After=5");
    let late = s.open();
    s.bytes(late, GET);
    assert_eq!(s.answers(late), "503 SHUTTING_DOWN close Retry-After=5");
    assert_eq!(s.did(), [Did::Fin(idle), Did::Fin(late)]);
}

#[test]
fn what_is_ending_already_is_left_alone() {
    let mut s = Script::new();
    let (closing, job) = s.stream();
    let publisher = s.open();
    s.takes(closing, Takes::Bytes(0));
    s.send(publisher, &close_for(&job));
    let refused = s.open();
    s.bytes(refused, "bad\r\n\r\n");
    let paused = s.open();
    s.takes(paused, Takes::Bytes(0));
    s.bytes(paused, HEALTH.repeat(600));
    s.did();
    s.shutdown();
    s.shutdown();
    assert_eq!(s.did(), []);
    s.takes(closing, Takes::All);
    assert_eq!(s.got(closing), LAST_CHUNK);
    assert_eq!(s.did(), [Did::Fin(closing)]);
}

/// Whatever the backend answered, it was told; whoever got nothing out of it has not told it.
#[test]
fn disconnects_that_got_no_answer_are_counted_from_the_shutdown_on() {
    let mut s = Script::new();
    let (early, _) = s.stream();
    s.eof(early);
    let goodbye = s.job();
    s.result(&goodbye, Outcome::TimedOut);
    assert_eq!(s.gw.undelivered(), 0);
    let (before, _) = s.stream();
    s.eof(before);
    for _ in 0..7 {
        s.stream();
    }
    s.shutdown();
    assert_eq!(s.gw.undelivered(), 8);
    let outcomes = [
        (Outcome::Failed("refused".into()), 8),
        (Outcome::TimedOut, 8),
        (Outcome::QueueFull, 8),
        (Outcome::NeverSent, 8),
        (accepted(), 7),
        (status(500), 6),
        (unfinished(200, None), 5),
        (unfinished(404, Some("cut")), 4),
    ];
    for (outcome, left) in outcomes {
        let goodbye = s.job();
        s.result(&goodbye, outcome);
        assert_eq!(s.gw.undelivered(), left);
    }
    assert!(s.gw.is_drained());
}

#[test]
fn before_a_shutdown_nothing_is_drained() {
    let mut s = Script::new();
    assert!(!s.gw.is_drained());
    s.shutdown();
    assert!(s.gw.is_drained());
}

#[test]
fn an_orphan_of_a_timeout_is_waited_for() {
    let mut s = Script::new();
    let (_, job) = s.await_callback();
    s.pass(Duration::from_millis(5_050));
    s.shutdown();
    assert!(!s.gw.is_drained());
    s.result(&job, status(500));
    assert!(s.gw.is_drained());
}
