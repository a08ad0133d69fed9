//! One output of the log: a bounded queue of whole lines and the thread that writes them.
//!
//! The caller only ever takes a lock that nobody holds while writing, and makes a system call only
//! to wake a writer that had nothing to do. The writer, once woken, writes what is there in one
//! piece and then lingers before it looks again, so that a busy log costs few wake-ups however
//! many lines it has.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{clock, objects};
use crate::config::LogFormat;
use crate::host;

/// Stack of a writer thread, in bytes: it calls nothing deep.
const STACK: usize = 64 * 1024;
/// Pause before the next attempt on an output that cannot take more now. It is not polled: whether
/// it blocks is a flag that other processes may share and change.
const RETRY: Duration = Duration::from_millis(10);
/// Bytes of memory that the first line of a batch takes. Smaller pieces, on which it would grow,
/// stay in the cache of the writer's thread, and keep free what lies below them in the heap.
const FIRST: usize = 4096;

/// Bytes of the written batch's memory that are kept for the next one.
const KEPT: usize = 64 * 1024;

/// What stands where lines are missing.
pub(super) const MISSING: &str =
    "[WARN] log lines are missing here, the output was blocked or failed";

/// How much a pipe holds and how often it writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// Most bytes that wait for the writer; as many again may be under way.
    pub(super) capacity: usize,
    /// Time between a write and the next look.
    pub(super) linger: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            capacity: 1024 * 1024,
            linger: Duration::from_millis(20),
        }
    }
}

/// The queue, seen from both ends.
#[derive(Debug)]
pub(super) struct Pipe {
    tuning: Tuning,
    state: Mutex<Lines>,
    /// The writer waits here, parked or lingering.
    wake: Condvar,
    /// Those who flush wait here for a parked writer.
    parked: Condvar,
}

#[derive(Debug)]
struct Lines {
    /// Whole lines in order, each with its line feed.
    lines: Vec<u8>,
    /// Lines refused since the writer last took some. While there are any, none is accepted: the
    /// line that counts them stands exactly where they are missing.
    dropped: u64,
    writer: Writer,
    /// How many callers wait for everything to be written; meanwhile the writer does not linger.
    flushing: u32,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Writing, or woken to do so: it will look again by itself.
    Busy,
    /// Waiting for time to pass. Next: Busy.
    Lingering,
    /// Waiting for a line; there is none and none is under way. Next: Busy.
    Parked,
}

