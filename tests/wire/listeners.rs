//! Where the gateway listens, and where its settings come from (contract, section 8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use serde_json::{Value, json};
use ssegateway::config::{Default, SETTINGS};

use crate::support::{
    Backend, Client, Gateway, OK, Port, assert_error, assert_ok, assert_refused, assert_served,
    open_stream, program,
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn is_served(ip: IpAddr, port: u16) -> bool {
    if TcpStream::connect((ip, port)).is_err() {
        return false;
    }
    let mut client = Client::to((ip, port).into());
    assert_served(&mut client);
    true
}

/// Not every host has IPv6; what is for it cannot be tried there.
fn has_v6() -> bool {
    TcpListener::bind((V6, 0)).is_ok()
}

// ---- listeners ----

#[test]
fn the_host_narrows_where_it_listens() {
    let has_v6 = has_v6();
    let table = [
        (None, true, true),
        (Some(""), true, true),
        (Some("127.0.0.1"), true, false),
        (Some("0.0.0.0"), true, false),
        (Some("::1"), false, true),
        (Some("[::1]"), false, true),
        (Some("::"), true, true),
    ];
    for (host, v4, v6) in table {
        if !v4 && !has_v6 {
            continue;
        }
        let mut builder = Gateway::builder();
        if let Some(host) = host {
            builder = builder.env("HOST", host);
        }
        let gateway = builder.start();
        let served = (is_served(V4, gateway.port()), is_served(V6, gateway.port()));
        assert_eq!(served, (v4, v6 && has_v6), "{host:?}");
    }
}

#[test]
fn a_name_is_listened_on_at_its_addresses() {
    let gateway = Gateway::builder().flag("--host", "localhost").start();
    let mut client = TcpStream::connect(("localhost", gateway.port()))
        .map(|s| Client::to(s.peer_addr().expect("an address")))
        .expect("a connection");
    assert_served(&mut client);
}

#[test]
fn sends_have_a_listener_of_their_own() {
    let has_v6 = has_v6();
    for ip in [V4, V6].into_iter().filter(|ip| ip.is_ipv4() || has_v6) {
        let backend = Backend::accepting();
        let port = Port::reserve();
        let internal: SocketAddr = (ip, port.number()).into();
        let gateway = Gateway::builder()
            .backend(&backend)
            .env("INTERNAL_LISTEN", &internal.to_string())
            .start();
        let (mut stream, token) = open_stream(&gateway, &backend, "/internal");
        let command = json!({"token": token, "event": {"data": "x"}}).to_string();
        // Not on the port of the clients, whatever the method.
        let mut public = gateway.connect();
        public.post(command.as_bytes());
        assert_error(&public.read_response(), 404, "NOT_FOUND");
        for path in ["/internal/send", "/internal/other"] {
            public.get(path);
            assert_error(&public.read_response(), 404, "NOT_FOUND");
        }
        // Nothing but sends and health on their own.
        let mut own = Client::to(internal);
        for path in ["/events", "/internal", "/internal/other"] {
            own.get(path);
            assert_error(&own.read_response(), 404, "NOT_FOUND");
        }
        own.post(command.as_bytes());
        assert_ok(&own.read_response(), OK);
        assert_eq!(stream.next_event(), "data: x\n\n");
        own.get("/internal/send");
        let response = own.read_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.head.value("allow"), Some("POST"));
        let mut boots = Vec::new();
        for client in [&mut public, &mut own] {
            assert_served(client);
            client.get("/readyz");
            let response = client.read_response();
            assert_eq!(response.status(), 200);
            let mut told: Value = serde_json::from_slice(&response.body).expect("JSON");
            let boot = told.get_mut("boot").map(Value::take);
            boots.extend(boot.and_then(|boot| Some(boot.as_str()?.to_owned())));
            let known = json!({"status": "ready", "configured": true});
            let more = json!({"status": "ready", "configured": true, "boot": null, "streams": 1, "engine": "none"});
            assert_eq!(told, if boots.is_empty() { known } else { more });
        }
        // Strangers are not told which process answers.
        assert_eq!(boots.len(), 1);
        assert_eq!(boots[0].len(), 36);
        own.post(
            json!({"token": token, "close": true})
                .to_string()
                .as_bytes(),
        );
        assert_ok(&own.read_response(), OK);
        stream.expect_last_chunk_and_eof();
        backend.assert_balanced();
        // Only there: not at another address of the machine, and not in the other family.
        let other = if ip == V4 { V6 } else { V4 };
        assert!(!is_served(other, internal.port()));
    }
}

