//! The task service.

use serde_json::{Value, json};

use crate::world::{Stream, World, sent};

/// Reads progress up to the task's last event, which is given; the percentages grow.
#[track_caller]
fn follow(stream: &mut Stream, task: &str) -> (Vec<u64>, (String, Value)) {
    let mut seen = Vec::new();
    loop {
        let (name, data) = stream.next();
        assert_eq!(data["task"], task, "{name} {data}");
        if name != "task_progress" {
            assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
            return (seen, (name, data));
        }
        seen.push(data["percent"].as_u64().expect("a number"));
    }
}

#[test]
fn an_owner_sees_all_of_a_task_and_stays() {
    for (fails, last, most) in [(false, "task_completed", 100), (true, "task_failed", 50)] {
        let world = World::start();
        let mut owner = world.open("/events?client=a");
        let work = json!({"name": "n", "seconds": 0, "fails": fails});
        let task = world.demo.task("?client=a", &work);
        let (seen, (name, data)) = follow(&mut owner, &task);
        assert_eq!(seen, (0..=most).step_by(10).collect::<Vec<u64>>());
        assert_eq!((name.as_str(), &data["name"]), (last, &json!("n")));
        assert_eq!(data["error"].is_string(), fails);
        world.demo.announce("1");
        owner.expect_version("1");
    }
}

#[test]
fn a_task_ends_its_own_stream() {
    for (fails, last) in [(false, "task_completed"), (true, "task_failed")] {
        let (world, gate) = World::gated(|_| false);
        let task = world.demo.task("", &json!({"seconds": 2, "fails": fails}));
        let target = format!("/events?task={task}");
        let mut stream = world.open(&target);
        let (_, (name, _)) = follow(&mut stream, &task);
        assert_eq!(name, last);
        stream.expect_close(last);
        // The event leaves the stream open, the close is a send of its own.
        for (name, close) in [(last, false), ("connection_close", true)] {
            let send = gate.next_where(name, |send| sent(&send.json).0 == name);
            assert_eq!(send.json["close"], close);
        }
        let token = world.demo.token_of(&target);
        world
            .demo
            .wait_line(&["disconnect ", &token, "server_closed"]);
        assert!(!world.demo.connection(&format!("task:{task}")).0);
    }
}

#[test]
fn who_comes_late_gets_the_last_event_and_the_close() {
    let world = World::start();
    for (fails, last) in [(false, "task_completed"), (true, "task_failed")] {
        let owner = if fails { "a" } else { "b" };
        let mut owners = world.open(&format!("/events?client={owner}"));
        let work = json!({"seconds": 0, "fails": fails});
        let task = world.demo.task(&format!("?client={owner}"), &work);
        let (_, end) = follow(&mut owners, &task);
        // However often.
        for _ in 0..2 {
            let mut late = world.open(&format!("/events?task={task}"));
            assert_eq!(late.next(), end);
            late.expect_close(last);
        }
    }
}

#[test]
fn an_unknown_task_is_an_error_and_a_close() {
    let world = World::start();
    let mut stream = world.open("/events?task=x");
    let (name, data) = stream.next();
    assert_eq!(
        (name.as_str(), data["message"].is_string()),
        ("error", true)
    );
    stream.expect_close("unknown_task");
}

#[test]
fn work_that_cannot_be_is_refused() {
    let world = World::start();
    for (target, body) in [
        ("/tasks", "[]"),
        ("/tasks", "{"),
        ("/tasks", r#"{"seconds":-1}"#),
        ("/tasks?client=", "{}"),
    ] {
        let (status, answer) = world.demo.ask("POST", target, body);
        assert_eq!(
            (status, answer["error"].is_string()),
            (400, true),
            "{target} {body}"
        );
    }
    assert_eq!(world.demo.ask("POST", "/tasks", "").0, 201);
}
