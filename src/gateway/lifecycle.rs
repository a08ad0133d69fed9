//! The life of a stream: connect callback, opening, heartbeats, end, disconnect callback.
//!
//! The law (contract, section 2): every connect callback that was answered 2xx is followed by
//! exactly one disconnect callback for its token, never before that answer. It holds because a
//! stream is entered in one place ([`Conn::open`]) and left in one place ([`Conn::end_stream`]),
//! because a client that leaves before the answer leaves an [`Orphan`] behind, which meets the
//! answer in its stead, and because a client that is turned away although the answer's head said
//! 2xx ([`Conn::decide`]) is paid for at once.

use std::time::Duration;

use uuid::Uuid;

use super::calls::Orphan;
use super::conn::{Awaiting, Conn, State, Stream, StreamRequest};
use super::frame::Frame;
use super::hub::Hub;
use super::limit::Limit;
use super::routes::{self, Answer};
use super::{Effect, Gateway};
use crate::callback::{Action, CallbackResult, JobId, Outcome, Reason};
use crate::event_id::EventId;
use crate::http::reply::{self, STREAM_HEAD_BYTES};
use crate::sse::{self, Framing, RETRY_BYTES};
use crate::time::Time;
use crate::wheel::{TICK_MS, Tick};
use crate::wire::{Directives, Event};

impl<S> Gateway<S> {
    /// A callback ended.
    pub fn result(&mut self, result: CallbackResult, now: Time) {
        match result.action {
            Action::Connect { .. } => self.connect_ended(result, now),
            Action::Disconnect { .. } => self.hub.disconnect_ended(&result),
        }
    }

    fn connect_ended(&mut self, result: CallbackResult, now: Time) {
        let CallbackResult { id: job, token, .. } = result;
        let id = self.hub.streams.get(token);
        if let Some((conn, hub)) = id.and_then(|id| self.both(id))
            && conn.awaits(job)
        {
            conn.catch_up(hub, now);
        }
        let orphan = self.hub.calls.orphan_ended(job);
        let id = self.hub.streams.get(token);
        if let Some((conn, hub)) = id.and_then(|id| self.both(id))
            && conn.awaits(job)
            && let Some(awaiting) = conn.state.take_awaiting()
        {
            hub.calls.connect_ended();
            hub.journal.connect_ended(&result, None);
            conn.decide(hub, awaiting, result.outcome, now);
            conn.settle(hub, now);
        } else if let Some(orphan) = orphan {
            let is_accepted = result.outcome.is_accepted();
            let is_told = Some(orphan.is_timed_out);
            self.hub.journal.connect_ended(&result, is_told);
            if is_accepted {
                self.hub.tell_gone(token, orphan.reason, orphan.request);
            }
        }
        // Otherwise it is not owed: nothing waits for it, so nothing may be decided by it.
    }

    /// A connect callback was taken back before it was begun; no result will come.
    pub fn withdrawn(&mut self, job: JobId) {
        if self.hub.calls.orphan_ended(job).is_some() {
            self.hub.journal.counters.withdrawn();
        }
    }

    /// Disconnect callbacks that a shutdown leaves undelivered if it ends now: those that got no
    /// answer, whatever its status, since it began, and those still under way.
    pub fn undelivered(&self) -> usize {
        self.hub.journal.undelivered + self.hub.calls.disconnects()
    }
}

impl Hub {
    fn disconnect_ended(&mut self, result: &CallbackResult) {
        if !self.calls.disconnect_ended(result.id) {
            return;
        }
        self.journal.disconnect_ended(result);
        if self.is_draining && result.outcome.status().is_none() {
            self.journal.undelivered += 1;
        }
    }

    /// Lets go of a callback that is out: if it is not begun it never will be, and if it is, its
    /// answer meets an orphan.
    fn orphan(&mut self, awaiting: Awaiting, reason: Reason, is_timed_out: bool) {
        let orphan = Orphan {
            reason,
            request: awaiting.what.request,
            is_timed_out,
        };
        self.calls.orphan(awaiting.job, orphan);
        self.effect(Effect::Withdraw(awaiting.job));
    }

