//! What is counted of what happens (contract, section 14): plain numbers, which a look at them
//! renders.

use std::time::Duration;

use super::limit::{LIMITS, Limit};
use crate::callback::{Action, CallbackResult, Outcome, Reason};

/// The two kinds of callbacks, as metrics name them.
pub(super) const KINDS: [&str; 2] = ["connect", "disconnect"];

/// How callbacks end, as metrics name it.
pub(super) const OUTCOMES: [&str; 7] = [
    "accepted",
    "rejected",
    "timed_out",
    "failed",
    "unfinished",
    "never_sent",
    "queue_full",
];
const NEVER_SENT: usize = 5;

/// Why streams end, in the order in which they are counted.
pub(super) const REASONS: [Reason; 3] = [Reason::ClientClosed, Reason::ServerClosed, Reason::Error];

/// Answers to sends that there are from the start, by target: a counter that begins to exist with its
/// first event hides that one from who looks for increases. In one text, as in all tables that only
/// operators see: a table of texts costs the program twice as much as the texts.
const SENDS: &str = "token ok token buffered tokens ok channels ok broadcast ok \
    token TOKEN_NOT_FOUND token WRITE_FAILED token BUFFER_FULL token INVALID_CHANNEL \
    channels RETAINED_FULL none INVALID_JSON none INVALID_TARGET none INVALID_TOKEN_MISSING \
    none INVALID_CHANNEL none INVALID_EVENT_TYPE \
    none INVALID_EVENT_DATA_MISSING none INVALID_EVENT_NAME_TYPE none INVALID_EVENT_NAME \
    none INVALID_CLOSE_TYPE none INVALID_EVENT_ID none INVALID_EVENT_RETRY none INVALID_EVENT_KEY \
    none INVALID_EVENT_RETAIN";

/// The codes of all other errors.
const REFUSALS: &str = "BAD_REQUEST UNAUTHORIZED NOT_FOUND TOKEN_NOT_FOUND METHOD_NOT_ALLOWED \
    REQUEST_TIMEOUT CONTENT_TOO_LARGE URI_TOO_LONG UNSUPPORTED_MEDIA_TYPE \
    REQUEST_HEADER_FIELDS_TOO_LARGE NOT_IMPLEMENTED HTTP_VERSION_NOT_SUPPORTED INVALID_PARAMETER \
    SERVICE_NOT_CONFIGURED OVERLOADED SHUTTING_DOWN GATEWAY_TIMEOUT BACKEND_UNAVAILABLE \
    BACKEND_AUTH_FAILED BACKEND_FORBIDDEN BACKEND_ERROR";

/// Numbers by two words each.
#[derive(Debug)]
pub(super) struct Tally(Vec<(&'static str, &'static str, u64)>);

impl Tally {
    /// One that begins with these words, two for each row or the second of them alone.
    fn of(words: &'static str, has_two: bool) -> Tally {
        let mut rows = Vec::new();
        let mut words = words.split(' ');
        while let Some(word) = words.next() {
            rows.push(match has_two {
                true => (word, words.next().unwrap_or_default(), 0),
                false => ("", word, 0),
            });
        }
        Tally(rows)
    }

    fn add(&mut self, one: &'static str, other: &'static str) {
        let is_it = |row: &&mut (&str, &str, u64)| row.1 == other && row.0 == one;
        match self.0.iter_mut().find(is_it) {
            Some((_, _, count)) => *count += 1,
            None => self.0.push((one, other, 1)),
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &(&'static str, &'static str, u64)> {
        self.0.iter()
    }
}

/// The upper bounds of [`Durations`], in microseconds.
pub(super) const BOUNDS: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// How long something took, by bounds.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// How many took no longer than each of [`BOUNDS`], and longer than the one before.
    pub(super) within: [u64; BOUNDS.len()],
    /// How many there were.
    pub(super) count: u64,
    /// Microseconds of all of them.
    pub(super) sum: u64,
}

impl Durations {
    fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.within[at] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(micros);
    }
}

