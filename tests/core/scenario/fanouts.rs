//! Sends to many that are carried out in slices (contract, section 11): who gets what when streams
//! join, leave and end in between, who waits, and who pays.

use ssegateway::callback::{Job, Reason};
use ssegateway::gateway::{Broken, ConnId};

use super::driver::*;

/// How many streams one slice gives something to.
const SLICE: usize = 64;

fn to_channel(name: &str, data: &str) -> String {
    format!("{{\"channel\":\"{name}\",\"event\":{{\"data\":\"{data}\"}}}}")
}

fn to_all(data: &str) -> String {
    format!("{{\"broadcast\":true,\"event\":{{\"data\":\"{data}\"}}}}")
}

fn receivers(number: usize) -> String {
    format!("200 {{\"status\":\"ok\",\"receivers\":{number}}}")
}

fn changing(job: &Job, what: &str) -> String {
    format!("{{\"token\":\"{}\",{what}}}", job.token)
}

/// Streams that are in the channel "c".
fn members(s: &mut Script, publisher: ConnId, number: usize) -> Vec<(ConnId, Job)> {
    let members: Vec<_> = (0..number).map(|_| s.stream()).collect();
    for (_, job) in &members {
        let answer = s.send(publisher, &changing(job, "\"subscribe\":[\"c\"]"));
        assert_eq!(answer, "200 {\"status\":\"ok\"}");
    }
    members
}

fn all_fan_out(s: &mut Script) {
    while s.gw.is_fanning_out() {
        s.fan_out();
    }
}

#[test]
fn joins_leaves_and_closes_between_two_slices() {
    let mut s = Script::new();
    let publisher = s.open();
    let members = members(&mut s, publisher, SLICE + 8);
    let (late, its_job) = s.stream();
    let answer = s.send(publisher, &to_channel("c", "x"));
    assert_eq!(answer, receivers(SLICE + 8));
    s.fan_out();
    assert!(s.gw.is_fanning_out());
    let has_it = |s: &mut Script| -> Vec<bool> {
        let got = members.iter().map(|(client, _)| s.got(*client));
        got.map(|got| got == chunk("x")).collect()
    };
    let served = has_it(&mut s);
    assert_eq!(served.iter().filter(|is| **is).count(), SLICE);
    let left: Vec<usize> = (0..members.len()).filter(|at| !served[*at]).collect();
    let [leaver, ended, gone, sent_to, ..] = left[..] else {
        panic!("some are left");
    };
    // Whoever leaves, is closed, or is sent to has what was read before in front of that.
    let leave = changing(&members[leaver].1, "\"unsubscribe\":[\"c\"]");
    s.send(publisher, &leave);
    assert_eq!(s.got(members[leaver].0), chunk("x"));
    s.send(publisher, &close_for(&members[ended].1));
    assert_eq!(s.got(members[ended].0), chunk("x") + LAST_CHUNK);
    s.eof(members[gone].0);
    s.send(publisher, &event_for(&members[sent_to].1, "y"));
    assert_eq!(s.got(members[sent_to].0), chunk("x") + &chunk("y"));
    // Whoever joins has none of it, and one that has it and joins again has it once.
    s.send(publisher, &changing(&its_job, "\"subscribe\":[\"c\"]"));
    let first = served.iter().position(|is| *is).unwrap();
    let again = "\"unsubscribe\":[\"c\"],\"subscribe\":[\"c\"]";
    s.send(publisher, &changing(&members[first].1, again));
    let (newcomer, newest) = s.await_callback();
    s.result(&newest, joining(&["c"]));
    all_fan_out(&mut s);
    assert_eq!(s.got(late), "");
    assert_eq!(s.got(newcomer), STREAM_HEAD);
    let touched = [leaver, ended, gone, sent_to];
    for at in left.iter().filter(|at| !touched.contains(at)) {
        assert_eq!(s.got(members[*at].0), chunk("x"), "{at}");
    }
    assert_eq!(s.got(members[first].0), "");
    // All who are in it now, and nobody else: the ended, the gone and the leaver are not.
    let answer = s.send(publisher, &to_channel("c", "z"));
    assert_eq!(answer, receivers(SLICE + 7));
}