    /// How long a stream lasts that opens now, if that is bounded: of many that opened together each
    /// ends at a moment of its own.
    fn max_stream(&mut self) -> Option<Duration> {
        let most = self.settings.max_stream;
        if most.is_zero() {
            return None;
        }
        let tenth = most / 10;
        // In timers' units, as a year has more milliseconds than are drawn from.
        let tick = Duration::from_millis(TICK_MS);
        let ticks = tenth.as_millis() / tick.as_millis();
        let most_ticks = u32::try_from(2 * ticks).unwrap_or(u32::MAX);
        Some(most - tenth + tick * self.random.within((0, most_ticks)))
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
}

impl<S> Conn<S> {
    /// Asks the backend whether a stream may open (contract, section 2, steps 1 to 3).
    pub(super) fn connect(&mut self, hub: &mut Hub, what: StreamRequest, now: Time) {
        if self.is_eof {
            // Its client left while the request waited behind unread answers.
            self.state = State::LAST_ANSWER;
            return;
        }
        if let Some(answer) = hub.refusal(&what, now) {
            return self.answer(hub, &answer, now);
        }
        let token = hub.random.token();
        if hub.history.is_on() {
            self.begin_replay(hub, now);
        }
        let expires = now + hub.settings.limits.connect_timeout;
        hub.journal.connected(token, &what.request);
        hub.streams.insert(token, self.id);
        let job = hub.ask(expires, token, what.request.clone());
        self.seen = hub.fan_outs.last();
        self.state = State::AwaitingCallback(Box::new(Awaiting {
            token,
            job,
            what,
            expires,
            is_close_buffered: false,
        }));
    }

    // ---- the callback's result ----

    /// Whether this connection waits for this callback and for no later one.
    fn awaits(&self, job: JobId) -> bool {
        matches!(&self.state, State::AwaitingCallback(awaiting) if awaiting.job == job)
    }

    fn decide(&mut self, hub: &mut Hub, awaiting: Awaiting, outcome: Outcome, now: Time) {
        let is_accepted = outcome.is_accepted();
        let answer = match outcome {
            Outcome::Answered {
                status: 200..=299,
                directives,
            } => match self.deafness(hub, &directives) {
                None => return self.open(hub, awaiting, directives, now),
                Some(why) => {
                    hub.journal.answer_unusable(awaiting.token, why);
                    routes::BACKEND_ERROR
                }
            },
            Outcome::Answered { status, .. } => routes::rejection(status),
            Outcome::TimedOut | Outcome::NeverSent | Outcome::Unfinished { error: None, .. } => {
                routes::GATEWAY_TIMEOUT
            }
            Outcome::Failed(_) | Outcome::Unfinished { .. } => routes::BACKEND_UNAVAILABLE,
            Outcome::QueueFull => {
                hub.journal.limit(Limit::ConnectQueue, None, now);
                routes::OVERLOADED
            }
        };
        self.forget(hub, awaiting.token);
        self.forget_backlog(hub);
        self.reject(hub, &answer, now);
        if is_accepted {
            hub.tell_gone(awaiting.token, Reason::Error, awaiting.what.request);
        }
    }

    /// The one way into a stream: head, the answer's event, then what was buffered, until a close
    /// (contract, section 2, step 7).
    fn open(&mut self, hub: &mut Hub, awaiting: Awaiting, mut directives: Directives, now: Time) {
        let framing = awaiting.what.framing;
        let discarded = u32::try_from(self.input.len()).unwrap_or(u32::MAX);
        self.input.clear(&mut hub.spares);
        if self.out.is_empty() {
            self.stalled_since = Tick::at(now);
        }
        let mut first = Vec::new();
        if directives.close {
            self.forget_backlog(hub);
        } else {
            first = self.join_by_answer(hub, &awaiting, &directives, now);
        }
        let cors = self.asked.page.cors(&hub.settings);
        let out = self
            .out
            .tail(STREAM_HEAD_BYTES + cors.room(), &mut hub.spares);
        reply::write_stream_head(out, &hub.date, framing, cors);
        if let Some(retry) = hub.settings.retry {
            let out = self.out.tail(RETRY_BYTES, &mut hub.spares);
            sse::write_retry(out, framing, retry);
        }
        while let Some(frame) = first.pop() {
            let backlog = self.backlog.get_or_insert_with(|| hub.backlogs.take());
            backlog.push_front(frame, framing, &mut hub.shared);
        }
        let mut is_put = false;
        if let Some(event) = &mut directives.event {
            if hub.history.is_on() && event.id.take().is_some() {
                hub.journal.own_id(awaiting.token);
            }
            is_put = self.put_first(hub, framing, event);
        }
        let heartbeat = hub.settings.heartbeat;
        let span = directives.expires_in.or_else(|| hub.max_stream());
        let (token, request) = (awaiting.token, awaiting.what.request);
        hub.journal.opened(token, &request, heartbeat);
        if let Some(event) = &directives.event
            && let Some(sent) = hub.journal.sent(&event.name, event.data.len())
        {
            hub.journal.event_sent(token, &sent, &request);
        }
        self.state = State::Streaming(Stream {
            token,
            request,
            framing,
            next_heartbeat: Tick::at(now + heartbeat),
            ends: span.map_or(Tick::NEVER, |span| Tick::at(now + span)),
            is_told_end: directives.expires_in.is_some(),
            since: u32::try_from(hub.history.clock() / 1000).unwrap_or(u32::MAX),
            events: 0,
            discarded,
        });
        self.gave(hub, u32::from(is_put));
        if directives.close || awaiting.is_close_buffered && !self.is_replaying {
            self.end_stream(hub, Reason::ServerClosed, None, now);
        } else if awaiting.is_close_buffered {
            self.fade(hub);
        }
    }

