//! The JSON of sends and of callbacks (contract, sections 2 to 4, 11 and 12). Bytes to types and back,
//! no behaviour.

mod answer;
mod names;
mod raw;
mod send;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

pub use answer::directives;
pub use send::send_command;

/// The first step that a connect answer may direct (contract, section 2, step 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The event to send first.
    pub event: Option<Box<Event<'static>>>,
    /// Whether to close after it.
    pub close: bool,
    /// What the stream joins, and where it begins there; `None` when the answer tells neither.
    /// Most answers do not, and a stream's callback is kept until its client is served.
    pub joins: Option<Box<Joins>>,
    /// How long the stream lasts, whatever the settings say.
    pub expires_in: Option<Duration>,
    /// Why the stream may not open although the backend accepts it: its `channels` or its
    /// `expires_in` cannot be used. A sentence for the log.
    pub deaf: Option<&'static str>,
    /// What was wrong with the body, for the log; the rest still counts.
    pub problem: Option<&'static str>,
}

/// What a connect answer tells about channels (contract, sections 11 and 12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joins {
    /// The channels that the stream joins, each once, at most 1,000.
    pub channels: Vec<String>,
    /// Where it begins in them, whatever the client says: any text, also the empty one.
    pub last_event_id: Option<String>,
}

impl Directives {
    /// The channels that the stream joins, each once (contract, section 11).
    pub fn channels(&self) -> &[String] {
        self.joins.as_ref().map_or(&[], |joins| &joins.channels)
    }
}

/// One event as the backend gives it (contract, sections 4, 11 and 12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's type; empty for none. Without CR, LF and NUL.
    pub name: Cow<'a, str>,
    /// Its payload, lines still joined.
    pub data: Cow<'a, str>,
    /// What a client that comes again names as the last that it has seen: 1 to 200 bytes of 0x21 to
    /// 0x7E, not `earliest`.
    pub id: Option<Cow<'a, str>>,
    /// How long the client waits before it comes again, in milliseconds; at most a day.
    pub retry: Option<u32>,
    /// Takes out an earlier event of the same key that is unsent: 1 to 200 bytes of 0x21 to 0x7E.
    pub key: Option<Cow<'a, str>>,
    /// Whether it becomes the current value of the channels that it is for (contract, section 12).
    pub retain: bool,
}

/// What a send is checked against, besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many channels one stream may be in, at most 1,000 (contract, section 11).
    pub max_channels: usize,
    /// Whether past events are kept: no event may bring an id of its own then (contract, section
    /// 12).
    pub has_history: bool,
}

/// What `POST /internal/send` asks for (contract, sections 4, 11 and 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendCommand<'a> {
    /// Whom it is for.
    pub target: Target<'a>,
    /// The event to send.
    pub event: Option<Event<'a>>,
    /// Whether to close every receiver's stream after it.
    pub close: bool,
}

/// Whom a send is for (contract, section 11). Tokens are as they were given, not yet known to be
/// some; names of channels are valid ones. A list holds each name once, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// One stream, and how its channels change first: what it leaves, then what it joins.
    Token {
        /// Not empty.
        token: Cow<'a, str>,
        /// At most 1,000.
        unsubscribe: Vec<Cow<'a, str>>,
        /// At most as many as a stream may be in.
        subscribe: Vec<Cow<'a, str>>,
        /// Where it begins in what it joins: any text, also the empty one (contract, section 12).
        /// `None` when it joins nothing.
        last_event_id: Option<Cow<'a, str>>,
    },
    /// The streams with these tokens, at most 1,000.
    Tokens(Vec<Cow<'a, str>>),
    /// Whoever is in one of these channels, at most 64.
    Channels(Vec<Cow<'a, str>>),
    /// Every stream.
    Broadcast,
}

impl Target<'_> {
    /// Its kind, as metrics name it.
    pub fn name(&self) -> &'static str {
        match self {
            Target::Token { .. } => "token",
            Target::Tokens(_) => "tokens",
            Target::Channels(_) => "channels",
            Target::Broadcast => "broadcast",
        }
    }
}

