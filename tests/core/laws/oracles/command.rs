//! Send commands read the long way: the whole document first, then the contract's checks in their
//! order (section 4).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) token: String,
    pub(crate) event: Option<(String, String)>,
    pub(crate) close: bool,
}

/// A document, repeated fields kept.
enum Json {
    Object(Vec<(String, Json)>),
    Text(String),
    Flag(bool),
    Other,
}

/// The command, or the code that it is refused with.
pub(crate) fn read(body: &[u8]) -> Result<Command, &'static str> {
    // The library's own reading of any JSON has to agree that it is some.
    let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
    let Some(Json::Object(fields)) = serde_json::from_slice(body).ok().filter(|_| is_json) else {
        return Err("INVALID_JSON");
    };
    let is_repeated = |fields: &[(String, Json)], names: &[&str]| {
        let count = |name: &str| fields.iter().filter(|field| field.0 == name).count();
        names.iter().any(|name| count(name) > 1)
    };
    let inner = |(name, value): &(String, Json)| match value {
        Json::Object(fields) if name == "event" => is_repeated(fields, &["name", "data"]),
        _ => false,
    };
    if is_repeated(&fields, &["token", "event", "close"]) || fields.iter().any(inner) {
        return Err("INVALID_JSON");
    }
    let token = match find(&fields, "token") {
        Some(Json::Text(token)) if !token.is_empty() => token.clone(),
        _ => return Err("INVALID_TOKEN_MISSING"),
    };
    let event = match find(&fields, "event") {
        None => None,
        Some(Json::Object(event)) => Some(read_event(event)?),
        Some(_) => return Err("INVALID_EVENT_TYPE"),
    };
    let close = match find(&fields, "close") {
        None => false,
        Some(Json::Flag(close)) => *close,
        Some(_) => return Err("INVALID_CLOSE_TYPE"),
    };
    Ok(Command {
        token,
        event,
        close,
    })
}

fn read_event(fields: &[(String, Json)]) -> Result<(String, String), &'static str> {
    let Some(Json::Text(data)) = find(fields, "data") else {
        return Err("INVALID_EVENT_DATA_MISSING");
    };
    let name = match find(fields, "name") {
        None => String::new(),
        Some(Json::Text(name)) if name.contains(['\r', '\n', '\0']) => {
            return Err("INVALID_EVENT_NAME");
        }
        Some(Json::Text(name)) => name.clone(),
        Some(_) => return Err("INVALID_EVENT_NAME_TYPE"),
    };
    Ok((name, data.clone()))
}

fn find<'a>(fields: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    fields
        .iter()
        .find(|field| field.0 == name)
        .map(|field| &field.1)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        while seq.next_element::<Json>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }
}
