//! From a request to its callback to a stream or a rejection, and who is told what when one side
//! leaves (contract, sections 2 and 3).

use std::time::Duration;

use ssegateway::callback::{Action, JobId, Outcome, Reason};
use ssegateway::gateway::{Broken, Counts};
use ssegateway::time::Time;

use super::driver::*;

const OVER: Duration = Duration::from_millis(5_050);

#[test]
fn a_stream_from_accept_to_eof() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(
        client,
        "GET /s?x=1 HTTP/1.1\r\nHost: h\r\nX-A: b\r\nx-a: c\r\n\r\n",
    );
    assert_eq!(s.did(), [Did::Connect]);
    let job = s.job();
    let expires = Time(s.now.0 + 5_000);
    assert_eq!(job.action, Action::Connect { expires });
    let request = r#"{"url":"/s?x=1","headers":{"host":"h","x-a":"b, c"}}"#;
    assert_eq!(job.request.json(), request.as_bytes());
    assert_eq!(s.got(client), "");

    s.result(&job, accepted());
    assert_eq!(s.got(client), STREAM_HEAD);
    assert_eq!(s.did(), []);

    let publisher = s.open();
    s.bytes(publisher, post(&event_for(&job, "one")));
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\
                  Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{\"status\":\"ok\"}";
    assert_eq!(s.got(publisher), answer);
    assert_eq!(s.got(client), "b\r\ndata: one\n\n\r\n");

    s.eof(client);
    assert_eq!(s.did(), [Did::Disconnect(Reason::ClientClosed)]);
    let goodbye = s.job();
    assert_eq!(goodbye.token, job.token);
    assert_eq!(goodbye.request.json(), request.as_bytes());
    assert!(s.is_closed(client));
    assert_eq!(
        s.send(publisher, &event_for(&job, "two")),
        "404 TOKEN_NOT_FOUND"
    );
    s.result(&goodbye, status(500));
    let rest = Counts {
        connections: 1,
        timers: 1,
        ..Counts::default()
    };
    assert_eq!(s.gw.counts(), rest);
    assert_eq!(s.did(), []);
}

#[test]
fn how_a_stream_ends_decides_the_reason() {
    let table = [
        (Broken::Reset, Reason::ClientClosed),
        (Broken::WriteFailed, Reason::Error),
        (Broken::Vanished, Reason::Error),
    ];
    for (how, reason) in table {
        let mut s = Script::new();
        let (client, job) = s.stream();
        s.broken(client, how);
        assert_eq!(s.did(), [Did::Disconnect(reason)], "{how:?}");
        assert_eq!(s.job().token, job.token);
        assert!(s.is_closed(client));
        s.broken(client, how);
        s.eof(client);
        assert_eq!(s.did(), [], "once only");
    }
}

#[test]
fn what_the_backends_answer_becomes() {
    let table = [
        (status(302), "302 BACKEND_ERROR"),
        (status(304), "502 BACKEND_ERROR"),
        (status(401), "401 BACKEND_AUTH_FAILED"),
        (status(403), "403 BACKEND_FORBIDDEN"),
        (status(404), "404 BACKEND_ERROR"),
        (status(500), "500 BACKEND_ERROR"),
        (status(199), "502 BACKEND_ERROR"),
        (status(600), "502 BACKEND_ERROR"),
        (Outcome::TimedOut, "504 GATEWAY_TIMEOUT"),
        (Outcome::NeverSent, "504 GATEWAY_TIMEOUT"),
        (Outcome::Failed("refused".into()), "503 BACKEND_UNAVAILABLE"),
        (unfinished(302, None), "504 GATEWAY_TIMEOUT"),
        (unfinished(401, Some("cut")), "503 BACKEND_UNAVAILABLE"),
        (Outcome::QueueFull, "503 OVERLOADED close Retry-After=5"),
    ];
    for (outcome, expected) in table {
        let mut s = Script::new();
        let (client, job) = s.await_callback();
        let publisher = s.open();
        let buffered = s.send(publisher, &event_for(&job, "lost"));
        assert_eq!(buffered, "200 {\"status\":\"buffered\"}");
        s.result(&job, outcome);
        assert_eq!(s.answers(client), expected);
        assert_eq!(
            s.send(publisher, &event_for(&job, "late")),
            "404 TOKEN_NOT_FOUND"
        );
        s.eof(client);
        let is_disconnect = |did: &Did| matches!(did, Did::Disconnect(_));
        assert!(!s.did().iter().any(is_disconnect), "{expected}");
        assert_eq!(s.gw.counts().connects, 0);
        assert_eq!(s.gw.counts().disconnects, 0, "{expected}");
    }
    for good in [200, 204, 299] {
        let mut s = Script::new();
        let (client, job) = s.await_callback();
        s.result(&job, status(good));
        assert_eq!(s.got(client), STREAM_HEAD);
    }
}

