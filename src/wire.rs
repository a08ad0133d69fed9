//! The JSON of sends and of callbacks (contract, sections 2 to 4). Bytes to types and back, no
//! behaviour.

mod raw;

use std::borrow::Cow;

use raw::{Field, RawCommand};

/// The first step that a connect answer may direct (contract, section 2, step 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The event to send first.
    pub event: Option<Event>,
    /// Whether to close after it.
    pub close: bool,
    /// What was wrong with the body, for the log; the rest still counts.
    pub problem: Option<&'static str>,
}

/// One event as the backend gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type; empty for none.
    pub name: String,
    /// Its payload, lines still joined.
    pub data: String,
}

/// What `POST /internal/send` asks for (contract, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendCommand<'a> {
    /// The token as it was given; not yet known to be one.
    pub token: Cow<'a, str>,
    /// The event to send, as name and data.
    pub event: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// Whether to close the stream after it.
    pub close: bool,
}

/// Why a send command was refused, in the order in which it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Not a JSON object in UTF-8 without repeated fields.
    InvalidJson,
    /// `token` is absent, empty or not a string.
    TokenMissing,
    /// `event` is not an object.
    EventType,
    /// `event.data` is absent or not a string.
    EventDataMissing,
    /// `event.name` is not a string.
    EventNameType,
    /// `event.name` holds CR, LF or NUL.
    EventName,
    /// `close` is not a boolean.
    CloseType,
}

impl SendError {
    /// The answer's code, for programs.
    pub fn code(self) -> &'static str {
        match self {
            SendError::InvalidJson => "INVALID_JSON",
            SendError::TokenMissing => "INVALID_TOKEN_MISSING",
            SendError::EventType => "INVALID_EVENT_TYPE",
            SendError::EventDataMissing => "INVALID_EVENT_DATA_MISSING",
            SendError::EventNameType => "INVALID_EVENT_NAME_TYPE",
            SendError::EventName => "INVALID_EVENT_NAME",
            SendError::CloseType => "INVALID_CLOSE_TYPE",
        }
    }

    /// The answer's message, for people; it names the field.
    pub fn message(self) -> &'static str {
        match self {
            SendError::InvalidJson => {
                "The request body must be one JSON object in UTF-8, without repeated fields."
            }
            SendError::TokenMissing => "The field 'token' must be a string that is not empty.",
            SendError::EventType => "The field 'event' must be an object.",
            SendError::EventDataMissing => "The field 'event.data' must be a string.",
            SendError::EventNameType => "The field 'event.name' must be a string.",
            SendError::EventName => {
                "The field 'event.name' must not hold a carriage return, a line feed or a NUL."
            }
            SendError::CloseType => "The field 'close' must be true or false.",
        }
    }
}

/// Reads the body of a send.
pub fn send_command(body: &[u8]) -> Result<SendCommand<'_>, SendError> {
    let raw = raw::command(body).map_err(|_| SendError::InvalidJson)?;
    let token = match raw.token {
        Field::Is(token) if !token.is_empty() => token,
        _ => return Err(SendError::TokenMissing),
    };
    let event = match raw.event {
        Field::Absent => None,
        Field::WrongType => return Err(SendError::EventType),
        Field::Is(event) => {
            let Field::Is(data) = event.data else {
                return Err(SendError::EventDataMissing);
            };
            let name = match event.name {
                Field::Absent => Cow::Borrowed(""),
                Field::WrongType => return Err(SendError::EventNameType),
                Field::Is(name) if is_event_name(&name) => name,
                Field::Is(_) => return Err(SendError::EventName),
            };
            Some((name, data))
        }
    };
    let close = match raw.close {
        Field::Absent => false,
        Field::WrongType => return Err(SendError::CloseType),
        Field::Is(close) => close,
    };
    Ok(SendCommand {
        token,
        event,
        close,
    })
}

/// Reads the body of a callback's 2xx answer; `None` stands for a body that passed the size limit.
///
/// Never fails: what cannot be used counts as absent and is named in [`Directives::problem`]. An
/// empty body is no problem.
pub fn directives(body: Option<&[u8]>) -> Directives {
    let Some(body) = body else {
        return Directives::unusable("the body is larger than 1 MiB");
    };
    if body.is_empty() {
        return Directives::default();
    }
    match raw::command(body) {
        Ok(raw) => lenient(raw),
        Err(_) => Directives::unusable("the body is not a JSON object without repeated fields"),
    }
}

impl Directives {
    /// What an answer directs that could not be read, for this reason: nothing.
    pub fn unusable(problem: &'static str) -> Directives {
        Directives {
            problem: Some(problem),
            ..Directives::default()
        }
    }
}

fn lenient(raw: RawCommand<'_>) -> Directives {
    let mut directives = Directives::default();
    match raw.close {
        Field::Absent => {}
        Field::Is(close) => directives.close = close,
        Field::WrongType => directives.problem = Some("'close' is not true or false"),
    }
    match raw.event {
        Field::Absent => {}
        Field::WrongType => directives.problem = Some("'event' is not an object"),
        Field::Is(event) => {
            let name = match event.name {
                Field::Absent => String::new(),
                Field::Is(name) if is_event_name(&name) => name.into_owned(),
                Field::Is(_) => {
                    directives.problem = Some("'event.name' holds CR, LF or NUL");
                    String::new()
                }
                Field::WrongType => {
                    directives.problem = Some("'event.name' is not a string");
                    String::new()
                }
            };
            match event.data {
                Field::Is(data) => {
                    let data = data.into_owned();
                    directives.event = Some(Event { name, data });
                }
                _ => directives.problem = Some("'event.data' is not a string"),
            }
        }
    }
    directives
}

