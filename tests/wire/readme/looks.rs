//! What the README says of figures and lists: the table holds what is scraped, and the lists are those
//! of a real run.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{FIRST, SECOND, open_answered, with_tokens};
use crate::support::readme;
use crate::support::{
    BUFFERED, Backend, Client, Gateway, OK, Scraper, assert_error, assert_ok, open_stream,
    post_send,
};

/// What stands between backticks.
fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The rows of the table: names, labels, and what is said of them.
fn rows() -> Vec<(Vec<&'static str>, Vec<&'static str>, &'static str)> {
    let (_, table) = readme::text()
        .split_once("\n| metric | labels | |\n|---|---|---|\n")
        .expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let row = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|');
        let mut cell = || cells.next().expect(line);
        (words(cell()), words(cell()), cell())
    };
    table.lines().map(row).collect()
}

/// Each family is in the table with its labels, and nothing else is; what a label may say stands beside
/// it, or elsewhere if that is a code or a setting.
#[test]
fn the_table_of_metrics_holds_those_that_are_scraped() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let metrics = Scraper::of(&gateway).last;
    let mut told = BTreeMap::new();
    for (names, labels, said) in rows() {
        for name in names {
            assert_eq!(
                told.insert(name, (labels.clone(), said)),
                None,
                "{name} twice"
            );
        }
    }
    for family in &metrics.families {
        let name = &*family.name;
        let (labels, said) = told.remove(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(labels, family.labels, "{name}");
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
        let is_told = said.contains("histogram");
        assert_eq!(family.kind == "histogram", is_told, "{name}");
    }
    assert!(told.is_empty(), "not scraped: {told:?}");
    let row = |family: &str| {
        let rows = rows().into_iter();
        let mut rows = rows.filter(|(names, ..)| names.contains(&family));
        rows.next().expect(family).2
    };
    for series in metrics.series() {
        let (family, labels) = series.split_once(' ').unwrap_or((series, ""));
        for label in labels.split(' ').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').expect(series);
            let word = format!("`{value}`");
            let is_told = match label {
                "version" | "le" => true,
                "kind" => row("callbacks_pending").contains(&word),
                "code" | "answer" | "limit" => readme::text().contains(&word),
                _ => row(family).contains(&word),
            };
            assert!(is_told, "{value} of {series}");
        }
    }
}

/// What is shown for its bytes has ids of so many.
const ID: usize = "1795233600000-7001".len();

/// A text without the numbers behind a label, and those.
fn without(text: &str, label: &str) -> (String, Vec<u64>) {
    let mut parts = text.split(label);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    let mut numbers = Vec::new();
    for part in parts {
        let end = part.find(|it: char| !it.is_ascii_digit());
        let (number, part) = part.split_at(end.expect(text));
        numbers.push(number.parse().expect(text));
        rest += &(label.to_owned() + part);
    }
    (rest, numbers)
}

/// The list is as it is shown, but for what no run has twice; `id` is the length of an event's.
#[track_caller]
fn assert_as_shown(real: &str, shown: &str, id: usize) {
    let [real, shown] = [real, shown].map(|text| {
        let (text, since) = without(text, "\"since\":");
        assert!(since.iter().all(|it| *it > 1_700_000_000_000), "{since:?}");
        let (text, bytes) = without(&text, "\"bytes\":");
        let (_, events) = without(&text, "\"events\":");
        (text, bytes.into_iter().zip(events))
    });
    assert_eq!(real.0, shown.0);
    let bytes = |(bytes, events): (u64, u64), id: usize| bytes - events * id as u64;
    let real: Vec<u64> = real.1.map(|it| bytes(it, id)).collect();
    assert_eq!(real, shown.1.map(|it| bytes(it, ID)).collect::<Vec<_>>());
}

#[test]
fn lists_are_as_shown() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("HISTORY_BYTES", "100000").start();
    let open = |path: &str, channels: Value| {
        let answer = json!({"channels": channels}).to_string();
        open_answered(&gateway, &backend, path, &answer)
    };
    let (mut first, token) = open("/events?client=me", json!(["user.42", "news"]));
    let (_second, other) = open("/events?client=you", json!(["news"]));
    let tokens = HashMap::from([(FIRST, token.as_str()), (SECOND, other.as_str())]);
    let mut id = 0;
    for _ in 0..2 {
        let command = json!({"channel": "news", "event": {"data": "hello"}});
        let response = post_send(&gateway, &command);
        let answer: Value = serde_json::from_slice(&response.body).expect("JSON");
        id = answer["id"].as_str().expect("an id").len();
        while !first.next_event().contains("data: hello\n") {}
    }
    let command = json!({"token": token, "event": {"data": "to one"}});
    assert_ok(&post_send(&gateway, &command), OK);
    let command = json!({"channel": "text.9", "event": {"name": "word", "data": "Once"}});
    assert_eq!(post_send(&gateway, &command).status(), 200);
    let [block] = readme::blocks("console lists")[..] else {
        panic!("more than one block");
    };
    for example in readme::examples(block) {
        assert_eq!(example.curl.body, None);
        let target = with_tokens(&example.curl.target, &tokens);
        let response = gateway.get(&target).read_response();
        assert_eq!(response.status(), 200, "{}", response.text());
        let real = String::from_utf8(response.body).expect("UTF-8");
        let shown = with_tokens(&example.printed.join("\n"), &tokens);
        assert_as_shown(&real, &shown, id);
    }
}

