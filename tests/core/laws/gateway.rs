//! The simulation with a fuzzer's bytes for decisions.

use super::sim::choices::Choices;
use super::sim::world;

const ACTIONS: usize = 400;

/// Runs the actions that `data` decides on, against the model.
pub fn run(data: &[u8]) {
    world::World::new(Bytes(data)).run(ACTIONS);
}

/// Bytes, each a decision or half of one; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u32 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                u32::from(*first)
            }
            None => 0,
        }
    }
}

impl Choices for Bytes<'_> {
    fn below(&mut self, n: u32) -> u32 {
        match n {
            0..=1 => 0,
            2..=256 => self.byte() % n,
            _ => (self.byte() << 8 | self.byte()) % n,
        }
    }

    fn is_spent(&self) -> bool {
        self.0.is_empty()
    }
}
