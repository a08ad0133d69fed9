//! Keys in files: what is read at the start, and again on SIGHUP (contract, section 13).

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::crowd::Over;
use crate::support::process::eventually;
use crate::support::{
    Backend, Builder, Callback, Client, Folder, Gateway, OK, Port, Response, assert_error,
    assert_ok, assert_refused, assert_served, open_stream, program, signal,
};

const KEY: &str = "INTERNAL_KEY_FILE";
const AUTHORIZATION: &str = "CALLBACK_AUTHORIZATION_FILE";

/// A file that is replaced as a whole, as those do it who deliver secrets.
struct Secret {
    folder: Folder,
    path: PathBuf,
}

impl Secret {
    fn new(content: &str) -> Secret {
        let folder = Folder::new("secret");
        let path = folder.path("secret");
        let secret = Secret { folder, path };
        secret.set(content);
        secret
    }

    fn set(&self, content: &str) {
        let next = self.folder.path("next");
        fs::write(&next, content).expect("a file");
        fs::rename(&next, &self.path).expect("the same file system");
    }

    fn name(&self) -> &str {
        self.path.to_str().expect("text")
    }
}

/// Has the files read again, and waits until one more line holds `part`.
#[track_caller]
fn reload(gateway: &Gateway, part: &str) {
    let before = gateway.count_log(part);
    gateway.signal("HUP");
    eventually(part, || gateway.count_log(part) > before);
}

fn start(builder: Builder, backend: &Backend) -> Gateway {
    builder.backend(backend).start()
}

// ---- the callbacks' authorization ----

/// The next callback of a client that asks for a stream and leaves.
fn next_authorization(gateway: &Gateway, backend: &Backend) -> String {
    let _client = gateway.get("/s");
    let callback = backend.next_connect();
    callback.answer(403, "");
    callback.field("authorization").unwrap_or("none").to_owned()
}

#[test]
fn callbacks_bear_what_the_file_holds() {
    let backend = Backend::start();
    let secret = Secret::new("Bearer hunter2-1\n");
    let builder = Gateway::builder().env(AUTHORIZATION, secret.name());
    let gateway = start(builder, &backend);
    assert_eq!(next_authorization(&gateway, &backend), "Bearer hunter2-1");
    // Without a signal nothing is read.
    secret.set("Bearer hunter2-2");
    assert_eq!(next_authorization(&gateway, &backend), "Bearer hunter2-1");
    let read = format!("[INFO] secret read again setting={AUTHORIZATION}");
    reload(&gateway, &read);
    assert_eq!(next_authorization(&gateway, &backend), "Bearer hunter2-2");
    // What cannot be used changes nothing.
    let path = secret.name();
    let refused = format!(
        "[ERROR] secret not read again, the old value stays setting={AUTHORIZATION} path={path} error="
    );
    for (content, why) in [
        ("", "\"is empty\""),
        (
            "hunter2\nhunter2",
            "\"does not hold the value of a header field",
        ),
        (&"hunter2".repeat(10_000), "\"is larger than 64 KiB\""),
    ] {
        secret.set(content);
        reload(&gateway, &format!("{refused}{why}"));
        assert_eq!(next_authorization(&gateway, &backend), "Bearer hunter2-2");
    }
    fs::remove_file(path).expect("a file");
    reload(
        &gateway,
        &format!("{refused}\"cannot be read: No such file"),
    );
    assert_eq!(next_authorization(&gateway, &backend), "Bearer hunter2-2");
    secret.set("hunter2-3");
    reload(&gateway, &read);
    assert_eq!(next_authorization(&gateway, &backend), "hunter2-3");
    // One line for each signal.
    let told = gateway.count_log("secret read again") + gateway.count_log("secret not read again");
    assert_eq!(told, 6, "{}", gateway.log());
    assert_eq!(gateway.count_log("hunter2"), 0, "{}", gateway.log());
}

