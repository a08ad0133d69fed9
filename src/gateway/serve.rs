//! The requests of one connection, one after the other.

use super::request::Step;
use super::{ConnId, Effect, Gateway};
use crate::time::Time;

impl<S> Gateway<S> {
    /// Serves the requests at the front of `bytes` and gives the number of bytes used up.
    pub(super) fn serve(&mut self, id: ConnId, bytes: &[u8], now: Time) -> usize {
        let mut at = 0;
        while let Some((conn, hub)) = self.both(id) {
            match conn.read(hub, &bytes[at..], now) {
                Step::Used(n) => at += n,
                Step::Wait(n) => return at + n,
                Step::Send { used, length } => {
                    at += used;
                    self.send(id, &bytes[at - length..at], now);
                }
                Step::SendKept { used, mut content } => {
                    at += used;
                    self.send(id, content.bytes(), now);
                    content.clear(&mut self.hub.spares);
                }
                Step::Look { used, what } => {
                    at += used;
                    self.look(id, what);
                }
            }
        }
        at
    }

    /// Serves what was kept because it came too early, or in pieces, and brings the connection to
    /// rest.
    pub(super) fn serve_kept(&mut self, id: ConnId, now: Time) {
        let Some((conn, hub)) = self.both(id) else {
            return;
        };
        conn.is_ready = false;
        let resumes = conn.may_resume(hub);
        conn.is_paused &= !resumes;
        let mut kept = conn.input.take();
        let used = self.serve(id, kept.bytes(), now);
        kept.consume(used, &mut self.hub.spares);
        match self.both(id) {
            Some((conn, hub)) => {
                conn.put_back(hub, kept);
                if resumes && conn.wants_input() {
                    hub.effect(Effect::Read(id));
                }
            }
            None => kept.clear(&mut self.hub.spares),
        }
        self.evict_inbound(id, now);
        self.settle(id, now);
    }
}
