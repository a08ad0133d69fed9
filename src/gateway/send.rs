//! `POST /internal/send` (contract, section 4): from a command to another connection's bytes.

use super::conn::{Awaiting, PendingSend, State};
use super::journal::{Limit, SentEvent};
use super::routes::{self, Answer};
use super::{ConnId, Gateway, entry};
use crate::callback::Reason;
use crate::sse;
use crate::time::Time;
use crate::tokens;
use crate::wire::{self, SendCommand, SendError};

const OK: &str = "{\"status\":\"ok\"}";
const BUFFERED: &str = "{\"status\":\"buffered\"}";

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

impl<S> Gateway<S> {
    /// Carries out one send and answers it, at once or when its event's write was tried.
    pub(super) fn send(&mut self, publisher: ConnId, body: &[u8], now: Time) {
        let verdict = match wire::send_command(body) {
            Ok(command) => self.obey(&command, now),
            Err(error) => {
                self.journal.send_refused(error.code(), now);
                Verdict::Refused(bad_request(error))
            }
        };
        match verdict {
            Verdict::Done(json) => self.answer_json(publisher, 200, json, now),
            Verdict::Refused(answer) => self.answer(publisher, &answer, now),
            Verdict::Tried {
                target,
                close,
                sent,
            } => {
                if let Some(conn) = self.conn(publisher) {
                    conn.state = State::Sending;
                }
                debug_assert!(self.pending_send.is_none());
                self.pending_send = Some(PendingSend {
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
        let target = tokens::parse(&command.token).and_then(|token| self.stream_of(token));
        let Some(target) = target else {
            self.journal.token_unknown(&command.token, now);
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        match self.conn(target).map(|conn| &conn.state) {
            Some(State::Streaming(_)) => self.forward(target, command, now),
            Some(State::AwaitingCallback(_)) => self.buffer(target, command, now),
            _ => Verdict::Refused(routes::TOKEN_NOT_FOUND),
        }
    }

    /// To an open stream.
    fn forward(&mut self, target: ConnId, command: &SendCommand<'_>, now: Time) -> Verdict {
        let close = command.close;
        let Some((name, data)) = &command.event else {
            if close {
                self.end_stream(target, Reason::ServerClosed, None, now);
                self.settle(target, now);
            }
            return Verdict::Done(OK);
        };
        let size = sse::event_len(name, data) + sse::CHUNK_OVERHEAD;
        let max_unsent = self.settings.limits.max_unsent;
        let Some(conn) = entry(&mut self.conns, target) else {
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        let State::Streaming(stream) = &conn.state else {
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        if conn.out.is_empty() {
            conn.stalled_since = now;
        } else if conn.out.len() + size > max_unsent {
            self.drop_stream(target, Limit::Unsent, now);
            return Verdict::Refused(routes::WRITE_FAILED);
        }
        let out = conn.out.tail(size, &mut self.spares);
        sse::write_event(out, stream.framing, name, data);
        let is_blocked = conn.is_blocked;
        let sent = self.journal.sent(name, data.len());
        if !is_blocked {
            return Verdict::Tried {
                target,
                close,
                sent,
            };
        }
        // Behind earlier bytes that the socket would not take; its next readiness flushes them.
        self.trim_outbound(target, now);
        if self.conn(target).is_none() {
            return Verdict::Refused(routes::WRITE_FAILED);
        }
        self.note_sent(target, sent);
        if close {
            self.end_stream(target, Reason::ServerClosed, None, now);
        }
        self.settle(target, now);
        Verdict::Done(OK)
    }

    /// To a stream that the backend has not decided on.
    fn buffer(&mut self, target: ConnId, command: &SendCommand<'_>, now: Time) -> Verdict {
        let (max_unsent, max_held) = (
            self.settings.limits.max_unsent,
            self.settings.limits.max_held,
        );
        let held = self.held.outbound;
        let Some(State::AwaitingCallback(awaiting)) =
            entry(&mut self.conns, target).map(|conn| &mut conn.state)
        else {
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        let Awaiting {
            token,
            window,
            is_close_buffered,
            what,
            ..
        } = &mut **awaiting;
        let token = *token;
        // Behind a close an event comes to nothing, and 404 would say that the client has gone.
        if let Some((name, data)) = &command.event
            && !*is_close_buffered
        {
            let size = sse::event_len(name, data) + sse::CHUNK_OVERHEAD;
            let is_full = !window.is_empty() && window.len() + size > max_unsent;
            if is_full || held + size > max_held {
                let limit = if is_full { Limit::Window } else { Limit::Held };
                self.journal.limit(limit, Some(token), now);
                return Verdict::Refused(routes::BUFFER_FULL);
            }
            let room = window.tail(size, &mut self.spares);
            sse::write_event(room, what.framing, name, data);
            window.fit(&mut self.spares);
        }
        *is_close_buffered |= command.close;
        if command.event.is_some() || command.close {
            self.journal.buffered(token);
        }
        self.charge(target);
        Verdict::Done(BUFFERED)
    }

    /// Answers the send whose event was written to `target`, or could not be.
    pub(super) fn settle_send(&mut self, target: ConnId, is_written: bool, now: Time) {
        let Some(send) = self.pending_send.take_if(|send| send.target == target) else {
            return;
        };
        if is_written {
            self.note_sent(target, send.sent);
        }
        if is_written && send.close {
            self.end_stream(target, Reason::ServerClosed, None, now);
        }
        let publisher = send.publisher;
        if !self
            .conn(publisher)
            .is_some_and(|conn| matches!(conn.state, State::Sending))
        {
            return;
        }
        if is_written {
            self.answer_json(publisher, 200, OK, now);
        } else {
            self.answer(publisher, &routes::WRITE_FAILED, now);
        }
        self.serve_kept(publisher, now);
        self.settle(publisher, now);
    }

    pub(super) fn note_sent(&mut self, target: ConnId, sent: Option<SentEvent>) {
        if let Some(sent) = sent
            && let Some(conn) = entry(&mut self.conns, target)
            && let State::Streaming(stream) = &conn.state
        {
            self.journal
                .event_sent(stream.token, &sent, &stream.request);
        }
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
