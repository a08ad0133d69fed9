//! Every time of the contract's section 6 that the core keeps, a moment before and a moment after.

use std::time::Duration;

use ssegateway::callback::Reason;
use ssegateway::config::Limits;
use ssegateway::gateway::{Broken, ConnId, Scope, Settings};

use super::driver::*;

/// No timer is later than this behind its deadline.
const LATE: Duration = Duration::from_millis(50);

/// Lets time pass up to a deadline at which nothing may have happened, and over it.
fn up_to_and_over(s: &mut Script, deadline: Duration, happened: impl Fn(&mut Script) -> bool) {
    s.pass(deadline - Duration::from_millis(1));
    assert!(!happened(s), "early");
    s.pass(Duration::from_millis(1) + LATE);
    assert!(happened(s), "late");
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn silence_on_a_new_connection() {
    let mut s = Script::new();
    let client = s.open();
    up_to_and_over(&mut s, secs(20), |s| s.is_closed(client));
    assert_eq!((s.got(client), s.did()), (String::new(), vec![]));
}

#[test]
fn silence_between_requests() {
    let mut s = Script::new();
    let client = s.open();
    s.pass(secs(19));
    s.bytes(client, HEALTH);
    up_to_and_over(&mut s, secs(75), |s| s.is_closed(client));
    assert_eq!(s.answers(client), "200 {\"status\":\"ok\"}");
    assert_eq!(s.did(), []);
}

#[test]
fn a_connection_whose_answer_is_still_read_is_not_idle() {
    let mut s = Script::new();
    let client = s.open();
    s.takes(client, Takes::Bytes(0));
    s.bytes(client, HEALTH);
    for _ in 0..4 {
        s.pass(secs(25));
        s.takes(client, Takes::Bytes(1));
    }
    assert!(!s.is_closed(client));
    s.takes(client, Takes::All);
    assert_eq!(s.answers(client), "200 {\"status\":\"ok\"}");
    up_to_and_over(&mut s, secs(75), |s| s.is_closed(client));
}

#[test]
fn a_request_has_ten_seconds_from_its_first_byte() {
    let incomplete = [
        "G",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n{",
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        "POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
    ];
    for text in incomplete {
        let mut s = Script::new();
        let client = s.open();
        s.pass(secs(15));
        let (first, rest) = text.split_at(1);
        s.bytes(client, first);
        s.pass(secs(5));
        s.bytes(client, rest);
        up_to_and_over(&mut s, secs(5), |s| s.did().contains(&Did::Fin(client)));
        assert_eq!(s.answers(client), "408 REQUEST_TIMEOUT close", "{text}");
    }
}

#[test]
fn an_empty_line_between_requests_begins_none() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, HEALTH);
    s.bytes(client, "\r\n");
    s.pass(secs(60));
    s.bytes(client, HEALTH);
    assert_eq!(
        s.answers(client),
        "200 {\"status\":\"ok\"} | 200 {\"status\":\"ok\"}"
    );
    // However it is cut.
    s.bytes(client, "\r\n\r");
    s.bytes(client, "\n");
    up_to_and_over(&mut s, secs(75), |s| s.is_closed(client));
    assert_eq!(s.got(client), "");
}

#[test]
fn a_drip_of_bytes_does_not_stretch_the_ten_seconds() {
    let mut s = Script::new();
    let client = s.open();
    for byte in "GET /aaaaaaaa".bytes().take(10) {
        s.bytes(client, [byte]);
        s.pass(Duration::from_millis(1_006));
    }
    assert_eq!(s.answers(client), "408 REQUEST_TIMEOUT close");
}

#[test]
fn each_request_of_a_connection_has_its_own_ten_seconds() {
    let mut s = Script::new();
    let client = s.open();
    for _ in 0..5 {
        let (first, rest) = HEALTH.split_at(9);
        s.bytes(client, first);
        s.pass(secs(9));
        s.bytes(client, rest);
        assert_eq!(s.answers(client), "200 {\"status\":\"ok\"}");
    }
}

#[test]
fn the_time_of_a_request_behind_another_starts_with_its_own_first_byte() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, &HEALTH[..9]);
    s.pass(secs(9));
    s.bytes(client, format!("{}GET", &HEALTH[9..]));
    assert_eq!(s.answers(client), "200 {\"status\":\"ok\"}");
    up_to_and_over(&mut s, secs(10), |s| s.did().contains(&Did::Fin(client)));
}

