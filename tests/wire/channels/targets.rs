//! Whom a send is for: every target, every refusal of one, and the order of the checks.

use serde_json::{Value, json};

use super::{assert_members, assert_receivers, joining, next_data, one_in, to_channel, to_token};
use crate::support::{
    BUFFERED, Backend, Gateway, OK, assert_error, assert_ok, open_stream, post_body, post_send,
};

/// A token that nobody has.
const NOBODY: &str = "0b7e1f0a-0000-4000-8000-00000000";

fn strangers(number: usize) -> Vec<String> {
    (0..number).map(|at| format!("{NOBODY}{at:04}")).collect()
}

/// Every way to reach one stream or several.
#[test]
fn each_target_reaches_its_own() {
    let (backend, gateway, mut one, token_one) = one_in("/1?a,b");
    let (mut two, token_two) = open_stream(&gateway, &backend, "/2?b");
    let (mut three, token_three) = open_stream(&gateway, &backend, "/3");
    // The targets, and who is reached.
    let table = [
        (json!({"tokens": [token_one]}), vec![1]),
        (
            json!({"tokens": [token_three, token_one, token_two]}),
            vec![1, 2, 3],
        ),
        // A repeated one is one.
        (
            json!({"tokens": [token_two, token_two, token_two]}),
            vec![2],
        ),
        (json!({"tokens": []}), vec![]),
        (json!({"channel": "a"}), vec![1]),
        (json!({"channel": "b"}), vec![1, 2]),
        (json!({"channel": "nobody"}), vec![]),
        (json!({"channels": ["a"]}), vec![1]),
        // Who is in several gets it once and counts once.
        (json!({"channels": ["a", "b", "nobody", "b"]}), vec![1, 2]),
        (json!({"channels": []}), vec![]),
        (json!({"broadcast": true}), vec![1, 2, 3]),
        // Null is absent.
        (
            json!({
                "token": null, "tokens": null, "channel": "a", "channels": null,
                "broadcast": null, "subscribe": null, "unsubscribe": null,
            }),
            vec![1],
        ),
    ];
    for (number, (target, reached)) in table.into_iter().enumerate() {
        let mut command = target.clone();
        command["event"] = json!({"data": number.to_string()});
        assert_receivers(&post_send(&gateway, &command), reached.len());
        for (at, client) in [(1, &mut one), (2, &mut two), (3, &mut three)] {
            if reached.contains(&at) {
                assert_eq!(next_data(client), number.to_string(), "{target}");
            }
        }
        // With neither event nor close it is a question.
        assert_receivers(&post_send(&gateway, &target), reached.len());
    }
    for (client, token) in [
        (&mut one, &token_one),
        (&mut two, &token_two),
        (&mut three, &token_three),
    ] {
        assert_ok(&post_send(&gateway, &to_token(token, "end")), OK);
        assert_eq!(next_data(client), "end");
    }
    drop((one, two, three));
    backend.assert_balanced();
}

/// Windows are addressed like streams.
#[test]
fn windows_count_and_buffer() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/s");
    let connect = backend.next_connect_of("/s");
    let token = connect.token();
    let all = [
        json!({"broadcast": true, "event": {"data": "1"}}),
        json!({"tokens": [token], "event": {"data": "2"}}),
        json!({"broadcast": true, "event": {"name": "n", "data": "3"}}),
    ];
    for command in &all {
        assert_receivers(&post_send(&gateway, command), 1);
    }
    assert_ok(&post_send(&gateway, &to_token(&token, "4")), BUFFERED);
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    for event in ["data: 1", "data: 2", "event: n\ndata: 3", "data: 4"] {
        assert_eq!(client.next_event(), format!("{event}\n\n"));
    }
    client.reset();
    backend.next_disconnect().answer(200, "");
    backend.assert_balanced();
}

