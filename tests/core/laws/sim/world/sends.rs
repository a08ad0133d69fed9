//! What sends came to, by their answers, in the order in which they were carried out.

use std::collections::BTreeSet;

use serde_json::Value;
use ssegateway::callback::Reason;
use ssegateway::gateway::Scope;
use ssegateway::sse::CHUNK_OVERHEAD;

use super::super::choices::Choices;
use super::super::command::{Command, Target, unique};
use super::super::model::{Life, code};
use super::super::peer::{Answer, What};
use super::super::queue::{Given, Part};
use super::World;

/// Fan-outs that may be pending (contract, section 11).
pub(super) const MOST_PENDING: usize = 8;

/// What a send to many was told. Streams that end within the same call, unseen, may be among those
/// whom it counts.
#[derive(Debug)]
pub(super) struct Told {
    receivers: usize,
    unknown: Vec<String>,
    expected: usize,
    expected_unknown: Vec<String>,
}

impl<C: Choices> World<C> {
    /// Notes what a send did; for one to many, gives what is to be checked of its answer.
    pub(super) fn carried_out(&mut self, at: usize, answer: &Answer) -> Option<Told> {
        let peer = &mut self.peers[at];
        let is_tried = std::mem::take(&mut peer.is_tried);
        let asked = &peer.asked[peer.answered - 1];
        let What::Send(command) = &asked.what else {
            return None;
        };
        let is_refused = matches!(answer.status, 404 | 408 | 503) && answer.is_last;
        if peer.scope == Scope::Public || is_refused {
            return None;
        }
        let command = command.clone();
        match &command.target {
            Target::Token { token: None, .. } => {
                let is_long = self.has_too_many(&command);
                let expected = if is_long { 400 } else { 404 };
                assert_eq!(answer.status, expected, "{answer:?}");
                None
            }
            Target::Token {
                token: Some(token), ..
            } => {
                self.obeyed(*token, &command, answer, is_tried);
                None
            }
            _ => Some(self.fanned_out(&command, answer)),
        }
    }

    /// The command names more channels than a stream may be in.
    fn has_too_many(&self, command: &Command) -> bool {
        let Target::Token { subscribe, .. } = &command.target else {
            return false;
        };
        unique(subscribe).len() > self.limits.max_channels
    }

    // ---- to many ----

    fn fanned_out(&mut self, command: &Command, answer: &Answer) -> Told {
        let json: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((answer.status, &json["status"]), (200, &"ok".into()));
        let receivers = json["receivers"].as_u64().expect("receivers") as usize;
        let addressed = self.addressed(&command.target);
        if !addressed.is_empty() && command.is_something() {
            self.note("fan-out");
            self.fan_outs += 1;
            self.fanned_bytes += command.event.as_ref().map_or(0, |event| event.len(false)) + 300;
            let part = Part {
                number: self.fan_outs,
                event: command.event.clone(),
                close: command.close,
            };
            for &token in &addressed {
                self.tokens[token].address(part.clone(), &self.limits);
            }
        }
        let unknown = json.get("unknown").map(|it| it.as_array().expect("a list"));
        assert!(unknown.is_none_or(|list| !list.is_empty()), "{json}");
        let unknown = unknown.into_iter().flatten();
        Told {
            receivers,
            unknown: unknown.map(|it| it.as_str().unwrap().to_owned()).collect(),
            expected: addressed.len(),
            expected_unknown: self.unknown(&command.target),
        }
    }

    fn addressed(&self, target: &Target) -> Vec<usize> {
        let is_addressed = |at: &usize| {
            let joined = &self.tokens[*at].joined;
            match target {
                Target::Token { .. } => false,
                Target::Tokens(tokens) => tokens.contains(&Some(*at)),
                Target::Channel(name) => joined.contains(name),
                Target::Channels(names) => names.iter().any(|name| joined.contains(name)),
                Target::Broadcast => true,
            }
        };
        let live = (0..self.tokens.len()).filter(|at| self.tokens[*at].life != Life::Over);
        live.filter(is_addressed).collect()
    }

    fn unknown(&self, target: &Target) -> Vec<String> {
        let Target::Tokens(tokens) = target else {
            return Vec::new();
        };
        let is_over = |token: &usize| self.tokens[*token].life == Life::Over;
        let unknown = unique(tokens).into_iter();
        let unknown = unknown.filter(|token| token.as_ref().is_none_or(is_over));
        unknown.map(|token| self.name(token)).collect()
    }

    /// `ended`: how many streams ended within the call, as far as the model does not know.
    pub(super) fn check_told(told: &Told, ended: usize) {
        let Told {
            receivers,
            unknown,
            expected,
            expected_unknown,
        } = told;
        let fits = (expected.saturating_sub(ended)..=*expected).contains(receivers);
        assert!(fits, "{ended} ended: {told:?}");
        if ended == 0 {
            assert_eq!(unknown, expected_unknown);
        }
        assert!(expected_unknown.iter().all(|name| unknown.contains(name)));
    }

