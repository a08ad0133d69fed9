//! One send, many receivers (contract, section 11): events that are on their way to a crowd.
//!
//! ```text
//! command ─► publish ─► pending, with its number; the publisher is answered
//!            a slice of each turn ─► the next receivers ─► catch_up ─► Flush
//!            whatever touches a stream ────────────────► catch_up first
//! ```
//!
//! Each fan-out has a number, and each stream remembers the number up to which it was given what is
//! its own. So it does not matter who asks, how often, or in which order streams are walked over: a
//! stream's events reach it in the order in which they were read, each once. Memberships change
//! behind [`Conn::catch_up`] alone, so that those of a stream that was not given a fan-out are those
//! of the moment at which it was read.

use std::collections::VecDeque;
use std::rc::Rc;

use super::channels::{ChannelId, Channels, Joined};
use super::conn::{Conn, State};
use super::frame::Frame;
use super::hub::Hub;
use super::{ConnId, Effect, Gateway, routes};
use crate::callback::Reason;
use crate::event_id::EventId;
use crate::sse::Framing;
use crate::time::Time;

/// Fan-outs that may be pending before further ones, and whoever sends them, have to wait.
pub(super) const MOST: usize = 8;

/// Bytes of events that may be pending before that, one event aside, whatever their number.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// What one slice may do before others have their turn: streams that are given something...
const SLICE_RECEIVERS: usize = 64;
/// ...bytes that they are given...
const SLICE_BYTES: usize = 256 * 1024;
/// ...and slots that are looked at.
const SLICE_LOOKS: usize = 4096;

/// Fan-outs that have not come to everybody.
#[derive(Debug, Default)]
pub(super) struct FanOuts {
    pending: VecDeque<FanOut>,
    /// The number of the youngest.
    last: u64,
    /// The last slice was of the one with the fewest places left, and the next one is of the oldest.
    was_shortest: bool,
    /// Publishers whose fan-out waits for one of these places.
    pub(super) waiting: VecDeque<ConnId>,
}

#[derive(Debug)]
struct FanOut {
    number: u64,
    event: Option<Rc<Frame>>,
    /// The event is in the history as well.
    is_kept: bool,
    close: bool,
    /// The history's position when it was read, with its own event.
    at: EventId,
    audience: Audience,
    /// Parts of the audience that have been walked over.
    parts: usize,
    /// Places of the present part that have not been looked at: from the end, so that whoever takes
    /// the place of one that leaves has had its turn.
    left: Option<usize>,
    /// Somebody was passed over, because older ones had too much for him at once: all are walked
    /// over again when it is the oldest.
    is_cut: bool,
}

/// Whom a fan-out is for.
#[derive(Debug)]
pub(super) enum Audience {
    /// Those who are in any of these channels.
    Channels(Vec<ChannelId>),
    /// These streams, in the order of their ids.
    Streams(Vec<ConnId>),
    /// Everybody.
    All,
}

impl FanOuts {
    /// Whether one more has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MOST || self.bytes() > MOST_BYTES
    }

    fn bytes(&self) -> usize {
        let events = self.pending.iter().filter_map(|it| it.event.as_ref());
        events.map(|event| event.memory()).sum()
    }

    /// How many are pending.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The number of the youngest: a stream that begins now is given none up to it.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Begins one, when the history has come to the position `at`.
    pub(super) fn begin(
        &mut self,
        audience: Audience,
        event: Option<Rc<Frame>>,
        is_kept: bool,
        close: bool,
        at: EventId,
    ) {
        self.last += 1;
        self.pending.push_back(FanOut {
            number: self.last,
            event,
            is_kept,
            close,
            at,
            audience,
            parts: 0,
            left: None,
            is_cut: false,
        });
    }

    /// Whose slice is the next: in turn the oldest's, so that each comes to its end, and that of the
    /// one with the fewest places left, so that three receivers need not wait for 100,000.
    fn choose(&mut self, channels: &Channels, slots: usize) -> usize {
        self.was_shortest = !self.was_shortest;
        if !self.was_shortest || self.pending.len() < 2 {
            return 0;
        }
        let left = |it: &FanOut| it.places_left(channels, slots);
        let all = self.pending.iter().map(left).enumerate();
        let shortest = all.filter(|(_, left)| *left > 0).min_by_key(|it| it.1);
        shortest.map_or(0, |(at, _)| at)
    }

    /// What the oldest that is younger than `seen` has for a stream, and its number.
    fn next_for(
        &self,
        seen: u64,
        id: ConnId,
        joined: &Joined,
        channels: &Channels,
    ) -> Option<Part> {
        let mut unseen = self.pending.iter().filter(|it| it.number > seen);
        let fan_out = unseen.find(|it| it.audience.holds(id, joined, channels))?;
        Some(Part {
            number: fan_out.number,
            event: fan_out.event.clone(),
            is_kept: fan_out.is_kept,
            close: fan_out.close,
            at: fan_out.at,
        })
    }

    /// Takes one off that was walked over, unless somebody was passed over.
    fn end(&mut self, at: usize) {
        match self.pending.get_mut(at) {
            Some(fan_out) if fan_out.is_cut => {
                if at == 0 {
                    (fan_out.parts, fan_out.left, fan_out.is_cut) = (0, None, false);
                }
            }
            _ => {
                self.pending.remove(at);
            }
        }
    }
}

