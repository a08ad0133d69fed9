//! The gateway as a process: settings, log, signals, exit.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::{Backend, Client, PATIENCE, Port, Shared};

/// One line of the gateway's output.
#[derive(Clone, Debug)]
pub struct Line {
    /// It came on standard error.
    pub is_error: bool,
    pub text: String,
}

#[derive(Debug, Default)]
struct Output {
    lines: Vec<Line>,
    /// How many of the two streams have ended; both have when the process is gone.
    ended: usize,
}

impl Output {
    fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let stream = if line.is_error { "err" } else { "out" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {stream}: {}", line.text);
        }
        text
    }
}

/// How a gateway is to be started. The environment holds what is set here and nothing else.
pub struct Builder {
    command: Command,
    port: Port,
    socket: Option<PathBuf>,
    inherited: Vec<OwnedFd>,
}

impl Builder {
    fn new() -> Builder {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssegateway"));
        let port = Port::reserve();
        command.env_clear().env("PORT", port.number().to_string());
        Builder {
            command,
            port,
            socket: None,
            inherited: Vec::new(),
        }
    }

    pub fn backend(self, backend: &Backend) -> Builder {
        self.env("CALLBACK_URL", &backend.url())
    }

    /// One worker for each kind of callback, so that each kind has one connection at a time. With
    /// more of them a second connection is made if the first worker is not yet at rest.
    pub fn one_worker_each(self) -> Builder {
        self.env("CONNECT_WORKERS", "1")
            .env("DISCONNECT_WORKERS", "1")
            .keeping_connections()
    }

    /// Connections to the backend are kept as long as any test takes, however busy the host.
    pub fn keeping_connections(self) -> Builder {
        self.env("WORKER_IDLE_SECONDS", "600")
    }

    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.command.env(name, value);
        self
    }

    pub fn flag(mut self, flag: &str, value: &str) -> Builder {
        self.command.arg(flag).arg(value);
        self
    }

    /// Clients connect to the Unix socket at this path.
    pub fn at_socket(self, path: &Path) -> Builder {
        let mut builder = self.env("HOST", &format!("unix:{}", path.display()));
        builder.socket = Some(path.to_owned());
        builder
    }

    /// Hands it one descriptor or two, with these names, as a service manager does. With two of them
    /// all of its log is on standard output.
    pub fn inheriting(self, sockets: &[(&str, &dyn AsFd)]) -> Builder {
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let count = sockets.len().to_string();
        let mut builder = self
            .env("LISTEN_FDS", &count)
            .env("LISTEN_FDNAMES", &names.join(":"));
        for (_, socket) in sockets {
            let own = socket.as_fd().try_clone_to_owned();
            builder.inherited.push(own.expect("a descriptor"));
        }
        builder
    }

    /// A shell that puts each descriptor in its place and becomes the program.
    fn behind_shell(&mut self) -> Command {
        let script = match self.inherited.len() {
            1 => r#"export LISTEN_PID=$$; exec "$0" "$@" 3<&0 0</dev/null"#,
            2 => r#"export LISTEN_PID=$$; exec "$0" "$@" 3<&0 4<&2 0</dev/null 2>&1"#,
            more => panic!("{more} descriptors"),
        };
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(self.command.get_program());
        command.args(self.command.get_args()).env_clear();
        let envs = self.command.get_envs();
        command.envs(envs.filter_map(|(name, value)| Some((name, value?))));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut inherited = self.inherited.drain(..);
        command.stdin(inherited.next().expect("one"));
        if let Some(second) = inherited.next() {
            command.stderr(second);
        }
        command
    }

    /// The port that it is going to listen on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Starts it without waiting for anything.
    pub fn spawn(mut self) -> Gateway {
        let mut command = if self.inherited.is_empty() {
            self.command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            self.command
        } else {
            self.behind_shell()
        };
        let mut child = command.spawn().expect("the gateway starts");
        // The test's descriptors end with it.
        drop(command);
        let output = Arc::new(Shared::<Output>::default());
        gather(child.stdout.take().expect("a pipe"), false, &output);
        match child.stderr.take() {
            Some(pipe) => gather(pipe, true, &output),
            None => output.change(|output| output.ended += 1),
        }
        Gateway {
            child,
            port: self.port,
            socket: self.socket,
            output,
        }
    }

    /// Starts it and waits until it listens. Only the levels info and debug tell when that is.
    pub fn start(self) -> Gateway {
        let gateway = self.spawn();
        gateway.wait_log("[INFO] start ");
        gateway
    }
}

