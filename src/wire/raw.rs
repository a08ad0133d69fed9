//! JSON commands as they come: which fields are there, and whether each has its type.
//!
//! Strict where the contract is (nothing repeated, no lone surrogate or bad UTF-8 even in fields
//! that are ignored, bounded nesting) and free of copies where the text has no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::names::Names;

/// A field's value, as far as its type goes.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    /// The field is not there.
    #[default]
    Absent,
    /// It is `null`: a wrong type here, an absent field there.
    Null,
    /// It is there with another type.
    WrongType,
    /// It is there with its type.
    Is(T),
}

impl<T> Field<T> {
    /// The value of a field in which `null` stands for absence; `Err` for one of another type.
    pub(super) fn given(self) -> Option<Result<T, WrongType>> {
        match self {
            Field::Absent | Field::Null => None,
            Field::WrongType => Some(Err(WrongType)),
            Field::Is(value) => Some(Ok(value)),
        }
    }
}

/// A value of another type than its field's.
#[derive(Debug)]
pub(super) struct WrongType;

/// The body of a send, or of a callback's answer, which uses some of its fields.
#[derive(Debug, Default)]
pub(super) struct RawCommand<'a> {
    pub(super) target: RawTarget<'a>,
    pub(super) unsubscribe: Field<Names<'a>>,
    pub(super) subscribe: Field<Names<'a>>,
    pub(super) event: Field<RawEvent<'a>>,
    pub(super) close: Field<bool>,
    pub(super) last_event_id: Field<Cow<'a, str>>,
    /// Of an answer alone.
    pub(super) expires_in: Field<f64>,
}

/// The fields of which a send has exactly one. An answer's `channels` are those of its stream.
#[derive(Debug, Default)]
pub(super) struct RawTarget<'a> {
    pub(super) token: Field<Cow<'a, str>>,
    pub(super) tokens: Field<Names<'a>>,
    pub(super) channel: Field<Cow<'a, str>>,
    pub(super) channels: Field<Names<'a>>,
    pub(super) broadcast: Field<bool>,
}

/// The object in the field `event`.
#[derive(Debug, Default)]
pub(super) struct RawEvent<'a> {
    pub(super) name: Field<Cow<'a, str>>,
    pub(super) data: Field<Cow<'a, str>>,
    pub(super) more: RawMore<'a>,
}

/// An event's fields that are checked after all others (contract, sections 11 and 12).
#[derive(Debug, Default)]
pub(super) struct RawMore<'a> {
    pub(super) id: Field<Cow<'a, str>>,
    pub(super) retry: Field<u64>,
    pub(super) key: Field<Cow<'a, str>>,
    pub(super) retain: Field<bool>,
}

/// The fields that are known in a callback's answer.
const OF_ANSWERS: [&str; 5] = ["event", "close", "channels", "last_event_id", "expires_in"];

/// Whose body it is, and which fields are known in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A send's: all but `expires_in`.
    Send,
    /// A callback's answer's: those of [`OF_ANSWERS`].
    Answer,
}

/// Reads one JSON object that fills `body`; `None` when it is anything else.
pub(super) fn command(body: &[u8], whose: Whose) -> Option<RawCommand<'_>> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut command = RawCommand::default();
    let value = Wanted::Command(&mut command, whose)
        .deserialize(&mut reader)
        .ok()?;
    reader.end().ok()?;
    matches!(value, Value::Taken).then_some(command)
}

/// What a JSON value is, as far as any field cares.
enum Value<'a> {
    Null,
    Bool(bool),
    /// Not below zero, without fraction and exponent.
    Integer(u64),
    /// Any other number.
    Float(f64),
    Text(Cow<'a, str>),
    /// The list or the object that was wanted, which is filled in.
    Taken,
    Other,
}

/// What to make of a list or an object. One reader for everything, as each would be a copy of all
/// that reads JSON.
enum Wanted<'s, 'a> {
    Nothing,
    Names(&'s mut Names<'a>),
    Event(&'s mut RawEvent<'a>),
    Command(&'s mut RawCommand<'a>, Whose),
}

impl<'de> DeserializeSeed<'de> for Wanted<'_, 'de> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_, 'de> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    // Below zero.
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value))
    }

    // With a fraction or an exponent, too large for the others, or `-0`.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut names = match self {
            Wanted::Names(names) => Some(names),
            _ => None,
        };
        let mut value = match names {
            Some(_) => Value::Taken,
            None => Value::Other,
        };
        while let Some(item) = seq.next_element_seed(Wanted::Nothing)? {
            match (&mut names, item) {
                (Some(names), Value::Text(name)) => names.take(name),
                _ => value = Value::Other,
            }
        }
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        match self {
            Wanted::Event(event) => take_event(event, &mut map)?,
            Wanted::Command(command, whose) => take_command(command, whose, &mut map)?,
            Wanted::Nothing | Wanted::Names(_) => {
                while key(&mut map)?.is_some() {
                    map.next_value_seed(Wanted::Nothing)?;
                }
                return Ok(Value::Other);
            }
        }
        Ok(Value::Taken)
    }
}

