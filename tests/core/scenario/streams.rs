//! An open stream: order, heartbeats, ends (contract, sections 2 to 5).

use std::time::Duration;

use ssegateway::callback::Reason;
use ssegateway::gateway::Broken;

use super::driver::*;

const OK: &str = "200 {\"status\":\"ok\"}";
const BUFFERED: &str = "200 {\"status\":\"buffered\"}";
const UNKNOWN: &str = "404 TOKEN_NOT_FOUND";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn head_then_the_answers_event_then_the_window_then_live_events() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    let publisher = s.open();
    assert_eq!(s.send(publisher, &event_for(&job, "w1")), BUFFERED);
    assert_eq!(s.send(publisher, &event_for(&job, "w2")), BUFFERED);
    s.result(&job, directing(Some(("hello", "a\nb")), false));
    assert_eq!(s.send(publisher, &event_for(&job, "live")), OK);
    let first = "1e\r\nevent: hello\ndata: a\ndata: b\n\n\r\n";
    let expected = [
        STREAM_HEAD,
        first,
        &chunk("w1"),
        &chunk("w2"),
        &chunk("live"),
    ]
    .concat();
    assert_eq!(s.got(client), expected);
    let opening = expected.len() - chunk("live").len();
    assert_eq!(
        s.writes(client),
        [opening, chunk("live").len()],
        "one write opens"
    );
}

#[test]
fn a_close_in_the_answer_drops_the_window() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    let publisher = s.open();
    s.send(publisher, &event_for(&job, "dropped"));
    s.did();
    s.result(&job, directing(Some(("", "last")), true));
    assert_eq!(
        s.got(client),
        [STREAM_HEAD, &chunk("last"), LAST_CHUNK].concat()
    );
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
    assert_eq!(s.send(publisher, &event_for(&job, "x")), UNKNOWN);
}

#[test]
fn a_buffered_close_ends_the_stream_where_it_stands() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    let publisher = s.open();
    assert_eq!(s.send(publisher, &event_for(&job, "a")), BUFFERED);
    assert_eq!(s.send(publisher, &event_and_close_for(&job, "b")), BUFFERED);
    // What comes behind it is taken and comes to nothing.
    let nothing = format!("{{\"token\":\"{}\"}}", job.token);
    for body in [
        event_for(&job, "c"),
        close_for(&job),
        event_and_close_for(&job, "d"),
        event_for(&job, "e"),
        nothing,
    ] {
        assert_eq!(s.send(publisher, &body), BUFFERED, "{body}");
    }
    s.did();
    s.result(&job, accepted());
    let expected = [STREAM_HEAD, &chunk("a"), &chunk("b"), LAST_CHUNK].concat();
    assert_eq!(s.got(client), expected);
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
    assert_eq!(s.send(publisher, &event_for(&job, "f")), UNKNOWN);
}

#[test]
fn a_no_op_tells_what_is_known() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    let publisher = s.open();
    let nothing = format!("{{\"token\":\"{}\"}}", job.token);
    assert_eq!(s.send(publisher, &nothing), BUFFERED);
    s.result(&job, accepted());
    assert_eq!(s.got(client), STREAM_HEAD);
    assert_eq!(s.send(publisher, &nothing), OK);
    assert_eq!(s.got(client), "");
    s.eof(client);
    assert_eq!(s.send(publisher, &nothing), UNKNOWN);
}

#[test]
fn a_close_ends_with_the_last_chunk_a_fin_and_a_bounded_wait() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    assert_eq!(s.send(publisher, &event_and_close_for(&job, "bye")), OK);
    assert_eq!(s.got(client), [&chunk("bye"), LAST_CHUNK].concat());
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
    assert!(!s.is_closed(client));
    s.bytes(client, "ignored");
    s.eof(client);
    assert!(s.is_closed(client));
    assert_eq!(s.did(), []);
}

#[test]
fn two_closes_at_once_are_one() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    let both = post(&close_for(&job)).repeat(2);
    s.bytes(publisher, both);
    assert_eq!(s.answers(publisher), format!("{OK} | {UNKNOWN}"));
    assert_eq!(s.got(client), LAST_CHUNK);
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
}

#[test]
fn a_close_waits_behind_unsent_bytes() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(4));
    assert!(s.sent(publisher, &event_for(&job, "slow")) > 0);
    assert!(s.sent(publisher, &event_and_close_for(&job, "last")) > 0);
    assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
    assert_eq!(s.send(publisher, &event_for(&job, "x")), UNKNOWN);
    s.takes(client, Takes::All);
    let expected = [&chunk("slow"), &chunk("last"), LAST_CHUNK].concat();
    assert_eq!(s.got(client), expected);
    assert_eq!(s.did(), [Did::Fin(client)]);
}

