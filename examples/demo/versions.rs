//! The *version service*: tells every client that it knows of a new version. Who is not connected
//! gets the events, in order, on the next connect.
//!
//! Laws: an event goes into the client's queue first, always behind those that wait, and leaves it
//! only when it was delivered. One thread at a time sends from a queue; another one that comes
//! meanwhile leaves word, and the first looks again before it goes. So no event overtakes another
//! and none is left behind. An event may come twice, on two connections, when it is not known
//! whether the first one got it: a version is told twice rather than never.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::connections::{Connections, Delivery};
use super::gateway::Event;

/// Most events that wait for one client; the oldest go first.
const MAX_WAITING: usize = 100;

/// Most clients that are known. Beyond it those that are not connected go, the one that connected
/// longest ago first; those that are connected are all known.
const MAX_KNOWN: usize = 1000;

pub(crate) struct Versions {
    connections: Arc<Connections>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    clients: HashMap<String, Client>,
    /// A number for each event and each connect, growing.
    clock: u64,
}

/// What one client is to be told, the oldest first, each event with its number.
#[derive(Default)]
struct Client {
    waiting: VecDeque<(u64, Event)>,
    flush: Flush,
    connected_at: u64,
}

/// Whether a thread is sending what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Flush {
    #[default]
    Idle,
    Running,
    /// Running, and there was a reason to begin since it last looked.
    Again,
}

