//! What is known of each token, and whether answers and callbacks fit it.

use ssegateway::callback::{JobId, Reason};
use uuid::Uuid;

use super::oracles::event_stream::{self, Dispatched};
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
    /// Events of publishers that were gone before their answers: taken or not.
    pub(crate) unsure: Vec<Dispatched>,
    /// Such a publisher asked for a close.
    pub(crate) is_close_unsure: bool,
}

impl Token {
    pub(crate) fn new(uuid: Uuid, job: JobId, peer: Option<usize>) -> Token {
        Token {
            uuid,
            job,
            peer,
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
            unsure: Vec::new(),
            is_close_unsure: false,
        }
    }

    pub(crate) fn begin_step(&mut self) {
        self.was = self.life;
        self.known = self.events.len();
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

    /// A send that was answered 200.
    fn take(&mut self, event: &Option<(String, String)>, close: bool, is_buffered: bool) {
        if let Some((name, data)) = event {
            self.events.push(dispatched(name, data));
        }
        match (close, is_buffered) {
            (true, true) => self.is_close_buffered = true,
            (true, false) => {
                self.cause.get_or_insert(Reason::ServerClosed);
                self.life = Life::Over;
            }
            _ => {}
        }
    }

    /// A send whose publisher was gone before its answer.
    pub(crate) fn take_perhaps(&mut self, event: &Option<(String, String)>, close: bool) {
        if let Some((name, data)) = event {
            self.unsure.push(dispatched(name, data));
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

    /// What must be true between steps.
    pub(crate) fn check(&self) {
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
        id: String::new(),
    }
}

/// Checks an answer against its request and notes what a send came to. `is_whole`: the gateway had
/// all of the request; `is_draining`: a shutdown has begun, before or in this step.
pub(crate) fn judge(
    answer: &Answer,
    what: &What,
    is_whole: bool,
    is_draining: bool,
    tokens: &mut [Token],
) {
    let short = (answer.status, code(&answer.body));
    let early = [(408, "REQUEST_TIMEOUT"), (503, "OVERLOADED")];
    if early.contains(&short) && answer.is_last {
        assert!(!is_whole || short.0 == 503, "{short:?} to a whole request");
        return;
    }
    let fits = match what {
        What::Health => short == (200, "ok"),
        What::Ready => {
            short
                == if is_draining {
                    (503, "not_ready")
                } else {
                    (200, "ready")
                }
        }
        What::Nowhere => short == (404, "NOT_FOUND"),
        What::NotAllowed => short == (405, "METHOD_NOT_ALLOWED"),
        What::BadCommand => answer.status == 400 && short.1.starts_with("INVALID_"),
        What::Malformed => short == (400, "BAD_REQUEST") && answer.is_last,
        What::Stream { .. } => answer.status == 200 || answer.status >= 300,
        What::Send {
            token,
            event,
            close,
        } => match token {
            None => short == (404, "TOKEN_NOT_FOUND"),
            Some(token) => judge_send(short, &mut tokens[*token], event, *close),
        },
    };
    assert!(fits, "{answer:?} to {what:?}");
}

fn judge_send(
    short: (u16, &str),
    token: &mut Token,
    event: &Option<(String, String)>,
    close: bool,
) -> bool {
    let (was, life) = (token.was, token.life);
    match short {
        (200, "ok") => {
            token.take(event, close, false);
            was == Life::Open
        }
        (200, "buffered") => {
            assert!(!token.is_close_buffered, "taken behind a close");
            token.take(event, close, true);
            was == Life::Window
        }
        (404, "TOKEN_NOT_FOUND") => {
            life == Life::Over || token.is_close_buffered || token.is_close_unsure
        }
        (500, "WRITE_FAILED") => {
            // It was put out for its client, of whose socket nothing is known.
            token.take_perhaps(event, false);
            was == Life::Open && life == Life::Over && event.is_some()
        }
        (503, "BUFFER_FULL") => was == Life::Window && event.is_some(),
        _ => false,
    }
}

/// The error's code, or the status word of an answer that is none.
fn code(body: &str) -> &str {
    let key = if body.contains("\"code\":\"") {
        "\"code\":\""
    } else {
        "\"status\":\""
    };
    let word = body.split(key).nth(1).unwrap_or("");
    word.split('"').next().unwrap_or("")
}
