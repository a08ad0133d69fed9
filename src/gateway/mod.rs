//! The core: every connection, every stream, every decision; no socket, no clock, no thread.
//!
//! The shell calls one verb for each thing that happens and then carries out the [`Effect`]s, in
//! their order, until there are none; what an effect leads to is one more verb. `S` is whatever the
//! shell keeps with a connection: the core stores it and cannot touch it.

mod answer;
mod asked;
mod backlog;
mod calls;
mod channels;
mod compose;
mod conn;
mod conns;
mod counters;
mod deadlines;
mod eviction;
mod fanout;
mod frame;
mod head_fields;
mod history;
mod hub;
mod invariants;
mod joining;
mod journal;
mod lifecycle;
mod limit;
mod lists;
mod metrics;
mod origins;
mod output;
mod publish;
mod replay;
mod request;
mod retained;
mod routes;
mod send;
mod serve;
mod settle;
mod trim;

use std::time::Duration;

use uuid::Uuid;

use crate::callback::{Job, JobId, Reason};
use crate::config::{Limits, Origins};
use crate::http::reply::Date;
use crate::keys::Keys;
use crate::sse::Format;
use crate::time::Time;
use crate::wheel::Tick;

use compose::Over;
pub use conn::Scope;
use conn::{Conn, State};
use conns::Conns;
use hub::{Hub, Random};
use limit::Limit;
pub use metrics::Measures;
pub use output::{MOST_PIECES, Output};
use trim::Trim;

/// How long a connection is read and discarded behind its last answer (contract, section 7).
const LINGER: Duration = Duration::from_secs(2);

/// How much is discarded meanwhile, in bytes.
const LINGER_BYTES: usize = 1024 * 1024;

/// Names a connection; a slot's next tenant has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    /// The slot, for the readiness token.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Effect {
    /// Write what [`Gateway::output`] holds, then call [`Gateway::flushed`] or
    /// [`Gateway::broken`].
    Flush(ConnId),
    /// Reading was held back; read again, as the readiness for it is spent.
    Read(ConnId),
    /// Send a FIN.
    Fin(ConnId),
    /// Make the socket's end a reset; the connection is closed.
    Abort(ConnId),
    /// Make this callback; its [result](Gateway::result) is owed, exactly one.
    Call(Job),
    /// Measure what only the shell knows, for [`Gateway::measured`].
    Measure(ConnId),
    /// A crowd has left, and the core has freed what it needed: give the memory back to the system.
    TrimHeap,
    /// Take this connect callback back if it is not begun, and if so call [`Gateway::withdrawn`];
    /// otherwise its result stays owed.
    Withdraw(JobId),
}

/// How a socket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer reset it.
    Reset,
    /// A write failed.
    WriteFailed,
    /// The peer does not answer any more, or cannot be reached.
    Vanished,
}

/// What the core needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether there is a callback URL.
    pub is_configured: bool,
    /// The heartbeat interval.
    pub heartbeat: Duration,
    /// How events with a name go out.
    pub event_format: Format,
    /// The limits of the contract's section 6.
    pub limits: Limits,
    /// Names this process in what it tells (contract, section 13).
    pub boot: Uuid,
    /// What requests under `/internal/` have to show; `None`: nothing.
    pub keys: Option<Keys>,
    /// The origins whose pages may read streams; `None` for no CORS.
    pub cors: Option<Origins>,
    /// Whether a refusal is a stream for those who ask for one.
    pub refuses_by_stream: bool,
    /// Milliseconds of the `retry:` that every stream begins with, if it does.
    pub retry: Option<u32>,
    /// The span over which clients are to come again after a shutdown; zero for none.
    pub reconnect_spread: Duration,
    /// How long a stream lasts, give or take a tenth; zero for as long as it likes.
    pub max_stream: Duration,
}

impl Settings {
    /// What holds by default in a gateway that has a callback URL.
    pub fn new(limits: Limits) -> Settings {
        Settings {
            is_configured: true,
            heartbeat: Duration::from_secs(15),
            event_format: Format::Plain,
            limits,
            boot: Uuid::nil(),
            keys: None,
            cors: None,
            refuses_by_stream: false,
            retry: None,
            reconnect_spread: Duration::ZERO,
            max_stream: Duration::ZERO,
        }
    }
}

/// How many of what there are; for logs, tests and the end of a shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections, streams included.
    pub connections: usize,
    /// Streams: open, or awaiting the backend's word.
    pub streams: usize,
    /// Connect callbacks whose result is owed.
    pub connects: usize,
    /// Disconnect callbacks whose result is owed.
    pub disconnects: usize,
    /// Timers that wait; one for each connection at the most.
    pub timers: usize,
}

