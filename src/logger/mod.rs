//! Where log lines go (contract, section 9): info and debug to standard output, warnings and
//! errors to standard error, each through a bounded queue with a thread behind it, so that a full
//! or closed pipe never holds up who logs.

mod json;
mod pipe;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

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
    out: Mutex<Box<WriteLogger<Line>>>,
    /// Warnings and errors.
    err: Mutex<Box<WriteLogger<Line>>>,
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
            out: Mutex::new(line_logger(level, format, &out)),
            err: Mutex::new(line_logger(level, format, &err)),
            pipes: [out, err],
        })))
    }

    /// Makes this the log of the process. Fails when it has one already.
    pub fn install(&self) -> Result<(), log::SetLoggerError> {
        log::set_boxed_logger(Box::new(self.clone()))?;
        log::set_max_level(self.0.level);
        Ok(())
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
        let logger = match record.level() {
            Level::Error | Level::Warn => &self.0.err,
            Level::Info | Level::Debug | Level::Trace => &self.0.out,
        };
        // Held over both calls, so that the line holds this record alone.
        let logger = logger.lock().unwrap_or_else(PoisonError::into_inner);
        logger.log(record);
        logger.flush();
    }

    fn flush(&self) {
        self.flush_at_exit();
    }
}

/// `[LEVEL] message` and nothing else, which in JSON becomes an object.
fn line_logger(level: LevelFilter, format: LogFormat, pipe: &Arc<Pipe>) -> Box<WriteLogger<Line>> {
    let config = ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    WriteLogger::new(level, config, Line::new(format, pipe))
}

/// Gathers the pieces of one record; a flush makes them one line of the pipe.
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

impl Write for Line {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut text = mem::take(&mut self.text);
        let record = text.strip_suffix(b"\n").unwrap_or(&text);
        if !record.is_empty() {
            if let Some(objects) = &mut self.objects {
                let line = String::from_utf8_lossy(record);
                self.pipe.push(objects.object(&line, clock()));
            } else if record.iter().all(|b| (b' '..=b'~').contains(b)) {
                self.pipe.push(&text);
            } else {
                let mut line = String::with_capacity(text.len() + 16);
                push_one_line(&String::from_utf8_lossy(record), &mut line);
                line.push('\n');
                self.pipe.push(line.as_bytes());
            }
        }
        text.clear();
        if text.capacity() > KEPT {
            text = Vec::with_capacity(KEPT);
        }
        self.text = text;
        Ok(())
    }
}