/// The limits and framing rules hold there as well.
#[test]
fn the_internal_listener_is_as_strict() {
    let port = Port::reserve_local();
    let _gateway = Gateway::builder()
        .flag("--internal-listen", &format!("127.0.0.1:{}", port.number()))
        .env("MAX_BODY_BYTES", "1024")
        .start();
    for (request, status) in [
        (
            "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 1025\r\n\r\n",
            413,
        ),
        (
            "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
            400,
        ),
        ("POST /internal/send HTTP/1.1\r\n\r\n", 400),
    ] {
        let mut client = Client::connect(port.number());
        client.send(request);
        assert_eq!(client.read_response().status(), status, "{request}");
        client.expect_eof();
    }
}

#[test]
fn addresses_that_cannot_be_had() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = listener.local_addr().expect("an address");
    let (port, at) = (taken.port().to_string(), taken.to_string());
    // On all interfaces it is taken as well.
    let output = program(&[("PORT", &*port)], &[]).output();
    assert_refused(&output.expect("a program"), 1, &["PORT", &port]);
    let reserved = Port::reserve();
    let free = reserved.number().to_string();
    let settings = [("PORT", &*port), ("HOST", "127.0.0.1")];
    let output = program(&settings, &[]).output().expect("a program");
    assert_refused(&output, 1, &["PORT", &port]);
    let settings = [("PORT", &*free), ("INTERNAL_LISTEN", &*at)];
    let output = program(&settings, &[]).output().expect("a program");
    assert_refused(&output, 1, &["INTERNAL_LISTEN", &at]);
    // A test network's address (RFC 5737), which is nobody's.
    let settings = [("PORT", &*free), ("HOST", "192.0.2.1")];
    let output = program(&settings, &[]).output().expect("a program");
    assert_refused(&output, 1, &["HOST", "192.0.2.1"]);
    // Both listeners on one port.
    let at = format!("127.0.0.1:{free}");
    let settings = [
        ("PORT", &*free),
        ("HOST", "127.0.0.1"),
        ("INTERNAL_LISTEN", &*at),
    ];
    let output = program(&settings, &[]).output().expect("a program");
    assert_refused(&output, 1, &[&at]);
}

// ---- where settings come from ----

#[test]
fn a_flag_wins_over_the_environment_and_empty_is_unset() {
    let table = [
        ("", None, "heartbeat=15"),
        ("7", None, "heartbeat=7"),
        ("7", Some("9"), "heartbeat=9"),
        ("", Some("9"), "heartbeat=9"),
        ("7", Some(""), "heartbeat=7"),
        ("", Some(""), "heartbeat=15"),
        // What a flag overrides is not looked at.
        ("never", Some("9"), "heartbeat=9"),
    ];
    for (env, flag, expected) in table {
        let mut builder = Gateway::builder().env("HEARTBEAT_INTERVAL_SECONDS", env);
        if let Some(flag) = flag {
            builder = builder.flag("--heartbeat-interval-seconds", flag);
        }
        let line = builder.start().wait_log("[INFO] start ");
        assert!(line.ends_with(expected), "{env:?} {flag:?}: {line}");
        assert!(line.contains("callbackUrl=unset"), "{line}");
    }
    // Both ways to write a flag, on the one that every gateway needs.
    let port = Port::reserve();
    for flags in [
        vec!["--port".to_owned(), port.number().to_string()],
        vec![format!("--port={}", port.number())],
    ] {
        let mut child = program(&[("PORT", "1")], &[])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program");
        let mut stdout = child.stdout.take().expect("a pipe");
        let line = crate::support::process::read_line(&mut stdout);
        let is_up = is_served(V4, port.number());
        child.kill().expect("a child");
        child.wait().expect("a child");
        assert!(line.contains(&format!("port={} ", port.number())), "{line}");
        assert!(is_up);
    }
}