fn gather(pipe: impl Read + Send + 'static, is_error: bool, output: &Arc<Shared<Output>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        each_line(pipe, |text| {
            output.change(|output| output.lines.push(Line { is_error, text }));
        });
        output.change(|output| output.ended += 1);
    });
}

/// Reads whole lines, whatever their bytes, until there are no more.
pub fn each_line(pipe: impl Read, mut take: impl FnMut(String)) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = pipe.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        take(text.strip_suffix('\n').unwrap_or(&text).to_owned());
        line.clear();
    }
}

/// Sends a signal by its name without SIG, such as `TERM`.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -s {name}");
}

/// A gateway that was started; killed when dropped.
pub struct Gateway {
    child: Child,
    port: Port,
    socket: Option<PathBuf>,
    output: Arc<Shared<Output>>,
}

impl Gateway {
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// With default settings for this backend.
    pub fn of(backend: &Backend) -> Gateway {
        Gateway::builder().backend(backend).start()
    }

    /// The same, but with time enough for every callback, for tests that look at something else.
    pub fn unhurried(backend: &Backend) -> Gateway {
        Gateway::builder()
            .backend(backend)
            .env("CONNECT_TIMEOUT_SECONDS", "60")
            .env("DISCONNECT_TIMEOUT_SECONDS", "60")
            .start()
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where it listens in place of its port.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    // ---- clients ----

    pub fn connect(&self) -> Client {
        match &self.socket {
            Some(path) => Client::to_socket(path),
            None => Client::connect(self.port()),
        }
    }

    /// A client that has sent `GET path` with a Host and nothing else.
    pub fn get(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.get(path);
        client
    }

    // ---- the log ----

    /// The first line that holds `part`, as soon as there is one.
    #[track_caller]
    pub fn wait_log(&self, part: &str) -> String {
        self.wait_log_where(part, |line| line.text.contains(part))
            .text
    }

    /// The first line that holds all of `parts`.
    #[track_caller]
    pub fn wait_log_all(&self, parts: &[&str]) -> Line {
        self.wait_log_where(&format!("{parts:?}"), |line| {
            parts.iter().all(|part| line.text.contains(part))
        })
    }

    /// The first line that `wanted` accepts; `what` names it should none come.
    #[track_caller]
    pub fn wait_log_where(&self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        let mut seen = 0;
        let found = self.output.wait(|output| {
            let found = output.lines[seen..].iter().find(|line| wanted(line));
            seen = output.lines.len();
            match found {
                Some(line) => Some(Some(line.clone())),
                // What has not come by the end never will.
                None => (output.ended == 2).then_some(None),
            }
        });
        found
            .flatten()
            .unwrap_or_else(|| panic!("no log line with {what} in:\n{}", self.log()))
    }

    /// Waits until that many lines are accepted by `wanted`, and panics if there are more.
    #[track_caller]
    pub fn wait_log_times(&self, what: &str, times: usize, wanted: impl Fn(&Line) -> bool) {
        let mut number = 0;
        let found = self.output.wait(|output| {
            number = output.lines.iter().filter(|line| wanted(line)).count();
            (number >= times || output.ended == 2).then_some(())
        });
        assert!(
            found.is_some() && number == times,
            "{number} log lines with {what}, not {times}, in:\n{}",
            self.log()
        );
    }

    /// The whole log so far, for people.
    pub fn log(&self) -> String {
        self.output.look(Output::text)
    }

    pub fn lines(&self) -> Vec<Line> {
        self.output.look(|output| output.lines.clone())
    }

    /// How many lines so far hold `part`.
    pub fn count_log(&self, part: &str) -> usize {
        let lines = self.lines();
        lines.iter().filter(|line| line.text.contains(part)).count()
    }

    // ---- the process ----

    /// See [`signal`]; behind `STOP` it has stopped.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
        if name == "STOP" {
            self.wait_stopped();
        }
    }

    /// A signal is sent before it is met: until every thread has stopped, the loop may still turn.
    fn wait_stopped(&self) {
        let begun = Instant::now();
        while !self.is_stopped() {
            assert!(begun.elapsed() < PATIENCE, "it does not stop");
            thread::yield_now();
        }
    }

    fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads");
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in brackets and may hold anything.
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        })
    }

    /// Waits for the process' own end; its log is whole then.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        // Its pipes end with it, and a condition variable can wait for them with a time-out.
        let ended = self.output.wait(|output| (output.ended == 2).then_some(()));
        assert!(ended.is_some(), "no exit; the log:\n{}", self.log());
        self.child.wait().expect("an exit status")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
    }
}
