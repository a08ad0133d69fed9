//! Who is there: `GET /internal/streams`, `/internal/streams/<token>` and `/internal/channels`
//! (contract, section 14), a page at a time.

use std::ops::Range;

use super::channels::ChannelId;
use super::conn::{Conn, Look, State, Stream};
use super::hub::Hub;
use super::routes::{self, Answer, STREAM_PATH, View};
use super::{ConnId, Effect, Gateway};
use crate::http::query::parameter;
use crate::time::Time;
use crate::tokens;
use crate::wire;

/// Entries of a page, when none are asked for and at the most.
const SOME: usize = 100;
const MOST: usize = 1000;

/// Channels of a page, when none are asked for and at the most: those are short.
const MOST_CHANNELS: usize = 10_000;

/// Numbers that are looked at for one page: whoever looks for the few of a channel among very many may
/// get a page with fewer than there are.
const SLOTS: usize = 16 * 1024;

/// Bytes of a page beyond which nothing is added to it: URLs and names may be long.
const PAGE_BYTES: usize = 256 * 1024;

/// Numbers of channels that are left of a past alone begin here.
const PAST: u64 = 1 << 32;

/// Which page is asked for.
struct Page {
    limit: usize,
    /// The first number that may be on it.
    first: u64,
}

impl Page {
    /// `some`: entries when none are asked for.
    fn of(target: &[u8], some: usize, most: usize) -> Result<Page, &'static str> {
        let limit = match number(target, "limit") {
            None => some,
            Some(Some(limit @ 1..)) => usize::try_from(limit).map_or(most, |limit| limit.min(most)),
            _ => return Err("'limit' is not a whole number above 0."),
        };
        let first = match number(target, "after") {
            None => 0,
            Some(Some(after)) => after.saturating_add(1),
            Some(None) => return Err("'after' is not what a page gave as 'next'."),
        };
        Ok(Page { limit, first })
    }

    /// The page: `describe` appends what there is to tell of a number, if anything.
    fn write(
        &self,
        name: &str,
        numbers: [Range<u64>; 2],
        describe: &mut dyn FnMut(u64, &mut String),
    ) -> String {
        let mut json = format!("{{\"{name}\":[");
        let (mut left, mut looks, mut after) = (self.limit, SLOTS, None);
        let numbers = numbers.into_iter();
        let numbers = numbers.flat_map(|it| it.start.max(self.first)..it.end);
        for number in numbers {
            let (end, is_first) = (json.len(), left == self.limit);
            if !is_first {
                json.push(',');
            }
            let start = json.len();
            if looks > 0 {
                describe(number, &mut json);
            }
            let is_something = json.len() > start;
            let is_full = left == 0 || end > PAGE_BYTES;
            if looks == 0 || is_something && is_full {
                json.truncate(end);
                after = number.checked_sub(1);
                break;
            }
            looks -= 1;
            match is_something {
                true => left -= 1,
                false => json.truncate(end),
            }
        }
        json.push_str("],\"next\":");
        match after {
            Some(after) => json.push_str(&after.to_string()),
            None => json.push_str("null"),
        }
        json.push('}');
        json
    }
}

/// The number that a parameter is, if it is there and not empty; within, `None` when it is no number.
fn number(target: &[u8], name: &str) -> Option<Option<u64>> {
    let text = parameter(target, name).filter(|text| !text.is_empty())?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    Some(text.parse().ok().filter(|_| is_number))
}

impl<S> Gateway<S> {
    /// Takes a request for a look at all connections.
    pub(super) fn look(&mut self, id: ConnId, what: Look) {
        if let Some((conn, hub)) = self.both(id) {
            conn.state = State::Looking(what);
            conn.charge(hub);
            hub.looks.push_back(id);
        }
    }

    /// Whether [`Gateway::look_on`] has anything to do.
    pub fn is_looking(&self) -> bool {
        !self.hub.looks.is_empty()
    }

    /// Answers the first of the looks that wait; to be called once in a turn, and its effects carried
    /// out: a page takes as long as hundreds of sends, and whoever pipelines them shall hold nobody up.
    pub fn look_on(&mut self, now: Time) {
        let Some(id) = self.hub.looks.pop_front() else {
            return;
        };
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        let Some(what) = conn.state.take_looking(now) else {
            return;
        };
        hub.effect(Effect::Read(id));
        let found = match what.view {
            View::Metrics => return self.ask_measures(id),
            View::Streams => self.streams(&what.target),
            View::OneStream => self.stream(&what.target),
            View::Channels => self.hub.channels(&what.target),
        };
        if let Some((conn, hub)) = self.both(id) {
            match found {
                Ok(json) => conn.answer_json(hub, 200, &json, now),
                Err(answer) => conn.answer(hub, &answer, now),
            }
            conn.charge(hub);
            conn.await_serving(hub, now);
        }
    }

