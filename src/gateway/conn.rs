//! One connection: its state, what each state owns, and what its one deadline means.

use uuid::Uuid;

use super::ConnId;
use super::backlog::Backlog;
use super::channels::Joined;
use super::eviction::{Charged, Held};
use super::origins::Page;
use super::routes::View;
use crate::buf::ByteQueue;
use crate::callback::JobId;
use crate::config::Limits;
use crate::header_store::Request;
use crate::http::body::Decoder;
use crate::http::head::HeadScan;
use crate::http::reply::Persistence;
use crate::sse::Framing;
use crate::time::Time;
use crate::wheel::Tick;

/// Which requests a connection may make, by the listener that it came through (contract, sections
/// 1 and 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything: there is one listener.
    Whole,
    /// All but sends, which have a listener of their own.
    Public,
    /// Sends and health alone.
    Internal,
}

/// An accepted socket and what is going on over it.
#[derive(Debug)]
pub(super) struct Conn<S> {
    pub(super) io: S,
    pub(super) id: ConnId,
    pub(super) scope: Scope,
    pub(super) state: State,
    /// What arrived and is not yet served: a partial head, requests behind one that waits.
    pub(super) input: ByteQueue,
    /// What is not yet in the kernel's hands.
    pub(super) out: ByteQueue,
    /// What goes out behind that, or waits for the backend's word; never empty.
    pub(super) backlog: Option<Box<Backlog>>,
    /// The number of the last fan-out that is not to come to it any more.
    pub(super) seen: u64,
    /// The channels that the stream is in.
    pub(super) joined: Joined,
    /// How the request under way wants to be answered.
    pub(super) asked: Asked,
    /// Since when the output has made no progress; meaningless while there is none.
    pub(super) stalled_since: Tick,
    /// When its timer fires; none later than the deadline.
    pub(super) armed: Tick,
    /// The part of the gateway's totals of held bytes that is this connection's.
    pub(super) charged: Charged,
    /// The number of the request under way, once bytes of it stay; zero for none.
    pub(super) under_way: u32,
    /// The power of two that bounds the unsent bytes for which this stream is noted; zero for none.
    pub(super) behind_class: u8,
    /// Not served before: silence has a shorter limit than idling between requests.
    pub(super) is_new: bool,
    /// The peer has sent its FIN.
    pub(super) is_eof: bool,
    /// The socket took less than it was offered and will say when it takes more.
    pub(super) is_blocked: bool,
    /// Events were put behind others that the socket was not offered yet: what it leaves of them is
    /// still to be judged.
    pub(super) is_piled: bool,
    /// Its events of channels come from the history.
    pub(super) is_replaying: bool,
    /// A flush is among the effects already.
    pub(super) is_flush_queued: bool,
    /// Nothing is read until the peer reads its answers.
    pub(super) is_paused: bool,
    /// It is among the connections that are ready to be served.
    pub(super) is_ready: bool,
}

/// How the request under way wants to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) persistence: Persistence,
    /// Without a body: the method was HEAD.
    pub(super) is_head: bool,
    /// Whose page is to read it.
    pub(super) page: Page,
    /// By a stream of this framing, should it ask for a stream and be refused.
    pub(super) refused_by: Option<Framing>,
}

impl Default for Asked {
    /// What is assumed of a request that could not be read.
    fn default() -> Self {
        Asked {
            persistence: Persistence::Close,
            is_head: false,
            page: Page::SILENT,
            refused_by: None,
        }
    }
}

