//! The program: its command line, its page, and the way through it to the gateway.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{self, Client, Port, readme};
use crate::world::{Stream, World};

fn run(arguments: &[&str]) -> Output {
    Command::new(support::demo())
        .args(arguments)
        .env_clear()
        .output()
        .expect("the demo runs")
}

#[test]
fn the_command_line_tells_what_it_wants() {
    let help = run(&["backend", "--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(
        help.status.success() && text.contains("--send-url"),
        "{text}"
    );
    let port = Port::reserve_local();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port.number())).expect("the port");
    let listen = taken.local_addr().expect("an address").to_string();
    for (arguments, code, part) in [
        (["--port", "1"], 2, "--port"),
        (["--gateway", "https://h"], 2, "https://h"),
        (["--listen", &listen], 1, &listen),
    ] {
        let ended = run(&[&["backend"], &arguments[..]].concat());
        let text = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{text}");
        assert!(text.lines().count() == 1 && text.contains(part), "{text}");
    }
}

#[test]
fn the_page_and_its_stream_have_one_origin() {
    let world = World::start();
    let page = world.demo.request("GET", "/", "");
    assert_eq!(page.status(), 200);
    assert_eq!(
        page.head.value("content-type"),
        Some("text/html; charset=utf-8")
    );
    let mut client = Client::connect(world.demo.port());
    client.get("/events?client=a");
    assert_eq!(
        client.read_head().value("content-type"),
        Some("text/event-stream")
    );
    let mut stream = Stream::of(client);
    let (name, told) = stream.next();
    assert_eq!(name, "connection_open");
    let open = json!({"identifier": "client:a", "rooms": [], "position": told["position"]});
    assert_eq!(told, open);
    world.demo.announce("1");
    stream.expect_version("1");
    // What a browser says when it comes back goes through too.
    world.demo.room("join", "x", "a");
    assert_eq!(stream.next().0, "room_joined");
    world.demo.say("x", "b", "one");
    assert_eq!(stream.next().1["text"], "one");
    let seen = stream.seen.clone();
    world.demo.say("x", "b", "two");
    let mut client = Client::connect(world.demo.port());
    client.send(format!(
        "GET /events?client=a HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {seen}\r\n\r\n"
    ));
    client.read_head();
    let mut stream = Stream::of(client);
    stream.next();
    assert_eq!(stream.next().1["text"], "two");
    let missing = world.demo.request("GET", "/x", "");
    assert_eq!(missing.status(), 404);
}

/// The README's commands, and what stands behind them as their answers.
#[test]
fn the_readme_s_commands_do_what_it_says() {
    let world = World::start();
    let block = readme::blocks("sh demo")[0];
    let commands = block.lines().filter(|line| line.starts_with("curl "));
    let (mut streams, mut answers) = (Vec::new(), 0);
    for line in commands {
        let curl = readme::curl(line).expect(line);
        if curl.target.starts_with("/events") {
            streams.push(world.open(&curl.target));
            continue;
        }
        let method = if curl.body.is_some() { "POST" } else { "GET" };
        let (status, answer) = world
            .demo
            .ask(method, &curl.target, curl.body.unwrap_or_default());
        assert!((200..300).contains(&status), "{line}: {answer}");
        if let Some((_, shown)) = line.split_once(" # ") {
            assert_eq!(answer, serde_json::from_str::<Value>(shown).expect(line));
            answers += 1;
        }
    }
    assert_eq!((streams.len(), answers), (1, 4));
}
