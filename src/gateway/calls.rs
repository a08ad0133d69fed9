//! Which callbacks are out, and who is owed their results.

use std::collections::HashMap;

use crate::callback::{JobId, Reason};
use crate::header_store::Request;

/// Callbacks from their effect to their result.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    connects: usize,
    disconnects: usize,
    /// Callbacks that no connection waits for: connects with what is left of them, and disconnects.
    owed: HashMap<JobId, Option<Orphan>>,
}

/// What a 2xx that still comes is paid with.
#[derive(Debug)]
pub(super) struct Orphan {
    /// What the backend is told if it accepts all the same.
    pub(super) reason: Reason,
    pub(super) request: Request,
    /// The client had its 504, and the log told of it.
    pub(super) is_timed_out: bool,
}

impl Calls {
    fn next(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// One more connect, for a connection that waits for it.
    pub(super) fn connect(&mut self) -> JobId {
        self.connects += 1;
        self.next()
    }

    /// One more disconnect.
    pub(super) fn disconnect(&mut self) -> JobId {
        let job = self.next();
        self.disconnects += 1;
        self.owed.insert(job, None);
        job
    }

    /// The connection that waited for this connect does not any more.
    pub(super) fn orphan(&mut self, job: JobId, orphan: Orphan) {
        self.owed.insert(job, Some(orphan));
    }

    /// A connect that a connection waits for has ended.
    pub(super) fn connect_ended(&mut self) {
        self.connects -= 1;
    }

    /// A connect that no connection waits for has ended, or was taken back; `None` when it is not
    /// owed.
    pub(super) fn orphan_ended(&mut self, job: JobId) -> Option<Orphan> {
        let orphan = self.owed.get_mut(&job)?.take()?;
        self.owed.remove(&job);
        self.connects -= 1;
        Some(orphan)
    }

    /// A disconnect has ended; false when it is not owed.
    pub(super) fn disconnect_ended(&mut self, job: JobId) -> bool {
        let is_owed = matches!(self.owed.get(&job), Some(None));
        if is_owed {
            self.owed.remove(&job);
            self.disconnects -= 1;
        }
        is_owed
    }

    /// Connect callbacks whose result is owed.
    pub(super) fn connects(&self) -> usize {
        self.connects
    }

    /// Disconnect callbacks whose result is owed.
    pub(super) fn disconnects(&self) -> usize {
        self.disconnects
    }

    /// Connects that no connection waits for.
    pub(super) fn orphans(&self) -> usize {
        self.owed.len() - self.disconnects
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.owed.shrink_to_fit();
    }
}
