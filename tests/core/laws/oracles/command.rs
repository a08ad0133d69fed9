//! Send commands and connect answers read the long way: the whole document first, then the
//! contract's checks in their order (sections 2, 4, 11 and 12).

use std::borrow::Cow;

use ssegateway::wire::{Event, Rules, SendCommand, Target};

use super::json::Json;

/// A document's fields, repeated ones kept.
type Fields = [(String, Json)];

const TARGETS: [&str; 5] = ["token", "tokens", "channel", "channels", "broadcast"];
const CHANGES: [&str; 2] = ["unsubscribe", "subscribe"];
const OF_ANSWERS: [&str; 5] = ["event", "close", "channels", "last_event_id", "expires_in"];
const OF_EVENTS: [&str; 6] = ["data", "name", "id", "retry", "key", "retain"];

/// The command, or the code that it is refused with.
pub(crate) fn read(body: &[u8], rules: Rules) -> Result<SendCommand<'static>, &'static str> {
    let known = [&TARGETS[..], &CHANGES, &["event", "close", "last_event_id"]].concat();
    let fields = object(body, &known).ok_or("INVALID_JSON")?;
    let mut target = read_target(&fields)?;
    match &mut target {
        Target::Token {
            unsubscribe,
            subscribe,
            ..
        } => {
            *unsubscribe = read_changes(&fields, "unsubscribe", 1000)?;
            *subscribe = read_changes(&fields, "subscribe", rules.max_channels)?;
        }
        Target::Channels(names) if !names.iter().all(|name| is_channel(name)) => {
            return Err("INVALID_CHANNEL");
        }
        _ => {}
    }
    let mut event = match find(&fields, "event") {
        None => None,
        Some(Json::Object(event)) => Some(read_event(event)?),
        Some(_) => return Err("INVALID_EVENT_TYPE"),
    };
    let close = match find(&fields, "close") {
        None => false,
        Some(Json::Flag(close)) => *close,
        Some(_) => return Err("INVALID_CLOSE_TYPE"),
    };
    let begin = read_begin(&fields).map_err(|()| "INVALID_EVENT_ID")?;
    if let Target::Token {
        subscribe,
        last_event_id,
        ..
    } = &mut target
    {
        *last_event_id = begin.filter(|_| !subscribe.is_empty()).map(Cow::Owned);
    }
    if let (Some(event), Some(Json::Object(fields))) = (&mut event, find(&fields, "event")) {
        if rules.has_history && find(fields, "id").is_some() {
            return Err("INVALID_EVENT_ID");
        }
        event.id = read_id(fields).map_err(|()| "INVALID_EVENT_ID")?;
        event.retry = read_retry(fields).map_err(|()| "INVALID_EVENT_RETRY")?;
        event.key = read_key(fields).map_err(|()| "INVALID_EVENT_KEY")?;
        event.retain = match (find(fields, "retain"), &target) {
            (None | Some(Json::Flag(false)), _) => false,
            (Some(Json::Flag(true)), Target::Channels(_)) => true,
            _ => return Err("INVALID_EVENT_RETAIN"),
        };
    }
    Ok(SendCommand {
        target,
        event,
        close,
    })
}

/// What a connect answer directs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) event: Option<Event<'static>>,
    pub(crate) close: bool,
    pub(crate) channels: Vec<String>,
    pub(crate) last_event_id: Option<String>,
    /// In seconds.
    pub(crate) expires_in: Option<f64>,
    pub(crate) is_deaf: bool,
    pub(crate) has_problem: bool,
}

/// Reads the body of a connect answer.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let mut answer = Answer::default();
    if body.is_empty() {
        return answer;
    }
    let Some(fields) = object(body, &OF_ANSWERS) else {
        answer.has_problem = true;
        return answer;
    };
    match find(&fields, "close") {
        None => {}
        Some(Json::Flag(close)) => answer.close = *close,
        Some(_) => answer.has_problem = true,
    }
    match find(&fields, "event") {
        None => {}
        Some(Json::Object(fields)) => {
            let mut or_none = |is_wrong: bool| answer.has_problem |= is_wrong;
            let name = read_name(fields);
            let (id, retry, key) = (read_id(fields), read_retry(fields), read_key(fields));
            match find(fields, "data") {
                Some(Json::Text(data)) => {
                    or_none(!matches!(
                        find(fields, "retain"),
                        None | Some(Json::Flag(false))
                    ));
                    or_none(name.is_err() || id.is_err() || retry.is_err() || key.is_err());
                    answer.event = Some(Event {
                        name: name.unwrap_or_default().into(),
                        data: data.clone().into(),
                        id: id.unwrap_or_default(),
                        retry: retry.unwrap_or_default(),
                        key: key.unwrap_or_default(),
                        retain: false,
                    });
                }
                _ => or_none(true),
            }
        }
        Some(_) => answer.has_problem = true,
    }
    match read_begin(&fields) {
        Ok(begin) => answer.last_event_id = begin,
        Err(()) => answer.has_problem = true,
    }
    if let Some(value) = given(&fields, "channels") {
        match names(value) {
            Some(names) if names.len() <= 1000 && names.iter().all(|name| is_channel(name)) => {
                answer.channels = names;
            }
            _ => answer.is_deaf = true,
        }
    }
    match find(&fields, "expires_in") {
        None => {}
        Some(Json::Integer(seconds @ 1..)) => answer.expires_in = Some(*seconds as f64),
        Some(Json::Number(seconds)) if *seconds > 0.0 => answer.expires_in = Some(*seconds),
        Some(_) => answer.is_deaf = true,
    }
    answer
}

/// Whether the document has the field that is known in answers alone.
pub(crate) fn has_end(body: &[u8]) -> bool {
    object(body, &[]).is_some_and(|fields| find(&fields, "expires_in").is_some())
}

