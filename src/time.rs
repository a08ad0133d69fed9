//! Time as the core sees it: a number that the shell hands in.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since the process started, on the monotonic clock.
///
/// The core never reads a clock; every verb that can arm or meet a deadline takes one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Later than every time that a process lives to see.
    pub const NEVER: Time = Time(u64::MAX);

    /// Time from `earlier` until `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, rhs: Time) -> Duration {
        self.since(rhs)
    }
}
