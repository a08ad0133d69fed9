//! What is true between verbs; checked in debug builds and by the tests.

use std::collections::HashSet;
use std::rc::Rc;

use super::Gateway;
use super::conn::{Conn, Scope, State};
use super::eviction::Held;
use crate::sse::Framing;
use crate::time::Time;
use crate::wheel::Tick;

impl<S> Gateway<S> {
    /// Panics when the core contradicts itself.
    pub fn check_invariants(&self) {
        self.check_index();
        self.check_sums();
        self.check_channels();
        self.check_replays();
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
            assert!(conn.input.is_empty() && conn.out.is_empty() && conn.backlog.is_none());
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
            let is_queued = matches!(conn.state, State::Queueing(_))
                && self.hub.fan_outs.waiting.contains(&conn.id)
                && self.hub.fan_outs.is_full();
            let is_looking =
                matches!(conn.state, State::Looking(_)) && self.hub.looks.contains(&conn.id);
            assert!(
                is_tried || is_queued || is_looking,
                "no deadline in {:?}",
                conn.state
            );
        }
    }

    /// The index and the streams name each other, one to one.
    fn check_index(&self) {
        let mut tokens = HashSet::new();
        for conn in self.conns.iter() {
            let token = match &conn.state {
                State::AwaitingCallback(awaiting) => awaiting.token,
                State::Streaming(stream) if !self.hub.replays.is_ending(conn.id) => stream.token,
                State::Streaming(stream) => {
                    assert_eq!(self.hub.streams.get(stream.token), None);
                    continue;
                }
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

    /// Whoever gets its events of channels from the history has something to come from there.
    fn check_replays(&self) {
        let mut replaying = 0;
        for conn in self.conns.iter().filter(|conn| conn.is_replaying) {
            replaying += 1;
            assert!(conn.state.token().is_some(), "not for a stream");
            assert!(
                self.hub.replays.get(conn.id).is_some(),
                "nothing is to come"
            );
        }
        assert_eq!(self.hub.replays.len(), replaying, "for nobody");
    }

    /// Members and memberships name each other, and only streams have any.
    fn check_channels(&self) {
        let mut memberships = 0;
        for conn in self.conns.iter() {
            let of = |channel| self.hub.channels.holds(channel, conn.id.index());
            let joined: Vec<_> = self.hub.channels.of(&conn.joined).collect();
            assert!(joined.iter().all(|channel| of(*channel)), "not a member");
            assert!(joined.is_empty() || conn.state.token().is_some());
            memberships += joined.len();
        }
        assert_eq!(self.hub.channels.memberships(), memberships);
    }

    fn check_sums(&self) {
        let mut held = Held::default();
        for conn in self.conns.iter() {
            assert_eq!(
                conn.charged,
                conn.held().into(),
                "held bytes are out of date"
            );
            held.outbound += conn.charged.outbound as usize;
            held.inbound += conn.charged.inbound as usize;
        }
        assert_eq!(self.hub.held, held, "held bytes are miscounted");
        let mut frames = HashSet::new();
        let mut shared = 0;
        for backlog in self.conns.iter().filter_map(|conn| conn.backlog.as_ref()) {
            let waiting: usize = backlog.pieces(Framing::Chunked).map(<[u8]>::len).sum();
            assert!(waiting >= backlog.unsent() && backlog.unsent() > 0);
            for frame in backlog.frames() {
                if frames.insert(Rc::as_ptr(frame)) {
                    shared += frame.memory();
                }
            }
        }
        assert_eq!(
            self.hub.shared.memory(),
            shared,
            "shared bytes are miscounted"
        );
        let is_awaiting = |state: &State| matches!(state, State::AwaitingCallback(_));
        let (mut awaiting, mut open) = (0, 0);
        let mut internal = 0;
        for conn in self.conns.iter() {
            awaiting += usize::from(is_awaiting(&conn.state));
            open += u64::from(matches!(conn.state, State::Streaming(_)));
            internal += usize::from(conn.scope == Scope::Internal);
        }
        let calls = &self.hub.calls;
        assert_eq!(calls.connects(), awaiting + calls.orphans());
        assert_eq!(self.conns.internal(), internal);
        let counted = self.hub.journal.counters.open();
        assert_eq!(counted, open, "streams are miscounted");
    }
}