/// All connections and what is known of them.
#[derive(Debug)]
pub struct Gateway<S> {
    conns: Conns<S>,
    hub: Hub,
    /// Slots whose timers have fired and are not looked at yet, and when that was.
    due: Vec<u32>,
    due_at: Time,
    trim: Trim,
}

impl<S> Gateway<S> {
    /// A gateway without connections. `random` fills what it is given with bytes that nobody can
    /// foresee: tokens are made of them.
    pub fn new(settings: Settings, random: impl FnMut(&mut [u8]) + 'static) -> Gateway<S> {
        Gateway {
            conns: Conns::new(),
            hub: Hub::new(settings, Random::new(random)),
            due: Vec::new(),
            due_at: Time(0),
            trim: Trim::default(),
        }
    }

    /// The date that answers carry from now on.
    pub fn set_date(&mut self, date: Date) {
        self.hub.date = date;
    }

    /// The time of the Unix clock in milliseconds, which ids of events begin with (contract, section
    /// 12); what happens from now on happens then.
    pub fn set_clock(&mut self, millis: u64) {
        self.hub.history.set_clock(millis);
    }

    /// What requests under `/internal/` have to show from now on.
    pub fn set_keys(&mut self, keys: Option<Keys>) {
        self.hub.settings.keys = keys;
    }

    // ---- verbs: what happens to a connection ----

    /// A client has connected.
    pub fn accept(&mut self, io: S, scope: Scope, now: Time) -> ConnId {
        self.hub.journal.counters.accepted += 1;
        let conn = self.conns.insert(io, scope, now);
        conn.settle(&mut self.hub, now);
        conn.id
    }

    /// Bytes arrived.
    pub fn bytes(&mut self, id: ConnId, bytes: &[u8], now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        if !conn.is_reading() || !conn.input.is_empty() {
            conn.keep_rest(hub, bytes, now);
            if conn.is_reading() {
                return conn.await_serving(hub, now);
            }
        } else {
            let used = self.serve(id, bytes, now);
            if let Some((conn, hub)) = self.both(id) {
                conn.keep_rest(hub, &bytes[used..], now);
            }
        }
        self.evict_inbound(id, now);
        self.settle(id, now);
    }

    /// The peer sent its FIN; no bytes will follow.
    pub fn eof(&mut self, id: ConnId, now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        conn.is_eof = true;
        match conn.state {
            State::Streaming(_) => conn.end_stream(hub, Reason::ClientClosed, None, now),
            State::AwaitingCallback(_) => conn.leave_callback(hub, Reason::ClientClosed),
            State::Finishing {
                stream: Some(_), ..
            }
            | State::Lingering { .. } => conn.close(hub),
            // Requests that are complete are served still; what is not never will be.
            State::Reading { .. } if conn.is_paused => {}
            State::Reading { .. } | State::ReadingBody(_) => conn.state = State::LAST_ANSWER,
            State::Sending
            | State::Queueing(_)
            | State::Looking(_)
            | State::Finishing { .. }
            | State::Closed => {}
        }
        conn.settle(hub, now);
    }

    /// The socket is of no use any more.
    pub fn broken(&mut self, id: ConnId, how: Broken, now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        let (reason, limit) = match how {
            Broken::Reset => (Reason::ClientClosed, None),
            Broken::WriteFailed => (Reason::Error, None),
            Broken::Vanished => (Reason::Error, Some(Limit::Peer)),
        };
        match conn.state {
            State::Streaming(_) => conn.end_stream(hub, reason, limit, now),
            State::AwaitingCallback(_) => conn.leave_callback(hub, reason),
            _ => conn.close(hub),
        }
        self.settle_send(id, false, now);
    }

    /// The socket took the first `n` bytes of its output; when that is not all, it takes no more
    /// for now.
    pub fn flushed(&mut self, id: ConnId, n: usize, now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        conn.is_flush_queued = false;
        conn.is_blocked = n < conn.output().len();
        if conn.state.is_of_stream() {
            hub.journal.counters.bytes += n as u64;
        }
        let is_over = conn.composed(hub, n);
        conn.consume(hub, n);
        conn.out.fit(&mut hub.spares);
        if let State::Reading {
            is_begun: false,
            since,
            ..
        } = &mut conn.state
        {
            *since = now;
        }
        if n > 0 {
            conn.stalled_since = Tick::at(now);
        }
        if let Some(Over { is_closing: true }) = is_over {
            conn.end_stream(hub, Reason::ServerClosed, None, now);
        } else if conn.is_composed() && !conn.is_blocked {
            conn.wait_for_turn(hub);
        }
        conn.charge(hub);
        if conn.may_resume(hub) {
            conn.await_serving(hub, now);
        }
        // Otherwise more pieces follow at once.
        let is_tried = conn.is_blocked || conn.is_written();
        let has_room = !is_tried || conn.judge(hub, now);
        if conn.is_blocked {
            self.evict_outbound(id, now);
            self.evict_inbound(id, now);
        }
        if is_tried {
            self.settle_send(id, has_room, now);
        }
        self.settle(id, now);
    }

