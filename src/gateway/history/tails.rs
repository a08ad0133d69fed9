//! How far channels reached of which nothing is kept any more: whoever has seen that much has missed
//! nothing.

use std::hash::BuildHasher;

use std::collections::hash_map::RandomState;

/// Channels that one bucket knows by themselves.
const WAYS: usize = 7;

/// Bytes of all buckets are this part of those of the history...
const PART: usize = 8;
/// ...and there are this many of them at the least.
const FEWEST: usize = 1024;

/// The numbers of the last events of such channels, by their names' hashes: two names that share one
/// make a gap event too many at the worst.
#[derive(Debug)]
pub(super) struct Tails {
    buckets: Vec<Bucket>,
    hasher: RandomState,
}

/// Those whose hashes have the same remainder.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    known: [Tail; WAYS],
    /// None of those that had to go is above this.
    floor: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    hash: u64,
    /// Zero: none.
    number: u64,
}

impl Tails {
    /// For a history of so many bytes. Buckets that nobody uses are untouched memory.
    pub(super) fn new(max: usize) -> Tails {
        let buckets = match max {
            0 => 0,
            _ => (max / PART / size_of::<Bucket>()).max(FEWEST),
        };
        Tails {
            buckets: vec![Bucket::default(); buckets],
            hasher: RandomState::new(),
        }
    }

    /// A channel's last event is forgotten; to be told in the order of the numbers.
    pub(super) fn note(&mut self, name: &str, number: u64) {
        let hash = self.hasher.hash_one(name);
        let at = self.place(hash);
        let Some(bucket) = self.buckets.get_mut(at) else {
            return;
        };
        let rank = |tail: &&mut Tail| (tail.hash != hash, tail.number);
        if let Some(tail) = bucket.known.iter_mut().min_by_key(rank) {
            if tail.hash != hash {
                bucket.floor = bucket.floor.max(tail.number);
            }
            *tail = Tail { hash, number };
        }
    }

    /// How far a channel reached; more than that if it had to go, zero if there was none.
    pub(super) fn of(&self, name: &str) -> u64 {
        let hash = self.hasher.hash_one(name);
        let Some(bucket) = self.buckets.get(self.place(hash)) else {
            return 0;
        };
        let tail = bucket.known.iter().find(|tail| tail.hash == hash);
        tail.map_or(bucket.floor, |tail| tail.number)
    }

    fn place(&self, hash: u64) -> usize {
        (hash % self.buckets.len().max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_ended_last_are_known_and_the_others_bounded() {
        let mut tails = Tails::new(1);
        tails.buckets.truncate(1);
        assert_eq!(tails.of("a"), 0);
        for (number, name) in (1..).zip(["a", "b", "c", "d", "e", "f", "a", "g"]) {
            tails.note(name, number);
        }
        // One name takes one place, and all are known.
        for (number, name) in (2..).zip(["b", "c", "d", "e", "f", "a", "g"]) {
            assert_eq!(tails.of(name), number);
        }
        assert_eq!(tails.of("new"), 0);
        tails.note("h", 9);
        assert_eq!((tails.of("b"), tails.of("new")), (2, 2));
        assert_eq!((tails.of("c"), tails.of("h")), (3, 9));
        tails.note("c", 10);
        tails.note("i", 11);
        assert_eq!((tails.of("d"), tails.of("c"), tails.of("e")), (4, 10, 5));
    }

    #[test]
    fn most_of_those_that_there_is_room_for_are_known() {
        let mut tails = Tails::new(1 << 20);
        let many = tails.buckets.len() as u64 * WAYS as u64 / 3;
        for number in 1..=many {
            tails.note(&format!("channel {number}"), number);
        }
        let known = (1..=many).filter(|number| tails.of(&format!("channel {number}")) == *number);
        assert!(known.count() as u64 > many * 98 / 100);
        let new = (0..1000).filter(|number| tails.of(&format!("new {number}")) > 0);
        assert!(new.count() < 50);
    }

    #[test]
    fn without_a_history_there_is_nothing() {
        let mut tails = Tails::new(0);
        tails.note("a", 1);
        assert_eq!((tails.of("a"), tails.buckets.capacity()), (0, 0));
    }
}
