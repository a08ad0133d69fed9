//! The task service.

use std::thread;

use serde_json::{Value, json};

use crate::support::{BUFFERED, Backend, Callback};
use crate::world::{Stream, World, pass, sent};

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
            assert_eq!(send.json["close"] == true, close);
        }
        let token = world.demo.token_of(&target);
        world
            .demo
            .wait_line(&["disconnect ", &token, "server_closed"]);
    }
}

/// The task's own stream, two of them, and its owner's: with one send each, and nobody twice.
#[test]
fn a_task_s_watchers_see_the_same() {
    let (world, gate) = World::gated(|send| sent(send).1["percent"] == 0);
    let mut owner = world.open("/events?client=a");
    let task = world.demo.task("?client=a", &json!({"seconds": 0}));
    let first = gate.next_where("the first send", |_| true);
    let target = format!("/events?task={task}");
    let mut watchers = [world.open(&target), world.open(&target)];
    let answer = pass(world.gateway.port(), &first);
    assert!(answer.contains(r#""receivers":3"#), "{answer}");
    let (seen, end) = follow(&mut owner, &task);
    assert_eq!(seen.len(), 11);
    for watcher in &mut watchers {
        assert_eq!(follow(watcher, &task), (seen.clone(), end.clone()));
        watcher.expect_close("task_completed");
    }
    world.demo.announce("1");
    owner.expect_version("1");
}

/// Whoever comes to look when the end is noted, and sent or not: there is an end and one close.
#[test]
fn who_comes_to_look_while_a_task_ends_is_told_once() {
    for held in ["task_completed", "connection_close"] {
        let callbacks = Backend::start();
        let (world, sends) = World::behind(&callbacks);
        let gateway = world.gateway.port();
        let task = world.demo.task("", &json!({"seconds": 0}));
        let is_held = |send: &Callback| send.json["event"]["name"] == held;
        let last = loop {
            let send = sends.next_where("a send of the task", |_| true);
            if is_held(&send) {
                break send;
            }
            pass(gateway, &send);
        };
        let target = format!("/events?task={task}");
        let mut client = world.gateway.get(&target);
        let callback = callbacks.next_connect_of(&target);
        let (status, answer) = thread::scope(|scope| {
            let asked = scope.spawn(|| world.demo.ask("POST", "/callback", &callback.text()));
            let mut last = Some(last);
            // The join, and what the book tells; the held send comes in between.
            for what in ["join", "end", "close"] {
                let send = sends.next_where(what, |send| send.token() == callback.token());
                assert_eq!(pass(gateway, &send), BUFFERED);
                last.take().map(|last| pass(gateway, &last));
            }
            asked.join().expect("an answer")
        });
        if held == "task_completed" {
            let close = sends.next_where("the close", |send| send.json["close"] == true);
            pass(gateway, &close);
        }
        callback.answer(status, &answer.to_string());
        assert_eq!(client.read_head().status, 200);
        let mut stream = Stream::of(client);
        assert_eq!(stream.next().0, "connection_open");
        let mut ends = 0;
        let reason = loop {
            match stream.next() {
                (name, data) if name == "connection_close" => break data["reason"].clone(),
                (name, _) => assert_eq!(name, "task_completed"),
            }
            ends += 1;
        };
        assert_eq!(reason, "task_completed");
        // Behind the channel's close nothing comes, not even the end by token.
        let least = u32::from(held == "task_completed");
        assert!((least..=2 * least).contains(&ends), "{held}: {ends}");
        stream.expect_end();
        callbacks.next_disconnect().answer(204, "");
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
