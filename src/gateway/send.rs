//! `POST /internal/send` (contract, sections 4 and 11): from a command to other connections' bytes.
//!
//! ```text
//! command ─► obey ─┬─ refused, or nothing to write ────────────────────────► answer
//!                  ├─ not open yet: into the window ───────────────────────► answer
//!                  ├─ open, its socket is full: behind earlier bytes ──────► answer
//!                  └─ open: appended, the publisher is Sending
//!                       ─► Flush ─► flushed or broken ─► settle_send ──────► answer
//!         ─► publish, for many: see `fanout` ──────────────────────────────► answer
//! ```

use std::borrow::Cow;

use super::channels::{ChannelId, Joined};
use super::conn::{Conn, State};
use super::hub::Hub;
use super::joining::Arrival;
use super::journal::SentEvent;
use super::publish::Publication;
use super::routes::{self, Answer};
use super::{ConnId, Gateway};
use crate::buf::ByteQueue;
use crate::callback::Reason;
use crate::sse;
use crate::time::Time;
use crate::tokens;
use crate::wire::{self, Event, Rules, SendCommand, SendError, Target};

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
pub(super) enum Verdict {
    /// An answer with this body and status 200.
    Done(Cow<'static, str>),
    /// One of the contract's errors.
    Refused(Answer),
    /// The event is on its way to the target's socket; the answer follows from what becomes of it.
    Tried {
        target: ConnId,
        close: bool,
        sent: Option<SentEvent>,
    },
    /// A fan-out for which there is no place now; the answer follows when there is.
    Queued,
}

/// What a command asks of one stream.
struct ForOne<'a> {
    unsubscribe: &'a [Cow<'a, str>],
    subscribe: &'a [Cow<'a, str>],
    last_event_id: Option<&'a str>,
    event: Option<&'a Event<'a>>,
    close: bool,
}

/// Where an event was put.
enum Put {
    /// In front of a socket that takes it, as far as is known.
    Next(Option<SentEvent>),
    /// Behind earlier bytes that the socket would not take, which its next readiness flushes, or
    /// behind events of the history.
    Behind(Option<SentEvent>),
    /// There is no room; the stream is dropped.
    Nowhere,
}

impl<S> Gateway<S> {
    /// Carries out one send and answers it, at once or when its event's write was tried.
    pub(super) fn send(&mut self, publisher: ConnId, body: &[u8], now: Time) {
        let limits = &self.hub.settings.limits;
        let rules = Rules {
            max_channels: limits.max_channels,
            has_history: limits.history > 0,
        };
        let (target, verdict) = match wire::send_command(body, rules) {
            Ok(command) => (command.target.name(), self.carry_out(&command, now)),
            Err(error) => ("none", self.hub.refuse_send(error, now)),
        };
        let counters = &mut self.hub.journal.counters;
        match &verdict {
            Verdict::Done(json) if *json == BUFFERED => counters.sent(target, "buffered"),
            Verdict::Done(_) => counters.sent(target, "ok"),
            Verdict::Refused(answer) => counters.sent(target, answer.code),
            Verdict::Tried { .. } | Verdict::Queued => {}
        }
        let Some((conn, hub)) = self.both(publisher) else {
            return;
        };
        match verdict {
            Verdict::Done(json) => conn.answer_json(hub, 200, &json, now),
            Verdict::Refused(answer) => conn.answer_error(hub, &answer, now),
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
            Verdict::Queued => {
                let mut command = ByteQueue::default();
                command.push(body, &mut hub.spares);
                command.fit(&mut hub.spares);
                conn.state = State::Queueing(command);
                hub.fan_outs.waiting.push_back(publisher);
            }
        }
    }

    fn carry_out(&mut self, command: &SendCommand<'_>, now: Time) -> Verdict {
        let event = command.event.as_ref();
        let what = Publication {
            event,
            close: command.close,
            now,
        };
        match &command.target {
            Target::Token {
                token,
                unsubscribe,
                subscribe,
                last_event_id,
            } => {
                let what = ForOne {
                    unsubscribe,
                    subscribe,
                    last_event_id: last_event_id.as_deref(),
                    event,
                    close: command.close,
                };
                self.obey(token, &what, now)
            }
            Target::Tokens(tokens) => self.publish_to_tokens(tokens, &what),
            Target::Channels(names) => self.publish_to_channels(names, &what),
            Target::Broadcast => self.broadcast(&what),
        }
    }

