//! The keys of `/internal/`: who is asked for one, where, and that nothing of a request without one is
//! taken (contract, section 13).

use ssegateway::gateway::{Scope, Settings};
use ssegateway::keys::Keys;

use super::capture::lines;
use super::driver::*;
use super::http::got_at_every_cut;

const GOOD: &str = "Authorization: Bearer new\r\n";
const REFUSED: &str = "401 UNAUTHORIZED WWW-Authenticate=Bearer";
const REFUSED_LAST: &str = "401 UNAUTHORIZED close WWW-Authenticate=Bearer";
const UNKNOWN: &str = "404 TOKEN_NOT_FOUND";
const HEALTHY: &str = "200 {\"status\":\"ok\"}";

fn locked() -> Settings {
    Settings {
        keys: Some(Keys::parse("old,new").unwrap()),
        ..settings()
    }
}

fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

/// A send to a token that nobody has.
fn send(fields: &str) -> String {
    let body = "{\"token\":\"t\"}";
    let length = body.len();
    let head = format!("{fields}Content-Length: {length}\r\n");
    request("POST", "/internal/send", &head) + body
}

#[test]
fn everything_below_internal_asks_for_a_key() {
    let table = [
        ("GET", "/internal/send", "405 METHOD_NOT_ALLOWED Allow=POST"),
        ("POST", "/internal/", "404 NOT_FOUND"),
        ("GET", "/internal/", "404 NOT_FOUND"),
        ("PUT", "/internal/nothing?x", "404 NOT_FOUND"),
        ("OPTIONS", "/internal/nothing", "404 NOT_FOUND"),
        ("GET", "http://h/internal/nothing", "404 NOT_FOUND"),
        ("POST", "/internal", "404 NOT_FOUND"),
        ("PUT", "/a", "405 METHOD_NOT_ALLOWED Allow=GET"),
        ("GET", "/healthz", HEALTHY),
    ];
    for (method, path, opened) in table {
        let is_internal = path.contains("/internal/");
        let mut s = Script::with(locked());
        let client = s.open();
        s.bytes(client, request(method, path, ""));
        let closed = if is_internal { REFUSED } else { opened };
        assert_eq!(s.answers(client), closed, "{method} {path}");
        s.bytes(client, request(method, path, GOOD));
        assert_eq!(s.answers(client), opened, "{method} {path} with the key");
    }
}

#[test]
fn a_key_is_asked_for_on_each_listener() {
    let table = [
        (Scope::Public, "404 NOT_FOUND"),
        (Scope::Internal, UNKNOWN),
        (Scope::Whole, UNKNOWN),
    ];
    for (scope, opened) in table {
        let mut s = Script::with(locked());
        let client = s.open_in(scope);
        s.bytes(client, send(GOOD));
        assert_eq!(s.answers(client), opened, "{scope:?}");
        s.bytes(client, send(""));
        assert_eq!(s.answers(client), REFUSED_LAST, "{scope:?}");
    }
}

#[test]
fn one_good_key_is_what_it_takes() {
    let table = [
        ("Authorization: Bearer new\r\n", true),
        ("AUTHORIZATION:   bearer old \r\n", true),
        ("Authorization: Bearer newer\r\n", false),
        ("Authorization: Bearer\r\n", false),
        ("Authorization: Basic new\r\n", false),
        ("Proxy-Authorization: Bearer new\r\n", false),
        ("X-Authorization: Bearer new\r\n", false),
        // Of several nobody knows which one a proxy has looked at.
        (
            "Authorization: Bearer new\r\nAuthorization: Bearer new\r\n",
            false,
        ),
        (
            "Authorization: Bearer no\r\nX: y\r\nauthorization: Bearer new\r\n",
            false,
        ),
    ];
    for (fields, is_good) in table {
        let mut s = Script::with(locked());
        let client = s.open();
        s.bytes(client, send(fields));
        let expected = if is_good { UNKNOWN } else { REFUSED_LAST };
        assert_eq!(s.answers(client), expected, "{fields}");
    }
}

