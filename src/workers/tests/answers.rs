//! What one exchange makes of what the backend does.

use std::time::{Duration, Instant};

use End::*;

use super::backend::*;
use crate::callback::{Action, Outcome, Reason};
use crate::event_id::EventId;
use crate::time::Time;
use crate::wire;
use crate::workers::exchange::BODY_LIMIT;

#[test]
fn request_is_exact() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let head = |length| {
        format!(
            "POST /hook?key=s%20ecret HTTP/1.1\r\naccept: */*\r\ncontent-length: {length}\r\n\
             content-type: application/json\r\nhost: {}\r\nuser-agent: ssegateway/{}\r\nx-gateway-boot: {BOOT}",
            backend.address(),
            env!("CARGO_PKG_VERSION"),
        )
    };
    let check = |request: &str, body: &str| {
        let (got, rest) = request.split_once("\r\n\r\n").expect("a head");
        let mut lines: Vec<_> = got.split("\r\n").collect();
        lines[1..].sort_unstable();
        assert_eq!(lines.join("\r\n"), head(body.len()));
        assert_eq!(rest, body);
    };
    let position = EventId {
        millis: 1_795_000_000_123,
        number: 7,
    };
    let position = Some(Box::new(position));
    for (position, told) in [
        (None, ""),
        (position.clone(), r#","position":"1795000000123-7""#),
    ] {
        let mut job = connect(7);
        job.position = position;
        rig.submit(job);
        let mut peer = backend.accept();
        let body = r#"{"action":"connect","token":"00000000-0000-4000-8000-000000000007"P,"request":{"url":"/","headers":{}}}"#;
        check(&peer.request(), &body.replace('P', told));
        drop(peer);
        rig.result();
    }
    for reason in [Reason::ClientClosed, Reason::ServerClosed, Reason::Error] {
        let mut job = disconnect(8);
        job.action = Action::Disconnect { reason };
        // Where the history is, is of no use to who is told of an end.
        job.position = position.clone();
        rig.submit(job);
        let mut peer = backend.accept();
        let body = r#"{"action":"disconnect","reason":"R","token":"00000000-0000-4000-8000-000000000008","request":{"url":"/","headers":{}}}"#;
        check(&peer.request(), &body.replace('R', reason.as_str()));
        drop(peer);
        rig.result();
    }
}

/// Whether the backend closes after its answer, and how.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Open,
    Close,
    Reset,
}

/// What the backend sends, what it does then, and a status for an answer or a sentence for a
/// failure.
type Case = (&'static str, End, Result<u16, &'static str>);

const CASES: &[Case] = &[
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        Open,
        Ok(200),
    ),
    ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Open, Ok(200)),
    ("HTTP/1.1 204 No\r\n\r\n", Open, Ok(204)),
    ("HTTP/1.1 205 No\r\n\r\n", Open, Ok(205)),
    (
        "HTTP/1.1 205 No\r\nContent-Length: 0\r\n\r\n",
        Open,
        Ok(205),
    ),
    (
        "HTTP/1.1 302 X\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n",
        Open,
        Ok(302),
    ),
    (
        "HTTP/1.1 307 X\r\nLocation: /else\r\nContent-Length: 1\r\n\r\nx",
        Open,
        Ok(307),
    ),
    ("HTTP/1.1 304 X\r\n\r\n", Open, Ok(304)),
    ("HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n", Open, Ok(401)),
    (
        "HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy",
        Open,
        Ok(503),
    ),
    ("HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n", Open, Ok(600)),
    ("HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", Open, Ok(999)),
    ("HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", Open, Ok(101)),
    ("HTTP/1.1 103 X\r\nLink: x\r\n\r\n", Close, Ok(103)),
    (
        "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n",
        Open,
        Ok(201),
    ),
    (
        "HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n",
        Open,
        Ok(403),
    ),
    ("HTTP/1.0 200 OK\r\n\r\n{}", Close, Ok(200)),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        Open,
        Ok(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        Close,
        Ok(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        Open,
        Ok(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Le",
        Close,
        Err("connection closed before the answer"),
    ),
    (
        "HTTP/1.1 103 X\r\nLink",
        Close,
        Err("connection closed before the answer"),
    ),
    ("", Close, Err("connection closed before the answer")),
    ("", Reset, Err("connection reset")),
    ("SSH-2.0-OpenSSH_9.6\r\n", Open, Err("answer is not HTTP")),
    ("HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n", Open, Ok(99)),
    ("HTTP/1.1 000 X\r\n\r\n", Open, Ok(0)),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nHTTP/1.1 199 a body's text\n\n",
        Open,
        Ok(200),
    ),
    (
        "HTTP/2.0 200 X\r\nContent-Length: 0\r\n\r\n",
        Open,
        Err("answer is not HTTP"),
    ),
];

