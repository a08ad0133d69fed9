//! From a send's body to a command: the contract's checks, in its order (sections 4, 11 and 12).

use std::borrow::Cow;

use super::names::{MOST_NAMES, Names, is_channel, is_word};
use super::raw::{self, Field, RawEvent, RawMore, RawTarget, Whose};
use super::{Event, Rules, SendCommand, SendError, Target};

/// Most channels of one send.
const MOST_CHANNELS: usize = 64;

/// Most milliseconds that an event may tell its reader to wait before it comes again: a day.
const MOST_RETRY: u64 = 86_400_000;

/// Reads the body of a send (contract, sections 4, 11 and 12).
pub fn send_command(body: &[u8], rules: Rules) -> Result<SendCommand<'_>, SendError> {
    let raw = raw::command(body, Whose::Send).ok_or(SendError::InvalidJson)?;
    let unsubscribe = raw.unsubscribe.given();
    let subscribe = raw.subscribe.given();
    let has_changes = unsubscribe.is_some() || subscribe.is_some();
    let mut target = target(raw.target, has_changes)?;
    match &mut target {
        Target::Token {
            unsubscribe: leaves,
            subscribe: joins,
            ..
        } => {
            *leaves = changes(unsubscribe, MOST_NAMES)?;
            *joins = changes(subscribe, rules.max_channels)?;
        }
        Target::Channels(names) if !names.iter().all(|name| is_channel(name)) => {
            return Err(SendError::InvalidChannel);
        }
        _ => {}
    }
    let event = match raw.event {
        Field::Absent => None,
        Field::Is(event) => Some(name_and_data(event)?),
        _ => return Err(SendError::EventType),
    };
    let close = match raw.close {
        Field::Absent => false,
        Field::Is(close) => close,
        _ => return Err(SendError::CloseType),
    };
    let begin = match raw.last_event_id.given().transpose() {
        Ok(begin) => begin,
        Err(_) => return Err(SendError::EventId),
    };
    if let Target::Token {
        subscribe,
        last_event_id,
        ..
    } = &mut target
        && !subscribe.is_empty()
    {
        *last_event_id = begin;
    }
    let event = match event {
        Some((event, more)) => Some(with_more(event, more, &target, rules)?),
        None => None,
    };
    Ok(SendCommand {
        target,
        event,
        close,
    })
}

/// The one target; names of channels are not looked at yet.
fn target(raw: RawTarget<'_>, has_changes: bool) -> Result<Target<'_>, SendError> {
    let given = (
        raw.token.given(),
        raw.tokens.given(),
        raw.channel.given(),
        raw.channels.given(),
        raw.broadcast.given(),
    );
    if has_changes && given.0.is_none() {
        return Err(SendError::InvalidTarget);
    }
    match given {
        (None, None, None, None, None) => Err(SendError::TokenMissing),
        (Some(token), None, None, None, None) => match token {
            Ok(token) if !token.is_empty() => Ok(Target::Token {
                token,
                unsubscribe: Vec::new(),
                subscribe: Vec::new(),
                last_event_id: None,
            }),
            _ => Err(SendError::TokenMissing),
        },
        (None, Some(Ok(tokens)), None, None, None) => tokens
            .at_most(MOST_NAMES)
            .map(Target::Tokens)
            .ok_or(SendError::InvalidTarget),
        (None, None, Some(Ok(channel)), None, None) => Ok(Target::Channels(vec![channel])),
        (None, None, None, Some(Ok(channels)), None) => channels
            .at_most(MOST_CHANNELS)
            .map(Target::Channels)
            .ok_or(SendError::InvalidTarget),
        (None, None, None, None, Some(Ok(true))) => Ok(Target::Broadcast),
        _ => Err(SendError::InvalidTarget),
    }
}

/// The channels that one stream is to join, or to leave.
fn changes(
    names: Option<Result<Names<'_>, raw::WrongType>>,
    most: usize,
) -> Result<Vec<Cow<'_, str>>, SendError> {
    let Some(names) = names else {
        return Ok(Vec::new());
    };
    names
        .ok()
        .and_then(|names| names.at_most(most))
        .filter(|names| names.iter().all(|name| is_channel(name)))
        .ok_or(SendError::InvalidChannel)
}

/// An event of section 4, and what sections 11 and 12 add to it, to be checked behind `close`.
fn name_and_data(raw: RawEvent<'_>) -> Result<(Event<'_>, RawMore<'_>), SendError> {
    let Field::Is(data) = raw.data else {
        return Err(SendError::EventDataMissing);
    };
    let name = match raw.name {
        Field::Absent => Cow::Borrowed(""),
        Field::Is(name) if is_event_name(&name) => name,
        Field::Is(_) => return Err(SendError::EventName),
        _ => return Err(SendError::EventNameType),
    };
    let event = Event {
        name,
        data,
        ..Event::default()
    };
    Ok((event, raw.more))
}

fn with_more<'a>(
    event: Event<'a>,
    more: RawMore<'a>,
    target: &Target<'_>,
    rules: Rules,
) -> Result<Event<'a>, SendError> {
    if rules.has_history && !matches!(more.id, Field::Absent) {
        return Err(SendError::EventId);
    }
    Ok(Event {
        id: id(more.id).map_err(|_| SendError::EventId)?,
        retry: retry(more.retry).map_err(|_| SendError::EventRetry)?,
        key: key(more.key).map_err(|_| SendError::EventKey)?,
        retain: match more.retain {
            Field::Absent | Field::Is(false) => false,
            Field::Is(true) if matches!(target, Target::Channels(_)) => true,
            _ => return Err(SendError::EventRetain),
        },
        ..event
    })
}

/// A value that its field does not allow, of whatever type.
pub(super) struct Wrong;

/// The event's id, when there is one. `earliest` is a place in the history, not an event
/// (contract, section 12).
pub(super) fn id(field: Field<Cow<'_, str>>) -> Result<Option<Cow<'_, str>>, Wrong> {
    match field {
        Field::Absent => Ok(None),
        Field::Is(id) if is_word(&id) && id != "earliest" => Ok(Some(id)),
        _ => Err(Wrong),
    }
}

/// The event's key, when there is one.
pub(super) fn key(field: Field<Cow<'_, str>>) -> Result<Option<Cow<'_, str>>, Wrong> {
    match field {
        Field::Absent => Ok(None),
        Field::Is(key) if is_word(&key) => Ok(Some(key)),
        _ => Err(Wrong),
    }
}

/// The event's `retry` in milliseconds, when there is one.
pub(super) fn retry(field: Field<u64>) -> Result<Option<u32>, Wrong> {
    match field {
        Field::Absent => Ok(None),
        Field::Is(retry) if retry <= MOST_RETRY => u32::try_from(retry).map(Some).or(Err(Wrong)),
        _ => Err(Wrong),
    }
}

/// No name may end its field or be cut short by a reader.
pub(super) fn is_event_name(name: &str) -> bool {
    !name.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}