    // ---- to one ----

    fn obeyed(&mut self, at: usize, command: &Command, answer: &Answer, is_tried: bool) {
        let short = (answer.status, code(&answer.body));
        let is_too_long = self.has_too_many(command);
        let is_too_many = self.joins_too_many(at, command);
        if is_too_long || short == (400, "INVALID_CHANNEL") {
            assert_eq!(short, (400, "INVALID_CHANNEL"));
            return assert!(is_too_long || is_too_many, "{command:?}");
        }
        match short {
            (404, "TOKEN_NOT_FOUND") => self.tokens[at].is_missed = true,
            (503, "BUFFER_FULL") => self.was_refused(at, command),
            (500, "WRITE_FAILED") => self.was_dropped(at, command, is_tried),
            (200, "buffered") => {
                assert!(!is_too_many, "{command:?}");
                self.buffered(at, command);
            }
            (200, "ok") => {
                assert!(!is_too_many, "{command:?}");
                self.handed_on(at, command, answer, is_tried);
            }
            _ => panic!("{answer:?} to {command:?}"),
        }
    }

    fn was_refused(&self, at: usize, command: &Command) {
        let token = &self.tokens[at];
        assert!(token.life == Life::Window && !token.is_close_buffered);
        let event = command.event.as_ref().expect("an event");
        let is_window_full = token.queue.is_window_full(event, self.limits.max_unsent);
        let is_full = is_window_full || self.is_outbound_full();
        assert!(is_full, "not full: {token:?}");
    }

    fn buffered(&mut self, at: usize, command: &Command) {
        let joined = self.joined_after(at, command);
        let token = &mut self.tokens[at];
        assert!(token.life == Life::Window && !token.is_overflown);
        token.joined = joined;
        let event = command.event.as_ref();
        if let Some(event) = event.filter(|_| !token.is_close_buffered) {
            let is_full = token.queue.is_window_full(event, self.limits.max_unsent);
            assert!(!is_full, "full: {token:?}");
            token.queue.append(event);
        }
        token.is_close_buffered |= command.close;
    }

    fn handed_on(&mut self, at: usize, command: &Command, answer: &Answer, is_tried: bool) {
        let joined = self.joined_after(at, command);
        let token = &mut self.tokens[at];
        assert_eq!(token.life, Life::Open, "{token:?}");
        assert_eq!(token.catch_up(&self.limits), Given::Goes, "{token:?}");
        token.joined = joined;
        if token.peer.is_some() {
            let event = command.event.as_ref();
            if let Some(event) = event.filter(|_| !is_tried) {
                let given = token.queue.put(event, self.limits.max_unsent);
                assert_eq!(given, Given::Goes, "{token:?}");
            }
            let unsent = event.map_or(0, |_| token.queue.unsent());
            assert_eq!(queued(answer), unsent, "{command:?}");
        }
        if command.close {
            token.close();
        }
    }

    fn was_dropped(&mut self, at: usize, command: &Command, is_tried: bool) {
        let is_full = self.is_outbound_full();
        let is_broken = |at: usize| self.peers[at].is_broken;
        let is_broken = self.tokens[at].peer.is_none_or(is_broken);
        let token = &mut self.tokens[at];
        let event = command.event.as_ref().expect("an event");
        assert_eq!(token.life, Life::Open);
        assert_eq!(token.catch_up(&self.limits), Given::Goes, "gone before");
        // A chunk's frame may be reckoned to be larger than it is.
        let most = self.limits.max_unsent.saturating_sub(CHUNK_OVERHEAD);
        let is_over = !is_tried && token.queue.put(event, most) == Given::Dropped;
        if is_over {
            token.end(Reason::Error);
        }
        let is_over = is_over || token.queue.is_too_much();
        assert!(is_over || is_full || is_broken, "{token:?}");
        token.is_missed = true;
    }

    /// Whether the stream would be in too many channels.
    fn joins_too_many(&self, at: usize, command: &Command) -> bool {
        let is_joining =
            matches!(&command.target, Target::Token { subscribe, .. } if !subscribe.is_empty());
        is_joining && self.joined_after(at, command).len() > self.limits.max_channels
    }

    fn joined_after(&self, at: usize, command: &Command) -> BTreeSet<&'static str> {
        let mut joined = self.tokens[at].joined.clone();
        if let Target::Token {
            unsubscribe,
            subscribe,
            ..
        } = &command.target
        {
            joined.retain(|name| !unsubscribe.contains(name));
            joined.extend(subscribe);
        }
        joined
    }
}

/// What the answer says of bytes that are left unsent.
fn queued(answer: &Answer) -> usize {
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    let queued = json.get("queued").map(|it| it.as_u64().expect("a number"));
    assert_ne!(queued, Some(0));
    queued.unwrap_or(0) as usize
}
