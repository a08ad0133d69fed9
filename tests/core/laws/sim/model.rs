//! What is known of each token, and whether answers and callbacks fit it.

use std::collections::BTreeSet;
use std::time::Duration;

use ssegateway::callback::{Job, JobId, Reason};
use ssegateway::config::Limits;
use ssegateway::gateway::Scope;
use ssegateway::time::Time;
use ssegateway::wheel::TICK_MS;
use uuid::Uuid;

use super::command::Event;
use super::peer::{Answer, Item, What};
use super::queue::{Given, Part, Queue};

/// A token's life as a publisher can tell it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Life {
    /// The connect callback is out and its client waits.
    Window,
    Open,
    /// Ended, rejected, or never had a client that waits any more.
    Over,
}

#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) uuid: Uuid,
    pub(crate) job: JobId,
    /// The client, if it is one whose answers are looked at.
    pub(crate) peer: Option<usize>,
    /// The place of its request among those of this client.
    pub(crate) asked: usize,
    /// When the client gets its 504.
    pub(crate) expires: Time,
    /// What the client is to be told, once that is known.
    expected: Option<(u16, &'static str)>,
    pub(crate) life: Life,
    /// Its life when the step began.
    pub(crate) was: Life,
    /// The connect callback's result is still to come.
    pub(crate) is_owed: bool,
    /// It was answered 2xx.
    pub(crate) is_accepted: bool,
    /// Why it ended, where the model knows; else only a limit or a timeout can be why.
    pub(crate) cause: Option<Reason>,
    /// What the disconnect callback said.
    pub(crate) told: Option<Reason>,
    /// The channels that it is in.
    pub(crate) joined: BTreeSet<&'static str>,
    /// What waits for its client.
    pub(crate) queue: Queue,
    pub(crate) is_close_buffered: bool,
    /// A fan-out has brought more than its window takes.
    pub(crate) is_overflown: bool,
    /// When its time is over, at the earliest and at the latest.
    ends: Option<(Time, Time)>,
    /// It was.
    pub(crate) has_expired: bool,
    /// An answer of this step says that it is gone.
    pub(crate) is_missed: bool,
}

impl Token {
    /// `asked`: the client and the place of its request.
    pub(crate) fn new(
        job: &Job,
        expires: Time,
        asked: Option<(usize, usize)>,
        is_old: bool,
    ) -> Token {
        Token {
            uuid: job.token,
            job: job.id,
            peer: asked.map(|(peer, _)| peer),
            asked: asked.map_or(0, |(_, number)| number),
            expires,
            expected: None,
            life: Life::Window,
            was: Life::Window,
            is_owed: true,
            is_accepted: false,
            cause: None,
            told: None,
            joined: BTreeSet::new(),
            queue: Queue::new(is_old),
            is_close_buffered: false,
            is_overflown: false,
            ends: None,
            has_expired: false,
            is_missed: false,
        }
    }

    /// The client is to be told this, unless it has been told already.
    pub(crate) fn expect(&mut self, status: u16, code: &'static str) {
        self.expected.get_or_insert((status, code));
    }

    /// Whether this is what its client is to be told. Whoever waits may be turned away at the very
    /// moment at which there is something else to tell.
    fn is_told(&mut self, short: (u16, &str), moment: &Moment) -> bool {
        if Some(short) == self.expected {
            return true;
        }
        let is_waiting = self.was == Life::Window && !self.is_accepted;
        let may_be =
            self.is_overflown || moment.is_outbound_full || moment.is_inbound_full && is_waiting;
        // The backend's word came too late for it.
        if self.is_accepted {
            self.cause = Some(Reason::Error);
        }
        short == (503, "OVERLOADED") && may_be
    }

    pub(crate) fn begin_step(&mut self) {
        self.was = self.life;
        self.is_missed = false;
    }

    /// The client or the backend ended it; only the first reason counts.
    pub(crate) fn end(&mut self, reason: Reason) {
        if self.life != Life::Over {
            self.cause.get_or_insert(reason);
        }
    }

    /// The connect callback was answered 2xx.
    pub(crate) fn accept(&mut self, first: &First, terms: &Terms, limits: &Limits, now: Time) {
        self.is_accepted = true;
        if self.life == Life::Over {
            return;
        }
        if self.is_overflown {
            return self.refuse(503, "OVERLOADED");
        }
        let joined = self.joined.iter().chain(&first.channels).copied();
        let joined: BTreeSet<&str> = joined.collect();
        if first.is_deaf || joined.len() > limits.max_channels {
            return self.refuse(502, "BACKEND_ERROR");
        }
        self.joined = joined;
        self.expect(200, "");
        self.queue
            .open(first.event.as_ref(), first.close, terms.retry);
        self.ends = terms.ends(first.expires_in, now);
        self.life = Life::Open;
        if first.close || self.is_close_buffered {
            self.queue.close();
            self.closed();
        }
    }

