//! Pages: each stream that is there all the while is on exactly one of them, and what is asked for
//! wrongly is told.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{ask, json_of, streams, unhurried};
use crate::support::crowd::{Over, open_crowd};
use crate::support::{
    Backend, Gateway, OK, Scraper, assert_error, assert_ok, open_stream, post_send,
};

/// All pages of a query, and how many there were: each token, and how often it was there.
#[track_caller]
fn all_pages(gateway: &Gateway, query: &str) -> (HashMap<String, usize>, usize) {
    let (mut seen, mut pages) = (HashMap::new(), 0);
    let mut after = String::new();
    loop {
        let page = json_of(gateway, &format!("/internal/streams?{query}{after}"));
        pages += 1;
        for stream in page["streams"].as_array().expect("streams") {
            let token = stream["token"].as_str().expect("a token");
            *seen.entry(token.to_owned()).or_default() += 1;
        }
        match &page["next"] {
            Value::Null => return (seen, pages),
            next => after = format!("&after={next}"),
        }
    }
}

/// Each was there once.
#[track_caller]
fn assert_once<'t>(seen: &HashMap<String, usize>, tokens: impl IntoIterator<Item = &'t String>) {
    for token in tokens {
        assert_eq!(seen.get(token), Some(&1), "{token}");
    }
}

#[test]
fn pages_are_as_long_as_is_asked_for() {
    let backend = Backend::accepting();
    let gateway = unhurried(&backend).start();
    let crowd = open_crowd(&backend, 110, |_| gateway.connect());
    let tokens: HashSet<String> = crowd.iter().map(|(_, token)| token.clone()).collect();
    for (query, length) in [
        ("", 100),
        ("limit=", 100),
        ("after=", 100),
        ("limit=1", 1),
        ("limit=109", 109),
        ("limit=110", 110),
        ("limit=5000", 110),
        ("limit=18446744073709551615", 110),
        ("limit=2&limit=50", 2),
        ("x=1&%6Cimit=3", 3),
    ] {
        let page = json_of(&gateway, &format!("/internal/streams?{query}"));
        let found = page["streams"].as_array().expect("streams").len();
        assert_eq!(found, length, "{query}");
        assert_eq!(
            page["next"].is_null(),
            length == 110,
            "{query}: {}",
            page["next"]
        );
    }
    for limit in [1, 7, 55, 110] {
        let (seen, pages) = all_pages(&gateway, &format!("limit={limit}"));
        assert_eq!(pages, 110_usize.div_ceil(limit), "{limit}");
        assert_once(&seen, &tokens);
        assert_eq!(seen.len(), tokens.len());
    }
    for after in ["200", "1000000", "4294967296", "18446744073709551615"] {
        let page = json_of(&gateway, &format!("/internal/streams?after={after}"));
        assert_eq!(page, json!({"streams": [], "next": null}), "{after}");
    }
}

#[test]
fn a_parameter_that_cannot_be_used_is_named() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).start();
    for path in ["/internal/streams", "/internal/channels"] {
        for (query, name) in [
            ("limit=0", "'limit'"),
            ("limit=-1", "'limit'"),
            ("limit=+1", "'limit'"),
            ("limit=%2B1", "'limit'"),
            ("limit=1.5", "'limit'"),
            ("limit=ten", "'limit'"),
            ("limit=18446744073709551616", "'limit'"),
            ("limit=%ff", "'limit'"),
            ("after=x", "'after'"),
            ("after=-1", "'after'"),
            ("after=null", "'after'"),
            ("limit=5&after=99999999999999999999", "'after'"),
        ] {
            let response = ask(&gateway, &format!("{path}?{query}"));
            assert_error(&response, 400, "INVALID_PARAMETER");
            assert!(
                response.text().contains(name),
                "{query}: {}",
                response.text()
            );
        }
    }
    let mut client = gateway.get("/internal/streams?limit=0");
    assert_error(&client.read_response(), 400, "INVALID_PARAMETER");
    client.get("/internal/streams?limit=1");
    assert_eq!(client.read_response().status(), 200);
}