fn take_command<'de, A: MapAccess<'de>>(
    command: &mut RawCommand<'de>,
    whose: Whose,
    map: &mut A,
) -> Result<(), A::Error> {
    let target = &mut command.target;
    while let Some(key) = key(map)? {
        match &*key {
            key if whose == Whose::Answer && !OF_ANSWERS.contains(&key) => {
                map.next_value_seed(Wanted::Nothing)?;
            }
            "token" => text(&mut target.token, map)?,
            "tokens" => names(&mut target.tokens, map)?,
            "channel" => text(&mut target.channel, map)?,
            "channels" => names(&mut target.channels, map)?,
            "broadcast" => boolean(&mut target.broadcast, map)?,
            "unsubscribe" => names(&mut command.unsubscribe, map)?,
            "subscribe" => names(&mut command.subscribe, map)?,
            "event" => {
                let mut event = RawEvent::default();
                let value = once(&command.event, Wanted::Event(&mut event), map)?;
                command.event = taken(value, event);
            }
            "close" => boolean(&mut command.close, map)?,
            "last_event_id" => text(&mut command.last_event_id, map)?,
            "expires_in" if whose == Whose::Answer => {
                command.expires_in = match once(&command.expires_in, Wanted::Nothing, map)? {
                    Value::Integer(seconds) => Field::Is(seconds as f64),
                    Value::Float(seconds) => Field::Is(seconds),
                    value => other(&value),
                }
            }
            _ => {
                map.next_value_seed(Wanted::Nothing)?;
            }
        }
    }
    Ok(())
}

fn take_event<'de, A: MapAccess<'de>>(
    event: &mut RawEvent<'de>,
    map: &mut A,
) -> Result<(), A::Error> {
    while let Some(key) = key(map)? {
        match &*key {
            "name" => text(&mut event.name, map)?,
            "data" => text(&mut event.data, map)?,
            "id" => text(&mut event.more.id, map)?,
            "retry" => {
                event.more.retry = match once(&event.more.retry, Wanted::Nothing, map)? {
                    Value::Integer(retry) => Field::Is(retry),
                    value => other(&value),
                }
            }
            "key" => text(&mut event.more.key, map)?,
            "retain" => boolean(&mut event.more.retain, map)?,
            _ => {
                map.next_value_seed(Wanted::Nothing)?;
            }
        }
    }
    Ok(())
}

/// A field's name, borrowed unless it has escapes.
fn key<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    match map.next_key_seed(Wanted::Nothing)? {
        None => Ok(None),
        Some(Value::Text(key)) => Ok(Some(key)),
        Some(_) => Err(A::Error::custom("a key that is no string")),
    }
}

/// The value of a field that may stand once only; `null` stands as well.
fn once<'de, T, A: MapAccess<'de>>(
    field: &Field<T>,
    wanted: Wanted<'_, 'de>,
    map: &mut A,
) -> Result<Value<'de>, A::Error> {
    match field {
        Field::Absent => map.next_value_seed(wanted),
        _ => Err(A::Error::custom("repeated field")),
    }
}

fn text<'de, A: MapAccess<'de>>(
    field: &mut Field<Cow<'de, str>>,
    map: &mut A,
) -> Result<(), A::Error> {
    *field = match once(field, Wanted::Nothing, map)? {
        Value::Text(text) => Field::Is(text),
        value => other(&value),
    };
    Ok(())
}

fn boolean<'de, A: MapAccess<'de>>(field: &mut Field<bool>, map: &mut A) -> Result<(), A::Error> {
    *field = match once(field, Wanted::Nothing, map)? {
        Value::Bool(value) => Field::Is(value),
        value => other(&value),
    };
    Ok(())
}

fn names<'de, A: MapAccess<'de>>(
    field: &mut Field<Names<'de>>,
    map: &mut A,
) -> Result<(), A::Error> {
    let mut names = Names::default();
    let value = once(field, Wanted::Names(&mut names), map)?;
    *field = taken(value, names);
    Ok(())
}

fn taken<T>(value: Value<'_>, what: T) -> Field<T> {
    match value {
        Value::Taken => Field::Is(what),
        value => other(&value),
    }
}

/// A field that has not its type.
fn other<T>(value: &Value<'_>) -> Field<T> {
    match value {
        Value::Null => Field::Null,
        _ => Field::WrongType,
    }
}
