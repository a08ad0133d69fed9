//! What may be full. The model knows bytes, not memory: it has bounds from above, so that whoever
//! pays while there is room for certain is found out.

use std::time::Duration;

use ssegateway::gateway::Scope;

use super::super::choices::Choices;
use super::super::model::{Life, Token};
use super::super::peer::{Peer, Reading};
use super::World;

/// At most what the event of a callback's answer takes, and what one answer does.
const EVENT: usize = 2_600;
const ANSWER: usize = 512;

/// At most what a request costs whose header fields are kept, and what the fields cost that clients
/// have in common; noise has some of its own.
const REQUEST: usize = 70;
const FIELDS: usize = 140;
const NOISE: usize = 400;

/// For unsent bytes without progress, and how long a peer may be silent.
const STALL: Duration = Duration::from_secs(30);

/// At most what an event takes beside its bytes, as one of those that wait.
const BESIDE: usize = 160;

/// At most the memory of a queue with so many bytes in it.
fn queue(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => (bytes + bytes / 2).max(1088) + 256,
    }
}

/// Answers, at most, that a client may be given within a step.
fn answers(peer: &Peer) -> usize {
    let due = peer.whole().saturating_sub(peer.answered_before);
    match peer.is_noise {
        true => 10 * peer.delivered,
        false => ANSWER * due,
    }
}

fn untaken(peer: &Peer) -> usize {
    peer.untaken_before.max(peer.untaken())
}

impl<C: Choices> World<C> {
    fn here(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.is_gone)
    }

    /// What is held from publishers and strangers.
    pub(super) fn is_inbound_full(&self) -> bool {
        let of = |peer: &Peer| {
            let is_settled = peer.answered == peer.answered_before;
            if peer.has_stream && is_settled {
                return 0;
            }
            let kept = match peer.reading {
                Reading::Over if is_settled => 0,
                _ => peer.fresh(),
            };
            2 * queue(kept) + kept + queue(untaken(peer) + answers(peer))
        };
        self.here().map(of).sum::<usize>() > self.limits.max_inbound
    }

    /// At most how many bytes of events the step has brought: an event takes less than the request
    /// that it came in, or was pending before.
    fn fresh(&self) -> usize {
        let sends = |peer: &&Peer| !peer.is_noise && peer.scope != Scope::Public;
        let sent = self.here().filter(sends).map(Peer::fresh);
        let of_answer = if self.is_answering { EVENT } else { 0 };
        of_answer + sent.sum::<usize>() + self.fanned_bytes
    }

    /// What is held towards clients.
    pub(super) fn is_outbound_full(&self) -> bool {
        let is_stream = |peer: &&Peer| peer.is_noise || peer.token.is_some() || peer.is_refused;
        let is_fanned = usize::from(self.fanned_bytes > 0);
        let unsent = self.here().filter(is_stream);
        let unsent = unsent.map(|peer| queue(untaken(peer).max(is_fanned)));
        // Of what ended with the step nothing waits any more, but it did.
        let waits = |token: &&Token| token.life != Life::Over || token.was != Life::Over;
        let buffered = self.tokens.iter().filter(waits).map(|token| {
            let (bytes, events) = token.waiting();
            queue(bytes.max(1)) + BESIDE * (events + 8)
        });
        let fresh = queue(self.fresh().max(1));
        unsent.chain(buffered).sum::<usize>() + fresh > self.limits.max_held
    }

    /// Header fields of streams and of callbacks that wait, with one request more.
    pub(super) fn is_kept_full(&self) -> bool {
        let is_there = |token: &&Token| token.life != Life::Over || token.was != Life::Over;
        let there = self.tokens.iter().filter(is_there);
        let is_noise = self.peers.iter().any(|peer| peer.is_noise);
        let fields = FIELDS + if is_noise { NOISE } else { 0 };
        // A callback that has just ended had its request as long as the step lasts.
        let requests = there.count() + self.jobs.len() + 2;
        fields + REQUEST * requests > self.limits.max_kept_headers
    }

    pub(super) fn is_stalled(&self, peer: &Peer) -> bool {
        untaken(peer) > 0 && self.now.since(peer.progress) >= STALL
    }

    /// A stream that ends by an error of which the model knows no cause has passed a limit.
    pub(super) fn check_uncaused(&self, token: usize) {
        let token = &self.tokens[token];
        let Some(peer) = token.peer.map(|at| &self.peers[at]) else {
            return;
        };
        let unsent = untaken(peer);
        let is_behind = unsent > 0;
        let kept = peer.delivered - peer.asked[token.asked].end;
        let is_late = is_behind
            && (self.is_stalled(peer)
                || token.queue.would_drop(self.limits.max_unsent)
                || self.is_outbound_full());
        // What strangers leave with the gateway costs no open stream anything.
        let is_stranger = token.was == Life::Window && (is_behind || kept > 0);
        let is_turned_away = is_stranger && self.is_inbound_full();
        // Its window could not take what a fan-out brought.
        let is_refused = !peer.has_stream && token.is_accepted && self.is_outbound_full();
        let is_dropped =
            is_late || is_refused || kept > self.limits.max_discarded || is_turned_away;
        assert!(is_dropped, "no limit was passed: {token:?}");
    }

    /// Whoever is reset has left something with the gateway for too long, or too much.
    pub(super) fn check_aborted(&self, at: usize) {
        let peer = &self.peers[at];
        let is_of_stream = |token: usize| self.tokens[token].was != Life::Over;
        if peer.is_noise || peer.token.is_some_and(is_of_stream) {
            // The disconnect, or its callback's end, tells.
            return;
        }
        let is_full = self.is_inbound_full() || self.is_outbound_full();
        let is_dropped = untaken(peer) + answers(peer) > 0 && is_full;
        assert!(is_dropped || self.is_stalled(peer), "reset without a cause");
    }
}
