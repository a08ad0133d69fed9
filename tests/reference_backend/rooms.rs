//! The room service.

use serde_json::json;

use crate::support::{Client, send_request};
use crate::world::{Stream, World};

#[track_caller]
fn expect_message(stream: &mut Stream, room: &str, from: &str, text: &str) {
    let data = json!({"room": room, "from": from, "text": text});
    stream.expect("room_message", &data);
}

#[test]
fn what_is_said_in_a_room_reaches_those_who_are_in_it() {
    let world = World::start();
    let [mut a, mut b] = ["a", "b"].map(|id| world.open(&format!("/events?client={id}")));
    assert_eq!(world.demo.say("x", "a", "nobody hears it"), 0);
    assert_eq!(world.demo.room("join", "x", "a"), json!(["x"]));
    a.expect("room_joined", &json!({"room": "x"}));
    assert_eq!(world.demo.say("x", "b", "one"), 1);
    assert_eq!(world.demo.room("join", "x", "b"), json!(["x"]));
    assert_eq!(world.demo.say("x", "b", "two"), 2);
    assert_eq!(world.demo.say("y", "b", "elsewhere"), 0);
    assert_eq!(world.demo.room("leave", "x", "a"), json!([]));
    assert_eq!(world.demo.say("x", "a", "three"), 1);
    expect_message(&mut a, "x", "b", "one");
    expect_message(&mut a, "x", "b", "two");
    a.expect("room_left", &json!({"room": "x"}));
    b.expect("room_joined", &json!({"room": "x"}));
    expect_message(&mut b, "x", "b", "two");
    expect_message(&mut b, "x", "a", "three");
}

#[test]
fn rooms_outlast_a_stream() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    world.demo.room("join", "x", "a");
    world.demo.room("join", "y", "a");
    for room in ["x", "y"] {
        stream.expect("room_joined", &json!({"room": room}));
    }
    world.demo.say("x", "b", "heard");
    expect_message(&mut stream, "x", "b", "heard");
    let seen = stream.seen.clone();
    world.leave(stream, target);
    assert_eq!(world.demo.say("x", "b", "missed"), 0);
    // While nobody is there, rooms can be joined and left too.
    world.demo.room("leave", "y", "a");
    assert_eq!(world.demo.room("join", "z", "a"), json!(["x", "z"]));
    let (mut again, told) = world.come_back(target, Some(&seen));
    assert_eq!(told["rooms"], json!(["x", "z"]));
    expect_message(&mut again, "x", "b", "missed");
    for (room, receivers) in [("x", 1), ("y", 0), ("z", 1)] {
        assert_eq!(world.demo.say(room, "b", "hello"), receivers, "{room}");
    }
    expect_message(&mut again, "x", "b", "hello");
    expect_message(&mut again, "z", "b", "hello");
}

/// A page that is loaded anew knows nothing of what was said before; one that has made a new
/// `EventSource` says in the URL what it has seen.
#[test]
fn what_was_said_comes_again_to_a_page_that_is_loaded_anew() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    world.demo.room("join", "x", "a");
    stream.expect("room_joined", &json!({"room": "x"}));
    world.demo.say("x", "b", "one");
    expect_message(&mut stream, "x", "b", "one");
    let seen = stream.seen.clone();
    world.demo.say("x", "b", "two");
    for (target, all) in [
        (target.to_owned(), &["one", "two"][..]),
        (format!("{target}&after={seen}"), &["two"]),
        (format!("{target}&after="), &["one", "two"]),
    ] {
        let (mut again, told) = world.open_told(&target);
        for text in all {
            expect_message(&mut again, "x", "b", text);
        }
        again.expect_position(&told);
    }
    // What cannot be known any more is told.
    let (mut again, _) = world.open_told(&format!("{target}&after=1-1"));
    again.expect("gap", &json!({"last_event_id": "1-1"}));
}

/// One who is replaced leaves every room with its stream.
#[test]
fn a_successor_is_in_the_rooms_in_place_of_its_predecessor() {
    let world = World::start();
    let mut old = world.open("/events?client=a");
    world.demo.room("join", "x", "a");
    old.expect("room_joined", &json!({"room": "x"}));
    let mut new = world.open("/events?client=a");
    old.expect_close("replaced");
    assert_eq!(world.demo.say("x", "b", "hello"), 1);
    expect_message(&mut new, "x", "b", "hello");
}

#[test]
fn what_cannot_be_said_is_refused() {
    let world = World::start();
    for (target, body, status) in [
        ("/rooms/x/say?client=a", "{}", 400),
        ("/rooms/x/say?client=a", r#"{"text":""}"#, 400),
        ("/rooms/x/say", r#"{"text":"t"}"#, 400),
        ("/rooms/a%20b/join?client=a", "", 400),
        ("/rooms//join?client=a", "", 400),
        ("/rooms/x/tell?client=a", r#"{"seconds":-1}"#, 400),
        ("/rooms/x/sing?client=a", "", 404),
        ("/rooms/x?client=a", "", 404),
    ] {
        let (answered, answer) = world.demo.ask("POST", target, body);
        assert_eq!(answered, status, "{target} {body}");
        assert!(answer["error"].is_string(), "{target} {body}");
    }
    // A stream is in so many channels at most; the reference asks no more of it.
    for room in 0..20 {
        world.demo.room("join", &room.to_string(), "a");
    }
    assert_eq!(
        world.demo.ask("POST", "/rooms/more/join?client=a", "").0,
        400
    );
    let _stream = world.open("/events?client=a");
}

/// Whoever leaves the channel of a room behind the backend's back: the gateway's word counts.
#[test]
fn the_number_of_receivers_is_the_gateway_s() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    world.demo.room("join", "x", "a");
    stream.expect("room_joined", &json!({"room": "x"}));
    let token = world.demo.token_of(target);
    let leave = json!({"token": token, "unsubscribe": ["room:x"]}).to_string();
    let mut publisher = Client::connect(world.gateway.port());
    publisher.send(send_request(&leave));
    assert_eq!(publisher.read_response().status(), 200);
    assert_eq!(world.demo.say("x", "b", "hello"), 0);
}