#[test]
fn one_that_has_it_leaves_and_nobody_is_left_out() {
    let mut s = Script::new();
    let publisher = s.open();
    let members = members(&mut s, publisher, SLICE + 8);
    s.send(publisher, &to_channel("c", "x"));
    s.fan_out();
    let mut got: Vec<String> = members.iter().map(|(client, _)| s.got(*client)).collect();
    // Whoever takes its place in the list has had its turn.
    let first = got.iter().position(|got| !got.is_empty()).unwrap();
    let leave = changing(&members[first].1, "\"unsubscribe\":[\"c\"]");
    s.send(publisher, &leave);
    all_fan_out(&mut s);
    for ((client, _), got) in members.iter().zip(&mut got) {
        *got += &s.got(*client);
    }
    assert_eq!(got, vec![chunk("x"); SLICE + 8]);
}

#[test]
fn several_pending_events_are_no_reason_to_drop_who_keeps_up() {
    let mut s = Script::with_limits(|limits| limits.max_unsent = 1000);
    let publisher = s.open();
    let (client, _) = s.stream();
    let big = "x".repeat(700);
    for _ in 0..3 {
        assert_eq!(s.send(publisher, &to_all(&big)), receivers(1));
    }
    all_fan_out(&mut s);
    assert_eq!(s.got(client), chunk(&big).repeat(3));
    // What its socket would not take counts.
    s.takes(client, Takes::Bytes(0));
    for _ in 0..2 {
        s.send(publisher, &to_all(&big));
        all_fan_out(&mut s);
    }
    assert!(s.is_closed(client));
    assert!(s.did().contains(&Did::Disconnect(Reason::Error)));
}

#[test]
fn a_stream_that_a_pending_fan_out_ends_is_unknown_to_what_comes_later() {
    let mut s = Script::new();
    let publisher = s.open();
    let (client, job) = s.stream();
    let close = "{\"broadcast\":true,\"close\":true}";
    assert_eq!(s.send(publisher, close), receivers(1));
    let answer = s.send(publisher, &event_for(&job, "x"));
    assert_eq!(answer, "404 TOKEN_NOT_FOUND");
    assert_eq!(s.got(client), LAST_CHUNK);
    assert!(s.did().contains(&Did::Disconnect(Reason::ServerClosed)));
}

#[test]
fn a_window_that_a_fan_out_overflows() {
    for takes_it in [true, false] {
        let mut s = Script::with_limits(|limits| limits.max_unsent = 2 * chunk("x").len());
        let publisher = s.open();
        let (client, job) = s.await_callback();
        s.did();
        for _ in 0..2 {
            assert_eq!(s.send(publisher, &to_all("x")), receivers(1));
        }
        if !takes_it {
            assert_eq!(s.send(publisher, &to_all("y")), receivers(1));
        }
        all_fan_out(&mut s);
        if takes_it {
            s.result(&job, accepted());
            assert_eq!(
                s.got(client),
                STREAM_HEAD.to_owned() + &chunk("x").repeat(2)
            );
            continue;
        }
        assert_eq!(s.answers(client), "503 OVERLOADED close Retry-After=5");
        assert_eq!(s.did(), [Did::Withdraw(job.id), Did::Fin(client)]);
        assert_eq!(s.send(publisher, &to_all("z")), receivers(0));
        s.result(&job, accepted());
        assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
    }
}

#[test]
fn a_send_that_a_window_cannot_take_changes_no_channels() {
    let mut s = Script::with_limits(|limits| limits.max_unsent = chunk("x").len());
    let publisher = s.open();
    let (_, job) = s.await_callback();
    s.send(publisher, &event_for(&job, "x"));
    let joining = "\"subscribe\":[\"c\"],\"event\":{\"data\":\"y\"}";
    let answer = s.send(publisher, &changing(&job, joining));
    assert_eq!(answer, "503 BUFFER_FULL");
    assert_eq!(s.send(publisher, &to_channel("c", "z")), receivers(0));
}

/// A gateway with as many fan-outs pending as there may be, and what they were.
fn full(s: &mut Script, publisher: ConnId) -> String {
    let events: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    for event in &events {
        assert!(s.send(publisher, &to_all(event)).starts_with("200 "));
    }
    events.iter().map(|event| chunk(event)).collect()
}

