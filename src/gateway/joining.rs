//! How a stream comes into channels (contract, sections 11 and 12): where it begins there, what it is
//! told of what it has missed, and their current values.

use std::borrow::Cow;
use std::rc::Rc;

use super::conn::Conn;
use super::frame::Frame;
use super::history::{EVERYBODY, Start};
use super::hub::Hub;
use super::replay::{Asked, Leg, Replay};
use crate::event_id::EventId;
use crate::header_store::Request;
use crate::wire::{self, Directives};

/// The header field by which a client tells what it saw last (WHATWG HTML, "server-sent events").
const LAST_EVENT_ID: &str = "last-event-id";

/// Where a stream wants to begin.
#[derive(Clone, Copy, Debug)]
enum Begin<'a> {
    /// Behind everything.
    Now,
    /// Where this says, which may be anything.
    At(&'a str),
    /// Behind this event.
    Known(EventId),
}

/// What joining some channels comes to; nothing is done yet.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// The channels, and the numbers behind which the stream begins there.
    channels: Vec<(&'a str, u64)>,
    /// The same for what is for everybody.
    everybody: u64,
    asked: Asked,
    /// What the stream gets at once, in this order: a gap event, current values.
    pub(super) frames: Vec<Rc<Frame>>,
}

impl Hub {
    /// What it comes to that a stream joins these channels. Those that it is in already, of which
    /// `is_in` tells, are not told of their value.
    fn arrival<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
        is_in: impl Fn(&str) -> bool,
        begin: Begin<'_>,
    ) -> Arrival<'a> {
        let history = &self.history;
        let (start, text) = match begin {
            Begin::Now => (Start::Now, Cow::Borrowed("")),
            Begin::At(text) => (history.start(text), text.into()),
            Begin::Known(id) => (Start::Behind(id), id.to_string().into()),
        };
        let knows = |number| {
            let all = names.clone().chain([EVERYBODY]);
            all.into_iter()
                .all(|name| history.forgotten(name) <= number)
        };
        let now = (Some(history.last()), Asked::Id(history.position()));
        let ((behind, asked), missed) = match start {
            Start::Now => (now, None),
            Start::Earliest => ((None, Asked::Earliest), None),
            Start::Behind(id) if knows(history.number_of(id)) => {
                ((Some(history.number_of(id)), Asked::Id(id)), None)
            }
            Start::Behind(_) | Start::Unknown => (now, Some(text)),
        };
        let behind = |name| behind.unwrap_or_else(|| history.forgotten(name));
        let mut arrival = Arrival {
            channels: Vec::new(),
            everybody: behind(EVERYBODY),
            asked,
            frames: missed.iter().map(|text| self.gap(text)).collect(),
        };
        for name in names {
            let behind = behind(name);
            arrival.channels.push((name, behind));
            if !is_in(name) {
                arrival.frames.extend(self.value(name, behind));
            }
        }
        arrival
    }

    /// The event that says that something was missed.
    pub(super) fn gap(&self, asked: &str) -> Rc<Frame> {
        let mut data = "{\"last_event_id\":".to_owned();
        wire::push_string(&mut data, asked);
        data.push('}');
        let event = wire::Event {
            name: "gap".into(),
            data: data.into(),
            ..wire::Event::default()
        };
        let fields = self.settings.event_format.fields(&event);
        Frame::event(&fields, None, self.history.last())
    }

    /// What a stream gets as the current value of a channel in which it begins behind this number:
    /// nothing if the history brings it anyway.
    fn value(&self, name: &str, behind: u64) -> Option<Rc<Frame>> {
        let value = self.retained.get(name)?;
        let is_brought = behind < value.at() && self.history.keeps(value.at());
        (!is_brought).then(|| Rc::clone(value))
    }
}

impl<S> Conn<S> {
    /// A stream opens: it joins the answer's channels and begins where it is to. Gives what it gets
    /// at once.
    pub(super) fn join_by_answer(
        &mut self,
        hub: &mut Hub,
        request: &Request,
        directives: &Directives,
    ) -> Vec<Rc<Frame>> {
        let told = directives.joins.as_ref();
        let mut told = told.and_then(|joins| joins.last_event_id.clone());
        let replay = hub.replays.get(self.id);
        if replay.is_some() && told.is_none() {
            told = request.field(LAST_EVENT_ID).filter(|id| !id.is_empty());
        }
        let begin = match (replay, &told) {
            (None, _) => Begin::Now,
            (Some(_), Some(text)) => Begin::At(text),
            (Some(replay), None) => Begin::Known(replay.began),
        };
        let names = directives.channels().iter().map(String::as_str);
        let is_in = |name: &str| hub.channels.is_in(&self.joined, name);
        let arrival = hub.arrival(names, is_in, begin);
        if let Some(replay) = hub.replays.get_mut(self.id) {
            replay.begin(arrival.everybody, arrival.asked);
        }
        self.join(hub, &arrival);
        arrival.frames
    }

    /// What it comes to that a send subscribes the stream to these channels, when it has left some.
    pub(super) fn arrival<'a>(
        &self,
        hub: &Hub,
        leaves: &[Cow<'_, str>],
        joins: &'a [Cow<'a, str>],
        last_event_id: Option<&str>,
    ) -> Arrival<'a> {
        let is_new = |name: &&str| {
            leaves.iter().any(|left| left == name) || !hub.channels.is_in(&self.joined, name)
        };
        let names = joins.iter().map(|name| &**name).filter(is_new);
        let begin = match last_event_id {
            Some(text) if hub.history.is_on() && names.clone().next().is_some() => Begin::At(text),
            _ => Begin::Now,
        };
        hub.arrival(names, |_| false, begin)
    }

    /// Joins channels, and has come what is to come from their past.
    pub(super) fn join(&mut self, hub: &mut Hub, arrival: &Arrival<'_>) {
        let now = hub.history.last();
        let has_past = arrival.channels.iter().any(|(_, behind)| *behind < now);
        if has_past && !self.is_replaying {
            self.begin_replay(hub);
        }
        if let Some(replay) = hub.replays.get_mut(self.id) {
            // Many may wait, and for long.
            replay.legs.reserve_exact(arrival.channels.len());
        }
        for (name, behind) in &arrival.channels {
            let name = hub
                .channels
                .join(&mut self.joined, self.id.index(), name, *behind);
            if let Some(replay) = hub.replays.get_mut(self.id) {
                replay.join(name, *behind, &hub.history);
                if has_past {
                    replay.asked = arrival.asked;
                }
            }
        }
    }

    /// Leaves a channel; what was sent there before comes still.
    pub(super) fn leave(&mut self, hub: &mut Hub, name: &str) {
        hub.channels.leave(&mut self.joined, name);
        if let Some(replay) = hub.replays.get_mut(self.id) {
            replay.leave(name, &hub.history);
        }
    }

    /// From now on the stream gets its events of channels from the history: what waits for it already
    /// comes before.
    pub(super) fn begin_replay(&mut self, hub: &mut Hub) {
        let mut replay = Replay::new(&hub.history);
        let now = hub.history.last();
        for (name, since) in hub.channels.names(&self.joined) {
            replay.legs.push(Leg {
                since,
                ..Leg::new(name, now)
            });
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.go_ahead();
        }
        hub.replays.insert(self.id, replay);
        self.is_replaying = true;
    }
}
