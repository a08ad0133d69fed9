//! Sends to many (contract, sections 11 and 12): whom they reach, what is kept of them, and what the
//! publisher is told.

use std::borrow::Cow;
use std::rc::Rc;

use super::channels::ChannelId;
use super::fanout::Audience;
use super::frame::Frame;
use super::history::EVERYBODY;
use super::hub::Hub;
use super::limit::Limit;
use super::send::Verdict;
use super::{ConnId, Gateway, routes};
use crate::sse::Fields;
use crate::time::Time;
use crate::tokens;
use crate::wire::{self, Event};

/// Room for the answer to a send to many, an id included.
const ANSWER_BYTES: usize = 112;

/// What is to go to many.
pub(super) struct Publication<'a> {
    pub(super) event: Option<&'a Event<'a>>,
    /// Whether every receiver's stream ends behind it.
    pub(super) close: bool,
    /// When it was read.
    pub(super) now: Time,
}

impl<S> Gateway<S> {
    pub(super) fn publish_to_tokens(
        &mut self,
        tokens: &[Cow<'_, str>],
        what: &Publication<'_>,
    ) -> Verdict {
        let mut streams: Vec<ConnId> = Vec::with_capacity(tokens.len());
        let mut unknown = Vec::new();
        for text in tokens {
            let known = tokens::parse(text).and_then(|token| self.hub.streams.get(token));
            match known {
                Some(id) => {
                    let at = streams.partition_point(|other| *other < id);
                    streams.insert(at, id);
                }
                None => unknown.push(text),
            }
        }
        let receivers = streams.len();
        let whom = || "tokens".to_owned();
        let audience = Audience::Streams(streams);
        let verdict = self.hub.publish(audience, &[], whom, receivers, what);
        match verdict {
            Verdict::Done(_) if !unknown.is_empty() => {
                Verdict::Done(told_of(receivers, &unknown).into())
            }
            verdict => verdict,
        }
    }

    pub(super) fn publish_to_channels(
        &mut self,
        names: &[Cow<'_, str>],
        what: &Publication<'_>,
    ) -> Verdict {
        let channels = names.iter().filter_map(|name| self.hub.channels.find(name));
        let channels: Vec<ChannelId> = channels.collect();
        // A channel has members: there is no need to count them twice.
        if !channels.is_empty() && what.is_something() && self.hub.fan_outs.is_full() {
            return Verdict::Queued;
        }
        let receivers = self.receivers(&channels);
        // As they were given: whoever looks for an event that nobody got wants to see where it went.
        let whom = || names.join(",");
        let audience = Audience::Channels(channels);
        self.hub.publish(audience, names, whom, receivers, what)
    }

    pub(super) fn broadcast(&mut self, what: &Publication<'_>) -> Verdict {
        let receivers = self.hub.streams.len();
        let whom = || "broadcast".to_owned();
        let names = [EVERYBODY.into()];
        self.hub
            .publish(Audience::All, &names, whom, receivers, what)
    }

    /// How many streams are in any of these channels.
    fn receivers(&self, channels: &[ChannelId]) -> usize {
        let all = &self.hub.channels;
        // The members of the largest need not be looked at one by one.
        let largest = channels.iter().max_by_key(|channel| all.members(**channel));
        let mut counted: Vec<ChannelId> = largest.into_iter().copied().collect();
        let mut receivers = counted.iter().map(|it| all.members(*it)).sum();
        for channel in channels {
            if counted.contains(channel) {
                continue;
            }
            let is_new = |at: &usize| {
                let slot = all.member(*channel, *at);
                let conn = slot.and_then(|slot| self.conns.get(self.conns.at(slot as usize)?));
                conn.is_some_and(|conn| !all.of(&conn.joined).any(|it| counted.contains(&it)))
            };
            receivers += (0..all.members(*channel)).filter(is_new).count();
            counted.push(*channel);
        }
        receivers
    }
}

impl Publication<'_> {
    fn is_something(&self) -> bool {
        self.event.is_some() || self.close
    }
}

impl Hub {
    /// Begins a fan-out, if there is anything to bring to anybody, and keeps what is to be kept under
    /// these names; `whom` is for the log.
    fn publish(
        &mut self,
        audience: Audience,
        names: &[Cow<'_, str>],
        whom: impl FnOnce() -> String,
        receivers: usize,
        what: &Publication<'_>,
    ) -> Verdict {
        let is_something = receivers > 0 && what.is_something();
        if is_something && self.fan_outs.is_full() {
            return Verdict::Queued;
        }
        if let Some(event) = what.event
            && event.retain
            && !self.retain(event, names)
        {
            self.journal.limit(Limit::Retained, None, what.now);
            return Verdict::Refused(routes::RETAINED_FULL);
        }
        let length = what.event.map_or(0, |event| event.data.len());
        self.journal.fanned_out(whom, receivers, length);
        let mut answer = String::with_capacity(ANSWER_BYTES);
        answer.push_str("{\"status\":\"ok\",\"receivers\":");
        answer.push_str(&receivers.to_string());
        let mut frame = None;
        if let Some(event) = what.event
            && self.history.is_on()
            && !names.is_empty()
        {
            let id = self.history.next_id().text();
            let kept = self.next_frame(event, Some(&id));
            let names = names.iter().map(|name| &**name);
            self.history.append(&kept, names, what.now);
            answer.push_str(",\"id\":\"");
            answer.push_str(&id);
            answer.push('"');
            frame = Some(kept);
        }
        if is_something {
            let frame = frame.or_else(|| Some(self.frame(what.event?)));
            let is_kept = self.history.is_on() && !names.is_empty();
            let at = self.history.position();
            self.fan_outs
                .begin(audience, frame, is_kept, what.close, at);
        }
        answer.push('}');
        Verdict::Done(answer.into())
    }

    /// Makes an event the current value of these channels, or clears it. False: there is no room.
    fn retain(&mut self, event: &Event<'_>, names: &[Cow<'_, str>]) -> bool {
        let names = names.iter().map(|name| &**name);
        if event.data.is_empty() {
            names.for_each(|name| self.retained.clear(name));
            return true;
        }
        let value = self.next_frame(event, None);
        let max = self.settings.limits.max_retained;
        let fits = self.retained.fits(names.clone(), &value, max);
        if fits {
            names.for_each(|name| self.retained.set(name, Rc::clone(&value)));
        }
        fits
    }

    /// An event that goes to streams alone.
    pub(super) fn frame(&self, event: &Event<'_>) -> Rc<Frame> {
        let fields = self.settings.event_format.fields(event);
        Frame::event(&fields, event.key.as_deref(), self.history.last())
    }

    /// An event that the history gets next, if there is one.
    fn next_frame(&self, event: &Event<'_>, id: Option<&str>) -> Rc<Frame> {
        let fields = Fields {
            id,
            ..self.settings.event_format.fields(event)
        };
        let key = event.key.as_deref();
        match self.history.is_on() {
            true => Frame::numbered(&fields, key, self.history.last() + 1),
            false => Frame::event(&fields, key, 0),
        }
    }
}

/// The answer that names the tokens of nobody: the backend may forget them.
fn told_of(receivers: usize, unknown: &[&Cow<'_, str>]) -> String {
    let mut json = format!("{{\"status\":\"ok\",\"receivers\":{receivers},\"unknown\":[");
    for (number, text) in unknown.iter().enumerate() {
        if number > 0 {
            json.push(',');
        }
        wire::push_string(&mut json, text);
    }
    json.push_str("]}");
    json
}
