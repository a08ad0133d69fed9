//! Who pays when a total is full (contract, section 6).
//!
//! Three budgets, so that nobody pays for somebody else: what is held towards clients costs the
//! stream that holds most, what is held from publishers and strangers costs the youngest request
//! under way, and a place in a full house is the connection's that has idled longest.

use std::collections::BinaryHeap;
use std::fmt::Display;
use std::time::Duration;

use super::conn::{Conn, Scope, State};
use super::conns::Conns;
use super::hub::Hub;
use super::limit::Limit;
use super::{ConnId, Effect, Gateway, routes};
use crate::callback::Reason;
use crate::time::Time;

/// A new connection, or one that was just answered, may speak for so long before its place is
/// another's.
const SETTLING: Duration = Duration::from_millis(20);

/// Connections that one look for an idle one passes in a millisecond, at the least: in a large
/// house such looks are so far apart that they stay a small part of the loop's time.
const LOOKS_PER_MS: usize = 1000;

/// Stands for the class of a stream whose bytes have been added up.
const COUNTED: u8 = u8::MAX;

/// Bytes of memory that are held, by the budget that they count against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Towards clients: callback windows, and what streams have unsent.
    pub(super) outbound: usize,
    /// From publishers and strangers: requests under way, requests behind one that waits, answers
    /// that are not read.
    pub(super) inbound: usize,
}

/// The same of one connection, which settings bound to less than 4 GiB each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charged {
    pub(super) outbound: u32,
    pub(super) inbound: u32,
}

impl From<Held> for Charged {
    fn from(held: Held) -> Charged {
        Charged {
            outbound: u32::try_from(held.outbound).unwrap_or(u32::MAX),
            inbound: u32::try_from(held.inbound).unwrap_or(u32::MAX),
        }
    }
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
    fn tidy<S>(&mut self, conns: &Conns<S>, is_current: fn(&Conn<S>, u64) -> bool) {
        if self.0.len() > 2 * conns.len() + 64 {
            self.retain(conns, is_current);
        }
    }

