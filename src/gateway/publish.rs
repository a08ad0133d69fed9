//! Sends to many (contract, section 11): whom they reach, and what the publisher is told.

use std::borrow::Cow;
use std::rc::Rc;

use super::channels::ChannelId;
use super::fanout::Audience;
use super::frame::Frame;
use super::hub::Hub;
use super::send::Verdict;
use super::{ConnId, Gateway};
use crate::tokens;
use crate::wire::{self, Event};

impl<S> Gateway<S> {
    pub(super) fn publish_to_tokens(
        &mut self,
        tokens: &[Cow<'_, str>],
        event: Option<&Event<'_>>,
        close: bool,
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
        let verdict = self.hub.publish(audience, whom, receivers, event, close);
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
        event: Option<&Event<'_>>,
        close: bool,
    ) -> Verdict {
        let channels = names.iter().filter_map(|name| self.hub.channels.find(name));
        let channels: Vec<ChannelId> = channels.collect();
        // A channel has members: there is no need to count them twice.
        let is_something = !channels.is_empty() && (event.is_some() || close);
        if is_something && self.hub.fan_outs.is_full() {
            return Verdict::Queued;
        }
        let receivers = self.receivers(&channels);
        // As they were given: whoever looks for an event that nobody got wants to see where it went.
        let whom = || names.join(",");
        let audience = Audience::Channels(channels);
        self.hub.publish(audience, whom, receivers, event, close)
    }

    pub(super) fn broadcast(&mut self, event: Option<&Event<'_>>, close: bool) -> Verdict {
        let receivers = self.hub.streams.len();
        let whom = || "broadcast".to_owned();
        self.hub
            .publish(Audience::All, whom, receivers, event, close)
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

impl Hub {
    /// Begins a fan-out, if there is anything to bring to anybody; `whom` is for the log.
    fn publish(
        &mut self,
        audience: Audience,
        whom: impl FnOnce() -> String,
        receivers: usize,
        event: Option<&Event<'_>>,
        close: bool,
    ) -> Verdict {
        let is_something = receivers > 0 && (event.is_some() || close);
        if is_something && self.fan_outs.is_full() {
            return Verdict::Queued;
        }
        let length = event.map_or(0, |event| event.data.len());
        self.journal.fanned_out(whom, receivers, length);
        if is_something {
            let frame: Option<Rc<Frame>> = event.map(|event| {
                let fields = self.settings.event_format.fields(event);
                Frame::event(&fields, event.key.as_deref(), 0)
            });
            self.fan_outs.begin(audience, frame, close);
        }
        Verdict::Done(format!("{{\"status\":\"ok\",\"receivers\":{receivers}}}").into())
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
