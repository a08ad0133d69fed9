//! Time: which deadlines are met, and what that means in each state.

use super::Gateway;
use super::conn::{Conn, State};
use super::hub::Hub;
use super::limit::Limit;
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
        let is_more = self.hub.wheel.expire(now, EXPIRY_BUDGET, &mut self.due);
        self.hub.journal.tick(now);
        self.hub.history.expire(now);
        self.trim(now);
        is_more
    }

    /// A timer fired: acts if the deadline has come and has not moved meanwhile.
    pub(super) fn expired(&mut self, index: u32, now: Time) {
        let id = self.conns.at(index as usize);
        let Some((conn, hub)) = id.and_then(|id| self.both(id)) else {
            return;
        };
        conn.armed = Tick::NEVER;
        if conn.deadline(&hub.settings.limits) <= now {
            conn.deadline_met(hub, now);
        }
        conn.settle(hub, now);
    }
}

impl<S> Conn<S> {
    fn deadline_met(&mut self, hub: &mut Hub, now: Time) {
        let stall = hub.settings.limits.stall_timeout;
        if !self.is_written() && self.stalled_since.time() + stall <= now {
            return match self.state {
                State::Streaming(_) => self.drop_stream(hub, Limit::Stall, now),
                State::AwaitingCallback(_) => self.drop_callback(hub, Limit::Stall, now),
                _ => {
                    hub.journal.limit(Limit::Stall, None, now);
                    self.abort(hub);
                }
            };
        }
        match &self.state {
            State::Reading {
                is_begun: false, ..
            } => self.silent_too_long(hub, now),
            State::Reading { .. } | State::ReadingBody(_) => self.request_timed_out(hub, now),
            State::AwaitingCallback(_) => self.callback_timed_out(hub, now),
            State::Streaming(stream) if stream.ends.time() <= now => self.outlive(hub, now),
            State::Streaming(_) => self.beat(hub, now),
            State::Lingering { .. } => self.close(hub),
            State::Sending
            | State::Queueing(_)
            | State::Looking(_)
            | State::Finishing { .. }
            | State::Closed => {}
        }
    }

    fn silent_too_long(&mut self, hub: &mut Hub, now: Time) {
        if self.is_new {
            hub.journal.limit(Limit::Silence, None, now);
        } else {
            hub.journal.idled();
        }
        self.close(hub);
    }
}