#[test]
fn who_comes_when_eight_are_pending_waits_and_is_read_no_further() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let (publisher, waiting, other) = (s.open(), s.open(), s.open());
    let first = full(&mut s, publisher);
    s.bytes(
        waiting,
        post(&to_all("8")) + HEALTH + &post(&event_for(&job, "9")),
    );
    assert_eq!(s.answers(waiting), "");
    // What reaches nobody is in nobody's way, and others are served.
    let answer = s.send(other, &to_channel("nobody", "x"));
    assert_eq!(answer, receivers(0));
    assert_eq!(s.got(client), "");
    s.bytes(other, post(&to_all("10")));
    all_fan_out(&mut s);
    let health = "200 {\"status\":\"ok\"}";
    let answers = [receivers(1), health.to_owned(), health.to_owned()];
    assert_eq!(s.answers(waiting), answers.join(" | "));
    assert_eq!(s.answers(other), receivers(1));
    let got = s.got(client);
    let rest = got.strip_prefix(&first).expect("in their order");
    let rest = rest.strip_prefix(&chunk("8")).expect("who waited first");
    assert!(rest == chunk("9") + &chunk("10") || rest == chunk("10") + &chunk("9"));
}

#[test]
fn a_publisher_that_waits_and_breaks_has_sent_nothing() {
    let mut s = Script::new();
    let (client, _) = s.stream();
    let (publisher, waiting, next) = (s.open(), s.open(), s.open());
    let first = full(&mut s, publisher);
    s.bytes(waiting, post(&to_all("8")));
    s.bytes(next, post(&to_all("9")));
    s.broken(waiting, Broken::Reset);
    assert!(s.is_closed(waiting));
    all_fan_out(&mut s);
    assert_eq!(s.got(client), first + &chunk("9"));
    assert_eq!(s.answers(next), receivers(1));
}

#[test]
fn a_publisher_that_waits_and_half_closes_gets_its_answer() {
    let mut s = Script::new();
    let (client, _) = s.stream();
    let (publisher, waiting) = (s.open(), s.open());
    let first = full(&mut s, publisher);
    s.bytes(waiting, post(&to_all("8")) + &post(&to_all("9")));
    s.eof(waiting);
    assert!(!s.is_closed(waiting));
    all_fan_out(&mut s);
    assert_eq!(s.got(client), first + &chunk("8") + &chunk("9"));
    let answers = s.answers(waiting);
    assert_eq!(answers, [receivers(1), receivers(1)].join(" | "));
    assert!(s.is_closed(waiting));
}

#[test]
fn a_publisher_that_waits_is_turned_away_when_strangers_hold_too_much() {
    let mut s = Script::with_limits(|limits| limits.max_inbound = 20_000);
    let (client, _) = s.stream();
    let (publisher, waiting, stranger) = (s.open(), s.open(), s.open());
    let first = full(&mut s, publisher);
    let half = "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n";
    s.bytes(stranger, half.to_owned() + &"x".repeat(9000));
    s.bytes(waiting, post(&to_all(&"y".repeat(12_000))));
    assert_eq!(s.answers(waiting), "503 OVERLOADED close Retry-After=5");
    assert!(
        s.did().contains(&Did::Read(waiting)),
        "what follows is discarded"
    );
    assert_eq!(s.answers(stranger), "");
    all_fan_out(&mut s);
    assert_eq!(s.got(client), first, "the younger one has paid");
    assert_eq!(s.send(publisher, &to_all("z")), receivers(1));
}

#[test]
fn what_is_shared_counts_once() {
    const STREAMS: usize = 200;
    let budget = 2_000_000;
    let mut s = Script::with_limits(|limits| limits.max_held = budget);
    let publisher = s.open();
    let streams: Vec<_> = (0..STREAMS).map(|_| s.stream()).collect();
    for (client, _) in &streams {
        s.takes(*client, Takes::Bytes(0));
    }
    s.did();
    let big = "x".repeat(budget / 5);
    for _ in 0..2 {
        assert_eq!(s.send(publisher, &to_all(&big)), receivers(STREAMS));
        all_fan_out(&mut s);
    }
    assert_eq!(s.did(), [], "200 times that would be 40 times too much");
    // It is full by what one of them has of its own, and so that one goes.
    let (_, job) = &streams[STREAMS / 2];
    let own = event_for(job, &"y".repeat(2 * budget / 5));
    assert!(s.sent(publisher, &own) > 2 * big.len());
    assert_eq!(s.did(), []);
    assert_eq!(s.send(publisher, &to_all(&big)), receivers(STREAMS));
    all_fan_out(&mut s);
    let (client, _) = streams[STREAMS / 2];
    assert_eq!(s.did().first(), Some(&Did::Abort(client)));
    assert!(s.is_closed(client));
    let gone = streams.iter().filter(|(client, _)| s.is_closed(*client));
    assert_eq!(gone.count(), 1, "nobody else is hurt");
}

