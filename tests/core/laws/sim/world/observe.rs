//! What every single call of the core has changed: answers, and what stands on streams.

use ssegateway::callback::Action;

use super::super::choices::Choices;
use super::super::command::{Command, Target};
use super::super::model::{Life, Token};
use super::super::peer::{Answer, Item, Reading, What};
use super::World;
use super::sends::{MOST_PENDING, Told};

impl<C: Choices> World<C> {
    /// Looks at everything that a call may have changed; `by` is the client that it was about.
    pub(super) fn observe(&mut self, by: Option<usize>) {
        self.calls += 1;
        if let Some(at) = by {
            self.peers[at].served_in = self.steps;
        }
        if self.is_anything_unknown() {
            self.is_cut = true;
        }
        if self.is_cut {
            return;
        }
        let mut answers = Vec::new();
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            if !peer.is_gone && self.gw.at(peer.id.index()) == Some(peer.id) {
                let output = self.gw.output(peer.id);
                let output = output.map(|(_, it)| it.pieces().collect::<Vec<_>>().concat());
                peer.observe(&output.unwrap_or_default());
                let is_noise = peer.is_noise;
                while !is_noise && let Some(answer) = self.peers[at].next_answer() {
                    answers.push((self.peers[at].served, at, self.peers[at].answered, answer));
                }
                self.sync(at);
            }
        }
        // Of those who wait for the same thing, whoever has waited longest is served first.
        answers.sort_by_key(|(served, at, ..)| (*served, *at));
        self.note_served(&answers);
        self.apply(answers);
        for at in 0..self.peers.len() {
            self.look_at_output(at);
        }
        self.check_pending();
    }

    /// A publisher that was served in the very step that took all its answers away: nobody knows
    /// what it came to.
    fn is_anything_unknown(&self) -> bool {
        (0..self.peers.len()).any(|at| {
            let peer = &self.peers[at];
            let is_here = self.gw.at(peer.id.index()) == Some(peer.id);
            let is_served = peer.served_in == self.steps;
            // Behind a stream that it waits for nothing is served.
            let is_its = |token: &Token| (token.peer, token.asked) == (Some(at), peer.answered);
            let is_send = |what: &What| matches!(what, What::Send(_));
            !peer.is_gone
                && !is_here
                && !peer.is_broken
                && peer.reading == Reading::Answers
                && is_served
                && !self.tokens.iter().any(is_its)
                && peer.unserved().any(is_send)
        })
    }

    fn note_served(&mut self, answers: &[(u64, usize, usize, Answer)]) {
        let mut served = self.calls << 8;
        for (_, at, ..) in answers {
            let peer = &mut self.peers[*at];
            if peer.served < served {
                served += 1;
                peer.served = served;
            }
        }
        let most = self.limits.max_unread_answer;
        for peer in self.peers.iter_mut().filter(|peer| !peer.is_gone) {
            let waits = peer.next().is_some();
            let is_resumed = peer.is_paused && peer.untaken() <= most / 2;
            peer.is_paused = !is_resumed && (peer.is_paused || waits && peer.untaken() > most);
            if peer.served < self.calls << 8 && waits && (is_resumed || !peer.waited) {
                served += 1;
                peer.served = served;
            }
            if peer.served >= self.calls << 8 {
                peer.served_in = self.steps;
            }
            peer.waited = waits;
        }
    }

    fn apply(&mut self, answers: Vec<(u64, usize, usize, Answer)>) {
        let is_connect = |job: &&super::Job| matches!(job.action, Action::Connect { .. });
        let mut told: Vec<Told> = Vec::new();
        for (_, at, number, answer) in answers {
            let all = std::mem::replace(&mut self.peers[at].answered, number);
            told.extend(self.carried_out(at, &answer));
            self.peers[at].answered = all;
            self.answers.push((at, number, answer));
        }
        let live = self.tokens.iter().filter(|token| token.life != Life::Over);
        let counts = self.gw.counts();
        let owed = self.jobs.iter().filter(is_connect).count();
        let new = counts.connects.saturating_sub(owed);
        let ended = (live.count() + new).saturating_sub(counts.streams);
        told.iter().for_each(|told| Self::check_told(told, ended));
    }

    /// Tells the model how much of a stream is in the socket's hands.
    fn sync(&mut self, at: usize) {
        let peer = &self.peers[at];
        if let Some(token) = peer.token.filter(|_| peer.has_stream && !peer.is_noise) {
            let queue = &mut self.tokens[token].queue;
            queue.ahead = peer.looked_at.saturating_sub(peer.taken);
            queue.begun = peer.taken.saturating_sub(peer.looked_at);
            queue.is_blocked = peer.is_blocked;
        }
    }

    /// The socket took some bytes.
    pub(super) fn take(&mut self, at: usize, n: usize) {
        let peer = &mut self.peers[at];
        peer.taken += n;
        if let Some(token) = peer.token.filter(|_| peer.has_stream && !peer.is_noise) {
            let queue = &mut self.tokens[token].queue;
            while let Some(bytes) = queue.take(peer.taken.saturating_sub(peer.looked_at)) {
                peer.looked_at += bytes;
            }
        }
        self.sync(at);
    }

    /// The socket would not take more.
    pub(super) fn judge(&mut self, at: usize) {
        let peer = &self.peers[at];
        if let Some(token) = peer.token.filter(|_| peer.has_stream && !peer.is_noise) {
            self.tokens[token].queue.judge(self.limits.max_unsent);
        }
    }

    /// What stands on a stream is what the model says, whatever of it is in the socket's hands.
    fn look_at_output(&mut self, at: usize) {
        let peer = &self.peers[at];
        let is_here = !peer.is_gone && self.gw.at(peer.id.index()) == Some(peer.id);
        let token = peer.token.filter(|_| is_here && peer.has_stream);
        let Some(token) = token.filter(|_| !peer.is_noise) else {
            return;
        };
        let items = peer.items();
        let it = &self.tokens[token];
        assert!(it.is_accepted, "nobody accepted it");
        assert!(!it.queue.is_too_much(), "more than it may have: {it:?}");
        if self.tokens[token].is_put_out(&items, &self.limits, self.now) {
            return;
        }
        self.try_one(token, &items);
        let fits = self.tokens[token].is_put_out(&items, &self.limits, self.now);
        assert!(fits, "{items:?} for {:?}", self.tokens[token]);
    }

    /// The last event may be one whose send is answered when its write was tried.
    fn try_one(&mut self, token: usize, items: &[(Item, usize)]) {
        let Some((Item::Event(last), _)) = items.last() else {
            return;
        };
        let is_its = |what: &What| match what {
            What::Send(Command {
                target: Target::Token { token: of, .. },
                event: Some(event),
                ..
            }) => *of == Some(token) && event.read() == *last,
            _ => false,
        };
        for peer in &mut self.peers {
            let is_next = peer.next().is_some_and(|asked| is_its(&asked.what));
            if is_next && !peer.is_tried {
                peer.is_tried = true;
                let Some(What::Send(command)) = peer.next().map(|asked| &asked.what) else {
                    return;
                };
                if let Some(event) = &command.event {
                    let token = &mut self.tokens[token];
                    token.queue.put(event, self.limits.max_unsent);
                }
                return;
            }
        }
    }

    /// No more fan-outs are pending than may be, and they come to everybody.
    fn check_pending(&mut self) {
        let parts = self.tokens.iter().filter(|token| self.is_seen(token));
        let parts = parts.flat_map(|token| &token.queue.pending);
        let mut numbers: Vec<u64> = parts.map(|part| part.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if !self.gw.is_fanning_out() {
            self.done = self.fan_outs;
        }
        let most = self.most_pending().min(MOST_PENDING);
        assert!(numbers.len() <= most, "{numbers:?} are pending");
    }

    /// At most how many fan-outs are pending.
    pub(super) fn most_pending(&self) -> usize {
        (self.fan_outs - self.done) as usize
    }

    /// Whether everything that a stream is given shows: not so the end of one of HTTP/1.0.
    fn is_seen(&self, token: &Token) -> bool {
        let is_here = |at: usize| {
            let peer = &self.peers[at];
            !peer.is_gone && self.gw.at(peer.id.index()) == Some(peer.id)
        };
        let mut pending = token.queue.pending.iter();
        let is_hidden = token.queue.is_old && pending.any(|part| part.close);
        token.life == Life::Open && !is_hidden && token.peer.is_some_and(is_here)
    }
}
