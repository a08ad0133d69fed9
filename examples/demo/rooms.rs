//! The *room service*: a client joins and leaves rooms, and what is said in one reaches everybody in
//! it. A room is a channel of the gateway, which knows whose streams are in it, and what was said
//! lately.
//!
//! Laws: the rooms of a client outlast its stream: they are kept here, and the answer to its next
//! connect names them. A change is noted first and told to the current stream then; a connect is
//! entered first and reads the rooms then. So one of the two sees the other, and a room that both
//! bring is joined once. A leave that crosses a connect may come to nothing, when the answer that
//! names the room arrives behind it: the next that is said there shows it, and one leaves again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};

use super::connections::Connections;
use super::gateway::{Gateway, Outcome, event};
use super::target::{client, room};

/// Most rooms of one client. A stream is in 64 channels at most.
const MAX_ROOMS: usize = 20;

/// Most clients whose rooms are kept; the one that was first in a room is forgotten first.
const MAX_KNOWN: usize = 1000;

pub(crate) struct Rooms {
    gateway: Arc<dyn Gateway>,
    connections: Arc<Connections>,
    members: Mutex<Vec<Member>>,
}

/// A client that is in a room at least.
struct Member {
    id: String,
    rooms: Vec<String>,
}

impl Rooms {
    pub(crate) fn new(gateway: Arc<dyn Gateway>, connections: Arc<Connections>) -> Rooms {
        Rooms {
            gateway,
            connections,
            members: Mutex::default(),
        }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rooms of a client, in the order in which it joined them.
    pub(crate) fn of(&self, id: &str) -> Vec<String> {
        let members = self.members();
        let member = members.iter().find(|member| member.id == id);
        member.map_or(Vec::new(), |member| member.rooms.clone())
    }

    /// The room's events reach the client's stream behind the event that says so. Without a stream
    /// the next one will be in the room.
    pub(crate) fn join(&self, id: &str, name: &str) -> Outcome {
        if !enter(&mut self.members(), id, name) {
            return Outcome::Refused;
        }
        self.tell(id, json!({"subscribe": [room(name)]}), "room_joined", name)
    }

    pub(crate) fn leave(&self, id: &str, name: &str) -> Outcome {
        leave(&mut self.members(), id, name);
        self.tell(id, json!({"unsubscribe": [room(name)]}), "room_left", name)
    }

    fn tell(&self, id: &str, mut command: Json, what: &str, name: &str) -> Outcome {
        command["event"] = event(what, &json!({"room": name}));
        self.connections.send(&client(id), command)
    }

    /// Says something to everybody in a room, and so how many that were.
    pub(crate) fn say(&self, id: &str, name: &str, text: &str) -> Outcome {
        let data = json!({"room": name, "from": id, "text": text});
        self.gateway.send(&json!({
            "channel": room(name),
            "event": event("room_message", &data),
        }))
    }
}

/// False when the client is in too many rooms.
fn enter(members: &mut Vec<Member>, id: &str, name: &str) -> bool {
    if !members.iter().any(|member| member.id == id) {
        if members.len() == MAX_KNOWN {
            members.remove(0);
        }
        members.push(Member {
            id: id.to_owned(),
            rooms: Vec::new(),
        });
    }
    let Some(member) = members.iter_mut().find(|member| member.id == id) else {
        return false;
    };
    let is_in = member.rooms.iter().any(|own| own == name);
    if !is_in && member.rooms.len() < MAX_ROOMS {
        member.rooms.push(name.to_owned());
        return true;
    }
    is_in
}

fn leave(members: &mut Vec<Member>, id: &str, name: &str) {
    for member in members.iter_mut().filter(|member| member.id == id) {
        member.rooms.retain(|own| own != name);
    }
    members.retain(|member| !member.rooms.is_empty());
}

#[cfg(test)]
mod tests {
    use super::super::gateway::fake::Fake;
    use super::*;

    fn rooms() -> (Arc<Fake>, Arc<Connections>, Rooms) {
        let fake = Arc::<Fake>::default();
        let gateway = Arc::clone(&fake) as Arc<dyn Gateway>;
        let connections = Arc::new(Connections::new(Arc::clone(&gateway)));
        let rooms = Rooms::new(gateway, Arc::clone(&connections));
        (fake, connections, rooms)
    }

    const TAKEN: Outcome = Outcome::Taken { receivers: 1 };

    #[test]
    fn a_stream_joins_and_leaves_with_one_send_each() {
        let (fake, connections, rooms) = rooms();
        connections.connect("client:a", "1");
        assert_eq!(rooms.join("a", "x"), TAKEN);
        assert_eq!(rooms.join("a", "y"), TAKEN);
        assert_eq!(rooms.join("a", "x"), TAKEN);
        assert_eq!(rooms.of("a"), ["x", "y"]);
        assert_eq!(rooms.leave("a", "x"), TAKEN);
        assert_eq!(rooms.of("a"), ["y"]);
        assert_eq!(rooms.leave("a", "z"), TAKEN);
        let expected = [
            "1 +room:x room_joined x",
            "1 +room:y room_joined y",
            "1 +room:x room_joined x",
            "1 -room:x room_left x",
            "1 -room:z room_left z",
        ];
        assert_eq!(fake.sent(), expected);
    }

    #[test]
    fn who_has_no_stream_joins_with_the_next_one() {
        let (fake, _, rooms) = rooms();
        assert_eq!(rooms.join("a", "x"), Outcome::Gone);
        assert_eq!(rooms.of("a"), ["x"]);
        assert!(fake.sent().is_empty());
        assert_eq!(rooms.leave("a", "x"), Outcome::Gone);
        assert!(rooms.of("a").is_empty() && rooms.members().is_empty());
    }

    #[test]
    fn what_is_said_goes_to_the_room() {
        let (fake, _, rooms) = rooms();
        fake.react(|_| Outcome::Taken { receivers: 3 });
        assert_eq!(
            rooms.say("a", "x", "hello"),
            Outcome::Taken { receivers: 3 }
        );
        assert_eq!(fake.sent(), ["room:x room_message a x hello"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (_, _, rooms) = rooms();
        for room in 0..MAX_ROOMS {
            assert_ne!(rooms.join("a", &room.to_string()), Outcome::Refused);
        }
        assert_eq!(rooms.join("a", "more"), Outcome::Refused);
        assert_ne!(rooms.join("a", "0"), Outcome::Refused);
        for id in 1..MAX_KNOWN {
            rooms.join(&id.to_string(), "x");
        }
        assert_eq!(rooms.of("a").len(), MAX_ROOMS);
        rooms.join("last", "x");
        assert!(rooms.of("a").is_empty());
        assert_eq!(rooms.members().len(), MAX_KNOWN);
    }
}