    /// The answer's own event: in front of what was buffered, unless that brings what takes it out.
    /// Whether it is among the plain bytes.
    fn put_first(&mut self, hub: &mut Hub, framing: Framing, event: &Event<'_>) -> bool {
        let fields = hub.settings.event_format.fields(event);
        let Some(key) = &event.key else {
            let room = sse::event_len(&fields) + sse::CHUNK_OVERHEAD;
            let out = self.out.tail(room, &mut hub.spares);
            sse::write_event(out, framing, &fields);
            return true;
        };
        let backlog = self.backlog.get_or_insert_with(|| hub.backlogs.take());
        let event = Frame::event(&fields, Some(key), 0);
        backlog.push_front(event, framing, &mut hub.shared);
        false
    }

    /// Why a stream that the backend has accepted may not open: it would be deaf (contract,
    /// section 11).
    fn deafness(&self, hub: &Hub, directives: &Directives) -> Option<&'static str> {
        let is_too_much = hub.is_in_too_many(&self.joined, &[], directives.channels());
        let too_many = is_too_much.then_some("'channels' names more channels than MAX_CHANNELS");
        directives.deaf.or(too_many)
    }

    /// The stream does not open; the connection goes on with what was kept meanwhile.
    fn reject(&mut self, hub: &mut Hub, answer: &Answer, now: Time) {
        self.answer(hub, answer, now);
        self.await_serving(hub, now);
    }

    /// Nobody finds the stream any more.
    fn forget(&mut self, hub: &mut Hub, token: Uuid) {
        hub.streams.remove(token);
        hub.channels.leave_all(&mut self.joined);
        if std::mem::take(&mut self.is_replaying) {
            hub.replays.remove(self.id);
        }
    }

    // ---- before the callback's result ----

    fn abandon(&mut self, hub: &mut Hub, awaiting: Awaiting, reason: Reason, is_timed_out: bool) {
        self.forget(hub, awaiting.token);
        self.forget_backlog(hub);
        hub.orphan(awaiting, reason, is_timed_out);
    }

    /// The client's five seconds are over. A 2xx that still comes is paid with `error`.
    pub(super) fn callback_timed_out(&mut self, hub: &mut Hub, now: Time) {
        if let Some(awaiting) = self.state.take_awaiting() {
            hub.journal.callback_timed_out(awaiting.token);
            self.abandon(hub, awaiting, Reason::Error, true);
            self.reject(hub, &routes::GATEWAY_TIMEOUT, now);
        }
    }

    /// The client is answered without the backend's word.
    pub(super) fn turn_back(&mut self, hub: &mut Hub, reason: Reason, answer: &Answer, now: Time) {
        if let Some(awaiting) = self.state.take_awaiting() {
            self.abandon(hub, awaiting, reason, false);
            self.reject(hub, answer, now);
        }
    }

    /// The client has left.
    pub(super) fn leave_callback(&mut self, hub: &mut Hub, reason: Reason) {
        if let Some(awaiting) = self.state.take_awaiting() {
            let (token, request) = (awaiting.token, &awaiting.what.request);
            hub.journal.left_callback(token, request, reason);
            self.abandon(hub, awaiting, reason, false);
            self.close(hub);
        }
    }

    /// Drops a client that has passed a limit.
    pub(super) fn drop_callback(&mut self, hub: &mut Hub, limit: Limit, now: Time) {
        if let Some(awaiting) = self.state.take_awaiting() {
            let (token, request) = (awaiting.token, &awaiting.what.request);
            let (reason, limit) = (Reason::Error, Some(limit));
            hub.journal.left(token, request, reason, limit, now);
            hub.effect(Effect::Abort(self.id));
            self.abandon(hub, awaiting, reason, false);
            self.close(hub);
        }
    }

