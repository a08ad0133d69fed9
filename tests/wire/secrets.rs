//! No secret shows (contract, section 13): however it is given, whatever goes wrong, in nothing that the
//! gateway says to anybody but the backend.

use std::fs;
use std::process::Command;
use std::sync::Mutex;

use serde_json::json;

use crate::support::process::eventually;
use crate::support::{
    Backend, Builder, Client, Folder, Gateway, OK, assert_ok, open_stream, program,
};

/// The internal key, the one that takes its place, and one that was never right.
const KEYS: [&str; 3] = ["q7Zk+Wm3/Rt9~Xv5", "b2Jc-Hp8=Nd4_Ks6", "e5Lw.Gy1?Fu0:Tb7"];

/// The backend's, and the one that takes its place.
const TOKENS: [&str; 2] = ["u8Mn+Pb2/Yd6~Lf4", "v3Rx-Aq9=Ce5_Oi7"];

/// Bytes of a secret that are too many to be there by chance.
const PIECE: usize = 8;

/// Whatever of a secret must not be seen, in any form that a program might give it.
struct Pieces(Vec<String>);

impl Pieces {
    fn of(secrets: &[&str]) -> Pieces {
        let forms = secrets.iter().flat_map(|secret| forms(secret));
        let pieces = forms.flat_map(|form| {
            let ends = PIECE..=form.len();
            let piece = |end: usize| form[end - PIECE..end].to_owned();
            ends.map(piece).collect::<Vec<_>>()
        });
        let mut pieces: Vec<String> = pieces.collect();
        pieces.sort_unstable();
        pieces.dedup();
        Pieces(pieces)
    }

    #[track_caller]
    fn assert_none_in(&self, what: &str, text: &str) {
        for piece in &self.0 {
            assert!(!text.contains(piece.as_str()), "{piece} in {what}: {text}");
        }
    }
}

/// A secret as it is, percent-encoded, in hexadecimal, and in base64, wherever it begins in that.
fn forms(secret: &str) -> Vec<String> {
    let of_each = |form: fn(u8) -> String| secret.bytes().map(form).collect::<String>();
    let percent = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    let mut forms = vec![
        secret.to_owned(),
        of_each(percent),
        of_each(percent).to_lowercase(),
        of_each(|b| format!("{b:02x}")),
        of_each(|b| format!("{b:02X}")),
        of_each(|b| format!("\\x{b:02x}")),
        of_each(|b| format!("\\u{b:04x}")),
        of_each(|b| format!("{b}, ")),
    ];
    for before in 0..3 {
        let bytes = ["   ".as_bytes()[..before].to_vec(), secret.into()].concat();
        let base64 = base64(&bytes);
        // Characters that do not depend on what stands before the secret, or behind it.
        let inner = &base64[(before * 8).div_ceil(6)..bytes.len() * 8 / 6];
        forms.push(inner.to_owned());
        forms.push(inner.replace('+', "-").replace('/', "_"));
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    let digit = |six: &[u8]| {
        let number = (0..6).fold(0, |sum, at| sum * 2 + six.get(at).copied().unwrap_or(0));
        char::from(DIGITS[usize::from(number)])
    };
    bits.chunks(6).map(digit).collect()
}

#[test]
fn the_forms_are_right() {
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw");
    let pieces = Pieces::of(&["any carnal/pleas"]);
    for text in [
        "x any carnal/p x",
        "%2Fpleas",
        "%2fpleas",
        "6361726e616c",
        "YW55IGNhcm5hbC9wbGVhcw",
        // Behind one byte, and behind two.
        "IGFueSBjYXJuYWwvcGxlYXM",
        "ICBhbnkgY2FybmFsL3BsZWFz",
    ] {
        let found = pieces.0.iter().any(|piece| text.contains(piece.as_str()));
        assert!(found, "{text}");
    }
    pieces.assert_none_in("something else", "any plea, carnal");
}

/// How the secrets are given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Given {
    Environment,
    Flags,
    Files,
}

/// A gateway that has the secrets, and everything that it and programs like it have said so far.
struct House {
    given: Given,
    folder: Folder,
    format: &'static str,
    said: Mutex<Vec<(String, String)>>,
}