/// No name may end its field or be cut short by a reader.
fn is_event_name(name: &str) -> bool {
    !name.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> SendError {
        send_command(body.as_bytes()).expect_err(body)
    }

    #[test]
    fn a_whole_command() {
        let body = br#" {"token":"t","event":{"name":"n","data":"a\nb"},"close":true} "#;
        let command = send_command(body).unwrap();
        assert_eq!(command.token, "t");
        let (name, data) = command.event.unwrap();
        assert_eq!((&*name, &*data), ("n", "a\nb"));
        assert!(command.close);
    }

    #[test]
    fn optional_fields_and_unknown_ones() {
        let command = send_command(br#"{"x":[{"y":[1,2.5e3,null,"\ud83d\ude00"]}],"token":"t"}"#);
        let command = command.unwrap();
        assert_eq!(command.event, None);
        assert!(!command.close);
        let command = send_command(br#"{"token":"t","event":{"data":"","more":{}}}"#).unwrap();
        assert_eq!(command.event, Some(("".into(), "".into())));
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
            "{",
            "{\"token\":\"t\"",
            "{\"token\":\"t\"}x",
            "{\"token\":\"t\"}{}",
            "{'token':'t'}",
            "{\"token\":\"t\",}",
            "{\"token\":\"\\ud800\"}",
            "{\"token\":\"t\",\"x\":\"\\udc00\"}",
            "{\"token\":\"t\",\"x\":{\"\\ud800\":1}}",
            "{\"token\":\"t\",\"token\":\"t\"}",
            "{\"token\":\"t\",\"close\":false,\"close\":false}",
            "{\"token\":\"t\",\"event\":{\"data\":\"a\",\"data\":\"b\"}}",
            "{\"token\":\"t\",\"event\":{\"data\":\"a\"},\"event\":{\"data\":\"a\"}}",
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
        ] {
            assert_eq!(send_command(bytes), Err(SendError::InvalidJson));
        }
    }

    #[test]
    fn wrong_types_are_named_in_the_contracts_order() {
        use SendError::*;
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
            (
                r#"{"token":"t","event":{"data":1,"name":2}}"#,
                EventDataMissing,
            ),
            (
                r#"{"token":"t","event":{"data":{"a":1},"name":"\n"}}"#,
                EventDataMissing,
            ),
            (
                r#"{"token":"t","event":{"data":"x","name":null}}"#,
                EventNameType,
            ),
            (
                r#"{"token":"t","event":{"data":"x","name":{}},"close":1}"#,
                EventNameType,
            ),
            (
                r#"{"token":"t","event":{"data":"x","name":"a\nb"},"close":1}"#,
                EventName,
            ),
            (
                r#"{"token":"t","event":{"data":"x","name":"\r"}}"#,
                EventName,
            ),
            (
                r#"{"token":"t","event":{"data":"x","name":"\u0000"}}"#,
                EventName,
            ),
            (r#"{"token":"t","close":null}"#, CloseType),
            (r#"{"token":"t","close":"true"}"#, CloseType),
            (r#"{"token":"t","close":0}"#, CloseType),
        ];
        for (body, expected) in table {
            assert_eq!(refused(body), expected, "{body}");
        }
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let body = br#"{"token":"t","event":{"name":"n","data":"plain"}}"#;
        let command = send_command(body).unwrap();
        let (name, data) = command.event.unwrap();
        assert!(matches!(command.token, Cow::Borrowed(_)));
        assert!(matches!(name, Cow::Borrowed(_)) && matches!(data, Cow::Borrowed(_)));
    }

    #[test]
    fn directives_keep_what_can_be_used() {
        let event = |name: &str, data: &str| {
            Some(Event {
                name: name.to_owned(),
                data: data.to_owned(),
            })
        };
        let table = [
            ("", None, false, false),
            ("{}", None, false, false),
            (r#"{"other":{"a":[1]}}"#, None, false, false),
            (
                r#"{"event":{"name":"n","data":"d"},"close":true}"#,
                event("n", "d"),
                true,
                false,
            ),
            (r#"{"event":{"data":"d"}}"#, event("", "d"), false, false),
            ("OK", None, false, true),
            ("[]", None, false, true),
            (
                r#"{"close":1,"event":{"data":"d"}}"#,
                event("", "d"),
                false,
                true,
            ),
            (r#"{"close":true,"event":5}"#, None, true, true),
            (
                r#"{"event":{"name":3,"data":"d"},"close":true}"#,
                event("", "d"),
                true,
                true,
            ),
            (
                r#"{"event":{"name":"a\nb","data":"d"}}"#,
                event("", "d"),
                false,
                true,
            ),
            (r#"{"event":{"name":"n"},"close":true}"#, None, true, true),
            (r#"{"event":null,"close":null}"#, None, false, true),
            (r#"{"close":true,"close":true}"#, None, false, true),
        ];
        for (body, event, close, is_problem) in table {
            let directives = directives(Some(body.as_bytes()));
            assert_eq!(directives.event, event, "{body}");
            assert_eq!(directives.close, close, "{body}");
            assert_eq!(directives.problem.is_some(), is_problem, "{body}");
        }
        assert!(directives(None).problem.is_some());
    }
}
