//! The version service.

use crate::support::{BUFFERED, OK};
use crate::world::{World, pass, sent};

#[test]
fn versions_wait_for_a_client_and_come_in_order_behind_the_open() {
    let world = World::start();
    let target = "/events?client=a";
    let stream = world.open(target);
    world.leave(stream, target);
    for version in ["1", "2", "3"] {
        world.demo.announce(version);
    }
    assert_eq!(world.demo.connection("client:a"), (false, 3));
    let mut again = world.open(target);
    for version in ["1", "2", "3"] {
        again.expect_version(version);
    }
    world.demo.announce("4");
    again.expect_version("4");
}

#[test]
fn the_oldest_of_too_many_go_first() {
    let world = World::start();
    let target = "/events?client=a";
    let stream = world.open(target);
    world.leave(stream, target);
    for version in 0..=100 {
        world.demo.announce(&version.to_string());
    }
    assert_eq!(world.demo.connection("client:a"), (false, 100));
    let mut again = world.open(target);
    for version in 1..=100 {
        again.expect_version(&version.to_string());
    }
}

#[test]
fn a_version_announced_during_a_flush_neither_overtakes_nor_is_lost() {
    let (world, gate) = World::gated(|_| true);
    let target = "/events?client=a";
    let stream = world.open(target);
    world.leave(stream, target);
    for version in ["1", "2"] {
        world.demo.announce(version);
    }
    let mut again = world.open(target);
    let first = gate.next_where("send", |_| true);
    // The flush is under way, its first event held.
    world.demo.announce("3");
    for (version, send) in [("1", Some(first)), ("2", None), ("3", None)] {
        let send = send.unwrap_or_else(|| gate.next_where("send", |_| true));
        assert_eq!(sent(&send.json).1["version"], version);
        // Nothing else is under way while one is.
        gate.assert_idle();
        let answer = pass(world.gateway.port(), &send);
        assert!([OK, BUFFERED].contains(&answer.as_str()), "{answer}");
        again.expect_version(version);
    }
}

#[test]
fn a_client_that_leaves_during_a_flush_gets_the_rest_on_its_return() {
    let (world, gate) = World::gated(|_| true);
    let target = "/events?client=a";
    let stream = world.open(target);
    world.leave(stream, target);
    for version in ["1", "2"] {
        world.demo.announce(version);
    }
    // A target of its own, so that its token can be told from that of the first.
    let other = "/events?client=a&n=2";
    let mut client = world.gateway.get(other);
    assert_eq!(client.read_head().status, 200);
    let first = gate.next_where("send", |_| true);
    drop(client);
    world
        .demo
        .wait_line(&["disconnect ", &world.demo.token_of(other)]);
    assert!(pass(world.gateway.port(), &first).contains("TOKEN_NOT_FOUND"));
    let mut again = world.open(target);
    for version in ["1", "2"] {
        let send = gate.next_where("send", |_| true);
        assert_eq!(sent(&send.json).1["version"], version);
        pass(world.gateway.port(), &send);
        again.expect_version(version);
    }
}

#[test]
fn a_version_without_a_name_is_refused() {
    let world = World::start();
    for body in ["", "{}", r#"{"version":1}"#, r#"{"version":""}"#] {
        assert_eq!(world.demo.ask("POST", "/version", body).0, 400, "{body}");
    }
}