#[test]
fn who_keeps_up_does_not_pay_for_what_is_about_to_be_written() {
    let mut s = Script::with_limits(|limits| limits.max_held = 20_000);
    let publisher = s.open();
    let (slow, slow_job) = s.stream();
    s.takes(slow, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&slow_job, "x")) > 0);
    let (client, job) = s.stream();
    s.send(publisher, &changing(&job, "\"subscribe\":[\"c\"]"));
    // It was behind once.
    s.takes(client, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, "x")) > 0);
    s.takes(client, Takes::All);
    let (_, its_job) = s.await_callback();
    let window = event_for(&its_job, &"w".repeat(14_000));
    assert_eq!(s.send(publisher, &window), "200 {\"status\":\"buffered\"}");
    s.did();
    let big = "y".repeat(6000);
    assert_eq!(s.send(publisher, &to_channel("c", &big)), receivers(1));
    let tokens = format!(
        "{{\"tokens\":[\"{}\",\"{}\"],\"event\":{{\"data\":\"z\"}}}}",
        job.token, slow_job.token
    );
    assert_eq!(s.send(publisher, &tokens), receivers(2));
    all_fan_out(&mut s);
    let expected = [Did::Abort(slow), Did::Disconnect(Reason::Error)];
    assert_eq!(s.did(), expected, "it alone is behind");
    assert_eq!(s.got(client), chunk("x") + &chunk(&big) + &chunk("z"));
}

#[test]
fn a_slow_reader_that_only_leaves_a_channel_is_counted() {
    let mut s = Script::with_limits(|limits| limits.max_held = 5000);
    let publisher = s.open();
    let (slow, job) = s.stream();
    s.takes(slow, Takes::Bytes(0));
    assert!(s.sent(publisher, &event_for(&job, "x")) > 0);
    s.did();
    assert_eq!(s.send(publisher, &to_all(&"y".repeat(6000))), receivers(1));
    let leave = changing(&job, "\"unsubscribe\":[\"c\"]");
    assert_eq!(s.send(publisher, &leave), "404 TOKEN_NOT_FOUND");
    let expected = [Did::Abort(slow), Did::Disconnect(Reason::Error)];
    assert_eq!(s.did(), expected);
}

/// However large it is: nothing is left of what it takes out.
#[test]
fn a_later_event_of_a_key_needs_no_room_beside_the_one_it_takes_out() {
    let mut s = Script::with_limits(|limits| limits.max_unsent = 100);
    let (waiting, its_job) = s.await_callback();
    let (blocked, job) = s.stream();
    let publisher = s.open();
    s.takes(blocked, Takes::Bytes(0));
    let keyed = |job: &Job, data: &str| {
        let token = job.token;
        format!("{{\"token\":\"{token}\",\"event\":{{\"data\":\"{data}\",\"key\":\"k\"}}}}")
    };
    for data in ["x".repeat(500), "y".repeat(600), "z".to_owned()] {
        assert_eq!(s.sent(publisher, &keyed(&job, &data)), chunk(&data).len());
        let answer = s.send(publisher, &keyed(&its_job, &data));
        assert_eq!(answer, "200 {\"status\":\"buffered\"}");
    }
    s.takes(blocked, Takes::All);
    assert_eq!(s.got(blocked), chunk("z"));
    s.result(&its_job, accepted());
    assert_eq!(s.got(waiting), STREAM_HEAD.to_owned() + &chunk("z"));
}

#[test]
fn a_few_need_not_wait_until_a_crowd_has_been_served() {
    let mut s = Script::new();
    let publisher = s.open();
    let crowd: Vec<_> = (0..6 * SLICE).map(|_| s.stream().0).collect();
    let few = members(&mut s, publisher, 3);
    let all = crowd.len() + few.len();
    assert_eq!(s.send(publisher, &to_all("all")), receivers(all));
    assert_eq!(s.send(publisher, &to_channel("c", "few")), receivers(3));
    // A slice of each.
    s.fan_out();
    s.fan_out();
    for (client, _) in &few {
        assert_eq!(s.got(*client), chunk("all") + &chunk("few"));
    }
    let served = crowd.iter().filter(|client| !s.got(**client).is_empty());
    assert!(served.count() <= 2 * SLICE);
    assert!(s.gw.is_fanning_out());
    all_fan_out(&mut s);
}
