//! Who pays when a total is full (contract, section 6).
//!
//! Three budgets, so that nobody pays for somebody else: what is held towards clients costs the
//! stream that holds most, what is held from publishers and strangers costs the youngest request
//! under way, and a place in a full house is the connection's that has idled longest.

use std::collections::BinaryHeap;
use std::time::Duration;

use slab::Slab;

use super::conn::{Conn, Scope, State};
use super::journal::Limit;
use super::{ConnId, Gateway, entry, routes};
use crate::callback::Reason;
use crate::time::Time;

/// A new connection, or one that was just answered, may speak for so long before its place is
/// another's.
const SETTLING: Duration = Duration::from_millis(20);

/// Connections that one look for an idle one passes in a millisecond, at the least: in a large
/// house such looks are so far apart that they stay a small part of the loop's time.
const LOOKS_PER_MS: usize = 1000;

/// Bytes of memory that are held, by the budget that they count against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Towards clients: callback windows, and what streams have unsent.
    pub(super) outbound: usize,
    /// From publishers and strangers: requests under way, requests behind one that waits, answers
    /// that are not read.
    pub(super) inbound: usize,
}

/// Connections that may have to pay, each with its rank. An entry can be out of date: what it says
/// is checked when its turn comes.
#[derive(Debug, Default)]
pub(super) struct Ranking(BinaryHeap<(u64, ConnId)>);

impl Ranking {
    pub(super) fn push(&mut self, rank: u64, id: ConnId) {
        self.0.push((rank, id));
    }

    /// Forgets the first entry if it has this rank, as the entry of the youngest often does.
    fn drop_first(&mut self, rank: u64) {
        if self.0.peek().is_some_and(|first| first.0 == rank) {
            self.0.pop();
        }
    }

    fn pop(&mut self) -> Option<(u64, ConnId)> {
        self.0.pop()
    }

    /// Forgets what is out of date once it is most of the entries, which costs a few steps for each.
    fn tidy<S>(&mut self, conns: &Slab<Conn<S>>, is_current: fn(&Conn<S>, u64) -> bool) {
        if self.0.len() > 2 * conns.len() + 64 {
            self.retain(conns, is_current);
        }
    }

    fn retain<S>(&mut self, conns: &Slab<Conn<S>>, is_current: fn(&Conn<S>, u64) -> bool) {
        self.0.retain(|(rank, id)| {
            let conn = current(conns, *id);
            conn.is_some_and(|conn| is_current(conn, *rank))
        });
    }
}

/// What the evictions need to remember.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// Connections with a request under way, by the number of that request.
    pub(super) under_way: Ranking,
    /// Requests under way so far.
    requests: u32,
    /// Connections whose client has left bytes unsent, by at least as many as they are.
    pub(super) behind: Ranking,
    /// Connections that were idle at the last look, those who idled longest first.
    idle: Ranking,
    /// When the next look may be taken.
    look_at: Time,
    /// Connections that began to linger; some of them may have ended since.
    pub(super) lingering: Vec<ConnId>,
}

impl<S> Gateway<S> {
    // ---- bytes ----

