//! The units under a systemd: what they promise that only a service manager can show.

use std::path::Path;

use serde_json::json;

use super::machine::{Machine, within};
use super::units::UNITS;
use super::{read, root};
use crate::support::{Backend, Client, Response};

const CLIENTS: u16 = 3000;
const INTERNAL: u16 = 3001;

/// Installs what the units' first lines say, with further settings.
fn install(machine: &Machine, settings: &str) {
    machine.wait_until_up();
    machine.give("ssegateway", Path::new(env!("CARGO_BIN_EXE_ssegateway")));
    let packaging = root().join("packaging");
    for name in UNITS.into_iter().chain(["ssegateway.env"]) {
        machine.give(name, &packaging.join(name));
    }
    machine.run(
        "cd /tmp/from
        install ssegateway /usr/local/bin/
        install -m 600 ssegateway.env /etc/
        install -m 644 ssegateway*.service ssegateway*.socket /etc/systemd/system/
        systemctl daemon-reload",
    );
    set(machine, settings);
}

/// Appends settings, a line each.
fn set(machine: &Machine, settings: &str) {
    machine.run(&format!(
        "cat >> /etc/ssegateway.env << 'END'\n{settings}\nEND"
    ));
}

/// Puts lines into a file beside the unit, as `systemctl edit` does.
fn edit(machine: &Machine, lines: &str) {
    machine.run(&format!(
        "mkdir -p /etc/systemd/system/ssegateway.service.d
        cat > /etc/systemd/system/ssegateway.service.d/override.conf << 'END'\n{lines}\nEND
        systemctl daemon-reload"
    ));
}

/// A backend that accepts, and the setting that names it.
fn backend() -> (Backend, String) {
    let backend = Backend::accepting();
    let setting = format!("CALLBACK_URL={}", backend.url());
    (backend, setting)
}

#[track_caller]
fn request(port: u16, text: &str) -> Response {
    let mut client = Client::connect(port);
    client.send(text);
    client.read_response()
}

#[track_caller]
fn get(port: u16, path: &str) -> u16 {
    request(port, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).status()
}

/// A stream, and its token.
#[track_caller]
fn open(backend: &Backend, path: &str) -> (Client, String) {
    let mut client = Client::connect(CLIENTS);
    client.get(path);
    let head = client.read_head();
    assert_eq!(head.status, 200, "{}", head.text());
    (client, backend.next_connect_of(path).token())
}