#[test]
fn a_callback_that_is_under_way_is_what_it_was() {
    let backend = Backend::start();
    let secret = Secret::new("first");
    let builder = Gateway::builder()
        .env(AUTHORIZATION, secret.name())
        .one_worker_each();
    let gateway = start(builder, &backend);
    let (client, _) = open_stream(&gateway, &backend, "/a");
    // Its connect is answered after the next secret, and so is asked before it.
    let mut waiting = gateway.get("/b");
    let callback = backend.next_connect_of("/b");
    let queued = gateway.get("/c");
    gateway.wait_log("url=/c");
    secret.set("second");
    reload(&gateway, "secret read again");
    drop(client);
    let field = |callback: &Callback| callback.field("authorization").map(str::to_owned);
    let disconnect = backend.next_disconnect();
    assert_eq!(field(&disconnect).as_deref(), Some("second"));
    disconnect.answer(200, "");
    assert_eq!(field(&callback).as_deref(), Some("first"));
    callback.answer(200, "");
    assert_eq!(waiting.read_head().status, 200);
    let callback = backend.next_connect_of("/c");
    assert_eq!(field(&callback).as_deref(), Some("second"));
    callback.answer(200, "");
    drop(queued);
}

// ---- the keys of /internal/ ----

/// A send on a connection that is kept.
fn send(publisher: &mut Client, key: &str, command: &Value) -> Response {
    let body = command.to_string();
    publisher.send(format!(
        "POST /internal/send HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    publisher.read_response()
}

#[track_caller]
fn assert_unauthorized(gateway: &Gateway, key: &str) {
    let answer = send(&mut gateway.connect(), key, &json!({"broadcast": true}));
    assert_error(&answer, 401, "UNAUTHORIZED");
    assert_eq!(answer.head.value("www-authenticate"), Some("Bearer"));
}

/// How many events a stream brings, each with its number, before the one that is the end.
fn count_to_end(stream: &mut Client) -> usize {
    let mut number = 0;
    loop {
        let event = stream.next_event_behind_heartbeats();
        if event == "data: end\n\n" {
            return number;
        }
        assert_eq!(event, format!("data: {number}\n\n"));
        number += 1;
    }
}

/// One key takes the place of another, again and again, while somebody publishes without a pause: two
/// hold in between, no stream notices, no send is lost, and the old key opens nothing afterwards.
#[test]
fn keys_are_replaced_under_load() {
    const STREAMS: usize = 10;
    const ROTATIONS: usize = 20;
    let backend = Backend::accepting();
    let (secret, authorization) = (Secret::new("key-0\n"), Secret::new("callback-0"));
    let builder = Gateway::builder()
        .env(KEY, secret.name())
        .env(AUTHORIZATION, authorization.name());
    let gateway = start(builder, &backend);
    let mut streams: Vec<Client> = (0..STREAMS)
        .map(|_| open_stream(&gateway, &backend, "/s").0)
        .collect();
    let (key, is_over) = (Mutex::new("key-0".to_owned()), AtomicBool::new(false));
    thread::scope(|scope| {
        let reading: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(|| count_to_end(stream)))
            .collect();
        let publishing = scope.spawn(|| {
            let (mut publisher, mut sent) = (gateway.connect(), 0);
            while !is_over.load(Ordering::Acquire) {
                let command = json!({"broadcast": true, "event": {"data": sent.to_string()}});
                // The key that is sent holds until the answer has come.
                let key = key.lock().expect("no panic");
                let answer = send(&mut publisher, &key, &command);
                assert_ok(&answer, r#"{"status":"ok","receivers":10}"#);
                sent += 1;
            }
            let end = json!({"broadcast": true, "event": {"data": "end"}});
            let key = key.lock().expect("no panic");
            assert_eq!(send(&mut publisher, &key, &end).status(), 200);
            sent
        });
        let over = Over(&is_over);
        let read = format!("secret read again setting={KEY}");
        for number in 1..=ROTATIONS {
            let (old, new) = (format!("key-{}", number - 1), format!("key-{number}"));
            assert_unauthorized(&gateway, &new);
            secret.set(&format!("{old},{new}\n"));
            authorization.set(&format!("callback-{number}"));
            reload(&gateway, &read);
            for both in [&old, &new] {
                let answer = send(&mut gateway.connect(), both, &json!({"tokens": []}));
                assert_ok(&answer, r#"{"status":"ok","receivers":0}"#);
            }
            key.lock().expect("no panic").clone_from(&new);
            secret.set(&new);
            reload(&gateway, &read);
            assert_unauthorized(&gateway, &old);
        }
        drop(over);
        let sent = publishing.join().expect("no panic");
        assert!(sent > ROTATIONS, "{sent}");
        for read in reading {
            assert_eq!(read.join().expect("no panic"), sent);
        }
    });
    // All that the backend was told of is that they are there.
    assert_eq!(backend.waiting(), 0);
    drop(streams.pop());
    let disconnect = backend.next_disconnect();
    assert_eq!(disconnect.field("authorization"), Some("callback-20"));
    assert_eq!(gateway.count_log("key-"), 0, "{}", gateway.log());
}

/// Neither the missing file nor one that is written at this moment takes the key away.
#[test]
fn a_key_that_cannot_be_read_again_is_the_old_one() {
    let backend = Backend::accepting();
    let secret = Secret::new("hunter2");
    let gateway = start(Gateway::builder().env(KEY, secret.name()), &backend);
    let path = secret.name();
    let refused = format!(
        "[ERROR] secret not read again, the old value stays setting={KEY} path={path} error="
    );
    for content in ["", "hunter3,", "hunter3 hunter3"] {
        secret.set(content);
        reload(&gateway, &refused);
        assert_unauthorized(&gateway, "hunter3");
        let answer = send(&mut gateway.connect(), "hunter2", &json!({"tokens": []}));
        assert_ok(&answer, r#"{"status":"ok","receivers":0}"#);
    }
    fs::remove_file(path).expect("a file");
    reload(&gateway, &refused);
    let answer = send(&mut gateway.connect(), "hunter2", &json!({"tokens": []}));
    assert_ok(&answer, r#"{"status":"ok","receivers":0}"#);
    assert_eq!(gateway.count_log("hunter"), 0, "{}", gateway.log());
}

// ---- the signal ----

#[test]
fn without_files_a_signal_is_one_line() {
    let backend = Backend::accepting();
    let mut gateway = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    for _ in 0..3 {
        reload(&gateway, "[INFO] nothing to read again signal=SIGHUP");
    }
    assert_served(&mut gateway.connect());
    let command = json!({"token": token, "event": {"data": "x"}});
    let mut publisher = gateway.connect();
    publisher.post(command.to_string().as_bytes());
    assert_ok(&publisher.read_response(), OK);
    assert_eq!(stream.next_event_behind_heartbeats(), "data: x\n\n");
    assert_eq!(gateway.count_log("SIGHUP"), 3);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
}

/// It is no second signal that ends it at once.
#[test]
fn during_a_shutdown_it_reads_and_ends_nothing() {
    let backend = Backend::with(|callback| {
        if callback.is_connect() {
            callback.answer(200, "");
        }
    });
    let secret = Secret::new("first");
    let builder = Gateway::builder()
        .env(AUTHORIZATION, secret.name())
        .env("SHUTDOWN_TIMEOUT_SECONDS", "60")
        .env("DISCONNECT_TIMEOUT_SECONDS", "60");
    let mut gateway = start(builder, &backend);
    let (_stream, token) = open_stream(&gateway, &backend, "/s");
    gateway.signal("TERM");
    let disconnect = backend.next_disconnect_of(&token);
    reload(&gateway, "secret read again");
    disconnect.answer(200, "");
    assert!(gateway.wait_exit().success());
    gateway.wait_log("exit undelivered=0");
    backend.assert_balanced();
}

// ---- a terminal ----

/// A gateway on a terminal of its own, and the program that holds the terminal.
struct Terminal {
    script: Child,
    port: Port,
    pid: u32,
}

impl Terminal {
    fn open(settings: &[(&str, &str)]) -> Terminal {
        let port = Port::reserve();
        let gateway = env!("CARGO_BIN_EXE_ssegateway");
        let command = format!("echo $$ > \"$PID_FILE\"; exec {gateway}");
        let folder = Folder::new("terminal");
        let pid_file = folder.path("pid");
        // Whoever runs the tests may have them ignore hang-ups, and all that they start.
        let script = Command::new("env")
            .args(["--default-signal=HUP", "script"])
            .args(["--quiet", "--command", &command, "/dev/null"])
            .env("PORT", port.number().to_string())
            .env("PID_FILE", &pid_file)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("script of util-linux runs");
        eventually("a listener", || {
            std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok()
        });
        let pid = fs::read_to_string(&pid_file).expect("a file");
        let pid = pid.trim().parse().expect("a number");
        let stdin = fs::read_link(format!("/proc/{pid}/fd/0")).expect("its input");
        assert!(stdin.starts_with("/dev/pts"), "{}", stdin.display());
        Terminal { script, port, pid }
    }

    fn is_over(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // Behind the name, which is in brackets, stands the state.
        stat.rsplit(") ")
            .next()
            .is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !self.is_over() {
            signal(self.pid, "KILL");
        }
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn closing_the_window_ends_what_has_nothing_to_read_again() {
    let mut terminal = Terminal::open(&[]);
    terminal.script.kill().expect("its end");
    eventually("the gateway's end", || terminal.is_over());
    let terminal = Terminal::open(&[]);
    signal(terminal.pid, "HUP");
    eventually("the gateway's end", || terminal.is_over());
}

#[test]
fn on_a_terminal_files_are_read_again() {
    let backend = Backend::start();
    let secret = Secret::new("first");
    let url = backend.url();
    let terminal = Terminal::open(&[("CALLBACK_URL", &url), (AUTHORIZATION, secret.name())]);
    let next = || {
        let mut client = Client::connect(terminal.port.number());
        client.get("/s");
        let callback = backend.next_connect();
        callback.answer(403, "");
        callback.field("authorization").map(str::to_owned)
    };
    assert_eq!(next().as_deref(), Some("first"));
    secret.set("second");
    signal(terminal.pid, "HUP");
    eventually("the new value", || next().as_deref() == Some("second"));
    assert!(!terminal.is_over());
}

// ---- the start ----

#[test]
fn a_file_that_cannot_be_used_is_a_sentence_and_exit_code_2() {
    let secret = Secret::new("");
    for (setting, value) in [
        (KEY, "INTERNAL_KEY"),
        (AUTHORIZATION, "CALLBACK_AUTHORIZATION"),
    ] {
        for (content, why) in [
            ("", "is empty"),
            ("\u{e9}hunter2", "does not hold"),
            (&*"hunter2".repeat(10_000), "is larger than 64 KiB"),
        ] {
            secret.set(content);
            let settings = [(setting, secret.name())];
            let output = program(&settings, &[]).output().expect("a program");
            let remedy = format!("or unset {setting}");
            assert_refused(&output, 2, &[setting, secret.name(), why, &remedy]);
            assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
        }
        let missing = secret.folder.path("missing");
        let missing = missing.to_str().expect("text");
        let flag = format!("--{}", setting.to_lowercase().replace('_', "-"));
        let output = program(&[], &[&flag, missing]).output().expect("a program");
        assert_refused(
            &output,
            2,
            &[setting, missing, "cannot be read: No such file"],
        );
        let both = [(setting, missing), (value, "hunter2")];
        let output = program(&both, &[]).output().expect("a program");
        assert_refused(&output, 2, &[setting, value, "unset"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
    }
}
