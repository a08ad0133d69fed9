//! What waits for one stream behind its plain bytes: shared events, and what must stay behind them.
//!
//! Laws: whatever is in [`Conn::out`](super::conn::Conn) goes first; a stream without anything
//! waiting here owns none of this. Of events with the same key that wait, unsent, there is the last
//! one only (contract, section 11); what has begun to be written is left alone, and so is what the
//! socket was not offered yet.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::frame::{Frame, Shared};
use crate::sse::Framing;

/// Frames among which those with a key are found by looking at each; beyond that by a map.
const FEW: usize = 32;

/// The first place, of as many as come round again: some are put in front of it.
const MIDDLE: u32 = u32::MAX / 2;

/// Room for frames that is kept for the next use of an empty backlog.
const SPARE_ROOM: usize = 16;

/// Empty backlogs waiting for their next use: what one slice of a fan-out needs at once.
const SPARE_COUNT: usize = 64;

/// A queue of frames for one stream.
#[derive(Debug)]
pub(super) struct Backlog {
    /// `None` where an event was taken out; never at the front.
    frames: VecDeque<Option<Rc<Frame>>>,
    /// The place of the first of them.
    first: u32,
    /// How many of them were taken out.
    holes: usize,
    /// Places from the first on that go before anything that comes from the history.
    ahead: usize,
    /// Bytes of the first one that are written.
    written: usize,
    /// Bytes that are not written.
    unsent: usize,
    /// Frames with a key.
    keyed: usize,
    /// The places of those, once many frames wait.
    places: Option<HashMap<Rc<str>, u32>>,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog {
            frames: VecDeque::new(),
            first: MIDDLE,
            holes: 0,
            ahead: 0,
            written: 0,
            unsent: 0,
            keyed: 0,
            places: None,
        }
    }
}

impl Backlog {
    /// Bytes that are not written.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Bytes of memory that are this backlog's own: what it shares is counted elsewhere.
    pub(super) fn memory(&self) -> usize {
        let places = self.places.as_ref().map_or(0, |places| places.capacity());
        size_of::<Backlog>()
            + self.frames.capacity() * size_of::<Option<Rc<Frame>>>()
            + places * size_of::<(Rc<str>, u32)>()
    }

    /// What is to be written next, piece by piece.
    pub(super) fn pieces(&self, framing: Framing) -> impl Iterator<Item = &[u8]> {
        let frames = self.frames.iter().flatten();
        frames.enumerate().map(move |(at, frame)| {
            let written = if at == 0 { self.written } else { 0 };
            &frame.bytes(framing)[written..]
        })
    }

    /// The same if it is one piece.
    pub(super) fn single(&self, framing: Framing) -> Option<&[u8]> {
        match self.frames.front() {
            Some(Some(frame)) if self.frames.len() == 1 => {
                Some(&frame.bytes(framing)[self.written..])
            }
            _ => None,
        }
    }

    /// Frames that wait, in their order.
    pub(super) fn frames(&self) -> impl Iterator<Item = &Rc<Frame>> {
        self.frames.iter().flatten()
    }

    /// Whether the first frame is written in part.
    pub(super) fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// All that waits now goes before anything that comes from the history.
    pub(super) fn go_ahead(&mut self) {
        self.ahead = self.frames.len();
    }

    /// The first place from this one on where a frame waits.
    pub(super) fn next_from(&self, place: usize) -> Option<usize> {
        (place..self.frames.len()).find(|at| self.frames[*at].is_some())
    }

    /// Whether what waits there goes before anything that comes from the history.
    pub(super) fn is_ahead(&self, place: usize) -> bool {
        place < self.ahead
    }

    /// See [`Frame::at`].
    pub(super) fn at(&self, place: usize) -> u64 {
        self.frames[place].as_ref().map_or(0, |frame| frame.at())
    }

    /// What is not written of the frame at a place.
    pub(super) fn rest(&self, place: usize, framing: Framing) -> &[u8] {
        let written = if place == 0 { self.written } else { 0 };
        let bytes = self.frames[place].as_ref().map(|it| it.bytes(framing));
        bytes.map_or(&[], |bytes| &bytes[written..])
    }

    /// Bytes of what `frame` would take out.
    pub(super) fn replaced(&self, frame: &Frame, framing: Framing) -> usize {
        let at = frame.key().and_then(|key| self.find(key));
        let old = at.and_then(|at| self.frames[at].as_ref());
        old.map_or(0, |old| old.bytes(framing).len())
    }

    /// The last event with this key that waits.
    pub(super) fn last_of(&self, key: &str) -> Option<&Frame> {
        let found = self.find(key)?;
        self.frames[found].as_deref()
    }

    /// Takes out what `frame` is to stand for, the last one of its key.
    pub(super) fn replace(&mut self, frame: &Frame, framing: Framing, shared: &mut Shared) {
        if let Some(at) = frame.key().and_then(|key| self.find(key)) {
            self.take_out(at, framing, shared);
            self.tidy();
        }
    }

