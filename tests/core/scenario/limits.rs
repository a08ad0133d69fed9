//! Every limit of one connection that the core keeps, and that of streams: the last byte that fits, the first that
//! does not, and that nobody else is hurt (contract, section 6).

use ssegateway::callback::Reason;

use super::driver::*;

pub(crate) const OK: &str = "200 {\"status\":\"ok\"}";
pub(crate) const BUFFERED: &str = "200 {\"status\":\"buffered\"}";

/// What the gateway reckons an event of one line to take: its bytes and a chunk's largest frame.
pub(crate) fn size(data: &str) -> usize {
    "data: \n\n".len() + data.len() + 20
}

#[test]
fn unsent_bytes_of_one_stream() {
    let big = "x".repeat(1000);
    let queued = chunk(&big).len();
    for (max, fits) in [(queued + size("y"), true), (queued + size("y") - 1, false)] {
        let mut s = Script::with_limits(|limits| limits.max_unsent = max);
        let (client, job) = s.stream();
        let (other, its_job) = s.stream();
        let publisher = s.open();
        s.takes(client, Takes::Bytes(0));
        assert!(s.sent(publisher, &event_for(&job, &big)) > 0);
        let answer = s.send(publisher, &event_for(&job, "y"));
        if fits {
            assert!(answer.starts_with("200 {\"status\":\"ok\",\"queued\":"));
            s.takes(client, Takes::All);
            assert_eq!(s.got(client), chunk(&big) + &chunk("y"));
        } else {
            assert_eq!(answer, "500 WRITE_FAILED");
            assert!(s.is_closed(client));
            assert_eq!(
                s.did(),
                [Did::Abort(client), Did::Disconnect(Reason::Error)]
            );
        }
        assert_eq!(s.send(publisher, &event_for(&its_job, "z")), OK);
        assert_eq!(s.got(other), chunk("z"));
    }
}

#[test]
fn one_event_is_always_taken_by_an_empty_queue() {
    let mut s = Script::with_limits(|limits| limits.max_unsent = 10);
    let (client, job) = s.stream();
    let publisher = s.open();
    let big = "x".repeat(5000);
    assert_eq!(s.send(publisher, &event_for(&job, &big)), OK);
    s.takes(client, Takes::Bytes(100));
    assert!(s.sent(publisher, &event_for(&job, &big)) > 0);
    s.takes(client, Takes::All);
    assert_eq!(s.got(client), chunk(&big).repeat(2));
}

#[test]
fn bytes_of_one_callback_window() {
    let big = "x".repeat(1000);
    let (held, least) = (chunk(&big).len(), chunk("y").len());
    for (max, fits) in [(held + least, true), (held + least - 1, false)] {
        let mut s = Script::with_limits(|limits| limits.max_unsent = max);
        let (client, job) = s.await_callback();
        let publisher = s.open();
        assert_eq!(s.send(publisher, &event_for(&job, &big)), BUFFERED);
        let answer = s.send(publisher, &event_for(&job, "y"));
        let window = if fits {
            assert_eq!(answer, BUFFERED);
            chunk(&big) + &chunk("y")
        } else {
            assert_eq!(answer, "503 BUFFER_FULL");
            chunk(&big)
        };
        s.result(&job, accepted());
        assert_eq!(s.got(client), STREAM_HEAD.to_owned() + &window);
    }
}

#[test]
fn one_event_is_always_taken_by_an_empty_window() {
    let mut s = Script::with_limits(|limits| limits.max_unsent = 10);
    let (client, job) = s.await_callback();
    let publisher = s.open();
    let big = "x".repeat(5000);
    assert_eq!(s.send(publisher, &event_for(&job, &big)), BUFFERED);
    assert_eq!(
        s.send(publisher, &event_and_close_for(&job, "y")),
        "503 BUFFER_FULL"
    );
    s.result(&job, accepted());
    let expected = STREAM_HEAD.to_owned() + &chunk(&big);
    assert_eq!(
        s.got(client),
        expected,
        "nothing was stored, no close either"
    );
}

/// What is behind a close takes no room, so there is nothing to refuse.
#[test]
fn nothing_is_full_behind_a_close_in_the_window() {
    for (max_unsent, max_held) in [(60, 1000), (1000, 60)] {
        let mut s = Script::with_limits(|limits| {
            (limits.max_unsent, limits.max_held) = (max_unsent, max_held);
        });
        let (client, job) = s.await_callback();
        let publisher = s.open();
        let big = event_for(&job, &"x".repeat(50));
        assert_eq!(s.send(publisher, &event_for(&job, "a")), BUFFERED);
        assert_eq!(s.send(publisher, &big), "503 BUFFER_FULL");
        assert_eq!(s.send(publisher, &close_for(&job)), BUFFERED);
        for _ in 0..3 {
            assert_eq!(s.send(publisher, &big), BUFFERED);
        }
        s.result(&job, accepted());
        let expected = [STREAM_HEAD, &chunk("a"), LAST_CHUNK].concat();
        assert_eq!(s.got(client), expected);
    }
}