    /// It does not open although the backend has said 2xx.
    fn refuse(&mut self, status: u16, code: &'static str) {
        self.expect(status, code);
        self.end(Reason::Error);
        self.life = Life::Over;
    }

    /// The end was put out on its stream.
    fn closed(&mut self) {
        self.end(Reason::ServerClosed);
        self.life = Life::Over;
    }

    /// A fan-out is for it. In the window its place is settled at once; on the stream it is seen
    /// when it comes.
    pub(crate) fn address(&mut self, part: Part, limits: &Limits) {
        match self.life {
            Life::Window if self.is_overflown || self.is_close_buffered => {}
            Life::Window => {
                match &part.event {
                    Some(event) if self.queue.is_window_full(event, limits.max_unsent) => {
                        self.is_overflown = true;
                    }
                    Some(event) => self.queue.append(event),
                    None => {}
                }
                self.is_close_buffered |= part.close;
            }
            Life::Open if self.peer.is_some() => self.queue.pending.push_back(part),
            Life::Open | Life::Over => {}
        }
    }

    /// Gives its stream what the oldest pending fan-out has for it, if there is one.
    fn deliver(&mut self, limits: &Limits) -> Option<Given> {
        let given = self.queue.deliver(limits.max_unsent)?;
        if given == Given::Closed {
            self.closed();
        }
        Some(given)
    }

    /// Something touches the stream: what is pending for it comes before.
    pub(crate) fn catch_up(&mut self, limits: &Limits) -> Given {
        while let Some(given) = self.deliver(limits) {
            if given != Given::Goes {
                self.queue.pending.clear();
                return given;
            }
        }
        Given::Goes
    }

    /// Whether this is what was put out on its stream, with as much of what is pending as it takes.
    pub(crate) fn is_put_out(
        &mut self,
        items: &[(Item, usize)],
        limits: &Limits,
        now: Time,
    ) -> bool {
        while !self.queue.is(items) {
            match self.deliver(limits) {
                Some(given) => assert_ne!(given, Given::Dropped, "more than it may have: {self:?}"),
                None if matches!(items, [.., (Item::End, _)]) && self.may_expire(now) => {
                    self.expire();
                }
                None => return false,
            }
        }
        true
    }

    fn may_expire(&self, now: Time) -> bool {
        let is_due = |(earliest, _)| earliest <= now;
        self.life == Life::Open && self.ends.is_some_and(is_due)
    }

    /// Whether its time has been over for longer than a timer may be late.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        let is_late = |(_, latest)| latest + Duration::from_millis(TICK_MS) <= now;
        self.ends.is_some_and(is_late)
    }

    fn expire(&mut self) {
        self.has_expired = true;
        self.close();
    }

    /// The process is to end.
    pub(crate) fn shut(&mut self, terms: &Terms, limits: &Limits) {
        match self.life {
            Life::Over => {}
            Life::Window if self.is_overflown => self.end(Reason::Error),
            Life::Window => self.end(Reason::ServerClosed),
            Life::Open => match self.catch_up(limits) {
                Given::Goes => {
                    if !terms.spread.is_zero() {
                        self.queue.say_when(terms.spread.as_millis() as u64);
                    }
                    self.close();
                }
                Given::Closed => {}
                Given::Dropped => self.end(Reason::Error),
            },
        }
    }

    /// Its stream ends cleanly.
    pub(crate) fn close(&mut self) {
        self.queue.close();
        self.closed();
    }

    /// The backend was told of its end.
    pub(crate) fn tell(&mut self, reason: Reason, limits: &Limits, now: Time) {
        assert!(self.is_accepted, "a disconnect before the connect's answer");
        assert_eq!(self.told, None, "a second disconnect");
        // The end of a stream of HTTP/1.0 cannot be seen on it.
        if reason == Reason::ServerClosed && self.cause.is_none() {
            let given = self.catch_up(limits);
            if given == Given::Goes && self.may_expire(now) {
                self.expire();
            }
        }
        self.told = Some(reason);
        self.life = Life::Over;
    }

    /// At most how many bytes wait in its window, and how many events.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let pending = self.queue.pending.iter();
        let events = pending.filter_map(|part| part.event.as_ref());
        let bytes: usize = events.map(|event| event.len(false)).sum();
        (self.queue.unsent() + bytes, self.queue.len())
    }

    /// What must be true between steps.
    pub(crate) fn check(&self) {
        if let Some(reason) = self.told {
            let cause = self.cause.unwrap_or(Reason::Error);
            let is_noise = self.peer.is_none();
            assert!(reason == cause || is_noise, "the reason of {self:?}");
        }
        let is_ended = self.is_accepted && self.life == Life::Over;
        assert_eq!(is_ended, self.told.is_some(), "disconnect of {self:?}");
        assert!(!self.is_missed || self.life == Life::Over, "here: {self:?}");
    }
}