    /// Takes out every frame of which nothing is written and behind which there is one of its key.
    pub(super) fn keep_latest(&mut self, framing: Framing, shared: &mut Shared) {
        if self.keyed < 2 {
            return;
        }
        let begun = usize::from(self.written > 0);
        let mut later: HashMap<Rc<str>, u32> = HashMap::new();
        for at in (begun..self.frames.len()).rev() {
            let frame = self.frames[at].as_ref();
            if let Some(key) = frame.and_then(|frame| frame.key())
                && later.insert(key.into(), at as u32).is_some()
            {
                self.take_out(at, framing, shared);
            }
        }
        self.tidy();
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, frame: Rc<Frame>, framing: Framing, shared: &mut Shared) {
        shared.hold(&frame);
        self.unsent += frame.bytes(framing).len();
        if let Some(key) = frame.key() {
            self.note(key, self.frames.len());
        }
        self.frames.push_back(Some(frame));
        if self.keyed > 0 && self.frames.len() > FEW && self.places.is_none() {
            self.places = Some(HashMap::new());
            self.note_places();
        }
    }

    /// Puts a frame in front of all others, none of which is begun. Of it and one that has its key the
    /// one stays that was read later.
    pub(super) fn push_front(&mut self, frame: Rc<Frame>, framing: Framing, shared: &mut Shared) {
        if let Some(at) = frame.key().and_then(|key| self.find(key)) {
            if self.at(at) >= frame.at() {
                return;
            }
            self.take_out(at, framing, shared);
            self.tidy();
        }
        shared.hold(&frame);
        self.unsent += frame.bytes(framing).len();
        self.first = self.first.wrapping_sub(1);
        if let Some(key) = frame.key() {
            self.note(key, 0);
        }
        self.frames.push_front(Some(frame));
        self.ahead += 1;
    }

    /// Puts a frame without a key where what comes from the history would be.
    pub(super) fn insert(&mut self, frame: Rc<Frame>, framing: Framing, shared: &mut Shared) {
        shared.hold(&frame);
        self.unsent += frame.bytes(framing).len();
        self.frames.insert(self.ahead, Some(frame));
        self.ahead += 1;
        self.note_places();
    }

    /// Forgets the first `n` bytes, which are written. Gives the number of events that came to their
    /// end with them.
    pub(super) fn consume(&mut self, mut n: usize, framing: Framing, shared: &mut Shared) -> u32 {
        self.unsent -= n;
        let mut events = 0;
        while let Some(Some(frame)) = self.frames.front() {
            let left = frame.bytes(framing).len() - self.written;
            if n < left {
                self.written += n;
                return events;
            }
            n -= left;
            events += u32::from(frame.is_event());
            self.pop(shared);
        }
        events
    }

    /// Forgets all that would come among or behind what is to come from the history.
    pub(super) fn keep_settled(&mut self, framing: Framing, shared: &mut Shared) {
        let settled = self.ahead.max(usize::from(self.is_begun()));
        for frame in self.frames.drain(settled..) {
            let Some(frame) = frame else {
                self.holes -= 1;
                continue;
            };
            shared.release(&frame);
            self.unsent -= frame.bytes(framing).len();
            self.keyed -= usize::from(frame.key().is_some());
        }
        self.note_places();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, shared: &mut Shared) {
        for frame in self.frames.drain(..).flatten() {
            shared.release(&frame);
        }
        (self.first, self.holes, self.written, self.unsent) = (MIDDLE, 0, 0, 0);
        (self.keyed, self.places, self.ahead) = (0, None, 0);
    }

    /// Notes where a frame with this key is put, the last one that has it.
    fn note(&mut self, key: &str, at: usize) {
        self.keyed += 1;
        if let Some(places) = &mut self.places {
            put(places, key, self.first.wrapping_add(at as u32));
        }
    }

    /// Where among the frames an event with this key waits of which nothing is written.
    fn find(&self, key: &str) -> Option<usize> {
        if self.keyed == 0 {
            return None;
        }
        let at = if let Some(places) = &self.places {
            places.get(key)?.wrapping_sub(self.first) as usize
        } else {
            let is_it = |frame: &Option<Rc<Frame>>| {
                let frame = frame.as_ref();
                frame.is_some_and(|frame| frame.key() == Some(key))
            };
            self.frames.iter().rposition(is_it)?
        };
        (at >= usize::from(self.written > 0)).then_some(at)
    }

    fn take_out(&mut self, at: usize, framing: Framing, shared: &mut Shared) {
        let Some(frame) = self.frames[at].take() else {
            return;
        };
        shared.release(&frame);
        self.unsent -= frame.bytes(framing).len();
        self.keyed -= 1;
        self.holes += 1;
    }

    fn tidy(&mut self) {
        self.drop_holes_in_front();
        if self.holes > self.frames.len() / 2 {
            self.close_up();
        }
    }

