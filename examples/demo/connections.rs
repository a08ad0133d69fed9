//! The *connection manager*: which connection an identifier has at this moment.
//!
//! An identifier (`client:ID`) is the application's name for a stream, a token the gateway's name
//! for one connection. Laws:
//!
//! - An identifier has one connection at most: a new one replaces the old one under the lock, and
//!   the old one is closed outside of it. Nothing is ever sent under the lock.
//! - A token comes once. Callbacks may be repeated, and be handled out of order by two threads: a
//!   connect for a token that is known, or was, changes nothing; nor does a disconnect for one
//!   that is not current, so that a late one never touches its successor.
//! - What the gateway does not know (404) is forgotten: a disconnect callback is tried only once.
//! - Two sends from two threads have no order. Whatever must keep one is sent by one thread at a
//!   time: see `tasks` and `stories`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};

use super::gateway::{Gateway, Outcome, event};
use super::say;

/// How long a browser waits before it comes back, in milliseconds, when it has not been told
/// otherwise.
pub(crate) const RETRY: u32 = 3000;

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

pub(crate) struct Connections {
    gateway: Arc<dyn Gateway>,
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
    pub(crate) fn new(gateway: Arc<dyn Gateway>) -> Connections {
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

    /// Whether the gateway knows the current connection: a send that holds nothing but a token asks
    /// just that. Without an answer of the gateway, as far as is known here.
    pub(crate) fn is_connected(&self, identifier: &str) -> bool {
        self.send(identifier, json!({})) != Outcome::Gone
    }

    fn current(&self, identifier: &str) -> Option<String> {
        self.book().tokens.get(identifier).cloned()
    }

    /// Sends a command to the current connection. If that has been replaced when the answer is
    /// here, its successor gets it as well. `Gone` when there is no connection.
    pub(crate) fn send(&self, identifier: &str, mut command: Json) -> Outcome {
        while let Some(token) = self.current(identifier) {
            command["token"] = json!(token);
            let outcome = self.gateway.send(&command);
            if outcome == Outcome::Gone {
                self.not_found(&token);
            } else if self.current(identifier).as_ref() == Some(&token) {
                return outcome;
            }
        }
        Outcome::Gone
    }

    /// Tells a connection why it ends, and ends it.
    pub(crate) fn close(&self, token: &str, reason: &str) {
        self.gateway.send(&json!({
            "token": token,
            "event": event("connection_close", &json!({"reason": reason})),
            "close": true,
        }));
    }

    /// Ends the current connection, and no successor of it, as a lost line does: the client comes
    /// back by itself, after so many seconds, which only an event can tell it.
    pub(crate) fn cut(&self, identifier: &str, seconds: f64) -> Outcome {
        let Some(token) = self.current(identifier) else {
            return Outcome::Gone;
        };
        let mut event = event("line_cut", &json!({"seconds": seconds}));
        event["retry"] = json!((seconds * 1000.0) as u64);
        self.gateway
            .send(&json!({"token": token, "event": event, "close": true}))
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
    use super::super::gateway::fake::Fake;
    use super::*;

    fn connections() -> (Arc<Fake>, Arc<Connections>) {
        let fake = Arc::<Fake>::default();
        let connections = Connections::new(Arc::clone(&fake) as Arc<dyn Gateway>);
        (fake, Arc::new(connections))
    }

    fn join() -> Json {
        json!({"subscribe": ["room:x"]})
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
            (Outcome::Taken { receivers: 1 }, true),
            (Outcome::Gone, false),
            (Outcome::Refused, true),
            (Outcome::Failed, true),
        ];
        for (outcome, is_connected) in table {
            let (fake, connections) = connections();
            fake.react(move |_| outcome);
            assert_eq!(connections.send("a", join()), Outcome::Gone);
            assert!(fake.sent().is_empty());
            connections.connect("a", "1");
            assert_eq!(connections.send("a", join()), outcome);
            assert_eq!(fake.sent(), ["1 +room:x"]);
            assert_eq!(connections.current("a").is_some(), is_connected);
            // The gateway is asked, as long as there is somebody to ask for.
            assert_eq!(connections.is_connected("a"), is_connected, "{outcome:?}");
            assert_eq!(fake.sent(), ["1"][..usize::from(is_connected)]);
        }
    }

    #[test]
    fn a_successor_gets_what_its_predecessor_may_have_missed() {
        let outcomes = [
            Outcome::Gone,
            Outcome::Failed,
            Outcome::Taken { receivers: 1 },
        ];
        for outcome in outcomes {
            let (fake, connections) = connections();
            let inner = Arc::clone(&connections);
            fake.react(move |command| {
                if command["token"] == "1" {
                    inner.connect("a", "2");
                    return outcome;
                }
                // Nothing is sent under the lock.
                assert!(inner.book.try_lock().is_ok());
                Outcome::Taken { receivers: 1 }
            });
            connections.connect("a", "1");
            assert_eq!(
                connections.send("a", join()),
                Outcome::Taken { receivers: 1 }
            );
            assert_eq!(fake.sent(), ["1 +room:x", "2 +room:x"]);
            assert_eq!(connections.current("a").as_deref(), Some("2"));
        }
    }

    #[test]
    fn a_connection_is_told_why_it_ends() {
        let (fake, connections) = connections();
        connections.close("1", "replaced");
        assert_eq!(fake.sent(), ["1 connection_close replaced, close"]);
    }

    #[test]
    fn a_line_that_is_cut_says_when_to_come_back() {
        let (fake, connections) = connections();
        assert_eq!(connections.cut("a", 1.5), Outcome::Gone);
        connections.connect("a", "1");
        fake.react(|command| {
            assert_eq!(command["event"]["retry"], 1500);
            Outcome::Taken { receivers: 1 }
        });
        connections.cut("a", 1.5);
        assert_eq!(fake.sent(), ["1 line_cut 1.5, close"]);
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
