//! The core: every connection, every stream, every decision; no socket, no clock, no thread.
//!
//! The shell calls one verb for each thing that happens and then carries out the [`Effect`]s, in
//! their order, until there are none; what an effect leads to is one more verb. `S` is whatever the
//! shell keeps with a connection: the core stores it and cannot touch it.

mod conn;
mod deadlines;
mod eviction;
mod facts;
mod invariants;
mod journal;
mod lifecycle;
mod memory;
mod request;
mod routes;
mod send;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;
use uuid::Uuid;

use crate::buf::Spares;
use crate::callback::{CallbackResult, Job, JobId, Reason};
use crate::config::Limits;
use crate::http::reply::Date;
use crate::time::Time;
use crate::tokens::TokenIndex;
use crate::wheel::{Tick, Wheel};

pub use conn::Scope;
use conn::{Conn, PendingSend, State};
use eviction::{Eviction, Held};
use facts::Fields;
use journal::{Journal, Limit};
use lifecycle::Owed;
use memory::Thrift;

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
    /// Make this callback; its [`CallbackResult`] is owed, exactly one.
    Call(Job),
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
    /// The limits of the contract's section 6.
    pub limits: Limits,
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
    settings: Settings,
    conns: Slab<Conn<S>>,
    generation: u32,
    streams: TokenIndex<ConnId>,
    /// Callbacks that are out and that no connection waits for.
    owed: HashMap<JobId, Owed>,
    /// One timer for each connection, by its slot.
    wheel: Wheel,
    /// Slots whose timers have fired and are not looked at yet, and when that was.
    due: Vec<u32>,
    due_at: Time,
    effects: VecDeque<Effect>,
    /// Closed connections whose slots are freed after the batch.
    dead: Vec<ConnId>,
    /// Connections that came through the internal listener.
    internal: usize,
    spares: Spares,
    fields: Fields,
    /// At most one: the effects of a send are carried out before the next request is served.
    pending_send: Option<PendingSend>,
    /// Rejected connections whose kept requests are served once the effects so far are carried out.
    unserved: VecDeque<(ConnId, Time)>,
    /// Bytes held for all connections.
    held: Held,
    eviction: Eviction,
    next_job: u64,
    connects: usize,
    disconnects: usize,
    date: Date,
    is_draining: bool,
    thrift: Thrift,
    journal: Journal,
}

impl<S> Gateway<S> {
    /// A gateway without connections.
    pub fn new(settings: Settings) -> Gateway<S> {
        Gateway {
            conns: Slab::new(),
            generation: 0,
            streams: TokenIndex::default(),
            owed: HashMap::new(),
            wheel: Wheel::default(),
            due: Vec::new(),
            due_at: Time(0),
            effects: VecDeque::new(),
            dead: Vec::new(),
            internal: 0,
            spares: Spares::default(),
            fields: Fields::new(settings.limits.max_kept_headers),
            settings,
            pending_send: None,
            unserved: VecDeque::new(),
            held: Held::default(),
            eviction: Eviction::default(),
            next_job: 0,
            connects: 0,
            disconnects: 0,
            date: *b"Thu, 01 Jan 1970 00:00:00 GMT",
            is_draining: false,
            thrift: Thrift::default(),
            journal: Journal::default(),
        }
    }

    /// The date that answers carry from now on.
    pub fn set_date(&mut self, date: Date) {
        self.date = date;
    }

    // ---- verbs: what happens to a connection ----