    /// Brings the totals of held bytes up to date with one connection.
    pub(super) fn charge(&mut self, id: ConnId) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        let held = conn.held();
        let was = std::mem::replace(&mut conn.charged, held);
        self.held.outbound = self.held.outbound - was.outbound + held.outbound;
        self.held.inbound = self.held.inbound - was.inbound + held.inbound;
        if held.inbound == 0 && conn.under_way > 0 {
            let rank = std::mem::take(&mut conn.under_way);
            self.eviction.under_way.drop_first(rank.into());
        }
    }

    /// Counts what a stranger or a publisher leaves with us, and lets the youngest requests under
    /// way go until the others fit their budget.
    pub(super) fn trim_inbound(&mut self, id: ConnId, now: Time) {
        self.charge(id);
        if let Some(conn) = entry(&mut self.conns, id)
            && conn.under_way == 0
            && conn.charged.inbound > 0
        {
            self.eviction.requests = self.eviction.requests.wrapping_add(1).max(1);
            conn.under_way = self.eviction.requests;
            self.eviction.under_way.push(conn.under_way.into(), id);
            self.eviction
                .under_way
                .tidy(&self.conns, Conn::is_under_way);
        }
        while self.held.inbound > self.settings.limits.max_inbound {
            let Some((rank, id)) = self.eviction.under_way.pop() else {
                return;
            };
            if current(&self.conns, id).is_some_and(|conn| conn.is_under_way(rank)) {
                self.turn_away(id, now);
            }
        }
    }

    /// Ends a connection from which too much is held.
    fn turn_away(&mut self, id: ConnId, now: Time) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        let is_read = conn.out.is_empty() || !conn.is_blocked;
        match conn.state {
            State::Reading { .. } | State::ReadingBody(_) if is_read => {
                self.journal.limit(Limit::Inbound, None, now);
                self.answer(id, &routes::OVERLOADED, now);
                self.drop_input(id);
            }
            State::AwaitingCallback(_) if is_read => {
                self.journal.limit(Limit::Inbound, None, now);
                self.drop_input(id);
                self.orphan(id, Reason::Error, false);
                self.reject(id, &routes::OVERLOADED, now);
            }
            State::AwaitingCallback(_) => self.drop_callback(id, Limit::Inbound, now),
            // Its event is being written, and it is answered within the same turn: its turn comes
            // with what it leaves then.
            State::Sending => conn.under_way = 0,
            _ => {
                self.journal.limit(Limit::Inbound, None, now);
                self.abort(id);
            }
        }
        self.settle(id, now);
    }

    /// Counts what a stream's socket leaves unsent, and drops the streams that hold most until the
    /// others fit their budget.
    pub(super) fn trim_outbound(&mut self, id: ConnId, now: Time) {
        self.charge(id);
        self.note_behind(id);
        while self.held.outbound > self.settings.limits.max_held {
            let Some(id) = self.furthest_behind() else {
                return;
            };
            match self.conn(id).map(|conn| &conn.state) {
                Some(State::Streaming(_)) => self.drop_stream(id, Limit::Held, now),
                _ => {
                    self.journal.limit(Limit::Held, None, now);
                    self.abort(id);
                }
            }
            self.settle_send(id, false, now);
        }
    }

    /// Notes a bound of what a stream has unsent, unless there is one already.
    fn note_behind(&mut self, id: ConnId) {
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        let bytes = conn.charged.outbound as u64;
        let class = u64::BITS - bytes.leading_zeros();
        if class <= u32::from(conn.behind_class) {
            return;
        }
        conn.behind_class = class as u8;
        self.eviction.behind.push(1 << class, id);
        self.eviction.behind.tidy(&self.conns, Conn::is_behind);
    }

    /// The stream, open or ending, that holds most. Entries are bounds from above: the first one
    /// that is exact is the largest.
    fn furthest_behind(&mut self) -> Option<ConnId> {
        loop {
            let (rank, id) = self.eviction.behind.pop()?;
            let Some(conn) = entry(&mut self.conns, id).filter(|conn| conn.is_behind(rank)) else {
                continue;
            };
            let bytes = conn.charged.outbound as u64;
            if bytes == rank {
                return Some(id);
            }
            // Exact until it changes, and then it is noted by a bound again.
            conn.behind_class = 0;
            if bytes > 0 {
                self.eviction.behind.push(bytes, id);
            }
        }
    }

    // ---- places ----

    /// Whether one more connection fits in. Sockets that are closed but not yet reaped have their
    /// descriptors still, and the internal listener's places are nobody else's.
    pub fn has_place(&self, scope: Scope) -> bool {
        let limits = &self.settings.limits;
        let outsiders = self.conns.len() - self.internal;
        self.conns.len() < limits.max_connections
            && (scope == Scope::Internal
                || outsiders + limits.internal_places < limits.max_connections)
    }

    /// Makes a place for a newcomer, if need be at the cost of whoever only lingers, or has idled
    /// longest between requests. False when nobody can go. To be called, like
    /// [`Gateway::reap`], when no readiness is on its way.
    pub fn make_place(&mut self, scope: Scope, now: Time) -> bool {
        if self.has_place(scope) {
            return true;
        }
        for id in std::mem::take(&mut self.eviction.lingering) {
            if self.is_lingering(id) {
                self.close(id);
            }
        }
        self.reap();
        while !self.has_place(scope) {
            let Some(id) = self.longest_idle(scope, now) else {
                let connections = self.conns.len();
                self.journal.accepting_pauses(connections, now);
                return false;
            };
            self.journal.limit(Limit::Descriptors, None, now);
            self.close(id);
            self.reap();
        }
        true
    }

    /// Who has idled longest, for a newcomer of this scope: strangers are no reason to close a
    /// publisher's connection.
    fn longest_idle(&mut self, scope: Scope, now: Time) -> Option<ConnId> {
        loop {
            while let Some((rank, id)) = self.eviction.idle.pop() {
                let conn = current(&self.conns, id);
                if conn.is_some_and(|conn| conn.idle_rank(scope, now) == Some(rank)) {
                    return Some(id);
                }
            }
            if now < self.eviction.look_at {
                return None;
            }
            let pause = self.conns.len() / LOOKS_PER_MS + 1;
            self.eviction.look_at = now + Duration::from_millis(pause as u64);
            let idle = self.ids().filter_map(|id| {
                let conn = current(&self.conns, id)?;
                Some((conn.idle_rank(scope, now)?, id))
            });
            self.eviction.idle = Ranking(idle.collect());
        }
    }

    fn is_lingering(&self, id: ConnId) -> bool {
        current(&self.conns, id).is_some_and(|conn| matches!(conn.state, State::Lingering { .. }))
    }

    /// Remembers who lingers. Now and then, so seldom that it costs a few steps for each, those who
    /// do not any more are forgotten.
    pub(super) fn note_lingering(&mut self, id: ConnId) {
        if self.eviction.lingering.len() >= 2 * self.conns.len() + 64 {
            self.forget_ended();
        }
        self.eviction.lingering.push(id);
    }

    /// Keeps of those who began to linger the ones who still do.
    fn forget_ended(&mut self) {
        let mut lingering = std::mem::take(&mut self.eviction.lingering);
        lingering.retain(|id| self.is_lingering(*id));
        self.eviction.lingering = lingering;
    }

    /// Forgets all who are gone, and gives their memory back.
    pub(super) fn shrink_eviction(&mut self) {
        self.forget_ended();
        let eviction = &mut self.eviction;
        eviction.lingering.shrink_to_fit();
        eviction.under_way.retain(&self.conns, Conn::is_under_way);
        eviction.under_way.0.shrink_to_fit();
        eviction.behind.retain(&self.conns, Conn::is_behind);
        eviction.behind.0.shrink_to_fit();
        eviction.idle = Ranking::default();
    }
}