// ---- a backend that was restarted ----

/// What a backend knows: whose stream is whose, by token.
type Book = HashMap<String, String>;

/// The book that a backend makes of the list.
fn read_book(gateway: &Gateway) -> Book {
    let mut book = Book::new();
    let mut after = String::new();
    loop {
        let path = format!("/internal/streams?limit=2{after}");
        let response = gateway.get(&path).read_response();
        let page: Value = serde_json::from_slice(&response.body).expect("JSON");
        for stream in page["streams"].as_array().expect("streams") {
            let names = stream["channels"].as_array().expect("names");
            let user = names
                .iter()
                .find_map(|it| it.as_str()?.strip_prefix("user."));
            let token = stream["token"].as_str().expect("a token");
            let user = user.expect("a user").to_owned();
            assert_eq!(book.insert(token.to_owned(), user), None);
        }
        match &page["next"] {
            Value::Null => return book,
            next => after = format!("&after={next}"),
        }
    }
}

/// Some leave while it is away, whose disconnects it never gets, and one while it reads.
#[test]
fn a_backend_that_was_restarted_learns_who_is_there() {
    let mut backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut there: Vec<(Client, String, String)> = Vec::new();
    let open = |backend: &Backend, user: usize| {
        let user = user.to_string();
        let answer = json!({"channels": ["news", format!("user.{user}")]}).to_string();
        let (client, token) = open_answered(&gateway, backend, "/s", &answer);
        (client, token, user)
    };
    for user in 0..9 {
        there.push(open(&backend, user));
    }
    let old: Book = read_book(&gateway);
    assert_eq!(old.len(), 9);
    backend.leave();
    for at in [6, 3, 0] {
        let (client, token, _) = there.remove(at);
        drop(client);
        gateway.wait_log_all(&["disconnect callback failed", &token]);
    }
    backend.listen();
    there.push(open(&backend, 9));
    // It is being asked: the callback tells, not the list.
    let mut waiting = gateway.get("/s");
    let callback = backend.next_connect();
    let book = read_book(&gateway);
    let expected = there
        .iter()
        .map(|(_, token, user)| (token.clone(), user.clone()));
    assert_eq!(book, expected.collect::<Book>());
    // Whoever is not in it, and in the book that was kept, is gone.
    for token in old.keys().filter(|token| !book.contains_key(*token)) {
        let response = post_send(&gateway, &json!({"token": token}));
        assert_error(&response, 404, "TOKEN_NOT_FOUND");
    }
    for token in book.keys() {
        assert_ok(&post_send(&gateway, &json!({"token": token})), OK);
    }
    callback.answer(200, "");
    assert_eq!(waiting.read_head().status, 200);
    let path = format!("/internal/streams/{}", callback.token());
    assert_eq!(gateway.get(&path).read_response().status(), 200);
}

/// Members whose callback is out count, and are not listed.
#[test]
fn whoever_is_asked_about_is_a_member_and_not_in_the_list() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let _client = gateway.get("/s");
    let callback = backend.next_connect();
    let subscribe = json!({"token": callback.token(), "subscribe": ["c"]});
    assert_ok(&post_send(&gateway, &subscribe), BUFFERED);
    let ask = |path: &str| gateway.get(path).read_response();
    assert_ok(
        &ask("/internal/channels"),
        r#"{"channels":[{"name":"c","members":1,"events":0,"bytes":0}],"next":null}"#,
    );
    assert_ok(
        &ask("/internal/streams?channel=c"),
        r#"{"streams":[],"next":null}"#,
    );
    let path = format!("/internal/streams/{}", callback.token());
    assert_error(&ask(&path), 404, "TOKEN_NOT_FOUND");
    assert_error(&ask("/internal/streams?limit=0"), 400, "INVALID_PARAMETER");
    let (_other, _) = open_stream(&gateway, &backend, "/other");
    assert_ne!(ask("/internal/streams").body.len(), 0);
}