/// While others come and go beside the reader, whoever stays is on one page of each round.
#[test]
fn whoever_stays_is_on_one_page_while_others_come_and_go() {
    const STAY: usize = 40;
    const GUESTS: usize = 12;
    let backend = Backend::accepting();
    let gateway = unhurried(&backend).start();
    let crowd = open_crowd(&backend, STAY + GUESTS, |_| gateway.connect());
    // Every fourth place becomes free.
    let (mut stay, mut first) = (Vec::new(), Vec::new());
    for (at, (client, token)) in crowd.into_iter().enumerate() {
        match at % 4 {
            0 if first.len() < GUESTS => first.push(client),
            _ => stay.push((client, token)),
        }
    }
    let is_over = AtomicBool::new(false);
    let mut most = 0;
    thread::scope(|scope| {
        let over = Over(&is_over);
        for client in first {
            let (gateway, is_over) = (&gateway, &is_over);
            scope.spawn(move || {
                let mut client = client;
                while !is_over.load(Ordering::Acquire) {
                    client.reset();
                    client = gateway.get("/guest");
                    assert_eq!(client.read_head().status, 200);
                }
            });
        }
        for round in 0..60 {
            let query = format!("limit={}", [3, 7, 20][round % 3]);
            let (seen, _) = all_pages(&gateway, &query);
            assert_once(&seen, stay.iter().map(|(_, token)| token));
            assert!(seen.values().all(|times| *times == 1), "{seen:?}");
            most = most.max(seen.len());
        }
        drop(over);
    });
    assert!(most > stay.len(), "no guest was ever seen");
}

#[test]
fn a_channel_can_be_asked_for() {
    let backend = Backend::start();
    let gateway = unhurried(&backend).start();
    let mut open = Vec::new();
    for channels in [
        json!(["a", "b+c/%20&="]),
        json!(["b+c/%20&="]),
        json!([]),
        json!(["a"]),
    ] {
        let mut client = gateway.get("/s");
        let callback = backend.next_connect();
        callback.answer(200, &json!({"channels": channels}).to_string());
        assert_eq!(client.read_head().status, 200);
        open.push((client, callback.token()));
    }
    let token = |at: usize| open[at].1.clone();
    let members = |query: &str| {
        let mut pages = all_pages(&gateway, query).0.into_keys().collect::<Vec<_>>();
        pages.sort();
        pages
    };
    let sorted = |at: &[usize]| {
        let mut tokens: Vec<String> = at.iter().map(|at| token(*at)).collect();
        tokens.sort();
        tokens
    };
    assert_eq!(members("channel=a"), sorted(&[0, 3]));
    assert_eq!(members("channel=a&limit=1"), sorted(&[0, 3]));
    assert_eq!(members("channel=b%2Bc%2F%2520%26%3D"), sorted(&[0, 1]));
    assert_eq!(members("channel=nobody"), sorted(&[]));
    assert_eq!(members("channel=%ff"), sorted(&[]));
    assert_eq!(members("channel="), sorted(&[0, 1, 2, 3]));
    let leave = json!({"token": token(0), "unsubscribe": ["a"]});
    assert_ok(&post_send(&gateway, &leave), OK);
    assert_eq!(members("channel=a"), sorted(&[3]));
    let of_first = streams(&gateway);
    let of_first = of_first.iter().find(|it| it["token"] == token(0));
    assert_eq!(
        of_first.expect("a stream")["channels"],
        json!(["b+c/%20&="])
    );
}

/// A page may be longer than what a publisher may leave unread: that is no limit that is reached, and
/// a page of long URLs holds fewer of them.
#[test]
fn a_long_page_is_no_limits_affair() {
    let backend = Backend::start();
    let gateway = unhurried(&backend)
        .env("MAX_UNREAD_ANSWER_BYTES", "1024")
        .start();
    let mut open = Vec::new();
    let path = format!("/{}", "a".repeat(20_000));
    for _ in 0..20 {
        open.push(open_stream(&gateway, &backend, &path));
    }
    let mut scraper = Scraper::of(&gateway);
    let (seen, pages) = all_pages(&gateway, "");
    assert_once(&seen, open.iter().map(|(_, token)| token));
    assert!((2..5).contains(&pages), "{pages}");
    scraper.expect(&[]);
}
