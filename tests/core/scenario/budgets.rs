//! The totals of all connections, and who pays when one is full (contract, section 6): the first
//! byte that does not fit, and that nobody else is hurt.

use ssegateway::callback::Reason;

use super::driver::*;
use super::limits::{BUFFERED, OK, size};

#[test]
fn too_much_under_way_and_the_youngest_request_goes() {
    let mut s = Script::with_limits(|limits| limits.max_inbound = 20_000);
    let body = "x".repeat(15_000);
    let half = format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n{}",
        &body[..9000]
    );
    let (one, two, three) = (s.open(), s.open(), s.open());
    s.bytes(one, &half);
    s.bytes(two, &half);
    s.bytes(three, &half);
    assert_eq!(s.answers(three), "503 OVERLOADED close Retry-After=5");
    assert_eq!(s.did(), [Did::Fin(three)]);
    s.bytes(one, "x".repeat(7000));
    assert_eq!(
        s.answers(one),
        "400 INVALID_JSON",
        "who held already goes on"
    );
    s.bytes(two, "x".repeat(7000));
    assert_eq!(s.answers(two), "400 INVALID_JSON");
}

#[test]
fn a_request_that_is_refused_for_its_bytes_holds_them_no_longer() {
    let mut s = Script::with_limits(|limits| limits.max_inbound = 20_000);
    let head = |n: usize| format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(n));
    let (one, two, three) = (s.open(), s.open(), s.open());
    s.bytes(one, head(15_000));
    s.bytes(two, head(6000));
    assert_eq!(s.answers(two), "503 OVERLOADED close Retry-After=5");
    s.bytes(three, head(1000));
    assert_eq!(s.got(three), "");
}

#[test]
fn all_bytes_held_and_a_window_that_would_grow_them() {
    let mut s = Script::with_limits(|limits| limits.max_held = 2000);
    let (client, job) = s.await_callback();
    let publisher = s.open();
    let big = "x".repeat(1500);
    assert_eq!(s.send(publisher, &event_for(&job, &big)), BUFFERED);
    // Memory counts: what tells the events apart has its part of it.
    let rest = 2000 - chunk(&big).len() - size("");
    assert_eq!(
        s.send(publisher, &event_for(&job, &"y".repeat(rest + 1))),
        "503 BUFFER_FULL"
    );
    let fits = "y".repeat(rest - 350);
    assert_eq!(s.send(publisher, &event_for(&job, &fits)), BUFFERED);
    s.result(&job, accepted());
    let expected = STREAM_HEAD.to_owned() + &chunk(&big) + &chunk(&fits);
    assert_eq!(s.got(client), expected);
}

#[test]
fn all_bytes_held_and_a_stream_that_would_grow_them() {
    let mut s = Script::with_limits(|limits| limits.max_held = 20_000);
    let (slow, job) = s.stream();
    let (slower, its_job) = s.stream();
    let publisher = s.open();
    s.takes(slow, Takes::Bytes(0));
    s.takes(slower, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, &"x".repeat(10_000))) > 0);
    assert!(s.sent(publisher, &event_for(&its_job, "y")) > 0);
    assert_eq!(
        s.send(publisher, &event_for(&its_job, &"y".repeat(10_000))),
        "500 WRITE_FAILED"
    );
    assert!(s.is_closed(slower) && !s.is_closed(slow));
    let expected = [Did::Abort(slower), Did::Disconnect(Reason::Error)];
    assert_eq!(s.did(), expected);
    // An empty queue takes the event; what its socket leaves of it is too much.
    let (third, its_job) = s.stream();
    s.takes(third, Takes::Bytes(100));
    assert_eq!(
        s.send(publisher, &event_for(&its_job, &"z".repeat(15_000))),
        "500 WRITE_FAILED"
    );
    assert!(s.is_closed(third) && !s.is_closed(slow));
}

