//! Where log lines go (contract, section 9): info and debug to standard output, warnings and
//! errors to standard error, each through a bounded queue with a thread behind it, so that a full
//! or closed pipe never holds up who logs.

mod json;
mod pipe;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{CombinedLogger, Config, SharedLogger};

use crate::config::LogFormat;
use crate::logfmt::push_one_line;
use json::Objects;
use pipe::{Pipe, Tuning};

/// Most time that what is left may take at exit.
const FLUSH: Duration = Duration::from_millis(200);
/// Bytes of memory for a line. They are had before the first one, and are not what a longer one grew
/// to: whatever is allocated amid a crowd and stays keeps all that is free below it in the heap.
const KEPT: usize = 4096;

/// The log of the process. Clones are the same log; its threads end with the last of them.
#[derive(Clone)]
pub struct Logger(Arc<Outputs>);

struct Outputs {
    level: LevelFilter,
    /// Info and debug.
    out: Mutex<Line>,
    /// Warnings and errors.
    err: Mutex<Line>,
    pipes: [Arc<Pipe>; 2],
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for pipe in &self.pipes {
            pipe.close();
        }
    }
}

impl Logger {
    /// A log that writes to standard output and standard error. Fails when a descriptor or a
    /// thread cannot be had.
    pub fn standard(level: LevelFilter, format: LogFormat) -> io::Result<Logger> {
        // Copies of the descriptors, because the standard handles have a buffer and a lock of
        // their own, which a blocked writer would hold against everyone else.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let err = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Logger::new(level, format, out, err)
    }

    /// A log that writes info and debug to `out`, warnings and errors to `err`. Either may block
    /// or fail; that delays or loses lines and nothing else. Fails when a thread cannot be had.
    pub fn new(
        level: LevelFilter,
        format: LogFormat,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> io::Result<Logger> {
        Logger::tuned(level, format, out, err, Tuning::default())
    }

    fn tuned(
        level: LevelFilter,
        format: LogFormat,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        tuning: Tuning,
    ) -> io::Result<Logger> {
        let out = Pipe::start("log-out", out, tuning, format)?;
        let err = match Pipe::start("log-err", err, tuning, format) {
            Ok(err) => err,
            Err(e) => {
                out.close();
                return Err(e);
            }
        };
        Ok(Logger(Arc::new(Outputs {
            level,
            out: Mutex::new(Line::new(format, &out)),
            err: Mutex::new(Line::new(format, &err)),
            pipes: [out, err],
        })))
    }

    /// Makes this the log of the process. Fails when it has one already.
    pub fn install(&self) -> Result<(), log::SetLoggerError> {
        CombinedLogger::init(vec![Box::new(self.clone())])
    }

    /// Waits until what was logged so far is written, 200 ms at most for both outputs together;
    /// whether it was. For the end of the process.
    pub fn flush_at_exit(&self) -> bool {
        let deadline = Instant::now() + FLUSH;
        for pipe in &self.0.pipes {
            pipe.begin_flush();
        }
        let [out, err] = &self.0.pipes;
        let out = out.finish_flush(deadline);
        err.finish_flush(deadline) && out
    }
}

impl Log for Logger {
    /// Our own records only: what libraries log may hold the callback URL.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = env!("CARGO_PKG_NAME");
        let own = metadata
            .target()
            .strip_prefix(ours)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        own && metadata.level() <= self.0.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = match record.level() {
            Level::Error | Level::Warn => &self.0.err,
            Level::Info | Level::Debug | Level::Trace => &self.0.out,
        };
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        line.tell(record);
    }

    fn flush(&self) {
        self.flush_at_exit();
    }
}

impl SharedLogger for Logger {
    fn level(&self) -> LevelFilter {
        self.0.level
    }

    /// None: lines have no parts that could be set.
    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

/// Makes records lines of a pipe.
struct Line {
    pipe: Arc<Pipe>,
    text: Vec<u8>,
    /// In JSON.
    objects: Option<Objects>,
}

impl Line {
    fn new(format: LogFormat, pipe: &Arc<Pipe>) -> Line {
        Line {
            pipe: Arc::clone(pipe),
            text: Vec::with_capacity(KEPT),
            objects: objects(format),
        }
    }
}

/// Room for objects, where lines are to be some.
fn objects(format: LogFormat) -> Option<Objects> {
    match format {
        LogFormat::Text => None,
        LogFormat::Json => Some(Objects::new(KEPT)),
    }
}

/// Milliseconds of the Unix clock.
fn clock() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(age.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Line {
    /// `[LEVEL] message` and nothing else, which in JSON becomes an object.
    fn tell(&mut self, record: &Record<'_>) {
        let Line {
            pipe,
            text,
            objects,
        } = self;
        // Writing to a vector cannot fail, but what is written may.
        let _ = write!(text, "[{}] {}", record.level(), record.args());
        if let Some(objects) = objects {
            let line = String::from_utf8_lossy(text);
            pipe.push(objects.object(&line, clock()));
        } else if text.iter().all(|b| (b' '..=b'~').contains(b)) {
            text.push(b'\n');
            pipe.push(text);
        } else {
            let mut line = String::with_capacity(text.len() + 16);
            push_one_line(&String::from_utf8_lossy(text), &mut line);
            line.push('\n');
            pipe.push(line.as_bytes());
        }
        text.clear();
        if text.capacity() > KEPT {
            *text = Vec::with_capacity(KEPT);
        }
    }
}