    fn retain<S>(&mut self, conns: &Conns<S>, is_current: fn(&Conn<S>, u64) -> bool) {
        self.0.retain(|(rank, id)| {
            let conn = conns.get(*id);
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

    /// Counts what a stranger or a publisher leaves with us, and lets the youngest requests under
    /// way go until the others fit their budget.
    pub(super) fn evict_inbound(&mut self, id: ConnId, now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        conn.charge(hub);
        if conn.note_under_way(hub) {
            let under_way = &mut self.hub.eviction.under_way;
            under_way.tidy(&self.conns, Conn::is_under_way);
        }
        while self.hub.held.inbound > self.hub.settings.limits.max_inbound {
            let Some((rank, id)) = self.hub.eviction.under_way.pop() else {
                return;
            };
            if let Some((conn, hub)) = self.both(id)
                && conn.is_under_way(rank)
            {
                conn.turn_away(hub, now);
                conn.settle(hub, now);
            }
        }
    }

    /// Counts what a stream's socket leaves unsent, and drops the streams that hold most until the
    /// others fit their budget.
    pub(super) fn evict_outbound(&mut self, id: ConnId, now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        conn.charge(hub);
        if conn.note_behind(hub) {
            let behind = &mut self.hub.eviction.behind;
            behind.tidy(&self.conns, Conn::is_behind);
        }
        while self.hub.outbound() > self.hub.settings.limits.max_held {
            let Some(id) = self.drop_furthest_behind(now) else {
                return;
            };
            self.settle_send(id, false, now);
        }
    }

    /// Drops the stream, open or ending, that holds most. Entries are bounds from above: the first
    /// one that is exact is the largest.
    fn drop_furthest_behind(&mut self, now: Time) -> Option<ConnId> {
        loop {
            let (rank, id) = self.hub.eviction.behind.pop()?;
            let Some((conn, hub)) = self.both(id) else {
                continue;
            };
            if !conn.is_behind(rank) {
                continue;
            }
            let bytes = conn.behind() as u64;
            if bytes == rank {
                conn.drop_behind(hub, now);
                return Some(id);
            }
            // Exact until it changes, and then it is noted by a bound again.
            conn.behind_class = 0;
            if bytes > 0 {
                hub.eviction.behind.push(bytes, id);
            }
        }
    }

    /// Bytes that the sockets of streams did not take. Those are looked at who are behind, or were so
    /// since the last look: who is not any more is forgotten.
    pub(super) fn unsent(&mut self) -> u64 {
        let Gateway { conns, hub, .. } = self;
        let mut entries = std::mem::take(&mut hub.eviction.behind.0).into_vec();
        let mut unsent = 0;
        entries.retain(|(rank, id)| {
            let Some(conn) = conns.get_mut(*id) else {
                return false;
            };
            let is_first = conn.behind_class < COUNTED && conn.is_behind(*rank);
            if is_first {
                unsent += conn.unsent() as u64;
                conn.behind_class = COUNTED;
            }
            is_first
        });
        for (rank, id) in &mut entries {
            if let Some(conn) = conns.get_mut(*id) {
                (conn.behind_class, *rank) = conn.behind_bound();
            }
        }
        entries.retain(|(rank, _)| *rank > 1);
        hub.eviction.behind = Ranking(entries.into());
        unsent
    }

    // ---- places ----

    /// Whether one more connection fits in. Sockets that are closed but not yet reaped have their
    /// descriptors still, and the internal listener's places are nobody else's.
    pub fn has_place(&self, scope: Scope) -> bool {
        let limits = &self.hub.settings.limits;
        let outsiders = self.conns.len() - self.conns.internal();
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
        for id in std::mem::take(&mut self.hub.eviction.lingering) {
            if let Some((conn, hub)) = self.both(id)
                && conn.is_lingering()
            {
                conn.close(hub);
            }
        }
        self.reap();
        while !self.has_place(scope) {
            let idle = self.longest_idle(scope, now);
            let Some((conn, hub)) = idle.and_then(|id| self.both(id)) else {
                let connections = self.conns.len();
                self.hub.journal.accepting_pauses(connections, now);
                return false;
            };
            hub.journal.limit(Limit::Descriptors, None, now);
            conn.close(hub);
            self.reap();
        }
        true
    }

    /// A connection could not be accepted for want of descriptors, or memory; `error` says so.
    pub fn descriptors_ran_out(&mut self, error: impl Display, now: Time) {
        self.hub.journal.descriptors_ran_out(error, now);
    }

    /// Who has idled longest, for a newcomer of this scope: strangers are no reason to close a
    /// publisher's connection.
    fn longest_idle(&mut self, scope: Scope, now: Time) -> Option<ConnId> {
        let Gateway { conns, hub, .. } = self;
        let eviction = &mut hub.eviction;
        loop {
            while let Some((rank, id)) = eviction.idle.pop() {
                let conn = conns.get(id);
                if conn.is_some_and(|conn| conn.idle_rank(scope, now) == Some(rank)) {
                    return Some(id);
                }
            }
            if now < eviction.look_at {
                return None;
            }
            let pause = conns.len() / LOOKS_PER_MS + 1;
            eviction.look_at = now + Duration::from_millis(pause as u64);
            let idle = conns
                .iter()
                .filter_map(|conn| Some((conn.idle_rank(scope, now)?, conn.id)));
            eviction.idle = Ranking(idle.collect());
        }
    }

    // ---- what is remembered ----

    /// Forgets who does not linger any more, so seldom that it costs a few steps for each.
    pub(super) fn forget_ended(&mut self) {
        let Gateway { conns, hub, .. } = self;
        let lingering = &mut hub.eviction.lingering;
        if lingering.len() >= 2 * conns.len() + 64 {
            lingering.retain(|id| conns.get(*id).is_some_and(Conn::is_lingering));
        }
    }

    /// Forgets all who are gone, and gives their memory back.
    pub(super) fn shrink_eviction(&mut self) {
        let Gateway { conns, hub, .. } = self;
        let eviction = &mut hub.eviction;
        let lingering = &mut eviction.lingering;
        lingering.retain(|id| conns.get(*id).is_some_and(Conn::is_lingering));
        lingering.shrink_to_fit();
        eviction.under_way.retain(conns, Conn::is_under_way);
        eviction.under_way.0.shrink_to_fit();
        eviction.behind.retain(conns, Conn::is_behind);
        eviction.behind.0.shrink_to_fit();
        eviction.idle = Ranking::default();
    }
}

impl<S> Conn<S> {
    /// Brings the totals of held bytes up to date with one connection.
    pub(super) fn charge(&mut self, hub: &mut Hub) {
        let held = Charged::from(self.held());
        let was = std::mem::replace(&mut self.charged, held);
        let total = &mut hub.held;
        total.outbound = total.outbound - was.outbound as usize + held.outbound as usize;
        total.inbound = total.inbound - was.inbound as usize + held.inbound as usize;
        if held.inbound == 0 && self.under_way > 0 {
            let rank = std::mem::take(&mut self.under_way);
            hub.eviction.under_way.drop_first(rank.into());
        }
    }

    /// Gives the request under way its number, if it has none and needs one.
    fn note_under_way(&mut self, hub: &mut Hub) -> bool {
        let is_new = self.under_way == 0 && self.charged.inbound > 0;
        if is_new {
            let eviction = &mut hub.eviction;
            eviction.requests = eviction.requests.wrapping_add(1).max(1);
            self.under_way = eviction.requests;
            eviction.under_way.push(self.under_way.into(), self.id);
        }
        is_new
    }

    /// Notes a bound of what a stream has unsent, unless there is one already.
    fn note_behind(&mut self, hub: &mut Hub) -> bool {
        let (class, rank) = self.behind_bound();
        let is_new = class > self.behind_class;
        if is_new {
            self.behind_class = class;
            hub.eviction.behind.push(rank, self.id);
        }
        is_new
    }

    /// The smallest bound of what a stream has unsent: which power of two, and the bytes of that. One
    /// byte is the bound of none.
    fn behind_bound(&self) -> (u8, u64) {
        let bytes = self.behind() as u64;
        let class = u64::BITS - bytes.leading_zeros();
        (class as u8, 1 << class)
    }

    /// Ends a connection from which too much is held.
    fn turn_away(&mut self, hub: &mut Hub, now: Time) {
        let is_read = self.out.is_empty() || !self.is_blocked;
        match self.state {
            State::Reading { .. }
            | State::ReadingBody(_)
            | State::Queueing(_)
            | State::Looking(_)
                if is_read =>
            {
                if let State::Queueing(_) | State::Looking(_) = self.state {
                    // It was not read meanwhile.
                    hub.effect(Effect::Read(self.id));
                }
                hub.journal.limit(Limit::Inbound, None, now);
                self.answer(hub, &routes::OVERLOADED, now);
                self.drop_input(hub);
            }
            State::AwaitingCallback(_) if is_read => {
                hub.journal.limit(Limit::Inbound, None, now);
                self.drop_input(hub);
                self.turn_back(hub, Reason::Error, &routes::OVERLOADED, now);
            }
            State::AwaitingCallback(_) => self.drop_callback(hub, Limit::Inbound, now),
            // Its event is being written, and it is answered within the same turn: its turn comes
            // with what it leaves then.
            State::Sending => self.under_way = 0,
            _ => {
                hub.journal.limit(Limit::Inbound, None, now);
                self.abort(hub);
            }
        }
    }

    /// Ends a stream, open or ending, towards which too much is held.
    fn drop_behind(&mut self, hub: &mut Hub, now: Time) {
        if let State::Streaming(_) = self.state {
            self.drop_stream(hub, Limit::Held, now);
        } else {
            hub.journal.limit(Limit::Held, None, now);
            self.abort(hub);
        }
    }

    /// Bytes that wait for a stream's client, be they its own or shared; those of its own count as
    /// the memory that they need. Nobody is behind with what his socket was not offered yet.
    fn behind(&self) -> usize {
        let own = self.charged.outbound as usize;
        match &self.backlog {
            Some(backlog) if self.is_blocked => own + backlog.unsent(),
            _ => own,
        }
    }

    fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Whether the entry of this rank is about the request that is under way now.
    fn is_under_way(&self, rank: u64) -> bool {
        u64::from(self.under_way) == rank
    }

    /// Whether the entry of this rank says what this stream has unsent, or is its one bound.
    fn is_behind(&self, rank: u64) -> bool {
        let is_stream = match self.state {
            State::Streaming(_) => true,
            State::Finishing { stream, .. } => stream.is_some(),
            _ => false,
        };
        is_stream && (rank == self.behind() as u64 || rank == 1 << self.behind_class)
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