/// The backend has said 2xx, so it keeps the token in its book; its client gets no stream.
#[test]
fn a_2xx_that_was_never_whole_is_a_refusal_that_is_paid() {
    let table = [
        (unfinished(200, None), "504 GATEWAY_TIMEOUT"),
        (unfinished(299, Some("cut")), "503 BACKEND_UNAVAILABLE"),
    ];
    for (outcome, expected) in table {
        let mut s = Script::new();
        let (client, job) = s.await_callback();
        let publisher = s.open();
        s.send(publisher, &event_for(&job, "lost"));
        s.did();
        s.result(&job, outcome);
        assert_eq!(s.answers(client), expected);
        assert_eq!(s.did(), [Did::Disconnect(Reason::Error)], "{expected}");
        let goodbye = s.job();
        assert_eq!(goodbye.token, job.token);
        assert_eq!(goodbye.request.json(), job.request.json());
        let counts = s.gw.counts();
        assert_eq!((counts.connects, counts.disconnects), (0, 1));
        let late = s.send(publisher, &event_for(&job, "late"));
        assert_eq!(late, "404 TOKEN_NOT_FOUND");
        s.result(&job, accepted());
        s.bytes(client, HEALTH);
        assert_eq!(s.answers(client), "200 {\"status\":\"ok\"}");
        s.eof(client);
        assert!(!s.did().contains(&Did::Disconnect(Reason::ClientClosed)));
        s.result(&goodbye, unfinished(200, None));
        assert_eq!(s.gw.counts().disconnects, 0);
    }
}

#[test]
fn a_rejected_client_may_ask_again() {
    let mut s = Script::new();
    let (client, first) = s.await_callback();
    s.result(&first, status(401));
    assert_eq!(s.answers(client), "401 BACKEND_AUTH_FAILED");
    s.bytes(client, GET);
    let second = s.job();
    assert_ne!(second.token, first.token);
    // The answer to the first request decides nothing about the second.
    s.result(&first, accepted());
    assert_eq!(s.got(client), "");
    s.result(&second, accepted());
    assert_eq!(s.got(client), STREAM_HEAD);
    assert_eq!(s.did(), [Did::Connect, Did::Connect]);
}

#[test]
fn a_callback_out_of_time_is_answered_and_a_late_answer_is_paid() {
    let mut s = Script::new();
    let (client, job) = s.await_callback();
    s.pass(Duration::from_millis(4_999));
    assert_eq!(s.got(client), "");
    s.did();
    s.pass(Duration::from_millis(51));
    assert_eq!(s.answers(client), "504 GATEWAY_TIMEOUT");
    assert_eq!(s.did(), [Did::Withdraw(job.id)]);
    let publisher = s.open();
    assert_eq!(
        s.send(publisher, &event_for(&job, "late")),
        "404 TOKEN_NOT_FOUND"
    );
    s.result(&job, accepted());
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
    assert_eq!(s.job().token, job.token);
    s.result(&job, accepted());
    assert_eq!(s.did(), [], "a second answer is not paid");
    assert_eq!(s.got(client), "");
    for late in [unfinished(200, None), unfinished(204, Some("cut"))] {
        let (_, job) = s.await_callback();
        s.pass(OVER);
        s.did();
        s.result(&job, late);
        assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
    }
}

