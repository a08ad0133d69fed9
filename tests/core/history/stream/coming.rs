//! What comes to a stream, held against what is due to it.

use super::super::log::{EVERYBODY, Kept, Log};
use super::super::pending::{Item, Pending, Place, What};
use super::super::reader::{Piece, Seen};
use super::{Leg, Stream};

impl Stream {
    /// Looks at pieces that are offered to the socket: whether one of them says for the first time
    /// that something was forgotten before it came. If so that must be true.
    pub(in super::super) fn look_for_gap(&mut self, pieces: &[Piece], log: &Log) -> bool {
        let mut ahead = self.pending.clone();
        let mut reached = self.reached.clone();
        let mut pieces = pieces.iter();
        if let Some(begun) = &self.begun
            && let Some(Piece::Event(seen)) = pieces.next()
        {
            let mut before = begun.clone();
            if let Ok(taken) = before.take(log, seen, &mut reached) {
                without(&mut ahead, begun, &taken);
            }
        }
        let mut at_hand = Vec::new();
        for piece in pieces {
            let seen = match piece {
                Piece::Event(seen) => seen,
                Piece::Retry(_) => continue,
                _ => return false,
            };
            if let Some(number) = self.was_offered(seen, log)
                && ahead.past.remove(&number).is_some()
            {
                at_hand.push(Place::Past(number));
                continue;
            }
            match ahead.take(log, seen, &mut reached) {
                Ok(taken) => at_hand.extend(taken.last().copied()),
                Err(_) if piece.is_gap() => {
                    self.skip(&at_hand, log);
                    return true;
                }
                Err(_) => return false,
            }
        }
        false
    }

    /// Something that was to come is forgotten: it goes on from now, behind what is at hand.
    fn skip(&mut self, at_hand: &[Place], log: &Log) {
        self.keep_at_hand(at_hand, log);
        let is_lost = |leg: &Leg| {
            let mut due = log.behind(leg.at, leg.name);
            due.any(|it| it <= leg.until && log.is_kept(it) != Kept::Yes) || !log.knows(leg.at)
        };
        assert!(self.is_replaying, "a gap without a replay");
        assert!(
            self.legs.iter().any(is_lost),
            "a gap where nothing was lost, kept from {:?}: {self:?}",
            log.kept
        );
        // What was read since nobody could see whether it had been told of it may come.
        let shown = self.hidden.unwrap_or(log.last());
        let later = self.pending.past.split_off(&(shown + 1));
        let later = later.into_keys().map(|number| (number, true)).collect();
        for number in std::mem::replace(&mut self.pending.past, later).into_keys() {
            if let Some(key) = log.at(number).key {
                let reached = self.reached.entry(key).or_default();
                *reached = log.order(number).max(*reached);
            }
        }
        self.legs.retain(|leg| leg.until == u64::MAX);
        for leg in &mut self.legs {
            leg.at = leg.at.max(shown);
        }
        let ahead = self.pending.queue.iter().take_while(|it| it.is_ahead);
        let gap = Item {
            what: What::Gap(self.asked.clone()),
            at: 0,
            is_ahead: true,
            is_optional: false,
        };
        self.pending.queue.insert(ahead.count(), gap);
    }

    /// What is too large to be copied comes from the history before it is offered, and does not go with
    /// it.
    fn keep_at_hand(&mut self, at_hand: &[Place], log: &Log) {
        for place in at_hand.iter().rev() {
            let Place::Past(number) = *place else {
                continue;
            };
            self.pending.past.remove(&number);
            self.push_front(What::Event(log.order(number)));
            for leg in &mut self.legs {
                leg.at = leg.at.max(number);
            }
        }
    }

    /// A piece has begun to be taken that is not whole.
    pub(in super::super) fn begin_piece(&mut self) {
        if self.begun.is_none() {
            self.begun = Some(self.pending.clone());
        }
    }

    /// An event has come; `known` events were there before this step.
    pub(in super::super) fn event(&mut self, seen: &Seen, known: u64, log: &Log) {
        assert!(self.is_open, "{seen:?} before the stream opens");
        assert_eq!((self.first_words, self.has_said_last), (None, false));
        let begun = self.begun.take();
        let before = begun.as_ref().unwrap_or(&self.pending).clone();
        let mut after = before.clone();
        let taken = after.take(log, seen, &mut self.reached);
        let number = seen.id.as_ref().and_then(|id| log.ids.get(id)).copied();
        let taken = match (taken, self.was_offered(seen, log)) {
            (Ok(taken), _) => taken,
            (Err(_), Some(number)) if self.pending.past.contains_key(&number) => {
                return self.jumped(number, log);
            }
            (Err(next), _) => panic!("{seen:?} in place of {next:?} of {before:?}"),
        };
        let is_free = begun.is_none() && self.was_offered(seen, log).is_none();
        if begun.is_none() {
            self.pending = after;
        } else {
            without(&mut self.pending, &before, &taken);
        }
        if let Some(Place::Past(number)) = taken.last().copied() {
            let has_later = is_free && before.has_later(number, known, log);
            assert!(!has_later, "{seen:?} is not the last of its key");
            self.came(number);
            if self.is_cut && begun.is_none() {
                // No more than one was at hand.
                self.pending.past.clear();
            }
        }
        self.delivered.extend(number);
    }

