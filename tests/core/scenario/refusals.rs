//! Streams that are refused by a stream (contract, section 14): which refusals, to whom, in what words,
//! and that all else is as ever.

use std::time::Duration;

use ssegateway::callback::{Outcome, Reason};
use ssegateway::config::Origins;
use ssegateway::gateway::{ConnId, Settings};
use ssegateway::sse::Format;

use super::capture::lines;
use super::driver::*;
use super::http::got_at_every_cut;

/// A way to be refused.
pub(crate) struct Way {
    /// What has to be set for it.
    pub(crate) settings: fn(Settings) -> Settings,
    /// Has this request for a stream refused.
    pub(crate) refuse: fn(&mut Script, &str) -> ConnId,
    /// The answer in short.
    pub(crate) answer: &'static str,
}

fn asked(s: &mut Script, request: &str) -> ConnId {
    let client = s.open();
    s.bytes(client, request);
    client
}

/// A client whose callback has this outcome.
fn with_outcome(s: &mut Script, request: &str, outcome: Outcome) -> ConnId {
    let client = asked(s, request);
    let job = s.job();
    s.result(&job, outcome);
    client
}

/// A request with one more field.
fn and_field(request: &str, field: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"), 1)
}

const OVERLOADED: &str = "503 OVERLOADED close Retry-After=5";
const SHUTTING_DOWN: &str = "503 SHUTTING_DOWN close Retry-After=5";

/// All of them.
pub(crate) const WAYS: [Way; 15] = [
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(403)),
        answer: "403 BACKEND_FORBIDDEN",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(401)),
        answer: "401 BACKEND_AUTH_FAILED",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(302)),
        answer: "302 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(429)),
        answer: "429 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(599)),
        answer: "599 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(304)),
        answer: "502 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, Outcome::Failed("refused".into())),
        answer: "503 BACKEND_UNAVAILABLE",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            let client = asked(s, request);
            s.pass(Duration::from_secs(6));
            client
        },
        answer: "504 GATEWAY_TIMEOUT",
    },
    Way {
        settings: |mut settings| {
            settings.is_configured = false;
            settings
        },
        refuse: asked,
        answer: "503 SERVICE_NOT_CONFIGURED",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            s.is_queue_full = true;
            asked(s, request)
        },
        answer: OVERLOADED,
    },
    Way {
        settings: |mut settings| {
            settings.limits.max_streams = 1;
            settings
        },
        refuse: |s, request| {
            s.await_callback();
            asked(s, request)
        },
        answer: OVERLOADED,
    },
    // Nothing of its head is kept.
    Way {
        settings: |mut settings| {
            settings.limits.max_kept_headers = 4000;
            settings
        },
        refuse: |s, request| asked(s, &and_field(request, &format!("X: {}", "x".repeat(5000)))),
        answer: OVERLOADED,
    },
    // It is the youngest request under way when too much is held.
    Way {
        settings: |mut settings| {
            settings.limits.max_inbound = 5000;
            settings
        },
        refuse: |s, request| {
            let long = format!("Content-Length: 9\r\nX: {}", "x".repeat(6000));
            asked(s, &and_field(request, &long))
        },
        answer: OVERLOADED,
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            let client = asked(s, request);
            s.shutdown();
            client
        },
        answer: SHUTTING_DOWN,
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            s.shutdown();
            asked(s, request)
        },
        answer: SHUTTING_DOWN,
    },
];

const ACCEPT: &str = "Accept: text/event-stream";

fn by_stream() -> Settings {
    Settings {
        refuses_by_stream: true,
        ..settings()
    }
}

fn ours() -> String {
    and_field(GET, ACCEPT)
}

/// The one event of a stream that refuses: what its `retry` says, and its data.
fn rejected(got: &str) -> (u32, serde_json::Value) {
    let body = got.strip_prefix(STREAM_HEAD).expect("a stream's head");
    let (size, rest) = body.split_once("\r\n").expect("a chunk");
    let (event, rest) = rest.split_at(usize::from_str_radix(size, 16).expect("a size"));
    assert_eq!(rest, format!("\r\n{LAST_CHUNK}"));
    let fields = event.strip_prefix("event: rejected\nretry: ").expect(event);
    let (retry, data) = fields.split_once("\ndata: ").expect("data");
    let data = data.strip_suffix("\n\n").expect("the end of an event");
    let json = serde_json::from_str(data).expect("JSON");
    (retry.parse().expect("a number"), json)
}

/// What a refusal says of itself in short, as [`in_short`] has an error.
fn code_of(json: &serde_json::Value) -> String {
    let fields = json.as_object().expect("an object");
    assert_eq!(fields.len(), 3, "{json}");
    assert!(fields["message"].as_str().is_some_and(|it| !it.is_empty()));
    format!(
        "{} {}",
        fields["status"],
        fields["code"].as_str().expect("a code")
    )
}

