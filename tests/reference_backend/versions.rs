//! The version service.

use crate::world::World;

#[test]
fn everybody_is_told_with_one_send() {
    let world = World::start();
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
fn who_was_away_is_told_the_last_version() {
    let world = World::start();
    let target = "/events?client=a";
    let mut stream = world.open(target);
    world.demo.announce("1");
    stream.expect_version("1");
    let seen = stream.seen.clone();
    world.leave(stream, target);
    for version in ["2", "3"] {
        assert_eq!(world.demo.announce(version), 0);
    }
    let (mut again, told) = world.come_back(target, Some(&seen));
    again.expect_version("3");
    again.expect_position(&told);
    world.demo.announce("4");
    again.expect_version("4");
}

#[test]
fn a_version_that_the_gateway_did_not_take_is_no_success() {
    let (world, gate) = World::gated(|_| true);
    let mut announced = None;
    std::thread::scope(|scope| {
        let announcing = scope.spawn(|| world.demo.ask("POST", "/version", r#"{"version":"1"}"#));
        let send = gate.next_where("version", |send| send.json["broadcast"] == true);
        send.answer(503, "");
        announced = Some(announcing.join().expect("an answer").0);
    });
    assert_eq!(announced, Some(502));
}

#[test]
fn a_version_without_a_name_is_refused() {
    let world = World::start();
    for body in ["", "{}", r#"{"version":1}"#, r#"{"version":""}"#] {
        assert_eq!(world.demo.ask("POST", "/version", body).0, 400, "{body}");
    }
}
