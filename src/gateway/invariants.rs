//! What is true between verbs; checked in debug builds and by the tests.

use std::collections::HashSet;

use super::Gateway;
use super::conn::{Conn, Scope, State};
use super::eviction::Held;
use crate::time::Time;
use crate::wheel::Tick;

impl<S> Gateway<S> {
    /// Panics when the core contradicts itself.
    pub fn check_invariants(&self) {
        self.check_index();
        self.check_sums();
        for conn in self.conns.iter() {
            self.check_conn(conn);
        }
    }

    fn check_conn(&self, conn: &Conn<S>) {
        let deadline = conn.deadline(&self.hub.settings.limits);
        assert!(
            conn.is_closed() || !conn.is_ready,
            "nobody serves what is ready"
        );
        if conn.is_closed() {
            assert!(conn.input.is_empty() && conn.out.is_empty());
            let is_dead = self.hub.dead.contains(&conn.id);
            assert!(is_dead, "a closed connection that stays");
        } else if deadline < Time::NEVER {
            assert!(
                conn.armed <= Tick::at(deadline),
                "a deadline without a timer"
            );
        } else {
            // Only an answer that waits for its event's write has no time of its own.
            let pending = self.hub.pending_send.as_ref();
            let is_tried = matches!(conn.state, State::Sending)
                && pending.is_some_and(|send| send.publisher == conn.id);
            assert!(is_tried, "no deadline in {:?}", conn.state);
        }
    }

    /// The index and the streams name each other, one to one.
    fn check_index(&self) {
        let mut tokens = HashSet::new();
        for conn in self.conns.iter() {
            let token = match &conn.state {
                State::AwaitingCallback(awaiting) => awaiting.token,
                State::Streaming(stream) => stream.token,
                _ => continue,
            };
            assert!(tokens.insert(token));
            assert_eq!(self.hub.streams.get(token), Some(conn.id));
        }
        assert_eq!(
            self.hub.streams.len(),
            tokens.len(),
            "a token without a stream"
        );
    }

    fn check_sums(&self) {
        let mut held = Held::default();
        for conn in self.conns.iter() {
            assert_eq!(conn.charged, conn.held(), "held bytes are out of date");
            held.outbound += conn.charged.outbound;
            held.inbound += conn.charged.inbound;
        }
        assert_eq!(self.hub.held, held, "held bytes are miscounted");
        let is_awaiting = |state: &State| matches!(state, State::AwaitingCallback(_));
        let mut awaiting = 0;
        let mut internal = 0;
        for conn in self.conns.iter() {
            awaiting += usize::from(is_awaiting(&conn.state));
            internal += usize::from(conn.scope == Scope::Internal);
        }
        let calls = &self.hub.calls;
        assert_eq!(calls.connects(), awaiting + calls.orphans());
        assert_eq!(self.conns.internal(), internal);
    }
}
