//! JSON commands as they come: which fields are there, and whether each has its type.
//!
//! Strict where the contract is (nothing repeated, no lone surrogate or bad UTF-8 even in fields
//! that are ignored, bounded nesting) and free of copies where the text has no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

/// A field's value, as far as its type goes.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    /// The field is not there.
    #[default]
    Absent,
    /// It is there with another type; `null` is one.
    WrongType,
    /// It is there with its type.
    Is(T),
}

/// A command or a connect answer.
#[derive(Debug, Default)]
pub(super) struct RawCommand<'a> {
    pub(super) token: Field<Cow<'a, str>>,
    pub(super) event: Field<RawEvent<'a>>,
    pub(super) close: Field<bool>,
}

/// The object in the field `event`.
#[derive(Debug, Default)]
pub(super) struct RawEvent<'a> {
    pub(super) name: Field<Cow<'a, str>>,
    pub(super) data: Field<Cow<'a, str>>,
}

/// Reads one JSON object that fills `body`.
pub(super) fn command(body: &[u8]) -> Result<RawCommand<'_>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let command = reader.deserialize_map(CommandVisitor)?;
    reader.end()?;
    Ok(command)
}

/// A value is one of these or of another type; nothing else about the type matters.
trait Typed<'de>: Sized {
    fn from_str(_text: Cow<'de, str>) -> Option<Self> {
        None
    }
    fn from_bool(_value: bool) -> Option<Self> {
        None
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

impl<'de> Typed<'de> for RawEvent<'de> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut event = RawEvent::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "name" => once(&mut event.name, map.next_value()?)?,
                "data" => once(&mut event.data, map.next_value()?)?,
                _ => map.next_value::<Skip>().map(|_| ())?,
            }
        }
        Ok(Some(event))
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

/// Fills a field that may stand once only.
fn once<T, E: Error>(field: &mut Field<T>, value: Field<T>) -> Result<(), E> {
    if !matches!(field, Field::Absent) {
        return Err(E::custom("repeated field"));
    }
    *field = value;
    Ok(())
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = RawCommand<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawCommand<'de>, A::Error> {
        let mut command = RawCommand::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "token" => once(&mut command.token, map.next_value()?)?,
                "event" => once(&mut command.event, map.next_value()?)?,
                "close" => once(&mut command.close, map.next_value()?)?,
                _ => map.next_value::<Skip>().map(|_| ())?,
            }
        }
        Ok(command)
    }
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<T>, A::Error> {
        while seq.next_element::<Skip>()?.is_some() {}
        Ok(Field::WrongType)
    }

    fn visit_unit<E: Error>(self) -> Result<Field<T>, E> {
        Ok(Field::WrongType)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Field<T>, E> {
        Ok(Field::WrongType)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Field<T>, E> {
        Ok(Field::WrongType)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Field<T>, E> {
        Ok(Field::WrongType)
    }
}
