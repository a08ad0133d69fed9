//! Whose socket is read next, and how much of all of them in one turn of the loop.
//!
//! Laws: a turn ends, however much there is to read. Who comes now waits for a little of each that
//! came before, not for what all of them have sent; who sends more than that is cut short, and goes
//! on in the order of being cut short. Each of the two has half of every turn for certain.

use std::collections::VecDeque;

use crate::gateway::ConnId;

/// Bytes read in one turn, of all connections: some ten milliseconds of the smallest requests.
const BYTES: usize = 256 * 1024;

/// Connections that are to be read, and what is left of the turn for them. A connection is in one
/// of the queues at the most; whoever puts it there sees to that.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Bytes.
    left: usize,
    /// Announced by readiness, and not looked at since.
    arrived: VecDeque<ConnId>,
    /// Looked at, and there may be more.
    unfinished: VecDeque<ConnId>,
    /// Those of the unfinished that were there when it became theirs.
    rest: usize,
}

impl Turn {
    pub(super) fn begin(&mut self) {
        self.left = BYTES;
    }

    /// So many bytes were read.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Whether nobody is to be read.
    pub(super) fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.unfinished.is_empty()
    }

    /// Whether one that arrives can be looked at on the spot.
    pub(super) fn is_free(&self) -> bool {
        self.arrived.is_empty() && self.left > BYTES / 2
    }

    pub(super) fn arrive(&mut self, id: ConnId) {
        self.arrived.push_back(id);
    }

    pub(super) fn cut_short(&mut self, id: ConnId) {
        self.unfinished.push_back(id);
    }

    /// Who arrived first, as long as it is their half.
    pub(super) fn next_arrived(&mut self) -> Option<ConnId> {
        if self.left > BYTES / 2 {
            self.arrived.pop_front()
        } else {
            None
        }
    }

    /// From here on it is the turn of those who were cut short.
    pub(super) fn go_on(&mut self) {
        self.rest = self.unfinished.len();
    }

    /// Who was cut short first, each once; then, if anything is left, who arrived.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        if self.left == 0 {
            return None;
        }
        if self.rest == 0 {
            return self.arrived.pop_front();
        }
        self.rest -= 1;
        self.unfinished.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::gateway::{Gateway, Scope, Settings};
    use crate::time::Time;

    const EACH: usize = 64 * 1024;

    fn ids(number: usize) -> Vec<ConnId> {
        let settings = Settings {
            is_configured: true,
            heartbeat: std::time::Duration::from_secs(15),
            limits: Limits::default(),
        };
        let mut gateway = Gateway::new(settings, |_| ());
        let accept = |_| gateway.accept((), Scope::Whole, Time(0));
        (0..number).map(accept).collect()
    }

    #[test]
    fn a_turn_ends() {
        let ids = ids(100);
        let mut turn = Turn::default();
        ids.iter().for_each(|id| turn.cut_short(*id));
        for begin in [0, 4, 8] {
            turn.begin();
            turn.go_on();
            for id in &ids[begin..begin + BYTES / EACH] {
                assert_eq!(turn.next(), Some(*id));
                turn.spend(EACH);
                turn.cut_short(*id);
            }
            assert_eq!(turn.next(), None);
        }
    }

    #[test]
    fn each_goes_on_once() {
        let ids = ids(3);
        let mut turn = Turn::default();
        ids.iter().for_each(|id| turn.cut_short(*id));
        turn.begin();
        turn.go_on();
        for id in &ids {
            assert_eq!(turn.next(), Some(*id));
            turn.cut_short(*id);
        }
        assert_eq!(turn.next(), None);
        assert!(!turn.is_empty());
    }

    #[test]
    fn who_comes_does_not_wait_for_who_goes_on_nor_the_other_way_round() {
        let ids = ids(9);
        let (crowd, newcomer) = (&ids[..8], ids[8]);
        let mut turn = Turn::default();
        crowd.iter().for_each(|id| turn.cut_short(*id));
        turn.begin();
        // On the spot, until half of the turn is used.
        assert!(turn.is_free());
        turn.spend(BYTES / 2);
        assert!(!turn.is_free());
        turn.arrive(newcomer);
        assert_eq!(turn.next_arrived(), None);
        turn.go_on();
        for id in &crowd[..2] {
            assert_eq!(turn.next(), Some(*id));
            turn.spend(EACH);
            turn.cut_short(*id);
        }
        assert_eq!(turn.next(), None);
        turn.begin();
        assert!(!turn.is_free(), "somebody came before");
        assert_eq!(turn.next_arrived(), Some(newcomer));
        assert!(turn.is_free());
    }

    #[test]
    fn what_nobody_else_needs_is_for_who_came() {
        let ids = ids(2);
        let mut turn = Turn::default();
        turn.begin();
        turn.spend(BYTES / 2);
        ids.iter().for_each(|id| turn.arrive(*id));
        turn.go_on();
        assert_eq!(turn.next(), Some(ids[0]));
        assert_eq!(turn.next(), Some(ids[1]));
        assert_eq!(turn.next(), None);
        assert!(turn.is_empty());
    }
}