#[test]
fn a_connect_has_five_seconds_from_the_request_on() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    s.did();
    up_to_and_over(&mut s, secs(5), |s| {
        s.did().contains(&Did::Withdraw(job.id))
    });
    assert_eq!(s.answers(client), "504 GATEWAY_TIMEOUT");
}

#[test]
fn a_stream_whose_reader_makes_no_progress() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &event_for(&job, "x"));
    up_to_and_over(&mut s, secs(30), |s| s.is_closed(client));
    assert_eq!(
        s.did(),
        [Did::Abort(client), Did::Disconnect(Reason::Error)]
    );
}

#[test]
fn one_byte_of_progress_is_progress() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &event_for(&job, "x"));
    for _ in 0..4 {
        s.pass(secs(29));
        s.takes(client, Takes::Bytes(1));
        s.send(publisher, &format!("{{\"token\":\"{}\"}}", job.token));
    }
    assert!(!s.is_closed(client));
    s.pass(secs(29));
    assert!(!s.is_closed(client));
    s.pass(secs(2));
    assert!(s.is_closed(client));
}

#[test]
fn readiness_that_takes_nothing_is_no_progress() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &event_for(&job, "x"));
    for _ in 0..2 {
        s.pass(secs(10));
        s.writable(client);
    }
    assert_eq!(s.writes(client), [STREAM_HEAD.len(), 0, 0, 0]);
    up_to_and_over(&mut s, secs(10), |s| s.is_closed(client));
}

#[test]
fn a_stall_counts_from_the_first_unsent_byte_not_from_the_last_write() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.pass(Duration::from_millis(14_000));
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &event_for(&job, "x"));
    up_to_and_over(&mut s, secs(30), |s| s.is_closed(client));
}

#[test]
fn a_reader_of_an_answer_that_makes_no_progress() {
    type Begin = fn(&mut Script, ConnId);
    let table: [Begin; 3] = [
        |s, id| s.bytes(id, HEALTH),
        |s, id| s.bytes(id, "bad\r\n\r\n"),
        |s, id| s.bytes(id, HEALTH.repeat(1000)),
    ];
    for begin in table {
        let mut s = Script::new();
        let client = s.open();
        s.takes(client, Takes::Bytes(0));
        begin(&mut s, client);
        up_to_and_over(&mut s, secs(30), |s| s.is_closed(client));
        assert_eq!(s.did(), [Did::Abort(client)]);
    }
}

#[test]
fn a_closed_stream_that_is_not_read_to_its_end() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &close_for(&job));
    assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
    up_to_and_over(&mut s, secs(30), |s| s.is_closed(client));
    assert_eq!(s.did(), [Did::Abort(client)]);
}

#[test]
fn lingering_lasts_two_seconds() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, "bad\r\n\r\n");
    assert_eq!(s.answers(client), "400 BAD_REQUEST close");
    assert_eq!(s.did(), [Did::Fin(client)]);
    s.pass(secs(1));
    s.bytes(client, "more");
    up_to_and_over(&mut s, secs(1), |s| s.is_closed(client));
    assert_eq!(s.did(), []);
}

#[test]
fn a_full_house_closes_who_lingers_first_and_nobody_else() {
    let mut s = Script::with_limits(|limits| limits.max_connections = 3);
    let (refused, idle) = (s.open(), s.open());
    s.bytes(refused, "bad\r\n\r\n");
    s.pass(secs(1));
    assert!(s.gw.make_place(Scope::Whole, s.now));
    assert!(!s.is_closed(refused));
    let third = s.open();
    assert!(s.gw.make_place(Scope::Whole, s.now));
    assert!(s.is_closed(refused) && !s.is_closed(idle) && !s.is_closed(third));
}