/// The fields of a document that is an object and repeats none of the `known` ones.
fn object(body: &[u8], known: &[&str]) -> Option<Vec<(String, Json)>> {
    // The library's own reading of any JSON has to agree that it is some.
    serde_json::from_slice::<serde_json::Value>(body).ok()?;
    let Json::Object(fields) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    let is_repeated = |fields: &Fields, names: &[&str]| {
        let count = |name: &str| fields.iter().filter(|field| field.0 == name).count();
        names.iter().any(|name| count(name) > 1)
    };
    let inner = |(name, value): &(String, Json)| match value {
        Json::Object(fields) if name == "event" => is_repeated(fields, &OF_EVENTS),
        _ => false,
    };
    (!is_repeated(&fields, known) && !fields.iter().any(inner)).then_some(fields)
}

fn read_target(fields: &Fields) -> Result<Target<'static>, &'static str> {
    let is_given = |name: &&str| given(fields, name).is_some();
    let targets: Vec<_> = TARGETS.into_iter().filter(is_given).collect();
    let has_changes = CHANGES.iter().any(is_given);
    if targets.len() > 1 || has_changes && targets != ["token"] {
        return Err("INVALID_TARGET");
    }
    let Some(name) = targets.first() else {
        return Err("INVALID_TOKEN_MISSING");
    };
    let value = find(fields, name).expect("the one given");
    match (*name, value, names(value)) {
        ("token", Json::Text(token), _) if !token.is_empty() => Ok(Target::Token {
            token: token.clone().into(),
            unsubscribe: Vec::new(),
            subscribe: Vec::new(),
            last_event_id: None,
        }),
        ("token", _, _) => Err("INVALID_TOKEN_MISSING"),
        ("tokens", _, Some(names)) if names.len() <= 1000 => Ok(Target::Tokens(cows(names))),
        ("channel", Json::Text(name), _) => Ok(Target::Channels(cows(vec![name.clone()]))),
        ("channels", _, Some(names)) if names.len() <= 64 => Ok(Target::Channels(cows(names))),
        ("broadcast", Json::Flag(true), _) => Ok(Target::Broadcast),
        _ => Err("INVALID_TARGET"),
    }
}

fn read_changes(
    fields: &Fields,
    name: &str,
    most: usize,
) -> Result<Vec<Cow<'static, str>>, &'static str> {
    let Some(value) = given(fields, name) else {
        return Ok(Vec::new());
    };
    match names(value) {
        Some(names) if names.len() <= most && names.iter().all(|name| is_channel(name)) => {
            Ok(cows(names))
        }
        _ => Err("INVALID_CHANNEL"),
    }
}

/// Each of the strings once, when they are all strings.
fn names(value: &Json) -> Option<Vec<String>> {
    let Json::List(items) = value else {
        return None;
    };
    let mut names = Vec::new();
    for item in items {
        match item {
            Json::Text(name) if names.contains(name) => {}
            Json::Text(name) => names.push(name.clone()),
            _ => return None,
        }
    }
    Some(names)
}

fn cows(names: Vec<String>) -> Vec<Cow<'static, str>> {
    names.into_iter().map(Cow::Owned).collect()
}

fn is_word(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.chars().all(|c| ('!'..='~').contains(&c))
}

fn is_channel(name: &str) -> bool {
    is_word(name) && !name.contains(['"', '\\'])
}

/// Name and data of an event.
fn read_event(fields: &Fields) -> Result<Event<'static>, &'static str> {
    let Some(Json::Text(data)) = find(fields, "data") else {
        return Err("INVALID_EVENT_DATA_MISSING");
    };
    Ok(Event {
        name: read_name(fields)?.into(),
        data: data.clone().into(),
        ..Event::default()
    })
}

fn read_name(fields: &Fields) -> Result<String, &'static str> {
    match find(fields, "name") {
        None => Ok(String::new()),
        Some(Json::Text(name)) if name.contains(['\r', '\n', '\0']) => Err("INVALID_EVENT_NAME"),
        Some(Json::Text(name)) => Ok(name.clone()),
        Some(_) => Err("INVALID_EVENT_NAME_TYPE"),
    }
}

fn read_id(fields: &Fields) -> Result<Option<Cow<'static, str>>, ()> {
    match find(fields, "id") {
        None => Ok(None),
        Some(Json::Text(id)) if is_word(id) && id != "earliest" => Ok(Some(id.clone().into())),
        Some(_) => Err(()),
    }
}

/// Where a stream is to begin.
fn read_begin(fields: &Fields) -> Result<Option<String>, ()> {
    match given(fields, "last_event_id") {
        None => Ok(None),
        Some(Json::Text(id)) => Ok(Some(id.clone())),
        Some(_) => Err(()),
    }
}

fn read_retry(fields: &Fields) -> Result<Option<u32>, ()> {
    match find(fields, "retry") {
        None => Ok(None),
        Some(Json::Integer(retry)) if *retry <= 86_400_000 => Ok(Some(*retry as u32)),
        Some(_) => Err(()),
    }
}

fn read_key(fields: &Fields) -> Result<Option<Cow<'static, str>>, ()> {
    match find(fields, "key") {
        None => Ok(None),
        Some(Json::Text(key)) if is_word(key) => Ok(Some(key.clone().into())),
        Some(_) => Err(()),
    }
}

fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a Json> {
    fields
        .iter()
        .find(|field| field.0 == name)
        .map(|field| &field.1)
}

/// The same, where null is no value.
fn given<'a>(fields: &'a Fields, name: &str) -> Option<&'a Json> {
    find(fields, name).filter(|value| !matches!(value, Json::Null))
}