impl FanOut {
    /// The next slot to look at; `slots` is how many connections there may be. `None`: all were
    /// looked at.
    fn next_slot(&mut self, channels: &Channels, slots: usize) -> Option<u32> {
        loop {
            let here = self.audience.len(self.parts, channels, slots)?;
            let left = self.left.unwrap_or(here).min(here);
            if let Some(at) = left.checked_sub(1) {
                self.left = Some(at);
                return Some(self.audience.slot(self.parts, at, channels));
            }
            self.parts += 1;
            self.left = None;
        }
    }

    /// Places that have not been looked at.
    fn places_left(&self, channels: &Channels, slots: usize) -> usize {
        let parts = self.parts..;
        let lengths = parts.map_while(|part| self.audience.len(part, channels, slots));
        let all: usize = lengths.sum();
        let here = self.audience.len(self.parts, channels, slots).unwrap_or(0);
        all - here + self.left.unwrap_or(here).min(here)
    }
}

/// What a fan-out has for one stream.
struct Part {
    number: u64,
    event: Option<Rc<Frame>>,
    is_kept: bool,
    close: bool,
    at: EventId,
}

impl Part {
    /// Bytes of it for a stream; what only ends one is work too.
    fn length(&self, framing: Framing) -> usize {
        let event = self.event.as_ref();
        event.map_or(1, |event| event.bytes(framing).len())
    }
}

impl Audience {
    /// Whether a stream is in it.
    fn holds(&self, id: ConnId, joined: &Joined, channels: &Channels) -> bool {
        match self {
            Audience::Channels(all) => channels.of(joined).any(|it| all.contains(&it)),
            Audience::Streams(all) => all.binary_search(&id).is_ok(),
            Audience::All => true,
        }
    }

    /// Places of a part; `None` behind the last part.
    fn len(&self, part: usize, channels: &Channels, slots: usize) -> Option<usize> {
        match self {
            Audience::Channels(all) => all.get(part).map(|it| channels.members(*it)),
            Audience::Streams(all) => (part == 0).then_some(all.len()),
            Audience::All => (part == 0).then_some(slots),
        }
    }

    /// Who stands at a place of a part.
    fn slot(&self, part: usize, at: usize, channels: &Channels) -> u32 {
        match self {
            Audience::Channels(all) => channels.member(all[part], at).unwrap_or(u32::MAX),
            Audience::Streams(all) => all[at].index,
            Audience::All => at as u32,
        }
    }
}

impl<S> Gateway<S> {
    /// Brings pending events to their next receivers, as many as one slice may; to be called once
    /// in a turn, and its effects carried out. [`Gateway::is_fanning_out`] tells whether there is
    /// more to do.
    pub fn fan_out(&mut self, now: Time) {
        self.fan_out_by(SLICE_LOOKS, now);
        self.replay_on(now);
    }

    /// The same with so many slots, or fewer.
    pub fn fan_out_by(&mut self, most_looks: usize, now: Time) {
        let (mut receivers, mut bytes, mut looks) = (0, 0, 0);
        let Hub {
            fan_outs, channels, ..
        } = &mut self.hub;
        let mut at = fan_outs.choose(channels, self.conns.capacity());
        while !self.hub.fan_outs.is_empty() {
            if receivers >= SLICE_RECEIVERS || bytes >= SLICE_BYTES || looks >= most_looks {
                return;
            }
            looks += 1;
            let (pending, channels) = (&mut self.hub.fan_outs.pending, &self.hub.channels);
            let slots = self.conns.capacity();
            let Some(slot) = pending[at].next_slot(channels, slots) else {
                self.walked_over(at, now);
                at = 0;
                continue;
            };
            if let Some(id) = self.conns.at(slot as usize) {
                let most = self.hub.settings.limits.max_unsent;
                let given = self.catch_up(id, most, now);
                receivers += usize::from(given > 0);
                bytes += given;
                let seen = self
                    .conns
                    .get(id)
                    .filter(|conn| conn.state.token().is_some());
                let fan_out = &mut self.hub.fan_outs.pending[at];
                fan_out.is_cut |= seen.is_some_and(|conn| conn.seen < fan_out.number);
            }
        }
    }

