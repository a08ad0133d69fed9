//! Time: which deadlines are met, and what that means in each state.

use super::conn::State;
use super::journal::Limit;
use super::{ConnId, Gateway, entry};
use crate::time::Time;
use crate::wheel::Tick;

/// Timers that are looked at in one [`Gateway::tick`]; the rest waits for the next turn, so that a
/// storm of heartbeats cannot keep sends waiting.
const EXPIRY_BUDGET: usize = 1024;

impl<S> Gateway<S> {
    /// Time has passed: what is due is done by [`Gateway::effect`]. True when more timers are due
    /// than one call takes up.
    pub fn tick(&mut self, now: Time) -> bool {
        self.due_at = now;
        let is_more = self.wheel.expire(now, EXPIRY_BUDGET, &mut self.due);
        self.journal.tick(now);
        self.economize(now);
        is_more
    }

    /// A timer fired: acts if the deadline has come and has not moved meanwhile.
    pub(super) fn expired(&mut self, index: u32, now: Time) {
        let Some(id) = self.at(index as usize) else {
            return;
        };
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        conn.armed = Tick::NEVER;
        if conn.deadline(&self.settings.limits) <= now {
            self.deadline_met(id, now);
        }
        self.settle(id, now);
    }

    fn deadline_met(&mut self, id: ConnId, now: Time) {
        let stall = self.settings.limits.stall_timeout;
        let Some(conn) = self.conn(id) else {
            return;
        };
        if !conn.out.is_empty() && conn.stalled_since + stall <= now {
            return match conn.state {
                State::Streaming(_) => self.drop_stream(id, Limit::Stall, now),
                State::AwaitingCallback(_) => self.drop_callback(id, Limit::Stall, now),
                _ => {
                    self.journal.limit(Limit::Stall, None, now);
                    self.abort(id);
                }
            };
        }
        match &conn.state {
            State::Reading {
                is_begun: false, ..
            } => self.silent_too_long(id, now),
            State::Reading { .. } | State::ReadingBody(_) => self.request_timed_out(id, now),
            State::AwaitingCallback(_) => self.callback_timed_out(id, now),
            State::Streaming(_) => self.beat(id, now),
            State::Lingering { .. } => self.close(id),
            State::Sending | State::Finishing { .. } | State::Closed => {}
        }
    }

    fn silent_too_long(&mut self, id: ConnId, now: Time) {
        match self.conn(id) {
            Some(conn) if conn.is_new => self.journal.limit(Limit::Silence, None, now),
            _ => self.journal.idled(),
        }
        self.close(id);
    }
}