impl Versions {
    pub(crate) fn new(connections: Arc<Connections>) -> Versions {
        Versions {
            connections,
            book: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has connected: from now on it is told of every version. What has waited for it
    /// goes out with [`Versions::flush`].
    pub(crate) fn connected(&self, identifier: &str) {
        let is_absent = |other: &str| !self.connections.is_connected(other);
        self.book().connected(identifier, is_absent);
    }

    /// Puts a version into every client's queue, from where [`Versions::flush`] sends it. All
    /// clients get their versions in the same order, that of the calls.
    pub(crate) fn announce(&self, version: &str) -> Vec<String> {
        self.book().announce(&Event {
            name: "version",
            data: json!({"version": version}),
        })
    }

    /// How many events wait for a client.
    pub(crate) fn waiting(&self, identifier: &str) -> usize {
        let book = self.book();
        let client = book.clients.get(identifier);
        client.map_or(0, |client| client.waiting.len())
    }

    /// Sends what waits for a client, unless another thread does; that one looks again then.
    pub(crate) fn flush(&self, identifier: &str) {
        if !self.book().begin(identifier) {
            return;
        }
        loop {
            self.send_waiting(identifier);
            if self.book().end(identifier) {
                return;
            }
        }
    }

    /// Sends one event behind the other until none waits or one does not get through.
    fn send_waiting(&self, identifier: &str) {
        loop {
            let Some((number, event)) = self.book().first(identifier) else {
                return;
            };
            match self.connections.send(identifier, &event) {
                Delivery::Delivered | Delivery::Refused => {
                    self.book().drop_event(identifier, number)
                }
                // The next connect or the next version brings another attempt.
                Delivery::NotConnected | Delivery::Failed => return,
            }
        }
    }
}

impl Book {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn connected(&mut self, identifier: &str, is_absent: impl Fn(&str) -> bool) {
        let now = self.tick();
        let client = self.clients.entry(identifier.to_owned()).or_default();
        client.connected_at = now;
        if self.clients.len() <= MAX_KNOWN {
            return;
        }
        // Whoever is being sent to stays: another thread counts on finding the queue again.
        let oldest = self
            .clients
            .iter()
            .filter(|(other, client)| client.flush == Flush::Idle && is_absent(other))
            .min_by_key(|(_, client)| client.connected_at)
            .map(|(other, _)| other.clone());
        oldest.map(|other| self.clients.remove(&other));
    }

    fn announce(&mut self, event: &Event) -> Vec<String> {
        let number = self.tick();
        for client in self.clients.values_mut() {
            client.waiting.push_back((number, event.clone()));
            if client.waiting.len() > MAX_WAITING {
                client.waiting.pop_front();
            }
        }
        self.clients.keys().cloned().collect()
    }

    /// True if the caller is the one to send.
    fn begin(&mut self, identifier: &str) -> bool {
        let Some(client) = self.clients.get_mut(identifier) else {
            return false;
        };
        let is_idle = client.flush == Flush::Idle;
        client.flush = if is_idle {
            Flush::Running
        } else {
            Flush::Again
        };
        is_idle
    }

    /// True if the caller may go; else it has to look again.
    fn end(&mut self, identifier: &str) -> bool {
        let Some(client) = self.clients.get_mut(identifier) else {
            return true;
        };
        let is_over = client.flush == Flush::Running;
        client.flush = if is_over { Flush::Idle } else { Flush::Running };
        is_over
    }

    fn first(&self, identifier: &str) -> Option<(u64, Event)> {
        self.clients.get(identifier)?.waiting.front().cloned()
    }

    /// The event was sent. It need not be the first any more: a full queue drops its oldest.
    fn drop_event(&mut self, identifier: &str, number: u64) {
        if let Some(client) = self.clients.get_mut(identifier) {
            client.waiting.retain(|(other, _)| *other != number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::gateway::Outcome;
    use super::super::gateway::fake::Fake;
    use super::*;

    struct World {
        fake: Arc<Fake>,
        connections: Arc<Connections>,
        versions: Arc<Versions>,
    }

    impl World {
        fn new() -> World {
            let fake = Arc::<Fake>::default();
            let connections = Arc::new(Connections::new(Box::new(Arc::clone(&fake))));
            let versions = Arc::new(Versions::new(Arc::clone(&connections)));
            World {
                fake,
                connections,
                versions,
            }
        }

        fn connect(&self, identifier: &str, token: &str) {
            self.connections.connect(identifier, token);
            self.versions.connected(identifier);
            self.versions.flush(identifier);
        }

        fn announce(&self, version: &str) {
            announce(&self.versions, version);
        }

        /// At the send with this number, counted from 0, something happens before the answer.
        fn at_send(
            &self,
            number: usize,
            happens: impl Fn(&Versions, &Connections) -> Outcome + Send + Sync + 'static,
        ) {
            let (versions, connections) =
                (Arc::clone(&self.versions), Arc::clone(&self.connections));
            let count = AtomicUsize::new(0);
            self.fake.react(move |_, _| {
                if count.fetch_add(1, Ordering::Relaxed) == number {
                    happens(&versions, &connections)
                } else {
                    Outcome::Taken
                }
            });
        }

        /// Known, not connected, and these wait.
        fn absent(versions: &[&str]) -> World {
            let world = World::new();
            world.connect("a", "0");
            world.connections.disconnect("0");
            for version in versions {
                world.announce(version);
            }
            assert_eq!(world.versions.waiting("a"), versions.len());
            assert!(world.fake.sent().is_empty());
            world
        }
    }

    fn announce(versions: &Versions, version: &str) {
        for client in versions.announce(version) {
            versions.flush(&client);
        }
    }

    #[test]
    fn who_is_connected_gets_a_version_at_once() {
        let world = World::new();
        world.announce("0");
        world.connect("a", "1");
        world.announce("1");
        assert_eq!(world.fake.sent(), ["1 version 1"]);
        assert_eq!(world.versions.waiting("a"), 0);
    }

    #[test]
    fn versions_wait_for_who_is_absent_and_come_in_order() {
        let world = World::absent(&["1", "2", "3"]);
        world.connect("a", "1");
        assert_eq!(
            world.fake.sent(),
            ["1 version 1", "1 version 2", "1 version 3"]
        );
        assert_eq!(world.versions.waiting("a"), 0);
    }

    #[test]
    fn a_version_announced_during_a_flush_comes_behind_it_and_once() {
        for at in 0..2 {
            let world = World::absent(&["1", "2"]);
            world.at_send(at, |versions, _| {
                announce(versions, "3");
                Outcome::Taken
            });
            world.connect("a", "1");
            let expected = ["1 version 1", "1 version 2", "1 version 3"];
            assert_eq!(world.fake.sent(), expected, "at {at}");
            assert_eq!(world.versions.waiting("a"), 0);
        }
    }

    #[test]
    fn what_does_not_get_through_waits_on_in_its_place() {
        for outcome in [Outcome::Gone, Outcome::Failed] {
            let world = World::absent(&["1", "2", "3"]);
            world.at_send(1, move |_, _| outcome);
            world.connect("a", "1");
            assert_eq!(world.fake.sent(), ["1 version 1", "1 version 2"]);
            assert_eq!(world.versions.waiting("a"), 2);
            world.connect("a", "2");
            assert_eq!(world.fake.sent(), ["2 version 2", "2 version 3"]);
        }
    }

    #[test]
    fn what_the_gateway_will_never_take_holds_up_nothing() {
        let world = World::absent(&["1", "2"]);
        world.at_send(0, |_, _| Outcome::Refused);
        world.connect("a", "1");
        assert_eq!(world.fake.sent(), ["1 version 1", "1 version 2"]);
        assert_eq!(world.versions.waiting("a"), 0);
    }

    /// The flush was about to give up when there was a reason for another one.
    #[test]
    fn a_flush_that_was_asked_for_during_a_flush_is_made_up_for() {
        let world = World::absent(&["1", "2"]);
        world.at_send(0, |versions, connections| {
            connections.disconnect("1");
            connections.connect("a", "2");
            versions.connected("a");
            versions.flush("a");
            Outcome::Failed
        });
        world.connect("a", "1");
        assert_eq!(
            world.fake.sent(),
            ["1 version 1", "2 version 1", "2 version 2"]
        );
        assert_eq!(world.versions.waiting("a"), 0);
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_go_first() {
        let world = World::absent(&[]);
        for version in 0..=MAX_WAITING {
            world.announce(&version.to_string());
        }
        assert_eq!(world.versions.waiting("a"), MAX_WAITING);
        world.connect("a", "1");
        assert_eq!(world.fake.sent()[0], "1 version 1");
    }

    #[test]
    fn a_queue_that_overflows_while_its_first_event_is_sent_loses_only_the_oldest() {
        let world = World::absent(&["first", "second"]);
        world.at_send(0, |versions, _| {
            for version in 0..MAX_WAITING - 1 {
                announce(versions, &version.to_string());
            }
            Outcome::Taken
        });
        world.connect("a", "1");
        let sent = world.fake.sent();
        assert_eq!(
            sent[..3],
            ["1 version first", "1 version second", "1 version 0"]
        );
        assert_eq!(sent.len(), MAX_WAITING + 1);
    }

    #[test]
    fn those_who_are_absent_are_bounded_and_those_who_are_connected_all_known() {
        let world = World::new();
        world.connect("here", "here");
        for number in 0..=MAX_KNOWN {
            let name = format!("a{number}");
            world.connect(&name, &name);
            world.connections.disconnect(&name);
        }
        world.announce("1");
        let waiting =
            ["a0", "a1", "a2", &format!("a{MAX_KNOWN}")].map(|a| world.versions.waiting(a));
        assert_eq!(waiting, [0, 0, 1, 1]);
        assert_eq!(world.fake.sent(), ["here version 1"]);
        assert_eq!(world.versions.book().clients.len(), MAX_KNOWN);
    }
}
