//! Who goes from a full house for a newcomer, against what the model knows of who idles.

use std::time::Duration;

use ssegateway::gateway::Scope;

use super::super::choices::Choices;
use super::super::peer::Peer;
use super::World;

/// Whoever came or was answered may speak for so long.
const SETTLING: Duration = Duration::from_millis(20);

impl<C: Choices> World<C> {
    /// The listener that the next client comes through.
    pub(super) fn scope(&mut self) -> Scope {
        match self.limits.internal_places {
            0 => Scope::Whole,
            _ if self.choices.one_in(3) => Scope::Internal,
            _ => Scope::Public,
        }
    }

    /// Whether there is a place for a newcomer, be it one that somebody had.
    pub(super) fn find_place(&mut self, scope: Scope) -> bool {
        let is_full = !self.gw.has_place(scope);
        let is_made = self.gw.make_place(scope, self.now);
        assert!(self.gw.effect().is_none(), "a close that asks for more");
        self.gw.check_invariants();
        let is_gone = |peer: &Peer| !peer.is_gone && self.gw.at(peer.id.index()) != Some(peer.id);
        let (gone, stay): (Vec<usize>, Vec<usize>) = (0..self.peers.len())
            .filter(|&at| !self.peers[at].is_gone)
            .partition(|&at| is_gone(&self.peers[at]));
        assert!(is_full || gone.is_empty(), "closed though there is room");
        let idle = |peer: &Peer| self.is_idle(peer, scope);
        for &at in &gone {
            self.check_goes(at, &stay, scope);
        }
        let lingers = |at: &&usize| self.peers[**at].has_fin;
        assert!(!is_full || !stay.iter().any(|at| self.peers[*at].has_fin));
        let idlers = gone.len() - gone.iter().filter(lingers).count();
        assert!(idlers <= usize::from(is_made), "more than one for one");
        // There is one look for those who idle in a millisecond.
        let is_looked = self.looked_at == Some(self.now);
        let has_idle = stay.iter().any(|at| idle(&self.peers[*at]));
        assert!(is_made || !has_idle || is_looked, "nobody goes");
        if is_full {
            self.looked_at = Some(self.now);
        }
        self.note_place(is_made, idlers);
        for at in gone {
            self.peers[at].is_gone = true;
        }
        is_made
    }

    fn note_place(&mut self, is_made: bool, idlers: usize) {
        if !is_made {
            self.note("no place");
        } else if idlers > 0 {
            self.note("closed for a newcomer");
        }
    }

    /// Whoever goes only lingers, or has idled longest. Strangers are no reason for a publisher to
    /// go.
    fn check_goes(&self, at: usize, stay: &[usize], scope: Scope) {
        let peer = &self.peers[at];
        if peer.has_fin || peer.is_noise {
            return;
        }
        assert!(self.is_idle(peer, scope), "one that does not idle has gone");
        // One look serves several newcomers; those of the internal listener may be left out then.
        let is_looked_at = |other: &&Peer| other.scope != Scope::Internal;
        for other in stay.iter().map(|at| &self.peers[*at]).filter(is_looked_at) {
            let is_longer = self.is_idle(other, scope) && other.last_active < peer.last_active;
            assert!(!is_longer, "another idles for longer");
        }
    }

    fn is_idle(&self, peer: &Peer, scope: Scope) -> bool {
        let is_free = scope == Scope::Internal || peer.scope != Scope::Internal;
        is_free && peer.is_idle() && peer.last_active + SETTLING < self.now
    }
}
