//! What is known of each token, and whether answers and callbacks fit it.

use ssegateway::callback::{Job, JobId, Reason};
use ssegateway::gateway::Scope;
use ssegateway::sse::CHUNK_OVERHEAD;
use ssegateway::time::Time;
use uuid::Uuid;

use super::super::oracles::event_stream::{self, Dispatched};
use super::peer::{Answer, What};

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
    /// Events that were taken, in their order.
    pub(crate) events: Vec<Dispatched>,
    /// How many of them the client was given.
    pub(crate) given: usize,
    /// How many there were when the step began.
    pub(crate) known: usize,
    pub(crate) is_close_buffered: bool,
    /// It was, when the step began.
    was_close_buffered: bool,
    /// The publishers of this step's events, and of its first close.
    senders: Vec<usize>,
    closer: Option<usize>,
    /// Events of publishers that were gone before their answers, or that may stand behind a close in
    /// the window: taken or not.
    pub(crate) unsure: Vec<Dispatched>,
    /// Such a publisher asked for a close.
    pub(crate) is_close_unsure: bool,
    /// Events that were refused in this step, because the window was full.
    refused: Vec<Dispatched>,
}

impl Token {
    /// `asked`: the client and the place of its request.
    pub(crate) fn new(job: &Job, expires: Time, asked: Option<(usize, usize)>) -> Token {
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
            events: Vec::new(),
            given: 0,
            known: 0,
            is_close_buffered: false,
            was_close_buffered: false,
            senders: Vec::new(),
            closer: None,
            unsure: Vec::new(),
            is_close_unsure: false,
            refused: Vec::new(),
        }
    }

    /// The client is to be told this, unless it has been told already.
    pub(crate) fn expect(&mut self, status: u16, code: &'static str) {
        self.expected.get_or_insert((status, code));
    }

    /// Whether this is what its client is to be told. Whoever waits may be turned away at the very
    /// moment at which there is something else to tell.
    fn is_told(&self, short: (u16, &str), moment: &Moment) -> bool {
        let is_turned_away = short == (503, "OVERLOADED") && self.was == Life::Window;
        let may_be = is_turned_away && moment.is_inbound_full && !self.is_accepted;
        Some(short) == self.expected || may_be
    }

    pub(crate) fn begin_step(&mut self) {
        self.was = self.life;
        self.known = self.events.len();
        self.was_close_buffered = self.is_close_buffered;
        self.senders.clear();
        self.closer = None;
        self.refused.clear();
    }

    /// The client or the backend ended it; only the first reason counts.
    pub(crate) fn end(&mut self, reason: Reason) {
        if self.life != Life::Over {
            self.cause.get_or_insert(reason);
        }
    }

    /// The connect callback was answered 2xx.
    pub(crate) fn accept(&mut self, event: Option<(&str, &str)>, close: bool) {
        self.is_accepted = true;
        if self.life == Life::Over {
            return;
        }
        if close {
            self.events.clear();
        }
        if let Some((name, data)) = event {
            self.events.insert(0, dispatched(name, data));
        }
        if close || self.is_close_buffered {
            self.end(Reason::ServerClosed);
            self.life = Life::Over;
        } else {
            self.life = Life::Open;
        }
    }

    /// The backend was told of its end.
    pub(crate) fn tell(&mut self, reason: Reason) {
        assert!(self.is_accepted, "a disconnect before the connect's answer");
        assert_eq!(self.told, None, "a second disconnect");
        self.told = Some(reason);
        self.life = Life::Over;
    }

    /// A send that was answered 200 `ok`.
    fn take(&mut self, event: &Option<(String, String)>, close: bool) {
        if let Some((name, data)) = event {
            self.events.push(dispatched(name, data));
        }
        if close {
            self.cause.get_or_insert(Reason::ServerClosed);
            self.life = Life::Over;
        }
    }

    /// A send that was answered 200 `buffered`. Behind a close it comes to nothing; which of two
    /// publishers came first within one step nobody knows.
    fn buffer(&mut self, sender: usize, event: &Option<(String, String)>, close: bool) {
        let is_behind = self.was_close_buffered || self.closer == Some(sender);
        if let Some((name, data)) = event
            && !is_behind
        {
            let event = dispatched(name, data);
            if self.is_close_buffered || self.is_close_unsure {
                self.unsure.push(event);
            } else {
                self.events.push(event);
                self.senders.push(sender);
            }
        }
        if close && !self.is_close_buffered {
            self.doubt_all_but(Some(sender));
            self.is_close_buffered = true;
            self.closer = Some(sender);
        }
    }

    /// This step's events in the window, but for one publisher's, may stand behind a close.
    fn doubt_all_but(&mut self, sender: Option<usize>) {
        let fresh = self.events.split_off(self.known);
        for (event, of) in fresh.into_iter().zip(self.senders.split_off(0)) {
            if Some(of) == sender {
                self.events.push(event);
                self.senders.push(of);
            } else {
                self.unsure.push(event);
            }
        }
    }

    /// A send whose publisher was gone before its answer.
    pub(crate) fn take_perhaps(&mut self, event: &Option<(String, String)>, close: bool) {
        if let Some((name, data)) = event {
            self.unsure.push(dispatched(name, data));
        }
        if close && self.was == Life::Window {
            self.doubt_all_but(None);
        }
        self.is_close_unsure |= close;
    }

    /// The client was given an event. Sends of several publishers within one step have no order
    /// that the model knows.
    pub(crate) fn give(&mut self, event: Dispatched) {
        if let Some(at) = self.unsure.iter().position(|other| *other == event) {
            let event = self.unsure.remove(at);
            self.events.insert(self.given, event);
        }
        let rest = &self.events[self.given..];
        let at = rest.iter().position(|taken| *taken == event);
        let at = at.unwrap_or_else(|| panic!("{event:?} given, expected {rest:?}")) + self.given;
        assert!(at == self.given || self.given >= self.known, "out of order");
        let event = self.events.remove(at);
        self.events.insert(self.given, event);
        self.given += 1;
    }

    /// Whether the window could not take what it refused; publishers that were served in one step
    /// have no order that the model knows.
    fn check_refused(&self, moment: &Moment) {
        let window = self.window();
        for event in &self.refused {
            let is_full = window > 0 && window + size(event) > moment.max_unsent;
            assert!(is_full || moment.is_outbound_full, "not full: {self:?}");
        }
    }

    /// At most how many bytes wait in its window.
    pub(crate) fn window(&self) -> usize {
        self.events.iter().chain(&self.unsure).map(size).sum()
    }

    /// What must be true between steps.
    pub(crate) fn check(&self, moment: &Moment) {
        self.check_refused(moment);
        if let Some(reason) = self.told {
            let cause = self.cause.unwrap_or(Reason::Error);
            let is_closed = self.is_close_unsure && reason == Reason::ServerClosed;
            let is_noise = self.peer.is_none();
            assert!(
                reason == cause || is_closed || is_noise,
                "the reason of {self:?}"
            );
        }
        let is_ended = self.is_accepted && self.life == Life::Over;
        assert_eq!(is_ended, self.told.is_some(), "disconnect of {self:?}");
    }
}

