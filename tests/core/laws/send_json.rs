//! Send commands: accepted and refused as a reader of the whole JSON document would, and what is
//! accepted reads the same when it is written anew.

use ssegateway::wire::{directives, send_command};

use super::oracles::command::{self, Command};

/// Checks one body.
pub fn run(data: &[u8]) {
    let found = send_command(data);
    let expected = command::read(data);
    let plain = match &found {
        Ok(found) => Ok(Command {
            token: found.token.to_string(),
            event: found
                .event
                .as_ref()
                .map(|(name, data)| (name.to_string(), data.to_string())),
            close: found.close,
        }),
        Err(error) => Err(error.code()),
    };
    assert_eq!(plain, expected);
    check_directives(data, &expected);
    if let Ok(Command {
        token,
        event,
        close,
    }) = expected
    {
        let mut value = serde_json::json!({ "token": token, "close": close });
        if let Some((name, data)) = event {
            value["event"] = serde_json::json!({ "name": name, "data": data });
        }
        assert_eq!(send_command(value.to_string().as_bytes()), found);
    }
}

/// A connect answer never fails, and where a send would pass it directs the same.
fn check_directives(data: &[u8], command: &Result<Command, &'static str>) {
    let directives = directives(Some(data));
    if let Ok(command) = command {
        let event = directives.event.map(|event| (event.name, event.data));
        assert_eq!((&event, directives.close), (&command.event, command.close));
        assert_eq!(directives.problem, None);
    } else if let Some(event) = directives.event {
        assert!(!event.name.contains(['\r', '\n', '\0']));
    }
}
