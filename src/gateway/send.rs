//! `POST /internal/send` (contract, section 4): from a command to another connection's bytes.
//!
//! ```text
//! command ─► obey ─┬─ refused, or nothing to write ────────────────────────► answer
//!                  ├─ not open yet: into the window ───────────────────────► answer
//!                  ├─ open, its socket is full: behind earlier bytes ──────► answer
//!                  └─ open: appended, the publisher is Sending
//!                       ─► Flush ─► flushed or broken ─► settle_send ──────► answer
//! ```

use super::conn::{Awaiting, Conn, State};
use super::hub::Hub;
use super::journal::{Limit, SentEvent};
use super::routes::{self, Answer};
use super::{ConnId, Gateway};
use crate::callback::Reason;
use crate::sse::{self, Framing};
use crate::time::Time;
use crate::tokens;
use crate::wire::{self, Event, SendCommand, SendError, Target};

const OK: &str = "{\"status\":\"ok\"}";
const BUFFERED: &str = "{\"status\":\"buffered\"}";

/// A send that waits for its event's write to be tried.
#[derive(Debug)]
pub(super) struct PendingSend {
    pub(super) publisher: ConnId,
    pub(super) target: ConnId,
    /// The command asked for a close behind the event.
    pub(super) close: bool,
    /// What the log will say of the event.
    pub(super) sent: Option<SentEvent>,
}

/// What a command came to.
enum Verdict {
    /// An answer with this body and status 200.
    Done(&'static str),
    /// One of the contract's errors.
    Refused(Answer),
    /// The event is on its way to the target's socket; the answer follows from what becomes of it.
    Tried {
        target: ConnId,
        close: bool,
        sent: Option<SentEvent>,
    },
}

/// Where an event was put.
enum Put {
    /// In front of a socket that takes it, as far as is known.
    Next(Option<SentEvent>),
    /// Behind earlier bytes that the socket would not take; its next readiness flushes them.
    Behind(Option<SentEvent>),
    /// There is no room; the stream is dropped.
    Nowhere,
}

impl<S> Gateway<S> {
    /// Carries out one send and answers it, at once or when its event's write was tried.
    pub(super) fn send(&mut self, publisher: ConnId, body: &[u8], now: Time) {
        let verdict = match wire::send_command(body, self.hub.settings.limits.max_channels) {
            Ok(command) => self.obey(&command, now),
            Err(error) => {
                self.hub.journal.send_refused(error.code(), now);
                Verdict::Refused(bad_request(error))
            }
        };
        let Some((conn, hub)) = self.both(publisher) else {
            return;
        };
        match verdict {
            Verdict::Done(json) => conn.answer_json(hub, 200, json, now),
            Verdict::Refused(answer) => conn.answer(hub, &answer, now),
            Verdict::Tried {
                target,
                close,
                sent,
            } => {
                conn.state = State::Sending;
                debug_assert!(hub.pending_send.is_none());
                hub.pending_send = Some(PendingSend {
                    publisher,
                    target,
                    close,
                    sent,
                });
                self.settle(target, now);
            }
        }
    }