#[test]
fn unread_answers_pause_a_publisher_until_it_reads() {
    let mut s = Script::new();
    let publisher = s.open();
    s.bytes(publisher, HEALTH);
    let one = s.got(publisher).len();
    s.takes(publisher, Takes::Bytes(0));
    let until_pause = 64 * 1024 / one + 1;
    s.bytes(publisher, HEALTH.repeat(until_pause - 1));
    assert!(s.gw.wants_input(publisher));
    s.bytes(publisher, HEALTH.repeat(4));
    assert!(!s.gw.wants_input(publisher));
    s.takes(publisher, Takes::Bytes(one));
    assert!(!s.gw.wants_input(publisher));
    assert_eq!(s.did(), []);
    s.takes(publisher, Takes::Bytes(33 * 1024));
    assert!(s.gw.wants_input(publisher));
    assert_eq!(s.did(), [Did::Read(publisher)]);
    s.takes(publisher, Takes::All);
    let expected = vec![OK; until_pause + 3].join(" | ");
    assert_eq!(s.answers(publisher), expected);
}

#[test]
fn a_paused_publisher_has_to_read_half_of_what_it_may_leave() {
    let mut s = Script::new();
    let publisher = s.open();
    s.bytes(publisher, HEALTH);
    let one = s.got(publisher).len();
    s.takes(publisher, Takes::Bytes(0));
    let until_pause = 64 * 1024 / one + 1;
    // Whoever has asked for nothing more is not held back.
    s.bytes(publisher, HEALTH.repeat(until_pause));
    assert!(s.gw.wants_input(publisher));
    s.bytes(publisher, HEALTH);
    s.takes(publisher, Takes::Bytes(30 * 1024));
    assert!(!s.gw.wants_input(publisher));
    assert_eq!(s.did(), []);
    s.takes(publisher, Takes::Bytes(3 * 1024));
    assert!(s.gw.wants_input(publisher));
    assert_eq!(s.did(), [Did::Read(publisher)]);
}

#[test]
fn a_paused_publishers_sends_wait_with_it() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(publisher, Takes::Bytes(0));
    s.bytes(publisher, HEALTH.repeat(600) + &post(&event_for(&job, "x")));
    assert_eq!(s.got(client), "");
    s.takes(publisher, Takes::All);
    assert_eq!(s.got(client), chunk("x"));
    s.bytes(publisher, post(&event_for(&job, "y")));
    assert_eq!(s.got(client), chunk("y"));
}

#[test]
fn bytes_behind_a_streams_request_are_discarded_up_to_a_limit() {
    let mut s = Script::new();
    let (client, _) = s.stream();
    s.bytes(client, vec![b'x'; 64 * 1024]);
    assert_eq!(s.did(), []);
    s.bytes(client, "x");
    assert!(s.is_closed(client));
    assert_eq!(
        s.did(),
        [Did::Abort(client), Did::Disconnect(Reason::Error)]
    );
}

#[test]
fn bytes_during_the_callback_count_too() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    s.bytes(client, vec![b'x'; 40 * 1024]);
    s.result(&job, accepted());
    s.bytes(client, vec![b'x'; 24 * 1024]);
    assert!(!s.is_closed(client));
    s.bytes(client, "x");
    assert!(s.is_closed(client));

    let (client, job) = s.await_callback();
    s.did();
    s.bytes(client, vec![b'x'; 64 * 1024]);
    assert_eq!(s.did(), []);
    s.bytes(client, "x");
    assert!(s.is_closed(client));
    assert_eq!(s.did(), [Did::Abort(client), Did::Withdraw(job.id)]);
    s.result(&job, accepted());
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
}

#[test]
fn lingering_discards_a_mebibyte() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, "bad\r\n\r\n");
    assert_eq!(s.answers(client), "400 BAD_REQUEST close");
    for _ in 0..64 {
        s.bytes(client, vec![b'x'; 16 * 1024]);
        assert!(!s.is_closed(client));
    }
    s.bytes(client, "x");
    assert!(s.is_closed(client));
}

#[test]
fn streams_are_counted_while_they_await_and_while_they_are_open() {
    let mut s = Script::with_limits(|limits| limits.max_streams = 2);
    let (one, _) = s.stream();
    let (two, job) = s.await_callback();
    let third = s.open();
    s.bytes(third, GET);
    assert_eq!(s.answers(third), "503 OVERLOADED close Retry-After=5");
    let publisher = s.open();
    s.bytes(publisher, HEALTH);
    assert_eq!(s.answers(publisher), OK);
    assert_eq!(s.send(publisher, &event_for(&job, "x")), BUFFERED);
    s.eof(one);
    s.eof(two);
    s.stream();
    s.stream();
}
