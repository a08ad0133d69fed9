//! A bounded queue of jobs and the threads that empty it.
//!
//! Laws: a job is in the queue until exactly one worker takes it, or it is withdrawn. A worker
//! leaves only while the queue is empty, or once the lane is closed; so a queued job never lies
//! in a lane without threads.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::callback::{Job, JobId};

/// What bounds a lane.
pub(super) struct Limits {
    /// Threads at once.
    pub(super) workers: usize,
    /// Jobs that no worker has begun.
    pub(super) queue: usize,
    /// How long a worker stays without work.
    pub(super) idle: Duration,
}

/// One queue with its workers; the threads themselves are started by whoever submits.
pub(super) struct Lane {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: BTreeMap<JobId, Job>,
    /// A stack: the worker that has rested least works next, so that the others age out.
    idle: Vec<Arc<Seat>>,
    /// Threads started and not yet left, those at rest included.
    running: usize,
    closed: bool,
}

/// Where one idle worker sleeps. It was woken when its seat is no longer on the stack; the
/// condition variable alone may wake for no reason.
#[derive(Default)]
pub(super) struct Seat(Condvar);

impl Lane {
    pub(super) fn new(limits: Limits) -> Lane {
        Lane {
            limits,
            state: Mutex::default(),
        }
    }

    /// A panic in a holder cannot leave the state half changed: no code of others runs under it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `job`; `start` must start a thread that calls [`Lane::take`] until it says `None`.
    ///
    /// # Errors
    /// The job comes back when the lane is full or closed, when its id is already queued, and when
    /// no thread is there to run it.
    pub(super) fn submit(
        &self,
        job: Job,
        start: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), Job> {
        let id = job.id;
        let mut state = self.lock();
        if state.closed || state.queue.len() >= self.limits.queue || state.queue.contains_key(&id) {
            return Err(job);
        }
        state.queue.insert(id, job);
        if let Some(seat) = state.idle.pop() {
            seat.0.notify_one();
            return Ok(());
        }
        if state.running >= self.limits.workers {
            return Ok(());
        }
        state.running += 1;
        // Starting a thread takes tens of microseconds, in which no worker shall wait.
        drop(state);
        if start().is_ok() {
            return Ok(());
        }
        let mut state = self.lock();
        state.running -= 1;
        let stranded = (state.running == 0)
            .then(|| state.queue.remove(&id))
            .flatten();
        stranded.map_or(Ok(()), Err)
    }

    /// Takes back a job that no worker has begun.
    pub(super) fn withdraw(&self, id: JobId) -> bool {
        self.lock().queue.remove(&id).is_some()
    }

    /// The next job for the worker that owns `seat` and had its last job at `rested`. `None`: the
    /// worker has left the lane and must end.
    pub(super) fn take(&self, seat: &Arc<Seat>, rested: Instant) -> Option<Job> {
        let leave_at = rested + self.limits.idle;
        let mut state = self.lock();
        loop {
            if state.closed {
                state.running -= 1;
                return None;
            }
            if let Some((_, job)) = state.queue.pop_first() {
                return Some(job);
            }
            state.idle.push(Arc::clone(seat));
            while let Some(place) = state.place(seat) {
                let left = leave_at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.idle.remove(place);
                    state.running -= 1;
                    return None;
                }
                (state, _) = seat
                    .0
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes no more jobs, sends the idle workers home, and hands out what was still queued.
    pub(super) fn close(&self) -> BTreeMap<JobId, Job> {
        let mut state = self.lock();
        state.closed = true;
        for seat in std::mem::take(&mut state.idle) {
            seat.0.notify_one();
        }
        std::mem::take(&mut state.queue)
    }

    /// Threads in the lane, and how many of them rest.
    #[cfg(test)]
    pub(super) fn threads(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.idle.len())
    }
}

impl State {
    fn place(&self, seat: &Arc<Seat>) -> Option<usize> {
        self.idle.iter().rposition(|other| Arc::ptr_eq(other, seat))
    }
}
