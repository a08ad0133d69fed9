//! Pages of other origins: which of them may read a stream or its refusal, and what browsers are told
//! before (contract, section 13).

use ssegateway::config::Origins;
use ssegateway::gateway::{Scope, Settings};

use super::driver::*;
use super::refusals::WAYS;

const EXPOSED: &str = " Access-Control-Expose-Headers=Retry-After";
const LISTED: &str = " Vary=Origin Access-Control-Allow-Credentials=true \
                      Access-Control-Allow-Origin=https://b.example:8443";
const UNLISTED: &str = " Vary=Origin";
const ANY: &str = " Access-Control-Allow-Origin=*";

fn listing() -> Settings {
    let listed = ["https://a.example", "https://b.example:8443"];
    Settings {
        cors: Some(Origins::Listed(listed.map(str::to_owned).into())),
        ..settings()
    }
}

fn open_to_all() -> Settings {
    Settings {
        cors: Some(Origins::Any),
        ..settings()
    }
}

fn asks(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn origin(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

/// Settings, an origin's field, and what is said beside to its page.
fn cases() -> Vec<(Settings, String, &'static str)> {
    let ours = origin("https://b.example:8443");
    vec![
        (settings(), ours.clone(), ""),
        (listing(), ours.clone(), LISTED),
        (
            listing(),
            "ORIGIN:https://b.example:8443 \r\n".into(),
            LISTED,
        ),
        (listing(), String::new(), UNLISTED),
        (listing(), origin("null"), UNLISTED),
        (listing(), origin("https://b.example"), UNLISTED),
        (listing(), origin("http://b.example:8443"), UNLISTED),
        (listing(), origin("https://B.example:8443"), UNLISTED),
        (
            listing(),
            origin("https://a.example, https://b.example:8443"),
            UNLISTED,
        ),
        (listing(), ours.repeat(2), UNLISTED),
        (open_to_all(), ours, ANY),
        (open_to_all(), origin("null"), ANY),
        (open_to_all(), String::new(), ANY),
    ]
}

/// What an error says beside, which may be read.
fn exposed(said: &str) -> &str {
    if said.contains("Allow") { EXPOSED } else { "" }
}

/// Fields of a head that are about other origins, as answers in short have them.
fn said_in(head: &str) -> String {
    let fields = head
        .lines()
        .filter(|line| line.starts_with("Access-Control-") || line.starts_with("Vary"));
    fields
        .map(|it| format!(" {}", it.replacen(": ", "=", 1)))
        .collect()
}

#[test]
fn who_may_read_a_stream() {
    for (settings, field, said) in cases() {
        for version in ["1.0", "1.1"] {
            let mut s = Script::with(settings.clone());
            let client = s.open();
            s.bytes(
                client,
                asks("GET", "/s", &field).replace("HTTP/1.1", &format!("HTTP/{version}")),
            );
            let job = s.job();
            // It is kept in pieces meanwhile, and what comes behind it changes nothing.
            s.bytes(client, asks("GET", "/t", &origin("https://a.example")));
            s.result(&job, accepted());
            let head = s.got(client);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"));
            assert_eq!(said_in(&head), said, "{field}");
        }
    }
}

#[test]
fn who_may_read_a_refusal() {
    for (settings, field, said) in cases() {
        for way in &WAYS {
            let mut s = Script::with((way.settings)(settings.clone()));
            let client = (way.refuse)(&mut s, &asks("GET", "/s", &field));
            let marks = way.answer.match_indices(' ').nth(1);
            let (error, marks) = way
                .answer
                .split_at(marks.map_or(way.answer.len(), |it| it.0));
            let expected = format!("{error}{}{marks}{said}", exposed(said));
            assert_eq!(s.answers(client), expected, "{field}");
        }
    }
}

/// The next answer of the connection is another's, whatever that is.
#[test]
fn what_was_said_to_one_is_not_said_to_the_next() {
    let mut settings = open_to_all();
    settings.is_configured = false;
    let refused = format!("503 SERVICE_NOT_CONFIGURED{EXPOSED}{ANY}");
    for (next, expected) in [
        (HEALTH, "200 {\"status\":\"ok\"}"),
        ("GET /\r\n\r\n", "400 BAD_REQUEST close"),
        ("GET /", "408 REQUEST_TIMEOUT close"),
    ] {
        let mut s = Script::with(settings.clone());
        let client = s.open();
        s.bytes(client, asks("GET", "/s", &origin("null")) + next);
        s.pass(std::time::Duration::from_secs(11));
        assert_eq!(s.answers(client), format!("{refused} | {expected}"));
    }
}

/// What is no stream is nobody's but the origin's own.
#[test]
fn nothing_else_is_for_pages_of_other_origins() {
    let fields = origin("https://b.example:8443") + "Access-Control-Request-Method: GET\r\n";
    let table = [
        ("GET", "/healthz", "200 {\"status\":\"ok\"}"),
        (
            "OPTIONS",
            "/healthz",
            "405 METHOD_NOT_ALLOWED Allow=GET, HEAD",
        ),
        (
            "OPTIONS",
            "/internal/send",
            "405 METHOD_NOT_ALLOWED Allow=POST",
        ),
        ("OPTIONS", "/internal/x", "404 NOT_FOUND"),
        ("GET", "/internal/x", "404 NOT_FOUND"),
        ("POST", "/internal/send", "400 INVALID_JSON"),
        ("POST", "/s", "404 NOT_FOUND"),
        ("DELETE", "/s", "405 METHOD_NOT_ALLOWED Allow=GET"),
        ("OPTIONS", "*", "405 METHOD_NOT_ALLOWED Allow=GET"),
    ];
    for settings in [settings(), listing(), open_to_all()] {
        for (method, path, expected) in table {
            let mut s = Script::with(settings.clone());
            let client = s.open();
            s.bytes(client, asks(method, path, &fields));
            assert_eq!(s.answers(client), expected, "{method} {path}");
        }
        let mut s = Script::with(settings.clone());
        let client = s.open_in(Scope::Internal);
        s.bytes(client, asks("OPTIONS", "/s", &fields));
        assert_eq!(s.answers(client), "404 NOT_FOUND");
    }
}

#[test]
fn browsers_are_told_before_what_a_page_may_do() {
    const VARY: &str = " Vary=Access-Control-Request-Method, Access-Control-Request-Headers";
    const MAY: &str = " Access-Control-Allow-Methods=GET Access-Control-Max-Age=7200";
    const NO: &str = "405 METHOD_NOT_ALLOWED Allow=GET";
    let ours = origin("https://b.example:8443");
    let asked = "Access-Control-Request-Method: GET\r\n";
    let wants = |names: &str| format!("Access-Control-Request-Headers: {names}\r\n");
    let names = |names: &str| format!(" Access-Control-Allow-Headers={names}");
    let long = ["x".repeat(1023), "x".repeat(1025)];
    let table = [
        // Which fields, what the page may send beside; `None`: this is no such question.
        (asked.to_owned(), Some(String::new())),
        (
            "Access-Control-Request-Method: PUT\r\n".into(),
            Some(String::new()),
        ),
        (
            asked.to_owned() + &wants("authorization"),
            Some(names("authorization")),
        ),
        (
            asked.to_owned() + &wants("X-A, last-event-id ,x_b"),
            Some(names("X-A, last-event-id ,x_b")),
        ),
        (asked.to_owned() + &wants(&long[0]), Some(names(&long[0]))),
        (asked.to_owned() + &wants(&long[1]), Some(String::new())),
        (asked.to_owned() + &wants(""), Some(String::new())),
        (asked.to_owned() + &wants("a,,b"), Some(String::new())),
        (asked.to_owned() + &wants("a b"), Some(String::new())),
        (asked.to_owned() + &wants("a: b"), Some(String::new())),
        (asked.to_owned() + &wants("\u{e9}"), Some(String::new())),
        (
            asked.to_owned() + &wants("a") + &wants("b"),
            Some(String::new()),
        ),
        (String::new(), None),
        (wants("a"), None),
        (asked.repeat(2), None),
    ];
    for (fields, told) in &table {
        let all = [
            (listing(), &ours, LISTED, true),
            (listing(), &origin("https://c.example"), UNLISTED, false),
            (open_to_all(), &ours, ANY, true),
        ];
        for (settings, origin, said, is_allowed) in all {
            let mut s = Script::with(settings);
            let client = s.open();
            s.bytes(
                client,
                asks("OPTIONS", "/s?x", &format!("{origin}{fields}")) + HEALTH,
            );
            let answer = match told {
                None => NO.to_owned(),
                Some(_) if !is_allowed => format!("204 {VARY}{said}"),
                Some(names) => format!("204 {VARY}{MAY}{names}{said}"),
            };
            let expected = format!("{answer} | 200 {{\"status\":\"ok\"}}");
            assert_eq!(s.answers(client), expected, "{origin}{fields}");
            assert_eq!(s.did(), [], "the backend is not asked");
        }
        // Of no page, and where nothing is set.
        for (settings, origin) in [(listing(), ""), (open_to_all(), ""), (settings(), &*ours)] {
            let mut s = Script::with(settings);
            let client = s.open();
            s.bytes(client, asks("OPTIONS", "/s", &format!("{origin}{fields}")));
            assert_eq!(s.answers(client), NO, "{origin}{fields}");
        }
    }
}

/// A browser asks when its page loads, whatever state the gateway is in; the page is told that.
#[test]
fn a_question_before_is_answered_at_any_time() {
    let mut settings = open_to_all();
    settings.is_configured = false;
    let mut s = Script::with(settings);
    s.shutdown();
    let client = s.open();
    let fields = origin("https://a.example") + "Access-Control-Request-Method: GET\r\n";
    let body = fields.clone() + "Content-Length: 2\r\n";
    s.bytes(client, asks("OPTIONS", "/s", &body) + "xx");
    s.bytes(
        client,
        asks("OPTIONS", "/s", &(fields + "Connection: close\r\n")),
    );
    let answers = s.answers(client);
    let (kept, last) = answers.split_once(" | ").expect("two answers");
    assert!(kept.starts_with("204  Vary="), "{kept}");
    assert!(last.starts_with("204  close Vary="), "{last}");
    assert_eq!(s.did(), [Did::Fin(client)]);
}