    // ---- the open stream ----

    /// The heartbeat's moment: a comment, unless earlier bytes still wait to be taken.
    pub(super) fn beat(&mut self, hub: &mut Hub, now: Time) {
        if let State::Streaming(stream) = &mut self.state {
            // A fixed cadence: the next moment follows from the last one, however late this is.
            let mut next = stream.next_heartbeat.time();
            while next <= now {
                next = next + hub.settings.heartbeat;
            }
            stream.next_heartbeat = Tick::at(next);
            let framing = stream.framing;
            if self.is_written() {
                self.push(hub, sse::heartbeat(framing), now);
            }
        }
    }

    /// Drops a stream that has passed a limit: its reader gets a reset, the kernel forgets the
    /// rest.
    pub(super) fn drop_stream(&mut self, hub: &mut Hub, limit: Limit, now: Time) {
        hub.effect(Effect::Abort(self.id));
        self.end_stream(hub, Reason::Error, Some(limit), now);
    }

    /// The stream's time is over (contract, section 14): what was sent to it comes still, but for what
    /// is to come from the history, to which its client comes back.
    pub(super) fn outlive(&mut self, hub: &mut Hub, now: Time) {
        self.catch_up(hub, now);
        if let State::Streaming(stream) = &self.state {
            let limit = if stream.is_told_end {
                Limit::ExpiresIn
            } else {
                Limit::MaxStream
            };
            self.cut_replay(hub);
            self.end_stream(hub, Reason::ServerClosed, Some(limit), now);
        }
    }

    /// The backend closes the stream behind what was sent when the history had come to a position: at
    /// once, unless some of that is still to come from there.
    pub(super) fn close_stream(&mut self, hub: &mut Hub, at: EventId, now: Time) {
        if self.is_replaying {
            self.close_replay(hub, at);
            self.fade(hub);
        } else {
            self.end_stream(hub, Reason::ServerClosed, None, now);
        }
    }

    /// Nothing behind this position is to come from the history.
    pub(super) fn close_replay(&mut self, hub: &mut Hub, at: EventId) {
        if let Some(replay) = hub.replays.get_mut(self.id) {
            replay.close(at, &hub.history);
        }
    }

    /// Nobody finds a stream any more that ends once it has what is still to come to it.
    fn fade(&mut self, hub: &mut Hub) {
        if let State::Streaming(stream) = &self.state {
            hub.streams.remove(stream.token);
            hub.channels.leave_all(&mut self.joined);
        }
    }

    /// The one way out of a stream: the token is forgotten, then the backend is told.
    pub(super) fn end_stream(
        &mut self,
        hub: &mut Hub,
        reason: Reason,
        limit: Option<Limit>,
        now: Time,
    ) {
        let Some(stream) = self.state.take_stream() else {
            return;
        };
        let (token, request) = (stream.token, stream.request);
        self.forget(hub, token);
        hub.journal.ended(token, &request, reason, limit, now);
        hub.tell_gone(token, reason, request);
        match reason {
            Reason::ServerClosed => self.push(hub, sse::end(stream.framing), now),
            Reason::ClientClosed | Reason::Error => self.close(hub),
        }
    }

    /// One connection's part in a shutdown (contract, section 10).
    pub(super) fn shut(&mut self, hub: &mut Hub, now: Time) {
        match self.state {
            State::Streaming(_) => {
                self.cut_replay(hub);
                self.say_when(hub, now);
                self.end_stream(hub, Reason::ServerClosed, None, now);
            }
            State::AwaitingCallback(_) => {
                self.turn_back(hub, Reason::ServerClosed, &routes::SHUTTING_DOWN, now);
            }
            _ => {}
        }
    }

    /// Nothing more comes from the history: the stream ends where it is.
    fn cut_replay(&mut self, hub: &mut Hub) {
        if std::mem::take(&mut self.is_replaying) {
            hub.replays.remove(self.id);
            self.keep_settled(hub);
        }
    }

    /// The last words of a stream: its client is to come again at a moment of its own within the
    /// span, and not with all others.
    fn say_when(&mut self, hub: &mut Hub, now: Time) {
        let span = hub.settings.reconnect_spread.as_millis();
        let Some(last) = u32::try_from(span).unwrap_or(u32::MAX).checked_sub(1) else {
            return;
        };
        let mut words = Vec::with_capacity(RETRY_BYTES);
        let millis = hub.random.within((0, last));
        sse::write_retry(&mut words, self.state.framing(), millis);
        self.push(hub, &words, now);
    }
}
