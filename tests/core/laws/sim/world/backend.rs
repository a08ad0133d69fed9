//! What the backend does: answers in time, late, badly, or twice.

use ssegateway::callback::{Action, CallbackResult, Job, JobId, Outcome, Reason};
use ssegateway::wire::{Directives, Event};

use super::super::choices::Choices;
use super::super::model::{Life, Token};
use super::{World, answered, result};

impl<C: Choices> World<C> {
    pub(super) fn answer_callback(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let at = self.choices.below(self.jobs.len() as u32) as usize;
        let job = self.jobs.remove(at);
        let outcome = match self.choices.below(10) {
            0 => Outcome::Failed("reset".into()),
            1 => Outcome::TimedOut,
            2 => answered(*self.choices.pick(&[204, 302, 304, 401, 403, 500, 999])),
            3..=5 => {
                let event = self.choices.one_in(2).then(|| self.event());
                let event = event.map(|(name, data)| Event {
                    name: name.into(),
                    data: data.into(),
                    ..Event::default()
                });
                Outcome::Answered {
                    status: 200,
                    directives: Directives {
                        event,
                        close: self.choices.one_in(4),
                        ..Directives::default()
                    },
                }
            }
            6 => Outcome::Unfinished {
                status: *self.choices.pick(&[200, 204, 401]),
                error: self.choices.one_in(2).then(|| "reset".into()),
            },
            _ => answered(200),
        };
        self.finish(job, outcome);
    }

    pub(super) fn finish(&mut self, job: Job, outcome: Outcome) {
        if let Action::Connect { .. } = job.action {
            match (self.token_of(job.id).life, &outcome) {
                (Life::Over, _) if is_success(&outcome) => self.note("orphan"),
                (_, Outcome::Unfinished { status: 200, .. }) => self.note("unfinished 200"),
                _ => {}
            }
            let token = self.token_of(job.id);
            token.is_owed = false;
            let (status, code) = told(&outcome);
            token.expect(status, code);
            match &outcome {
                Outcome::Answered {
                    status: 200..=299,
                    directives,
                } => {
                    let event = directives.event.as_ref();
                    let event = event.map(|event| (&*event.name, &*event.data));
                    token.accept(event, directives.close);
                }
                _ => {
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
        self.step(|gw, now| gw.result(outcome, now));
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
        };
        let before: Vec<usize> = self.peers.iter().map(|peer| peer.given.len()).collect();
        let counts = self.gw.counts();
        self.gw.result(stale, self.now);
        assert!(self.gw.effect().is_none(), "a stale result had an effect");
        assert_eq!(self.gw.counts(), counts);
        self.step(|_, _| {});
        let after: Vec<usize> = self.peers.iter().map(|peer| peer.given.len()).collect();
        assert_eq!(before, after);
    }

    pub(super) fn token_of(&mut self, job: JobId) -> &mut Token {
        let found = self.tokens.iter_mut().find(|token| token.job == job);
        found.expect("a callback's token")
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