#[test]
fn a_full_house_closes_who_has_idled_longest_between_requests() {
    let mut s = Script::with_limits(|limits| limits.max_connections = 5);
    let (first, second, asking) = (s.open(), s.open(), s.open());
    let (stream, _) = s.stream();
    s.pass(secs(1));
    let fifth = s.open();
    s.bytes(asking, "GET");
    s.pass(secs(1));
    s.bytes(first, HEALTH);
    s.pass(secs(1));
    for (closed, left) in [(second, 4), (fifth, 4), (first, 4)] {
        assert!(s.gw.make_place(Scope::Whole, s.now));
        assert!(s.is_closed(closed));
        assert_eq!(s.gw.counts().connections, left);
        s.open();
        // Who has just come may speak first.
        assert!(!s.gw.has_place(Scope::Whole));
    }
    assert!(!s.gw.make_place(Scope::Whole, s.now), "nobody has idled");
    assert!(!s.is_closed(asking) && !s.is_closed(stream));
    s.pass(Duration::from_millis(30));
    assert!(s.gw.make_place(Scope::Whole, s.now));
}

#[test]
fn strangers_take_no_place_of_the_internal_listener() {
    let mut s = Script::with_limits(|limits| {
        limits.max_connections = 6;
        limits.internal_places = 2;
    });
    let publisher = s.open_in(Scope::Internal);
    s.pass(secs(1));
    let strangers: Vec<_> = (0..4)
        .map(|_| {
            assert!(s.gw.make_place(Scope::Public, s.now));
            s.open_in(Scope::Public)
        })
        .collect();
    assert!(!s.gw.has_place(Scope::Public) && s.gw.has_place(Scope::Internal));
    s.pass(secs(1));
    assert!(s.gw.make_place(Scope::Public, s.now));
    assert!(!s.is_closed(publisher), "idle for longer, but no stranger");
    assert_eq!(s.gw.counts().connections, 4);
    s.open_in(Scope::Public);
    assert!(s.gw.make_place(Scope::Internal, s.now));
    s.open_in(Scope::Internal);
    assert!(!s.gw.has_place(Scope::Internal));
    // Beyond its own places it may have anybody's.
    s.pass(secs(1));
    s.bytes(publisher, HEALTH);
    assert!(s.gw.make_place(Scope::Internal, s.now));
    assert!(!s.is_closed(publisher));
    assert_eq!(strangers.iter().filter(|id| s.is_closed(**id)).count(), 2);
}

#[test]
fn a_socket_counts_until_its_slot_is_free() {
    let mut s = Script::with_limits(|limits| limits.max_connections = 2);
    let (one, _) = (s.open(), s.stream());
    s.gw.broken(one, Broken::Reset, s.now);
    assert!(
        !s.gw.has_place(Scope::Whole),
        "its descriptor is open still"
    );
    s.gw.reap();
    assert!(s.gw.has_place(Scope::Whole));
}

#[test]
fn deadlines_that_come_and_go_leave_no_timers_behind() {
    let day = secs(86_400);
    let mut s = Script::with(Settings {
        heartbeat: day,
        limits: Limits {
            stall_timeout: secs(1),
            idle_timeout: day,
            request_timeout: secs(1),
            ..Limits::default()
        },
        ..settings()
    });
    let (client, job) = s.stream();
    let publisher = s.open();
    for _ in 0..1000 {
        s.takes(client, Takes::Bytes(1));
        let request = post(&event_for(&job, "x"));
        s.bytes(publisher, &request[..9]);
        s.bytes(publisher, &request[9..]);
        s.takes(client, Takes::All);
        s.pass(secs(2));
    }
    assert!(!s.is_closed(client) && !s.is_closed(publisher));
    assert_eq!(s.gw.counts().timers, 2);
}

#[test]
fn a_paused_publisher_is_not_timed() {
    let mut s = Script::new();
    let publisher = s.open();
    s.takes(publisher, Takes::Bytes(0));
    s.bytes(publisher, HEALTH.repeat(600) + "GET");
    assert!(!s.gw.wants_input(publisher));
    s.pass(secs(25));
    s.takes(publisher, Takes::All);
    s.pass(secs(9));
    s.bytes(publisher, &HEALTH[3..]);
    let expected = vec!["200 {\"status\":\"ok\"}"; 601].join(" | ");
    assert_eq!(s.answers(publisher), expected);
}

#[test]
fn an_empty_gateway_has_no_deadline() {
    let mut s = Script::new();
    assert_eq!(s.gw.deadline(), None);
    let (client, job) = s.stream();
    let (lost, _) = s.await_callback();
    s.eof(client);
    s.broken(lost, ssegateway::gateway::Broken::Reset);
    s.result(&job, accepted());
    s.jump(secs(3_600));
    assert_eq!(s.gw.deadline(), None);
}
