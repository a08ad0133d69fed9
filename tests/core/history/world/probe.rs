//! What is still kept, as somebody finds who asks for all of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ssegateway::callback::Outcome;
use ssegateway::gateway::Scope;
use ssegateway::time::Time;
use ssegateway::wire::{Directives, Joins};

use super::super::log::{EVERYBODY, Sent};
use super::super::reader::{self, Piece};
use super::{CHANNELS, World};
use crate::laws::sim::choices::Choices;

impl<C: Choices> World<C> {
    /// A newcomer is to find what the model expects.
    pub(super) fn look_at_all(&mut self) {
        self.look_at_kept();
        self.look();
    }

    /// The model is to know what is kept.
    pub(super) fn know(&mut self) {
        if self.log.kept.is_none() {
            self.look_at_kept();
            self.look();
        }
    }

    /// Has somebody come who asks for all that is kept, and leave again.
    pub(super) fn look_at_kept(&mut self) {
        let id = self.gw.accept((), Scope::Whole, self.now);
        self.probe = Some(id);
        self.probed.clear();
        self.gw.bytes(id, b"GET /probe HTTP/1.0\r\n\r\n", self.now);
        self.settle();
        let job = self.calls.pop_back().expect("a callback");
        assert_eq!(job.position.is_some(), self.log.has_history);
        if let Some(position) = &job.position {
            let last = *self.log.position.get_or_insert(**position);
            assert_eq!(**position, last, "not the last event's id");
            self.given.insert(last.to_string());
            self.log.ids.entry(last.to_string()).or_default();
        }
        let joins = Joins {
            channels: CHANNELS.map(str::to_owned).to_vec(),
            last_event_id: Some("earliest".to_owned()),
        };
        let directives = Directives {
            joins: Some(Box::new(joins)),
            ..Directives::default()
        };
        let outcome = Outcome::Answered {
            status: 200,
            directives,
        };
        self.result(&job, outcome);
        self.settle();
        let end = format!("id: {}\n\n", self.log.position_text());
        for _ in 0..10_000 {
            if !self.log.has_history || self.probed.ends_with(end.as_bytes()) {
                break;
            }
            self.gw.fan_out(self.now);
            self.settle();
        }
        self.gw.eof(id, self.now);
        self.settle();
        self.probe = None;
        if self.log.has_history {
            self.learn();
        }
    }

    /// What the prober's bytes tell.
    fn learn(&mut self) {
        let head = self.probed.windows(4).position(|it| it == b"\r\n\r\n");
        let mut text = &self.probed[head.expect("a head") + 4..];
        let (mut seen, mut has_position) = (Vec::new(), false);
        while !text.is_empty() {
            let (piece, length) = reader::next(text, true).expect("a whole piece");
            text = &text[length..];
            match piece {
                Piece::Event(event) => match &event.id {
                    Some(id) => {
                        let number = self.log.ids[id];
                        assert_eq!(self.log.at(number).data, event.data);
                        seen.push(number);
                    }
                    None => assert!(self.is_value(&event.data), "{event:?}"),
                },
                Piece::Position(_) => has_position = true,
                Piece::Retry(_) if seen.is_empty() && !has_position => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(has_position, "no end of all that is kept");
        assert!(seen.is_sorted_by(|a, b| a < b), "out of order: {seen:?}");
        self.check_kept(&seen);
    }

    fn is_value(&self, data: &str) -> bool {
        let mut values = self.log.values.values();
        values.any(|at| self.log.sent[*at].data == data)
    }

    fn check_kept(&mut self, seen: &[u64]) {
        let log = &mut self.log;
        let kept = seen.first().copied().unwrap_or(log.last() + 1);
        let all: HashSet<u64> = seen.iter().copied().collect();
        let keys = seen.iter().filter_map(|it| Some((log.at(*it).key?, *it)));
        let keys: HashMap<&str, u64> = keys.collect();
        let is_ours = |sent: &Sent| {
            let mut names = sent.channels.iter();
            names.any(|name| *name == EVERYBODY || CHANNELS.contains(name))
        };
        let mut lost = log.lost;
        for number in 1..=log.last() {
            let sent = log.at(number);
            let is_hidden = all.contains(&number) || !is_ours(sent);
            if is_hidden || sent.key.is_some_and(|key| keys.get(key) > Some(&number)) {
                continue;
            }
            assert!(number < kept, "{number} is lost, and older ones are kept");
            lost = number;
        }
        assert!(kept > log.lost, "what was forgotten is there again");
        log.lost = lost;
        log.kept = Some(kept);
        self.check_bounds();
    }

    /// What is too old, or too much, is gone; nothing goes for any other reason.
    fn check_bounds(&self) {
        let log = &self.log;
        let kept = log.kept.unwrap_or(1);
        let time = self.limits.history_time;
        let bytes = |from: u64| -> usize { (from..=log.last()).map(|it| length(log.at(it))).sum() };
        assert!(bytes(kept) <= self.limits.history, "too much is kept");
        let is_old = |read: Time| read + time + Duration::from_secs(1) <= self.now;
        assert!(kept > log.last() || !is_old(log.at(kept).read), "too old");
        if log.lost > 0 {
            let oldest = log.at(log.lost);
            let is_full = bytes(log.lost) + RESERVE * (log.last() - log.lost + 1) as usize
                > self.limits.history;
            assert!(
                is_full || oldest.read + time <= self.now,
                "lost too early: {} of {}",
                log.lost,
                log.last()
            );
        }
    }
}

/// Bytes that an event takes at the most, beside its own.
const RESERVE: usize = 1000;

fn length(sent: &Sent) -> usize {
    let lines = 1 + sent.data.matches('\n').count();
    sent.data.len() + sent.name.len() + "data: ".len() * lines
}
