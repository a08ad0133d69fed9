//! What the README says of keys, of callbacks' fields and of the log.

use std::fs;
use std::process::Command;

use serde_json::{Map, Value};

use super::FIRST;
use crate::support::process::eventually;
use crate::support::readme;
use crate::support::{Backend, Folder, Gateway, assert_error, assert_ok, open_stream};

/// A send with a key; the status.
fn send(gateway: &Gateway, key: &str) -> u16 {
    let mut client = gateway.connect();
    client.send(format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 13\r\n\r\n{{\"tokens\":[]}}"
    ));
    client.read_response().status()
}

#[test]
fn a_key_is_replaced_as_shown() {
    let [block] = readme::blocks("sh rotation")[..] else {
        panic!("more than one rotation");
    };
    let [both, between, new] = block.lines().collect::<Vec<_>>()[..] else {
        panic!("{block}");
    };
    assert!(between.starts_with('#'), "{between}");
    let folder = Folder::new("rotation");
    let file = folder.path("key");
    fs::write(&file, "old-key\n").expect("a file");
    let backend = Backend::accepting();
    let builder = Gateway::builder().backend(&backend);
    let gateway = builder
        .env("INTERNAL_KEY_FILE", file.to_str().expect("text"))
        .start();
    let (mut stream, _) = open_stream(&gateway, &backend, "/s");
    let run = |line: &str, times: usize| {
        let status = Command::new("sh")
            .args(["-c", line])
            .current_dir(&folder.0)
            .env("OLD", "old-key")
            .env("NEW", "new-key")
            .env("GATEWAY", gateway.pid().to_string())
            .status();
        assert!(status.expect("a shell").success(), "{line}");
        let said = "[INFO] secret read again setting=INTERNAL_KEY_FILE";
        assert!(readme::text().contains(&format!("`{said}`")));
        eventually(said, || gateway.count_log(said) == times);
    };
    assert_eq!(
        ["old-key", "new-key"].map(|key| send(&gateway, key)),
        [200, 401]
    );
    run(both, 1);
    assert_eq!(
        ["old-key", "new-key"].map(|key| send(&gateway, key)),
        [200, 200]
    );
    run(new, 2);
    assert_eq!(
        ["old-key", "new-key"].map(|key| send(&gateway, key)),
        [401, 200]
    );
    let mut client = gateway.connect();
    client.post(b"{}");
    assert_error(&client.read_response(), 401, "UNAUTHORIZED");
    // On a connection that was open before, too.
    let mut client = gateway.connect();
    let command = "{\"broadcast\":true,\"event\":{\"data\":\"x\"}}";
    client.send(format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer new-key\r\n\
         Content-Length: {}\r\n\r\n{command}",
        command.len()
    ));
    assert_ok(&client.read_response(), r#"{"status":"ok","receivers":1}"#);
    assert_eq!(stream.next_event_behind_heartbeats(), "data: x\n\n");
}

/// The rows of the table of fields are what a callback has beside what HTTP wants.
#[test]
fn the_fields_of_callbacks_are_as_shown() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("GATEWAY_URL", "http://10.0.0.7:3001")
        .env("CALLBACK_AUTHORIZATION", "Bearer k")
        .start();
    let mut client = gateway.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\ntraceparent: 0\r\ntracestate: a=1\r\nX-Request-Id: 1\r\n\
         traces: 2\r\n\r\n",
    );
    let callback = backend.next_connect();
    let names = callback
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'));
    let common = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ];
    let mut names: Vec<&str> = names
        .map(|(name, _)| name)
        .filter(|name| !common.contains(name))
        .collect();
    names.sort_unstable();
    let (_, table) = readme::text()
        .split_once("| field | |\n|---|---|\n| `X-Gateway")
        .expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let table = format!("| `X-Gateway{table}").to_lowercase();
    let cells = table.lines().filter_map(|row| row.split('|').nth(1));
    let mut shown: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    shown.sort_unstable();
    assert_eq!(names, shown);
    callback.answer(403, "");
    assert_eq!(client.read_response().status(), 403);
}

#[test]
fn the_log_in_json_is_as_shown() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_FORMAT", "json")
        .spawn();
    gateway.wait_log(r#""message":"start""#);
    let mut client = gateway.connect();
    client.send("GET /café HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.read_head().status, 200);
    let token = backend.next_connect().token();
    let undated = |line: &str| {
        let mut members: Map<String, Value> = serde_json::from_str(line).expect(line);
        let time = members.remove("time").expect(line);
        assert_eq!(
            time.as_str().map(str::len),
            Some("2026-11-22T03:04:05.678Z".len())
        );
        // The rest as it stands.
        let rest = line.split_once(r#"","level":"#).expect(line).1.to_owned();
        (members, rest)
    };
    for shown in readme::blocks("json log")[0].lines() {
        let (members, rest) = undated(&shown.replace(FIRST, &token));
        let message = &members["message"];
        let line = gateway.wait_log(&format!("\"message\":{message}"));
        assert_eq!(undated(&line).1, rest);
    }
}
