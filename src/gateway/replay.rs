//! What is still to come to a stream from the history (contract, section 12): a cursor for each of its
//! channels, and which event is the next.
//!
//! Laws: a stream that is here gets its events of channels, and those for all, from the history alone;
//! a fan-out does not put them into its queue. What is not in the history, sends by token, waits in its
//! backlog and is merged by what had been published when it was read. A stream comes here when it
//! asks to open and when it joins with a past; it leaves once it has everything that was read before
//! what it was last touched by, and its fan-outs begin behind that.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::ConnId;
use super::history::{Cursor, EVERYBODY, History};
use crate::event_id::EventId;

/// Events that are looked at for one batch and need not be sent, before others have their turn.
const LOOKS: usize = 4096;

/// Streams that have something to come from the history, by their slots.
#[derive(Debug, Default)]
pub(super) struct Replays {
    by_slot: Vec<Option<Box<Replay>>>,
    count: usize,
    /// Those whose socket has taken a batch and may take the next one.
    pub(super) unfinished: VecDeque<ConnId>,
}

/// What is to come to one of them.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) legs: Vec<Leg>,
    /// The position that its connect callback carried.
    pub(super) began: EventId,
    /// Where it wanted to begin; a gap event says so.
    pub(super) asked: Asked,
    /// Everything up to this number was read before whatever touched the stream last.
    pub(super) until: u64,
    /// The id of that.
    pub(super) position: EventId,
    /// The stream ends behind what came up to this number.
    pub(super) ends: Option<u64>,
}

/// One channel of it.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) name: Rc<str>,
    /// It was joined behind this number.
    pub(super) since: u64,
    /// It has everything up to this number.
    pub(super) at: u64,
    /// It was left, and this is its last event; [`u64::MAX`] otherwise.
    pub(super) until: u64,
}

/// Where a stream wanted to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Behind this event.
    Id(EventId),
    /// With all that was kept.
    Earliest,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Id(id) => id.fmt(f),
            Asked::Earliest => f.write_str("earliest"),
        }
    }
}

