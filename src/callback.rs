//! Callbacks as data: what the core asks of the workers and what they bring back
//! (contract, sections 2, 3 and 12).
//!
//! Every [`Job`] that was submitted comes back as exactly one [`CallbackResult`], whatever happens
//! to the worker; the core's lifecycle accounting rests on that.

use std::time::Duration;

use uuid::Uuid;

use crate::event_id::EventId;
use crate::header_store::Request;
use crate::time::Time;
use crate::wire::Directives;

/// Bytes of the longest value that a field of a callback has (contract, section 13): more than most
/// servers take, and few enough for the buffer that a callback is written through.
pub const MAX_FIELD: usize = 4000;

/// Names one callback for the life of the process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Why a stream ended (contract, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client closed or reset the connection.
    ClientClosed,
    /// The backend asked for it, or the gateway is shutting down.
    ServerClosed,
    /// A write failed, the peer vanished, or a limit was passed.
    Error,
}

impl Reason {
    /// The word on the wire and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ClientClosed => "client_closed",
            Reason::ServerClosed => "server_closed",
            Reason::Error => "error",
        }
    }
}

/// Which callback it is; each kind has a lane of workers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// "May this stream open?" Pointless once the client has had its 504 at `expires`: a job that
    /// is still queued then is never sent, one under way is given up a second later.
    Connect {
        /// When the client's five seconds are over.
        expires: Time,
    },
    /// "This stream is gone."
    Disconnect {
        /// Why it ended.
        reason: Reason,
    },
}

/// One callback to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name; jobs of one lane are sent in the order of their ids.
    pub id: JobId,
    /// The connection's token.
    pub token: Uuid,
    /// Which callback, and what only that kind carries.
    pub action: Action,
    /// What the client asked for, the same in both callbacks.
    pub request: Request,
    /// The last event so far, for a connect callback's `position` (contract, section 12); `None`
    /// without history. Boxed, as thousands of jobs may wait.
    pub position: Option<Box<EventId>>,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub struct CallbackResult {
    /// The job's name.
    pub id: JobId,
    /// The job's token.
    pub token: Uuid,
    /// The job's action.
    pub action: Action,
    /// The answer, or why there is none.
    pub outcome: Outcome,
    /// How long it took, from when it was begun; meaningless where nothing was sent.
    pub took: Duration,
}

/// How a callback ended.
#[derive(Debug)]
pub enum Outcome {
    /// A whole answer was read: head, and body as far as the limit.
    Answered {
        /// The status code as the backend wrote it, 0 to 999.
        status: u16,
        /// The first step that a connect answer may direct; what the body of any other answer says
        /// is only looked at to warn about it.
        directives: Directives,
    },
    /// The head of an answer that never became whole. What its status says counts all the same: a
    /// backend that has said 2xx keeps a stream in its book (contract, section 2, lifecycle law).
    Unfinished {
        /// As in [`Outcome::Answered`].
        status: u16,
        /// Why the body ends, as in [`Outcome::Failed`]; `None`: it was not whole in time.
        error: Option<String>,
    },
    /// No whole head of an answer in time.
    TimedOut,
    /// Refused, reset, unresolvable, not HTTP, or the worker failed; the sentence is for the log
    /// and holds no part of the callback URL.
    Failed(String),
    /// It was taken back, or its time was over, before any byte was sent.
    NeverSent,
    /// The lane's queue was full.
    QueueFull,
}

impl Outcome {
    /// The status that the backend answered with, whatever became of the answer's body.
    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Answered { status, .. } | Outcome::Unfinished { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the backend keeps the token in its book from now on: its answer's head says 2xx
    /// (contract, section 2).
    pub fn is_accepted(&self) -> bool {
        matches!(self.status(), Some(200..=299))
    }
}
