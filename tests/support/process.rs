//! What the other helpers do not give: a gateway whose start is out of the ordinary (under a
//! descriptor limit, with an output that the test holds), and what the kernel tells of a process.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Backend, Client, PATIENCE, Port, Response, signal};

/// A gateway with its outputs in the test's hands; killed when dropped.
pub struct Process {
    child: Child,
    port: Port,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
}

impl Process {
    /// Starts `sh -c SCRIPT`, where `exec "$0"` becomes the gateway, and waits until it listens.
    /// Only the levels info and debug tell when that is.
    pub fn start(script: &str, backend: &Backend, settings: &[(&str, &str)]) -> Process {
        let mut process = Process::spawn(script, backend, settings);
        let first = read_line(process.stdout.as_mut().expect("a pipe"));
        assert!(first.starts_with("[INFO] start "), "{first}");
        process
    }

    /// The same where standard output is the script's affair.
    pub fn start_apart(script: &str, backend: &Backend, settings: &[(&str, &str)]) -> Process {
        let process = Process::spawn(script, backend, settings);
        eventually("a listener", || {
            TcpStream::connect(("127.0.0.1", process.port())).is_ok()
        });
        process
    }

    fn spawn(script: &str, backend: &Backend, settings: &[(&str, &str)]) -> Process {
        let port = Port::reserve();
        let mut child = Command::new("sh")
            .args([OsStr::new("-c"), OsStr::new(script)])
            .arg(env!("CARGO_BIN_EXE_ssegateway"))
            .env_clear()
            .env("PORT", port.number().to_string())
            .env("CALLBACK_URL", backend.url())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Process {
            child,
            port,
            stdout,
            stderr,
        }
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.port())
    }

    pub fn get(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.get(path);
        client
    }

    pub fn open_stream(&self, backend: &Backend, path: &str) -> (Client, String) {
        let mut client = self.get(path);
        let callback = backend.next_connect_of(path);
        assert!(callback.is_answered(), "the backend answers by itself");
        assert_eq!(client.read_head().status, 200);
        (client, callback.token())
    }

    pub fn post(&self, command: &Value) -> Response {
        let mut client = self.connect();
        client.post(command.to_string().as_bytes());
        client.read_response()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process' exit", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("an exit status")
    }

    /// Everything that an output still holds, up to its end; the process must be gone.
    pub fn rest_of_stdout(&mut self) -> String {
        rest(self.stdout.as_mut().expect("a pipe"))
    }

    pub fn rest_of_stderr(&mut self) -> String {
        rest(self.stderr.as_mut().expect("a pipe"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line, byte by byte: what is behind it stays in the pipe.
pub fn read_line(pipe: &mut impl Read) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while matches!(pipe.read(&mut byte), Ok(1)) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

fn rest(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for what only asking the kernel again and again can tell.
#[track_caller]
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    eventually_within(what, PATIENCE, is_so);
}

/// The same, for as long as it may take.
#[track_caller]
pub fn eventually_within(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a program has read whatever was sent to its port. That somebody who came behind is
/// served does not tell it: who comes now may be served before those who are read piece by piece.
#[track_caller]
pub fn wait_until_read(port: u16) {
    eventually("an end of reading", || is_all_read(port));
}

/// Whether nothing that was sent to this port is on its way, or in the kernel's hands.
fn is_all_read(port: u16) -> bool {
    let end = format!(":{port:04X}");
    let table = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default())
        .concat();
    // Fields: number, local address, remote address, state, bytes to send:bytes to read, ...
    let mut rows = table.lines().map(str::split_whitespace);
    rows.all(|mut row| {
        let mut field = |at| row.nth(at).unwrap_or_default();
        let (local, remote, queues) = (field(1), field(0), field(1));
        (!local.ends_with(&end) || queues.ends_with(":00000000"))
            && (!remote.ends_with(&end) || queues.starts_with("00000000:"))
    })
}

/// Threads of a process.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The number that the next descriptor of a process will have.
pub fn next_descriptor(pid: u32) -> u64 {
    let is_free = |number: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_err();
    (0..).find(is_free).expect("a number")
}

/// Processor time that a process has used, in clock ticks of 10 ms.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // The name, which stands in parentheses, may hold spaces. Then come fields 3 and following.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let field = |number: usize| fields[number - 2].parse::<u64>().expect("a number");
    field(14) + field(15)
}

/// Memory of a process that is in RAM, in KiB.
pub fn resident_kib(pid: u32) -> usize {
    fact(pid, "status", "VmRSS:")
}

/// The same, with what it shares with others in proportion (proportional set size).
pub fn proportional_kib(pid: u32) -> usize {
    fact(pid, "smaps_rollup", "Pss:")
}

/// KiB that are of no file: what the program has of its own text depends on who else runs it.
pub fn anonymous_kib(pid: u32) -> usize {
    fact(pid, "smaps_rollup", "Anonymous:")
}

/// The number behind `key` in a file that the kernel keeps for a process.
fn fact(pid: u32, file: &str, key: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

/// Writes `bytes` until all are taken or none was for `silence`; the number that was taken.
pub fn write_until_stuck(mut stream: &TcpStream, bytes: &[u8], silence: Duration) -> usize {
    use std::io::Write;
    stream.set_write_timeout(Some(silence)).expect("a time-out");
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(n) => taken += n,
            Err(_) => break,
        }
    }
    taken
}
