//! How many threads a lane asks for, with a plain backend and injected time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::workers::growth::{Growth, Help, PATIENCE};

const LIMIT: usize = 64;

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone, Copy)]
enum Kind {
    /// Answers one after the other, each in so long.
    Busy(Duration),
    /// Answers all at once, after so long.
    Waits(Duration),
    Hangs,
}

/// A lane with a crowd of jobs that come 30 us apart, and threads that start at once.
struct Crowd {
    backend: Kind,
    /// When the backend has ended what it has.
    free: Instant,
    growth: Growth,
    now: Instant,
    jobs: VecDeque<Instant>,
    /// When each thread that has a job took it, and has its answer.
    busy: Vec<(Instant, Option<Instant>)>,
    resting: usize,
    tend_at: Instant,
}

impl Crowd {
    fn new(backend: Kind) -> Crowd {
        let now = Instant::now();
        Crowd {
            backend,
            free: now,
            growth: Growth::new(LIMIT, now),
            now,
            jobs: VecDeque::new(),
            busy: Vec::new(),
            resting: 0,
            tend_at: now,
        }
    }

    fn threads(&self) -> usize {
        self.busy.len() + self.resting
    }

    fn at_hand(&self) -> usize {
        let is_near = |(taken, _): &&(Instant, _)| self.now - *taken < PATIENCE;
        self.busy.iter().filter(is_near).count()
    }

    fn submit(&mut self) {
        self.jobs.push_back(self.now);
        if self.jobs.len() == 1 {
            self.growth.begin(self.now);
        }
        let help = self.growth.help(self.at_hand(), self.jobs.len(), self.now);
        if help != Help::None && (self.resting > 0 || help == Help::Start) {
            self.awake();
        }
    }

    /// One more has a job, if there may be one more.
    fn awake(&mut self) {
        if self.resting > 0 {
            self.resting -= 1;
        } else if self.threads() == LIMIT {
            return;
        }
        self.take();
    }

    fn take(&mut self) {
        if self.jobs.pop_front().is_none() {
            self.resting += 1;
            return;
        }
        let ends = match self.backend {
            Kind::Hangs => None,
            Kind::Waits(time) => Some(self.now + time),
            Kind::Busy(time) => {
                self.free = self.free.max(self.now) + time;
                Some(self.free)
            }
        };
        self.busy.push((self.now, ends));
    }

    /// Time passes until then.
    fn pass(&mut self, until: Instant) {
        loop {
            let ends = self.busy.iter().enumerate();
            let next = ends
                .filter_map(|(at, (_, ends))| ends.map(|ends| (ends, at)))
                .min();
            let next = next.filter(|(ends, _)| *ends <= until.min(self.tend_at));
            if let Some((ends, at)) = next {
                self.now = ends;
                let taken = self.busy.len();
                let (since, _) = self.busy.remove(at);
                self.growth.ended(ends - since, taken);
                self.take();
            } else if self.tend_at <= until {
                self.now = self.tend_at;
                self.tend();
                self.tend_at += PATIENCE;
            } else {
                self.now = until;
                return;
            }
        }
    }

    fn tend(&mut self) {
        let Some(oldest) = self.jobs.front() else {
            return;
        };
        let waited = self.now - *oldest;
        if waited >= PATIENCE {
            for _ in 0..self.growth.more(self.at_hand(), waited, self.now) {
                self.awake();
            }
        }
    }

    /// So many jobs come; gives how many threads there are when so long has passed since the first.
    fn threads_after(&mut self, jobs: usize, time: Duration) -> usize {
        let start = self.now;
        for _ in 0..jobs {
            self.submit();
            self.pass(self.now + us(30));
        }
        self.pass(start + time);
        self.threads()
    }
}

/// Threads that a crowd of 3,000 has after so many milliseconds.
#[test]
fn there_are_as_many_as_bring_something() {
    use Kind::*;
    let table = [
        // So many keep up with the loop.
        (Busy(us(20)), 95, 1..=1),
        (Waits(us(60)), 95, 2..=2),
        // More bring nothing.
        (Busy(us(100)), 250, 8..=8),
        (Busy(us(500)), 900, 8..=8),
        // Each time as many again bring as much again.
        (Waits(ms(1)), 250, 32..=64),
        (Waits(ms(5)), 100, 64..=64),
        (Waits(ms(9)), 100, 64..=64),
        // Away for so long that nobody can tell.
        (Busy(ms(3)), 200, 64..=64),
        (Waits(ms(50)), 100, 64..=64),
        (Waits(ms(1000)), 100, 64..=64),
        (Hangs, 100, 64..=64),
    ];
    for (at, (backend, millis, threads)) in table.into_iter().enumerate() {
        let found = Crowd::new(backend).threads_after(3000, ms(millis));
        assert!(threads.contains(&found), "line {at}: {found} threads");
    }
}

/// A backend may have become another since it was found to be busy.
#[test]
fn more_are_tried_now_and_then() {
    let mut crowd = Crowd::new(Kind::Busy(us(200)));
    assert_eq!(crowd.threads_after(20_000, ms(900)), 8);
    crowd.pass(crowd.now + ms(300));
    assert_eq!(crowd.threads(), 16);
    crowd.backend = Kind::Waits(ms(5));
    crowd.pass(crowd.now + ms(900));
    assert_eq!(crowd.threads(), LIMIT);
}

/// However fast a callback was of late: nobody waits for long behind those that are awake.
#[test]
fn a_job_that_waits_all_the_same_gets_help() {
    let now = Instant::now();
    let mut growth = Growth::new(LIMIT, now);
    growth.ended(us(20), 1);
    for waited in [10, 50, 99] {
        assert_eq!(growth.more(1, ms(waited), now + ms(waited)), 0);
    }
    assert!(growth.more(1, ms(100), now + ms(100)) > 0);
}

/// A standstill makes all that are away come back late, which is one late answer, not many.
#[test]
fn many_late_ones_at_once_are_no_more_of_a_reason_than_one() {
    let now = Instant::now();
    let mut growth = Growth::new(LIMIT, now);
    growth.ended(us(20), 4);
    for taken in (1..=4).rev() {
        growth.ended(ms(50), taken);
    }
    // Short of threads, but not by fifty milliseconds for each job.
    assert_eq!(growth.help(3, 3, now), Help::Wake);
    for _ in 0..3 {
        growth.ended(us(20), 1);
    }
    assert_eq!(growth.help(1, 100, now), Help::None);
}

#[test]
fn who_goes_takes_the_level_along() {
    let mut crowd = Crowd::new(Kind::Waits(ms(5)));
    assert_eq!(crowd.threads_after(3000, ms(100)), LIMIT);
    let now = crowd.now;
    crowd.growth.begin(now);
    for (running, more) in [(64, 59), (6, 1), (0, 0)] {
        crowd.growth.left(running);
        assert_eq!(crowd.growth.more(5, ms(200), now), more, "{running} left");
    }
}
