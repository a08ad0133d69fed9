//! JSON commands as they come: which fields are there, and whether each has its type.
//!
//! Strict where the contract is (nothing repeated, no lone surrogate or bad UTF-8 even in fields
//! that are ignored, bounded nesting) and free of copies where the text has no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

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

/// The body of a send.
#[derive(Debug, Default)]
pub(super) struct RawCommand<'a> {
    pub(super) target: RawTarget<'a>,
    pub(super) unsubscribe: Field<Names<'a>>,
    pub(super) subscribe: Field<Names<'a>>,
    pub(super) event: Field<RawEvent<'a>>,
    pub(super) close: Field<bool>,
}

/// The fields of which a send has exactly one.
#[derive(Debug, Default)]
pub(super) struct RawTarget<'a> {
    pub(super) token: Field<Cow<'a, str>>,
    pub(super) tokens: Field<Names<'a>>,
    pub(super) channel: Field<Cow<'a, str>>,
    pub(super) channels: Field<Names<'a>>,
    pub(super) broadcast: Field<bool>,
}

/// The body of a callback's answer.
#[derive(Debug, Default)]
pub(super) struct RawAnswer<'a> {
    pub(super) event: Field<RawEvent<'a>>,
    pub(super) close: Field<bool>,
    pub(super) channels: Field<Names<'a>>,
}

/// The object in the field `event`.
#[derive(Debug, Default)]
pub(super) struct RawEvent<'a> {
    pub(super) name: Field<Cow<'a, str>>,
    pub(super) data: Field<Cow<'a, str>>,
    pub(super) more: RawMore<'a>,
}

/// An event's fields that are checked after all others (contract, section 11).
#[derive(Debug, Default)]
pub(super) struct RawMore<'a> {
    pub(super) id: Field<Cow<'a, str>>,
    pub(super) retry: Field<u64>,
    pub(super) key: Field<Cow<'a, str>>,
}

/// Reads one JSON object that fills `body`; `None` when it is anything else.
pub(super) fn object<'a, T: Typed<'a>>(body: &'a [u8]) -> Option<T> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let field = Field::deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match field {
        Field::Is(object) => Some(object),
        _ => None,
    }
}

/// A value is one of these or of another type; nothing else about the type matters.
pub(super) trait Typed<'de>: Sized {
    fn from_str(_text: Cow<'de, str>) -> Option<Self> {
        None
    }
    fn from_bool(_value: bool) -> Option<Self> {
        None
    }
    fn from_integer(_value: u64) -> Option<Self> {
        None
    }
    fn from_seq<A: SeqAccess<'de>>(seq: A) -> Result<Option<Self>, A::Error> {
        skip_seq(seq).map(|()| None)
    }
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        skip_map(map).map(|()| None)
    }
}

impl<'de> Typed<'de> for Cow<'de, str> {
    fn from_str(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl<'de> Typed<'de> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl<'de> Typed<'de> for u64 {
    fn from_integer(value: u64) -> Option<Self> {
        Some(value)
    }
}

impl<'de> Typed<'de> for Names<'de> {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut names = Names::default();
        while let Some(item) = seq.next_element()? {
            let Field::Is(name) = item else {
                return skip_seq(seq).map(|()| None);
            };
            names.take(name);
        }
        Ok(Some(names))
    }
}

impl<'de> Typed<'de> for RawEvent<'de> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut event = RawEvent::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "name" => once(&mut event.name, &mut map)?,
                "data" => once(&mut event.data, &mut map)?,
                "id" => once(&mut event.more.id, &mut map)?,
                "retry" => once(&mut event.more.retry, &mut map)?,
                "key" => once(&mut event.more.key, &mut map)?,
                _ => map.next_value::<Skip>().map(|_| ())?,
            }
        }
        Ok(Some(event))
    }
}

impl<'de> Typed<'de> for RawCommand<'de> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut command = RawCommand::default();
        let target = &mut command.target;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "token" => once(&mut target.token, &mut map)?,
                "tokens" => once(&mut target.tokens, &mut map)?,
                "channel" => once(&mut target.channel, &mut map)?,
                "channels" => once(&mut target.channels, &mut map)?,
                "broadcast" => once(&mut target.broadcast, &mut map)?,
                "unsubscribe" => once(&mut command.unsubscribe, &mut map)?,
                "subscribe" => once(&mut command.subscribe, &mut map)?,
                "event" => once(&mut command.event, &mut map)?,
                "close" => once(&mut command.close, &mut map)?,
                _ => map.next_value::<Skip>().map(|_| ())?,
            }
        }
        Ok(Some(command))
    }
}

impl<'de> Typed<'de> for RawAnswer<'de> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut answer = RawAnswer::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "event" => once(&mut answer.event, &mut map)?,
                "close" => once(&mut answer.close, &mut map)?,
                "channels" => once(&mut answer.channels, &mut map)?,
                _ => map.next_value::<Skip>().map(|_| ())?,
            }
        }
        Ok(Some(answer))
    }
}

/// Nothing at all can be made of it: the type of values that are skipped.
struct Skip;

impl<'de> Typed<'de> for Skip {}

impl<'de> Deserialize<'de> for Skip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Field::<Skip>::deserialize(deserializer).map(|_| Skip)
    }
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<Key<'de>, Skip>()?.is_some() {}
    Ok(())
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<Skip>()?.is_some() {}
    Ok(())
}

/// Fills a field that may stand once only; `null` stands as well.
fn once<'de, T, A>(field: &mut Field<T>, map: &mut A) -> Result<(), A::Error>
where
    T: Typed<'de>,
    A: MapAccess<'de>,
{
    if !matches!(field, Field::Absent) {
        return Err(A::Error::custom("repeated field"));
    }
    *field = map.next_value()?;
    Ok(())
}

/// A field's name, borrowed unless it has escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Field::deserialize(deserializer)? {
            Field::Is(key) => Ok(Key(key)),
            _ => Err(D::Error::invalid_type(
                Unexpected::Other("key"),
                &"a string",
            )),
        }
    }
}

struct FieldVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Typed<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(std::marker::PhantomData))
    }
}

fn typed<T>(value: Option<T>) -> Field<T> {
    value.map_or(Field::WrongType, Field::Is)
}

impl<'de, T: Typed<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Field<T>, E> {
        Ok(typed(T::from_str(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Field<T>, E> {
        Ok(typed(T::from_str(Cow::Owned(text.to_owned()))))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Field<T>, E> {
        Ok(typed(T::from_bool(value)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field<T>, A::Error> {
        T::from_map(map).map(typed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Field<T>, A::Error> {
        T::from_seq(seq).map(typed)
    }

    fn visit_unit<E: Error>(self) -> Result<Field<T>, E> {
        Ok(Field::Null)
    }

    // Below zero.
    fn visit_i64<E: Error>(self, _: i64) -> Result<Field<T>, E> {
        Ok(Field::WrongType)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Field<T>, E> {
        Ok(typed(T::from_integer(value)))
    }

    // With a fraction or an exponent, too large for the others, or `-0`.
    fn visit_f64<E: Error>(self, _: f64) -> Result<Field<T>, E> {
        Ok(Field::WrongType)
    }
}
