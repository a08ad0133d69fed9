//! The story service.

use serde_json::{Value, json};

use crate::world::{Stream, World};

#[track_caller]
fn tell(world: &World, body: &Value) -> String {
    let (status, answer) = world
        .demo
        .ask("POST", "/rooms/x/tell?client=a", &body.to_string());
    assert_eq!(status, 201, "{answer}");
    answer["story"].as_str().expect("an ID").to_owned()
}

/// Reads a story's words from this one on, as long as `wants` says of the last one.
#[track_caller]
fn listen(stream: &mut Stream, story: &str, from: u64, wants: impl Fn(u64, u64) -> bool) -> u64 {
    let mut next = from;
    loop {
        let (name, data) = stream.next();
        assert_eq!(
            (name.as_str(), &data["story"]),
            ("room_word", &json!(story))
        );
        assert_eq!(data["at"], next, "{data}");
        next += 1;
        if !wants(next, data["of"].as_u64().expect("a number")) {
            return next;
        }
    }
}

/// It goes on where it was, whoever keeps listening: the backend does not know.
#[test]
fn a_story_goes_on_where_it_was() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    world.demo.room("join", "x", "a");
    stream.expect("room_joined", &json!({"room": "x"}));
    let story = tell(&world, &json!({"seconds": 1}));
    let next = listen(&mut stream, &story, 0, |next, _| next < 10);
    let seen = stream.seen.clone();
    // Its line is cut, and its browser comes back.
    let (mut again, _) = world.come_back(target, Some(&seen));
    let all = listen(&mut again, &story, next, |next, of| next < of);
    // The page is loaded anew.
    let (mut late, told) = world.open_told(target);
    assert_eq!(listen(&mut late, &story, 0, |next, of| next < of), all);
    late.expect_position(&told);
}
