//! What was sent to channels and to all lately (contract, section 12), for those who come again.
//!
//! Events have numbers, one behind the other; each is kept once, whatever the number of its channels,
//! and each channel knows the numbers of its own. The oldest is forgotten first. A channel of which
//! nothing is kept costs nothing but how far it reached.

mod blocks;
mod figures;
mod tails;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::frame::Frame;
use crate::event_id::EventId;
use crate::sse::Framing;
use crate::time::Time;
pub(super) use blocks::Kept;
use blocks::{Blocks, Place};
use tails::Tails;

/// Stands for every stream; no channel has this name.
pub(super) const EVERYBODY: &str = "";

/// Bytes that an event takes beside its own: its entry and its place in one channel, and what lists
/// of them have in reserve.
const ENTRY: usize = 56;
/// Bytes for each further channel of it.
const FURTHER: usize = 8;
/// Bytes that a channel takes of which something is kept, beside its name.
const CHANNEL: usize = 160;
/// Bytes that a key takes, beside its own, which are there twice.
const KEY: usize = 72;

/// Events that are forgotten at once for their age: a second may have brought a few hundred thousand.
const EXPIRY_BUDGET: usize = 8192;

/// Random bits of the first number: a process that starts again, be it on a clock that went back,
/// gives no id twice.
const RANDOM_BITS: u32 = 40;

/// Events, in the order of their numbers, which begin with one.
#[derive(Debug)]
pub(super) struct History {
    /// Bytes of all that is kept; zero: nothing is.
    max: usize,
    /// How long it is kept.
    time: Duration,
    entries: VecDeque<Entry>,
    /// The number of the last event so far; zero before the first.
    last: u64,
    blocks: Blocks,
    channels: Slab<Channel>,
    names: HashMap<Rc<str>, u32>,
    everybody: Rc<str>,
    /// The lower half of the number of each key's last event.
    keys: HashMap<Rc<str>, u32>,
    tails: Tails,
    /// Bytes of what is kept.
    memory: usize,
    /// The id of the event before the first.
    start: EventId,
    /// The milliseconds of the last id.
    millis: u64,
    /// The present milliseconds of the Unix clock.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    /// When it came, in seconds, rounded up.
    second: u32,
    /// Its first channel; others stand behind its bytes.
    channel: u32,
    /// How many events later the next one of its key came; zero: none did.
    later: u32,
}

/// A channel of which something is kept; the one without a name always is.
#[derive(Debug)]
struct Channel {
    name: Rc<str>,
    /// The numbers of its events, the lower halves of them.
    events: VecDeque<u32>,
    /// The number of the last of its events that is forgotten.
    forgotten: u64,
    /// Bytes of its events, as streams get them.
    bytes: u64,
}

/// A channel's next event for somebody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// The channel, if anything of it is kept.
    channel: Option<u32>,
    /// The place among the channel's events.
    index: usize,
    /// The event's number.
    pub(super) next: Option<u64>,
}

/// Where a stream wants to begin (contract, section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Behind everything that there was.
    Now,
    /// Behind this event.
    Behind(EventId),
    /// With all that is kept.
    Earliest,
    /// Behind something that is not known.
    Unknown,
}

impl History {
    /// Of so many bytes, for so long; `random` is anything that nobody else has.
    pub(super) fn new(max: usize, time: Duration, random: u64) -> History {
        let everybody: Rc<str> = EVERYBODY.into();
        let mut channels = Slab::new();
        let mut names = HashMap::new();
        if max > 0 {
            let id = channels.insert(Channel::new(Rc::clone(&everybody), 0));
            names.insert(Rc::clone(&everybody), id as u32);
        }
        History {
            max,
            time,
            entries: VecDeque::new(),
            last: 0,
            blocks: Blocks::new(max),
            channels,
            names,
            everybody,
            keys: HashMap::new(),
            tails: Tails::new(max),
            memory: 0,
            start: EventId {
                millis: 0,
                number: random & ((1 << RANDOM_BITS) - 1),
            },
            millis: 0,
            clock: 0,
        }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.max > 0
    }

    /// The present milliseconds of the Unix clock. Ids do not go back with it.
    pub(super) fn set_clock(&mut self, millis: u64) {
        if self.start.millis == 0 {
            self.start.millis = millis;
            self.millis = millis;
        }
        self.clock = millis;
    }

    /// [`EVERYBODY`].
    pub(super) fn everybody(&self) -> Rc<str> {
        Rc::clone(&self.everybody)
    }

    /// The number of the last event so far.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The id of the last event so far.
    pub(super) fn position(&self) -> EventId {
        EventId {
            millis: self.millis,
            number: self.start.number + self.last,
        }
    }

