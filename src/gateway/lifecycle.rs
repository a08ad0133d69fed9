//! The life of a stream: connect callback, opening, heartbeats, end, disconnect callback.
//!
//! The law (contract, section 2): every connect callback that was answered 2xx is followed by
//! exactly one disconnect callback for its token, never before that answer. It holds because a
//! stream is entered in one place ([`Gateway::open`]) and left in one place
//! ([`Gateway::end_stream`]), because a client that leaves before the answer leaves an
//! [`Orphan`] behind, which meets the answer in its stead, and because a client that is turned
//! away although the answer's head said 2xx ([`Gateway::decide`]) is paid for at once.

use uuid::Uuid;

use super::conn::{Awaiting, State, Stream, StreamRequest};
use super::journal::Limit;
use super::routes::{self, Answer};
use super::{ConnId, Effect, Gateway, entry};
use crate::buf::ByteQueue;
use crate::callback::{Action, CallbackResult, Job, JobId, Outcome, Reason};
use crate::header_store::Request;
use crate::http::reply::{self, STREAM_HEAD_BYTES};
use crate::sse;
use crate::time::Time;
use crate::wire::Directives;

/// A callback whose result no connection waits for.
#[derive(Debug)]
pub(super) enum Owed {
    /// A connect whose client is gone.
    Connect(Orphan),
    /// A disconnect.
    Disconnect,
}

/// What a 2xx that still comes is paid with.
#[derive(Debug)]
pub(super) struct Orphan {
    /// What the backend is told if it accepts all the same.
    reason: Reason,
    request: Request,
    /// The client had its 504, and the log told of it.
    is_timed_out: bool,
}

impl<S> Gateway<S> {
    /// Asks the backend whether a stream may open (contract, section 2, steps 1 to 3).
    pub(super) fn connect(&mut self, id: ConnId, what: StreamRequest, now: Time) {
        if let Some(conn) = self.conn(id)
            && conn.is_eof
        {
            // Its client left while the request waited behind unread answers.
            conn.state = State::Finishing {
                is_stream: false,
                discarded: 0,
            };
            return;
        }
        if let Some(answer) = self.refusal(&what, now) {
            return self.answer(id, &answer, now);
        }
        let token = Uuid::new_v4();
        let expires = now + self.settings.limits.connect_timeout;
        self.journal.connected(token, &what.request);
        self.streams.insert(token, id);
        let job = self.call(Action::Connect { expires }, token, what.request.clone());
        self.connects += 1;
        if let Some(conn) = self.conn(id) {
            conn.state = State::AwaitingCallback(Box::new(Awaiting {
                token,
                job,
                what,
                expires,
                window: ByteQueue::default(),
                is_close_buffered: false,
            }));
        }
    }

    /// Why no stream can be opened now, if so.
    fn refusal(&mut self, what: &StreamRequest, now: Time) -> Option<Answer> {
        if !self.settings.is_configured {
            self.journal.not_configured(&what.request, now);
            return Some(routes::NOT_CONFIGURED);
        }
        if self.is_draining {
            return Some(routes::SHUTTING_DOWN);
        }
        if self.streams.len() >= self.settings.limits.max_streams {
            self.journal.limit(Limit::Streams, None, now);
            return Some(routes::OVERLOADED);
        }
        None
    }

