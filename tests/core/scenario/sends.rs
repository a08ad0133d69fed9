//! Sends as their publisher sees them: when the answer is written, in which order, and what a
//! failing target makes of it (contract, section 4).

use ssegateway::callback::Reason;

use super::driver::*;

const OK: &str = "200 {\"status\":\"ok\"}";

#[test]
fn the_answer_follows_the_events_own_write() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Fails);
    let answer = s.send(publisher, &event_for(&job, "x"));
    assert_eq!(answer, "500 WRITE_FAILED");
    assert!(s.is_closed(client));
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
    assert_eq!(
        s.send(publisher, &event_for(&job, "y")),
        "404 TOKEN_NOT_FOUND"
    );
}

#[test]
fn a_failed_write_is_an_error_even_with_a_close() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Fails);
    let answer = s.send(publisher, &event_and_close_for(&job, "x"));
    assert_eq!(answer, "500 WRITE_FAILED");
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
}

#[test]
fn what_the_socket_leaves_is_queued_and_ok() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(client, Takes::Bytes(0));
    for (number, data) in (1..).zip(["a", "b", "c"]) {
        let queued = number * chunk(data).len();
        assert_eq!(s.sent(publisher, &event_for(&job, data)), queued);
    }
    assert_eq!(s.got(client), "");
    s.takes(client, Takes::Bytes(7));
    s.takes(client, Takes::Bytes(1));
    s.takes(client, Takes::All);
    assert_eq!(s.got(client), chunk("a") + &chunk("b") + &chunk("c"));
}

#[test]
fn pipelined_sends_are_answered_and_written_in_order() {
    let mut s = Script::new();
    let (one, first) = s.stream();
    let (two, second) = s.stream();
    let publisher = s.open();
    let mut requests = String::new();
    for n in 0..50 {
        requests += &post(&event_for([&first, &second][n % 2], &n.to_string()));
    }
    requests += HEALTH;
    requests += &post("{}");
    requests += &post(&event_for(&first, "end"));
    s.bytes(publisher, &requests);
    let answers = s.answers(publisher);
    let oks = vec![OK; 51].join(" | ");
    assert_eq!(answers, format!("{oks} | 400 INVALID_TOKEN_MISSING | {OK}"));
    let chunks = |from: usize| -> String {
        let numbers = (from..50).step_by(2);
        numbers.map(|n| chunk(&n.to_string())).collect()
    };
    assert_eq!(s.got(one), chunks(0) + &chunk("end"));
    assert_eq!(s.got(two), chunks(1));
}

#[test]
fn a_target_that_fails_in_a_pipeline_fails_its_own_sends_alone() {
    let mut s = Script::new();
    let (bad, lost) = s.stream();
    let (good, kept) = s.stream();
    s.takes(bad, Takes::Fails);
    let publisher = s.open();
    let requests = [&lost, &kept, &lost, &kept].map(|job| post(&event_for(job, "x")));
    s.bytes(publisher, requests.concat());
    assert_eq!(
        s.answers(publisher),
        format!("500 WRITE_FAILED | {OK} | 404 TOKEN_NOT_FOUND | {OK}")
    );
    assert_eq!(s.got(good), chunk("x").repeat(2));
}

#[test]
fn every_error_of_a_command() {
    let mut s = Script::new();
    let publisher = s.open();
    let table = [
        ("", "INVALID_JSON"),
        ("[]", "INVALID_JSON"),
        ("{\"token\":\"t\",\"token\":\"t\"}", "INVALID_JSON"),
        ("{\"token\":\"\\ud800\"}", "INVALID_JSON"),
        ("{}", "INVALID_TOKEN_MISSING"),
        ("{\"token\":\"\"}", "INVALID_TOKEN_MISSING"),
        ("{\"token\":null}", "INVALID_TOKEN_MISSING"),
        ("{\"token\":\"t\",\"event\":null}", "INVALID_EVENT_TYPE"),
        (
            "{\"token\":\"t\",\"event\":{}}",
            "INVALID_EVENT_DATA_MISSING",
        ),
        (
            "{\"token\":\"t\",\"event\":{\"data\":\"\",\"name\":1}}",
            "INVALID_EVENT_NAME_TYPE",
        ),
        (
            "{\"token\":\"t\",\"event\":{\"data\":\"\",\"name\":\"a\\rb\"}}",
            "INVALID_EVENT_NAME",
        ),
        ("{\"token\":\"t\",\"close\":1}", "INVALID_CLOSE_TYPE"),
    ];
    for (body, code) in table {
        assert_eq!(s.send(publisher, body), format!("400 {code}"), "{body}");
    }
    assert_eq!(
        s.send(publisher, "{\"token\":\"t\"}"),
        "404 TOKEN_NOT_FOUND"
    );
    assert!(!s.is_closed(publisher), "the connection is kept");
}

#[test]
fn a_token_matches_only_as_issued() {
    let mut s = Script::new();
    let (_, job) = s.stream();
    let publisher = s.open();
    let token = job.token;
    let forms = [
        token.simple().to_string(),
        token.braced().to_string(),
        token.urn().to_string(),
        format!(" {token}"),
        token.to_string().to_uppercase(),
    ];
    for form in forms.into_iter().filter(|form| *form != token.to_string()) {
        let answer = s.send(publisher, &format!("{{\"token\":\"{form}\"}}"));
        assert_eq!(answer, "404 TOKEN_NOT_FOUND", "{form}");
    }
}

#[test]
fn a_bad_command_changes_nothing() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    let token = job.token;
    let body = format!("{{\"token\":\"{token}\",\"event\":{{\"data\":\"x\"}},\"close\":0}}");
    assert_eq!(s.send(publisher, &body), "400 INVALID_CLOSE_TYPE");
    assert_eq!(s.got(client), "");
}

#[test]
fn a_publisher_that_half_closes_still_gets_its_answer() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(publisher, Takes::Bytes(0));
    s.bytes(publisher, post(&event_for(&job, "x")));
    s.eof(publisher);
    assert_eq!(s.got(client), chunk("x"));
    s.takes(publisher, Takes::All);
    assert_eq!(s.answers(publisher), OK);
    assert!(s.is_closed(publisher));
}

#[test]
fn a_publisher_that_leaves_in_the_middle_sends_nothing() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let request = post(&event_for(&job, "x"));
    for cut in 1..request.len() {
        let publisher = s.open();
        s.bytes(publisher, &request[..cut]);
        s.eof(publisher);
        assert!(s.is_closed(publisher), "cut at {cut}");
    }
    assert_eq!(s.got(client), "");
}

#[test]
fn a_publisher_that_dies_has_sent_what_was_whole() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    let publisher = s.open();
    s.takes(publisher, Takes::Fails);
    s.bytes(publisher, post(&event_for(&job, "x")));
    assert_eq!(s.got(client), chunk("x"));
    assert!(s.is_closed(publisher));
    assert_eq!(s.did(), [], "it was no stream");
}

#[test]
fn the_answers_to_a_batch_leave_in_one_write_behind_its_events() {
    let mut s = Script::new();
    let (stream, job) = s.stream();
    let publisher = s.open();
    let sends: String = (0..8)
        .map(|n| post(&event_for(&job, &n.to_string())))
        .collect();
    s.writes(stream);
    s.writes(publisher);
    s.bytes(publisher, sends);
    assert_eq!(s.writes(stream).len(), 8, "no event waits for another");
    assert_eq!(s.writes(publisher).len(), 1);
    assert_eq!(s.answers(publisher), [OK; 8].join(" | "));
}