    fn obey(&mut self, token: &str, what: &ForOne<'_>, now: Time) -> Verdict {
        let known = tokens::parse(token).and_then(|token| self.hub.streams.get(token));
        let Some(target) = known else {
            return self.hub.refuse_token(token, now);
        };
        if !what.subscribe.is_empty()
            && let Some((conn, hub)) = self.both(target)
            && hub.is_in_too_many(&conn.joined, what.unsubscribe, what.subscribe)
        {
            return hub.refuse_send(SendError::InvalidChannel, now);
        }
        self.catch_up(target, usize::MAX, now);
        let Some((conn, hub)) = self.both(target) else {
            return self.hub.refuse_token(token, now);
        };
        match (&conn.state, what.event) {
            (State::Streaming(_), _) if hub.replays.is_ending(target) => {
                hub.refuse_token(token, now)
            }
            (State::AwaitingCallback(_), _) => {
                let verdict = conn.keep_for_later(hub, what, now);
                conn.charge(hub);
                verdict
            }
            (State::Streaming(_), Some(event)) => {
                if !conn.change_channels(hub, what, now) {
                    return Verdict::Refused(routes::WRITE_FAILED);
                }
                match conn.put(hub, event, now) {
                    Put::Next(sent) => Verdict::Tried {
                        target,
                        close: what.close,
                        sent,
                    },
                    Put::Behind(sent) => self.put_behind(target, what.close, sent, now),
                    Put::Nowhere => Verdict::Refused(routes::WRITE_FAILED),
                }
            }
            (State::Streaming(_), None) => {
                if conn.change_channels(hub, what, now) && what.close {
                    let at = hub.history.position();
                    conn.close_stream(hub, at, now);
                }
                conn.settle(hub, now);
                Verdict::Done(OK.into())
            }
            // What was pending for it has ended it: that came before.
            _ => hub.refuse_token(token, now),
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
        let answer = ok(conn.unsent());
        if close {
            let at = hub.history.position();
            conn.close_stream(hub, at, now);
        }
        conn.settle(hub, now);
        Verdict::Done(answer)
    }

    /// Answers the send whose event was written to `target`, or could not be.
    pub(super) fn settle_send(&mut self, target: ConnId, is_written: bool, now: Time) {
        let is_its = |send: &mut PendingSend| send.target == target;
        let Some(send) = self.hub.pending_send.take_if(is_its) else {
            return;
        };
        let answer = if is_written { "ok" } else { "WRITE_FAILED" };
        self.hub.journal.counters.sent("token", answer);
        let mut unsent = 0;
        if is_written && let Some((conn, hub)) = self.both(target) {
            conn.note_sent(hub, send.sent);
            unsent = conn.unsent();
            if send.close {
                conn.end_stream(hub, Reason::ServerClosed, None, now);
            }
        }
        if let Some((conn, hub)) = self.both(send.publisher)
            && matches!(conn.state, State::Sending)
        {
            if is_written {
                conn.answer_json(hub, 200, &ok(unsent), now);
            } else {
                conn.answer_error(hub, &routes::WRITE_FAILED, now);
            }
            conn.await_serving(hub, now);
        }
    }
}

impl<S> Conn<S> {
    /// Appends an event to an open stream's output.
    fn put(&mut self, hub: &mut Hub, event: &Event<'_>, now: Time) -> Put {
        // What may be taken out, or stands behind such, must be told apart from the rest.
        if event.key.is_some() || self.backlog.is_some() || self.is_replaying {
            let frame = hub.frame(event);
            if !self.append(hub, frame, now) {
                return Put::Nowhere;
            }
        } else {
            let fields = hub.settings.event_format.fields(event);
            let size = sse::event_len(&fields) + sse::CHUNK_OVERHEAD;
            if !self.has_room(hub, size, 0, now) {
                return Put::Nowhere;
            }
            let out = self.out.tail(size, &mut hub.spares);
            sse::write_event(out, self.state.framing(), &fields);
            self.gave(hub, 1);
        }
        let sent = hub.journal.sent(&event.name, event.data.len());
        if self.is_blocked || self.is_replaying {
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

    /// Keeps an event, or a close, for when the backend has decided.
    fn keep_for_later(&mut self, hub: &mut Hub, what: &ForOne<'_>, now: Time) -> Verdict {
        let State::AwaitingCallback(awaiting) = &mut self.state else {
            return Verdict::Refused(routes::TOKEN_NOT_FOUND);
        };
        let (token, is_over) = (awaiting.token, awaiting.is_close_buffered);
        let mut arrival = self.arrival_by_send(hub, what);
        let mut frames = std::mem::take(&mut arrival.frames);
        // Behind a close an event comes to nothing, and 404 would say that the client has gone.
        if is_over {
            frames.clear();
        } else {
            let event = what.event;
            let event = event.map(|event| hub.frame(event));
            let own = event.as_ref().map_or(0, |event| event.memory());
            frames.extend(event);
            if let Some(limit) = self.window_limit(hub, &frames, own) {
                hub.journal.limit(limit, Some(token), now);
                return Verdict::Refused(routes::BUFFER_FULL);
            }
        }
        self.leave_and_join(hub, what, &arrival, now);
        for frame in frames {
            self.hold(hub, frame);
        }
        if what.close {
            if let State::AwaitingCallback(awaiting) = &mut self.state {
                awaiting.is_close_buffered = true;
            }
            let at = hub.history.position();
            self.close_replay(hub, at);
        }
        if what.event.is_some() || what.close {
            hub.journal.buffered(token);
        }
        Verdict::Done(BUFFERED.into())
    }

    /// An open stream leaves and joins channels. False: there was no room for what that brings, and
    /// it is dropped.
    fn change_channels(&mut self, hub: &mut Hub, what: &ForOne<'_>, now: Time) -> bool {
        let mut arrival = self.arrival_by_send(hub, what);
        let mut frames = std::mem::take(&mut arrival.frames).into_iter();
        self.leave_and_join(hub, what, &arrival, now);
        frames.all(|frame| self.append(hub, frame, now))
    }

    fn arrival_by_send<'a>(&self, hub: &Hub, what: &'a ForOne<'a>) -> Arrival<'a> {
        let mut arrival = self.arrival(hub, what.unsubscribe, what.subscribe, what.last_event_id);
        arrival.frames.retain(|frame| !self.outdates(frame));
        arrival
    }

    fn leave_and_join(
        &mut self,
        hub: &mut Hub,
        what: &ForOne<'_>,
        arrival: &Arrival<'_>,
        now: Time,
    ) {
        for name in what.unsubscribe {
            self.leave(hub, name);
        }
        self.join(hub, arrival, self.state.token(), now);
    }
}

impl Hub {
    /// Whether a stream would be in more channels than it may, once it has left some and joined
    /// others.
    pub(super) fn is_in_too_many<N: AsRef<str>>(
        &self,
        joined: &Joined,
        leaves: &[N],
        joins: &[N],
    ) -> bool {
        let stays = |channel: &ChannelId| {
            let name = self.channels.name(*channel);
            let is_it = |other: &N| other.as_ref() == name;
            !leaves.iter().any(is_it) && !joins.iter().any(is_it)
        };
        let stay = self.channels.of(joined).filter(stays).count();
        stay + joins.len() > self.settings.limits.max_channels
    }

    /// The token is nobody's, or not any more.
    fn refuse_token(&mut self, token: &str, now: Time) -> Verdict {
        self.journal.token_unknown(token, now);
        Verdict::Refused(routes::TOKEN_NOT_FOUND)
    }

    pub(super) fn refuse_send(&mut self, error: SendError, now: Time) -> Verdict {
        self.journal.send_refused(error.code(), now);
        Verdict::Refused(Answer {
            status: 400,
            code: error.code(),
            message: error.message(),
            detail: "",
            fields: "",
            is_last: false,
        })
    }
}

/// The answer to a send that leaves so many bytes unsent.
fn ok(unsent: usize) -> Cow<'static, str> {
    match unsent {
        0 => OK.into(),
        _ => format!("{{\"status\":\"ok\",\"queued\":{unsent}}}").into(),
    }
}
