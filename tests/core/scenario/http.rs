//! Requests as bytes: one verdict for every cut, order in pipelines, what keeps and what closes a
//! connection (contract, sections 1 and 7).

use ssegateway::gateway::{Broken, Counts, Scope, Settings};

use super::driver::*;

const OK: &str = "200 {\"status\":\"ok\"}";

/// What a conversation came to: bytes, effects, whether it is over.
type Seen = (String, Vec<String>, bool);

fn narrow() -> Settings {
    let mut settings = settings();
    settings.limits.max_head = 300;
    settings.limits.max_headers = 5;
    settings.limits.max_body = 64;
    settings
}

/// The outcome of `text` handed in as pieces that end at `cuts`.
fn seen(settings: &Settings, text: &[u8], cuts: impl Iterator<Item = usize>) -> Seen {
    let mut s = Script::with(settings.clone());
    let client = s.open();
    let mut from = 0;
    for cut in cuts.chain([text.len()]) {
        s.bytes(client, &text[from..cut]);
        from = cut;
    }
    let did = s.did().iter().map(|did| format!("{did:?}")).collect();
    (s.got(client), did, s.is_closed(client))
}

fn at_every_cut(text: &str) -> String {
    in_short(&got_at_every_cut(&narrow(), text))
}

/// What a client gets for `text`, however it is cut.
pub(crate) fn got_at_every_cut(settings: &Settings, text: &str) -> String {
    let bytes = text.as_bytes();
    let seen = |cuts: &mut dyn Iterator<Item = usize>| seen(settings, bytes, cuts);
    let whole = seen(&mut std::iter::empty());
    for cut in 1..bytes.len() {
        assert_eq!(seen(&mut std::iter::once(cut)), whole, "{text:?} at {cut}");
    }
    assert_eq!(seen(&mut (1..bytes.len())), whole, "{text:?} byte by byte");
    whole.0
}

