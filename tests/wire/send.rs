//! Contract, section 4: sends and closes, every answer to them, and their order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    Backend, Client, Gateway, OK, Response, assert_error, assert_ok, assert_served, open_stream,
    post_body, post_send, send_close, send_data, send_request,
};

/// A gateway with one open stream.
fn streaming() -> (Backend, Gateway, Client, String) {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (client, token) = open_stream(&gateway, &backend, "/s");
    (backend, gateway, client, token)
}

fn post_with(gateway: &Gateway, fields: &str, body: &str) -> Response {
    let mut client = gateway.connect();
    let length = body.len();
    client.send(format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    ));
    client.read_response()
}

#[test]
fn an_answer_to_the_byte() {
    let (backend, gateway, mut client, token) = streaming();
    let response = send_data(&gateway, &token, "x");
    assert_eq!(
        response.head.undated(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nDate: DATE\r\n\r\n"
    );
    assert_eq!(response.body, br#"{"status":"ok"}"#);
    assert_eq!(client.next_event(), "data: x\n\n");
    client.reset();
    backend.assert_balanced();
}

/// Every refusal, in the order in which things are checked: each row has later faults as well.
#[test]
fn bad_requests_change_nothing() {
    let (backend, gateway, mut client, token) = streaming();
    let deep = format!(
        r#"{{"token":"TOKEN","x":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let deep_object = format!(
        r#"{{"token":"TOKEN","x":{}1{}}}"#,
        r#"{"a":"#.repeat(5000),
        "}".repeat(5000)
    );
    let table: [(&[u8], &str); 59] = [
        (b"", "INVALID_JSON"),
        (b"  ", "INVALID_JSON"),
        (b"null", "INVALID_JSON"),
        (b"true", "INVALID_JSON"),
        (b"7", "INVALID_JSON"),
        (br#""TOKEN""#, "INVALID_JSON"),
        (br#"[{"token":"TOKEN","close":true}]"#, "INVALID_JSON"),
        (b"token=TOKEN&close=true", "INVALID_JSON"),
        (br#"{"token":"TOKEN","close":true"#, "INVALID_JSON"),
        (br#"{"token":"TOKEN","close":true}}"#, "INVALID_JSON"),
        (br#"{"token":"TOKEN"}{"close":true}"#, "INVALID_JSON"),
        (br#"{"token":"TOKEN","close":true,}"#, "INVALID_JSON"),
        (br#"{'token':'TOKEN','close':true}"#, "INVALID_JSON"),
        (b"{\"token\":\"TOKEN\",\"close\":true}\0", "INVALID_JSON"),
        (
            b"\xef\xbb\xbf{\"token\":\"TOKEN\",\"close\":true}",
            "INVALID_JSON",
        ),
        (
            b"{\"token\":\"TOKEN\",\"event\":{\"data\":\"a\nb\"}}",
            "INVALID_JSON",
        ),
        (br#"{"token":"TOKEN","x":01}"#, "INVALID_JSON"),
        (br#"{"token":"TOKEN","x":NaN}"#, "INVALID_JSON"),
        // Not UTF-8, wherever it is.
        (
            b"{\"token\":\"TOKEN\",\"event\":{\"data\":\"\xff\"}}",
            "INVALID_JSON",
        ),
        (
            b"{\"token\":\"TOKEN\",\"event\":{\"data\":\"\xc3\"}}",
            "INVALID_JSON",
        ),
        (
            b"{\"token\":\"TOKEN\",\"event\":{\"data\":\"\xed\xa0\x80\"}}",
            "INVALID_JSON",
        ),
        (
            b"{\"token\":\"TOKEN\",\"x\":\"\xff\",\"close\":true}",
            "INVALID_JSON",
        ),
        // Lone surrogates.
        (
            br#"{"token":"TOKEN","event":{"data":"\ud800"}}"#,
            "INVALID_JSON",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"\udc00\ud800"}}"#,
            "INVALID_JSON",
        ),
        (
            br#"{"token":"TOKEN","x":"\ud83d","close":true}"#,
            "INVALID_JSON",
        ),
        (br#"{"token":"TOKEN","\ud83d":1}"#, "INVALID_JSON"),
        (deep.as_bytes(), "INVALID_JSON"),
        (deep_object.as_bytes(), "INVALID_JSON"),
        // Repeated fields.
        (br#"{"token":"TOKEN","token":"TOKEN"}"#, "INVALID_JSON"),
        (
            br#"{"token":"TOKEN","close":true,"close":true}"#,
            "INVALID_JSON",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","data":"x"}}"#,
            "INVALID_JSON",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x"},"event":{"data":"x"}}"#,
            "INVALID_JSON",
        ),
        (
            br#"{"token":5,"token":"TOKEN","event":5,"close":5}"#,
            "INVALID_JSON",
        ),
        (br#"{}"#, "INVALID_TOKEN_MISSING"),
        (br#"{"token":""}"#, "INVALID_TOKEN_MISSING"),
        (br#"{"token":null,"event":5}"#, "INVALID_TOKEN_MISSING"),
        (
            br#"{"token":7,"event":{"data":5},"close":1}"#,
            "INVALID_TOKEN_MISSING",
        ),
        (
            br#"{"Token":"TOKEN","close":true}"#,
            "INVALID_TOKEN_MISSING",
        ),
        (br#"{"token":"TOKEN","channel":"c"}"#, "INVALID_TARGET"),
        (br#"{"broadcast":false,"channels":""}"#, "INVALID_TARGET"),
        (br#"{"channel":"c","subscribe":[""]}"#, "INVALID_TARGET"),
        (br#"{"channels":["a b"],"event":5}"#, "INVALID_CHANNEL"),
        (
            br#"{"token":"TOKEN","unsubscribe":"c","event":5}"#,
            "INVALID_CHANNEL",
        ),
        (
            br#"{"token":"TOKEN","event":null,"close":5}"#,
            "INVALID_EVENT_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":"x","close":5}"#,
            "INVALID_EVENT_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":[],"close":true}"#,
            "INVALID_EVENT_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":{},"close":5}"#,
            "INVALID_EVENT_DATA_MISSING",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":null,"name":5}}"#,
            "INVALID_EVENT_DATA_MISSING",
        ),
        (
            br#"{"token":"TOKEN","event":{"name":"\n","data":{"a":1}},"close":5}"#,
            "INVALID_EVENT_DATA_MISSING",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","name":null},"close":5}"#,
            "INVALID_EVENT_NAME_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","name":7}}"#,
            "INVALID_EVENT_NAME_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","name":"a\nb"},"close":5}"#,
            "INVALID_EVENT_NAME",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","name":"\r"}}"#,
            "INVALID_EVENT_NAME",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","name":"a\u0000"}}"#,
            "INVALID_EVENT_NAME",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x"},"close":null}"#,
            "INVALID_CLOSE_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","id":5},"close":"true"}"#,
            "INVALID_CLOSE_TYPE",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","id":"earliest","retry":-1}}"#,
            "INVALID_EVENT_ID",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","key":"","retry":null}}"#,
            "INVALID_EVENT_RETRY",
        ),
        (
            br#"{"token":"TOKEN","event":{"data":"x","key":"\u00e9"}}"#,
            "INVALID_EVENT_KEY",
        ),
    ];
    // One connection for all of them: none of these ends it.
    let mut publisher = gateway.connect();
    let mut told = BTreeMap::new();
    for (body, code) in table {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        publisher.post(&with_token(body, &token));
        let response = publisher.read_response();
        assert_eq!(response.status(), 400, "{shown}: {}", response.text());
        assert_error(&response, 400, code);
        assert_eq!(response.head.value("connection"), None, "{shown}");
        let json: Value = serde_json::from_slice(&response.body).expect("JSON");
        let message = json["error"]["message"].as_str().unwrap_or_default();
        let field = match code {
            "INVALID_JSON" => "",
            "INVALID_TOKEN_MISSING" => "token",
            "INVALID_EVENT_TYPE" => "event",
            "INVALID_EVENT_DATA_MISSING" => "data",
            "INVALID_CLOSE_TYPE" => "close",
            "INVALID_TARGET" => "broadcast",
            "INVALID_CHANNEL" => "unsubscribe",
            "INVALID_EVENT_ID" => "event.id",
            "INVALID_EVENT_RETRY" => "event.retry",
            "INVALID_EVENT_KEY" => "event.key",
            _ => "name",
        };
        assert!(message.contains(field), "{message}");
        let times = told.entry(code).or_insert(0);
        *times += 1;
        let facts = ["/internal/send", &*format!("code={code}")];
        gateway.wait_log_times(code, *times, |line| {
            let mut words = line.text.split(' ');
            let is_error = words.next() == Some("[ERROR]") && line.is_error;
            is_error
                && facts
                    .iter()
                    .all(|fact| words.clone().any(|word| word == *fact))
        });
    }
    assert_ok(&send_data(&gateway, &token, "the only one"), OK);
    assert_eq!(client.next_event(), "data: the only one\n\n");
    client.reset();
    backend.assert_balanced();
}

fn with_token(body: &[u8], token: &str) -> Vec<u8> {
    let at = body.windows(7).position(|seven| seven == b"\"TOKEN\"");
    match at {
        Some(at) => [&body[..=at], token.as_bytes(), &body[at + 6..]].concat(),
        None => body.to_vec(),
    }
}

#[test]
fn what_else_the_object_may_hold() {
    let (backend, gateway, mut client, token) = streaming();
    let bodies = [
        r#" { "token" : "TOKEN" , "event" : { "data" : "x" } } "#,
        r#"{"event":{"data":"x"},"token":"TOKEN"}"#,
        r#"{"token":"TOKEN","event":{"data":"x","more":5,"other":null},"more":[{"token":1}],"close":false}"#,
        r#"{"\u0074oken":"TOKEN","event":{"d\u0061ta":"\u0078"}}"#,
        r#"{"token":"TOKEN","event":{"name":"","data":"x"},"deep":[[[[[[[[[[{"a":{"b":[]}}]]]]]]]]]]}"#,
    ];
    for body in bodies {
        let body = body.replace("TOKEN", &token);
        assert_ok(&post_body(&gateway, body.as_bytes()), OK);
        assert_eq!(client.next_event(), "data: x\n\n", "{body}");
    }
    client.reset();
    backend.assert_balanced();
}

/// Any content type, no content encoding.
#[test]
fn fields_of_the_request() {
    let (backend, gateway, mut client, token) = streaming();
    let body = json!({"token": token, "event": {"data": "x"}}).to_string();
    for fields in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/json; charset=iso-8859-1\r\n",
        "Content-Type: nonsense\r\n",
    ] {
        assert_ok(&post_with(&gateway, fields, &body), OK);
        assert_eq!(client.next_event(), "data: x\n\n", "{fields}");
    }
    for coding in ["gzip", "br", "x-unknown"] {
        let fields = format!("Content-Encoding: {coding}\r\n");
        let response = post_with(&gateway, &fields, &body);
        assert_error(&response, 415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let mut chunked = gateway.connect();
    let (one, two) = body.split_at(9);
    chunked.send(format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         9;ext=1\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\nTrailer: t\r\n\r\n",
        two.len()
    ));
    assert_ok(&chunked.read_response(), OK);
    assert_eq!(client.next_event(), "data: x\n\n");
    // A script that half-closes behind its request still gets its answer.
    let mut script = gateway.connect();
    script.post(body.as_bytes());
    script.shutdown_write();
    assert_ok(&script.read_response(), OK);
    script.expect_eof();
    assert_eq!(client.next_event(), "data: x\n\n");
    client.reset();
    backend.assert_balanced();
}

/// A token matches as the 36 characters that were issued and in no other way.
#[test]
fn unknown_tokens() {
    let (backend, gateway, client, token) = streaming();
    let (gone, gone_token) = open_stream(&gateway, &backend, "/gone");
    gone.reset();
    backend.next_disconnect_of(&gone_token);
    let spaced = [
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
    ];
    let mut tokens = vec![
        token.to_uppercase(),
        format!("{{{token}}}"),
        format!("urn:uuid:{token}"),
        token.replace('-', ""),
        token[..35].to_owned(),
        format!("{token}0"),
        format!("{}\u{ff10}", &token[..35]),
        "00000000-0000-4000-8000-000000000000".to_owned(),
        "x".to_owned(),
        "\u{0}".to_owned(),
        "x".repeat(100_000),
        gone_token,
    ];
    tokens.extend(spaced);
    for unknown in tokens {
        let commands = [
            json!({"token": unknown}),
            json!({"token": unknown, "event": {"data": "x"}, "close": true}),
        ];
        for command in commands {
            assert_error(&post_send(&gateway, &command), 404, "TOKEN_NOT_FOUND");
        }
    }
    gateway.wait_log_all(&["[INFO]", "/internal/send", "token=x"]);
    for line in gateway.lines() {
        assert!(line.text.len() < 1000, "{}", line.text);
    }
    assert_ok(&send_close(&gateway, &token), OK);
    let mut client = client;
    client.expect_last_chunk_and_eof();
    backend.assert_balanced();
}

#[test]
fn event_first_then_close_and_neither_is_a_question() {
    let (backend, gateway, mut client, token) = streaming();
    assert_ok(&post_send(&gateway, &json!({"token": token})), OK);
    assert_ok(
        &post_send(&gateway, &json!({"token": token, "close": false})),
        OK,
    );
    let both = json!({"token": token, "close": true, "event": {"name": "bye", "data": "d"}});
    assert_ok(&post_send(&gateway, &both), OK);
    assert_eq!(client.next_event(), "event: bye\ndata: d\n\n");
    client.expect_last_chunk_and_eof();
    assert_error(
        &post_send(&gateway, &json!({"token": token})),
        404,
        "TOKEN_NOT_FOUND",
    );
    assert_error(&send_close(&gateway, &token), 404, "TOKEN_NOT_FOUND");
    backend.assert_balanced();
}

/// A close's answer does not wait for the disconnect callback, which is never answered here.
#[test]
fn a_close_waits_for_nobody() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut client, token) = open_stream(&gateway, &backend, "/");
    assert_ok(&send_close(&gateway, &token), OK);
    client.expect_last_chunk_and_eof();
    backend.next_disconnect_of(&token);
    assert_error(&send_close(&gateway, &token), 404, "TOKEN_NOT_FOUND");
    backend.assert_balanced();
}

#[test]
fn a_publisher_may_pipeline_and_order_is_kept() {
    const EVENTS: usize = 300;
    let (backend, gateway, mut one, token_one) = streaming();
    let (mut two, token_two) = open_stream(&gateway, &backend, "/two");
    let mut publisher = gateway.connect();
    let mut batch = String::new();
    for at in 0..EVENTS {
        let token = if at % 2 == 0 { &token_one } else { &token_two };
        let unknown = at % 7 == 0;
        let token = if unknown { "unknown" } else { token };
        let body = json!({"token": token, "event": {"data": at.to_string()}}).to_string();
        batch += &send_request(&body);
    }
    publisher.send(batch);
    for at in 0..EVENTS {
        let response = publisher.read_response();
        match at % 7 {
            0 => assert_error(&response, 404, "TOKEN_NOT_FOUND"),
            _ => assert_ok(&response, OK),
        }
    }
    for at in (0..EVENTS).filter(|at| at % 7 != 0) {
        let client = if at % 2 == 0 { &mut one } else { &mut two };
        assert_eq!(client.next_event(), format!("data: {at}\n\n"));
    }
    one.reset();
    two.reset();
    backend.assert_balanced();
}

/// The gateway is stopped while the publisher's request comes in and then the client's reset, so
/// it meets both in that order.
#[test]
fn a_write_that_fails_is_500() {
    let (backend, gateway, client, token) = streaming();
    let mut publisher = gateway.connect();
    assert_served(&mut publisher);
    gateway.signal("STOP");
    let body = json!({"token": token, "event": {"data": "x"}, "close": true}).to_string();
    publisher.post(body.as_bytes());
    client.reset();
    gateway.signal("CONT");
    assert_error(&publisher.read_response(), 500, "WRITE_FAILED");
    assert_eq!(backend.next_disconnect_of(&token).reason(), "error");
    gateway.wait_log_all(&["[WARN]", &token, "url=/s reason=error"]);
    // The publisher's connection goes on.
    publisher.post(body.as_bytes());
    assert_error(&publisher.read_response(), 404, "TOKEN_NOT_FOUND");
    backend.assert_balanced();
}

#[test]
fn what_sends_leave_in_the_log() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .start();
    let (client, token) = open_stream(&gateway, &backend, "/log?a");
    let command = json!({"token": token, "event": {"name": "n m", "data": "sécret"}});
    assert_ok(&post_send(&gateway, &command), OK);
    let facts = format!(r#"token={token} event="n m" length=7 url=/log?a"#);
    let line = gateway.wait_log_all(&["[DEBUG] event sent", &facts]);
    assert!(!line.is_error);
    let forged = json!({"token": "x\n[INFO] forged", "event": {"data": "sécret"}});
    assert_error(&post_send(&gateway, &forged), 404, "TOKEN_NOT_FOUND");
    gateway.wait_log_all(&["[INFO] /internal/send", r#"token="x\n[INFO] forged""#]);
    let bad = json!({"token": token, "event": {"data": "sécret", "name": 5}});
    assert_error(&post_send(&gateway, &bad), 400, "INVALID_EVENT_NAME_TYPE");
    gateway.wait_log_all(&["[ERROR] /internal/send", "INVALID_EVENT_NAME_TYPE"]);
    assert!(!gateway.log().contains("cret"), "{}", gateway.log());
    client.reset();
    backend.assert_balanced();
}