/// The states of a connection. What arrives is told apart by them in `request` and in
/// [`super::Gateway`]'s verbs, what time brings in `deadlines`, what is held in [`Conn::held`].
///
/// ```text
///            ┌──────────────── answered, connection kept ───────────────┐
///            ▼                                                          │
/// accept ─► Reading ─► ReadingBody ─► Sending, Queueing, Looking ───────┤
///            │  ╰──────────┬──────────► AwaitingCallback ── rejected ───┤
///            │             │                  │ 2xx                     │
///            │ refused     │                  ▼                         │
///            ├─────────────┤               Streaming                    │
///            ▼             ▼                  │ close                   │
///           Finishing ◄───────────────────────┴── answered, to be closed┘
///            │ all written: FIN
///            ▼
///           Lingering ─► Closed          (from every state: broken ─► Closed)
/// ```
#[derive(Debug)]
pub(super) enum State {
    /// A request's head is awaited. Legal input: bytes, eof. Next: ReadingBody, Sending,
    /// AwaitingCallback, Finishing, Closed. Deadline: the whole request's, from its first byte;
    /// before that, how long a connection may be silent.
    Reading {
        scan: HeadScan,
        /// When the request's first byte arrived, or the connection became idle.
        since: Time,
        /// Whether that first byte has arrived.
        is_begun: bool,
    },
    /// A request's body is awaited. Legal input: bytes, eof. Next: as of Reading. Deadline: the
    /// whole request's.
    ReadingBody(Box<BodyUnderWay>),
    /// An event was handed to another connection, and the answer waits for its write to be tried.
    /// Legal input: bytes (kept), eof. Next: Reading, Finishing. Lasts no longer than the effects
    /// of one verb; no deadline.
    Sending,
    /// A command for many, whole, waits for its place among those that are pending. Nothing is read
    /// meanwhile. Legal input: eof, bytes that were read before (kept). Next: Reading, Sending,
    /// Finishing. Lasts until one of those has come to everybody; no deadline.
    Queueing(ByteQueue),
    /// A look at what goes on, which takes longer than most requests, waits for its turn. Nothing is
    /// read meanwhile. Legal input: eof, bytes that were read before (kept). Next: Sending, Reading,
    /// Finishing. Lasts a turn for each look before it; no deadline.
    Looking(Look),
    /// The backend is being asked. Legal input: bytes (kept), eof, sends, the callback's result.
    /// Next: Streaming, Reading, Finishing, Closed. Deadline: the callback's.
    AwaitingCallback(Box<Awaiting>),
    /// The stream is open. Legal input: bytes (discarded), eof, sends. Next: Finishing, Closed.
    /// Deadline: the next heartbeat, or its own end.
    Streaming(Stream),
    /// Nothing is left but to write out. Legal input: bytes (discarded), eof. Next: Lingering,
    /// Closed. Deadline: none but the stall's.
    Finishing {
        /// The framing of the stream whose end it is, if it is one: its client's FIN ends all
        /// interest, while an answer is still written to a peer that half-closed.
        stream: Option<Framing>,
        /// It never was one: so it was refused.
        is_refusal: bool,
        discarded: usize,
    },
    /// Our FIN is sent; reading on so that no reset destroys what was written. Legal input: bytes
    /// (discarded), eof. Next: Closed. Deadline: the end of patience.
    Lingering { until: Time, discarded: usize },
    /// Over; the slot is freed after the batch of readiness.
    Closed,
}

/// A request whose body is not whole.
#[derive(Debug)]
pub(super) struct BodyUnderWay {
    pub(super) decoder: Decoder,
    /// The content so far, of a body that somebody needs.
    pub(super) content: ByteQueue,
    pub(super) plan: Plan,
    /// Bytes of its head that are kept.
    pub(super) kept: usize,
    /// When the request's first byte arrived.
    pub(super) since: Time,
}

/// What a request will lead to once its body is whole.
#[derive(Debug)]
pub(super) enum Plan {
    /// A send; the body is needed, and another connection.
    Send,
    /// A look at all of them.
    Look(Look),
    /// What concerns nobody else.
    Task(Task),
}

/// A request to look at what goes on (contract, section 14).
#[derive(Debug)]
pub(super) struct Look {
    pub(super) view: View,
    /// The request target: of one stream its path, else the query says which page.
    pub(super) target: Box<[u8]>,
}

/// What a connection does by itself.
#[derive(Debug)]
pub(super) enum Task {
    /// Open a stream.
    Connect(StreamRequest),
    /// `GET /healthz`.
    Health,
    /// `GET /readyz`.
    Ready,
    /// Tell a browser whether its page may ask for a stream; the fields that do.
    Preflight(String),
    /// A fixed answer.
    Answer(super::routes::Answer),
}

/// What is kept of a request for a stream.
#[derive(Debug)]
pub(super) struct StreamRequest {
    /// What both callbacks tell of it.
    pub(super) request: Request,
    pub(super) framing: Framing,
}

/// A stream that the backend has not yet decided on.
#[derive(Debug)]
pub(super) struct Awaiting {
    pub(super) token: Uuid,
    pub(super) job: JobId,
    pub(super) what: StreamRequest,
    /// When the client gets its 504.
    pub(super) expires: Time,
    /// A close came behind them: nothing more is taken.
    pub(super) is_close_buffered: bool,
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) token: Uuid,
    pub(super) request: Request,
    pub(super) framing: Framing,
    /// Timers are no finer.
    pub(super) next_heartbeat: Tick,
    /// When it is over at the latest.
    pub(super) ends: Tick,
    /// The answer to its connect callback says so.
    pub(super) is_told_end: bool,
    /// When it opened, in seconds of the Unix clock.
    pub(super) since: u32,
    /// Events that it was given so far.
    pub(super) events: u32,
    /// Bytes that the client sent although nothing is legal here.
    pub(super) discarded: u32,
}

impl<S> Conn<S> {
    pub(super) fn new(io: S, id: ConnId, scope: Scope, now: Time) -> Conn<S> {
        Conn {
            io,
            id,
            scope,
            state: State::reading(now),
            input: ByteQueue::default(),
            out: ByteQueue::default(),
            backlog: None,
            seen: 0,
            joined: Joined::default(),
            asked: Asked::default(),
            stalled_since: Tick::at(now),
            armed: Tick::NEVER,
            charged: Charged::default(),
            under_way: 0,
            behind_class: 0,
            is_new: true,
            is_eof: false,
            is_blocked: false,
            is_piled: false,
            is_replaying: false,
            is_flush_queued: false,
            is_paused: false,
            is_ready: false,
        }
    }