#[test]
fn every_refusal_is_a_stream_that_ends() {
    for way in &WAYS {
        let mut s = Script::with((way.settings)(by_stream()));
        let client = (way.refuse)(&mut s, &ours());
        let (retry, json) = rejected(&s.got(client));
        let code = code_of(&json);
        assert!(way.answer.starts_with(&code), "{code}, not {}", way.answer);
        let may_pass = matches!(json["status"].as_u64(), Some(429 | 500..));
        assert_eq!(retry, if may_pass { 1_000 } else { 300_000 }, "{code}");
        assert_eq!(s.did().pop(), Some(Did::Fin(client)), "{code}");
        s.bytes(client, HEALTH);
        assert_eq!(s.got(client), "", "{code}");
        s.eof(client);
        assert!(s.is_closed(client));
    }
}

#[test]
fn http_1_0_gets_it_as_it_gets_streams() {
    for way in &WAYS {
        let mut s = Script::with((way.settings)(by_stream()));
        let request = ours().replace("HTTP/1.1", "HTTP/1.0");
        let client = (way.refuse)(&mut s, &request);
        let got = s.got(client);
        let head = STREAM_HEAD.replace("Transfer-Encoding: chunked\r\n", "");
        let event = got.strip_prefix(&head).expect("a stream's head");
        assert!(event.starts_with("event: rejected\nretry: "), "{event}");
        assert!(event.ends_with("\"}\n\n"), "{event}");
        assert_eq!(s.did().pop(), Some(Did::Fin(client)));
    }
}

/// Times are drawn, so that those who were refused together do not come again together.
#[test]
fn when_to_come_again_is_drawn() {
    let table = [
        (503, 0, 1_000),
        (503, 4_000, 5_000),
        (503, 4_001, 1_000),
        (429, 1_234, 2_234),
        (500, 4_001 * 7 + 5, 1_005),
        (403, 0, 300_000),
        (401, 300_000, 600_000),
        (404, 300_001, 300_000),
        (302, 17, 300_017),
        (428, 0, 300_000),
        (499, 0, 300_000),
    ];
    for (refused, drawn, expected) in table {
        let mut s = Script::with(by_stream());
        s.drawn.set(drawn);
        let client = with_outcome(&mut s, &ours(), status(refused));
        let (retry, _) = rejected(&s.got(client));
        assert_eq!(retry, expected, "{refused}");
    }
}

#[test]
fn who_asks_for_a_stream_by_name() {
    let table = [
        ("Accept: text/event-stream", true),
        ("accept:TEXT/Event-Stream", true),
        ("Accept: text/event-stream; charset=utf-8", true),
        (
            "Accept: text/html, text/event-stream;q=0.5, */*;q=0.1",
            true,
        ),
        (
            "Accept: application/json\r\nAccept: text/event-stream",
            true,
        ),
        ("Accept: text/event-stream;q=0.001", true),
        ("Accept: text/event-stream;q=1", true),
        ("Accept: text/event-stream;q=0, text/event-stream", true),
        ("Accept: text/event-stream;q=0", false),
        ("Accept: text/event-stream ; x=y ; Q=0.000", false),
        ("Accept: text/event-stream;q=0.", false),
        ("Accept: text/*, */*", false),
        ("Accept: text/event-streams", false),
        ("Accept: xtext/event-stream", false),
        ("Accept: text/html;a=text/event-stream", false),
        ("Accept:", false),
        ("X-Accept: text/event-stream", false),
    ];
    for (field, is_by_stream) in table {
        for mode in [true, false] {
            let mut s = Script::with(Settings {
                refuses_by_stream: mode,
                ..settings()
            });
            let client = with_outcome(&mut s, &and_field(GET, field), status(403));
            if mode && is_by_stream {
                assert_eq!(
                    code_of(&rejected(&s.got(client)).1),
                    "403 BACKEND_FORBIDDEN"
                );
            } else {
                assert_eq!(s.answers(client), "403 BACKEND_FORBIDDEN", "{field}");
            }
        }
    }
}

/// What is wrong with a request is no refusal, and what is no stream has none.
#[test]
fn all_other_errors_are_as_ever() {
    let chunked = "Transfer-Encoding: chunked";
    let table = [
        (and_field(&ours(), chunked) + "x", "400 BAD_REQUEST close"),
        (
            and_field(&ours(), "Content-Length: 99999999"),
            "413 CONTENT_TOO_LARGE close",
        ),
        (
            and_field(&ours(), "Transfer-Encoding: gzip"),
            "501 NOT_IMPLEMENTED close",
        ),
        (
            ours().replace("GET", "PUT"),
            "405 METHOD_NOT_ALLOWED Allow=GET",
        ),
        (ours().replace("GET", "POST"), "404 NOT_FOUND"),
        (ours().replace("/s?", "/internal/s?"), "404 NOT_FOUND"),
        (
            ours().replace("/s?x=1", "/healthz"),
            "200 {\"status\":\"ok\"}",
        ),
        (
            ours().replace("/s?x=1", "/readyz"),
            "503 {\"status\":\"not_ready\",\"configured\":true}",
        ),
    ];
    for (request, expected) in table {
        let mut s = Script::with(by_stream());
        s.shutdown();
        let client = asked(&mut s, &request);
        assert_eq!(s.answers(client), expected, "{request}");
    }
    let mut s = Script::with(by_stream());
    let client = asked(&mut s, &and_field(&ours(), "Content-Length: 2"));
    s.pass(Duration::from_secs(11));
    assert_eq!(s.answers(client), "408 REQUEST_TIMEOUT close");
}

