//! Send commands and connect answers: accepted and refused as a reader of the whole JSON document
//! would, and what is accepted reads the same when it is written anew.

use std::mem;
use std::time::Duration;

use serde_json::{Value, json};
use ssegateway::wire::{Event, Joins, Rules, SendCommand, Target, directives, send_command};

use super::oracles::command::{self, Answer};

/// How many channels a stream may be in: few enough for any input to pass it.
const MAX_CHANNELS: usize = 3;

/// Checks one body.
pub fn run(data: &[u8]) {
    check_send(data, true);
    check_directives(data, check_send(data, false));
}

fn check_send(data: &[u8], has_history: bool) -> Option<SendCommand<'static>> {
    let rules = Rules {
        max_channels: MAX_CHANNELS,
        has_history,
    };
    let found = send_command(data, rules);
    let expected = command::read(data, rules);
    assert_eq!(
        found.as_ref().map_err(|error| error.code()),
        expected.as_ref().map_err(|code| *code)
    );
    if let Ok(command) = &expected {
        let anew = written(command).to_string();
        assert_eq!(send_command(anew.as_bytes(), rules), found);
    }
    expected.ok()
}

fn written(command: &SendCommand<'_>) -> Value {
    let mut value = match &command.target {
        Target::Token {
            token,
            unsubscribe,
            subscribe,
            last_event_id,
        } => json!({
            "token": token,
            "unsubscribe": unsubscribe,
            "subscribe": subscribe,
            "last_event_id": last_event_id,
        }),
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
            retain,
        } = event;
        let mut fields = json!({ "name": name, "data": data, "retain": retain });
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
    let is_told = |joins: &Joins| !joins.channels.is_empty() || joins.last_event_id.is_some();
    assert!(found.joins.as_deref().is_none_or(is_told));
    let joins = found.joins.map(|joins| *joins).unwrap_or_default();
    let plain = Answer {
        event: found.event.map(|event| *event),
        close: found.close,
        channels: joins.channels,
        last_event_id: joins.last_event_id,
        expires_in: None,
        is_deaf: found.deaf.is_some(),
        has_problem: found.problem.is_some(),
    };
    let mut expected = command::answer(data);
    check_end(found.expires_in, expected.expires_in.take());
    assert_eq!(plain, expected);
    if let Some(command) = command.filter(|_| !command::has_end(data)) {
        // What is for channels alone is none of an answer's.
        let mut event = command.event;
        let is_retained = event
            .as_mut()
            .is_some_and(|event| mem::take(&mut event.retain));
        assert_eq!((&plain.event, plain.close), (&event, command.close));
        assert!(plain.has_problem == is_retained && !plain.is_deaf);
    }
    assert!(plain.channels.is_empty() || !plain.is_deaf || command::has_end(data));
}

/// A stream's time, to the millisecond behind it; more than all time there is comes to that.
fn check_end(found: Option<Duration>, seconds: Option<f64>) {
    assert_eq!(found.is_some(), seconds.is_some());
    if let (Some(found), Some(seconds)) = (found, seconds) {
        let (found, exact) = (
            found.as_millis() as f64,
            (seconds * 1e3).min(u64::MAX as f64),
        );
        let slack = exact * 1e-9;
        let fits = (exact - slack..=exact + slack + 1.0).contains(&found);
        assert!(fits, "{found} ms for {seconds} s");
    }
}
