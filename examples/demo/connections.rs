//! The *connection manager*: which connection an identifier has at this moment.
//!
//! An identifier (`client:ID`, `task:ID`) is the application's name for a stream, a token the
//! gateway's name for one connection. Laws:
//!
//! - An identifier has one connection at most: a new one replaces the old one under the lock, and
//!   the old one is closed outside of it. Nothing is ever sent under the lock.
//! - A token comes once. Callbacks may be repeated, and be handled out of order by two threads: a
//!   connect for a token that is known, or was, changes nothing; nor does a disconnect for one
//!   that is not current, so that a late one never touches its successor.
//! - What the gateway does not know (404) is forgotten: a disconnect callback is tried only once.
//! - Two sends to one connection from two threads have no order. Whatever must keep one is sent
//!   by one thread at a time: see `tasks` and `versions`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::gateway::{Event, Gateway, Outcome};
use super::say;

/// Most tokens of the past that are kept in mind. A repeated callback comes within seconds.
const MAX_PAST: usize = 1000;

/// What a connect callback has changed.
#[derive(Debug, PartialEq)]
pub(crate) enum Connect {
    /// The connection is the current one now, in place of `replaced`, which is to be closed.
    New { replaced: Option<String> },
    /// The callback was a repeated one.
    Repeated,
}

/// What became of an event for an identifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delivery {
    /// Taken by the gateway for a connection that is still the current one.
    Delivered,
    /// There is no connection.
    NotConnected,
    /// The gateway will never take this event.
    Refused,
    /// The gateway could not be reached; the connection may be there.
    Failed,
}

pub(crate) struct Connections {
    gateway: Box<dyn Gateway>,
    book: Mutex<Book>,
}

/// Who is connected, both ways; each map is the other one turned round.
#[derive(Default)]
struct Book {
    tokens: HashMap<String, String>,
    identifiers: HashMap<String, String>,
    /// Tokens that were current once, the oldest first.
    past: VecDeque<String>,
}

