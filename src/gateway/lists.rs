//! Who is there: `GET /internal/streams`, `/internal/streams/<token>` and `/internal/channels`
//! (contract, section 14), a page at a time.

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

/// Slots that are looked at for one page: whoever looks for the few of a channel among very many may
/// get a page with fewer than there are.
const SLOTS: usize = 16 * 1024;

/// Bytes of a page beyond which nothing is added to it: URLs and names may be long.
const PAGE_BYTES: usize = 256 * 1024;

/// Numbers of channels that are left of a past alone begin here.
const PAST: usize = 1 << 32;

/// Which page is asked for.
struct Page {
    limit: usize,
    /// The first number that is on it.
    first: usize,
}

impl Page {
    /// `some`: entries when none are asked for.
    fn of(target: &[u8], some: usize, most: usize) -> Result<Page, &'static str> {
        let limit = number(target, "limit", some);
        let limit = limit.filter(|limit| *limit > 0);
        let limit = limit.ok_or("'limit' is not a whole number above 0.")?;
        // Behind the last number there is none that a page could give.
        let after = number(target, "after", usize::MAX).map(|after| after.wrapping_add(1));
        let is_given = parameter(target, "after").is_some_and(|text| !text.is_empty());
        let first = after.filter(|first| !is_given || *first > 0);
        Ok(Page {
            limit: limit.min(most),
            first: first.ok_or("'after' is not what a page gave as 'next'.")?,
        })
    }
}

/// The number that a parameter is; `None` when it is no number.
fn number(target: &[u8], name: &str, default: usize) -> Option<usize> {
    let text = parameter(target, name).filter(|text| !text.is_empty());
    let Some(text) = text else {
        return Some(default);
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
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

    /// Answers the first of those that wait: one in a turn, as a page takes as long as hundreds of
    /// sends, and whoever pipelines them shall hold nobody up.
    pub(super) fn look_on(&mut self, now: Time) {
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
        let mut list = List::new("streams", page.limit);
        let end = self.conns.capacity();
        let last = end.min(page.first.saturating_add(SLOTS));
        for slot in page.first..last {
            let conn = self.conns.at(slot).and_then(|id| self.conns.get(id));
            let is_meant = |conn: &&Conn<S>| {
                conn.listed(&self.hub).is_some()
                    && channel.is_none_or(|channel| self.is_in(conn, channel))
            };
            if let Some(conn) = conn.filter(is_meant) {
                if list.is_full() {
                    return Ok(list.end(true));
                }
                list.add(|json| conn.describe(&self.hub, json));
                list.at = slot;
            }
        }
        list.at = last.saturating_sub(1);
        Ok(list.end(last < end))
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
        let mut list = List::new("channels", page.limit);
        let mut slots = SLOTS;
        for (number, name, members) in self.channels.from(page.first.min(PAST)) {
            if list.is_full() || slots == 0 {
                return Ok(list.end(true));
            }
            slots -= 1;
            list.at = number;
            list.add(|json| self.describe(name, members, json));
        }
        for (number, name) in self.history.channels_from(page.first.saturating_sub(PAST)) {
            if list.is_full() || slots == 0 {
                return Ok(list.end(true));
            }
            slots -= 1;
            list.at = PAST + number;
            if self.channels.find(name).is_none() {
                list.add(|json| self.describe(name, 0, json));
            }
        }
        Ok(list.end(false))
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

/// A page that is being written.
struct List {
    json: String,
    /// Entries that may follow.
    left: usize,
    is_empty: bool,
    /// The number that was looked at last.
    at: usize,
}

impl List {
    fn new(name: &str, limit: usize) -> List {
        List {
            json: format!("{{\"{name}\":["),
            left: limit,
            is_empty: true,
            at: 0,
        }
    }

    fn add(&mut self, describe: impl FnOnce(&mut String)) {
        if !std::mem::take(&mut self.is_empty) {
            self.json.push(',');
        }
        describe(&mut self.json);
        self.left -= 1;
    }

    fn is_full(&self) -> bool {
        self.left == 0 || self.json.len() > PAGE_BYTES
    }

    fn end(mut self, is_more: bool) -> String {
        self.json.push_str("],\"next\":");
        match is_more {
            true => self.json.push_str(&self.at.to_string()),
            false => self.json.push_str("null"),
        }
        self.json.push('}');
        self.json
    }
}