    /// One page of all streams, in the order of their slots: a stream stays in its slot, so it is on
    /// exactly one of the pages that it is there for.
    fn streams(&self, target: &[u8]) -> Result<String, Answer> {
        let page = Page::of(target, SOME, MOST).map_err(routes::invalid_parameter)?;
        let channel = match parameter(target, "channel").filter(|name| !name.is_empty()) {
            Some(name) => match self.hub.channels.find(&name) {
                Some(channel) => Some(channel),
                None => return Ok("{\"streams\":[],\"next\":null}".to_owned()),
            },
            None => None,
        };
        let slots = [0..self.conns.capacity() as u64, 0..0];
        Ok(page.write("streams", slots, &mut |slot, json| {
            let conn = usize::try_from(slot).ok().and_then(|it| self.conns.at(it));
            let conn = conn.and_then(|id| self.conns.get(id));
            if let Some(conn) = conn
                && channel.is_none_or(|channel| self.is_in(conn, channel))
            {
                conn.describe(&self.hub, json);
            }
        }))
    }

    fn is_in(&self, conn: &Conn<S>, channel: ChannelId) -> bool {
        self.hub.channels.of(&conn.joined).any(|it| it == channel)
    }

    fn stream(&self, target: &[u8]) -> Result<String, Answer> {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        let at = path
            .windows(STREAM_PATH.len())
            .position(|part| part == STREAM_PATH);
        let token = at.map_or(&[][..], |at| &path[at + STREAM_PATH.len()..]);
        let token = str::from_utf8(token).ok().and_then(tokens::parse);
        let id = token.and_then(|token| self.hub.streams.get(token));
        let conn = id.and_then(|id| self.conns.get(id));
        let Some(conn) = conn.filter(|conn| conn.listed(&self.hub).is_some()) else {
            return Err(routes::TOKEN_NOT_FOUND);
        };
        let mut json = String::new();
        conn.describe(&self.hub, &mut json);
        Ok(json)
    }
}

impl<S> Conn<S> {
    /// The stream, if it is open and not about to end: nobody finds it by its token then.
    fn listed(&self, hub: &Hub) -> Option<&Stream> {
        match &self.state {
            State::Streaming(stream) if hub.streams.get(stream.token) == Some(self.id) => {
                Some(stream)
            }
            _ => None,
        }
    }

    /// Appends what there is to tell of an open stream.
    fn describe(&self, hub: &Hub, json: &mut String) {
        let Some(stream) = self.listed(hub) else {
            return;
        };
        json.push_str("{\"token\":\"");
        json.push_str(&stream.token.to_string());
        json.push_str("\",\"url\":");
        stream.request.write_url(json);
        push_number(json, ",\"since\":", u64::from(stream.since) * 1000);
        json.push_str(",\"channels\":[");
        for (at, channel) in hub.channels.of(&self.joined).enumerate() {
            if at > 0 {
                json.push(',');
            }
            wire::push_string(json, hub.channels.name(channel));
        }
        push_number(json, "],\"unsent\":", self.unsent() as u64);
        push_number(json, ",\"events\":", stream.events.into());
        json.push('}');
    }
}

impl Hub {
    /// One page of the channels that somebody is in, and of those of which an event is kept.
    fn channels(&self, target: &[u8]) -> Result<String, Answer> {
        let page = Page::of(target, MOST_CHANNELS, MOST_CHANNELS);
        let page = page.map_err(routes::invalid_parameter)?;
        let present = 0..self.channels.capacity() as u64;
        let past = PAST..PAST + self.history.channels() as u64;
        Ok(
            page.write("channels", [present, past], &mut |number, json| {
                let place = |number| usize::try_from(number).unwrap_or(usize::MAX);
                let found = match number.checked_sub(PAST) {
                    None => self.channels.at(place(number)),
                    // One that somebody is in has another number too.
                    Some(number) => self.history.channel(place(number)).and_then(|name| {
                        let is_past = self.channels.find(name).is_none();
                        is_past.then_some((name, 0))
                    }),
                };
                if let Some((name, members)) = found {
                    self.describe(name, members, json);
                }
            }),
        )
    }

    fn describe(&self, name: &str, members: usize, json: &mut String) {
        let (events, bytes) = self.history.kept_of(name);
        json.push_str("{\"name\":");
        wire::push_string(json, name);
        push_number(json, ",\"members\":", members as u64);
        push_number(json, ",\"events\":", events as u64);
        push_number(json, ",\"bytes\":", bytes);
        json.push('}');
    }
}

fn push_number(json: &mut String, label: &str, number: u64) {
    json.push_str(label);
    json.push_str(&number.to_string());
}
