//! Contract, section 14: streams that are refused by a stream.

use serde_json::{Value, json};

use crate::support::{Backend, Builder, Client, Gateway, assert_error, assert_served};

fn by_stream(backend: &Backend) -> Builder {
    let builder = Gateway::builder().backend(backend);
    builder.env("REFUSE_MODE", "stream")
}

/// A client that asks as an `EventSource` does.
fn event_source(gateway: &Gateway) -> Client {
    let mut client = gateway.connect();
    client.send("GET /events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n");
    client
}

/// What a refused stream says, and that it ends there: milliseconds of its `retry`, and its data.
#[track_caller]
fn rejected(mut client: Client) -> (u32, Value) {
    let head = client.read_head();
    assert_eq!(head.status, 200, "{}", head.text());
    assert_eq!(head.value("content-type"), Some("text/event-stream"));
    assert_eq!(head.value("retry-after"), None);
    let event = client.next_event();
    let fields = event
        .strip_prefix("event: rejected\nretry: ")
        .expect(&event);
    let (retry, data) = fields.split_once("\ndata: ").expect(&event);
    client.expect_last_chunk_and_eof();
    let data = serde_json::from_str(data).expect("JSON");
    (retry.parse().expect("a number"), data)
}

const SOON: std::ops::RangeInclusive<u32> = 1_000..=5_000;
const LATE: std::ops::RangeInclusive<u32> = 300_000..=600_000;

#[test]
fn what_the_backend_refuses() {
    let backend = Backend::start();
    let gateway = by_stream(&backend).start();
    let message = "The backend refused the connection.";
    let table = [
        (403, "BACKEND_FORBIDDEN", message, LATE),
        (
            401,
            "BACKEND_AUTH_FAILED",
            "The backend asks for authentication.",
            LATE,
        ),
        (429, "BACKEND_ERROR", message, SOON),
        (503, "BACKEND_ERROR", message, SOON),
        (307, "BACKEND_ERROR", message, LATE),
    ];
    for (status, code, message, when) in table {
        let client = event_source(&gateway);
        let callback = backend.next_connect();
        callback.answer(status, "");
        let (retry, data) = rejected(client);
        let expected = json!({"status": status, "code": code, "message": message});
        assert_eq!(data, expected);
        assert!(when.contains(&retry), "{status}: {retry}");
        // The log is the same as ever.
        let rejected = format!(
            "[ERROR] connect callback rejected token={}",
            callback.token()
        );
        gateway.wait_log(&format!("{rejected} status={status}"));
    }
    backend.assert_balanced();
}

/// Who was refused together does not come again together.
#[test]
fn the_times_differ() {
    let mut backend = Backend::accepting();
    backend.stop_listening();
    let gateway = by_stream(&backend).start();
    let mut times: Vec<u32> = (0..40)
        .map(|_| {
            let (retry, data) = rejected(event_source(&gateway));
            assert_eq!(data["code"], "BACKEND_UNAVAILABLE");
            assert_eq!(data["status"], 503);
            assert!(SOON.contains(&retry), "{retry}");
            retry
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 30, "{times:?}");
}

#[test]
fn a_gateway_that_is_stopping_says_so() {
    let backend = Backend::start();
    let builder = by_stream(&backend).env("SHUTDOWN_TIMEOUT_SECONDS", "600");
    let mut gateway = builder.env("CONNECT_TIMEOUT_SECONDS", "600").start();
    let waiting = event_source(&gateway);
    let callback = backend.next_connect();
    gateway.signal("TERM");
    gateway.wait_log("[INFO] streams ended");
    // It waits for the backend's word still, which may be that a stream is open.
    for client in [waiting, event_source(&gateway)] {
        let (retry, data) = rejected(client);
        assert_eq!(
            (&data["status"], &data["code"]),
            (&json!(503), &json!("SHUTTING_DOWN"))
        );
        assert!(SOON.contains(&retry), "{retry}");
    }
    callback.answer(503, "");
    assert!(gateway.wait_exit().success());
}

#[test]
fn a_gateway_that_has_no_backend_says_so() {
    let gateway = Gateway::builder().env("REFUSE_MODE", "stream").start();
    let (retry, data) = rejected(event_source(&gateway));
    assert_eq!(data["code"], "SERVICE_NOT_CONFIGURED");
    assert!(SOON.contains(&retry), "{retry}");
}

/// Who does not ask for a stream by name gets a status, and so does what is wrong with a request.
#[test]
fn others_get_a_status() {
    let backend = Backend::with(|callback| callback.answer(403, ""));
    let gateway = by_stream(&backend).start();
    let mut client = gateway.get("/events");
    assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
    assert_served(&mut client);
    client.send("GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n");
    assert_error(&client.read_response(), 400, "BAD_REQUEST");
    client.expect_eof();
    let status = Gateway::of(&backend);
    let response = event_source(&status).read_response();
    assert_error(&response, 403, "BACKEND_FORBIDDEN");
}