#[test]
fn every_setting_refuses_what_it_cannot_be() {
    const VALUE: &str = "not\nallowed;";
    const SHOWN: &str = r"not\nallowed;";
    const SECRETS: [&str; 3] = ["CALLBACK_URL", "INTERNAL_KEY", "CALLBACK_AUTHORIZATION"];
    for setting in SETTINGS {
        let flag = format!("--{}", setting.flag());
        let by_env = program(&[(setting.name, VALUE)], &[]).output();
        let by_flag = program(&[], &[&flag, VALUE]).output();
        for output in [by_env, by_flag] {
            let output = output.expect("a program");
            let is_shown = String::from_utf8_lossy(&output.stderr).contains(SHOWN);
            let is_secret = SECRETS.contains(&setting.name);
            assert_ne!(is_shown, is_secret, "{}", setting.name);
            assert_refused(&output, 2, &[setting.name, "must be"]);
        }
    }
    let table = [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "+80"),
        ("HEARTBEAT_INTERVAL_SECONDS", "0"),
        ("HEARTBEAT_INTERVAL_SECONDS", "86401"),
        ("HEARTBEAT_INTERVAL_SECONDS", "1.5"),
        ("HEARTBEAT_INTERVAL_SECONDS", "15s"),
        ("LOG_LEVEL", "trace"),
        ("INTERNAL_LISTEN", "127.0.0.1"),
        ("INTERNAL_LISTEN", ":80"),
        ("INTERNAL_LISTEN", "::1:80"),
        ("CALLBACK_URL", "/callback"),
        ("CALLBACK_URL", "ftp://h/"),
        ("CALLBACK_URL", "http://"),
        ("MAX_STREAMS", "0"),
        ("MAX_UNSENT_BYTES", "-1"),
    ];
    for (name, value) in table {
        let output = program(&[(name, value)], &[]).output().expect("a program");
        assert_refused(&output, 2, &[name]);
    }
}

/// Each pair that cannot be honoured whole is one warning that names both settings; what is allowed,
/// and by default, is none.
#[test]
fn settings_that_do_not_fit_each_other_are_warned_of_once() {
    let (stall, peer) = ("STALL_TIMEOUT_SECONDS", "PEER_TIMEOUT_SECONDS");
    let (body, inbound) = ("MAX_BODY_BYTES", "MAX_INBOUND_BYTES");
    let table = [
        (stall, "30", peer, "30", 0),
        (stall, "31", peer, "30", 1),
        (stall, "31", peer, "", 1),
        (stall, "", peer, "29", 1),
        (stall, "31", peer, "31", 0),
        (body, "33554432", inbound, "", 0),
        (body, "33554433", inbound, "", 1),
    ];
    for (one, value, other, its, warnings) in table {
        let builder = Gateway::builder().env(one, value).env(other, its);
        let mut gateway = builder.start();
        gateway.signal("TERM");
        assert!(gateway.wait_exit().success());
        let lines = gateway.lines();
        let warned: Vec<&str> = lines
            .iter()
            .filter(|line| line.is_error)
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(
            warned.len(),
            warnings,
            "{one}={value} {other}={its}: {warned:?}"
        );
        for line in warned {
            assert!(line.starts_with("[WARN] "), "{line}");
            assert!(line.contains(one) && line.contains(other), "{line}");
        }
    }
}