    /// The id that the next event is to have.
    pub(super) fn next_id(&self) -> EventId {
        EventId {
            millis: self.millis.max(self.clock),
            number: self.start.number + self.last + 1,
        }
    }

    /// What an id, or a word in its place, means.
    pub(super) fn start(&self, text: &str) -> Start {
        match text {
            "" => return Start::Now,
            "earliest" => return Start::Earliest,
            _ => {}
        }
        let position = self.position();
        let is_ours = |id: &EventId| {
            (self.start.millis..=position.millis).contains(&id.millis)
                && (self.start.number..=position.number).contains(&id.number)
        };
        let id = EventId::parse(text).filter(is_ours);
        id.map_or(Start::Unknown, Start::Behind)
    }

    /// The number of the event that has this id, one of ours.
    pub(super) fn number_of(&self, id: EventId) -> u64 {
        id.number - self.start.number
    }

    // ---- keeping ----

    /// Keeps an event, which carries [`History::next_id`], for these channels, of which there is at
    /// least one.
    pub(super) fn append<'a>(
        &mut self,
        frame: &Rc<Frame>,
        mut names: impl Iterator<Item = &'a str>,
        now: Time,
    ) {
        self.millis = self.millis.max(self.clock);
        self.last += 1;
        let Some(first) = names.next() else {
            return;
        };
        let length = frame.bytes(Framing::Chunked).len() as u64;
        let channel = self.note_channel(first, length);
        let further: Vec<u32> = names.map(|name| self.note_channel(name, length)).collect();
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(self.entries.len() / 4 + 64);
        }
        self.entries.push_back(Entry {
            place: self.blocks.push(frame, &further),
            second: u32::try_from(now.0.div_ceil(1000)).unwrap_or(u32::MAX),
            channel,
            later: 0,
        });
        self.note_key(frame.key());
        self.memory += self.cost(self.last);
        while self.memory > self.max && self.forget_oldest() {}
    }

    /// Notes the next event, of so many bytes, as one of this channel.
    fn note_channel(&mut self, name: &str, length: u64) -> u32 {
        let id = self.names.get(name).copied().unwrap_or_else(|| {
            let channel = Channel::new(name.into(), self.tails.of(name));
            self.memory += CHANNEL + name.len();
            let name = Rc::clone(&channel.name);
            let id = self.channels.insert(channel) as u32;
            self.names.insert(name, id);
            id
        });
        let channel = &mut self.channels[id as usize];
        channel.bytes += length;
        let events = &mut channel.events;
        if events.len() == events.capacity() {
            // Little in reserve: there may be many channels, and many events of one.
            events.reserve_exact(events.len() / 4 + 4);
        }
        events.push_back(self.last as u32);
        id
    }

    /// Notes the last event as the latest of its key.
    fn note_key(&mut self, key: Option<&str>) {
        let Some(key) = key else {
            return;
        };
        let last = self.last as u32;
        let Some(noted) = self.keys.get_mut(key) else {
            self.keys.insert(key.into(), last);
            return;
        };
        let before = std::mem::replace(noted, last);
        let at = self.index(self.number(before));
        if let Some(entry) = self.entries.get_mut(at) {
            entry.later = last.wrapping_sub(before);
        }
    }

    /// Bytes that an event takes which is kept.
    fn cost(&self, number: u64) -> usize {
        let Some(entry) = self.entry(number) else {
            return 0;
        };
        let bytes = match self.blocks.at(entry.place) {
            Kept::Chunk(bytes) => bytes.len(),
            Kept::Frame(frame) => frame.memory(),
        };
        let key = match self.blocks.key(entry.place) {
            "" => 0,
            key => 2 * key.len() + KEY,
        };
        let further = self.blocks.further(entry.place).count();
        bytes + key + ENTRY + further * FURTHER
    }

    // ---- forgetting ----

    /// Forgets what is too old; the rest of very much of it the next time, as [`History::deadline`] is
    /// past then.
    pub(super) fn expire(&mut self, now: Time) {
        for _ in 0..EXPIRY_BUDGET {
            let is_due = self.deadline().is_some_and(|deadline| deadline <= now);
            if !is_due || !self.forget_oldest() {
                return;
            }
        }
    }

    /// When the oldest event will be too old.
    pub(super) fn deadline(&self) -> Option<Time> {
        let oldest = self.entries.front()?;
        Some(Time(u64::from(oldest.second) * 1000) + self.time)
    }

    /// False when nothing is kept.
    fn forget_oldest(&mut self) -> bool {
        let number = self.first();
        let cost = self.cost(number);
        let Some(Entry { place, channel, .. }) = self.entries.front().copied() else {
            return false;
        };
        self.memory -= cost;
        let key = self.blocks.key(place);
        if !key.is_empty() && self.keys.get(key) == Some(&(number as u32)) {
            self.keys.remove(key);
        }
        let length = place.length();
        self.forget_in(channel, number, length);
        let further: Vec<u32> = self.blocks.further(place).collect();
        for id in further {
            self.forget_in(id, number, length);
        }
        self.entries.pop_front();
        self.blocks
            .forget_before(self.entries.front().map(|it| it.place));
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        true
    }

    /// A channel's oldest event goes.
    fn forget_in(&mut self, id: u32, number: u64, length: u64) {
        let channel = &mut self.channels[id as usize];
        channel.bytes -= length;
        channel.events.pop_front();
        channel.forgotten = number;
        if channel.events.len() < channel.events.capacity() / 4 {
            channel.events.shrink_to(channel.events.len() * 2);
        }
        if channel.events.is_empty() && !channel.name.is_empty() {
            let channel = self.channels.remove(id as usize);
            self.names.remove(&channel.name);
            self.tails.note(&channel.name, number);
            self.memory -= CHANNEL + channel.name.len();
        }
    }

    /// Gives back the memory of what is gone.
    pub(super) fn shrink_to_fit(&mut self) {
        self.channels.shrink_to_fit();
        self.names.shrink_to_fit();
        self.keys.shrink_to_fit();
    }

    // ---- looking ----

    /// The number of the oldest event that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    fn index(&self, number: u64) -> usize {
        number.wrapping_sub(self.first()) as usize
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(self.index(number))
    }

    /// The number of the last event of a channel that is not kept any more, or more than that; zero
    /// when all of them are.
    pub(super) fn forgotten(&self, name: &str) -> u64 {
        match self.names.get(name) {
            Some(id) => self.channels[*id as usize].forgotten,
            None => self.tails.of(name),
        }
    }

    /// The number of the last event of a channel up to this one; more than that, but not more than this
    /// one, when it is not known any more.
    pub(super) fn last_of(&self, name: &str, most: u64) -> u64 {
        let channel = self.names.get(name).map(|id| &self.channels[*id as usize]);
        let kept = channel.and_then(|channel| {
            let events = &channel.events;
            let behind = events.partition_point(|low| self.number(*low) <= most);
            Some(self.number(*events.get(behind.checked_sub(1)?)?))
        });
        kept.unwrap_or_else(|| self.forgotten(name).min(most))
    }

    /// Whether an event of this number is kept.
    pub(super) fn keeps(&self, number: u64) -> bool {
        self.entry(number).is_some()
    }

    /// A channel's next event behind that of a number.
    pub(super) fn cursor(&self, name: &str, behind: u64) -> Cursor {
        let channel = self.names.get(name).copied();
        let index = channel.map_or(0, |id| {
            let events = &self.channels[id as usize].events;
            events.partition_point(|low| self.number(*low) <= behind)
        });
        let mut cursor = Cursor {
            channel,
            index,
            next: None,
        };
        self.look(&mut cursor);
        cursor
    }

    /// Goes on to the next event of the channel.
    pub(super) fn advance(&self, cursor: &mut Cursor) {
        cursor.index += 1;
        self.look(cursor);
    }

    fn look(&self, cursor: &mut Cursor) {
        let events = cursor.channel.map(|id| &self.channels[id as usize].events);
        let low = events.and_then(|events| events.get(cursor.index));
        cursor.next = low.map(|low| self.number(*low));
    }

    /// The number of a kept event, of which this is the lower half.
    fn number(&self, low: u32) -> u64 {
        self.last - u64::from((self.last as u32).wrapping_sub(low))
    }

    /// A kept event's bytes.
    pub(super) fn bytes(&self, number: u64) -> Option<Kept<'_>> {
        Some(self.blocks.at(self.entry(number)?.place))
    }

    /// A kept event's key; empty for none.
    pub(super) fn key(&self, number: u64) -> &str {
        let entry = self.entry(number);
        entry.map_or("", |entry| self.blocks.key(entry.place))
    }

    /// The next event that has the key of this one.
    pub(super) fn later(&self, number: u64) -> Option<u64> {
        let later = self.entry(number)?.later;
        (later > 0).then(|| number + u64::from(later))
    }

    /// Whether a cursor's channel is one of a kept event's.
    pub(super) fn is_in(&self, number: u64, cursor: &Cursor) -> bool {
        let both = cursor.channel.zip(self.entry(number));
        both.is_some_and(|(id, entry)| {
            entry.channel == id || self.blocks.further(entry.place).any(|other| other == id)
        })
    }
}

impl Channel {
    fn new(name: Rc<str>, forgotten: u64) -> Channel {
        Channel {
            name,
            events: VecDeque::new(),
            forgotten,
            bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests;
