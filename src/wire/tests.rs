//! Tables for commands to one stream, and for answers (contract, sections 2 and 4).

mod channels;
mod history;

use super::*;

/// How many channels a stream may be in here.
const CHANNELS: usize = 3;

const RULES: Rules = Rules {
    max_channels: CHANNELS,
    has_history: false,
};

fn read(body: &str) -> SendCommand<'_> {
    send_command(body.as_bytes(), RULES).expect(body)
}

fn refused(body: &str) -> SendError {
    send_command(body.as_bytes(), RULES).expect_err(body)
}

fn one<'a>(token: &'a str) -> Target<'a> {
    Target::Token {
        token: token.into(),
        unsubscribe: Vec::new(),
        subscribe: Vec::new(),
        last_event_id: None,
    }
}

fn event<'a>(name: &'a str, data: &'a str) -> Event<'a> {
    Event {
        name: name.into(),
        data: data.into(),
        ..Event::default()
    }
}

#[test]
fn a_whole_command() {
    let body = r#" {"token":"t","event":{"name":"n","data":"a\nb"},"close":true} "#;
    let expected = SendCommand {
        target: one("t"),
        event: Some(event("n", "a\nb")),
        close: true,
    };
    assert_eq!(read(body), expected);
}

#[test]
fn optional_fields_and_unknown_ones() {
    let command = read(r#"{"x":[{"y":[1,2.5e3,null,"\ud83d\ude00"]}],"token":"t"}"#);
    assert_eq!(command.event, None);
    assert!(!command.close);
    let command = read(r#"{"token":"t","event":{"data":"","more":{}}}"#);
    assert_eq!(command.event, Some(event("", "")));
    // Not known yet, or known in an answer alone.
    let body = r#"{"token":"t","retain":1,"retain":2,"expires_in":-1,"expires_in":2}"#;
    assert_eq!(read(body).target, one("t"));
}

#[test]
fn what_is_no_json_object_is_refused_whatever_it_holds() {
    let deep = format!(
        "{{\"token\":\"t\",\"x\":{}1{}}}",
        "[".repeat(4000),
        "]".repeat(4000)
    );
    let table = [
        "",
        " ",
        "null",
        "[]",
        "\"token\"",
        "5",
        "-5",
        "true",
        "{",
        "{\"token\":\"t\"",
        "{\"token\":\"t\"}x",
        "{\"token\":\"t\"}{}",
        "{'token':'t'}",
        "{\"token\":\"t\",}",
        "{\"token\":\"\\ud800\"}",
        "{\"token\":\"t\",\"x\":\"\\udc00\"}",
        "{\"token\":\"t\",\"x\":{\"\\ud800\":1}}",
        "{\"tokens\":[\"\\ud800\"]}",
        "{\"tokens\":[1,\"\\ud800\"]}",
        "{\"tokens\":[\"a\",]}",
        "{\"tokens\":[\"a\"",
        "{\"token\":\"t\",\"x\":01}",
        "{\"token\":\"a\nb\"}",
        "\u{feff}{\"token\":\"t\"}",
        &deep,
    ];
    for body in table {
        assert_eq!(refused(body), SendError::InvalidJson, "{body:.80}");
    }
    for bytes in [
        &b"{\"token\":\"\xff\"}"[..],
        b"{\"token\":\"t\",\"x\":\"\xc3\"}",
        b"{\"channels\":[\"\xff\"]}",
    ] {
        assert_eq!(send_command(bytes, RULES), Err(SendError::InvalidJson));
    }
}

#[test]
fn no_known_field_may_stand_twice() {
    let fields = [
        r#""token":"t""#,
        r#""tokens":["t"]"#,
        r#""channel":"c""#,
        r#""channels":["c"]"#,
        r#""broadcast":true"#,
        r#""unsubscribe":["c"]"#,
        r#""subscribe":["c"]"#,
        r#""event":{"data":"d"}"#,
        r#""close":false"#,
        r#""last_event_id":"1-1""#,
    ];
    let inner = [
        r#""data":"d""#,
        r#""name":"n""#,
        r#""id":"i""#,
        r#""retry":5"#,
        r#""key":"k""#,
        r#""retain":false"#,
    ];
    let null = |field: &str| format!("{}:null", field.split(':').next().expect("a name"));
    for field in fields {
        for other in [field.to_owned(), null(field)] {
            for body in [
                format!("{{{field},{other}}}"),
                format!("{{{other},\"x\":1,{field}}}"),
            ] {
                assert_eq!(refused(&body), SendError::InvalidJson, "{body}");
            }
        }
        // Elsewhere they are not known.
        let body = format!("{{\"token\":\"t\",\"x\":{{{field},{field}}}}}");
        assert_eq!(read(&body).target, one("t"));
    }
    for field in inner {
        for other in [field.to_owned(), null(field)] {
            let body = format!("{{\"token\":\"t\",\"event\":{{{field},{other}}}}}");
            assert_eq!(refused(&body), SendError::InvalidJson, "{body}");
        }
    }
    let body = r#"{"token":"t","event":{"data":"d","x":1,"x":2,"close":1,"close":2}}"#;
    assert_eq!(read(body).event, Some(event("", "d")));
}

#[test]
fn wrong_types_are_named_in_the_contracts_order() {
    use SendError::*;
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        ("{}", TokenMissing),
        (r#"{"token":""}"#, TokenMissing),
        (r#"{"token":null}"#, TokenMissing),
        (r#"{"token":5,"event":7,"close":9}"#, TokenMissing),
        (r#"{"token":["a"]}"#, TokenMissing),
        (r#"{"token":"t","event":null}"#, EventType),
        (r#"{"token":"t","event":"x","close":1}"#, EventType),
        (r#"{"token":"t","event":[{"data":"x"}]}"#, EventType),
        (r#"{"token":"t","event":{}}"#, EventDataMissing),
        (r#"{"token":"t","event":{"data":null}}"#, EventDataMissing),
        (r#"{"token":"t","event":{"data":1,"name":2}}"#, EventDataMissing),
        (r#"{"token":"t","event":{"data":{"a":1},"name":"\n"}}"#, EventDataMissing),
        (r#"{"token":"t","event":{"data":"x","name":null}}"#, EventNameType),
        (r#"{"token":"t","event":{"data":"x","name":{}},"close":1}"#, EventNameType),
        (r#"{"token":"t","event":{"data":"x","name":"a\nb"},"close":1}"#, EventName),
        (r#"{"token":"t","event":{"data":"x","name":"\r"}}"#, EventName),
        (r#"{"token":"t","event":{"data":"x","name":"\u0000"}}"#, EventName),
        (r#"{"token":"t","close":null}"#, CloseType),
        (r#"{"token":"t","close":"true"}"#, CloseType),
        (r#"{"token":"t","close":0}"#, CloseType),
    ];
    for (body, expected) in table {
        assert_eq!(refused(body), expected, "{body}");
    }
}

#[test]
fn ids_keys_and_delays_are_checked_behind_all_else() {
    use SendError::*;
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        (r#"{"token":"t","event":{"id":1}}"#, EventDataMissing),
        (r#"{"token":"t","event":{"data":"","id":1,"name":1}}"#, EventNameType),
        (r#"{"token":"t","event":{"data":"","id":1},"close":1}"#, CloseType),
        (r#"{"token":"t","event":{"key":1,"retry":"","id":1,"data":""}}"#, EventId),
        (r#"{"token":"t","event":{"key":1,"retry":"","id":"1","data":""}}"#, EventRetry),
        (r#"{"token":"t","event":{"key":1,"retry":1,"id":"1","data":""}}"#, EventKey),
    ];
    for (body, expected) in table {
        assert_eq!(refused(body), expected, "{body}");
    }
    let body = r##"{"token":"t","event":{"key":"job.7","retry":0,"id":"\u0021\"\\~","data":""}}"##;
    let expected = Event {
        id: Some("!\"\\~".into()),
        retry: Some(0),
        key: Some("job.7".into()),
        ..Event::default()
    };
    assert_eq!(read(body).event, Some(expected));
}

/// Of texts that only an id or a key may be: allowed as an id, as a key.
fn words() -> Vec<(String, bool, bool)> {
    let quoted = |text: &str| serde_json::json!(text).to_string();
    let mut words = vec![
        (quoted("earliest"), false, true),
        (quoted("Earliest"), true, true),
        (quoted("earliest."), true, true),
        (quoted(&"x".repeat(200)), true, true),
        (quoted(&"x".repeat(201)), false, false),
        (quoted("0-0"), true, true),
        ("\"\\u0041\"".into(), true, true),
    ];
    words.extend((0x21..=0x7e).map(|byte: u8| (quoted(&char::from(byte).to_string()), true, true)));
    for text in [
        "", " ", "a b", " a", "a\n", "\0", "\u{7f}", "\u{80}", "é", "😀",
    ] {
        words.push((quoted(text), false, false));
    }
    for value in ["null", "5", "true", "[]", "[\"a\"]", "{}"] {
        words.push((value.into(), false, false));
    }
    words
}

#[test]
fn words_that_are_ids_and_keys() {
    for (word, is_id, is_key) in words() {
        let body = format!(r#"{{"token":"t","event":{{"data":"","id":{word}}}}}"#);
        let found = send_command(body.as_bytes(), RULES).map(|_| ());
        let expected = if is_id {
            Ok(())
        } else {
            Err(SendError::EventId)
        };
        assert_eq!(found, expected, "{body}");
        let body = format!(r#"{{"token":"t","event":{{"data":"","key":{word}}}}}"#);
        let found = send_command(body.as_bytes(), RULES).map(|_| ());
        let expected = if is_key {
            Ok(())
        } else {
            Err(SendError::EventKey)
        };
        assert_eq!(found, expected, "{body}");
    }
}

/// What `retry` may say: `-0` is the one integer of the right size that is none here.
const DELAYS: &[(&str, Option<u32>)] = &[
    ("0", Some(0)),
    ("1", Some(1)),
    ("86400000", Some(86_400_000)),
    ("86400001", None),
    ("4294967296", None),
    ("18446744073709551616", None),
    ("1000000000000000000000000000000", None),
    ("-1", None),
    ("-0", None),
    ("5.0", None),
    ("0.5", None),
    ("1e3", None),
    ("1E0", None),
    ("\"5\"", None),
    ("null", None),
    ("true", None),
    ("[5]", None),
    ("{}", None),
];

#[test]
fn delays() {
    for (value, expected) in DELAYS {
        let body = format!(r#"{{"token":"t","event":{{"data":"","retry":{value}}}}}"#);
        let found = send_command(body.as_bytes(), RULES);
        let found = found.map(|command| command.event.expect("an event").retry);
        let expected = expected.ok_or(SendError::EventRetry).map(Some);
        assert_eq!(found, expected, "{value}");
    }
}

#[test]
fn text_without_escapes_is_not_copied() {
    let body = r#"{"token":"t","event":{"name":"n","data":"d","id":"i","key":"k"},
        "unsubscribe":["a"],"subscribe":["b","c"],"last_event_id":"l"}"#;
    let is_borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
    let SendCommand {
        target:
            Target::Token {
                token,
                unsubscribe,
                subscribe,
                last_event_id,
            },
        event: Some(event),
        ..
    } = read(body)
    else {
        panic!("another command");
    };
    let lists = unsubscribe.iter().chain(&subscribe);
    let more = event.id.iter().chain(&event.key).chain(&last_event_id);
    let mut all = lists.chain(more).chain([&token, &event.name, &event.data]);
    assert!(all.all(is_borrowed));
    // A list that is not there is no memory either.
    let Target::Token {
        unsubscribe,
        subscribe,
        ..
    } = read(r#"{"token":"t"}"#).target
    else {
        panic!("another target");
    };
    assert_eq!((unsubscribe.capacity(), subscribe.capacity()), (0, 0));
    for body in [
        r#"{"channel":"a"}"#,
        r#"{"channels":["a","b"]}"#,
        r#"{"tokens":["a","b"]}"#,
    ] {
        match read(body).target {
            Target::Channels(names) | Target::Tokens(names) => {
                assert!(names.iter().all(is_borrowed));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn messages_name_the_field_and_need_no_escapes_in_json() {
    use SendError::*;
    let table = [
        (InvalidJson, "JSON"),
        (TokenMissing, "'token'"),
        (InvalidTarget, "'broadcast'"),
        (InvalidChannel, "'subscribe'"),
        (EventType, "'event'"),
        (EventDataMissing, "'event.data'"),
        (EventNameType, "'event.name'"),
        (EventName, "'event.name'"),
        (CloseType, "'close'"),
        (EventId, "'event.id'"),
        (EventRetry, "'event.retry'"),
        (EventId, "HISTORY_BYTES"),
        (EventId, "'last_event_id'"),
        (EventKey, "'event.key'"),
        (EventRetain, "'event.retain'"),
    ];
    for (error, part) in table {
        let message = error.message();
        assert!(message.contains(part), "{message}");
        assert!(
            !message.contains(['"', '\\']) && !message.contains("  "),
            "{message}"
        );
        assert!(error.code().starts_with("INVALID_"));
    }
}

fn directed(body: &str) -> Directives {
    directives(Some(body.as_bytes()))
}

#[test]
fn directives_keep_what_can_be_used() {
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        ("", None, false, false),
        ("{}", None, false, false),
        (r#"{"other":{"a":[1]}}"#, None, false, false),
        (r#"{"event":{"name":"n","data":"d"},"close":true}"#, Some(event("n", "d")), true, false),
        (r#"{"event":{"data":"d"}}"#, Some(event("", "d")), false, false),
        ("OK", None, false, true),
        ("[]", None, false, true),
        (r#"{"close":1,"event":{"data":"d"}}"#, Some(event("", "d")), false, true),
        (r#"{"close":true,"event":5}"#, None, true, true),
        (r#"{"event":{"name":3,"data":"d"},"close":true}"#, Some(event("", "d")), true, true),
        (r#"{"event":{"name":"a\nb","data":"d"}}"#, Some(event("", "d")), false, true),
        (r#"{"event":{"name":"n"},"close":true}"#, None, true, true),
        (r#"{"event":null,"close":null}"#, None, false, true),
        (r#"{"close":true,"close":true}"#, None, false, true),
        (r#"{"event":{"data":"d","id":"i","id":"i"},"close":true}"#, None, false, true),
        // A send's fields are none of an answer's: they are not even looked at.
        (r#"{"token":5,"token":6,"tokens":7,"channel":"","broadcast":false,"subscribe":0}"#, None, false, false),
    ];
    for (body, event, close, is_problem) in table {
        let directives = directed(body);
        assert_eq!(directives.event, event.map(Box::new), "{body}");
        assert_eq!(directives.close, close, "{body}");
        assert_eq!(directives.problem.is_some(), is_problem, "{body}");
        assert_eq!((directives.joins, directives.deaf), (None, None));
        assert_eq!(directives.expires_in, None);
    }
    assert!(directives(None).problem.is_some());
}

/// How long an answer has a stream last. Nothing that is no such number leaves it open: a client's
/// rights would not end.
#[test]
fn a_streams_time() {
    let millis = |value: &str| {
        let body = format!(r#"{{"event":{{"data":"d"}},"expires_in":{value},"close":true}}"#);
        let found = directed(&body);
        assert_eq!((found.close, found.problem), (true, None), "{value}");
        let is_named = |why: &str| why.starts_with("'expires_in'");
        assert!(found.deaf.is_none_or(is_named), "{value}");
        assert_eq!(found.deaf.is_some(), found.expires_in.is_none(), "{value}");
        found.expires_in.map(|it| it.as_millis())
    };
    const NEVER: u128 = u64::MAX as u128;
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        ("1", 1_000), ("3600", 3_600_000), ("0.5", 500), ("1.0015", 1_002), ("15e-1", 1_500),
        ("1E3", 1_000_000), ("0.0001", 1), ("1e-300", 1), ("31536000", 31_536_000_000),
        ("18446744073709551615", NEVER), ("18446744073709551616", NEVER), ("1e300", NEVER),
    ];
    for (value, expected) in table {
        assert_eq!(millis(value), Some(expected), "{value}");
    }
    for value in [
        "0", "0.0", "-0", "-1", "-0.5", "-1e300", "null", "true", "false", "\"5\"", "\"\"", "[]",
        "[5]", "{}",
    ] {
        assert_eq!(millis(value), None, "{value}");
    }
    // What is wrong with the channels is said first.
    let both = directed(r#"{"channels":5,"expires_in":0}"#)
        .deaf
        .expect("a reason");
    assert!(both.starts_with("'channels'"), "{both}");
    // These are no JSON, so that there is no answer to go by.
    for value in ["1e999", "NaN", "Infinity", "+1", "01", ".5"] {
        let found = directed(&format!("{{\"expires_in\":{value}}}"));
        assert!(found.problem.is_some() && found.deaf.is_none(), "{value}");
    }
    let twice = directed(r#"{"expires_in":5,"expires_in":5}"#);
    assert!(twice.problem.is_some() && twice.expires_in.is_none());
}

#[test]
fn an_answers_event_lives_without_an_id_a_key_or_a_delay_that_is_wrong() {
    let read = |field: &str, value: &str| {
        let body = format!(
            r#"{{"event":{{"name":"n","data":"d","{field}":{value}}},"close":true,"channels":["c"]}}"#
        );
        let found = directed(&body);
        assert!(found.close && found.deaf.is_none(), "{body}");
        assert_eq!(found.channels(), ["c"]);
        let is_named = |problem: &str| problem.starts_with(&format!("'event.{field}'"));
        assert!(found.problem.is_none_or(is_named), "{body}");
        let event = found.event.expect(&body);
        assert_eq!((&*event.name, &*event.data), ("n", "d"));
        let has_it = event.id.is_some() || event.retry.is_some() || event.key.is_some();
        assert_eq!(has_it, found.problem.is_none(), "{body}");
        event
    };
    for (word, is_id, is_key) in words() {
        assert_eq!(read("id", &word).id.is_some(), is_id, "{word}");
        assert_eq!(read("key", &word).key.is_some(), is_key, "{word}");
    }
    for (value, retry) in DELAYS {
        assert_eq!(read("retry", value).retry, *retry, "{value}");
    }
    // One is wrong, the others count.
    let body = r#"{"event":{"data":"","id":"a b","retry":5,"key":"k"}}"#;
    let expected = Event {
        retry: Some(5),
        key: Some("k".into()),
        ..Event::default()
    };
    assert_eq!(directed(body).event, Some(Box::new(expected)));
}
