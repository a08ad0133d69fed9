//! A bounded queue of jobs and the threads that empty it.
//!
//! Threads are as many as the backend's slowness asks for, see [`Growth`]. While those at hand keep
//! up with the loop, a job waits for one of them, as to wake another may cost more than a fast
//! backend's answer.
//!
//! Laws: a job is in the queue until exactly one worker takes it, or it is withdrawn. While there
//! is one, a worker is awake, who looks at the queue before it rests or leaves; so no job ever lies
//! in a lane that sleeps, or has no threads.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::growth::{Growth, Help, PATIENCE};
use crate::callback::{Job, JobId};

/// Jobs for which a queue has memory from the start, and when it is empty: what grew amid a crowd
/// and stayed would keep all that is free below it in the heap.
const KEPT: usize = 256;

/// What bounds a lane.
pub(super) struct Bounds {
    /// Threads at once.
    pub(super) workers: usize,
    /// Jobs that no worker has begun.
    pub(super) queue: usize,
    /// How long a worker stays without work.
    pub(super) idle: Duration,
}

/// One queue with its workers; the threads themselves are started by whoever submits.
pub(super) struct Lane {
    limits: Bounds,
    state: Mutex<Roster>,
}

struct Roster {
    /// In the order of the jobs' ids.
    queue: VecDeque<Queued>,
    growth: Growth,
    /// A stack: the worker that has rested least works next, so that the others age out.
    idle: Vec<Arc<Seat>>,
    /// Threads started and not yet left, those at rest included.
    running: usize,
    /// When the jobs that threads have were taken.
    taken: Vec<Instant>,
    closed: bool,
}

struct Queued {
    job: Job,
    since: Instant,
}

/// Where one idle worker sleeps. It was woken when its seat is no longer on the stack; the
/// condition variable alone may wake for no reason.
#[derive(Default)]
pub(super) struct Seat(Condvar);

impl Lane {
    pub(super) fn new(limits: Bounds) -> Lane {
        Lane {
            state: Mutex::new(Roster {
                queue: VecDeque::with_capacity(KEPT),
                growth: Growth::new(limits.workers, Instant::now()),
                idle: Vec::new(),
                running: 0,
                taken: Vec::new(),
                closed: false,
            }),
            limits,
        }
    }

    /// A panic in a holder cannot leave the state half changed: no code of others runs under it.
    fn lock(&self) -> MutexGuard<'_, Roster> {
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
        let Err(place) = state.find(id) else {
            return Err(job);
        };
        // A job that a worker is about to take waits for none.
        let capacity = self.limits.queue + self.limits.workers;
        if state.closed || state.queue.len() + state.taken.len() >= capacity {
            return Err(job);
        }
        let since = Instant::now();
        state.queue.insert(place, Queued { job, since });
        if state.queue.len() == 1 {
            state.growth.begin(since);
        }
        let (at_hand, jobs) = (state.at_hand(since), state.queue.len());
        let help = state.growth.help(at_hand, jobs, since);
        if help == Help::None {
            return Ok(());
        }
        if let Some(seat) = state.idle.pop() {
            // Whoever wakes wants the lock.
            drop(state);
            seat.0.notify_one();
            return Ok(());
        }
        if help == Help::Wake || state.running >= self.limits.workers {
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
        let stranded = (state.running == 0).then(|| state.remove(id)).flatten();
        stranded.map_or(Ok(()), |queued| Err(queued.job))
    }

    /// Wakes or starts more threads for jobs that have waited too long. To be called from time to
    /// time; gives the time until the next call, `None` when there is no need for one before another
    /// job is submitted.
    pub(super) fn tend(&self, start: impl Fn() -> io::Result<()>) -> Option<Duration> {
        let mut state = self.lock();
        let oldest = state.queue.front()?.since;
        let now = Instant::now();
        let awake = state.running - state.idle.len();
        let room = self.limits.workers - awake.min(self.limits.workers);
        if room == 0 || state.closed {
            return None;
        }
        let waited = now - oldest;
        if waited < PATIENCE {
            return Some(PATIENCE - waited);
        }
        let at_hand = state.at_hand(now);
        let more = state.growth.more(at_hand, waited, now);
        let more = more.min(room).min(state.queue.len());
        let resting = state.idle.len();
        let woken = state.idle.split_off(resting - more.min(resting));
        let more = more - woken.len();
        state.running += more;
        drop(state);
        woken.iter().for_each(|seat| seat.0.notify_one());
        let failed = (0..more).filter(|_| start().is_err()).count();
        if failed > 0 {
            self.lock().running -= failed;
        }
        Some(PATIENCE)
    }

    /// Jobs that no worker has begun.
    pub(super) fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    /// Takes back a job that no worker has begun.
    pub(super) fn withdraw(&self, id: JobId) -> bool {
        self.lock().remove(id).is_some()
    }

    /// The next job for the worker that owns `seat`, and when it is taken. `back`: when that was
    /// for the one that it comes back from; `service`: what it has spent on that, if it was sent;
    /// `rested`: when it came back from one that was. `None`: the worker has left the lane and must
    /// end.
    pub(super) fn take(
        &self,
        seat: &Arc<Seat>,
        back: Option<Instant>,
        rested: Instant,
        service: Option<Duration>,
    ) -> Option<(Job, Instant)> {
        let leave_at = rested + self.limits.idle;
        let mut state = self.lock();
        let taken = state.taken.len();
        if let Some(place) = state.taken.iter().position(|at| Some(*at) == back) {
            state.taken.remove(place);
        }
        if let Some(service) = service {
            state.growth.ended(service, taken);
        }
        loop {
            if state.closed {
                state.running -= 1;
                return None;
            }
            if let Some(queued) = state.queue.pop_front() {
                let now = Instant::now();
                state.taken.push(now);
                if state.queue.is_empty() && state.queue.capacity() > KEPT {
                    state.queue = VecDeque::with_capacity(KEPT);
                }
                return Some((queued.job, now));
            }
            state.idle.push(Arc::clone(seat));
            while let Some(place) = state.place(seat) {
                let left = leave_at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.idle.remove(place);
                    state.left();
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
    pub(super) fn close(&self) -> Vec<Job> {
        let mut state = self.lock();
        state.closed = true;
        for seat in std::mem::take(&mut state.idle) {
            seat.0.notify_one();
        }
        let queue = std::mem::take(&mut state.queue);
        queue.into_iter().map(|queued| queued.job).collect()
    }

    /// Threads in the lane, and how many of them rest.
    #[cfg(test)]
    pub(super) fn threads(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.idle.len())
    }
}

impl Roster {
    /// Where a job is in the queue, or where it belongs.
    fn find(&self, id: JobId) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&id, |queued| queued.job.id)
    }

    fn remove(&mut self, id: JobId) -> Option<Queued> {
        let place = self.find(id).ok()?;
        self.queue.remove(place)
    }

    /// Threads that are awake and have not been away for so long that nobody knows when they come
    /// back.
    fn at_hand(&self, now: Instant) -> usize {
        let away = self.taken.partition_point(|taken| now - *taken >= PATIENCE);
        self.running - self.idle.len() - away
    }

    /// A thread has gone for want of work. The last one leaves no memory behind.
    fn left(&mut self) {
        self.running -= 1;
        self.growth.left(self.running);
        if self.running == 0 {
            (self.queue, self.idle, self.taken) = (VecDeque::new(), Vec::new(), Vec::new());
        }
    }

    fn place(&self, seat: &Arc<Seat>) -> Option<usize> {
        self.idle.iter().rposition(|other| Arc::ptr_eq(other, seat))
    }
}
