//! Tables for what the history adds: where a stream begins, whose the ids are, and current values
//! (contract, section 12).

use super::*;

const WITH_HISTORY: Rules = Rules {
    has_history: true,
    ..RULES
};

/// What a field that wants a string may not hold.
const NO_STRINGS: &[&str] = &["5", "0", "true", "false", "[]", "[\"1-1\"]", "{}"];

/// Where the stream of a send begins in what it joins.
fn begin(body: &str) -> Option<Cow<'_, str>> {
    match read(body).target {
        Target::Token { last_event_id, .. } => last_event_id,
        _ => None,
    }
}

#[test]
fn where_a_stream_begins_is_any_text() {
    for text in ["", "1795000000123-7", "earliest", "nonsense", "a b\n\0é"] {
        let quoted = serde_json::json!(text);
        let body = format!(r#"{{"token":"t","last_event_id":{quoted},"subscribe":["a"]}}"#);
        assert_eq!(begin(&body).as_deref(), Some(text), "{body}");
    }
    let long = "x".repeat(5000);
    let body = format!(r#"{{"token":"t","subscribe":["a"],"last_event_id":"{long}"}}"#);
    assert_eq!(begin(&body).as_deref(), Some(&*long));
}

#[test]
fn where_a_stream_begins_is_of_no_use_without_a_channel_to_begin_in() {
    for rest in [
        r#""token":"t""#,
        r#""token":"t","subscribe":null"#,
        r#""token":"t","subscribe":[]"#,
        r#""token":"t","unsubscribe":["a"]"#,
        r#""tokens":["t"]"#,
        r#""channel":"c""#,
        r#""channels":["c"]"#,
        r#""broadcast":true"#,
    ] {
        let plain = format!("{{{rest}}}");
        for value in ["\"1-1\"", "null"] {
            let body = format!(r#"{{{rest},"last_event_id":{value}}}"#);
            assert_eq!(read(&body), read(&plain), "{body}");
            assert_eq!(begin(&body), None, "{body}");
        }
        for value in NO_STRINGS {
            let body = format!(r#"{{"last_event_id":{value},{rest}}}"#);
            assert_eq!(refused(&body), SendError::EventId, "{body}");
        }
    }
    let body = r#"{"token":"t","subscribe":["a"],"last_event_id":null}"#;
    assert_eq!(begin(body), None);
    for value in NO_STRINGS {
        let body = format!(r#"{{"token":"t","subscribe":["a"],"last_event_id":{value}}}"#);
        assert_eq!(refused(&body), SendError::EventId, "{body}");
    }
}

#[test]
fn what_the_history_adds_is_checked_in_its_order() {
    use SendError::*;
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        (r#"{"last_event_id":5}"#, TokenMissing),
        (r#"{"last_event_id":5,"broadcast":false}"#, InvalidTarget),
        (r#"{"last_event_id":5,"token":"t","subscribe":[""]}"#, InvalidChannel),
        (r#"{"last_event_id":5,"token":"t","event":{}}"#, EventDataMissing),
        (r#"{"last_event_id":5,"token":"t","close":1}"#, CloseType),
        (r#"{"last_event_id":5,"token":"t","event":{"data":"","retry":""}}"#, EventId),
        (r#"{"token":"t","event":{"data":"","retain":1,"id":1}}"#, EventId),
        (r#"{"token":"t","event":{"data":"","retain":1,"retry":""}}"#, EventRetry),
        (r#"{"token":"t","event":{"data":"","retain":1,"key":""}}"#, EventKey),
        (r#"{"token":"t","event":{"data":"","retain":1}}"#, EventRetain),
        (r#"{"token":"t","event":{"retain":1}}"#, EventDataMissing),
        (r#"{"channel":"c","event":{"data":"","retain":1},"close":1}"#, CloseType),
        (r#"{"channel":"","event":{"data":"","retain":1}}"#, InvalidChannel),
    ];
    for (body, expected) in table {
        assert_eq!(refused(body), expected, "{body}");
    }
}

#[test]
fn with_a_history_no_event_brings_an_id() {
    let targets = [
        r#""token":"t""#,
        r#""tokens":[]"#,
        r#""channel":"c""#,
        r#""channels":["c"]"#,
        r#""broadcast":true"#,
    ];
    fn ruled(body: &str) -> Result<SendCommand<'_>, SendError> {
        send_command(body.as_bytes(), WITH_HISTORY)
    }
    for target in targets {
        for id in ["\"i\"", "\"1-1\"", "\"earliest\"", "\"\"", "null", "5"] {
            let body = format!(r#"{{{target},"event":{{"data":"","id":{id},"retry":"x"}}}}"#);
            assert_eq!(ruled(&body), Err(SendError::EventId), "{body}");
            let body = format!(r#"{{{target},"event":{{"data":"","id":{id}}},"close":1}}"#);
            assert_eq!(ruled(&body), Err(SendError::CloseType), "{body}");
        }
        // All else is as it was.
        let body = format!(
            r#"{{{target},"id":"i","event":{{"data":"d","name":"n","retry":5,"key":"k"}},"close":true}}"#
        );
        assert_eq!(ruled(&body), Ok(read(&body)), "{body}");
    }
}

#[test]
fn current_values_are_for_channels() {
    let kept = |body: &str| {
        let command = send_command(body.as_bytes(), RULES);
        command.map(|command| command.event.expect("an event").retain)
    };
    for (target, has_channels) in [
        (r#""token":"t""#, false),
        (r#""token":"t","subscribe":["a"]"#, false),
        (r#""tokens":["t"]"#, false),
        (r#""broadcast":true"#, false),
        (r#""channel":"c""#, true),
        (r#""channels":["c","d"]"#, true),
        (r#""channels":[]"#, true),
        (r#""channel":null,"channels":["c"],"token":null"#, true),
    ] {
        let body = |value: &str| format!(r#"{{{target},"event":{{"data":"","retain":{value}}}}}"#);
        assert_eq!(kept(&body("false")), Ok(false), "{target}");
        let expected = match has_channels {
            true => Ok(true),
            false => Err(SendError::EventRetain),
        };
        assert_eq!(kept(&body("true")), expected, "{target}");
        for value in ["null", "0", "1", "\"true\"", "[]", "[true]", "{}"] {
            assert_eq!(
                kept(&body(value)),
                Err(SendError::EventRetain),
                "{target} {value}"
            );
        }
        let body = format!(r#"{{{target},"event":{{"data":""}}}}"#);
        assert_eq!(kept(&body), Ok(false), "{target}");
    }
}

#[test]
fn an_answer_says_where_its_stream_begins() {
    let joins = |channels: &[&str], begin: Option<&str>| Joins {
        channels: channels.iter().map(|name| (*name).to_owned()).collect(),
        last_event_id: begin.map(str::to_owned),
    };
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        (r#"{}"#, None),
        (r#"{"last_event_id":null}"#, None),
        (r#"{"last_event_id":null,"channels":[]}"#, None),
        (r#"{"channels":["a"]}"#, Some(joins(&["a"], None))),
        (r#"{"last_event_id":null,"channels":["a"]}"#, Some(joins(&["a"], None))),
        (r#"{"last_event_id":"","channels":["a"]}"#, Some(joins(&["a"], Some("")))),
        (r#"{"channels":["b","a"],"last_event_id":"1-\u0031"}"#, Some(joins(&["b", "a"], Some("1-1")))),
        // The channels may be those that were joined during the callback.
        (r#"{"last_event_id":"earliest"}"#, Some(joins(&[], Some("earliest")))),
        (r#"{"last_event_id":"a b\n"}"#, Some(joins(&[], Some("a b\n")))),
    ];
    for (body, expected) in table {
        let found = directed(body);
        let channels = expected.as_ref().map_or(&[][..], |joins| &joins.channels);
        assert_eq!(found.channels(), channels, "{body}");
        assert_eq!(found.joins.as_deref(), expected.as_ref(), "{body}");
        assert_eq!((found.deaf, found.problem), (None, None), "{body}");
    }
    for value in NO_STRINGS {
        let body = format!(r#"{{"last_event_id":{value},"close":true,"channels":["a"]}}"#);
        let found = directed(&body);
        assert_eq!(found.joins.as_deref(), Some(&joins(&["a"], None)), "{body}");
        assert!(found.close && found.deaf.is_none(), "{body}");
        let problem = found.problem.expect(&body);
        assert!(problem.starts_with("'last_event_id'"), "{problem}");
        let found = directed(&format!(r#"{{"last_event_id":{value}}}"#));
        assert!(found.joins.is_none() && found.problem.is_some(), "{value}");
    }
    let twice = directed(r#"{"last_event_id":"1-1","close":true,"last_event_id":null}"#);
    assert!(!twice.close && twice.problem.is_some());
}

#[test]
fn an_answers_event_is_no_current_value() {
    for (value, is_problem) in [
        ("false", false),
        ("true", true),
        ("null", true),
        ("1", true),
        ("\"false\"", true),
        ("[]", true),
    ] {
        let body = format!(
            r#"{{"channels":["c"],"event":{{"name":"n","data":"d","retain":{value}}},"close":true}}"#
        );
        let found = directed(&body);
        assert_eq!(found.event, Some(Box::new(event("n", "d"))), "{body}");
        assert!(found.close, "{body}");
        assert_eq!(found.channels(), ["c"]);
        assert_eq!(found.problem.is_some(), is_problem, "{body}");
        let is_named = |problem: &str| problem.starts_with("'event.retain'");
        assert!(found.problem.is_none_or(is_named), "{body}");
    }
}

/// Results of thousands of callbacks may wait, most of which direct nothing.
#[test]
fn what_an_answer_directs_is_small() {
    assert!(size_of::<Directives>() <= 9 * size_of::<usize>());
}
