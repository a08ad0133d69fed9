//! Tables for sends to many, for channels joined and left, and for long lists (contract, section
//! 11).

use super::*;

/// `count` distinct names in JSON, from `first` on.
fn numbered(first: usize, count: usize) -> String {
    let names: Vec<_> = (first..first + count)
        .map(|n| format!("\"n{n}\""))
        .collect();
    names.join(",")
}

fn names(list: &[&str]) -> Vec<Cow<'static, str>> {
    list.iter()
        .map(|name| Cow::Owned(name.to_string()))
        .collect()
}

#[test]
fn each_target() {
    let table = [
        (r#"{"token":"t"}"#, one("t")),
        (
            r#"{"tokens":["a","b"]}"#,
            Target::Tokens(names(&["a", "b"])),
        ),
        (r#"{"tokens":[]}"#, Target::Tokens(Vec::new())),
        (
            r#"{"tokens":["a b",""]}"#,
            Target::Tokens(names(&["a b", ""])),
        ),
        (r#"{"channel":"c"}"#, Target::Channels(names(&["c"]))),
        (r#"{"channels":["c"]}"#, Target::Channels(names(&["c"]))),
        (
            r#"{"channels":["d","c"]}"#,
            Target::Channels(names(&["d", "c"])),
        ),
        (r#"{"channels":[]}"#, Target::Channels(Vec::new())),
        (r#"{"broadcast":true}"#, Target::Broadcast),
    ];
    for (body, expected) in table {
        assert_eq!(read(body).target, expected, "{body}");
        // Null stands for a field that is not there.
        for other in ["token", "tokens", "channel", "channels", "broadcast"] {
            if !body.contains(&format!("\"{other}\"")) {
                let body = body.replace('{', &format!("{{\"{other}\":null,"));
                assert_eq!(read(&body).target, expected, "{body}");
            }
        }
        for other in ["subscribe", "unsubscribe"] {
            let body = body.replace('{', &format!("{{\"{other}\":null,"));
            assert_eq!(read(&body).target, expected, "{body}");
        }
    }
}

#[test]
fn a_send_has_one_target_of_the_right_type() {
    let values = [
        ("token", r#""t""#),
        ("token", r#""""#),
        ("token", "5"),
        ("tokens", r#"["t"]"#),
        ("tokens", "[]"),
        ("channel", r#""c""#),
        ("channel", "[]"),
        ("channels", r#"["c"]"#),
        ("broadcast", "true"),
        ("broadcast", "false"),
    ];
    for (name, value) in values {
        for (other, second) in values.iter().filter(|(other, _)| *other != name) {
            let body = format!(r#"{{"{name}":{value},"{other}":{second},"event":5}}"#);
            assert_eq!(refused(&body), SendError::InvalidTarget, "{body}");
        }
    }
    let wrong = [
        (
            r#""tokens""#,
            r#""t" 5 true {} [5] ["t",null] ["t",["u"]] ["t",{}]"#,
        ),
        (r#""channel""#, r#"5 true {} [] ["c"]"#),
        (
            r#""channels""#,
            r#""c" 5 true {} [5] ["c",null] ["c",["d"]] ["é",5]"#,
        ),
        (r#""broadcast""#, r#"false 0 1 "true" [] {}"#),
    ];
    for (name, values) in wrong {
        for value in values.split(' ') {
            let body = format!(r#"{{{name}:{value},"event":5}}"#);
            assert_eq!(refused(&body), SendError::InvalidTarget, "{body}");
        }
    }
}

#[test]
fn channels_change_beside_a_token_alone() {
    for changes in [
        r#""subscribe":["a"]"#,
        r#""unsubscribe":[]"#,
        r#""subscribe":5"#,
        r#""unsubscribe":["é"]"#,
        r#""subscribe":null,"unsubscribe":[]"#,
    ] {
        for target in [
            r#""token":null"#,
            r#""tokens":["t"]"#,
            r#""channel":"c""#,
            r#""channels":["c"]"#,
            r#""broadcast":true"#,
        ] {
            for body in [
                format!("{{{changes},{target}}}"),
                format!("{{{target},{changes}}}"),
                format!("{{{changes}}}"),
            ] {
                assert_eq!(refused(&body), SendError::InvalidTarget, "{body}");
            }
        }
        // A token that is none is what is wrong then.
        let body = format!("{{\"token\":\"\",{changes}}}");
        assert_eq!(refused(&body), SendError::TokenMissing, "{body}");
    }
    for body in [
        r#"{"subscribe":null}"#,
        r#"{"subscribe":null,"token":null,"unsubscribe":null,"channels":null}"#,
    ] {
        assert_eq!(refused(body), SendError::TokenMissing, "{body}");
    }
    let body = r#"{"subscribe":["a","b","a"],"token":"t","unsubscribe":["b","c","d","e","c"]}"#;
    let expected = Target::Token {
        token: "t".into(),
        unsubscribe: names(&["b", "c", "d", "e"]),
        subscribe: names(&["a", "b"]),
        last_event_id: None,
    };
    assert_eq!(read(body).target, expected);
    let body = r#"{"subscribe":[],"token":"t","unsubscribe":null}"#;
    assert_eq!(read(body).target, one("t"));
}

/// What may be the name of a channel, in JSON.
fn good_names() -> Vec<String> {
    let mut names: Vec<_> = (0x21..=0x7e)
        .filter(|byte| !matches!(byte, b'"' | b'\\'))
        .map(|byte: u8| format!("\"{}\"", char::from(byte)))
        .collect();
    names.extend([
        format!("\"{}\"", "x".repeat(200)),
        "\"\\u0061\\/b\"".to_owned(),
        "\"earliest\"".to_owned(),
        "\"user.42\"".to_owned(),
    ]);
    names
}

#[rustfmt::skip] // A table is read in columns.
const BAD_NAMES: &[&str] = &[
    r#""""#, r#"" ""#, r#""a b""#, r#""a ""#, r#""\"""#, r#""a\\b""#, r#""\u0022""#, r#""\n""#, r#""\u0000""#,
    "\"\u{7f}\"", "\"\u{80}\"", "\"é\"", "\"😀\"",
];

#[test]
fn names_of_channels() {
    let long = format!("\"{}\"", "x".repeat(201));
    let bad = || BAD_NAMES.iter().copied().chain([&*long]);
    for name in good_names() {
        for body in [
            format!("{{\"channel\":{name}}}"),
            format!("{{\"channels\":[\"a\",{name}]}}"),
            format!("{{\"token\":\"t\",\"subscribe\":[{name},\"a\"]}}"),
            format!("{{\"token\":\"t\",\"unsubscribe\":[{name}]}}"),
        ] {
            read(&body);
        }
        let answer = directed(&format!("{{\"channels\":[{name}]}}"));
        assert_eq!((answer.channels().len(), answer.deaf), (1, None), "{name}");
    }
    for name in bad() {
        for body in [
            format!("{{\"channel\":{name},\"event\":5}}"),
            format!("{{\"channels\":[\"a\",{name}],\"event\":5}}"),
            format!("{{\"token\":\"t\",\"subscribe\":[{name},\"a\"],\"event\":5}}"),
            format!("{{\"token\":\"t\",\"unsubscribe\":[\"a\",{name}],\"close\":5}}"),
        ] {
            assert_eq!(refused(&body), SendError::InvalidChannel, "{body}");
        }
        let answer = directed(&format!("{{\"channels\":[\"a\",{name}],\"close\":true}}"));
        assert!(
            answer.deaf.is_some() && answer.channels().is_empty(),
            "{name}"
        );
    }
    // What is joined or left has no type of its own to be wrong.
    for value in ["\"a\"", "5", "true", "{}", "[5]", "[\"a\",null]", "[[]]"] {
        for field in ["subscribe", "unsubscribe"] {
            let body = format!("{{\"token\":\"t\",\"{field}\":{value},\"event\":5}}");
            assert_eq!(refused(&body), SendError::InvalidChannel, "{body}");
        }
    }
}

#[test]
fn lists_are_bounded_and_repeated_names_count_once() {
    // Field, most names, what more of them are.
    let table = [
        ("\"tokens\"", 1000, SendError::InvalidTarget),
        ("\"channels\"", 64, SendError::InvalidTarget),
        (
            "\"token\":\"t\",\"unsubscribe\"",
            1000,
            SendError::InvalidChannel,
        ),
        (
            "\"token\":\"t\",\"subscribe\"",
            CHANNELS,
            SendError::InvalidChannel,
        ),
    ];
    for (field, most, error) in table {
        let full = numbered(0, most);
        let repeated = format!("{{{field}:[{full},{full},\"\\u006e0\",{full}]}}");
        let found = match read(&repeated).target {
            Target::Tokens(found) | Target::Channels(found) => found,
            Target::Token {
                mut unsubscribe,
                subscribe,
                ..
            } => {
                unsubscribe.extend(subscribe);
                unsubscribe
            }
            Target::Broadcast => panic!("{field}"),
        };
        let expected: Vec<_> = (0..most).map(|n| format!("n{n}")).collect();
        assert_eq!(found, expected, "{field}");
        for more in [1, 2, 3000] {
            let body = format!("{{{field}:[{full},{full},{}]}}", numbered(most, more));
            assert_eq!(refused(&body), error, "{field}");
        }
        // However long it is, it has to be JSON.
        let body = format!("{{{field}:[{full},{},01]}}", numbered(most, 1));
        assert_eq!(refused(&body), SendError::InvalidJson, "{field}");
        let body = format!("{{{field}:[{full},{},5]}}", numbered(most, 1));
        assert_eq!(refused(&body), error, "{field}");
    }
    let most = format!("{{\"token\":\"t\",\"subscribe\":[{}]}}", numbered(0, 1000));
    let rules = |max_channels| Rules {
        max_channels,
        ..RULES
    };
    assert!(send_command(most.as_bytes(), rules(1000)).is_ok());
    let most = most.replace("]", ",\"more\"]");
    let found = send_command(most.as_bytes(), rules(usize::MAX));
    assert_eq!(found, Err(SendError::InvalidChannel));
}

#[test]
fn an_answers_channels_are_taken_whole_or_the_stream_is_deaf() {
    let table: &[(&str, Option<&[&str]>)] = &[
        ("null", Some(&[])),
        ("[]", Some(&[])),
        (r#"["b","a","b"]"#, Some(&["b", "a"])),
        (r#""a""#, None),
        ("5", None),
        ("true", None),
        ("{}", None),
        (r#"["a",5]"#, None),
        (r#"["a",null]"#, None),
        (r#"["a",["b"]]"#, None),
    ];
    for (value, expected) in table {
        let body = format!(r#"{{"channels":{value},"event":{{"data":"d"}},"close":true}}"#);
        let found = directed(&body);
        assert_eq!(found.deaf.is_some(), expected.is_none(), "{body}");
        assert_eq!(found.channels(), expected.unwrap_or(&[]), "{body}");
        assert_eq!(found.problem, None, "{body}");
        assert!(found.close && found.event == Some(Box::new(event("", "d"))));
    }
    let full = numbered(0, 1000);
    let found = directed(&format!("{{\"channels\":[{full},{full}]}}"));
    assert_eq!((found.channels().len(), found.deaf), (1000, None));
    let found = directed(&format!("{{\"channels\":[{full},\"more\"]}}"));
    assert!(found.channels().is_empty() && found.deaf.is_some());
    // What is no usable object at all opens.
    for body in [
        r#"{"channels":5,"channels":5}"#,
        r#"{"channels":[01]}"#,
        r#"["channels"]"#,
        "channels",
    ] {
        let found = directed(body);
        assert!(found.deaf.is_none() && found.problem.is_some(), "{body}");
    }
}