#[test]
fn unknown_tokens_are_named() {
    let (backend, gateway, mut client, token) = one_in("/s");
    let upper = token.to_uppercase();
    let odd = ["", "x", "a\"b\\c\nd\u{1}é", upper.as_str()];
    let mut tokens: Vec<&str> = odd.to_vec();
    // Known ones are not, and repeated ones are named once.
    tokens.extend([token.as_str(), "x", "", token.as_str()]);
    let command = json!({"tokens": tokens, "event": {"data": "known"}});
    let response = post_send(&gateway, &command);
    let unknown = serde_json::to_string(&odd).expect("JSON");
    assert_ok(
        &response,
        &format!(r#"{{"status":"ok","receivers":1,"unknown":{unknown}}}"#),
    );
    assert_eq!(next_data(&mut client), "known");
    // Nobody is known: no error either.
    let response = post_send(&gateway, &json!({"tokens": ["x"], "close": true}));
    assert_ok(
        &response,
        r#"{"status":"ok","receivers":0,"unknown":["x"]}"#,
    );
    // Who has left is unknown.
    client.reset();
    backend.next_disconnect_of(&token);
    let response = post_send(&gateway, &json!({"tokens": [token]}));
    assert_ok(
        &response,
        &format!(r#"{{"status":"ok","receivers":0,"unknown":["{token}"]}}"#),
    );
    backend.assert_balanced();
}

#[test]
fn lists_have_a_length() {
    let (backend, gateway, mut client, token) = one_in("/s?c");
    let mut tokens = strangers(999);
    tokens.push(token.clone());
    // Names that are repeated are taken as one before they are counted.
    tokens.extend(strangers(999));
    let command = json!({"tokens": tokens, "event": {"data": "1000 tokens"}});
    let unknown = serde_json::to_string(&strangers(999)).expect("JSON");
    assert_ok(
        &post_send(&gateway, &command),
        &format!(r#"{{"status":"ok","receivers":1,"unknown":{unknown}}}"#),
    );
    assert_eq!(next_data(&mut client), "1000 tokens");
    let mut tokens = strangers(1000);
    tokens.insert(0, token.clone());
    let command = json!({"tokens": tokens, "event": {"data": "never"}, "close": true});
    assert_error(&post_send(&gateway, &command), 400, "INVALID_TARGET");
    let channels = |number: usize| -> Vec<String> {
        let others = (1..number).map(|at| format!("c{at}"));
        others.chain(["c".to_owned(), "c".to_owned()]).collect()
    };
    let command = json!({"channels": channels(64), "event": {"data": "64 channels"}});
    assert_receivers(&post_send(&gateway, &command), 1);
    assert_eq!(next_data(&mut client), "64 channels");
    let command = json!({"channels": channels(65), "event": {"data": "never"}, "close": true});
    assert_error(&post_send(&gateway, &command), 400, "INVALID_TARGET");
    assert_ok(&post_send(&gateway, &to_token(&token, "end")), OK);
    assert_eq!(next_data(&mut client), "end");
    client.reset();
    backend.assert_balanced();
}

/// Each row has faults of all later kinds as well, so that the order shows.
#[test]
fn checks_have_an_order_and_a_refused_send_does_nothing() {
    let (backend, gateway, mut client, token) = one_in("/s?c");
    let event = r#""event":{"data":"never"},"close":true"#;
    let bad = r#""event":{"data":5,"name":6,"id":7},"close":8"#;
    let others = r#""event":{"data":"never","id":" ","retry":-1,"key":""}"#;
    let table: Vec<(String, &str)> = vec![
        (
            format!(r#"{{"channel":"c","channel":"c",{bad}}}"#),
            "INVALID_JSON",
        ),
        (
            format!(r#"{{"channels":["c","\ud800"],{bad}}}"#),
            "INVALID_JSON",
        ),
        (
            format!(r#"{{"broadcast":true,"broadcast":true,{event}}}"#),
            "INVALID_JSON",
        ),
        (
            format!(r#"{{"token":"TOKEN","subscribe":[],"subscribe":[],{event}}}"#),
            "INVALID_JSON",
        ),
        // Two targets, whatever they are.
        (
            format!(r#"{{"token":"TOKEN","channel":" ",{bad}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"token":"","tokens":["TOKEN"],{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"token":5,"broadcast":true,{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"tokens":["TOKEN"],"channel":"c",{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"channel":"c","channels":["c"],{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"channel":"c","broadcast":false,{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"channels":["c"],"broadcast":true,{event}}}"#),
            "INVALID_TARGET",
        ),
        // A wrong type.
        (format!(r#"{{"tokens":"TOKEN",{bad}}}"#), "INVALID_TARGET"),
        (
            format!(r#"{{"tokens":["TOKEN",5],{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"tokens":["TOKEN",null],{event}}}"#),
            "INVALID_TARGET",
        ),
        (format!(r#"{{"tokens":{{}},{event}}}"#), "INVALID_TARGET"),
        (format!(r#"{{"channel":["c"],{bad}}}"#), "INVALID_TARGET"),
        (format!(r#"{{"channel":5,{event}}}"#), "INVALID_TARGET"),
        (format!(r#"{{"channels":"c",{bad}}}"#), "INVALID_TARGET"),
        (
            format!(r#"{{"channels":["c",true],{event}}}"#),
            "INVALID_TARGET",
        ),
        (format!(r#"{{"broadcast":false,{bad}}}"#), "INVALID_TARGET"),
        (format!(r#"{{"broadcast":1,{event}}}"#), "INVALID_TARGET"),
        (
            format!(r#"{{"broadcast":"true",{event}}}"#),
            "INVALID_TARGET",
        ),
        // Channels are changed of one stream only.
        (format!(r#"{{"subscribe":[" "],{bad}}}"#), "INVALID_TARGET"),
        (format!(r#"{{"unsubscribe":[],{event}}}"#), "INVALID_TARGET"),
        (
            format!(r#"{{"tokens":["TOKEN"],"subscribe":["d"],{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"channel":"c","unsubscribe":["c"],{event}}}"#),
            "INVALID_TARGET",
        ),
        (
            format!(r#"{{"broadcast":true,"subscribe":["d"],{event}}}"#),
            "INVALID_TARGET",
        ),
        // None at all, or one token that is none.
        (format!("{{{bad}}}"), "INVALID_TOKEN_MISSING"),
        (
            format!(r#"{{"token":null,"channel":null,"subscribe":null,{bad}}}"#),
            "INVALID_TOKEN_MISSING",
        ),
        (format!(r#"{{"token":5,{bad}}}"#), "INVALID_TOKEN_MISSING"),
        (
            format!(r#"{{"token":"","subscribe":[" "],{bad}}}"#),
            "INVALID_TOKEN_MISSING",
        ),
        // Names, then the event and the close.
        (format!(r#"{{"channel":" ",{bad}}}"#), "INVALID_CHANNEL"),
        (
            format!(r#"{{"channels":["c",""],{bad}}}"#),
            "INVALID_CHANNEL",
        ),
        (
            format!(r#"{{"token":"unknown","subscribe":[" "],{bad}}}"#),
            "INVALID_CHANNEL",
        ),
        (
            r#"{"channel":"c","event":null,"close":8}"#.to_owned(),
            "INVALID_EVENT_TYPE",
        ),
        (
            format!(r#"{{"broadcast":true,{bad}}}"#),
            "INVALID_EVENT_DATA_MISSING",
        ),
        (
            r#"{"tokens":["TOKEN"],"event":{"data":"x","name":6,"id":7},"close":8}"#.to_owned(),
            "INVALID_EVENT_NAME_TYPE",
        ),
        (
            r#"{"channel":"c","event":{"data":"x","name":"a\nb","id":7},"close":8}"#.to_owned(),
            "INVALID_EVENT_NAME",
        ),
        (
            format!(r#"{{"channel":"c",{others},"close":null}}"#),
            "INVALID_CLOSE_TYPE",
        ),
        // What section 11 adds to an event comes last.
        (
            format!(r#"{{"channel":"c",{others},"close":true}}"#),
            "INVALID_EVENT_ID",
        ),
        (
            r#"{"channel":"c","close":true,"event":{"key":"","retry":-1,"data":"x"}}"#.to_owned(),
            "INVALID_EVENT_RETRY",
        ),
        (
            r#"{"broadcast":true,"close":true,"event":{"key":"","data":"x"}}"#.to_owned(),
            "INVALID_EVENT_KEY",
        ),
        (
            r#"{"token":"TOKEN","unsubscribe":["c"],"subscribe":["d"],"close":true,
                "event":{"key":"","data":"x"}}"#
                .to_owned(),
            "INVALID_EVENT_KEY",
        ),
    ];
    for (body, code) in &table {
        let body = body.replace("TOKEN", &token);
        let response = post_body(&gateway, body.as_bytes());
        assert_eq!(response.status(), 400, "{body}: {}", response.text());
        let json: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(json["error"]["code"], *code, "{body}");
        assert_error(&response, 400, code);
    }
    // A token that is unknown comes behind them all.
    let unknown = json!({"token": "unknown", "subscribe": ["d"], "event": {"data": "x"}});
    assert_error(&post_send(&gateway, &unknown), 404, "TOKEN_NOT_FOUND");
    assert_members(&gateway, "c", 1);
    assert_members(&gateway, "d", 0);
    assert_receivers(&post_send(&gateway, &to_channel("c", "end")), 1);
    assert_eq!(next_data(&mut client), "end");
    client.reset();
    backend.assert_balanced();
}

/// One line for each fan-out, whomever it is for.
#[test]
fn what_fan_outs_leave_in_the_log() {
    let backend = joining();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .start();
    let (client, token) = open_stream(&gateway, &backend, "/s?a,b");
    let table = [
        (json!({"channel": "a"}), "channel=a receivers=1 length=7"),
        (
            json!({"channels": ["a", "b"]}),
            "channel=a,b receivers=1 length=7",
        ),
        (
            json!({"tokens": [token]}),
            "channel=tokens receivers=1 length=7",
        ),
        (
            json!({"broadcast": true}),
            "channel=broadcast receivers=1 length=7",
        ),
        // Nobody heard it: the name is what tells why.
        (
            json!({"channel": "nobody"}),
            "channel=nobody receivers=0 length=7",
        ),
        (
            json!({"channels": ["a", "nobody"]}),
            "channel=a,nobody receivers=1 length=7",
        ),
    ];
    for (mut command, _) in table.clone() {
        command["event"] = json!({"name": "n", "data": "sécret"});
        assert_eq!(post_send(&gateway, &command).status(), 200);
    }
    for (_, facts) in table {
        let line = gateway.wait_log_all(&["[DEBUG] event sent", facts]);
        assert!(
            !line.is_error && line.text.ends_with(facts),
            "{}",
            line.text
        );
    }
    gateway.wait_log_times("channel=", 6, |line| line.text.contains("channel="));
    assert!(!gateway.log().contains("cret"), "{}", gateway.log());
    client.reset();
    backend.assert_balanced();
}