/// Sends an event, with further header lines, and sees it arrive.
#[track_caller]
fn assert_alive_with(fields: &str, port: u16, stream: &mut Client, token: &str) {
    let body = json!({"token": token, "event": {"data": "x"}}).to_string();
    let length = body.len();
    let head = format!("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n");
    let answer = request(port, &format!("{head}{fields}\r\n{body}"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(stream.next_event_behind_heartbeats(), "data: x\n\n");
}

#[track_caller]
fn assert_alive(port: u16, stream: &mut Client, token: &str) {
    assert_alive_with("", port, stream, token);
}

#[test]
#[ignore = "needs root and systemd"]
fn a_start_is_over_when_it_listens() {
    within("systemd::a_start_is_over_when_it_listens", |machine| {
        let (backend, setting) = backend();
        install(machine, &setting);
        machine.run("systemctl start ssegateway");
        assert_eq!(get(CLIENTS, "/readyz"), 200);
        let (mut stream, token) = open(&backend, "/s");
        assert_alive(CLIENTS, &mut stream, &token);
        let user = machine.property("ssegateway", "MainPID");
        let user = machine.run(&format!("stat -c %u /proc/{user}"));
        let user: u32 = user.trim().parse().expect("a number");
        assert!((61184..=65519).contains(&user), "a user of its own: {user}");
        machine.run("systemctl stop ssegateway");
        stream.expect_last_chunk_and_eof();
        assert_eq!(machine.property("ssegateway", "Result"), "success");

        // What does not come to listening has not started, and is not tried again and again.
        set(machine, "HEARTBEAT_INTERVAL_SECONDS=never");
        let error = machine
            .try_run("systemctl start ssegateway")
            .expect_err("a failure");
        assert!(
            error.contains("Job for ssegateway.service failed"),
            "{error}"
        );
        assert_eq!(machine.property("ssegateway", "ExecMainStatus"), "2");
        assert_eq!(machine.property("ssegateway", "ActiveState"), "failed");
        let log = machine.run("journalctl -u ssegateway -o cat --no-pager");
        assert!(log.contains("HEARTBEAT_INTERVAL_SECONDS"), "{log}");
    });
}

#[test]
#[ignore = "needs root and systemd"]
fn one_that_stands_still_is_started_anew() {
    within(
        "systemd::one_that_stands_still_is_started_anew",
        |machine| {
            let (backend, setting) = backend();
            install(machine, &setting);
            // Sooner than as shipped; long enough for a process that a busy host lets wait.
            edit(machine, "[Service]\nWatchdogSec=6\nTimeoutAbortSec=1");
            machine.run("systemctl start ssegateway");
            // One that runs says so again and again, and lives for longer than that.
            let told =
                |machine: &Machine| machine.property("ssegateway", "WatchdogTimestampMonotonic");
            for _ in 0..4 {
                let before = told(machine);
                machine.wait_for(&format!(
                "[ $(systemctl show --value -p WatchdogTimestampMonotonic ssegateway) != {before} ]"
            ));
            }
            assert_eq!(machine.property("ssegateway", "NRestarts"), "0");
            assert_eq!(machine.property("ssegateway", "StatusText"), "streams: 0");
            let (mut stream, _) = open(&backend, "/s");

            let process = machine.property("ssegateway", "MainPID");
            machine.run(&format!("kill -STOP {process}"));
            machine.wait_for("[ $(systemctl show --value -p NRestarts ssegateway) = 1 ]");
            machine.wait_for("systemctl is-active ssegateway");
            assert_eq!(get(CLIENTS, "/readyz"), 200);
            stream.expect_eof_or_reset();
            let log = machine.run("journalctl -u ssegateway -o cat --no-pager");
            assert!(log.contains("Watchdog timeout"), "{log}");
        },
    );
}

#[test]
#[ignore = "needs root and systemd"]
fn newcomers_wait_for_the_next_one() {
    within("systemd::newcomers_wait_for_the_next_one", |machine| {
        // It answers a disconnect when the test says so: a stop takes until then.
        let backend = Backend::with(|callback| {
            if callback.is_connect() {
                callback.answer(200, "");
            }
        });
        let setting = format!(
            "CALLBACK_URL={}\nSHUTDOWN_TIMEOUT_SECONDS=60",
            backend.url()
        );
        install(machine, &setting);
        edit(machine, "[Service]\nTimeoutStopSec=70");
        machine.run("systemctl start ssegateway.socket ssegateway-internal.socket");
        assert_eq!(machine.property("ssegateway", "ActiveState"), "inactive");
        // The first of all starts it.
        let (mut stream, token) = open(&backend, "/first");
        assert_alive(INTERNAL, &mut stream, &token);
        assert_eq!(get(CLIENTS, "/internal/metrics"), 404);

        // Connected, and nothing said as yet.
        let mut silent: Vec<_> = (0..20).map(|_| Client::connect(CLIENTS)).collect();
        machine.run("systemctl restart --no-block ssegateway");
        stream.expect_last_chunk_and_eof();
        let disconnect = backend.next_disconnect_of(&token);
        let mut newcomers: Vec<_> = (0..100).map(|_| Client::connect(CLIENTS)).collect();
        for (number, client) in newcomers.iter_mut().enumerate() {
            client.get(&format!("/{number}"));
        }
        assert_eq!(
            machine.property("ssegateway", "ActiveState"),
            "deactivating"
        );
        disconnect.answer(200, "");
        for client in &mut silent {
            client.get("/healthz");
            assert_eq!(client.read_response().status(), 200);
        }
        for (number, client) in newcomers.iter_mut().enumerate() {
            let head = client.read_head();
            assert_eq!(head.status, 200, "{}", head.text());
            let token = backend.next_connect_of(&format!("/{number}")).token();
            assert_alive(INTERNAL, client, &token);
        }
    });
}

/// A line that the unit proposes, as a comment.
#[track_caller]
fn proposed(line: &str) -> &str {
    let unit = read("packaging/ssegateway.service");
    assert!(unit.contains(&format!("\n#{line}\n")), "{line}");
    line
}

/// How a request with this key is answered.
#[track_caller]
fn status(key: &str) -> u16 {
    let field = format!("Authorization: Bearer {key}");
    let head = format!("GET /internal/metrics HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
    request(CLIENTS, &head).status()
}

#[test]
#[ignore = "needs root and systemd"]
fn a_reload_takes_new_keys_and_ends_no_stream() {
    within(
        "systemd::a_reload_takes_new_keys_and_ends_no_stream",
        |machine| {
            let (backend, setting) = backend();
            install(machine, &setting);
            machine.run(
                "groupadd --system ssegateway-keys
            mkdir /etc/ssegateway
            printf before > /etc/ssegateway/internal.key
            chgrp ssegateway-keys /etc/ssegateway/internal.key
            chmod 640 /etc/ssegateway/internal.key",
            );
            let group = proposed("SupplementaryGroups=ssegateway-keys");
            let file = proposed("Environment=INTERNAL_KEY_FILE=/etc/ssegateway/internal.key");
            edit(machine, &format!("[Service]\n{group}\n{file}"));
            machine.run("systemctl start ssegateway");
            let (mut stream, token) = open(&backend, "/s");
            assert_eq!((status("before"), status("after")), (200, 401));

            machine.run("printf after > /etc/ssegateway/internal.key");
            machine.run("systemctl reload ssegateway");
            machine.wait_for("journalctl -u ssegateway -o cat | grep -q 'secret read again'");
            assert_eq!((status("before"), status("after")), (401, 200));
            let field = "Authorization: Bearer after\r\n";
            assert_alive_with(field, CLIENTS, &mut stream, &token);
        },
    );
}

#[test]
#[ignore = "needs root and systemd"]
fn a_key_may_be_root_s_alone() {
    within("systemd::a_key_may_be_root_s_alone", |machine| {
        install(machine, "");
        machine.run(
            "mkdir /etc/ssegateway
            umask 077
            printf secret > /etc/ssegateway/internal.key",
        );
        let given = proposed("LoadCredential=internal.key:/etc/ssegateway/internal.key");
        let file = "/run/credentials/ssegateway.service/internal.key";
        let file = format!("Environment=INTERNAL_KEY_FILE={file}");
        edit(machine, &format!("[Service]\n{given}\n{}", proposed(&file)));
        machine.run("systemctl start ssegateway");
        assert_eq!((status("secret"), status("guess")), (200, 401));
    });
}

#[test]
#[ignore = "needs root and systemd"]
fn unix_sockets_are_for_their_group() {
    within("systemd::unix_sockets_are_for_their_group", |machine| {
        install(machine, "HOST=unix:/run/ssegateway/clients.sock");
        edit(machine, "[Service]\nGroup=www-data");
        machine.run("systemctl start ssegateway");
        let ask = |user: &str| {
            format!(
                "HOST=unix:/run/ssegateway/clients.sock setpriv --reuid=nobody --regid={user} \
                 --clear-groups /usr/local/bin/ssegateway --healthcheck"
            )
        };
        machine.run(&ask("www-data"));
        let error = machine.try_run(&ask("nogroup")).expect_err("no right");
        assert!(error.contains("Permission denied"), "{error}");

        machine.run("systemctl stop ssegateway");
        machine.run("[ ! -e /run/ssegateway ]");
    });
}
