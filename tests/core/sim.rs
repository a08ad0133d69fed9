//! The core under a seeded storm of everything that can happen, next to a plain model.
//!
//! `SIM_SEED=n` replays one seed, `SIM_SEEDS=n` runs the first n of them; `SIM_ACTIONS=n` makes runs longer
//! or shorter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::laws::sim::choices::Choices;
use super::laws::sim::world::{Happened, World};

const SEEDS: u64 = 256;
const ACTIONS: usize = 400;

/// What the seeds together must have come to: else the laws were kept where nothing happened.
const MUST_HAPPEN: [&str; 29] = [
    "stream opened",
    "200 ok",
    "200 buffered",
    "behind a close",
    "403 BACKEND_FORBIDDEN",
    "500 WRITE_FAILED",
    "503 BUFFER_FULL",
    "503 OVERLOADED",
    "503 SHUTTING_DOWN",
    "504 GATEWAY_TIMEOUT",
    "orphan",
    "unfinished 200",
    "shutdown",
    "expired",
    "told when to come again",
    "turned away",
    "turned away while it waits",
    "no room for fields",
    "closed for a newcomer",
    "no place",
    "fan-out",
    "pending behind a slice",
    "queueing",
    "kept the latest",
    "dropped by a fan-out",
    "window overflown",
    "accepted and refused",
    "refused by a stream",
    "400 INVALID_CHANNEL",
];

pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect(variable))
}

#[test]
fn whatever_happens_the_laws_hold() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    assert!(!seeds.is_empty(), "no seed");
    let actions = number("SIM_ACTIONS").map_or(ACTIONS, |actions| actions as usize);
    let is_default = seeds == (0..SEEDS) && actions == ACTIONS;
    let mut happened = Happened::new();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| {
            World::new(Seeded::new(seed)).run(actions)
        }));
        let run = run.unwrap_or_else(|_| panic!("replay with SIM_SEED={seed}"));
        for (what, times) in run.0 {
            *happened.entry(what).or_default() += times;
        }
    }
    println!("{happened:?}");
    for what in MUST_HAPPEN.iter().filter(|_| is_default) {
        assert!(happened.contains_key(*what), "never {what}: {happened:?}");
    }
}

#[test]
fn a_run_can_be_repeated() {
    let run = |seed| World::new(Seeded::new(seed)).run(ACTIONS);
    for seed in 0..8 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(0).1, run(1).1);
}

/// A splitmix64 sequence.
pub(crate) struct Seeded {
    state: u64,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Seeded {
        Seeded { state: seed }
    }
}

impl Choices for Seeded {
    fn below(&mut self, n: u32) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u32
    }

    fn is_spent(&self) -> bool {
        false
    }
}
