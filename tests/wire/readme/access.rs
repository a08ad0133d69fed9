//! What the README shows of keys and of streams that are refused.

use crate::support::readme::{self, Example};
use crate::support::{Backend, Client, Gateway, Head, Response};

/// The key that the README shows.
const KEY: &str = "5f2b9c";

#[track_caller]
fn send(gateway: &Gateway, example: &Example) -> Response {
    let curl = &example.curl;
    let field = curl.field.map(|field| format!("{field}\r\n"));
    let (field, body) = (field.unwrap_or_default(), curl.body.expect("a body"));
    let mut client = gateway.connect();
    client.send(format!(
        "POST {} HTTP/1.1\r\nHost: h\r\n{field}Content-Length: {}\r\n\r\n{body}",
        curl.target,
        body.len()
    ));
    client.read_response()
}

#[test]
fn a_key_opens_what_it_is_shown_to_open() {
    let backend = Backend::start();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("INTERNAL_KEY", KEY).start();
    let examples = readme::examples(readme::blocks("console key")[0]);
    let statuses: Vec<u16> = examples
        .iter()
        .map(|example| {
            let response = send(&gateway, example);
            let body = String::from_utf8_lossy(&response.body).into_owned();
            assert_eq!(body, example.printed.join("\n"));
            response.status()
        })
        .collect();
    assert_eq!(statuses, [200, 401]);
}

/// A head's lines but its date's.
fn undated(head: &str) -> Vec<&str> {
    let lines = head.trim_end().lines();
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

/// An event without its `retry`, which is drawn, and that.
fn drawn(event: &str) -> (String, u32) {
    let (first, rest) = event.split_once("\nretry: ").expect("a retry");
    let (retry, rest) = rest.split_once('\n').expect("a line");
    (format!("{first}\n{rest}"), retry.parse().expect("a number"))
}

#[test]
fn a_stream_is_refused_as_shown() {
    let mut backend = Backend::start();
    backend.stop_listening();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder.env("REFUSE_MODE", "stream").start();
    let block = readme::blocks("console rejected")[0];
    let (command, shown) = block.split_once('\n').expect("lines");
    let curl = readme::curl(command.trim_start_matches("$ ")).expect(command);
    let mut client: Client = gateway.connect();
    let (target, field) = (curl.target, curl.field.expect("a field"));
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n"
    ));
    let head: Head = client.read_head();
    let (shown_head, shown_event) = shown.split_once("\n\n").expect("a head and an event");
    assert_eq!(undated(&head.text()), undated(shown_head));
    let (event, retry) = drawn(&client.next_event());
    let (shown_event, shown_retry) = drawn(shown_event);
    assert_eq!(event.trim_end(), shown_event.trim_end());
    for retry in [retry, shown_retry] {
        assert!((1_000..=5_000).contains(&retry), "{retry}");
    }
    client.expect_last_chunk_and_eof();
}
