//! What is true between verbs; checked in debug builds and by the tests.

use std::collections::HashSet;

use super::conn::{Conn, Scope, State};
use super::eviction::Held;
use super::{Gateway, entry};
use crate::time::Time;
use crate::wheel::Tick;

impl<S> Gateway<S> {
    /// Panics when the core contradicts itself.
    pub fn check_invariants(&mut self) {
        self.check_index();
        self.check_sums();
        let ids: Vec<_> = self.ids().collect();
        for id in ids {
            let limits = self.settings.limits.clone();
            let Some(conn) = entry(&mut self.conns, id) else {
                continue;
            };
            let deadline = conn.deadline(&limits);
            if conn.is_closed() {
                assert!(conn.input.is_empty() && conn.out.is_empty());
                assert!(self.dead.contains(&id), "a closed connection that stays");
            } else if deadline < Time::NEVER {
                assert!(
                    conn.armed <= Tick::at(deadline),
                    "a deadline without a timer"
                );
            } else {
                // Only an answer that waits for its event's write has no time of its own.
                let is_tried = matches!(conn.state, State::Sending)
                    && self
                        .pending_send
                        .as_ref()
                        .is_some_and(|send| send.publisher == id);
                assert!(is_tried, "no deadline in {:?}", conn.state);
            }
        }
    }

    /// The index and the streams name each other, one to one.
    fn check_index(&mut self) {
        let mut tokens = HashSet::new();
        for (index, conn) in &self.conns {
            let token = match &conn.state {
                State::AwaitingCallback(awaiting) => awaiting.token,
                State::Streaming(stream) => stream.token,
                _ => continue,
            };
            assert!(tokens.insert(token));
            let id = self
                .streams
                .get(token)
                .expect("a stream that is not indexed");
            assert_eq!(id.index(), index);
            assert_eq!(id.generation, conn.generation);
        }
        assert_eq!(self.streams.len(), tokens.len(), "a token without a stream");
    }

    fn check_sums(&mut self) {
        let mut held = Held::default();
        for (_, conn) in &self.conns {
            assert_eq!(conn.charged, conn.held(), "held bytes are out of date");
            held.outbound += conn.charged.outbound;
            held.inbound += conn.charged.inbound;
        }
        assert_eq!(self.held, held, "held bytes are miscounted");
        let is_awaiting = |state: &State| matches!(state, State::AwaitingCallback(_));
        let awaiting = self
            .conns
            .iter()
            .filter(|(_, conn)| is_awaiting(&conn.state));
        let owed = awaiting.count() + self.owed.len();
        assert_eq!(self.connects + self.disconnects, owed);
        let is_internal = |conn: &Conn<S>| conn.scope == Scope::Internal;
        let internal = self.conns.iter().filter(|(_, conn)| is_internal(conn));
        assert_eq!(self.internal, internal.count());
    }
}
