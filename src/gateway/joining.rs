//! How a stream comes into channels (contract, sections 11 and 12): where it begins there, what it is
//! told of what it has missed, and their current values.

use std::borrow::Cow;
use std::rc::Rc;

use uuid::Uuid;

use super::conn::{Awaiting, Conn};
use super::frame::Frame;
use super::history::{EVERYBODY, Start};
use super::hub::Hub;
use super::replay::{Asked, Leg, Replay};
use super::retained::Value;
use crate::event_id::EventId;
use crate::sse::Fields;
use crate::time::Time;
use crate::wheel::Tick;
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

/// A channel that is to be joined.
struct Joining<'a> {
    name: &'a str,
    /// The stream is not in it.
    is_new: bool,
}

/// What joining some channels comes to; nothing is done yet.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// The channels, and the numbers behind which the stream begins there.
    channels: Vec<(&'a str, u64)>,
    /// The same for what is for everybody.
    everybody: u64,
    asked: Asked,
    /// What it asked for, if something behind that is lost.
    missed: Option<String>,
    /// What the stream gets at once, in this order: a gap event, current values.
    pub(super) frames: Vec<Rc<Frame>>,
}

impl Hub {
    /// What it comes to that a stream joins these channels, some of which it may be in already. Only
    /// one that opens may have missed what is for everybody.
    fn arrival<'a>(&self, names: Vec<Joining<'a>>, begin: Begin<'_>, opens: bool) -> Arrival<'a> {
        let history = &self.history;
        let (start, text) = match begin {
            Begin::Now => (Start::Now, Cow::Borrowed("")),
            Begin::At(text) => (history.start(text), text.into()),
            Begin::Known(id) => (Start::Behind(id), id.to_string().into()),
        };
        let knows = |number| {
            let names = names.iter().map(|it| it.name);
            names
                .chain(opens.then_some(EVERYBODY))
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
            missed: missed.map(Cow::into_owned),
            frames: Vec::new(),
        };
        let mut values: Vec<&Value> = Vec::new();
        for Joining { name, is_new } in names {
            let behind = behind(name);
            arrival.channels.push((name, behind));
            // It may be the value of several of them, and is one event.
            if is_new
                && let Some(value) = self.value(name, behind)
                && !values.iter().any(|it| Rc::ptr_eq(&it.frame, &value.frame))
            {
                let at = values.partition_point(|it| it.number < value.number);
                values.insert(at, value);
            }
        }
        let gap = arrival.missed.as_ref().map(|text| self.gap(text));
        arrival.frames.extend(gap);
        let values = values.into_iter().map(|value| Rc::clone(&value.frame));
        arrival.frames.extend(values);
        arrival
    }

    /// The event that says that something was missed.
    pub(super) fn gap(&self, asked: &str) -> Rc<Frame> {
        let mut data = "{\"last_event_id\":".to_owned();
        wire::push_string(&mut data, asked);
        data.push('}');
        // The gateway's own words are in no envelope (contract, section 16).
        let fields = Fields {
            name: "gap",
            id: None,
            retry: None,
            data: data.into(),
        };
        Frame::event(&fields, None, self.history.last())
    }

    /// What a stream gets as the current value of a channel in which it begins behind this number:
    /// nothing if the history brings it anyway.
    fn value(&self, name: &str, behind: u64) -> Option<&Value> {
        let value = self.retained.get(name)?;
        let at = value.frame.at();
        let is_brought = behind < at && self.history.keeps(at);
        (!is_brought).then_some(value)
    }
}

impl<S> Conn<S> {
    /// A stream opens: it joins the answer's channels and begins where it is to. Gives what it gets
    /// at once.
    pub(super) fn join_by_answer(
        &mut self,
        hub: &mut Hub,
        awaiting: &Awaiting,
        directives: &Directives,
        now: Time,
    ) -> Vec<Rc<Frame>> {
        let told = directives.joins.as_ref();
        let mut told = told.and_then(|joins| joins.last_event_id.clone());
        let replay = hub.replays.get(self.id);
        if replay.is_some() && told.is_none() {
            let request = &awaiting.what.request;
            told = request.field(LAST_EVENT_ID).filter(|id| !id.is_empty());
        }
        let begin = match (replay, &told) {
            (None, _) => Begin::Now,
            (Some(_), Some(text)) => Begin::At(text),
            (Some(replay), None) => Begin::Known(replay.began),
        };
        let names = directives.channels().iter().map(|name| Joining {
            name,
            is_new: !hub.channels.is_in(&self.joined, name),
        });
        let arrival = hub.arrival(names.collect(), begin, true);
        if let Some(replay) = hub.replays.get_mut(self.id) {
            replay.begin(arrival.everybody, arrival.asked, &hub.history);
        }
        self.join(hub, &arrival, Some(awaiting.token), now);
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
        let mut names = Vec::new();
        for name in joins {
            if leaves.contains(name) || !hub.channels.is_in(&self.joined, name) {
                let is_new = true;
                names.push(Joining { name, is_new });
            }
        }
        let begin = match last_event_id {
            Some(text) if hub.history.is_on() && !names.is_empty() => Begin::At(text),
            _ => Begin::Now,
        };
        hub.arrival(names, begin, false)
    }

    /// Joins channels, and has come what is to come from their past.
    pub(super) fn join(
        &mut self,
        hub: &mut Hub,
        arrival: &Arrival<'_>,
        token: Option<Uuid>,
        now: Time,
    ) {
        if let Some(asked) = &arrival.missed {
            hub.journal.gap(token, asked);
        }
        let last = hub.history.last();
        let has_past = arrival.channels.iter().any(|(_, behind)| *behind < last);
        if has_past && !self.is_replaying {
            self.begin_replay(hub, now);
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
    pub(super) fn begin_replay(&mut self, hub: &mut Hub, now: Time) {
        let mut replay = Replay::new(&hub.history);
        let last = hub.history.last();
        for (name, since) in hub.channels.names(&self.joined) {
            replay.legs.push(Leg {
                since,
                ..Leg::new(name, last)
            });
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.go_ahead();
        }
        if self.is_written() {
            self.stalled_since = Tick::at(now);
        }
        hub.replays.insert(self.id, replay);
        self.is_replaying = true;
    }
}