    /// A client has connected.
    pub fn accept(&mut self, io: S, scope: Scope, now: Time) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        let conn = Conn::new(io, self.generation, scope, now);
        self.internal += usize::from(scope == Scope::Internal);
        let id = ConnId {
            index: self.conns.insert(conn) as u32,
            generation: self.generation,
        };
        self.settle(id, now);
        id
    }

    /// Bytes arrived.
    pub fn bytes(&mut self, id: ConnId, bytes: &[u8], now: Time) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        match &mut conn.state {
            State::Reading { .. } | State::ReadingBody(_) if conn.input.is_empty() => {
                let used = self.serve(id, bytes, now);
                self.keep_rest(id, &bytes[used..], now);
            }
            State::Reading { .. } | State::ReadingBody(_) => {
                self.keep(id, bytes);
                self.serve_kept(id, now);
            }
            _ => self.keep_rest(id, bytes, now),
        }
        self.trim_inbound(id, now);
        self.settle(id, now);
    }

    /// The peer sent its FIN; no bytes will follow.
    pub fn eof(&mut self, id: ConnId, now: Time) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        conn.is_eof = true;
        match conn.state {
            State::Streaming(_) => self.end_stream(id, Reason::ClientClosed, None, now),
            State::AwaitingCallback(_) => self.leave_callback(id, Reason::ClientClosed),
            State::Finishing {
                is_stream: true, ..
            }
            | State::Lingering { .. } => self.close(id),
            // Requests that are complete are served still; what is not never will be.
            State::Reading { .. } if conn.is_paused => {}
            State::Reading { .. } | State::ReadingBody(_) => {
                conn.state = State::Finishing {
                    is_stream: false,
                    discarded: 0,
                };
            }
            State::Sending | State::Finishing { .. } | State::Closed => {}
        }
        self.settle(id, now);
    }

    /// The socket is of no use any more.
    pub fn broken(&mut self, id: ConnId, how: Broken, now: Time) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        let (reason, limit) = match how {
            Broken::Reset => (Reason::ClientClosed, None),
            Broken::WriteFailed => (Reason::Error, None),
            Broken::Vanished => (Reason::Error, Some(Limit::Peer)),
        };
        match conn.state {
            State::Streaming(_) => self.end_stream(id, reason, limit, now),
            State::AwaitingCallback(_) => self.leave_callback(id, reason),
            _ => self.close(id),
        }
        self.settle_send(id, false, now);
        self.settle(id, now);
    }

    /// The socket took the first `n` bytes of its output; when that is not all, it takes no more
    /// for now.
    pub fn flushed(&mut self, id: ConnId, n: usize, now: Time) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        conn.is_flush_queued = false;
        conn.out.consume(n, &mut self.spares);
        conn.is_blocked = !conn.out.is_empty();
        conn.out.fit(&mut self.spares);
        if let State::Reading {
            is_begun: false,
            since,
            ..
        } = &mut conn.state
        {
            *since = now;
        }
        if n > 0 {
            conn.stalled_since = now;
        }
        let is_blocked = conn.is_blocked;
        self.charge(id);
        if is_blocked {
            self.trim_outbound(id, now);
            self.trim_inbound(id, now);
        }
        self.settle_send(id, true, now);
        self.resume(id, now);
        self.settle(id, now);
    }

    /// The socket may take bytes again.
    pub fn writable(&mut self, id: ConnId, now: Time) {
        if let Some(conn) = self.conn(id)
            && conn.is_blocked
        {
            conn.is_blocked = false;
            self.settle(id, now);
        }
    }

    // ---- verbs: what happens beside connections ----

    /// A callback ended.
    pub fn result(&mut self, result: CallbackResult, now: Time) {
        self.callback_ended(result, now);
    }

    /// A connect callback was taken back before it was begun; no result will come.
    pub fn withdrawn(&mut self, job: JobId) {
        if self.owed.remove(&job).is_some() {
            self.connects -= 1;
        }
    }

    /// The process is to end: streams end cleanly, no new one is opened.
    pub fn shutdown(&mut self, now: Time) {
        self.is_draining = true;
        let ids: Vec<ConnId> = self.ids().collect();
        for id in ids {
            self.shut(id, now);
            self.settle(id, now);
        }
    }

    // ---- what the shell asks ----

    /// What to do next; to be carried out before any other verb than its own consequences.
    pub fn effect(&mut self) -> Option<Effect> {
        // One at a time, so that its bytes are written before the next one needs a buffer.
        while self.effects.is_empty() {
            if let Some((id, now)) = self.unserved.pop_front() {
                self.serve_kept(id, now);
                self.settle(id, now);
            } else if let Some(index) = self.due.pop() {
                self.expired(index, self.due_at);
            } else {
                return None;
            }
        }
        self.effects.pop_front()
    }

    /// When [`Gateway::tick`] has something to do at the earliest.
    pub fn deadline(&self) -> Option<Time> {
        let all = [
            self.wheel.next(),
            self.journal.deadline(),
            self.thrift.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// The connection that uses a slot now.
    pub fn at(&self, index: usize) -> Option<ConnId> {
        let conn = self.conns.get(index)?;
        (!conn.is_closed()).then_some(ConnId {
            index: index as u32,
            generation: conn.generation,
        })
    }

    /// What the shell keeps with a connection.
    pub fn io(&mut self, id: ConnId) -> Option<&mut S> {
        entry(&mut self.conns, id).map(|conn| &mut conn.io)
    }

    /// What waits to be written, beside what the shell keeps; `None` when there is nothing.
    pub fn output(&mut self, id: ConnId) -> Option<(&mut S, &[u8])> {
        let conn = self.conn(id)?;
        (!conn.out.is_empty()).then_some((&mut conn.io, conn.out.bytes()))
    }

    /// Whether the connection's socket is to be read.
    pub fn wants_input(&mut self, id: ConnId) -> bool {
        self.conn(id)
            .is_some_and(|conn| !conn.is_paused && !conn.is_eof)
    }

    /// Frees the slots of closed connections and drops what the shell kept there. To be called
    /// when no readiness for them can be on its way any more.
    pub fn reap(&mut self) {
        for id in self.dead.drain(..) {
            let conn = self.conns.remove(id.index());
            self.internal -= usize::from(conn.scope == Scope::Internal);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.conns.len() - self.dead.len(),
            streams: self.streams.len(),
            connects: self.connects,
            disconnects: self.disconnects,
            timers: self.wheel.len(),
        }
    }

    /// Whether a shutdown has nothing left to wait for: every stream's end is written, every
    /// callback has its result.
    pub fn is_drained(&self) -> bool {
        let is_writing = |conn: &Conn<S>| matches!(conn.state, State::Finishing { .. });
        self.is_draining
            && self.connects + self.disconnects == 0
            && !self.conns.iter().any(|(_, conn)| is_writing(conn))
    }

    // ---- what every verb ends with ----

    /// Brings a connection to rest: writes out, ends what is finished, counts its bytes, arms its
    /// deadline.
    fn settle(&mut self, id: ConnId, now: Time) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        if conn.is_closed() {
            return;
        }
        if conn.out.is_empty() {
            if let State::Finishing { discarded, .. } = conn.state {
                if conn.is_eof {
                    return self.close(id);
                }
                let until = now + LINGER;
                conn.state = State::Lingering { until, discarded };
                self.effects.push_back(Effect::Fin(id));
                self.note_lingering(id);
                return self.settle(id, now);
            }
        } else if !conn.is_blocked
            && !conn.is_flush_queued
            // The answers to a batch of pipelined sends leave together, behind their events.
            && !matches!(conn.state, State::Sending)
        {
            conn.is_flush_queued = true;
            self.effects.push_back(Effect::Flush(id));
        }
        let deadline = conn.deadline(&self.settings.limits);
        if Tick::at(deadline) < conn.armed && deadline < Time::NEVER {
            conn.armed = self.wheel.arm(id.index, deadline);
        }
        self.charge(id);
    }

    /// The one way to close a connection; what it means to a stream is decided before.
    fn close(&mut self, id: ConnId) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        if conn.is_closed() {
            return;
        }
        conn.state = State::Closed;
        conn.input.clear(&mut self.spares);
        conn.out.clear(&mut self.spares);
        self.wheel.cancel(id.index);
        self.dead.push(id);
        self.charge(id);
    }

    /// Closes a connection with a reset, so that the kernel drops what it still holds for it.
    fn abort(&mut self, id: ConnId) {
        self.effects.push_back(Effect::Abort(id));
        self.close(id);
    }

    /// A connection that is not closed.
    fn conn(&mut self, id: ConnId) -> Option<&mut Conn<S>> {
        entry(&mut self.conns, id).filter(|conn| !conn.is_closed())
    }

    fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.conns.iter().map(|(index, conn)| ConnId {
            index: index as u32,
            generation: conn.generation,
        })
    }

    fn stream_of(&self, token: Uuid) -> Option<ConnId> {
        self.streams.get(token)
    }
}

/// The slot's tenant if it is the one that is meant, closed or not. A function of the slab alone,
/// so that the rest of the gateway stays free to be used beside it.
fn entry<S>(conns: &mut Slab<Conn<S>>, id: ConnId) -> Option<&mut Conn<S>> {
    conns
        .get_mut(id.index())
        .filter(|conn| conn.generation == id.generation)
}
