//! What every verb ends with: a connection is brought to rest; and the one way to close one.

use super::conn::{Conn, State};
use super::hub::Hub;
use super::{Effect, LINGER};
use crate::time::Time;
use crate::wheel::Tick;

impl<S> Conn<S> {
    /// Brings a connection to rest: writes out, ends what is finished, counts its bytes, arms its
    /// deadline. One that is ready to be served is brought to rest when it was.
    pub(super) fn settle(&mut self, hub: &mut Hub, now: Time) {
        if self.is_closed() || self.is_ready {
            return;
        }
        if self.is_composed() {
            self.catch_up(hub, now);
        }
        if self.is_written() {
            if let State::Finishing { discarded, .. } = self.state {
                if self.is_eof {
                    return self.close(hub);
                }
                let until = now + LINGER;
                self.state = State::Lingering { until, discarded };
                hub.effect(Effect::Fin(self.id));
                hub.eviction.lingering.push(self.id);
            }
        } else if !self.is_blocked
            && !self.is_flush_queued
            // The answers to a batch of pipelined sends leave together, behind their events.
            && !matches!(self.state, State::Sending)
        {
            self.is_flush_queued = true;
            hub.effect(Effect::Flush(self.id));
        }
        let deadline = self.deadline(&hub.settings.limits);
        if Tick::at(deadline) < self.armed && deadline < Time::NEVER {
            self.armed = hub.wheel.arm(self.id.index, deadline);
        }
        self.charge(hub);
    }

    /// Has what was kept served, and the connection brought to rest, once the effects so far are
    /// carried out: one verb may bring many to this, and each may send next.
    pub(super) fn await_serving(&mut self, hub: &mut Hub, now: Time) {
        if !std::mem::replace(&mut self.is_ready, true) {
            hub.ready.push_back((self.id, now));
        }
    }

    /// The one way to close a connection; what it means to a stream is decided before.
    pub(super) fn close(&mut self, hub: &mut Hub) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.input.clear(&mut hub.spares);
        self.out.clear(&mut hub.spares);
        self.forget_backlog(hub);
        hub.wheel.cancel(self.id.index);
        hub.dead.push(self.id);
        self.charge(hub);
    }

    /// Closes a connection with a reset, so that the kernel drops what it still holds for it.
    pub(super) fn abort(&mut self, hub: &mut Hub) {
        hub.effect(Effect::Abort(self.id));
        self.close(hub);
    }
}
