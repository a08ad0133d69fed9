//! What must be true behind every step: answers, streams, ends and counts against the model.

use std::time::Duration;

use ssegateway::callback::{Action, Job};
use ssegateway::gateway::Scope;

use super::super::choices::Choices;
use super::super::command::{Command, Target};
use super::super::model::{self, Life, Moment, Question, Token};
use super::super::peer::{Answer, Reading, Takes, What};
use super::World;
use super::sends::MOST_PENDING;

impl<C: Choices> World<C> {
    fn moment(&self) -> Moment {
        let is_there = |token: &&Token| token.life != Life::Over || token.was != Life::Over;
        let streams = self.tokens.iter().filter(is_there).count();
        Moment {
            is_draining: self.is_draining,
            is_outbound_full: self.is_outbound_full(),
            is_inbound_full: self.is_inbound_full(),
            is_kept_full: self.is_kept_full(),
            is_full: streams >= self.limits.max_streams,
        }
    }

    pub(super) fn look(&mut self) {
        let moment = self.moment();
        for (at, number, answer) in std::mem::take(&mut self.answers) {
            self.look_at_answer(at, number - 1, &answer, &moment);
        }
        for at in 0..self.peers.len() {
            if !self.peers[at].is_gone {
                self.look_at_stream(at);
                self.look_at_end(at);
            }
        }
        self.tokens.iter().for_each(Token::check);
        self.look_at_counts();
    }

    fn look_at_answer(&mut self, at: usize, number: usize, answer: &Answer, moment: &Moment) {
        let peer = &self.peers[at];
        let is_its = |token: &Token| token.peer == Some(at) && token.asked == number;
        let question = Question {
            scope: peer.scope,
            what: &peer.asked[number].what,
            is_whole: peer.asked[number].end <= peer.delivered,
            stream: self.tokens.iter().position(is_its),
        };
        let is_behind = |token: &usize| self.tokens[*token].is_close_buffered;
        let is_behind = match question.what {
            What::Send(Command {
                target: Target::Token { token, .. },
                ..
            }) => token.as_ref().is_some_and(is_behind),
            _ => false,
        };
        let is_for_fields = !moment.is_inbound_full && !moment.is_full;
        let is_stream = matches!(question.what, What::Stream { .. });
        let has_token = question.stream.is_some();
        model::judge(answer, &question, moment, &mut self.tokens);
        self.note(match model::code(&answer.body) {
            "" => "stream opened".to_owned(),
            "buffered" if is_behind => "behind a close".to_owned(),
            "OVERLOADED" if has_token => "turned away while it waits".to_owned(),
            "OVERLOADED" if !is_stream => "turned away".to_owned(),
            "OVERLOADED" if is_for_fields => "no room for fields".to_owned(),
            code => format!("{} {code}", answer.status),
        });
    }

    fn look_at_stream(&mut self, at: usize) {
        let peer = &self.peers[at];
        let Some(token) = peer.token.filter(|_| !peer.is_noise) else {
            return;
        };
        let token = &self.tokens[token];
        let is_here = self.gw.at(peer.id.index()) == Some(peer.id);
        let is_open = token.life == Life::Open;
        assert!(
            peer.has_stream || !is_here || !is_open,
            "open without a head"
        );
        assert!(
            !is_here || !is_open || !token.is_overdue(self.now),
            "its time is over: {token:?}"
        );
        if is_here && is_open && !self.gw.is_fanning_out() {
            assert!(token.queue.pending.is_empty(), "not given: {token:?}");
        }
    }

    fn look_at_end(&mut self, at: usize) {
        let most_pending = self.most_pending();
        let peer = &mut self.peers[at];
        peer.is_gone = self.gw.at(peer.id.index()) != Some(peer.id);
        if peer.is_gone {
            let is_left = peer.is_fin_read || peer.is_broken;
            let is_closed = peer.has_fin || peer.is_aborted;
            let silence = self.now.since(peer.last_active);
            let is_silent = silence >= Duration::from_secs(20);
            assert!(is_left || is_closed || is_silent, "closed without a cause");
            return;
        }
        assert!(
            peer.taken == peer.given.len() || peer.takes == Takes::Bytes(0),
            "bytes wait although the socket takes them"
        );
        let waits = peer
            .token
            .is_some_and(|t| self.tokens[t].life == Life::Window);
        let is_served = peer.reading == Reading::Answers && !peer.is_paused && !peer.is_fin_read;
        let is_for_many = |what: &What| matches!(what, What::Send(it) if it.is_for_many());
        let is_next = peer.next().is_some_and(|asked| is_for_many(&asked.what));
        let queues = is_next && self.gw.is_fanning_out() && most_pending >= MOST_PENDING;
        if queues && is_served && !peer.is_noise {
            assert!(!self.gw.wants_input(peer.id), "read although it waits");
            self.note("queueing");
        } else if is_served && !waits && !peer.is_noise {
            assert_eq!(
                peer.answered,
                peer.whole(),
                "a whole request without answer"
            );
        }
    }

    fn look_at_counts(&mut self) {
        let counts = self.gw.counts();
        let is_connect = |job: &&Job| matches!(job.action, Action::Connect { .. });
        let connects = self.jobs.iter().filter(is_connect).count();
        assert_eq!(counts.connects, connects);
        assert_eq!(counts.disconnects, self.jobs.len() - connects);
        let live = self.tokens.iter().filter(|token| token.life != Life::Over);
        assert_eq!(counts.streams, live.count());
        let here = self.peers.iter().filter(|peer| !peer.is_gone);
        assert_eq!(counts.connections, here.clone().count());
        let outsiders = here.clone().filter(|peer| peer.scope != Scope::Internal);
        let limits = &self.limits;
        assert!(here.count() <= limits.max_connections);
        assert!(outsiders.count() + limits.internal_places <= limits.max_connections);
    }
}
