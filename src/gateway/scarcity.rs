//! Scarce descriptors: who goes first when the house is full.

use super::conn::State;
use super::{ConnId, Gateway};
use crate::time::Time;

impl<S> Gateway<S> {
    /// Ends the patience with connections that are over but for their peer's FIN; to be called when
    /// descriptors run short. True if that closed any.
    pub fn shed(&mut self) -> bool {
        let before = self.dead.len();
        for id in std::mem::take(&mut self.lingering) {
            if self.is_lingering(id) {
                self.close(id);
            }
        }
        self.dead.len() > before
    }

    fn is_lingering(&self, id: ConnId) -> bool {
        let tenant = self.conns.get(id.index());
        tenant.is_some_and(|conn| {
            conn.generation == id.generation && matches!(conn.state, State::Lingering { .. })
        })
    }

    /// Remembers who lingers. Now and then, so seldom that it costs a few steps for each, those who
    /// do not any more are forgotten.
    pub(super) fn note_lingering(&mut self, id: ConnId) {
        if self.lingering.len() >= 2 * self.conns.len() + 64 {
            self.forget_ended();
        }
        self.lingering.push(id);
    }

    /// Keeps of those who began to linger the ones who still do.
    pub(super) fn forget_ended(&mut self) {
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain(|id| self.is_lingering(*id));
        self.lingering = lingering;
    }

    /// Tells the log that no connection is accepted until some have ended.
    pub fn accepting_pauses(&mut self, now: Time) {
        let connections = self.counts().connections;
        self.journal.accepting_pauses(connections, now);
    }
}
