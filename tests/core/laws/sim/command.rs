//! What a publisher asks for, and its JSON.

use serde_json::{Value, json};

use super::super::oracles::event_stream::{self, Dispatched};

/// One send. Tokens are places in the world's list; `None` is one that nobody has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) target: Target,
    pub(crate) event: Option<Event>,
    pub(crate) close: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Token {
        token: Option<usize>,
        unsubscribe: Vec<&'static str>,
        subscribe: Vec<&'static str>,
    },
    /// With repeated ones.
    Tokens(Vec<Option<usize>>),
    Channel(&'static str),
    /// With repeated ones.
    Channels(Vec<&'static str>),
    Broadcast,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) data: String,
    pub(crate) id: Option<&'static str>,
    pub(crate) retry: Option<u32>,
    pub(crate) key: Option<&'static str>,
}

impl Event {
    /// What a reader makes of it.
    pub(crate) fn read(&self) -> Dispatched {
        Dispatched {
            name: self.name.to_owned(),
            data: event_stream::as_read(&self.data),
            id: self.id.unwrap_or_default().to_owned(),
            retry: self.retry.map(u64::from),
        }
    }

    /// How many bytes it takes on a stream (contract, section 5; RFC 9112, section 7.1).
    pub(crate) fn len(&self, is_old: bool) -> usize {
        let mut text = String::new();
        if !self.name.is_empty() {
            text += &format!("event: {}\n", self.name);
        }
        if let Some(id) = self.id {
            text += &format!("id: {id}\n");
        }
        if let Some(retry) = self.retry {
            text += &format!("retry: {retry}\n");
        }
        for line in event_stream::as_read(&self.data).split('\n') {
            text += &format!("data: {line}\n");
        }
        text += "\n";
        match is_old {
            true => text.len(),
            false => format!("{:x}\r\n{text}\r\n", text.len()).len(),
        }
    }

    fn json(&self) -> Value {
        let mut json = json!({ "name": self.name, "data": self.data });
        let more = [
            ("id", self.id.map(Value::from)),
            ("retry", self.retry.map(Value::from)),
            ("key", self.key.map(Value::from)),
        ];
        for (field, value) in more {
            if let Some(value) = value {
                json[field] = value;
            }
        }
        json
    }
}

impl Command {
    /// Its body; `name` gives a token's text.
    pub(crate) fn json(&self, name: impl Fn(Option<usize>) -> String) -> String {
        let mut body = json!({ "close": self.close });
        match &self.target {
            Target::Token {
                token,
                unsubscribe,
                subscribe,
            } => {
                body["token"] = name(*token).into();
                // An empty list is as good as none.
                for (field, names) in [("unsubscribe", unsubscribe), ("subscribe", subscribe)] {
                    if !names.is_empty() {
                        body[field] = names.clone().into();
                    }
                }
            }
            Target::Tokens(tokens) => {
                body["tokens"] = tokens.iter().map(|token| name(*token)).collect();
            }
            Target::Channel(channel) => body["channel"] = (*channel).into(),
            Target::Channels(channels) => body["channels"] = channels.clone().into(),
            Target::Broadcast => body["broadcast"] = true.into(),
        }
        if let Some(event) = &self.event {
            body["event"] = event.json();
        }
        body.to_string()
    }

    /// Whether it is for many.
    pub(crate) fn is_for_many(&self) -> bool {
        !matches!(self.target, Target::Token { .. })
    }

    /// Whether it brings anything to those for whom it is.
    pub(crate) fn is_something(&self) -> bool {
        self.event.is_some() || self.close
    }
}

/// Each once, in their order.
pub(crate) fn unique<T: Copy + PartialEq>(all: &[T]) -> Vec<T> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(one) {
            unique.push(*one);
        }
    }
    unique
}
