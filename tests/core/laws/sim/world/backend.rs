//! What the backend does: answers in time, late, badly, or twice.

use std::time::Duration;

use ssegateway::callback::{Action, CallbackResult, Job, JobId, Outcome, Reason};
use ssegateway::wire::{Directives, Event, Joins};

use super::super::choices::Choices;
use super::super::command::unique;
use super::super::model::{First, Life, Token};
use super::{World, answered, result};

impl<C: Choices> World<C> {
    pub(super) fn answer_callback(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let mut at = self.choices.below(self.jobs.len() as u32) as usize;
        if let Action::Disconnect { .. } = self.jobs[at].action {
            at = self.choices.below(self.jobs.len() as u32) as usize;
        }
        let job = self.jobs.remove(at);
        let mut first = First::default();
        let outcome = match self.choices.below(14) {
            0 => Outcome::Failed("reset".into()),
            1 => Outcome::TimedOut,
            2 => answered(*self.choices.pick(&[204, 302, 304, 401, 403, 500, 999])),
            3..=9 => {
                first = self.first();
                Outcome::Answered {
                    status: 200,
                    directives: directives(&first),
                }
            }
            10 => Outcome::Unfinished {
                status: *self.choices.pick(&[200, 204, 401]),
                error: self.choices.one_in(2).then(|| "reset".into()),
            },
            _ => answered(200),
        };
        self.finish_with(job, outcome, &first);
    }

    fn first(&mut self) -> First {
        First {
            event: self.choices.one_in(2).then(|| self.event()),
            close: self.choices.one_in(4),
            channels: unique(&self.channels()),
            is_deaf: self.choices.one_in(12),
            expires_in: self.span(),
        }
    }

    fn span(&mut self) -> Option<Duration> {
        let spans = [1, 700, 3_000, 20_000].map(Duration::from_millis);
        let is_told = self.choices.one_in(5);
        is_told.then(|| *self.choices.pick(&spans))
    }

    pub(super) fn finish(&mut self, job: Job, outcome: Outcome) {
        self.finish_with(job, outcome, &First::default());
    }

    /// `first`: what a 2xx directs.
    fn finish_with(&mut self, job: Job, outcome: Outcome, first: &First) {
        if let Action::Connect { .. } = job.action {
            match (self.token_of(job.id).life, &outcome) {
                (Life::Over, _) if is_success(&outcome) => self.note("orphan"),
                (_, Outcome::Unfinished { status: 200, .. }) => self.note("unfinished 200"),
                _ => {}
            }
            let at = self.place_of(job.id);
            let token = &mut self.tokens[at];
            token.is_owed = false;
            let is_waiting = token.life == Life::Window;
            if is_waiting && token.is_overflown {
                token.expect(503, "OVERLOADED");
            }
            match told(&outcome) {
                (200, _) => {
                    token.accept(first, &self.terms, &self.limits, self.now);
                    let is_refused = is_waiting && token.cause == Some(Reason::Error);
                    self.note(if is_refused {
                        "accepted and refused"
                    } else {
                        "accepted"
                    });
                }
                (status, code) => {
                    token.expect(status, code);
                    if is_success(&outcome) {
                        token.is_accepted = true;
                        token.end(Reason::Error);
                    }
                    token.life = Life::Over;
                }
            }
        }
        self.spent.push((job.id, job.token, job.action));
        let outcome = result(&job, outcome);
        drop(job);
        self.is_answering = true;
        self.step(None, |gw, now| gw.result(outcome, now));
        self.is_answering = false;
    }

    /// A result that is not owed changes nothing.
    pub(super) fn stale_result(&mut self) {
        if self.spent.is_empty() {
            return;
        }
        let at = self.choices.below(self.spent.len() as u32) as usize;
        let (mut id, token, action) = self.spent[at];
        if self.choices.one_in(2) {
            id = JobId(u64::MAX);
        }
        let stale = CallbackResult {
            id,
            token,
            action,
            outcome: answered(200),
            took: Duration::ZERO,
        };
        let before: Vec<usize> = self.peers.iter().map(|peer| peer.given.len()).collect();
        let counts = self.gw.counts();
        self.gw.result(stale, self.now);
        assert!(self.gw.effect().is_none(), "a stale result had an effect");
        assert_eq!(self.gw.counts(), counts);
        self.step(None, |_, _| {});
        let after: Vec<usize> = self.peers.iter().map(|peer| peer.given.len()).collect();
        assert_eq!(before, after);
    }

    pub(super) fn token_of(&mut self, job: JobId) -> &mut Token {
        let at = self.place_of(job);
        &mut self.tokens[at]
    }

    fn place_of(&self, job: JobId) -> usize {
        let found = self.tokens.iter().position(|token| token.job == job);
        found.expect("a callback's token")
    }
}

fn directives(first: &First) -> Directives {
    let event = first.event.as_ref().map(|event| Event {
        name: event.name.into(),
        data: event.data.clone().into(),
        id: event.id.map(Into::into),
        retry: event.retry,
        key: event.key.map(Into::into),
        retain: false,
    });
    let channels: Vec<_> = match first.is_deaf {
        true => Vec::new(),
        false => first
            .channels
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
    };
    let joins = Joins {
        channels,
        last_event_id: None,
    };
    Directives {
        event: event.map(Box::new),
        close: first.close,
        joins: (!joins.channels.is_empty()).then(|| Box::new(joins)),
        expires_in: first.expires_in,
        deaf: first.is_deaf.then_some("no channels"),
        ..Directives::default()
    }
}

/// Whether the backend keeps the token in its book from now on (contract, section 2, lifecycle law).
fn is_success(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Answered { status, .. } | Outcome::Unfinished { status, .. }
            if (200..=299).contains(status)
    )
}

/// What a client that waits is told of an outcome (contract, section 2, step 4).
fn told(outcome: &Outcome) -> (u16, &'static str) {
    match outcome {
        Outcome::Answered { status, .. } => match *status {
            200..=299 => (200, ""),
            401 => (401, "BACKEND_AUTH_FAILED"),
            403 => (403, "BACKEND_FORBIDDEN"),
            304 | 600.. | ..=199 => (502, "BACKEND_ERROR"),
            other => (other, "BACKEND_ERROR"),
        },
        Outcome::TimedOut | Outcome::NeverSent | Outcome::Unfinished { error: None, .. } => {
            (504, "GATEWAY_TIMEOUT")
        }
        Outcome::Failed(_) | Outcome::Unfinished { .. } => (503, "BACKEND_UNAVAILABLE"),
        Outcome::QueueFull => (503, "OVERLOADED"),
    }
}
