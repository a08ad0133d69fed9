//! Clients that come back, and a core with a history, next to a plain list of all that was published.
//!
//! `HIST_SEED=n` replays one seed, `HIST_SEEDS=n` runs the first n of them; `HIST_ACTIONS=n` makes runs
//! longer or shorter.

mod log;
mod pending;
mod reader;
mod stream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sim::{Seeded, number};
use world::{Happened, World};

const SEEDS: u64 = 200;
const ACTIONS: usize = 150;

/// What the seeds together must have come to: else the laws were kept where nothing happened.
const MUST_HAPPEN: [&str; 8] = [
    "opened",
    "gap at the door",
    "gap on the way",
    "restart",
    "expired in a replay",
    "drained",
    "shutdown",
    "many channels",
];

#[test]
fn whoever_comes_back_misses_nothing_unknowingly() {
    let seeds = match number("HIST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HIST_SEEDS").unwrap_or(SEEDS),
    };
    let actions = number("HIST_ACTIONS").map_or(ACTIONS, |actions| actions as usize);
    let is_default = seeds == (0..SEEDS) && actions == ACTIONS;
    let mut happened = Happened::new();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| {
            World::new(Seeded::new(seed)).run(actions)
        }));
        let run = run.unwrap_or_else(|_| panic!("replay with HIST_SEED={seed}"));
        for (what, times) in run {
            *happened.entry(what).or_default() += times;
        }
    }
    println!("{happened:?}");
    for what in MUST_HAPPEN.iter().filter(|_| is_default) {
        assert!(happened.contains_key(*what), "never {what}: {happened:?}");
    }
}