    /// Takes the first frame off.
    fn pop(&mut self, shared: &mut Shared) {
        if let Some(Some(frame)) = self.frames.pop_front() {
            shared.release(&frame);
            if let Some(key) = frame.key() {
                self.keyed -= 1;
                if let Some(places) = &mut self.places
                    && places.get(key) == Some(&self.first)
                {
                    places.remove(key);
                }
            }
        }
        self.first = self.first.wrapping_add(1);
        self.ahead = self.ahead.saturating_sub(1);
        self.written = 0;
        self.drop_holes_in_front();
    }

    fn drop_holes_in_front(&mut self) {
        while let Some(None) = self.frames.front() {
            self.frames.pop_front();
            self.first = self.first.wrapping_add(1);
            self.ahead = self.ahead.saturating_sub(1);
            self.holes -= 1;
        }
    }

    /// Moves what is left together, which costs a few steps for each that was taken out.
    fn close_up(&mut self) {
        let ahead = self.frames.iter().take(self.ahead);
        self.ahead = ahead.flatten().count();
        self.frames.retain(Option::is_some);
        self.holes = 0;
        self.note_places();
    }

    fn note_places(&mut self) {
        let Some(places) = &mut self.places else {
            return;
        };
        places.clear();
        for (at, frame) in self.frames.iter().enumerate() {
            if let Some(key) = frame.as_ref().and_then(|frame| frame.key()) {
                put(places, key, self.first.wrapping_add(at as u32));
            }
        }
    }
}

fn put(places: &mut HashMap<Rc<str>, u32>, key: &str, place: u32) {
    match places.get_mut(key) {
        Some(noted) => *noted = place,
        None => {
            places.insert(key.into(), place);
        }
    }
}

/// Empty backlogs waiting for their next use, so that a stream that keeps up costs no allocation.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a connection takes the box as it is")]
pub(super) struct Backlogs(Vec<Box<Backlog>>);

impl Backlogs {
    /// An empty backlog.
    pub(super) fn take(&mut self) -> Box<Backlog> {
        self.0.pop().unwrap_or_default()
    }

    /// Takes back one that is empty.
    pub(super) fn give(&mut self, mut backlog: Box<Backlog>) {
        if self.0.len() < SPARE_COUNT && backlog.frames.capacity() <= SPARE_ROOM {
            (backlog.first, backlog.ahead, backlog.places) = (MIDDLE, 0, None);
            self.0.push(backlog);
        }
    }

    /// Gives all of them back to the allocator.
    pub(super) fn release(&mut self) {
        self.0 = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Fields;

    const FRAMING: Framing = Framing::Plain;

    fn event(data: &'static str, key: Option<&str>) -> Rc<Frame> {
        let fields = Fields {
            name: "",
            id: None,
            retry: None,
            data: data.into(),
        };
        Frame::event(&fields, key, 0)
    }

    fn waits(backlog: &Backlog) -> Vec<String> {
        let text = |piece: &[u8]| String::from_utf8_lossy(piece).into_owned();
        backlog.pieces(FRAMING).map(text).collect()
    }

    /// What is settled is what goes ahead, and what is begun; places of what was taken out are none.
    #[test]
    fn what_is_settled_stays() {
        for (ahead, written) in [(0, 0), (0, 3), (1, 0), (2, 3), (3, 0)] {
            let (mut backlog, mut shared) = (Backlog::default(), Shared::default());
            let mut push = |backlog: &mut Backlog, data, key| {
                backlog.push(event(data, key), FRAMING, &mut shared);
            };
            push(&mut backlog, "0", None);
            push(&mut backlog, "1", Some("k"));
            push(&mut backlog, "2", Some("l"));
            backlog.ahead = ahead;
            push(&mut backlog, "3", Some("m"));
            push(&mut backlog, "4", None);
            push(&mut backlog, "5", Some("n"));
            for key in ["k", "m"] {
                backlog.replace(&event("", Some(key)), FRAMING, &mut shared);
            }
            backlog.consume(written, FRAMING, &mut shared);
            let mut expected = waits(&backlog);
            backlog.keep_settled(FRAMING, &mut shared);
            // The second was taken out.
            expected.truncate([usize::from(written > 0), 1, 1, 2][ahead]);
            let case = format!("{ahead} ahead, {written} written");
            assert_eq!(waits(&backlog), expected, "{case}");
            let holes = backlog.frames.iter().filter(|it| it.is_none()).count();
            assert_eq!(backlog.holes, holes, "{case}");
            assert_eq!(backlog.keyed, usize::from(ahead == 3), "{case}");
            assert_eq!(backlog.unsent, expected.concat().len(), "{case}");
            let memory: usize = backlog.frames().map(|frame| frame.memory()).sum();
            assert_eq!(shared.memory(), memory, "{case}");
            assert_eq!(backlog.last_of("l").is_some(), ahead == 3, "{case}");
            assert!(backlog.last_of("n").is_none(), "{case}");
        }
    }
}