    /// What was at hand has come before others.
    fn jumped(&mut self, number: u64, log: &Log) {
        self.pending.past.remove(&number);
        if let Some(key) = log.at(number).key {
            let reached = self.reached.entry(key).or_default();
            *reached = log.order(number).max(*reached);
        }
        self.came(number);
    }

    /// An event of the history has come.
    fn came(&mut self, number: u64) {
        self.delivered.insert(number);
        for leg in &mut self.legs {
            leg.at = leg.at.max(number);
        }
    }

    /// What the socket was offered, and did not take as a whole.
    pub(in super::super) fn offer(&mut self, pieces: &[Piece], is_cut: bool, log: &Log) {
        match is_cut {
            true => self.hidden = self.hidden.or(Some(log.last())),
            false => self.hidden = None,
        }
        let mut ids = pieces.iter().filter_map(|piece| match piece {
            Piece::Event(seen) => seen.id.as_ref(),
            _ => None,
        });
        let number = ids.next().and_then(|id| log.ids.get(id)).copied();
        self.offered = number.filter(|it| log.is_large(*it)).or(self.offered);
    }

    fn was_offered(&self, seen: &Seen, log: &Log) -> Option<u64> {
        self.offered.filter(|it| log.at(*it).id == seen.id)
    }

    /// The position has begun to come: everything up to it has come.
    pub(in super::super) fn position(&mut self, id: &str, log: &Log) {
        assert!(self.is_open && self.is_replaying, "a position for nothing");
        assert_eq!(self.first_words, None, "a position before the first words");
        let number = log.ids.get(id).copied();
        let number = number.unwrap_or_else(|| panic!("{id} was never given"));
        let is_over = self.pending.is_over(log, &self.reached);
        let queue = std::mem::take(&mut self.pending.queue);
        assert!(is_over, "a position before {queue:?}");
        let later = self.pending.past.split_off(&(number + 1));
        for place in self.pending.past.keys().map(|it| Place::Past(*it)) {
            let is_left_out = self.pending.may_be_left_out(place, log, &self.reached);
            assert!(is_left_out, "a position beyond {place:?}");
        }
        self.pending.past.clear();
        assert!(
            later.keys().all(|it| *it > self.touched),
            "a position before {later:?}"
        );
        if let Some(ends) = self.ends {
            let names = self.members.keys().copied().chain([EVERYBODY]);
            let passed = names.flat_map(|name| log.behind(ends, name));
            let passed: Vec<u64> = passed.filter(|it| *it <= number).collect();
            assert!(
                passed.is_empty(),
                "who comes again at {id} never gets {passed:?}"
            );
        } else {
            assert!(number >= self.touched, "{id} is before what was touched");
        }
        for number in later.into_keys() {
            self.push(What::Event(log.order(number)), number, log);
        }
        self.is_replaying = false;
        self.legs.clear();
    }

    /// It says how long to wait before coming again.
    pub(in super::super) fn words(&mut self, millis: u64) {
        if let Some(expected) = self.first_words.take() {
            return assert_eq!(millis, expected, "the first words");
        }
        let below = self.last_words.take().expect("something to say");
        assert!(millis < below, "{millis} beyond the span");
        self.has_said_last = true;
    }

    /// The stream has come to its end.
    pub(in super::super) fn end(&mut self, log: &Log) {
        assert!(self.ends.is_some(), "an end that nobody asked for");
        assert_eq!((self.first_words, self.last_words), (None, None), "unsaid");
        self.check_idle(log);
    }

    /// Everything has come.
    pub(in super::super) fn check_idle(&self, log: &Log) {
        assert!(!self.is_replaying, "no position has come");
        let is_over = self.pending.is_over(log, &self.reached);
        let is_past = self.is_cut || self.pending.past.is_empty();
        assert!(is_over && is_past, "never came: {:?}", self.pending);
    }
}

/// Takes off what was taken off in an earlier view of it.
fn without(pending: &mut Pending, before: &Pending, taken: &[Place]) {
    let mut queue = before.queue.iter();
    for place in taken {
        match place {
            Place::Past(number) => {
                pending.past.remove(number);
            }
            Place::Queue => {
                let what = queue.next().map(|item| &item.what);
                let mut all = pending.queue.iter();
                if let Some(at) = all.position(|item| Some(&item.what) == what) {
                    pending.queue.remove(at);
                }
            }
        }
    }
}
