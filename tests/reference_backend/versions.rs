//! The version service.

use serde_json::Value;

use crate::world::World;

#[test]
fn everybody_is_told_with_one_send() {
    let world = World::start();
    assert_eq!(world.demo.announce("0"), 0);
    let task = world.demo.task("", &serde_json::json!({"seconds": 600}));
    let targets = [
        "/events?client=a",
        "/events?client=b",
        &format!("/events?task={task}"),
    ];
    let mut streams = targets.map(|target| world.open(target));
    for version in ["1", "2", "3"] {
        assert_eq!(world.demo.announce(version), 3);
    }
    for stream in &mut streams {
        for version in ["1", "2", "3"] {
            stream.expect_version(version);
        }
    }
}

#[test]
fn who_was_away_is_told_the_last_version_with_the_open() {
    let world = World::start();
    let target = "/events?client=a";
    let (stream, told) = world.open_told(target);
    assert_eq!(told["version"], Value::Null);
    world.leave(stream, target);
    for version in ["1", "2"] {
        assert_eq!(world.demo.announce(version), 0);
    }
    let (mut again, told) = world.open_told(target);
    assert_eq!(told["version"], "2");
    world.demo.announce("3");
    again.expect_version("3");
}

#[test]
fn a_version_that_the_gateway_did_not_take_is_noted_all_the_same() {
    let (world, gate) = World::gated(|_| true);
    let mut announced = None;
    std::thread::scope(|scope| {
        let announcing = scope.spawn(|| world.demo.ask("POST", "/version", r#"{"version":"1"}"#));
        let send = gate.next_where("version", |send| send.json["broadcast"] == true);
        send.answer(503, "");
        announced = Some(announcing.join().expect("an answer").0);
    });
    assert_eq!(announced, Some(502));
    let (_, told) = world.open_told("/events?client=a");
    assert_eq!(told["version"], "1");
}

#[test]
fn a_version_without_a_name_is_refused() {
    let world = World::start();
    for body in ["", "{}", r#"{"version":1}"#, r#"{"version":""}"#] {
        assert_eq!(world.demo.ask("POST", "/version", body).0, 400, "{body}");
    }
}
