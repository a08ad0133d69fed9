//! What publishers send, and how far it is brought within a turn.

use super::super::choices::Choices;
use super::super::command::{Command, Event, Target};
use super::super::model::Life;
use super::super::peer::Takes;
use super::World;

/// Few, so that sends meet.
const CHANNELS: [&str; 4] = ["a", "b", "news", "user.42"];

impl<C: Choices> World<C> {
    pub(super) fn command(&mut self) -> Command {
        let event = (!self.choices.one_in(8)).then(|| self.event());
        let (target, often) = match self.choices.below(20) {
            0..=9 => {
                let token = self.a_token();
                let is_waiting = |token: usize| self.tokens[token].life == Life::Window;
                let often = if token.is_some_and(is_waiting) { 3 } else { 8 };
                (self.one(token), often)
            }
            10..=11 => (Target::Tokens(self.some_tokens()), 16),
            12..=14 => {
                let channel = *self.choices.pick(&CHANNELS);
                (Target::Channel(channel), 24)
            }
            15..=16 => (Target::Channels(self.channels()), 24),
            _ => (Target::Broadcast, 40),
        };
        Command {
            target,
            event,
            close: self.choices.one_in(often),
        }
    }

    /// Mostly one that there is, or was until lately.
    fn a_token(&mut self) -> Option<usize> {
        let is_any = !self.tokens.is_empty() && !self.choices.one_in(12);
        is_any.then(|| {
            let is_live = |token: &usize| self.tokens[*token].life != Life::Over;
            let live: Vec<usize> = (0..self.tokens.len()).filter(is_live).collect();
            if !live.is_empty() && !self.choices.one_in(4) {
                return *self.choices.pick(&live);
            }
            let recent = self.tokens.len().min(6);
            self.tokens.len() - 1 - self.choices.below(recent as u32) as usize
        })
    }

    fn some_tokens(&mut self) -> Vec<Option<usize>> {
        let many = self.choices.below(6);
        (0..many).map(|_| self.a_token()).collect()
    }

    fn one(&mut self, token: Option<usize>) -> Target {
        let (mut unsubscribe, mut subscribe) = (Vec::new(), Vec::new());
        match self.choices.below(8) {
            0..=1 => subscribe = self.channels(),
            2 => unsubscribe = self.channels(),
            3 => (unsubscribe, subscribe) = (self.channels(), self.channels()),
            _ => {}
        }
        Target::Token {
            token,
            unsubscribe,
            subscribe,
        }
    }

    /// Up to three, some of them repeated.
    pub(super) fn channels(&mut self) -> Vec<&'static str> {
        let many = self.choices.below(4);
        (0..many).map(|_| *self.choices.pick(&CHANNELS)).collect()
    }

    /// An event unlike every other.
    pub(super) fn event(&mut self) -> Event {
        self.serial += 1;
        let pad = *self
            .choices
            .pick(&["", "\n", "\r\r\n", "\nevent: no\ndata: x", " ü\u{2028}"]);
        let room = *self.choices.pick(&[0, 0, 0, 150, 1_500]);
        let name = *self.choices.pick(&["", "tick", "é x"]);
        let (id, retry) = *self.choices.pick(&[
            (None, None),
            (None, None),
            (Some("7"), None),
            (None, Some(0)),
        ]);
        Event {
            name,
            data: format!("{}{pad}{}", self.serial, "z".repeat(room)),
            id,
            retry,
            key: *self.choices.pick(&[None, None, Some("k"), Some("l")]),
        }
    }

    /// The text of a token.
    pub(super) fn name(&self, token: Option<usize>) -> String {
        let uuid = token.map_or(uuid::Uuid::nil(), |token| self.tokens[token].uuid);
        uuid.to_string()
    }

    /// Fan-outs go on by as much as one turn allows, or by some places alone.
    pub(super) fn slice(&mut self) {
        let looks = *self.choices.pick(&[1, 2, 5, 4096]);
        self.step(None, |gw, now| gw.fan_out_by(looks, now));
        if self.gw.is_fanning_out() {
            self.note("pending behind a slice");
        }
    }

    /// Every client takes what waits for it.
    pub(super) fn deliver_all(&mut self) {
        while self.gw.is_fanning_out() && !self.is_cut {
            self.step(None, |gw, now| gw.fan_out(now));
        }
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            if !peer.is_gone && !self.is_cut {
                peer.takes = Takes::All;
                peer.is_blocked = false;
                let id = peer.id;
                self.step(Some(at), |gw, now| gw.writable(id, now));
            }
        }
    }
}