/// All counters of a process.
#[derive(Debug)]
pub(super) struct Counters {
    /// Connections that were accepted.
    pub(super) accepted: u64,
    /// Streams that were opened.
    pub(super) opened: u64,
    /// Those of them that have ended, by [`REASONS`].
    pub(super) ended: [u64; 3],
    /// Those of them that passed a limit.
    pub(super) dropped: [u64; LIMITS],
    /// Every time a limit was reached.
    pub(super) limits: [u64; LIMITS],
    /// Errors other than those to sends.
    pub(super) refusals: Tally,
    /// Sends by their target, and what they were answered.
    pub(super) sends: Tally,
    /// Events that were given to streams.
    pub(super) events: u64,
    /// Bytes that streams' sockets took.
    pub(super) bytes: u64,
    /// Callbacks by [`KINDS`] and [`OUTCOMES`].
    pub(super) callbacks: [[u64; OUTCOMES.len()]; 2],
    /// How long those took that were sent.
    pub(super) durations: [Durations; 2],
    /// Streams that were told of something that they have missed.
    pub(super) gaps: u64,
    /// Requests without a key.
    pub(super) keys_rejected: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            accepted: 0,
            opened: 0,
            ended: [0; 3],
            dropped: [0; LIMITS],
            limits: [0; LIMITS],
            refusals: Tally::of(REFUSALS, false),
            sends: Tally::of(SENDS, true),
            events: 0,
            bytes: 0,
            callbacks: [[0; OUTCOMES.len()]; 2],
            durations: Default::default(),
            gaps: 0,
            keys_rejected: 0,
        }
    }
}

impl Counters {
    /// Streams that are open.
    pub(super) fn open(&self) -> u64 {
        self.opened - self.ended.iter().sum::<u64>()
    }

    /// An error is the answer to something other than a send.
    pub(super) fn refused(&mut self, code: &'static str) {
        self.refusals.add("", code);
    }

    /// A send is answered.
    pub(super) fn sent(&mut self, target: &'static str, answer: &'static str) {
        self.sends.add(target, answer);
    }

    pub(super) fn ended(&mut self, reason: Reason, limit: Option<Limit>) {
        if let Some(at) = REASONS.iter().position(|it| *it == reason) {
            self.ended[at] += 1;
        }
        match (reason, limit) {
            (Reason::Error, Some(limit)) => self.dropped[limit as usize] += 1,
            // Its time was over, of which no line speaks as of a limit.
            (_, Some(limit)) => self.limits[limit as usize] += 1,
            _ => {}
        }
    }

    /// A callback has its result.
    pub(super) fn called(&mut self, result: &CallbackResult) {
        let kind = match result.action {
            Action::Connect { .. } => 0,
            Action::Disconnect { .. } => 1,
        };
        let outcome = match result.outcome {
            Outcome::Answered {
                status: 200..=299, ..
            } => 0,
            Outcome::Answered { .. } => 1,
            Outcome::TimedOut => 2,
            Outcome::Failed(_) => 3,
            Outcome::Unfinished { .. } => 4,
            Outcome::NeverSent => NEVER_SENT,
            Outcome::QueueFull => 6,
        };
        self.callbacks[kind][outcome] += 1;
        if outcome < NEVER_SENT {
            self.durations[kind].add(result.took);
        }
    }

    /// A connect callback was taken back.
    pub(super) fn withdrawn(&mut self) {
        self.callbacks[0][NEVER_SENT] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_within_their_bounds() {
        let mut durations = Durations::default();
        for micros in [0, 1_000, 1_001, 5_000_000, 5_000_001] {
            durations.add(Duration::from_micros(micros));
        }
        assert_eq!((durations.within[0], durations.within[1]), (2, 1));
        assert_eq!((durations.within[11], durations.count), (1, 5));
        assert_eq!(durations.sum, 10_002_002);
    }

    #[test]
    fn a_tally_counts_what_it_did_not_know_too() {
        let mut tally = Tally(vec![("a", "b", 0)]);
        tally.add("a", "b");
        tally.add("a", "c");
        tally.add("a", "c");
        assert_eq!(tally.0, [("a", "b", 1), ("a", "c", 2)]);
    }
}