    /// Whether [`Gateway::fan_out`] has anything to do.
    pub fn is_fanning_out(&self) -> bool {
        !self.hub.fan_outs.is_empty() || !self.hub.replays.unfinished.is_empty()
    }

    /// Gives a stream what is pending for it, up to so many bytes, and brings it to rest; gives the
    /// bytes of that. See [`Conn::catch_up_with`].
    pub(super) fn catch_up(&mut self, id: ConnId, most: usize, now: Time) -> usize {
        let Some((conn, hub)) = self.both(id) else {
            return 0;
        };
        let given = conn.catch_up_with(hub, most, now);
        if given > 0 {
            if conn.is_blocked {
                self.evict_outbound(id, now);
            }
            self.settle(id, now);
        }
        given
    }

    /// One has come to everybody, or nearly: there may be room for whoever waits.
    fn walked_over(&mut self, at: usize, now: Time) {
        self.hub.fan_outs.end(at);
        while !self.hub.fan_outs.is_full()
            && let Some(publisher) = self.hub.fan_outs.waiting.pop_front()
        {
            let Some((conn, hub)) = self.both(publisher) else {
                continue;
            };
            let Some(mut command) = conn.state.take_queueing(now) else {
                continue;
            };
            conn.charge(hub);
            self.send(publisher, command.bytes(), now);
            command.clear(&mut self.hub.spares);
            if let Some((conn, hub)) = self.both(publisher) {
                hub.effect(Effect::Read(publisher));
                conn.await_serving(hub, now);
            }
        }
    }
}

impl<S> Conn<S> {
    /// Gives a stream what fan-outs have for it that it was not given. To be done before anything
    /// else is appended to it, ends it or changes its channels.
    pub(super) fn catch_up(&mut self, hub: &mut Hub, now: Time) {
        self.catch_up_with(hub, usize::MAX, now);
    }

    /// The same up to so many bytes, but for the first event: the rest can wait until the socket
    /// was offered these. Gives the bytes of what was given.
    fn catch_up_with(&mut self, hub: &mut Hub, most: usize, now: Time) -> usize {
        let mut given = 0;
        while self.seen < hub.fan_outs.last && self.state.token().is_some() {
            let part = hub
                .fan_outs
                .next_for(self.seen, self.id, &self.joined, &hub.channels);
            let Some(part) = part else {
                self.seen = hub.fan_outs.last;
                break;
            };
            let length = part.length(self.state.framing());
            if given > 0 && given + length > most {
                break;
            }
            self.seen = part.number;
            given += length;
            self.take_part(hub, part, now);
        }
        if self.is_replaying
            && self.seen == hub.fan_outs.last
            && let Some(replay) = hub.replays.get_mut(self.id)
        {
            replay.caught_up(&hub.history);
        }
        given
    }

    fn take_part(&mut self, hub: &mut Hub, part: Part, now: Time) {
        if self.is_replaying && hub.replays.is_ending(self.id) {
            return;
        }
        // What comes from the history does not come twice, but stands for what waits with its key.
        let is_kept = part.is_kept && self.is_replaying;
        if is_kept && let Some(event) = &part.event {
            self.take_out(hub, event);
        }
        let event = part.event.filter(|_| !is_kept);
        match &mut self.state {
            State::AwaitingCallback(awaiting) if awaiting.is_close_buffered => {}
            State::AwaitingCallback(awaiting) => {
                awaiting.is_close_buffered = part.close;
                if let Some(event) = event {
                    self.take_into_window(hub, event, now);
                }
                if part.close {
                    self.close_replay(hub, part.at);
                }
            }
            State::Streaming(_) => {
                if let Some(event) = event
                    && !self.append(hub, event, now)
                {
                    return;
                }
                if part.close {
                    self.close_stream(hub, part.at, now);
                }
            }
            _ => {}
        }
    }

    /// An event for many that comes before the backend's word. A client whose window cannot take
    /// it would miss it and not know.
    fn take_into_window(&mut self, hub: &mut Hub, event: Rc<Frame>, now: Time) {
        let own = if event.is_held() { 0 } else { event.memory() };
        match self.window_limit(hub, std::slice::from_ref(&event), own) {
            None => {
                self.hold(hub, event);
                self.charge(hub);
            }
            Some(limit) => {
                hub.journal.limit(limit, self.state.token(), now);
                self.turn_back(hub, Reason::Error, &routes::OVERLOADED, now);
            }
        }
    }
}