/// Why a send command was refused, in the order in which it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Not a JSON object in UTF-8 without repeated fields.
    InvalidJson,
    /// No target at all, or `token` alone and empty or not a string.
    TokenMissing,
    /// Two targets, one of a wrong type or too long, or channels changed without `token`.
    InvalidTarget,
    /// A name that no channel can have, or too many of them to join or leave.
    InvalidChannel,
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
    /// `event.id` is none, or is there although the gateway gives the ids, or `last_event_id` is no
    /// string.
    EventId,
    /// `event.retry` is none.
    EventRetry,
    /// `event.key` is none.
    EventKey,
    /// `event.retain` is not a boolean, or is true without a channel.
    EventRetain,
}

impl SendError {
    /// The answer's code, for programs.
    pub fn code(self) -> &'static str {
        match self {
            SendError::InvalidJson => "INVALID_JSON",
            SendError::TokenMissing => "INVALID_TOKEN_MISSING",
            SendError::InvalidTarget => "INVALID_TARGET",
            SendError::InvalidChannel => "INVALID_CHANNEL",
            SendError::EventType => "INVALID_EVENT_TYPE",
            SendError::EventDataMissing => "INVALID_EVENT_DATA_MISSING",
            SendError::EventNameType => "INVALID_EVENT_NAME_TYPE",
            SendError::EventName => "INVALID_EVENT_NAME",
            SendError::CloseType => "INVALID_CLOSE_TYPE",
            SendError::EventId => "INVALID_EVENT_ID",
            SendError::EventRetry => "INVALID_EVENT_RETRY",
            SendError::EventKey => "INVALID_EVENT_KEY",
            SendError::EventRetain => "INVALID_EVENT_RETAIN",
        }
    }

    /// The answer's message, for people; it names the field.
    pub fn message(self) -> &'static str {
        match self {
            SendError::InvalidJson => {
                "The request body must be one JSON object in UTF-8, without repeated fields."
            }
            SendError::TokenMissing => "The field 'token' must be a string that is not empty.",
            SendError::InvalidTarget => {
                "Exactly one of the fields 'token' (string), 'tokens' (at most 1000 strings), \
                 'channel' (string), 'channels' (at most 64 strings) and 'broadcast' (true) must be \
                 there; 'subscribe' and 'unsubscribe' need 'token'."
            }
            SendError::InvalidChannel => {
                "A channel's name, in the fields 'channel', 'channels', 'unsubscribe' (array of at \
                 most 1000) and 'subscribe' (array of at most as many as a stream may be in), must \
                 be a string of 1 to 200 bytes from 0x21 to 0x7E, without quote and backslash."
            }
            SendError::EventType => "The field 'event' must be an object.",
            SendError::EventDataMissing => "The field 'event.data' must be a string.",
            SendError::EventNameType => "The field 'event.name' must be a string.",
            SendError::EventName => {
                "The field 'event.name' must not hold a carriage return, a line feed or a NUL."
            }
            SendError::CloseType => "The field 'close' must be true or false.",
            SendError::EventId => {
                "The field 'event.id' must be a string of 1 to 200 bytes from 0x21 to 0x7E, and not \
                 'earliest'; with HISTORY_BYTES set the gateway gives the ids, and it must not be \
                 there. The field 'last_event_id' must be a string."
            }
            SendError::EventRetry => {
                "The field 'event.retry' must be an integer from 0 to 86400000, in milliseconds."
            }
            SendError::EventKey => {
                "The field 'event.key' must be a string of 1 to 200 bytes from 0x21 to 0x7E."
            }
            SendError::EventRetain => {
                "The field 'event.retain' must be true or false, and true only beside 'channel' or \
                 'channels'."
            }
        }
    }
}

/// Appends `text` as a JSON string.
pub fn push_string(json: &mut String, text: &str) {
    // A string can always be written.
    json.push_str(&serde_json::to_string(text).unwrap_or_default());
}