    fn call(&mut self, action: Action, token: Uuid, request: Request) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.effects.push_back(Effect::Call(Job {
            id,
            token,
            action,
            request,
        }));
        id
    }

    /// Owes the backend's accepted token its one disconnect.
    fn tell_gone(&mut self, token: Uuid, reason: Reason, request: Request) {
        let job = self.call(Action::Disconnect { reason }, token, request);
        self.owed.insert(job, Owed::Disconnect);
        self.disconnects += 1;
    }

    // ---- the callback's result ----

    pub(super) fn callback_ended(&mut self, result: CallbackResult, now: Time) {
        match result.action {
            Action::Connect { .. } => self.connect_ended(result, now),
            Action::Disconnect { .. } => self.disconnect_ended(&result),
        }
    }

    fn disconnect_ended(&mut self, result: &CallbackResult) {
        if self.owed.remove(&result.id).is_none() {
            return;
        }
        self.disconnects -= 1;
        self.journal.disconnect_ended(result);
        if self.is_draining && result.outcome.status().is_none() {
            self.journal.undelivered += 1;
        }
    }

    /// Disconnect callbacks that a shutdown leaves undelivered if it ends now: those that got no
    /// answer, whatever its status, since it began, and those still under way.
    pub fn undelivered(&self) -> usize {
        self.journal.undelivered + self.disconnects
    }

    fn connect_ended(&mut self, result: CallbackResult, now: Time) {
        let CallbackResult { id: job, token, .. } = result;
        let awaiting = self.stream_of(token).filter(|id| self.awaits(*id, job));
        let orphan = match self.owed.remove(&job) {
            Some(Owed::Connect(orphan)) => Some(orphan),
            _ => None,
        };
        if orphan.is_none() && awaiting.is_none() {
            // Not owed: nothing waits for it, so nothing may be decided by it.
            return;
        }
        self.connects -= 1;
        let is_told = orphan.as_ref().map(|orphan| orphan.is_timed_out);
        self.journal.connect_ended(&result, is_told);
        match (awaiting, orphan) {
            (Some(id), _) => {
                self.decide(id, result.outcome, now);
                self.settle(id, now);
            }
            (None, Some(orphan)) if result.outcome.is_accepted() => {
                self.tell_gone(token, orphan.reason, orphan.request);
            }
            (None, _) => {}
        }
    }

    /// Whether this connection waits for this callback and for no later one.
    fn awaits(&self, id: ConnId, job: JobId) -> bool {
        self.conns
            .get(id.index())
            .is_some_and(|conn| match &conn.state {
                State::AwaitingCallback(awaiting) => awaiting.job == job,
                _ => false,
            })
    }

    fn decide(&mut self, id: ConnId, outcome: Outcome, now: Time) {
        let is_accepted = outcome.is_accepted();
        let answer = match outcome {
            Outcome::Answered {
                status: 200..=299,
                directives,
            } => return self.open(id, directives, now),
            Outcome::Answered { status, .. } => routes::rejection(status),
            Outcome::TimedOut | Outcome::NeverSent | Outcome::Unfinished { error: None, .. } => {
                routes::GATEWAY_TIMEOUT
            }
            Outcome::Failed(_) | Outcome::Unfinished { .. } => routes::BACKEND_UNAVAILABLE,
            Outcome::QueueFull => {
                self.journal.limit(Limit::ConnectQueue, None, now);
                routes::OVERLOADED
            }
        };
        let Some(State::AwaitingCallback(awaiting)) = self.conn(id).map(|conn| &conn.state) else {
            return;
        };
        let (token, request) = (awaiting.token, awaiting.what.request.clone());
        self.reject(id, &answer, now);
        if is_accepted {
            self.tell_gone(token, Reason::Error, request);
        }
    }

    /// The one way into a stream: head, the answer's event, then what was buffered, until a close
    /// (contract, section 2, step 7).
    fn open(&mut self, id: ConnId, directives: Directives, now: Time) {
        let next_heartbeat = now + self.settings.heartbeat;
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        let State::AwaitingCallback(mut awaiting) =
            std::mem::replace(&mut conn.state, State::Closed)
        else {
            return;
        };
        let framing = awaiting.what.framing;
        let discarded = u32::try_from(conn.input.len()).unwrap_or(u32::MAX);
        conn.input.clear(&mut self.spares);
        if conn.out.is_empty() {
            conn.stalled_since = now;
        }
        let event = directives.event.as_ref();
        let event_room = event.map_or(0, |event| {
            sse::event_len(&event.name, &event.data) + sse::CHUNK_OVERHEAD
        });
        let room = STREAM_HEAD_BYTES + event_room + awaiting.window.len();
        let out = conn.out.tail(room, &mut self.spares);
        reply::write_stream_head(out, &self.date, framing);
        if let Some(event) = event {
            sse::write_event(out, framing, &event.name, &event.data);
        }
        if !directives.close {
            out.extend_from_slice(awaiting.window.bytes());
        }
        awaiting.window.clear(&mut self.spares);
        self.journal.opened(
            awaiting.token,
            &awaiting.what.request,
            self.settings.heartbeat,
        );
        conn.state = State::Streaming(Stream {
            token: awaiting.token,
            request: awaiting.what.request,
            framing,
            next_heartbeat,
            discarded,
        });
        if let Some(event) = event {
            let sent = self.journal.sent(&event.name, event.data.len());
            self.note_sent(id, sent);
        }
        if directives.close || awaiting.is_close_buffered {
            self.end_stream(id, Reason::ServerClosed, None, now);
        }
    }

    /// The stream does not open; the connection goes on with what was kept meanwhile, but not
    /// before the effects of this verb: one tick may reject many, and each may send next.
    pub(super) fn reject(&mut self, id: ConnId, answer: &Answer, now: Time) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        if let State::AwaitingCallback(awaiting) = &conn.state {
            self.streams.remove(awaiting.token);
        }
        self.answer(id, answer, now);
        self.unserved.push_back((id, now));
        self.settle(id, now);
    }

    /// The client's five seconds are over. A 2xx that still comes is paid with `error`.
    pub(super) fn callback_timed_out(&mut self, id: ConnId, now: Time) {
        if let Some(token) = self.orphan(id, Reason::Error, true) {
            self.journal.callback_timed_out(token);
        }
        self.reject(id, &routes::GATEWAY_TIMEOUT, now);
    }

    /// The client left, or is dropped, before the answer.
    pub(super) fn leave_callback(&mut self, id: ConnId, reason: Reason) {
        if let Some(conn) = entry(&mut self.conns, id)
            && let State::AwaitingCallback(awaiting) = &conn.state
        {
            self.journal
                .left_callback(awaiting.token, &awaiting.what.request, reason);
        }
        self.orphan(id, reason, false);
        self.close(id);
    }

    /// Drops a client that has passed a limit before the answer.
    pub(super) fn drop_callback(&mut self, id: ConnId, limit: Limit, now: Time) {
        if let Some(conn) = entry(&mut self.conns, id)
            && let State::AwaitingCallback(awaiting) = &conn.state
        {
            let (token, request) = (awaiting.token, &awaiting.what.request);
            self.journal
                .ended(token, request, Reason::Error, Some(limit), now);
        }
        self.effects.push_back(Effect::Abort(id));
        self.orphan(id, Reason::Error, false);
        self.close(id);
    }

    /// Lets go of a callback that is out: if it is not begun it never will be, and if it is, its
    /// answer meets an orphan. The token is forgotten.
    pub(super) fn orphan(
        &mut self,
        id: ConnId,
        reason: Reason,
        is_timed_out: bool,
    ) -> Option<Uuid> {
        let conn = entry(&mut self.conns, id)?;
        let State::AwaitingCallback(awaiting) = &mut conn.state else {
            return None;
        };
        awaiting.window.clear(&mut self.spares);
        self.streams.remove(awaiting.token);
        let request = awaiting.what.request.clone();
        let orphan = Orphan {
            reason,
            request,
            is_timed_out,
        };
        self.owed.insert(awaiting.job, Owed::Connect(orphan));
        self.effects.push_back(Effect::Withdraw(awaiting.job));
        Some(awaiting.token)
    }

    // ---- the open stream ----

    /// The heartbeat's moment: a comment, unless earlier bytes still wait to be taken.
    pub(super) fn beat(&mut self, id: ConnId, now: Time) {
        let interval = self.settings.heartbeat;
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        let State::Streaming(stream) = &mut conn.state else {
            return;
        };
        // A fixed cadence: the next moment follows from the last one, however late this call is.
        while stream.next_heartbeat <= now {
            stream.next_heartbeat = stream.next_heartbeat + interval;
        }
        let framing = stream.framing;
        if conn.out.is_empty() {
            self.push(id, sse::heartbeat(framing), now);
        }
    }

    /// Drops a stream that has passed a limit: its reader gets a reset, the kernel forgets the
    /// rest.
    pub(super) fn drop_stream(&mut self, id: ConnId, limit: Limit, now: Time) {
        self.effects.push_back(Effect::Abort(id));
        self.end_stream(id, Reason::Error, Some(limit), now);
    }

    /// The one way out of a stream: the token is forgotten, then the backend is told.
    pub(super) fn end_stream(
        &mut self,
        id: ConnId,
        reason: Reason,
        limit: Option<Limit>,
        now: Time,
    ) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        let finishing = State::Finishing {
            is_stream: true,
            discarded: 0,
        };
        if !matches!(conn.state, State::Streaming(_)) {
            return;
        }
        let State::Streaming(stream) = std::mem::replace(&mut conn.state, finishing) else {
            return;
        };
        self.streams.remove(stream.token);
        self.journal
            .ended(stream.token, &stream.request, reason, limit, now);
        self.tell_gone(stream.token, reason, stream.request);
        match reason {
            Reason::ServerClosed => self.push(id, sse::end(stream.framing), now),
            Reason::ClientClosed | Reason::Error => self.close(id),
        }
    }

    /// One connection's part in a shutdown (contract, section 10).
    pub(super) fn shut(&mut self, id: ConnId, now: Time) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        match conn.state {
            State::Streaming(_) => self.end_stream(id, Reason::ServerClosed, None, now),
            State::AwaitingCallback(_) => {
                self.orphan(id, Reason::ServerClosed, false);
                self.reject(id, &routes::SHUTTING_DOWN, now);
            }
            _ => {}
        }
    }
}