fn dispatched(name: &str, data: &str) -> Dispatched {
    Dispatched {
        name: name.to_owned(),
        data: event_stream::as_read(data),
        ..Dispatched::default()
    }
}

/// At most how many bytes an event takes.
fn size(event: &Dispatched) -> usize {
    let lines = event
        .data
        .split('\n')
        .map(|line| "data: \n".len() + line.len());
    "event: \n\n".len() + event.name.len() + lines.sum::<usize>() + CHUNK_OVERHEAD
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
    pub(crate) max_unsent: usize,
}

/// What was asked, by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) client: usize,
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
            What::Send { .. } | What::BadCommand => self.scope == Scope::Public,
            What::Stream { .. } | What::NotAllowed => self.scope == Scope::Internal,
            _ => false,
        }
    }
}

/// Checks an answer against what was asked and notes what a send came to.
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
        What::Send {
            token,
            event,
            close,
        } => match token {
            None => short == (404, "TOKEN_NOT_FOUND"),
            Some(token) => judge_send(short, question.client, &mut tokens[*token], event, *close),
        },
    };
    assert!(fits, "{answer:?} to {question:?}");
}

fn judge_send(
    short: (u16, &str),
    client: usize,
    token: &mut Token,
    event: &Option<(String, String)>,
    close: bool,
) -> bool {
    let (was, life) = (token.was, token.life);
    match short {
        (200, "ok") => {
            token.take(event, close);
            was == Life::Open
        }
        (200, "buffered") => {
            token.buffer(client, event, close);
            was == Life::Window
        }
        (404, "TOKEN_NOT_FOUND") => life == Life::Over,
        (500, "WRITE_FAILED") => {
            // It was put out for its client, of whose socket nothing is known.
            token.take_perhaps(event, false);
            was == Life::Open && life == Life::Over && event.is_some()
        }
        (503, "BUFFER_FULL") => {
            let event = event.as_ref().map(|(name, data)| dispatched(name, data));
            token.refused.extend(event);
            was == Life::Window && !token.refused.is_empty()
        }
        _ => false,
    }
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