impl House {
    /// The settings, and where those are to stand that hold a secret.
    fn settings(&self) -> [(&'static str, String); 2] {
        let suffix = |name: &'static str, file: &'static str| match self.given {
            Given::Files => (file, self.folder.path(name).display().to_string()),
            _ if name == "INTERNAL_KEY" => (name, KEYS[0].to_owned()),
            _ => (name, format!("Bearer {}", TOKENS[0])),
        };
        [
            suffix("INTERNAL_KEY", "INTERNAL_KEY_FILE"),
            suffix("CALLBACK_AUTHORIZATION", "CALLBACK_AUTHORIZATION_FILE"),
        ]
    }

    /// What the files hold.
    fn write(&self, key: &str, token: &str) {
        let files = [("INTERNAL_KEY", key), ("CALLBACK_AUTHORIZATION", token)];
        for (name, content) in files {
            fs::write(self.folder.path(name), content).expect("a file");
        }
    }

    fn note(&self, what: &str, text: impl Into<String>) {
        let mut said = self.said.lock().expect("no panic");
        said.push((what.to_owned(), text.into()));
    }

    fn give(&self, mut builder: Builder) -> Builder {
        for (name, value) in self.settings() {
            builder = match self.given {
                Given::Flags => builder.flag(&flag(name), &value),
                _ => builder.env(name, &value),
            };
        }
        builder
    }

    /// The program with the secrets and these arguments besides, which ends by itself.
    fn run(&self, settings: &[(&str, &str)], arguments: &[&str], code: i32) {
        let mut command: Command = program(settings, arguments);
        command
            .env("LOG_LEVEL", "debug")
            .env("LOG_FORMAT", self.format);
        for (name, value) in self.settings() {
            match self.given {
                Given::Flags => command.arg(flag(name)).arg(value),
                _ => command.env(name, value),
            };
        }
        let output = command.output().expect("a program");
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {output:?}");
        let said = [output.stdout, output.stderr].concat();
        self.note(&format!("{arguments:?}"), String::from_utf8_lossy(&said));
    }

    /// A request, and what is answered to it.
    fn ask(&self, gateway: &Gateway, head: &str, body: &str) -> u16 {
        let mut client = gateway.connect();
        client.send(format!(
            "{head}Host: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        self.answer(&mut client)
    }

    fn answer(&self, client: &mut Client) -> u16 {
        let answer = client.read_response();
        self.note("an answer", answer.text());
        answer.status()
    }
}

fn flag(name: &str) -> String {
    format!("--{}", name.to_lowercase().replace('_', "-"))
}

fn bearing(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// What the backend does with a connect to a path of this number, and the status that it comes to; `S`
/// stands for what the backend was given as its authorization.
const CALLBACKS: [(&str, u16); 9] = [
    ("S\r\n\r\n", 503),
    ("HTTP/1.1 500 S\r\nX: S\r\nContent-Length: 16\r\n\r\nS", 500),
    (
        "HTTP/1.1 401 S\r\nWWW-Authenticate: S\r\nContent-Length: 0\r\n\r\n",
        401,
    ),
    (
        "HTTP/1.1 307 Found\r\nLocation: http://S/\r\nContent-Length: 0\r\n\r\n",
        307,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nS", 503),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nS\r\n",
        503,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nS", 200),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n{\"channels\":[\" S\"],\"x\":\"xxx\"}",
        502,
    ),
    (
        "HTTP/1.1 100 S\r\nX: S\r\n\r\nHTTP/1.1 299 S\r\nContent-Length: 0\r\n\r\n",
        200,
    ),
];

/// Answers as [`CALLBACKS`] has it, with the secret that came.
fn backend() -> Backend {
    Backend::with(|callback| {
        let head = &callback.head;
        Pieces::of(&KEYS).assert_none_in("a callback", head);
        Pieces::of(&[&KEYS[..], &TOKENS[..]].concat()).assert_none_in("a body", &callback.text());
        let authorization = callback.field("authorization").expect("a field");
        let token = authorization.strip_prefix("Bearer ").expect("a token");
        assert_eq!(head.matches(token).count(), 1, "{head}");
        let number = callback.url().trim_start_matches('/').parse::<usize>();
        match number.ok().and_then(|number| CALLBACKS.get(number)) {
            Some((answer, _)) if callback.is_connect() => {
                if answer.contains("HTTP/1.1 2") {
                    callback.note_accepted();
                }
                callback.write(answer.replace('S', token).as_bytes());
                callback.close();
            }
            _ => callback.answer(200, r#"{"channels":["news"]}"#),
        }
    })
}

#[test]
fn given_in_the_environment() {
    nothing_shows(Given::Environment);
}

#[test]
fn given_by_flags() {
    nothing_shows(Given::Flags);
}

#[test]
fn given_in_files() {
    nothing_shows(Given::Files);
}

fn nothing_shows(given: Given) {
    for format in ["text", "json"] {
        let house = House {
            given,
            folder: Folder::new("secrets"),
            format,
            said: Mutex::default(),
        };
        house.write(KEYS[0], &format!("Bearer {}\n", TOKENS[0]));
        live(&house);
        let said = house.said.into_inner().expect("no panic");
        assert!(said.len() > 40, "{}", said.len());
        let pieces = Pieces::of(&[&KEYS[..], &TOKENS[..]].concat());
        for (what, text) in said {
            pieces.assert_none_in(&what, &text);
        }
    }
}

/// Everything that a gateway with secrets does, right and wrong.
fn live(house: &House) {
    let mut backend = backend();
    let builder = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .env("LOG_FORMAT", house.format)
        .env("HISTORY_BYTES", "1000000");
    let mut gateway = house.give(builder).spawn();
    gateway.wait_log("heartbeat");
    processes(house, &gateway);
    sends(house, &gateway, &backend, KEYS);
    callbacks(house, &gateway, &backend);
    if house.given == Given::Files {
        reloads(house, &gateway);
        sends(house, &gateway, &backend, [KEYS[1], KEYS[0], KEYS[2]]);
        callbacks(house, &gateway, &backend);
    }
    programs(house, &gateway);
    backend.leave();
    let mut client = gateway.get("/down");
    assert_eq!(house.answer(&mut client), 503);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    house.note("the log", gateway.log());
    assert!(gateway.lines().len() > 40, "{}", gateway.log());
}

/// What everybody on the machine sees of it.
fn processes(house: &House, gateway: &Gateway) {
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{}/{file}", gateway.pid())).expect("a process");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if house.given != Given::Flags {
        house.note("its command line", read("cmdline"));
    }
    if house.given == Given::Files {
        house.note("its environment", read("environ"));
    }
}

/// Requests with the right key, with wrong ones, and with none.
fn sends(house: &House, gateway: &Gateway, backend: &Backend, [right, wrong, next]: [&str; 3]) {
    let (send, good) = ("POST /internal/send HTTP/1.1\r\n", bearing(right));
    let (stream, token) = open_stream(gateway, backend, "/stream");
    let event = json!({"token": token, "event": {"data": "x"}}).to_string();
    let mut client = gateway.connect();
    let length = event.len();
    client.send(format!(
        "{send}Host: h\r\n{good}Content-Length: {length}\r\n\r\n{event}"
    ));
    assert_ok(&client.read_response(), OK);
    for body in [
        "{}",
        "{",
        "",
        r#"{"token":"t"}"#,
        r#"{"channel":"news","event":{"data":"x"}}"#,
    ] {
        let status = house.ask(gateway, &format!("{send}{good}"), body);
        assert!(matches!(status, 200 | 400 | 404), "{status}");
    }
    for path in [
        "metrics",
        "streams",
        &format!("streams/{token}"),
        "channels",
        "send",
        "none",
    ] {
        for (fields, is_known) in [(good.as_str(), true), ("", false)] {
            let head = format!("GET /internal/{path} HTTP/1.1\r\n{fields}");
            assert_eq!(house.ask(gateway, &head, "") != 401, is_known, "{path}");
        }
    }
    let refused = [
        bearing(wrong),
        bearing(next),
        bearing(&right[1..]),
        bearing(&format!("{right}{right}")),
        bearing(&format!("{right},{right}")),
        format!("Authorization: Basic {right}\r\n"),
        format!("Authorization: {right}\r\n"),
        format!("X-Key: {right}\r\n"),
    ];
    for fields in refused {
        assert_eq!(
            house.ask(gateway, &format!("{send}{fields}"), "{}"),
            401,
            "{fields}"
        );
    }
    // Requests that are none.
    for (fields, status) in [
        (bearing(&format!("{right}\0")), 400),
        (format!("Authorization : Bearer {right}\r\n"), 400),
        (format!(" {right}\r\n"), 400),
        (bearing(&right.repeat(4000)), 431),
    ] {
        assert_eq!(
            house.ask(gateway, &format!("{send}{fields}"), "{}"),
            status,
            "{fields}"
        );
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            house.ask(gateway, &format!("GET {path} HTTP/1.1\r\n{good}"), ""),
            200
        );
    }
    drop(stream);
}

/// Callbacks that end in every way; the backend says what it was given.
fn callbacks(house: &House, gateway: &Gateway, backend: &Backend) {
    for (number, (_, status)) in CALLBACKS.iter().enumerate() {
        let path = format!("/{number}");
        let mut client = gateway.get(&path);
        if *status == 200 {
            let head = client.read_head();
            assert_eq!(head.status, *status);
            house.note("a stream's head", head.text());
        } else {
            assert_eq!(house.answer(&mut client), *status, "{number}");
        }
    }
    backend.assert_balanced();
}

/// New secrets, none, and what cannot be one.
fn reloads(house: &House, gateway: &Gateway) {
    let reload = |what: &str| {
        let before = gateway.count_log(what);
        gateway.signal("HUP");
        eventually(what, || gateway.count_log(what) == before + 2);
    };
    let wrong = KEYS[2];
    house.write(&format!("{wrong} {wrong}"), &format!("{wrong}\n{wrong}"));
    reload("secret not read again");
    house.write(&wrong.repeat(10_000), &wrong.repeat(10_000));
    reload("secret not read again");
    house.write(
        &format!("{},{}", KEYS[0], KEYS[1]),
        &format!("Bearer {}", TOKENS[1]),
    );
    reload("secret read again");
    house.write(KEYS[1], &format!("Bearer {}", TOKENS[1]));
    reload("secret read again");
}

/// Programs that are started with the same secrets and do not become a gateway.
fn programs(house: &House, gateway: &Gateway) {
    let port = gateway.port().to_string();
    let listen = format!("127.0.0.1:{port}");
    let taken = ("PORT", port.as_str());
    house.run(&[taken], &[], 1);
    house.run(&[("PORT", "1"), ("INTERNAL_LISTEN", &listen)], &[], 1);
    house.run(&[taken], &["--help"], 0);
    house.run(&[taken], &["--version"], 0);
    house.run(&[taken], &["--healthcheck"], 0);
    house.run(&[("PORT", "0")], &[], 2);
    // Both ways at once, which is too much.
    let wrong = KEYS[2];
    let (key, authorization) = ("INTERNAL_KEY", "CALLBACK_AUTHORIZATION");
    for (name, value) in [(key, wrong), (authorization, wrong)] {
        let with_file = format!("{name}_FILE");
        let settings = [(name, value), (&*with_file, "/nowhere")];
        let output = program(&settings, &[]).output().expect("a program");
        assert_eq!(output.status.code(), Some(2));
        house.note("both", String::from_utf8_lossy(&output.stderr));
    }
    // Values and arguments that cannot be.
    let (spaced, lined) = (format!("{wrong} {wrong}"), format!("{wrong}\n{wrong}"));
    for (name, value) in [(key, &spaced), (key, &lined), (authorization, &lined)] {
        let flag = flag(name);
        let (glued, stuck) = (format!("{flag}={value}"), format!("{flag}{value}"));
        let with_env = program(&[(name, value)], &[]);
        let with_flags = [
            &[flag.as_str(), value.as_str()][..],
            &[&glued],
            &[&stuck],
            &[value],
            &[&flag, "x", &flag, value],
            &[&flag, "x", value],
        ];
        let with_flags = with_flags.iter().map(|arguments| program(&[], arguments));
        for mut command in with_flags.chain([with_env]) {
            let output = command.output().expect("a program");
            assert_eq!(output.status.code(), Some(2), "{command:?}");
            let said = [output.stdout, output.stderr].concat();
            house.note("a refusal", String::from_utf8_lossy(&said));
        }
    }
}