    /// Whether requests are awaited.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading { .. } | State::ReadingBody(_))
    }

    pub(super) fn wants_input(&self) -> bool {
        !self.is_paused
            && !self.is_eof
            && !matches!(
                self.state,
                State::Queueing(_) | State::Looking(_) | State::Closed
            )
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When something has to be done although nothing arrives.
    pub(super) fn deadline(&self, limits: &Limits) -> Time {
        let of_state = match &self.state {
            State::Reading { .. } if self.is_paused => Time::NEVER,
            State::Reading {
                since,
                is_begun: true,
                ..
            } => *since + limits.request_timeout,
            // Whoever still reads an answer is not idle; the stall's time is enough.
            State::Reading { .. } if !self.out.is_empty() => Time::NEVER,
            State::Reading { since, .. } if self.is_new => *since + limits.new_connection_timeout,
            State::Reading { since, .. } => *since + limits.idle_timeout,
            State::ReadingBody(body) => body.since + limits.request_timeout,
            State::AwaitingCallback(awaiting) => awaiting.expires,
            State::Streaming(stream) => stream.next_heartbeat.min(stream.ends).time(),
            State::Lingering { until, .. } => *until,
            State::Sending
            | State::Queueing(_)
            | State::Looking(_)
            | State::Finishing { .. }
            | State::Closed => Time::NEVER,
        };
        if self.is_written() || self.is_closed() {
            of_state
        } else {
            of_state.min(self.stalled_since.time() + limits.stall_timeout)
        }
    }

    /// Bytes of memory that count against the totals of all connections.
    pub(super) fn held(&self) -> Held {
        // What the socket was not offered yet is about to be.
        let unsent = if self.is_blocked {
            self.out.memory()
        } else {
            0
        };
        let backlog = self.backlog.as_ref().map_or(0, |it| it.memory());
        let mut held = Held {
            outbound: 0,
            inbound: self.input.memory(),
        };
        match &self.state {
            State::Streaming(_)
            | State::Finishing {
                stream: Some(_), ..
            } => {
                let waits = self.is_blocked || self.is_replaying;
                held.outbound += unsent + if waits { backlog } else { 0 };
            }
            State::AwaitingCallback(_) => {
                held.outbound += backlog;
                held.inbound += unsent;
            }
            State::Queueing(command) => held.inbound += unsent + command.memory(),
            State::Looking(what) => held.inbound += unsent + what.target.len(),
            State::ReadingBody(body) => {
                held.inbound += unsent + body.content.memory() + body.kept;
            }
            _ => held.inbound += unsent,
        }
        held
    }
}

impl State {
    /// Nothing is left but to write out answers.
    pub(super) const LAST_ANSWER: State = State::Finishing {
        stream: None,
        is_refusal: false,
        discarded: 0,
    };

    /// How the bytes of a stream are framed, from the asking to its last one.
    pub(super) fn framing(&self) -> Framing {
        match self {
            State::AwaitingCallback(awaiting) => awaiting.what.framing,
            State::Streaming(stream) => stream.framing,
            State::Finishing {
                stream: Some(framing),
                ..
            } => *framing,
            _ => Framing::Chunked,
        }
    }

    /// Whether what is written is that of a stream that has opened.
    pub(super) fn is_of_stream(&self) -> bool {
        matches!(
            self,
            State::Streaming(_)
                | State::Finishing {
                    stream: Some(_),
                    is_refusal: false,
                    ..
                }
        )
    }

    /// The stream that the backend is asked about, if there is one; its client is to be answered, or
    /// closed.
    pub(super) fn take_awaiting(&mut self) -> Option<Awaiting> {
        match std::mem::replace(self, State::LAST_ANSWER) {
            State::AwaitingCallback(awaiting) => Some(*awaiting),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The stream, if there is one; nothing is left of it but its end.
    pub(super) fn take_stream(&mut self) -> Option<Stream> {
        let end = State::Finishing {
            stream: Some(self.framing()),
            is_refusal: false,
            discarded: 0,
        };
        match std::mem::replace(self, end) {
            State::Streaming(stream) => Some(stream),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The command that waits for its place, if there is one; requests are awaited again.
    pub(super) fn take_queueing(&mut self, now: Time) -> Option<ByteQueue> {
        match std::mem::replace(self, State::reading(now)) {
            State::Queueing(command) => Some(command),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The look that waits for its turn, if there is one; requests are awaited again.
    pub(super) fn take_looking(&mut self, now: Time) -> Option<Look> {
        match std::mem::replace(self, State::reading(now)) {
            State::Looking(what) => Some(what),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The token of a stream, open or not yet.
    pub(super) fn token(&self) -> Option<Uuid> {
        match self {
            State::AwaitingCallback(awaiting) => Some(awaiting.token),
            State::Streaming(stream) => Some(stream.token),
            _ => None,
        }
    }

    /// A connection that waits for a request from `now` on.
    pub(super) fn reading(now: Time) -> State {
        State::Reading {
            scan: HeadScan::default(),
            since: now,
            is_begun: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection takes is what most of the memory of idle streams is.
    #[test]
    fn a_connection_stays_small() {
        assert!(size_of::<Conn<(i32, bool)>>() <= 192);
    }
}
