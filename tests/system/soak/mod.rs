//! A soak: everything that clients, publishers and a backend do wrong, at once and for as long as
//! `SOAK_SECONDS` says (60 by default), against the real binary; `SOAK_SEED` repeats a run's choices.
//!
//! ```text
//! SOAK_SECONDS=600 cargo test --release --test system soak:: -- --ignored --nocapture
//! ```
//!
//! Three accounts must be right at its end. *Tokens*: what the backend was asked and told is held
//! against the gateway's own log, token by token ([`book`], [`audit`]). *Events*: each stream gets a
//! gapless sequence, up to the end if the end was asked for. *Resources*: memory and descriptors
//! are as flat in the later half as in the first, and back at the start's when all have left.

mod audience;
mod audit;
mod backend;
mod book;
mod churn;
mod pests;
mod process;
mod slow;
mod world;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backend::{FAULTS, FaultyBackend};
use process::{Curve, Process, Sample};
use world::{Rng, World};

use crate::support::Gateway;

/// Between two lines of the curve.
const SAMPLE: Duration = Duration::from_secs(5);
/// How long the backend has one fault.
const FAULT: Duration = Duration::from_millis(2500);
/// Less than this makes no curve.
const SHORTEST: Duration = Duration::from_secs(20);
/// What is owed when the last client has left is delivered within this: a queue of disconnects
/// that hang for 5 s each, and the noise of the host.
const SETTLED: Duration = Duration::from_secs(40);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Limits small enough to be met often.
fn start(url: &str) -> Gateway {
    Gateway::builder()
        .env("CALLBACK_URL", url)
        .env("HEARTBEAT_INTERVAL_SECONDS", "1")
        .env("MAX_UNSENT_BYTES", &slow::MAX_UNSENT.to_string())
        .env("STALL_TIMEOUT_SECONDS", "3")
        .env("REQUEST_TIMEOUT_SECONDS", "3")
        .env("NEW_CONNECTION_TIMEOUT_SECONDS", "3")
        .start()
}

#[test]
#[ignore = "takes SOAK_SECONDS and much of the machine"]
fn soak() {
    let length = Duration::from_secs(setting("SOAK_SECONDS", 60));
    let seed = setting("SOAK_SEED", 20_261_121);
    println!("seed={seed} seconds={}", length.as_secs());
    assert!(length >= SHORTEST, "SOAK_SECONDS is less than {SHORTEST:?}");
    let mut backend = FaultyBackend::new();
    let mut gateway = start(&backend.url());
    let world = Arc::new(World::new(gateway.port(), seed));
    backend.open(&world);
    drop(pests::probe_once(&world));
    let process = Process::of(gateway.pid());
    let rest = process.settled();
    println!("at rest: {rest}");

    let curve = thread::scope(|scope| {
        world.crowd(scope);
        let curve = watch(&world, &process, &mut backend, length);
        world.stop();
        curve
    });
    backend.clear_fault(&world);
    world.check();

    let settled = audit::wait_settled(&gateway, &world.book, SETTLED);
    let end = process.wait_back_at(rest);
    println!("at the end: {end}");
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    backend.shut();
    world.wait_for_backend();
    world.check();
    let account = audit::account(&gateway.lines(), &world.book);
    println!("{account}");
    println!("{}", world.counts());
    assert!(account.violations.is_empty(), "{:#?}", account.violations);
    account.assert_delivered();
    assert!(settled, "owed for {SETTLED:?} and not paid");
    assert!(gateway.log().contains("undelivered=0"));
    let turn = FAULT * FAULTS.len() as u32;
    curve.assert_flat(&end, &rest, length >= 2 * turn);
    world.assert_busy(length);
}

/// Turns the backend's faults and draws the curve until the time is over or somebody has failed.
fn watch(
    world: &Arc<World>,
    process: &Process,
    backend: &mut FaultyBackend,
    length: Duration,
) -> Curve {
    let mut rng = Rng::new(world.seed ^ 0xbac);
    let start = Instant::now();
    let (mut fault_ends, mut sampled) = (start, start);
    let mut curve = Curve::default();
    let mut turn: Vec<_> = Vec::new();
    while start.elapsed() < length && world.is_on() {
        let now = Instant::now();
        if fault_ends <= now {
            if turn.is_empty() {
                turn = FAULTS.to_vec();
                rng.shuffle(&mut turn);
            }
            backend.set_fault(world, turn.pop().expect("a fault"));
            fault_ends = now + FAULT;
        }
        if sampled + SAMPLE <= now {
            sampled += SAMPLE;
            curve.add(sample(world, process, start));
        }
        world.pause(Duration::from_millis(100));
    }
    curve.add(sample(world, process, start));
    curve
}

fn sample(world: &World, process: &Process, start: Instant) -> Sample {
    let sample = process.sample();
    println!(
        "{:5.0}s {sample} {} fault={:?}",
        start.elapsed().as_secs_f32(),
        world.counts(),
        world.backend_fault()
    );
    sample
}