#[test]
fn who_holds_most_pays_and_not_who_is_sent_to() {
    let mut s = Script::with_limits(|limits| limits.max_held = 6000);
    let publisher = s.open();
    let streams: Vec<_> = (0..3).map(|_| s.stream()).collect();
    let [(small, small_job), (large, large_job), (other, other_job)] = &streams[..] else {
        panic!("three streams");
    };
    for (client, _) in &streams {
        s.takes(*client, Takes::Bytes(0));
    }
    s.did();
    assert!(s.sent(publisher, &event_for(small_job, "x")) > 0);
    assert!(s.sent(publisher, &event_for(large_job, &"x".repeat(3500))) > 0);
    // Its queue was empty: the event is tried, and what is left is too much for all.
    assert!(s.sent(publisher, &event_for(other_job, &"x".repeat(2500))) > 0);
    assert_eq!(
        s.did(),
        [Did::Abort(*large), Did::Disconnect(Reason::Error)]
    );
    // The one that grew to be the largest pays itself.
    assert_eq!(
        s.send(publisher, &event_for(small_job, &"x".repeat(4000))),
        "500 WRITE_FAILED"
    );
    assert_eq!(
        s.did(),
        [Did::Abort(*small), Did::Disconnect(Reason::Error)]
    );
    assert!(!s.is_closed(*other));
}

#[test]
fn what_was_written_is_given_back_and_counts_no_longer() {
    let mut s = Script::with_limits(|limits| limits.max_held = 12_000);
    let publisher = s.open();
    let (slow, job) = s.stream();
    s.takes(slow, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, &"x".repeat(10_000))) > 0);
    s.takes(slow, Takes::Bytes(9_900));
    let (other, its_job) = s.stream();
    s.takes(other, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&its_job, &"x".repeat(10_000))) > 0);
    assert!(!s.is_closed(slow) && !s.is_closed(other));
}

#[test]
fn a_stream_that_is_about_to_end_pays_as_well() {
    let mut s = Script::with_limits(|limits| limits.max_held = 6000);
    let publisher = s.open();
    let (ending, job) = s.stream();
    let (slow, its_job) = s.stream();
    s.takes(ending, Takes::Bytes(0));
    s.takes(slow, Takes::Bytes(0));
    let event = event_and_close_for(&job, &"x".repeat(4000));
    assert!(s.sent(publisher, &event) > 0);
    s.did();
    assert!(s.sent(publisher, &event_for(&its_job, &"y".repeat(3000))) > 0);
    assert_eq!(s.did(), [Did::Abort(ending)]);
    assert!(!s.is_closed(slow));
}

#[test]
fn strangers_do_not_pay_with_streams() {
    let mut s = Script::with_limits(|limits| {
        limits.max_held = 30_000;
        limits.max_inbound = 30_000;
    });
    let publisher = s.open();
    let (slow, job) = s.stream();
    s.takes(slow, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, &"x".repeat(20_000))) > 0);
    let body = "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 6000\r\n\r\n".to_owned()
        + &"x".repeat(5000);
    let strangers: Vec<_> = (0..20).map(|_| s.open()).collect();
    for (at, stranger) in strangers.iter().enumerate() {
        s.bytes(*stranger, &body);
        let expected = match at {
            0..6 => "",
            _ => "503 OVERLOADED close Retry-After=5",
        };
        assert_eq!(s.answers(*stranger), expected, "{at}");
    }
    assert!(s.sent(publisher, &event_for(&job, "y")) > 0);
    assert!(!s.is_closed(slow));
    // The budget is theirs again once they are done.
    for stranger in &strangers[..6] {
        s.bytes(*stranger, "x".repeat(1000));
        assert_eq!(s.answers(*stranger), "400 INVALID_JSON");
    }
    let late = s.open();
    s.bytes(late, &body);
    assert_eq!(s.answers(late), "");
}