/// What comes of an answer, on a fresh connection.
fn outcome_of(backend: &Backend, answer: &str, end: End) -> Outcome {
    let rig = Rig::new(settings(backend.address()));
    rig.submit(disconnect(1));
    let mut peer = backend.accept();
    peer.request();
    peer.try_send(answer.as_bytes());
    let open = match end {
        Open => Some(peer),
        Close => {
            drop(peer);
            None
        }
        Reset => {
            peer.reset();
            None
        }
    };
    let outcome = rig.result().outcome;
    drop(open);
    backend.assert_idle();
    outcome
}

#[test]
fn answers() {
    let large_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000));
    let many_fields = format!("HTTP/1.1 201 OK\r\n{}\r\n", "A: b\r\n".repeat(129));
    let final_one = "HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n";
    let hints = "HTTP/1.1 103 X\r\nLink: x\r\n\r\n".repeat(1000) + final_one;
    let waits = "HTTP/1.1 100 X\r\n\r\n".repeat(3000) + final_one;
    let large = [
        (&*large_head, Open, Ok(200)),
        (&*many_fields, Open, Ok(201)),
        (&*hints, Open, Ok(202)),
        (&*waits, Open, Ok(202)),
    ];
    let backend = Backend::new();
    for (answer, end, expected) in CASES.iter().chain(&large) {
        match (outcome_of(&backend, answer, *end), expected) {
            (Outcome::Answered { status, .. }, Ok(expected)) => {
                assert_eq!(status, *expected, "{answer}")
            }
            (Outcome::Failed(sentence), Err(expected)) => {
                assert_eq!(sentence, *expected, "{answer}")
            }
            (other, _) => panic!("{answer}: {other:?}"),
        }
    }
}

/// The head has told the status, which counts although the body is never whole.
#[test]
fn bodies_that_break_off() {
    let cases = [
        ("Content-Length: 9\r\n\r\n{}", Close, "answer cut short"),
        ("Content-Length: 9\r\n\r\n{}", Reset, "answer cut short"),
        ("Content-Length: 9\r\n\r\n", Close, "answer cut short"),
        ("Connection: close\r\n\r\n{", Reset, "answer cut short"),
        (
            "Transfer-Encoding: chunked\r\n\r\n9\r\n{}",
            Close,
            "answer cut short",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            Reset,
            "answer cut short",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nz\r\n{}",
            Open,
            "answer body badly framed",
        ),
    ];
    let backend = Backend::new();
    for said in [200, 204, 299, 302, 401, 500] {
        for (rest, end, expected) in cases {
            let answer = format!("HTTP/1.1 {said} X\r\n{rest}");
            match outcome_of(&backend, &answer, end) {
                Outcome::Unfinished { status, error } => {
                    assert_eq!((status, error.as_deref()), (said, Some(expected)))
                }
                // It has no body, whatever its fields say.
                Outcome::Answered { status: 204, .. } if said == 204 => {}
                other => panic!("{answer}: {other:?}"),
            }
        }
    }
}

#[test]
fn refused() {
    let nobody = Refusing::new();
    let rig = Rig::new(settings(nobody.address()));
    assert_eq!(sentence(rig.outcome(connect(1))), "connection refused");
}

#[test]
fn body_is_read_to_the_limit() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let answer = |length: usize| {
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        bytes.resize(bytes.len() + length, b'x');
        bytes
    };
    rig.submit(connect(1));
    let mut peer = backend.accept();
    peer.request();
    peer.send(&answer(BODY_LIMIT as usize));
    assert_eq!(status(&rig.result().outcome), 200);
    // Kept, so the body was read to its end.
    rig.submit(connect(2));
    peer.request();
    peer.try_send(&answer(BODY_LIMIT as usize + 1));
    let Outcome::Answered { directives, .. } = rig.result().outcome else {
        panic!("no answer");
    };
    assert_eq!(directives, wire::directives(None));
    peer.closed();
    // A small body reaches the reader of directives whole.
    rig.submit(connect(3));
    let mut peer = backend.accept();
    peer.request();
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"close\":");
    peer.send(b"true}");
    let Outcome::Answered { directives, .. } = rig.result().outcome else {
        panic!("no answer");
    };
    assert_eq!(directives, wire::directives(Some(br#"{"close":true}"#)));
}

/// Silence at any point, and a backend that dribbles, end with the limit.
#[test]
fn silence_times_out() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.disconnect_timeout = Duration::from_millis(300);
    let rig = Rig::new(settings);
    let starts = [
        ("", None),
        ("HTTP/1.1 200 OK\r\n", None),
        ("HTTP/1.1 102 X\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", Some(200)),
        ("HTTP/1.1 500 OK\r\nConnection: close\r\n\r\n{}", Some(500)),
        (
            "HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            Some(201),
        ),
    ];
    for (start, said) in starts {
        let begun = Instant::now();
        rig.submit(disconnect(1));
        let mut peer = backend.accept();
        peer.request();
        peer.send(start.as_bytes());
        match rig.result().outcome {
            Outcome::TimedOut => assert_eq!(said, None, "{start}"),
            Outcome::Unfinished {
                status,
                error: None,
            } => assert_eq!(said, Some(status), "{start}"),
            other => panic!("{start}: {other:?}"),
        }
        assert!(begun.elapsed() >= Duration::from_millis(300));
        assert!(begun.elapsed() < Duration::from_secs(5));
        peer.closed();
    }
    rig.submit(disconnect(2));
    let mut peer = backend.accept();
    peer.request();
    peer.send(b"HTTP/1.1 200 OK\r\nX: ");
    // Whatever comes in between: the limit is one for the whole exchange.
    let begun = Instant::now();
    while peer.try_send(b"x") && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(rig.result().outcome, Outcome::TimedOut));
}