impl Connections {
    pub(crate) fn new(gateway: Box<dyn Gateway>) -> Connections {
        Connections {
            gateway,
            book: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connect callback came. The caller answers it and closes what was replaced.
    pub(crate) fn connect(&self, identifier: &str, token: &str) -> Connect {
        self.book().connect(identifier, token)
    }

    /// A disconnect callback came. True if it was about the current connection.
    pub(crate) fn disconnect(&self, token: &str) -> bool {
        self.book().forget(token)
    }

    pub(crate) fn is_connected(&self, identifier: &str) -> bool {
        self.book().tokens.contains_key(identifier)
    }

    fn current(&self, identifier: &str) -> Option<String> {
        self.book().tokens.get(identifier).cloned()
    }

    /// Sends to the current connection. If that has been replaced when the answer is here, its
    /// successor gets the event as well: perhaps nobody was reading the old one any more.
    pub(crate) fn send(&self, identifier: &str, event: &Event) -> Delivery {
        while let Some(token) = self.current(identifier) {
            match self.gateway.send(&token, event, false) {
                Outcome::Taken if self.current(identifier).as_ref() == Some(&token) => {
                    return Delivery::Delivered;
                }
                Outcome::Taken => {}
                Outcome::Gone => self.not_found(&token),
                Outcome::Refused => return Delivery::Refused,
                Outcome::Failed => return Delivery::Failed,
            }
        }
        Delivery::NotConnected
    }

    /// Sends the last event and closes the connection. It is taken out of the book first: whoever
    /// takes it is the only one to send to it, so that no connection is finished twice.
    pub(crate) fn finish(&self, identifier: &str, last: &Event, reason: &str) {
        let Some(token) = self.book().take(identifier) else {
            return;
        };
        if self.gateway.send(&token, last, false) != Outcome::Gone {
            self.close(&token, reason);
        }
    }

    /// Tells a connection why it ends, and ends it.
    pub(crate) fn close(&self, token: &str, reason: &str) {
        let event = Event {
            name: "connection_close",
            data: json!({"reason": reason}),
        };
        self.gateway.send(token, &event, true);
    }

    fn not_found(&self, token: &str) {
        if self.book().forget(token) {
            say(&format!(
                "forgotten   token={token} (the gateway answered 404)"
            ));
        }
    }
}

impl Book {
    fn connect(&mut self, identifier: &str, token: &str) -> Connect {
        if self.identifiers.contains_key(token) || self.past.iter().any(|past| past == token) {
            return Connect::Repeated;
        }
        let replaced = self.take(identifier);
        self.tokens.insert(identifier.to_owned(), token.to_owned());
        self.identifiers
            .insert(token.to_owned(), identifier.to_owned());
        Connect::New { replaced }
    }

    /// The identifier's connection, which is the current one no longer.
    fn take(&mut self, identifier: &str) -> Option<String> {
        let token = self.tokens.get(identifier).cloned()?;
        self.forget(&token);
        Some(token)
    }

    /// True if the token was the current one of its identifier. It will not be again in any case:
    /// a repeated connect may still be under way, overtaken by its own disconnect.
    fn forget(&mut self, token: &str) -> bool {
        if !self.past.iter().any(|past| past == token) {
            self.past.push_back(token.to_owned());
            if self.past.len() > MAX_PAST {
                self.past.pop_front();
            }
        }
        match self.identifiers.remove(token) {
            Some(identifier) => self.tokens.remove(&identifier).is_some(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::gateway::fake::Fake;
    use super::*;

    fn connections() -> (Arc<Fake>, Arc<Connections>) {
        let fake = Arc::<Fake>::default();
        let connections = Connections::new(Box::new(Arc::clone(&fake)));
        (fake, Arc::new(connections))
    }

    fn event() -> Event {
        Event {
            name: "note",
            data: json!({"text": "x"}),
        }
    }

    /// Carries out operations, each with what it comes to.
    #[track_caller]
    fn play(steps: &[(&str, &str)]) {
        let (_, connections) = connections();
        for (at, (operation, expected)) in steps.iter().enumerate() {
            let words: Vec<&str> = operation.split(' ').collect();
            let result = match words[..] {
                ["connect", identifier, token] => match connections.connect(identifier, token) {
                    Connect::New { replaced: None } => "new".to_owned(),
                    Connect::New {
                        replaced: Some(old),
                    } => format!("replaces {old}"),
                    Connect::Repeated => "repeated".to_owned(),
                },
                ["disconnect", token] if connections.disconnect(token) => "left".to_owned(),
                ["disconnect", _] => "stale".to_owned(),
                ["who", identifier] => {
                    let current = connections.current(identifier);
                    assert_eq!(current.is_some(), connections.is_connected(identifier));
                    current.unwrap_or_else(|| "nobody".to_owned())
                }
                _ => panic!("{operation}"),
            };
            assert_eq!(result, *expected, "step {at}, {operation}");
            let book = connections.book();
            assert_eq!(book.tokens.len(), book.identifiers.len(), "step {at}");
        }
    }

    #[test]
    fn a_new_connection_replaces_the_old_one_whose_disconnect_is_stale_then() {
        play(&[
            ("connect a 1", "new"),
            ("connect b 2", "new"),
            ("connect a 3", "replaces 1"),
            ("who a", "3"),
            ("disconnect 1", "stale"),
            ("who a", "3"),
            ("disconnect 3", "left"),
            ("who a", "nobody"),
            ("who b", "2"),
        ]);
    }

    #[test]
    fn a_callback_that_comes_twice_changes_nothing() {
        play(&[
            ("connect a 1", "new"),
            ("connect a 1", "repeated"),
            ("who a", "1"),
            ("disconnect 1", "left"),
            ("disconnect 1", "stale"),
            ("connect a 1", "repeated"),
            ("who a", "nobody"),
        ]);
        // The first try of a connect, handled late: its successor stays, whichever that is.
        play(&[
            ("connect a 1", "new"),
            ("connect a 2", "replaces 1"),
            ("connect a 1", "repeated"),
            ("who a", "2"),
        ]);
        play(&[
            ("disconnect 1", "stale"),
            ("connect a 1", "repeated"),
            ("who a", "nobody"),
        ]);
    }

    #[test]
    fn what_a_send_comes_to() {
        let table = [
            (Outcome::Taken, Delivery::Delivered, true),
            (Outcome::Gone, Delivery::NotConnected, false),
            (Outcome::Refused, Delivery::Refused, true),
            (Outcome::Failed, Delivery::Failed, true),
        ];
        for (outcome, delivery, is_connected) in table {
            let (fake, connections) = connections();
            fake.react(move |_, _| outcome);
            assert_eq!(connections.send("a", &event()), Delivery::NotConnected);
            assert!(fake.sent().is_empty());
            connections.connect("a", "1");
            assert_eq!(connections.send("a", &event()), delivery);
            assert_eq!(fake.sent(), ["1 note x"]);
            assert_eq!(connections.is_connected("a"), is_connected, "{outcome:?}");
        }
    }

    #[test]
    fn a_successor_gets_what_its_predecessor_may_have_missed() {
        for outcome in [Outcome::Gone, Outcome::Taken] {
            let (fake, connections) = connections();
            let inner = Arc::clone(&connections);
            fake.react(move |token, _| {
                if token == "1" {
                    inner.connect("a", "2");
                    return outcome;
                }
                Outcome::Taken
            });
            connections.connect("a", "1");
            assert_eq!(connections.send("a", &event()), Delivery::Delivered);
            assert_eq!(fake.sent(), ["1 note x", "2 note x"]);
            assert_eq!(connections.current("a").as_deref(), Some("2"));
        }
    }

    #[test]
    fn a_connection_is_finished_once() {
        let (fake, connections) = connections();
        let inner = Arc::clone(&connections);
        fake.react(move |_, event| {
            if event.name == "note" && event.data["text"] == "x" {
                let other = Event {
                    name: "note",
                    data: json!({"text": "again"}),
                };
                inner.finish("a", &other, "again");
            }
            Outcome::Taken
        });
        connections.connect("a", "1");
        connections.finish("a", &event(), "done");
        assert_eq!(fake.sent(), ["1 note x", "1 connection_close done, close"]);
        connections.finish("a", &event(), "done");
        assert!(fake.sent().is_empty());
    }

    #[test]
    fn a_connection_that_is_gone_is_not_closed() {
        let (fake, connections) = connections();
        fake.react(|_, _| Outcome::Gone);
        connections.connect("a", "1");
        connections.finish("a", &event(), "done");
        assert_eq!(fake.sent(), ["1 note x"]);
    }

    #[test]
    fn nothing_is_sent_under_the_lock() {
        let (fake, connections) = connections();
        let inner = Arc::clone(&connections);
        fake.react(move |_, _| {
            assert!(inner.book.try_lock().is_ok());
            Outcome::Taken
        });
        connections.connect("a", "1");
        connections.send("a", &event());
        connections.finish("a", &event(), "done");
        assert_eq!(fake.sent().len(), 3);
    }

    #[test]
    fn the_past_is_bounded() {
        let (_, connections) = connections();
        for token in 0..MAX_PAST + 10 {
            connections.connect("a", &token.to_string());
        }
        let book = connections.book();
        assert_eq!(book.past.len(), MAX_PAST);
        assert_eq!(book.past.back(), Some(&(MAX_PAST + 8).to_string()));
    }
}
