//! What all parts of the soak share: the end, the dice, the counts, the book.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::backend::{FAULTS, Fault};
use super::book::Book;
use super::{audience, churn, pests, slow};
use crate::support::Shared;

/// SplitMix64: small, and the same on every host.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn is_one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// Things that happened, for the curve and for the proof that anything did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Opened,
    Refused,
    LeftEarly,
    Sent,
    Read,
    SlowRead,
    Dropped,
    Loris,
    Garbage,
    Unread,
    Probes,
}

const COUNTS: [Count; 11] = [
    Count::Opened,
    Count::Refused,
    Count::LeftEarly,
    Count::Sent,
    Count::Read,
    Count::SlowRead,
    Count::Dropped,
    Count::Loris,
    Count::Garbage,
    Count::Unread,
    Count::Probes,
];

pub(crate) struct World {
    pub(crate) port: u16,
    pub(crate) seed: u64,
    pub(crate) book: Book,
    is_over: Mutex<bool>,
    over: Condvar,
    backend_fault: AtomicUsize,
    next_id: AtomicU64,
    counts: [AtomicU64; COUNTS.len()],
    /// Of the health checks, in microseconds.
    slowest: AtomicU64,
    /// Clients with an open stream.
    present: AtomicUsize,
    /// Threads of the backend.
    backend_threads: Shared<usize>,
    violations: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(port: u16, seed: u64) -> World {
        World {
            port,
            seed,
            book: Book::default(),
            is_over: Mutex::default(),
            over: Condvar::new(),
            backend_fault: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            counts: Default::default(),
            slowest: AtomicU64::new(0),
            present: AtomicUsize::new(0),
            backend_threads: Shared::default(),
            violations: Mutex::default(),
        }
    }

    // ---- the end ----

    pub(crate) fn is_on(&self) -> bool {
        !*self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.notify_all();
    }

    /// Paces the load; over early when the soak is.
    pub(crate) fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_over {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (is_over, _) = self
                .over
                .wait_timeout(is_over, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Something that must never be; the soak ends with it.
    pub(crate) fn report(&self, what: String) {
        self.violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
        self.stop();
    }

    /// The backend's connections have all ended, and whatever they had to report is there.
    pub(crate) fn wait_for_backend(&self) {
        let ended = self
            .backend_threads
            .wait(|threads| (*threads == 0).then_some(()));
        assert!(ended.is_some(), "a thread of the backend lives on");
    }

    pub(crate) fn check(&self) {
        let violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert!(violations.is_empty(), "{violations:#?}");
    }

    // ---- the crowd ----

    /// Starts all clients and publishers.
    pub(crate) fn crowd<'s>(self: &'s Arc<World>, scope: &'s Scope<'s, '_>) {
        for _ in 0..24 {
            self.spawn(scope, "churn", churn::churn);
        }
        audience::spawn(self, scope);
        for _ in 0..3 {
            self.spawn(scope, "slow reader", slow::slow_reader);
            self.spawn(scope, "never-reader", slow::never_reader);
        }
        self.spawn(scope, "stalled reader", slow::stalled_reader);
        for _ in 0..2 {
            self.spawn(scope, "unread answers", pests::unread_answers);
            self.spawn(scope, "garbage", pests::garbage);
        }
        for _ in 0..6 {
            self.spawn(scope, "loris", pests::loris);
        }
        self.spawn(scope, "probe", pests::probe);
    }

    /// A thread that repeats `act` until the soak is over; its panic ends the soak.
    pub(crate) fn spawn<'s, 'e: 's>(
        &'e self,
        scope: &'s Scope<'s, '_>,
        name: &str,
        mut act: impl FnMut(&World, &mut Rng) + Send + 's,
    ) {
        let mut rng = Rng::new(self.seed ^ self.id().wrapping_mul(0x5851_f42d_4c95_7f2d));
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, move || {
                let _alarm = Alarm(self);
                while self.is_on() {
                    act(self, &mut rng);
                }
            })
            .expect("a thread");
    }

    /// A number that nobody else has.
    pub(crate) fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    // ---- the backend's fault ----

    pub(crate) fn backend_fault(&self) -> Fault {
        FAULTS[self.backend_fault.load(Ordering::Acquire)]
    }

    pub(crate) fn set_backend_fault(&self, fault: Fault) {
        let at = FAULTS.iter().position(|other| *other == fault);
        self.backend_fault
            .store(at.expect("one of them"), Ordering::Release);
    }

    // ---- counts ----

    pub(crate) fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A stream has opened; it counts until the guard is dropped.
    pub(crate) fn enter(&self) -> Present<'_> {
        self.count(Count::Opened);
        self.present.fetch_add(1, Ordering::Relaxed);
        Present(self)
    }

    pub(crate) fn probed(&self, latency: Duration) {
        self.count(Count::Probes);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            open: self.present.load(Ordering::Relaxed),
            of: COUNTS.map(|count| self.counts[count as usize].load(Ordering::Relaxed)),
            slowest: Duration::from_micros(self.slowest.load(Ordering::Relaxed)),
        }
    }

    /// Everything was tried, and health checks were answered all the time.
    pub(crate) fn assert_busy(&self, length: Duration) {
        let counts = self.counts();
        for count in COUNTS {
            assert!(counts.of[count as usize] > 0, "never {count:?}");
        }
        let probes = counts.of[Count::Probes as usize];
        assert!(probes > length.as_secs() * 2, "{probes} probes");
        assert!(counts.slowest < pests::SLOWEST_PROBE, "{counts}");
    }
}

/// An open stream's client.
pub(crate) struct Present<'w>(&'w World);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the soak when the thread that holds it panics, and keeps the panic for the end: of a
/// detached thread it would be lost.
struct Alarm<'w>(&'w World);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("backend").to_owned();
            self.0.report(format!("a panic of {name}"));
        }
    }
}

/// As long as a thread of the backend lives.
pub(crate) struct Serving(Arc<World>);

impl Serving {
    pub(crate) fn new(world: &Arc<World>) -> Serving {
        world.backend_threads.change(|threads| *threads += 1);
        Serving(Arc::clone(world))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(Alarm(&self.0));
        self.0.backend_threads.change(|threads| *threads -= 1);
    }
}

pub(crate) struct Counts {
    open: usize,
    of: [u64; COUNTS.len()],
    slowest: Duration,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "streams={}", self.open)?;
        for (count, n) in COUNTS.iter().zip(self.of) {
            write!(f, " {count:?}={n}")?;
        }
        write!(f, " slowest={:.1?}", self.slowest)
    }
}