    /// The socket may take bytes again.
    pub fn writable(&mut self, id: ConnId, now: Time) {
        if let Some((conn, hub)) = self.both(id)
            && std::mem::take(&mut conn.is_blocked)
        {
            conn.settle(hub, now);
        }
    }

    // ---- verbs: what happens beside connections ----

    /// The process is to end: streams end cleanly, no new one is opened.
    pub fn shutdown(&mut self, now: Time) {
        self.hub.is_draining = true;
        let ids: Vec<ConnId> = self.conns.iter().map(|conn| conn.id).collect();
        for id in ids {
            if let Some((conn, hub)) = self.both(id) {
                conn.catch_up(hub, now);
                conn.shut(hub, now);
                conn.settle(hub, now);
            }
        }
    }

    // ---- what the shell asks ----

    /// What to do next; to be carried out before any other verb than its own consequences.
    pub fn effect(&mut self) -> Option<Effect> {
        // One at a time, so that its bytes are written before the next one needs a buffer.
        loop {
            if let Some(effect) = self.hub.effects.pop_front() {
                return Some(effect);
            } else if let Some((id, now)) = self.hub.ready.pop_front() {
                self.serve_kept(id, now);
            } else if let Some(index) = self.due.pop() {
                self.expired(index, self.due_at);
            } else {
                return self.trim.effect();
            }
        }
    }

    /// When [`Gateway::tick`] has something to do at the earliest.
    pub fn deadline(&self) -> Option<Time> {
        let all = [
            self.hub.wheel.next(),
            self.hub.journal.deadline(),
            self.hub.history.deadline(),
            self.trim.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// The connection that uses a slot now.
    pub fn at(&self, index: usize) -> Option<ConnId> {
        self.conns.at(index)
    }

    /// What the shell keeps with a connection, be it closed.
    pub fn io(&mut self, id: ConnId) -> Option<&mut S> {
        self.conns.tenant(id).map(|conn| &mut conn.io)
    }

    /// What waits to be written, beside what the shell keeps; `None` when there is nothing. What a
    /// socket takes of it is to be told before the output of another one is asked for.
    pub fn output(&mut self, id: ConnId) -> Option<(&mut S, Output<'_>)> {
        let (conn, hub) = self.both(id)?;
        if conn.is_composed() && !conn.compose(hub) {
            return None;
        }
        conn.output_beside_io()
    }

    /// Whether the connection's socket is to be read.
    pub fn wants_input(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(Conn::wants_input)
    }

    /// Frees the slots of closed connections and drops what the shell kept there. To be called
    /// when no readiness for them can be on its way any more.
    pub fn reap(&mut self) {
        for id in self.hub.dead.drain(..) {
            self.conns.remove(id);
        }
        self.forget_ended();
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.conns.len() - self.hub.dead.len(),
            streams: self.hub.streams.len(),
            connects: self.hub.calls.connects(),
            disconnects: self.hub.calls.disconnects(),
            timers: self.hub.wheel.len(),
        }
    }

    /// Whether a shutdown has nothing left to wait for: every stream's end is written, every
    /// callback has its result.
    pub fn is_drained(&self) -> bool {
        let counts = self.counts();
        let is_writing = |conn: &Conn<S>| matches!(conn.state, State::Finishing { .. });
        self.hub.is_draining
            && counts.connects + counts.disconnects == 0
            && !self.conns.iter().any(is_writing)
    }

    /// A connection that is not closed, and what it shares with the others.
    fn both(&mut self, id: ConnId) -> Option<(&mut Conn<S>, &mut Hub)> {
        Some((self.conns.get_mut(id)?, &mut self.hub))
    }

    /// See [`Conn::settle`].
    fn settle(&mut self, id: ConnId, now: Time) {
        if let Some((conn, hub)) = self.both(id) {
            conn.settle(hub, now);
        }
    }
}
