//! From a callback's 2xx answer to what it directs (contract, section 2, step 6, and sections 11 and
//! 12).

use std::borrow::Cow;
use std::time::Duration;

use super::names::{MOST_NAMES, Names, is_channel};
use super::raw::{self, Field, RawCommand, RawEvent, Whose, WrongType};
use super::send::{id, is_event_name, key, retry};
use super::{Directives, Event, Joins};

/// Reads the body of a callback's 2xx answer; `None` stands for a body that passed the size limit.
///
/// Never fails: what cannot be used counts as absent and is named in [`Directives::problem`], or in
/// [`Directives::deaf`] where the stream cannot do without it. An empty body is no problem.
pub fn directives(body: Option<&[u8]>) -> Directives {
    let Some(body) = body else {
        return Directives::unusable("the body is larger than 1 MiB");
    };
    if body.is_empty() {
        return Directives::default();
    }
    match raw::command(body, Whose::Answer) {
        Some(answer) => lenient(answer),
        None => Directives::unusable("the body is not a JSON object without repeated fields"),
    }
}

impl Directives {
    /// What an answer directs that could not be read, for this reason: nothing.
    pub fn unusable(problem: &'static str) -> Directives {
        Directives {
            problem: Some(problem),
            ..Directives::default()
        }
    }
}

fn lenient(raw: RawCommand<'_>) -> Directives {
    let mut problem = None;
    let close = match raw.close {
        Field::Absent => false,
        Field::Is(close) => close,
        _ => {
            problem = Some("'close' is not true or false");
            false
        }
    };
    let event = match raw.event {
        Field::Absent => None,
        Field::Is(event) => lenient_event(event, &mut problem),
        _ => {
            problem = Some("'event' is not an object");
            None
        }
    };
    let last_event_id = match raw.last_event_id.given().transpose() {
        Ok(id) => id.map(Cow::into_owned),
        Err(_) => {
            problem = Some("'last_event_id' is not a string");
            None
        }
    };
    let (channels, deaf) = match channels(raw.target.channels.given()) {
        Ok(channels) => (channels, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let (expires_in, unending) = match expires_in(&raw.expires_in) {
        Ok(span) => (span, None),
        Err(reason) => (None, Some(reason)),
    };
    let joins = (!channels.is_empty() || last_event_id.is_some()).then(|| {
        Box::new(Joins {
            channels,
            last_event_id,
        })
    });
    Directives {
        event,
        close,
        joins,
        expires_in,
        deaf: deaf.or(unending),
        problem,
    }
}

/// How long the stream lasts, or why it may not open: a client's rights would not end with it.
fn expires_in(given: &Field<f64>) -> Result<Option<Duration>, &'static str> {
    match *given {
        Field::Absent => Ok(None),
        // What is more than can be counted is as good as never.
        Field::Is(seconds) if seconds > 0.0 => Ok(Some(Duration::from_millis(
            (seconds * 1000.0).ceil() as u64,
        ))),
        _ => Err("'expires_in' is not a number of seconds above 0"),
    }
}

fn lenient_event(
    raw: RawEvent<'_>,
    problem: &mut Option<&'static str>,
) -> Option<Box<Event<'static>>> {
    let Field::Is(data) = raw.data else {
        *problem = Some("'event.data' is not a string");
        return None;
    };
    let name = match raw.name {
        Field::Absent => Cow::Borrowed(""),
        Field::Is(name) if is_event_name(&name) => owned(name),
        Field::Is(_) => {
            *problem = Some("'event.name' holds CR, LF or NUL");
            Cow::Borrowed("")
        }
        _ => {
            *problem = Some("'event.name' is not a string");
            Cow::Borrowed("")
        }
    };
    let id = id(raw.more.id).unwrap_or_else(|_| {
        *problem = Some("'event.id' is not 1 to 200 bytes from 0x21 to 0x7E, or is 'earliest'");
        None
    });
    let retry = retry(raw.more.retry).unwrap_or_else(|_| {
        *problem = Some("'event.retry' is not an integer from 0 to 86400000");
        None
    });
    let key = key(raw.more.key).unwrap_or_else(|_| {
        *problem = Some("'event.key' is not 1 to 200 bytes from 0x21 to 0x7E");
        None
    });
    if !matches!(raw.more.retain, Field::Absent | Field::Is(false)) {
        *problem = Some("'event.retain' is for events to channels");
    }
    Some(Box::new(Event {
        name,
        data: owned(data),
        id: id.map(owned),
        retry,
        key: key.map(owned),
        retain: false,
    }))
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// The channels that the stream joins, or why it may not open.
fn channels(given: Option<Result<Names<'_>, WrongType>>) -> Result<Vec<String>, &'static str> {
    let Some(names) = given else {
        return Ok(Vec::new());
    };
    let names = names
        .map_err(|_| "'channels' is not an array of strings")?
        .at_most(MOST_NAMES)
        .ok_or("'channels' holds more than 1000 names")?;
    if !names.iter().all(|name| is_channel(name)) {
        return Err(
            "'channels' holds a name that is not 1 to 200 bytes from 0x21 to 0x7E without quote \
             and backslash",
        );
    }
    Ok(names.into_iter().map(Cow::into_owned).collect())
}