#[test]
fn help_lists_every_setting_with_its_default() {
    let output = program(&[("PORT", "nonsense")], &["--help"]).output();
    let output = output.expect("a program");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("text");
    for setting in SETTINGS {
        let (Default::Is(default) | Default::Unset(default)) = setting.default;
        let line = format!("[env: {}] [default: {default}]", setting.name);
        assert!(
            text.contains(&format!("--{} ", setting.flag())),
            "{}",
            setting.name
        );
        assert!(text.contains(&line), "{line}");
    }
    // The contract's own numbers.
    for (name, default) in [
        ("PORT", "3000"),
        ("HEARTBEAT_INTERVAL_SECONDS", "15"),
        ("UNIX_MODE", "660"),
        ("REFUSE_MODE", "status"),
        ("RECONNECT_SPREAD_SECONDS", "0"),
        ("MAX_STREAM_SECONDS", "0"),
        ("LOG_LEVEL", "info"),
        ("LOG_FORMAT", "text"),
        ("EVENT_FORMAT", "event"),
        ("MAX_HEAD_BYTES", "32768"),
        ("MAX_HEADERS", "100"),
        ("MAX_BODY_BYTES", "4194304"),
        ("REQUEST_TIMEOUT_SECONDS", "10"),
        ("NEW_CONNECTION_TIMEOUT_SECONDS", "20"),
        ("IDLE_TIMEOUT_SECONDS", "75"),
        ("MAX_UNSENT_BYTES", "4194304"),
        ("MAX_HELD_BYTES", "67108864"),
        ("MAX_INBOUND_BYTES", "33554432"),
        ("MAX_KEPT_HEADER_BYTES", "67108864"),
        ("SEND_BUFFER_BYTES", "131072"),
        ("NOTSENT_LOWAT_BYTES", "16384"),
        ("MAX_UNREAD_ANSWER_BYTES", "65536"),
        ("MAX_DISCARDED_BYTES", "65536"),
        ("STALL_TIMEOUT_SECONDS", "30"),
        ("PEER_TIMEOUT_SECONDS", "30"),
        ("KEEPALIVE_IDLE_SECONDS", "30"),
        ("KEEPALIVE_INTERVAL_SECONDS", "10"),
        ("MAX_CHANNELS", "64"),
        ("HISTORY_BYTES", "0"),
        ("HISTORY_SECONDS", "300"),
        ("MAX_RETAINED_BYTES", "16777216"),
        ("CONNECT_TIMEOUT_SECONDS", "5"),
        ("DISCONNECT_TIMEOUT_SECONDS", "5"),
        ("CONNECT_WORKERS", "64"),
        ("DISCONNECT_WORKERS", "32"),
        ("CONNECT_QUEUE", "4096"),
        ("WORKER_IDLE_SECONDS", "2"),
        ("SHUTDOWN_TIMEOUT_SECONDS", "4"),
    ] {
        let line = format!("[env: {name}] [default: {default}]");
        assert!(text.contains(&line), "{line}");
    }
}

/// For each setting a row of a table holds its name and its default; one row may hold several.
#[test]
fn the_readme_has_a_line_for_each_setting() {
    let cells = |row: &'static str| -> Vec<&'static str> { row.split(" | ").collect() };
    let rows: Vec<_> = include_str!("../../README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .map(cells)
        .collect();
    for setting in SETTINGS {
        let name = format!("`{}`", setting.name);
        let mut places = rows.iter().filter_map(|row| {
            let names: Vec<_> = row[0].split(", ").collect();
            let at = names.iter().position(|own| *own == name)?;
            Some(match names.len() {
                1 => row[1],
                _ => row[1].split(", ").nth(at).unwrap_or_default(),
            })
        });
        let shown = places
            .next()
            .unwrap_or_else(|| panic!("no line for {name}"));
        assert_eq!(places.next(), None, "{name} stands twice");
        match setting.default {
            Default::Is(default) => assert_eq!(shown.trim_matches('`'), default, "{name}"),
            // Words for people, which may be fewer there.
            Default::Unset(words) => assert!(shown == "unset" || shown == words, "{name}: {shown}"),
        }
    }
}