#[test]
fn a_late_refusal_is_not_paid() {
    for outcome in [
        status(403),
        status(304),
        Outcome::TimedOut,
        Outcome::Failed("reset".into()),
        Outcome::NeverSent,
        unfinished(500, None),
        unfinished(302, Some("cut")),
    ] {
        let mut s = Script::new();
        let (_, job) = s.await_callback();
        s.pass(OVER);
        s.did();
        s.result(&job, outcome);
        assert_eq!(s.did(), []);
        assert_eq!(s.gw.counts().connects, 0);
    }
}

#[test]
fn a_client_that_leaves_first_is_an_orphan_with_its_own_reason() {
    type Leave = fn(&mut Script, ssegateway::gateway::ConnId);
    let table: [(Leave, Reason); 5] = [
        (|s, id| s.eof(id), Reason::ClientClosed),
        (|s, id| s.broken(id, Broken::Reset), Reason::ClientClosed),
        (|s, id| s.broken(id, Broken::WriteFailed), Reason::Error),
        (|s, id| s.broken(id, Broken::Vanished), Reason::Error),
        (|s, _| s.shutdown(), Reason::ServerClosed),
    ];
    let answers = [
        || directing(Some(("", "never seen")), true),
        || unfinished(200, None),
        || unfinished(200, Some("cut")),
    ];
    let cases = table
        .iter()
        .flat_map(|how| answers.map(|answer| (how, answer)));
    for ((leave, reason), answer) in cases {
        let mut s = Script::new();
        let (client, job) = s.await_callback();
        s.did();
        leave(&mut s, client);
        assert_eq!(s.did()[0], Did::Withdraw(job.id), "{reason:?}");
        let publisher = s.open();
        assert_eq!(
            s.send(publisher, &event_for(&job, "x")),
            "404 TOKEN_NOT_FOUND"
        );
        s.did();
        s.result(&job, answer());
        assert_eq!(s.did(), [Did::Disconnect(*reason)]);
        let goodbye = s.job();
        assert_eq!(goodbye.token, job.token);
        assert_eq!(goodbye.request.json(), job.request.json());
        s.result(&goodbye, accepted());
        s.result(&job, accepted());
        assert_eq!(s.did(), []);
        let counts = s.gw.counts();
        assert_eq!((counts.connects, counts.disconnects), (0, 0));
    }
}

#[test]
fn a_callback_that_is_given_back_is_owed_no_more() {
    let mut s = Script::new();
    s.gives_back = true;
    let (client, job) = s.await_callback();
    s.eof(client);
    assert_eq!(s.did(), [Did::Connect, Did::Withdraw(job.id)]);
    assert_eq!(s.gw.counts(), Counts::default());
    s.gw.withdrawn(job.id);
    assert_eq!(s.gw.counts(), Counts::default(), "twice is once");
}

#[test]
fn results_that_nobody_waits_for_change_nothing() {
    let mut s = Script::new();
    let (client, job) = s.stream();
    s.result(&job, accepted());
    s.result(&job, status(500));
    let mut unknown = job.clone();
    unknown.id = JobId(999);
    s.result(&unknown, accepted());
    let (waiting, its_job) = s.await_callback();
    // The right token with another job's id is still not the answer that is waited for.
    let mut forged = its_job.clone();
    forged.id = JobId(998);
    s.result(&forged, accepted());
    assert_eq!((s.got(client), s.got(waiting)), ("".into(), "".into()));
    assert_eq!(s.did(), [Did::Connect]);
    assert_eq!(s.gw.counts().connects, 1);
}

