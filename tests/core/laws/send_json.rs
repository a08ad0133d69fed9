//! Send commands and connect answers: accepted and refused as a reader of the whole JSON document
//! would, and what is accepted reads the same when it is written anew.

use serde_json::{Value, json};
use ssegateway::wire::{Event, SendCommand, Target, directives, send_command};

use super::oracles::command::{self, Answer};

/// How many channels a stream may be in: few enough for any input to pass it.
const MAX_CHANNELS: usize = 3;

/// Checks one body.
pub fn run(data: &[u8]) {
    let found = send_command(data, MAX_CHANNELS);
    let expected = command::read(data, MAX_CHANNELS);
    assert_eq!(
        found.as_ref().map_err(|error| error.code()),
        expected.as_ref().map_err(|code| *code)
    );
    if let Ok(command) = &expected {
        let anew = written(command).to_string();
        assert_eq!(send_command(anew.as_bytes(), MAX_CHANNELS), found);
    }
    check_directives(data, expected.ok());
}

fn written(command: &SendCommand<'_>) -> Value {
    let mut value = match &command.target {
        Target::Token {
            token,
            unsubscribe,
            subscribe,
        } => json!({ "token": token, "unsubscribe": unsubscribe, "subscribe": subscribe }),
        Target::Tokens(tokens) => json!({ "tokens": tokens }),
        Target::Channels(channels) => json!({ "channels": channels }),
        Target::Broadcast => json!({ "broadcast": true }),
    };
    value["close"] = json!(command.close);
    if let Some(event) = &command.event {
        let Event {
            name,
            data,
            id,
            retry,
            key,
        } = event;
        let mut fields = json!({ "name": name, "data": data });
        let more = [
            ("id", json!(id)),
            ("retry", json!(retry)),
            ("key", json!(key)),
        ];
        for (name, value) in more.into_iter().filter(|(_, value)| !value.is_null()) {
            fields[name] = value;
        }
        value["event"] = fields;
    }
    value
}

/// A connect answer never fails, and where a send would pass it directs the same.
fn check_directives(data: &[u8], command: Option<SendCommand<'_>>) {
    let found = directives(Some(data));
    let plain = Answer {
        event: found.event.map(|event| *event),
        close: found.close,
        channels: found.channels,
        is_deaf: found.deaf.is_some(),
        has_problem: found.problem.is_some(),
    };
    assert_eq!(plain, command::answer(data));
    if let Some(command) = command {
        assert_eq!((&plain.event, plain.close), (&command.event, command.close));
        assert!(!plain.has_problem && !plain.is_deaf);
    }
    assert!(plain.channels.is_empty() || !plain.is_deaf);
}
