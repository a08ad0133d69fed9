//! Which callbacks are out, and who is owed their results.

use std::collections::{HashMap, HashSet};

use crate::callback::{JobId, Reason};
use crate::header_store::Request;

/// Callbacks from their effect to their result.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    connects: usize,
    /// Connects that no connection waits for any more.
    orphans: HashMap<JobId, Orphan>,
    disconnects: HashSet<JobId>,
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
        self.disconnects.insert(job);
        job
    }

    /// The connection that waited for this connect does not any more.
    pub(super) fn orphan(&mut self, job: JobId, orphan: Orphan) {
        self.orphans.insert(job, orphan);
    }

    /// A connect that a connection waits for has ended.
    pub(super) fn connect_ended(&mut self) {
        self.connects -= 1;
    }

    /// A connect that no connection waits for has ended, or was taken back; `None` when it is not
    /// owed.
    pub(super) fn orphan_ended(&mut self, job: JobId) -> Option<Orphan> {
        let orphan = self.orphans.remove(&job)?;
        self.connects -= 1;
        Some(orphan)
    }

    /// A disconnect has ended; false when it is not owed.
    pub(super) fn disconnect_ended(&mut self, job: JobId) -> bool {
        self.disconnects.remove(&job)
    }

    /// Connect callbacks whose result is owed.
    pub(super) fn connects(&self) -> usize {
        self.connects
    }

    /// Disconnect callbacks whose result is owed.
    pub(super) fn disconnects(&self) -> usize {
        self.disconnects.len()
    }

    /// Connects that no connection waits for.
    pub(super) fn orphans(&self) -> usize {
        self.orphans.len()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.orphans.shrink_to_fit();
        self.disconnects.shrink_to_fit();
    }
}