/// The refusal of one request is not that of what came before it, nor of what comes behind.
#[test]
fn a_pipeline_ends_with_a_refusal_however_it_is_cut() {
    let mut settings = by_stream();
    settings.is_configured = false;
    let text = [HEALTH, GET, &ours(), HEALTH].concat();
    let got = got_at_every_cut(&settings, &text);
    let (before, stream) = got.split_at(got.find(STREAM_HEAD).expect("a stream"));
    let expected = "200 {\"status\":\"ok\"} | 503 SERVICE_NOT_CONFIGURED";
    assert_eq!(in_short(before), expected);
    assert_eq!(code_of(&rejected(stream).1), "503 SERVICE_NOT_CONFIGURED");
}

/// To backend and log it is the same whether a refusal is a status or a stream.
#[test]
fn nobody_but_the_client_notices() {
    for way in &WAYS {
        let seen = [false, true].map(|refuses_by_stream| {
            let mut s = Script::with((way.settings)(Settings {
                refuses_by_stream,
                ..settings()
            }));
            lines();
            let client = (way.refuse)(&mut s, &ours());
            let told = lines();
            let mut did = s.did();
            did.retain(|it| *it != Did::Fin(client));
            (did, told, s.gw.counts().streams)
        });
        assert_eq!(seen[0], seen[1], "{}", way.answer);
    }
}

#[test]
fn a_2xx_that_opens_nothing_is_paid() {
    let mut s = Script::with(by_stream());
    let client = asked(&mut s, &ours());
    let job = s.job();
    let publisher = s.open();
    let buffered = s.send(publisher, &event_for(&job, "lost"));
    assert_eq!(buffered, "200 {\"status\":\"buffered\"}");
    s.did();
    s.result(&job, unfinished(200, Some("cut")));
    let (retry, json) = rejected(&s.got(client));
    assert_eq!(
        (retry, &*code_of(&json)),
        (1_000, "503 BACKEND_UNAVAILABLE")
    );
    assert_eq!(s.did(), [Did::Disconnect(Reason::Error), Did::Fin(client)]);
    let late = s.send(publisher, &event_for(&job, "late"));
    assert_eq!(late, "404 TOKEN_NOT_FOUND");
}

/// One that is read slowly, or left, ends as streams do.
#[test]
fn a_refusal_that_is_not_read_to_its_end() {
    let refused = || {
        let mut s = Script::with(by_stream());
        let client = asked(&mut s, &ours());
        s.takes(client, Takes::Bytes(20));
        let job = s.job();
        s.result(&job, status(503));
        assert_eq!(s.got(client).len(), 20);
        s.did();
        (s, client)
    };
    let (mut s, client) = refused();
    s.takes(client, Takes::All);
    assert!(s.got(client).ends_with(LAST_CHUNK));
    assert_eq!(s.did(), [Did::Fin(client)]);

    let (mut s, client) = refused();
    s.eof(client);
    assert!(s.is_closed(client));

    let (mut s, client) = refused();
    s.pass(Duration::from_secs(31));
    assert!(s.is_closed(client));
    assert_eq!(s.did(), [Did::Abort(client)]);
}

#[test]
fn an_envelope_is_for_the_backends_events_alone() {
    let mut settings = by_stream();
    settings.event_format = Format::Envelope;
    let mut s = Script::with(settings);
    let client = with_outcome(&mut s, &ours(), status(403));
    assert_eq!(
        code_of(&rejected(&s.got(client)).1),
        "403 BACKEND_FORBIDDEN"
    );
}

#[test]
fn a_page_of_another_origin_may_read_why() {
    let settings = Settings {
        cors: Some(Origins::Any),
        ..by_stream()
    };
    for way in &WAYS {
        let mut s = Script::with((way.settings)(settings.clone()));
        let client = (way.refuse)(&mut s, &ours());
        let field = "Access-Control-Allow-Origin: *\r\n";
        let got = s.got(client);
        assert!(got.contains(field), "{got}");
        let (_, json) = rejected(&got.replacen(field, "", 1));
        assert!(way.answer.starts_with(&code_of(&json)));
    }
}