impl Pipe {
    /// Starts a thread that writes to `out`.
    pub(super) fn start(
        name: &str,
        out: impl Write + Send + 'static,
        tuning: Tuning,
        format: LogFormat,
    ) -> io::Result<Arc<Pipe>> {
        let pipe = Arc::new(Pipe {
            tuning,
            state: Mutex::new(Lines {
                lines: Vec::new(),
                dropped: 0,
                writer: Writer::Busy,
                flushing: 0,
                closed: false,
            }),
            wake: Condvar::new(),
            parked: Condvar::new(),
        });
        let theirs = Arc::clone(&pipe);
        host::spawn(
            name,
            STACK,
            Box::new(move || theirs.run(Output::new(out, format))),
        )?;
        Ok(pipe)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues one line, line feed included, or drops and counts it. Never waits for the output.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.dropped > 0 || state.lines.len() + line.len() > self.tuning.capacity {
            state.dropped += 1;
        } else {
            if state.lines.capacity() == 0 {
                state.lines.reserve(FIRST);
            }
            state.lines.extend_from_slice(line);
        }
        let wake = match state.writer {
            Writer::Parked => true,
            Writer::Lingering => self.is_urgent(&state),
            Writer::Busy => false,
        };
        if wake {
            state.writer = Writer::Busy;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Whether the queue would overflow if the writer took its time.
    fn is_urgent(&self, state: &Lines) -> bool {
        state.dropped > 0 || state.lines.len() >= self.tuning.capacity / 2
    }

    /// Asks the writer to hurry; every call is followed by one of [`Pipe::finish_flush`].
    pub(super) fn begin_flush(&self) {
        self.lock().flushing += 1;
        self.wake.notify_one();
    }

    /// Waits until everything is written, `deadline` at the latest; whether it was.
    pub(super) fn finish_flush(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let (mut state, _) = self
            .parked
            .wait_timeout_while(self.lock(), left, |state| state.writer != Writer::Parked)
            .unwrap_or_else(PoisonError::into_inner);
        state.flushing -= 1;
        state.writer == Writer::Parked
    }

    /// Lets the writer end once everything is written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Whether the writer is between two looks.
    #[cfg(test)]
    pub(super) fn is_lingering(&self) -> bool {
        self.lock().writer == Writer::Lingering
    }

    fn run(&self, mut output: Output<impl Write>) {
        let mut batch = Vec::new();
        while let Some(dropped) = self.take(&mut batch) {
            output.deliver(&mut batch, dropped);
            batch.clear();
            batch.shrink_to(KEPT);
            self.linger();
        }
    }

    /// Waits for lines, swaps them into the empty `batch`, and says how many were dropped behind
    /// them; `None` when there are none and never will be.
    fn take(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.lock();
        while state.lines.is_empty() && state.dropped == 0 {
            // A log that is silent holds no memory.
            (state.lines, *batch) = (Vec::new(), Vec::new());
            state.writer = Writer::Parked;
            self.parked.notify_all();
            if state.closed {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.writer = Writer::Busy;
        mem::swap(&mut state.lines, batch);
        Some(mem::take(&mut state.dropped))
    }

    fn linger(&self) {
        let mut state = self.lock();
        state.writer = Writer::Lingering;
        let idle =
            |state: &mut Lines| state.flushing == 0 && !state.closed && !self.is_urgent(state);
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, self.tuning.linger, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.writer = Writer::Busy;
    }
}

/// The writer's end: what is known about lines that did not arrive.
struct Output<W> {
    out: W,
    /// Lines lost and not yet told of.
    lost: u64,
    /// The last byte that was written is not a line feed: a line was lost in its middle.
    torn: bool,
    format: LogFormat,
}

impl<W: Write> Output<W> {
    fn new(out: W, format: LogFormat) -> Output<W> {
        Output {
            out,
            lost: 0,
            torn: false,
            format,
        }
    }

    /// Writes what was lost before `batch`, `batch`, and, once that went well, what was `dropped`
    /// behind it.
    fn deliver(&mut self, batch: &mut Vec<u8>, dropped: u64) {
        let written = self.write(batch);
        self.lost += dropped;
        if written && self.lost > 0 {
            batch.clear();
            self.write(batch);
        }
    }

    /// Writes one batch in as few pieces as the output takes; false when some of it is lost.
    fn write(&mut self, batch: &mut Vec<u8>) -> bool {
        let notice = self.notice();
        batch.splice(0..0, notice.iter().copied());
        let sent = self.send(batch);
        if sent > 0 {
            self.torn = batch[sent - 1] != b'\n';
        }
        let told = sent >= notice.len();
        if told {
            self.lost = 0;
        }
        self.lost += line_feeds(&batch[sent.max(notice.len())..]);
        sent == batch.len()
    }

    /// The line that counts what was lost; empty when nothing was.
    fn notice(&self) -> Vec<u8> {
        let mut notice = Vec::new();
        if self.lost > 0 {
            if self.torn {
                notice.push(b'\n');
            }
            let line = format!("{MISSING} dropped={}", self.lost);
            match objects(self.format) {
                Some(mut objects) => notice.extend_from_slice(objects.object(&line, clock())),
                None => notice.extend([line.as_bytes(), b"\n"].concat()),
            }
        }
        notice
    }

    /// How many bytes were taken before the output failed.
    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.out.write(&bytes[sent..]) {
                Ok(0) => return sent,
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => return sent,
            }
        }
        sent
    }
}

fn line_feeds(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
