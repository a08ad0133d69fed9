//! How many threads a lane has use for, told by what comes back from the backend.
//!
//! Twice as many are tried when jobs wait too long, and kept at that while it brings more answers:
//! a backend that waits for others answers as many more as are asked at once, one that is busy
//! answers each of them later. Nothing that comes back at all is a reason for more, too.

use std::time::{Duration, Instant};

/// Threads that are awake before it is known how long a callback takes.
const EAGER: usize = 4;

/// What a callback costs the event loop, about: when one takes so many times longer, that many
/// threads keep up with the loop.
const PACE: Duration = Duration::from_micros(30);

/// How long a job may be expected to wait, or has waited, before there are more threads; also how
/// long it takes to see what they brought, and after what time a thread counts as away.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// How long a job waits before threads that ought to be enough are no longer believed in.
const DOUBT: Duration = Duration::from_millis(100);

/// How long more threads are held back after the last ones had brought nothing.
const HOLD: Duration = Duration::from_secs(1);

/// What a job that comes needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Help {
    /// A thread that is awake will take it.
    None,
    /// A thread that rests, if there is one.
    Wake,
    /// A thread that rests, or else a new one.
    Start,
}

/// What a lane knows of its backend. Threads at hand: those that are awake, and have not been away
/// with a job for so long that nobody knows when they come back.
pub(super) struct Growth {
    /// The most threads there may ever be.
    limit: usize,
    /// The most threads at hand.
    level: usize,
    /// What a job has taken its worker of late; zero until one has ended. Nearer to the least than
    /// to the average: what a worker waits for a processor is no reason for more of them.
    service: Duration,
    /// Since when there are that many, or jobs wait.
    since: Instant,
    /// Jobs that have ended since then.
    ended: u32,
    /// The least time from one end to the next with fewer threads, if any came back.
    least: Option<Duration>,
}

impl Growth {
    pub(super) fn new(limit: usize, now: Instant) -> Growth {
        Growth {
            limit,
            level: EAGER.min(limit),
            service: Duration::ZERO,
            since: now,
            ended: 0,
            least: None,
        }
    }

    /// A job waits, and none did before.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.since, self.ended) = (now, 0);
    }

    /// A job was sent and has ended, when so many had been taken.
    pub(super) fn ended(&mut self, service: Duration, taken: usize) {
        self.ended += 1;
        // A standstill makes all that are away come back late, which is one late answer.
        let share = u32::try_from(16 * taken.max(1)).unwrap_or(u32::MAX);
        self.service = match self.service {
            Duration::ZERO => service,
            before => service.min(before + service.saturating_sub(before) / share),
        };
    }

    /// A thread has gone for want of work, and so many are left.
    pub(super) fn left(&mut self, running: usize) {
        self.level = self.level.min(running.max(EAGER));
        self.least = None;
    }

    /// What the last of so many queued jobs needs.
    pub(super) fn help(&mut self, at_hand: usize, jobs: usize, now: Instant) -> Help {
        if at_hand == 0 || (self.service.is_zero() && at_hand < self.level) {
            self.grow(now);
            return Help::Start;
        }
        if self.suffices(at_hand) {
            return Help::None;
        }
        let is_short = self.service.saturating_mul(small(jobs)) / small(at_hand) > PATIENCE;
        if is_short {
            self.grow(now);
        }
        match (at_hand < self.level, is_short) {
            (false, _) => Help::None,
            (true, false) => Help::Wake,
            (true, true) => Help::Start,
        }
    }

    /// How many more are to be awake for jobs of which the oldest has waited so long.
    pub(super) fn more(&mut self, at_hand: usize, waited: Duration, now: Instant) -> usize {
        if waited < DOUBT && self.suffices(at_hand) {
            return 0;
        }
        self.grow(now);
        self.level.saturating_sub(at_hand)
    }

    /// Whether so many threads keep up with the loop.
    fn suffices(&self, at_hand: usize) -> bool {
        match self.service {
            Duration::ZERO => at_hand >= EAGER,
            service => service <= PACE.saturating_mul(small(at_hand)),
        }
    }

    /// Twice as many, if it is time to and serves.
    fn grow(&mut self, now: Instant) {
        let lasted = now.saturating_duration_since(self.since);
        if self.level >= self.limit || lasted < PATIENCE {
            return;
        }
        let each = lasted.checked_div(self.ended);
        let is_vain = match (self.least, each) {
            (Some(least), Some(each)) => each * 3 / 2 > least,
            _ => false,
        };
        if is_vain && lasted < HOLD {
            return;
        }
        self.level = self.limit.min(self.level * 2);
        (self.since, self.ended) = (now, 0);
        // What it once was says nothing of a backend that has become another.
        let before = self.least.filter(|_| !is_vain);
        self.least = [before, each].into_iter().flatten().min();
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