#[test]
fn unread_answers_are_held_from_strangers_too() {
    let mut s = Script::with_limits(|limits| limits.max_inbound = 25_000);
    let clients: Vec<_> = (0..4).map(|_| s.open()).collect();
    for client in &clients {
        s.takes(*client, Takes::Bytes(0));
        s.bytes(*client, HEALTH.repeat(30));
    }
    assert_eq!(s.did(), []);
    let [oldest, .., youngest] = clients[..] else {
        panic!("four clients");
    };
    s.bytes(oldest, HEALTH.repeat(90));
    assert_eq!(s.did().first(), Some(&Did::Abort(youngest)));
    assert!(!s.is_closed(oldest));
}

#[test]
fn header_fields_of_all_streams_have_a_limit() {
    let mut s = Script::with_limits(|limits| limits.max_kept_headers = 20_000);
    let head = |n: usize| {
        let unique = format!("{n:0>4}").repeat(1000);
        format!("GET /{n} HTTP/1.1\r\nHost: h\r\nA: {unique}\r\n\r\n")
    };
    let clients: Vec<_> = (0..4).map(|_| s.open()).collect();
    let mut jobs = Vec::new();
    for (at, client) in clients.iter().enumerate() {
        s.bytes(*client, head(at));
        jobs.push(s.job());
    }
    for n in 5..50 {
        let late = s.open();
        s.bytes(late, head(n));
        assert_eq!(s.answers(late), "503 OVERLOADED close Retry-After=5");
    }
    // The fields are kept until the disconnect is told.
    s.result(&jobs[0], accepted());
    s.did();
    s.eof(clients[0]);
    let disconnect = s.job();
    let late = s.open();
    s.bytes(late, head(50));
    assert_eq!(s.answers(late), "503 OVERLOADED close Retry-After=5");
    s.result(&disconnect, accepted());
    drop((disconnect, jobs.remove(0)));
    let next = s.open();
    s.bytes(next, head(51));
    assert_eq!(s.answers(next), "", "its callback is out");
    // What all have in common counts once.
    s.result(&jobs[0], status(403));
    drop(jobs.remove(0));
    for _ in 0..20 {
        let next = s.open();
        s.bytes(next, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n");
        assert_eq!(s.answers(next), "");
    }
}

#[test]
fn a_publisher_that_asks_for_nothing_is_not_answered() {
    let mut s = Script::with_limits(|limits| limits.max_held = 2000);
    let (slow, job) = s.stream();
    let publisher = s.open();
    s.takes(slow, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, &"x".repeat(1900))) > 0);
    s.takes(publisher, Takes::Bytes(0));
    s.bytes(publisher, HEALTH.repeat(2));
    let (_, its_job) = s.stream();
    s.bytes(publisher, post(&event_for(&its_job, "y")) + HEALTH);
    s.takes(publisher, Takes::All);
    assert_eq!(s.answers(publisher), [OK; 4].join(" | "));
    assert!(!s.is_closed(publisher));
}

#[test]
fn a_stream_request_that_keeps_nothing_is_not_dropped_for_what_another_holds() {
    let mut s = Script::with_limits(|limits| limits.max_held = 2000);
    let (slow, job) = s.stream();
    let (_, its_job) = s.stream();
    let publisher = s.open();
    s.takes(slow, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, &"x".repeat(1900))) > 0);
    let client = s.open();
    s.bytes(client, post(&event_for(&its_job, "y")) + GET);
    assert_eq!(s.answers(client), OK, "the send before it was carried out");
    let waiting = s.job();
    s.result(&waiting, accepted());
    assert_eq!(s.got(client), STREAM_HEAD);
}

#[test]
fn an_answer_that_directs_more_than_all_may_hold() {
    let mut s = Script::with_limits(|limits| limits.max_held = 2000);
    let (client, job) = s.await_callback();
    s.takes(client, Takes::Bytes(100));
    s.did();
    s.result(&job, directing(Some(("", &"x".repeat(3000))), false));
    assert!(s.is_closed(client));
    assert_eq!(
        s.did(),
        [Did::Abort(client), Did::Disconnect(Reason::Error)]
    );
}