#[test]
fn a_full_queue_is_overload() {
    let mut s = Script::new();
    s.is_queue_full = true;
    let client = s.open();
    s.bytes(client, GET);
    assert_eq!(s.answers(client), "503 OVERLOADED close Retry-After=5");
    assert_eq!(s.did(), [Did::Connect, Did::Fin(client)]);
    assert_eq!(s.gw.counts().connects, 0);
}

#[test]
fn a_disconnect_that_finds_the_queue_full_is_not_owed() {
    let mut s = Script::new();
    let (client, _) = s.stream();
    s.is_queue_full = true;
    s.eof(client);
    assert_eq!(s.did(), [Did::Disconnect(Reason::ClientClosed)]);
    assert_eq!(s.gw.counts(), Counts::default());
}

#[test]
fn without_a_callback_url_no_stream_opens() {
    let mut settings = settings();
    settings.is_configured = false;
    let mut s = Script::with(settings);
    let client = s.open();
    s.bytes(client, GET);
    assert_eq!(s.answers(client), "503 SERVICE_NOT_CONFIGURED");
    s.bytes(client, HEALTH);
    assert_eq!(s.answers(client), "200 {\"status\":\"ok\"}");
    s.bytes(client, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
    let expected = "503 {\"status\":\"not_ready\",\"configured\":false}";
    assert_eq!(s.answers(client), expected);
    assert_eq!(s.did(), []);
}

#[test]
fn requests_behind_a_rejected_one_are_served() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, format!("{GET}{HEALTH}"));
    s.bytes(client, HEALTH);
    assert_eq!(s.got(client), "");
    let job = s.job();
    s.result(&job, status(403));
    assert_eq!(
        s.answers(client),
        "403 BACKEND_FORBIDDEN | 200 {\"status\":\"ok\"} | 200 {\"status\":\"ok\"}"
    );
}

#[test]
fn two_rejected_in_one_tick_whose_next_requests_are_sends() {
    let mut s = Script::new();
    let (reader, open) = s.stream();
    let pipeline = |data: &str| format!("{GET}{}", post(&event_for(&open, data)));
    let (one, other) = (s.open(), s.open());
    s.bytes(one, pipeline("one"));
    s.bytes(other, pipeline("other"));
    s.jump(OVER);
    let expected = "504 GATEWAY_TIMEOUT | 200 {\"status\":\"ok\"}";
    assert_eq!(s.answers(one), expected);
    assert_eq!(s.answers(other), expected);
    // Whose time is over first is nobody's affair.
    let orders = [["one", "other"], ["other", "one"]].map(|names| names.map(chunk).concat());
    let got = s.got(reader);
    assert!(orders.contains(&got), "{got}");
}

#[test]
fn a_send_behind_a_rejected_request_whose_target_stalls_in_the_same_tick() {
    let mut s = Script::with_limits(|limits| limits.stall_timeout = OVER);
    let (reader, open) = s.stream();
    let publisher = s.open();
    s.takes(reader, Takes::Bytes(0));
    s.send(publisher, &event_for(&open, "stuck"));
    let client = s.open();
    s.bytes(
        client,
        format!("{GET}{}", post(&event_for(&open, "behind"))),
    );
    s.jump(Duration::from_secs(6));
    assert!(s.is_closed(reader));
    let expected = "504 GATEWAY_TIMEOUT | 404 TOKEN_NOT_FOUND";
    assert_eq!(s.answers(client), expected);
}

#[test]
fn a_client_whose_earlier_answers_stall_is_an_orphan_too() {
    let mut s = Script::new();
    let client = s.open();
    s.takes(client, Takes::Bytes(0));
    s.bytes(client, HEALTH);
    s.pass(Duration::from_secs(27));
    s.bytes(client, GET);
    let job = s.job();
    s.did();
    s.pass(Duration::from_millis(3_050));
    assert!(s.is_closed(client));
    assert_eq!(s.did(), [Did::Abort(client), Did::Withdraw(job.id)]);
    s.result(&job, accepted());
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error)]);
}