#[test]
fn a_close_and_a_reset_at_once_are_one_end() {
    for how in [Broken::Reset, Broken::WriteFailed] {
        let mut s = Script::new();
        let (client, job) = s.stream();
        let publisher = s.open();
        s.takes(client, Takes::Bytes(0));
        assert!(s.sent(publisher, &event_and_close_for(&job, "x")) > 0);
        s.broken(client, how);
        assert!(s.is_closed(client));
        assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
    }
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.broken(client, Broken::Reset);
    assert_eq!(s.send(publisher, &close_for(&job)), UNKNOWN);
    assert_eq!(s.did(), [Did::Disconnect(Reason::ClientClosed)]);
}

#[test]
fn a_client_that_leaves_behind_its_close_gets_nothing_more() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    s.send(publisher, &close_for(&job));
    s.eof(client);
    assert!(s.is_closed(client));
    assert_eq!(s.did(), [Did::Disconnect(Reason::ServerClosed)]);
}

#[test]
fn heartbeats_keep_their_cadence_whether_events_flow_or_not() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    s.pass(Duration::from_millis(14_999));
    assert_eq!(s.got(client), "");
    s.pass(Duration::from_millis(51));
    assert_eq!(s.got(client), BEAT);
    s.pass(secs(10));
    let publisher = s.open();
    s.send(publisher, &event_for(&job, "x"));
    assert_eq!(s.got(client), chunk("x"));
    s.pass(secs(5));
    assert_eq!(s.got(client), BEAT, "an event does not put the beat off");
    s.pass(secs(150));
    assert_eq!(s.got(client), BEAT.repeat(10));
}

#[test]
fn a_heartbeat_is_left_out_behind_unsent_bytes() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(3));
    s.send(publisher, &event_for(&job, "x"));
    s.pass(secs(16));
    s.takes(client, Takes::All);
    assert_eq!(s.got(client), chunk("x"));
    s.pass(Duration::from_millis(13_900));
    assert_eq!(s.got(client), "");
    s.pass(Duration::from_millis(200));
    assert_eq!(s.got(client), BEAT, "the next one comes at its own time");
}

#[test]
fn a_long_clock_jump_gives_one_heartbeat() {
    let mut s = Script::new();
    let (client, _) = s.stream();
    s.jump(secs(3_600 + 7));
    assert_eq!(s.got(client), BEAT);
    s.pass(Duration::from_millis(7_900));
    assert_eq!(s.got(client), "");
    s.pass(Duration::from_millis(200));
    assert_eq!(s.got(client), BEAT, "the cadence counts from the head");
}

#[test]
fn an_http_1_0_client_gets_bare_bytes_and_the_connections_end() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, "GET /s HTTP/1.0\r\n\r\n");
    let job = s.job();
    let publisher = s.open();
    s.send(publisher, &event_for(&job, "w"));
    s.result(&job, accepted());
    s.pass(Duration::from_millis(15_050));
    s.did();
    s.send(publisher, &event_and_close_for(&job, "bye"));
    let head = STREAM_HEAD.replace("Transfer-Encoding: chunked\r\n", "");
    let rest = "data: w\n\n: heartbeat\n\ndata: bye\n\n";
    assert_eq!(s.got(client), head + rest);
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
}

#[test]
fn a_close_alone_ends_an_http_1_0_stream() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, "GET /s HTTP/1.0\r\n\r\n");
    let job = s.job();
    s.result(&job, accepted());
    s.got(client);
    s.did();
    let publisher = s.open();
    assert_eq!(s.send(publisher, &close_for(&job)), OK);
    assert_eq!(s.got(client), "");
    let expected = [Did::Disconnect(Reason::ServerClosed), Did::Fin(client)];
    assert_eq!(s.did(), expected);
}

#[test]
fn a_request_that_says_close_streams_all_the_same() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(
        client,
        "GET /s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    let job = s.job();
    s.result(&job, accepted());
    assert_eq!(s.got(client), STREAM_HEAD);
    s.pass(Duration::from_millis(15_050));
    assert_eq!(s.got(client), BEAT);
}

#[test]
fn answers_of_earlier_requests_stand_before_the_streams_head() {
    let mut s = Script::new();
    let client = s.open();
    s.takes(client, Takes::Bytes(10));
    s.bytes(client, format!("{HEALTH}{GET}"));
    let job = s.job();
    s.result(&job, accepted());
    s.takes(client, Takes::All);
    let got = s.got(client);
    let (answer, stream) = got.split_at(got.find("HTTP/1.1 200 OK\r\nContent-Type: text").unwrap());
    assert_eq!(in_short(answer), OK);
    assert_eq!(stream, STREAM_HEAD);
}