/// What the settings say of a stream's time, and of its client's way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) retry: Option<u32>,
    /// Zero: nobody is told when to come again.
    pub(crate) spread: Duration,
    /// Zero: none.
    pub(crate) max_stream: Duration,
}

impl Terms {
    /// When a stream's time is over that opens now, at the earliest and at the latest.
    fn ends(&self, told: Option<Duration>, now: Time) -> Option<(Time, Time)> {
        let (most, tenth) = (self.max_stream, self.max_stream / 10);
        match told {
            Some(span) => Some((now + span, now + span)),
            None if most.is_zero() => None,
            None => Some((now + (most - tenth), now + (most + tenth))),
        }
    }
}

/// What a 2xx answer directs.
#[derive(Clone, Debug, Default)]
pub(crate) struct First {
    pub(crate) event: Option<Event>,
    pub(crate) close: bool,
    pub(crate) channels: Vec<&'static str>,
    /// How long its stream lasts.
    pub(crate) expires_in: Option<Duration>,
    /// Its channels are none.
    pub(crate) is_deaf: bool,
}

/// What else is true when an answer is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// A shutdown has begun, before or in this step.
    pub(crate) is_draining: bool,
    /// As much may be held as may be: towards clients, from strangers, of header fields.
    pub(crate) is_outbound_full: bool,
    pub(crate) is_inbound_full: bool,
    pub(crate) is_kept_full: bool,
    /// There are, or were when the step began, as many streams as there may be.
    pub(crate) is_full: bool,
}

/// What was asked, by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) scope: Scope,
    pub(crate) what: &'a What,
    /// The gateway had all of it.
    pub(crate) is_whole: bool,
    /// The place of the token that it has made.
    pub(crate) stream: Option<usize>,
}

impl Question<'_> {
    /// Whether its listener has nothing of the kind.
    fn is_barred(&self) -> bool {
        match self.what {
            What::Send(_) | What::BadCommand => self.scope == Scope::Public,
            What::Stream { .. } | What::NotAllowed => self.scope == Scope::Internal,
            _ => false,
        }
    }
}

/// Checks an answer against what was asked; what a send came to is another matter.
pub(crate) fn judge(
    answer: &Answer,
    question: &Question<'_>,
    moment: &Moment,
    tokens: &mut [Token],
) {
    let Question { what, stream, .. } = *question;
    let short = (answer.status, code(&answer.body));
    if short == (408, "REQUEST_TIMEOUT") && answer.is_last {
        assert!(!question.is_whole, "{short:?} to a whole request");
        return;
    }
    if short == (503, "OVERLOADED") && answer.is_last && stream.is_none() {
        let is_stream = matches!(what, What::Stream { .. }) && !question.is_barred();
        let is_reason =
            moment.is_inbound_full || is_stream && (moment.is_full || moment.is_kept_full);
        assert!(is_reason, "no limit was reached: {answer:?} to {what:?}");
        return;
    }
    if question.is_barred() {
        assert_eq!(short, (404, "NOT_FOUND"), "{question:?}");
        return;
    }
    let fits = match what {
        What::Health => short == (200, "ok"),
        What::Ready => {
            short
                == if moment.is_draining {
                    (503, "not_ready")
                } else {
                    (200, "ready")
                }
        }
        What::Nowhere => short == (404, "NOT_FOUND"),
        What::NotAllowed => short == (405, "METHOD_NOT_ALLOWED"),
        What::BadCommand => answer.status == 400 && short.1.starts_with("INVALID_"),
        What::Malformed => short == (400, "BAD_REQUEST") && answer.is_last,
        What::Stream { .. } => match stream {
            Some(token) => tokens[token].is_told(short, moment),
            None => short == (503, "SHUTTING_DOWN") && moment.is_draining,
        },
        What::Send(_) => true,
    };
    let token = stream.map(|at| &tokens[at]);
    assert!(fits, "{answer:?} to {question:?} at {moment:?}: {token:?}");
}

/// The error's code, or the status word of an answer that is none.
pub(crate) fn code(body: &str) -> &str {
    let key = if body.contains("\"code\":\"") {
        "\"code\":\""
    } else {
        "\"status\":\""
    };
    let word = body.split(key).nth(1).unwrap_or("");
    word.split('"').next().unwrap_or("")
}