impl Replays {
    pub(super) fn get(&self, id: ConnId) -> Option<&Replay> {
        self.by_slot.get(id.index())?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Replay> {
        self.by_slot.get_mut(id.index())?.as_deref_mut()
    }

    pub(super) fn insert(&mut self, id: ConnId, replay: Replay) {
        if self.by_slot.len() <= id.index() {
            self.by_slot.resize_with(id.index() + 1, || None);
        }
        self.by_slot[id.index()] = Some(Box::new(replay));
        self.count += 1;
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Replay>> {
        let replay = self.by_slot.get_mut(id.index())?.take();
        self.count -= usize::from(replay.is_some());
        replay
    }

    /// Whether a stream ends once it has what is to come: it gets nothing else.
    pub(super) fn is_ending(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|replay| replay.ends.is_some())
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Gives back the memory of those who are gone.
    pub(super) fn shrink_to_fit(&mut self) {
        let used = self.by_slot.iter().rposition(Option::is_some);
        self.by_slot.truncate(used.map_or(0, |last| last + 1));
        self.by_slot.shrink_to_fit();
        self.unfinished.shrink_to_fit();
    }
}

impl Replay {
    /// Of a stream that gets what is for all from now on.
    pub(super) fn new(history: &History) -> Replay {
        let last = history.last();
        Replay {
            legs: vec![Leg::new(history.everybody(), last)],
            began: history.position(),
            asked: Asked::Id(history.position()),
            until: last,
            position: history.position(),
            ends: None,
        }
    }

    /// What the stream is given by fan-outs reaches to the history's end. One that ends before that has
    /// not had what is behind its end, and will want it when its client comes again.
    pub(super) fn caught_up(&mut self, history: &History) {
        if self.ends.is_none() {
            self.until = history.last();
            self.position = history.position();
        }
    }

    /// The stream opens, and gets what is for everybody from behind this number on.
    pub(super) fn begin(&mut self, everybody: u64, asked: Asked, history: &History) {
        self.asked = asked;
        self.legs.retain(|leg| &*leg.name != EVERYBODY);
        self.join(history.everybody(), everybody, history);
    }

    /// The stream gets a channel's events from behind this number on.
    pub(super) fn join(&mut self, name: Rc<str>, at: u64, history: &History) {
        let mut legs = self.legs.iter_mut();
        match legs.find(|leg| leg.name == name && leg.until == u64::MAX) {
            // Nothing has come by it yet: it is one and the same joining.
            Some(leg) => (leg.since, leg.at) = (leg.since.min(at), leg.at.min(at)),
            None => {
                let mut leg = Leg::new(name, at);
                if let Some(ends) = self.ends {
                    leg.end(ends, history);
                }
                self.legs.push(leg);
            }
        }
        self.drop_ended();
    }

    /// The stream gets no event of this channel from now on.
    pub(super) fn leave(&mut self, name: &str, history: &History) {
        for leg in &mut self.legs {
            if &*leg.name == name {
                leg.end(history.last(), history);
            }
        }
        self.drop_ended();
    }

    /// The stream gets no event at all behind this position, and ends there.
    pub(super) fn close(&mut self, position: EventId, history: &History) {
        if self.ends.is_some() {
            return;
        }
        let at = history.number_of(position);
        self.ends = Some(at);
        (self.until, self.position) = (at, position);
        for leg in &mut self.legs {
            leg.end(at, history);
        }
        self.drop_ended();
    }

    /// Legs that have come to their end. Of a stream that ends, and joins nothing more but when it
    /// opens, it is to be known what has come by them.
    fn drop_ended(&mut self) {
        let is_ending = self.ends.is_some();
        self.legs.retain(|leg| {
            let has_given = leg.since < leg.at;
            leg.at < leg.until || is_ending && has_given
        });
    }

    /// All up to this number was given.
    pub(super) fn advance(&mut self, number: u64) {
        for leg in &mut self.legs {
            leg.at = leg.at.max(number);
        }
    }

    /// Something that was to come is forgotten.
    pub(super) fn is_overtaken(&self, history: &History) -> bool {
        let mut legs = self.legs.iter();
        legs.any(|leg| leg.at < leg.until && history.forgotten(&leg.name) > leg.at)
    }

    /// Goes on from now.
    pub(super) fn skip(&mut self, history: &History) {
        self.advance(history.last());
        self.legs.retain(|leg| leg.until == u64::MAX);
    }
}

impl Leg {
    /// Of a channel that was joined behind this number.
    pub(super) fn new(name: Rc<str>, at: u64) -> Leg {
        Leg {
            name,
            since: at,
            at,
            until: u64::MAX,
        }
    }

    /// Nothing comes behind this number, nor behind the last event up to it: what is forgotten later is
    /// none of its own.
    fn end(&mut self, until: u64, history: &History) {
        self.until = history.last_of(&self.name, self.until.min(until));
    }

    fn has_given(&self, number: u64) -> bool {
        self.since < number && number <= self.at
    }

    fn is_to_give(&self, number: u64) -> bool {
        self.at < number && number <= self.until
    }
}

/// The events that are to come to a stream, in their order, each once. The last call's number is not
/// given yet: [`Replay::advance`] says so.
pub(super) struct Merge<'a> {
    history: &'a History,
    cursors: &'a mut Vec<Cursor>,
    /// Nothing behind this number.
    until: u64,
    /// What may still be passed over.
    looks: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The event of this number.
    Event(u64),
    /// More than one look can tell, and nothing up to this number.
    Later(u64),
    /// Nothing.
    End,
}

impl Next {
    /// Whether it comes after what was read when there were `at` events.
    pub(super) fn is_behind(self, at: u64) -> bool {
        match self {
            Next::Event(number) | Next::Later(number) => at < number,
            Next::End => true,
        }
    }
}

impl<'a> Merge<'a> {
    /// `cursors` is room for them.
    pub(super) fn new(
        history: &'a History,
        replay: &Replay,
        cursors: &'a mut Vec<Cursor>,
    ) -> Merge<'a> {
        cursors.clear();
        let legs = replay.legs.iter();
        cursors.extend(legs.map(|leg| history.cursor(&leg.name, leg.at)));
        Merge {
            history,
            cursors,
            until: replay.until,
            looks: LOOKS,
        }
    }

    /// The next event that is to come; its legs are those of [`Merge::new`].
    pub(super) fn next(&mut self, legs: &[Leg]) -> Next {
        loop {
            let both = self.cursors.iter().zip(legs);
            let open = both.filter_map(|(cursor, leg)| cursor.next.filter(|it| *it <= leg.until));
            let Some(number) = open.min().filter(|number| *number <= self.until) else {
                return Next::End;
            };
            for cursor in self.cursors.iter_mut() {
                if cursor.next == Some(number) {
                    self.history.advance(cursor);
                }
            }
            if !self.is_given(legs, number) && !self.is_replaced(legs, number) {
                return Next::Event(number);
            }
            self.looks -= 1;
            if self.looks == 0 {
                return Next::Later(number);
            }
        }
    }

    /// It came by another of its channels, before the one by which it would come now was joined.
    fn is_given(&self, legs: &[Leg], number: u64) -> bool {
        let mut both = self.cursors.iter().zip(legs);
        both.any(|(cursor, leg)| leg.has_given(number) && self.history.is_in(number, cursor))
    }

    /// Of events with the same key the last comes only.
    fn is_replaced(&self, legs: &[Leg], number: u64) -> bool {
        let mut later = self.history.later(number);
        while let Some(number) = later.filter(|it| *it <= self.until) {
            let mut both = self.cursors.iter().zip(legs);
            if both
                .any(|(cursor, leg)| leg.is_to_give(number) && self.history.is_in(number, cursor))
            {
                return true;
            }
            later = self.history.later(number);
        }
        false
    }
}
