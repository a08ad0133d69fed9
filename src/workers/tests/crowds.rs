//! How many threads a lane has for what it is given.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::*;
use crate::workers::lane::{Bounds, Lane};

const FAST: Duration = Duration::from_micros(20);

/// How long a job waits before more threads are asked for.
const STEP: Duration = Duration::from_millis(10);

fn lane_of(workers: usize) -> Lane {
    Lane::new(Bounds {
        workers,
        queue: 10_000,
        idle: Duration::from_secs(60),
    })
}

/// Submits so many jobs, from that id on, and gives the number of threads that were started.
fn crowd(lane: &Lane, from: u64, jobs: u64) -> usize {
    let started = Cell::new(0);
    for id in from..from + jobs {
        let start = || {
            started.set(started.get() + 1);
            Ok(())
        };
        lane.submit(connect(id), start).expect("room");
    }
    started.get()
}

#[test]
fn nobody_waits_for_who_has_been_away_for_long() {
    let lane = lane_of(64);
    assert_eq!(crowd(&lane, 0, 1), 1);
    let taken = lane.take(&Arc::default(), None, Instant::now(), Some(FAST));
    assert!(taken.is_some());
    thread::sleep(STEP);
    assert_eq!(crowd(&lane, 1, 1), 1);
}

#[test]
fn a_backend_that_never_answers_gets_every_thread_in_time() {
    let (started, begun) = (Cell::new(4), Instant::now());
    let lane = lane_of(64);
    assert_eq!(crowd(&lane, 0, 100), 4);
    let start = || {
        started.set(started.get() + 1);
        Ok(())
    };
    let mut taken = 0;
    while lane.tend(start).is_some() {
        while taken < started.get() {
            let job = lane.take(&Arc::default(), None, begun, None);
            assert!(job.is_some());
            taken += 1;
        }
        assert!(begun.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert_eq!(started.get(), 64);
    // Each time as many as there are, and then a moment for them to show what they can do.
    assert!(begun.elapsed() >= 4 * STEP);
}

#[test]
fn nothing_is_tended_while_nobody_waits() {
    let lane = lane_of(64);
    assert_eq!(lane.tend(|| unreachable!()), None);
    crowd(&lane, 0, 1);
    let seat = Arc::default();
    assert!(lane.take(&seat, None, Instant::now(), None).is_some());
    assert_eq!(lane.tend(|| unreachable!()), None);
}

#[test]
fn a_queue_counts_only_who_would_wait() {
    let lane = Lane::new(Bounds {
        workers: 4,
        queue: 1,
        idle: Duration::from_secs(60),
    });
    assert_eq!(crowd(&lane, 0, 5), 4);
    assert!(lane.submit(connect(5), || Ok(())).is_err());
    let seats: Vec<_> = (0..4).map(|_| Arc::default()).collect();
    let mut back = None;
    for seat in &seats {
        let taken = lane.take(seat, None, Instant::now(), None);
        back = Some(taken.expect("a job").1);
    }
    assert!(lane.submit(connect(6), || Ok(())).is_err());
    assert!(lane.take(&seats[3], back, Instant::now(), None).is_some());
    assert!(lane.submit(connect(7), || Ok(())).is_ok());
}

/// Threads that take jobs and come back from them when the test says so.
struct Crew {
    lane: Arc<Lane>,
    /// By thread: how long its job is to have taken.
    done: Vec<Sender<Duration>>,
    tell: Sender<(usize, u64)>,
    /// Who has taken which job.
    taken: Receiver<(usize, u64)>,
}

impl Crew {
    /// So many threads at rest, for a backend that takes so long.
    fn resting(threads: usize, service: Duration) -> Crew {
        let (tell, taken) = channel();
        let mut crew = Crew {
            lane: Arc::new(lane_of(64)),
            done: Vec::new(),
            tell,
            taken,
        };
        for at in 0..threads {
            assert_eq!(crowd(&crew.lane, at as u64, 1), 1);
            crew.enter();
            assert_eq!(crew.next(), (at, at as u64));
        }
        crew.done
            .iter()
            .for_each(|done| done.send(service).expect("a thread"));
        until(|| crew.lane.threads() == (threads, threads));
        crew
    }

    fn enter(&mut self) {
        let (done, ends) = channel();
        let (lane, tell, number) = (Arc::clone(&self.lane), self.tell.clone(), self.done.len());
        self.done.push(done);
        thread::spawn(move || {
            let seat = Arc::default();
            let (mut back, mut rested, mut service) = (None, Instant::now(), None);
            while let Some((job, taken)) = lane.take(&seat, back, rested, service) {
                let is_heard = tell.send((number, job.id.0)).is_ok();
                let (true, Ok(length)) = (is_heard, ends.recv()) else {
                    return;
                };
                (back, rested, service) = (Some(taken), Instant::now(), Some(length));
            }
        });
    }

    fn next(&self) -> (usize, u64) {
        self.taken
            .recv_timeout(PATIENCE)
            .expect("a job that is taken")
    }

    /// Submits a job that needs no new thread; gives how many still rest.
    fn submit(&self, id: u64) -> usize {
        let start = || unreachable!("threads rest");
        self.lane.submit(connect(id), start).expect("room");
        self.lane.threads().1
    }
}

#[test]
fn who_is_awake_and_keeps_up_is_not_helped() {
    let crew = Crew::resting(4, FAST);
    assert_eq!(crew.submit(10), 3);
    let (one, _) = crew.next();
    for id in 11..20 {
        assert_eq!(crew.submit(id), 3);
    }
    for id in 11..20 {
        crew.done[one].send(FAST).expect("a thread");
        assert_eq!(crew.next(), (one, id));
    }
    assert_eq!(crew.lane.threads(), (4, 3));
    // It does not come back: another is woken, none is started.
    let (begun, mut gap) = (Instant::now(), Duration::ZERO);
    assert_eq!(crew.submit(20), 3);
    while crew.lane.threads().1 == 3 {
        let before = Instant::now();
        crew.lane.tend(|| unreachable!("threads rest"));
        gap = gap.max(before.elapsed());
        assert!(begun.elapsed() < PATIENCE, "nobody is woken");
    }
    assert!(begun.elapsed() >= STEP);
    // But for what a busy host keeps this test from looking.
    assert!(begun.elapsed() < 5 * STEP + gap);
    let (other, id) = crew.next();
    assert!(other != one && id == 20);
}

#[test]
fn a_slow_backend_has_all_of_them_awake_at_once() {
    let crew = Crew::resting(4, Duration::from_millis(50));
    for (id, left) in [(10, 3), (11, 2), (12, 1), (13, 0)] {
        assert_eq!(crew.submit(id), left);
    }
    let mut taken: Vec<u64> = (0..4).map(|_| crew.next().1).collect();
    taken.sort_unstable();
    assert_eq!(taken, [10, 11, 12, 13]);
}