/// The slot's tenant if it is the one that is meant.
fn current<S>(conns: &Slab<Conn<S>>, id: ConnId) -> Option<&Conn<S>> {
    conns
        .get(id.index())
        .filter(|conn| conn.generation == id.generation)
}

impl<S> Conn<S> {
    /// Whether the entry of this rank is about the request that is under way now.
    fn is_under_way(&self, rank: u64) -> bool {
        u64::from(self.under_way) == rank
    }

    /// Whether the entry of this rank says what this stream has unsent, or is its one bound.
    fn is_behind(&self, rank: u64) -> bool {
        let is_stream = match self.state {
            State::Streaming(_) => true,
            State::Finishing { is_stream, .. } => is_stream,
            _ => false,
        };
        is_stream && (rank == self.charged.outbound as u64 || rank == 1 << self.behind_class)
    }

    /// The rank among those who idle, if it may be closed for a newcomer of this scope.
    fn idle_rank(&self, scope: Scope, now: Time) -> Option<u64> {
        let is_free = scope == Scope::Internal || self.scope != Scope::Internal;
        match self.state {
            State::Reading {
                since,
                is_begun: false,
                ..
            } if is_free && self.out.is_empty() && since + SETTLING < now => {
                Some(u64::MAX - since.0)
            }
            _ => None,
        }
    }
}
