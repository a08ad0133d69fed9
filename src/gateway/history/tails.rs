//! How far channels reached of which nothing is kept any more: whoever has seen that much has missed
//! nothing.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

/// Bytes that one takes.
pub(super) const TAIL: usize = 48;

/// The numbers of the last events of such channels, by the names' hashes: two names that share one
/// make a gap event too many at the worst.
#[derive(Debug, Default)]
pub(super) struct Tails {
    last: HashMap<u64, u64>,
    /// The same in the order of the numbers, with some that are out of date.
    order: VecDeque<(u64, u64)>,
    /// None of those that had to go is above this.
    floor: u64,
    hasher: RandomState,
    most: usize,
}

impl Tails {
    /// So many at the most.
    pub(super) fn new(most: usize) -> Tails {
        Tails {
            most,
            ..Tails::default()
        }
    }

    /// A channel's last event is forgotten; to be told in the order of the numbers.
    pub(super) fn note(&mut self, name: &str, number: u64) {
        let hash = self.hasher.hash_one(name);
        self.last.insert(hash, number);
        self.order.push_back((number, hash));
        while self.order.len() > self.most {
            let Some((number, hash)) = self.order.pop_front() else {
                return;
            };
            if self.last.get(&hash) == Some(&number) {
                self.last.remove(&hash);
                self.floor = number;
            }
        }
    }

    /// How far a channel reached; more than that if it had to go, zero if there was none.
    pub(super) fn of(&self, name: &str) -> u64 {
        let hash = self.hasher.hash_one(name);
        self.last.get(&hash).copied().unwrap_or(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_ended_last_are_known_and_the_others_bounded() {
        let mut tails = Tails::new(4);
        assert_eq!(tails.of("a"), 0);
        for (number, name) in (1..).zip(["a", "b", "c", "a", "d"]) {
            tails.note(name, number);
        }
        // The first that had to go was out of date.
        assert_eq!(tails.of("a"), 4);
        assert_eq!(tails.of("new"), 0);
        tails.note("e", 6);
        assert_eq!((tails.of("b"), tails.of("c")), (2, 3));
        assert_eq!((tails.of("new"), tails.of("e")), (2, 6));
        assert_eq!(tails.order.len(), 4);
        assert_eq!(tails.last.len(), 4);
    }
}