/// What is behind the head of a send without a key is never looked at: it may be no send, and no
/// request may hide in it. Whether it has come already makes no difference.
#[test]
fn no_body_is_taken_without_a_key_however_it_comes() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let table = [
        (send("") + &send(GOOD), REFUSED_LAST.to_owned()),
        (
            send(GOOD) + &send("Authorization: Bearer no\r\n") + HEALTH,
            format!("{UNKNOWN} | {REFUSED_LAST}"),
        ),
        (
            request("POST", "/internal/send", chunked) + "no chunk" + HEALTH,
            REFUSED_LAST.to_owned(),
        ),
        (
            request("PUT", "/internal/x", "Content-Length: 9\r\n"),
            REFUSED_LAST.to_owned(),
        ),
        // Without a body there is nothing to be mistaken in.
        (
            request("GET", "/internal/send", "")
                + &request("POST", "/internal/send", "Content-Length: 0\r\n")
                + &send(GOOD)
                + HEALTH,
            format!("{REFUSED} | {REFUSED} | {UNKNOWN} | {HEALTHY}"),
        ),
        (
            request("GET", "/internal/x", "Connection: close\r\n") + HEALTH,
            REFUSED_LAST.to_owned(),
        ),
        (
            "POST /internal/send HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned() + HEALTH,
            "401 UNAUTHORIZED keep-alive WWW-Authenticate=Bearer | ".to_owned() + HEALTHY,
        ),
    ];
    for (text, expected) in table {
        let got = got_at_every_cut(&locked(), &text);
        assert_eq!(in_short(&got), expected, "{text}");
    }
}

#[test]
fn nobody_without_a_key_is_asked_for_a_body() {
    let expects = "Expect: 100-continue\r\nContent-Length: 9\r\n";
    let mut s = Script::with(locked());
    let client = s.open();
    s.bytes(client, request("POST", "/internal/send", expects));
    assert_eq!(s.answers(client), REFUSED_LAST);
    assert_eq!(s.did(), [Did::Fin(client)]);
    let client = s.open();
    let good = format!("{expects}{GOOD}");
    s.bytes(client, request("POST", "/internal/send", &good));
    assert_eq!(s.answers(client), "100");
}

#[test]
fn a_body_that_is_too_long_is_that_first() {
    let mut s = Script::with(locked());
    let client = s.open();
    let long = "Content-Length: 99999999\r\n";
    s.bytes(client, request("POST", "/internal/send", long));
    assert_eq!(s.answers(client), "413 CONTENT_TOO_LARGE close");
}

#[test]
fn head_is_refused_without_a_body() {
    let mut s = Script::with(locked());
    let client = s.open();
    s.bytes(client, request("HEAD", "/internal/x", ""));
    let got = s.got(client);
    assert!(got.ends_with("\r\n\r\n"), "{got}");
    assert!(got.starts_with("HTTP/1.1 401 "), "{got}");
    assert!(got.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{got}");
}

/// Streams are the backend's to decide on; what a client shows is for it, whatever it is.
#[test]
fn streams_need_no_key() {
    let mut s = Script::with(locked());
    let client = s.open();
    s.bytes(client, request("GET", "/s", "Authorization: Bearer no\r\n"));
    let job = s.job();
    let request = r#"{"url":"/s","headers":{"host":"h","authorization":"Bearer no"}}"#;
    assert_eq!(job.request.json(), request.as_bytes());
    s.result(&job, accepted());
    assert_eq!(s.got(client), STREAM_HEAD);
}

#[test]
fn keys_are_changed_while_it_runs() {
    let mut s = Script::new();
    let client = s.open();
    for (keys, expected) in [
        (None, UNKNOWN),
        (Some("new"), UNKNOWN),
        (Some("old"), REFUSED_LAST),
    ] {
        s.gw.set_keys(keys.map(|keys| Keys::parse(keys).unwrap()));
        s.bytes(client, send(GOOD));
        assert_eq!(s.answers(client), expected, "{keys:?}");
    }
}

#[test]
fn refusals_are_told_and_cannot_flood_the_log() {
    let mut s = Script::with(locked());
    let client = s.open();
    lines();
    s.bytes(client, request("GET", "/internal/a%20b?secret", GOOD));
    assert_eq!(lines(), [""; 0]);
    let bad = "Authorization: Bearer secret\r\n";
    s.bytes(client, request("GET", "/internal/\"b\"?secret", bad));
    let told = "[ERROR] request refused code=UNAUTHORIZED path=\"/internal/\\\"b\\\"\"";
    assert_eq!(lines(), [told]);
    s.bytes(client, request("GET", "/internal/x", "").repeat(100));
    let told = lines();
    assert_eq!(told.len(), 9);
    let line = "[ERROR] request refused code=UNAUTHORIZED path=/internal/x";
    assert!(told.iter().all(|it| it == line), "{told:?}");
    s.pass(std::time::Duration::from_secs(1));
    assert_eq!(lines(), ["[WARN] limit reached limit=refused_keys more=91"]);
}