    fn obey(&mut self, command: &SendCommand<'_>, now: Time) -> Verdict {
        let text = match &command.target {
            Target::Token { token, .. } => &**token,
            _ => "",
        };
        let token = tokens::parse(text);
        let Some(target) = token.and_then(|token| self.hub.streams.get(token)) else {
            self.hub.journal.token_unknown(text, now);
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        let Some((conn, hub)) = self.both(target) else {
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        match (&mut conn.state, &command.event) {
            (State::AwaitingCallback(awaiting), _) => {
                let verdict = awaiting.keep(hub, command, now);
                conn.charge(hub);
                verdict
            }
            (State::Streaming(stream), Some(event)) => {
                let framing = stream.framing;
                match conn.put(hub, framing, event, now) {
                    Put::Next(sent) => Verdict::Tried {
                        target,
                        close: command.close,
                        sent,
                    },
                    Put::Behind(sent) => self.put_behind(target, command.close, sent, now),
                    Put::Nowhere => Verdict::Refused(routes::WRITE_FAILED),
                }
            }
            (State::Streaming(_), None) => {
                if command.close {
                    conn.end_stream(hub, Reason::ServerClosed, None, now);
                    conn.settle(hub, now);
                }
                Verdict::Done(OK)
            }
            _ => Verdict::Refused(routes::TOKEN_NOT_FOUND),
        }
    }

    /// An event stands behind what the target's socket would not take: that may be too much.
    fn put_behind(
        &mut self,
        target: ConnId,
        close: bool,
        sent: Option<SentEvent>,
        now: Time,
    ) -> Verdict {
        self.evict_outbound(target, now);
        let Some((conn, hub)) = self.both(target) else {
            return Verdict::Refused(routes::WRITE_FAILED);
        };
        conn.note_sent(hub, sent);
        if close {
            conn.end_stream(hub, Reason::ServerClosed, None, now);
        }
        conn.settle(hub, now);
        Verdict::Done(OK)
    }

    /// Answers the send whose event was written to `target`, or could not be.
    pub(super) fn settle_send(&mut self, target: ConnId, is_written: bool, now: Time) {
        let is_its = |send: &mut PendingSend| send.target == target;
        let Some(send) = self.hub.pending_send.take_if(is_its) else {
            return;
        };
        if is_written && let Some((conn, hub)) = self.both(target) {
            conn.note_sent(hub, send.sent);
            if send.close {
                conn.end_stream(hub, Reason::ServerClosed, None, now);
            }
        }
        if let Some((conn, hub)) = self.both(send.publisher)
            && matches!(conn.state, State::Sending)
        {
            if is_written {
                conn.answer_json(hub, 200, OK, now);
            } else {
                conn.answer(hub, &routes::WRITE_FAILED, now);
            }
            conn.await_serving(hub, now);
        }
    }
}

impl<S> Conn<S> {
    /// Appends an event to an open stream's output.
    fn put(&mut self, hub: &mut Hub, framing: Framing, event: &Event<'_>, now: Time) -> Put {
        let fields = hub.settings.event_format.fields(event);
        let size = sse::event_len(&fields) + sse::CHUNK_OVERHEAD;
        if self.out.is_empty() {
            self.stalled_since = now;
        } else if self.out.len() + size > hub.settings.limits.max_unsent {
            self.drop_stream(hub, Limit::Unsent, now);
            return Put::Nowhere;
        }
        let out = self.out.tail(size, &mut hub.spares);
        sse::write_event(out, framing, &fields);
        let sent = hub.journal.sent(&event.name, event.data.len());
        if self.is_blocked {
            Put::Behind(sent)
        } else {
            Put::Next(sent)
        }
    }

    /// Tells the log of an event that is on its way.
    fn note_sent(&self, hub: &Hub, sent: Option<SentEvent>) {
        if let Some(sent) = sent
            && let State::Streaming(stream) = &self.state
        {
            hub.journal.event_sent(stream.token, &sent, &stream.request);
        }
    }
}

impl Awaiting {
    /// Keeps an event, or a close, for when the backend has decided.
    fn keep(&mut self, hub: &mut Hub, command: &SendCommand<'_>, now: Time) -> Verdict {
        // Behind a close an event comes to nothing, and 404 would say that the client has gone.
        if let Some(event) = &command.event
            && !self.is_close_buffered
        {
            let fields = hub.settings.event_format.fields(event);
            let limits = &hub.settings.limits;
            let size = sse::event_len(&fields) + sse::CHUNK_OVERHEAD;
            let is_full = !self.window.is_empty() && self.window.len() + size > limits.max_unsent;
            if is_full || hub.held.outbound + size > limits.max_held {
                let limit = if is_full { Limit::Window } else { Limit::Held };
                hub.journal.limit(limit, Some(self.token), now);
                return Verdict::Refused(routes::BUFFER_FULL);
            }
            let room = self.window.tail(size, &mut hub.spares);
            sse::write_event(room, self.what.framing, &fields);
            self.window.fit(&mut hub.spares);
        }
        self.is_close_buffered |= command.close;
        if command.event.is_some() || command.close {
            hub.journal.buffered(self.token);
        }
        Verdict::Done(BUFFERED)
    }
}

fn bad_request(error: SendError) -> Answer {
    Answer {
        status: 400,
        code: error.code(),
        message: error.message(),
        detail: "",
        fields: "",
        is_last: false,
    }
}