#[test]
fn a_connect_lasts_a_second_longer_than_its_client() {
    let backend = Backend::new();
    let epoch = Instant::now();
    let rig = Rig::since(settings(backend.address()), epoch);
    rig.submit(connect_until(1, Time(700)));
    let mut peer = backend.accept();
    peer.request();
    assert!(matches!(rig.result().outcome, Outcome::TimedOut));
    assert!(epoch.elapsed() >= Duration::from_millis(1700));
    // How much longer is looked at where no other work of the host counts.
    let limit = |id| {
        rig.workers
            .shared
            .limit(&connect_until(id, Time(3_600_000)))
    };
    let left = || Duration::from_secs(3600) - epoch.elapsed();
    let (most, limit, least) = (left(), limit(3).expect("time"), left());
    let second = Duration::from_secs(1);
    assert!(limit <= most + second && limit >= least + second);
    // Its client has had the answer already.
    let late = rig.outcome(connect_until(2, Time(1700)));
    assert!(matches!(late, Outcome::NeverSent));
    backend.assert_idle();
}

/// Times without end are no times that overflow.
#[test]
fn limits_may_be_endless() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.disconnect_timeout = Duration::MAX;
    let rig = Rig::new(settings);
    for job in [connect_until(1, Time::NEVER), disconnect(2)] {
        rig.submit(job);
        let mut peer = backend.accept();
        peer.request();
        peer.send(OK);
        assert_eq!(status(&rig.result().outcome), 200);
    }
}

/// Longer than any buffer, and split at each length that is near one.
#[test]
fn large_requests_arrive_whole() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let mut kept = None;
    for length in (3_600..4_300).step_by(50).chain([100_000]) {
        let mut job = connect(length);
        let filler: String = ('a'..='z').cycle().take(length as usize).collect();
        job.request = request_of(&filler);
        rig.submit(job);
        let peer = kept.get_or_insert_with(|| backend.accept());
        let expected = format!(":\"{filler}\",\"headers\":{{}}}}}}");
        assert!(peer.request().ends_with(&expected));
        peer.send(OK);
        assert_eq!(status(&rig.result().outcome), 200);
    }
}

/// So that the backend wakes once.
#[test]
fn head_and_body_come_in_one_piece() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(1));
    let piece = backend.accept().piece();
    assert!(
        piece.starts_with("POST ") && piece.ends_with("}}}"),
        "{piece}"
    );
}

#[test]
fn failures_do_not_name_the_url() {
    // A label this long is refused without asking a name server.
    let name = format!("http://se-cret{}/", "x".repeat(64));
    let nobody = Refusing::new();
    let at = nobody.address();
    let cases = [
        (format!("http://{at}/se-cret?se-cret"), "connection refused"),
        (format!("https://{at}/se-cret"), "connection refused"),
        (name, "host name not found"),
    ];
    for (url, expected) in cases {
        let mut settings = settings("x");
        settings.url = url.parse().expect("a URL");
        assert_eq!(sentence(Rig::new(settings).outcome(connect(1))), expected);
    }
}

#[test]
fn userinfo_becomes_basic_authorization() {
    let backend = Backend::new();
    let rig = Rig::new(settings(format!("user:pw@{}", backend.address())));
    rig.submit(connect(1));
    let request = backend.accept().request();
    assert!(request.contains("\r\nauthorization: Basic dXNlcjpwdw==\r\n"));
    assert!(request.contains(&format!("\r\nhost: {}\r\n", backend.address())));
}