#[test]
fn every_answer_is_the_same_for_every_cut() {
    let long = "x".repeat(300);
    let body = "x".repeat(65);
    let send = |fields: &str, body: &str| {
        format!("POST /internal/send HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
    };
    let table = [
        (HEALTH.to_owned(), OK),
        (
            "\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n".into(),
            "200 {\"status\":\"ok\"} close",
        ),
        (
            "GET http://h/healthz?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(),
            "200 {\"status\":\"ok\"} keep-alive",
        ),
        (post("{\"token\":\"t\"}"), "404 TOKEN_NOT_FOUND"),
        (
            send(
                "Transfer-Encoding: chunked\r\n",
                "6;x=y\r\n{\"toke\r\n7\r\nn\":\"t\"}\r\n0\r\nT: x\r\n\r\n",
            ),
            "404 TOKEN_NOT_FOUND",
        ),
        (
            post("{}") + &post("[]") + HEALTH,
            "400 INVALID_TOKEN_MISSING | 400 INVALID_JSON | 200 {\"status\":\"ok\"}",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET \
             POST /x HTTP/1.1\r\nHost: h\r\n\r\n"
                .into(),
            "404 NOT_FOUND | 404 NOT_FOUND",
        ),
        (
            "GET /internal/send HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "405 METHOD_NOT_ALLOWED Allow=POST",
        ),
        (
            "DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "405 METHOD_NOT_ALLOWED Allow=GET",
        ),
        (
            send("Content-Encoding: gzip\r\nContent-Length: 1\r\n", "x"),
            "415 UNSUPPORTED_MEDIA_TYPE Accept-Encoding=identity",
        ),
        (
            send("Expect: 100-continue\r\nContent-Length: 2\r\n", "{}"),
            "100 | 400 INVALID_TOKEN_MISSING",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\n\
             Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
                .into(),
            "404 NOT_FOUND close",
        ),
        (
            send("Expect: 100-continue\r\nContent-Length: 65\r\n", ""),
            "413 CONTENT_TOO_LARGE close",
        ),
        (post(&body), "413 CONTENT_TOO_LARGE close"),
        (
            send("Transfer-Encoding: chunked\r\n", "41\r\n"),
            "413 CONTENT_TOO_LARGE close",
        ),
        (
            send("Transfer-Encoding: chunked\r\n", "x\r\n"),
            "400 BAD_REQUEST close",
        ),
        (
            send("Transfer-Encoding: gzip\r\n", ""),
            "501 NOT_IMPLEMENTED close",
        ),
        (
            send("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "{}"),
            "400 BAD_REQUEST close",
        ),
        (
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n".into(),
            "505 HTTP_VERSION_NOT_SUPPORTED close",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\n"),
            "414 URI_TOO_LONG close",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nA: {long}\r\n\r\n"),
            "431 REQUEST_HEADER_FIELDS_TOO_LARGE close",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(5)),
            "431 REQUEST_HEADER_FIELDS_TOO_LARGE close",
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), "400 BAD_REQUEST close"),
        (
            "GET / HTTP/1.1\nHost: h\n\n".into(),
            "400 BAD_REQUEST close",
        ),
        (
            format!("{HEALTH}GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n{HEALTH}"),
            "200 {\"status\":\"ok\"} | 400 BAD_REQUEST close",
        ),
        (
            format!("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n{HEALTH}"),
            "200 {\"status\":\"ok\"} close",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(at_every_cut(&text), expected, "{text:?}");
    }
}

#[test]
fn a_pipeline_of_everything_is_the_same_for_every_cut() {
    let streams = [
        format!("{HEALTH}{}{GET}{HEALTH}", post("{}")),
        "GET /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET".to_owned(),
        "GET /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx"
            .to_owned(),
    ];
    for text in streams {
        let (_, did, _) = seen(&narrow(), text.as_bytes(), std::iter::empty());
        assert_eq!(did, ["Connect"]);
        at_every_cut(&text);
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let mut s = Script::new();
    let client = s.open();
    for (target, expected) in [
        ("/healthz", "Content-Length: 15\r\n"),
        ("/readyz", "Content-Length: 36\r\n"),
    ] {
        s.bytes(client, format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let got = s.got(client);
        assert!(
            got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains(expected),
            "{got}"
        );
        assert!(got.ends_with("\r\n\r\n"), "{got}");
    }
    s.bytes(client, "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let got = s.got(client);
    assert!(got.starts_with("HTTP/1.1 405 ") && got.contains("Allow: GET\r\n"));
    assert!(got.ends_with("\r\n\r\n"));
    s.bytes(client, HEALTH);
    assert_eq!(s.answers(client), OK, "the next one has its body again");
}

#[test]
fn the_body_is_asked_for_once_and_at_once() {
    let mut s = Script::new();
    let client = s.open();
    let head = "POST /internal/send HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n";
    s.bytes(client, format!("{head}Content-Length: 2\r\n\r\n"));
    assert_eq!(s.got(client), "HTTP/1.1 100 Continue\r\n\r\n");
    s.bytes(client, "{");
    s.bytes(client, "}");
    assert_eq!(s.answers(client), "400 INVALID_TOKEN_MISSING");
    s.bytes(client, format!("{head}Content-Length: 0\r\n\r\n"));
    assert_eq!(
        s.answers(client),
        "400 INVALID_JSON",
        "there is no body to ask for"
    );
    let old = head.replace("HTTP/1.1", "HTTP/1.0");
    s.bytes(
        client,
        format!("{old}Connection: keep-alive\r\nContent-Length: 2\r\n\r\n"),
    );
    assert_eq!(s.got(client), "", "an old client does not know it");
    s.bytes(client, "{}");
    assert_eq!(s.answers(client), "400 INVALID_TOKEN_MISSING keep-alive");
}

#[test]
fn a_framing_error_discards_what_follows() {
    let mut s = Script::new();
    let client = s.open();
    s.bytes(client, format!("GET / HTTP/9.9\r\n\r\n{HEALTH}"));
    assert_eq!(s.answers(client), "505 HTTP_VERSION_NOT_SUPPORTED close");
    assert_eq!(s.did(), [Did::Fin(client)]);
    s.bytes(client, HEALTH);
    assert_eq!(s.got(client), "");
    assert!(!s.is_closed(client));
    s.eof(client);
    assert!(s.is_closed(client));
}

#[test]
fn the_fin_comes_only_behind_the_whole_answer() {
    let mut s = Script::new();
    let client = s.open();
    s.takes(client, Takes::Bytes(20));
    s.bytes(client, "bad\r\n\r\n");
    assert_eq!(s.did(), []);
    s.takes(client, Takes::All);
    assert_eq!(s.did(), [Did::Fin(client)]);
    assert_eq!(s.answers(client), "400 BAD_REQUEST close");
}

#[test]
fn a_half_closed_client_gets_every_answer_that_it_is_owed() {
    let mut s = Script::new();
    let client = s.open();
    s.takes(client, Takes::Bytes(0));
    s.bytes(client, format!("{HEALTH}{HEALTH}GET /hea"));
    s.eof(client);
    s.takes(client, Takes::All);
    assert_eq!(s.answers(client), format!("{OK} | {OK}"));
    assert!(s.is_closed(client));
    assert_eq!(s.did(), []);
}

#[test]
fn a_paused_client_that_half_closes_gets_its_answers_but_no_stream() {
    for (rest, count) in [(HEALTH, 601), (&HEALTH[..9], 600), (GET, 600)] {
        let mut s = Script::new();
        let client = s.open();
        s.takes(client, Takes::Bytes(0));
        s.bytes(client, HEALTH.repeat(600) + rest);
        s.eof(client);
        assert!(!s.is_closed(client));
        s.takes(client, Takes::All);
        assert_eq!(s.answers(client), vec![OK; count].join(" | "));
        assert!(s.is_closed(client), "{rest:?}");
        assert_eq!(s.did(), []);
    }
}

#[test]
fn a_connection_that_breaks_outside_a_stream_is_forgotten() {
    let command = post("{}");
    let begun = [
        "",
        "GET",
        &command[..command.len() - 1],
        HEALTH,
        "bad\r\n\r\n",
    ];
    for text in begun {
        for takes in [Takes::All, Takes::Bytes(0)] {
            let mut s = Script::new();
            let client = s.open();
            s.takes(client, takes);
            s.bytes(client, text);
            s.did();
            s.broken(client, Broken::Reset);
            assert!(s.is_closed(client), "{text:?}");
            assert_eq!(s.gw.counts(), Counts::default());
            assert_eq!(s.did(), [], "no callback, nothing to abort");
        }
    }
}

#[test]
fn an_idle_client_that_leaves_is_closed_without_a_word() {
    let mut s = Script::new();
    for requests in ["", HEALTH] {
        let client = s.open();
        s.bytes(client, requests);
        s.got(client);
        s.eof(client);
        assert!(s.is_closed(client));
        assert_eq!((s.got(client), s.did()), (String::new(), vec![]));
    }
}

#[test]
fn a_listener_serves_its_own_routes_alone() {
    let mut s = Script::new();
    let (public, internal) = (s.open_in(Scope::Public), s.open_in(Scope::Internal));
    for id in [public, internal] {
        s.bytes(id, HEALTH);
        assert_eq!(s.answers(id), OK);
    }
    assert_eq!(s.send(public, "{}"), "404 NOT_FOUND");
    assert_eq!(s.send(internal, "{}"), "400 INVALID_TOKEN_MISSING");
    s.bytes(internal, GET);
    assert_eq!(s.answers(internal), "404 NOT_FOUND");
    s.bytes(public, GET);
    assert_eq!(s.did(), [Did::Connect]);
}

#[test]
fn a_slot_has_one_tenant_at_a_time() {
    let mut s = Script::new();
    let (first, _) = s.stream();
    s.eof(first);
    let second = s.open();
    assert_eq!(first.index(), second.index());
    assert_ne!(first, second);
    s.did();
    s.bytes(first, HEALTH);
    s.eof(first);
    assert!(!s.is_closed(second));
    s.bytes(second, HEALTH);
    assert_eq!(s.answers(second), OK);
}

#[test]
fn an_answer_to_head_has_no_body_even_when_it_refuses() {
    let requests = [
        "HEAD /healthz HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "HEAD /healthz HTTP/1.1\nHost: h\r\n\r\n",
        "HEAD /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n",
    ];
    for request in requests {
        let mut s = Script::new();
        let client = s.open();
        s.bytes(client, request);
        let answer = s.got(client);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}
