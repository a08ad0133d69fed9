//! The servers' processes: starting, pinning to a core, what they cost.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ssegateway::config::SETTINGS;

use crate::Outcome;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(5);

/// Warnings and errors of a server that are kept to be shown.
const COMPLAINTS: usize = 10;

/// The hidden argument that makes this program the floor, as `main` reads it.
pub(crate) const FLOOR: &str = "--serve-as-floor";

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gateway,
    Floor,
}

/// Which core is whose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) load: usize,
    pub(crate) server: usize,
}

/// Pins this process, and what it starts from now on, to the first core that it may use; the
/// servers get the last one. An error is why nothing is pinned.
pub(crate) fn pin_load() -> Outcome<Cores> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .ok_or("the kernel does not tell the cores")?;
    let ends: Vec<usize> = list
        .split([',', '-'])
        .filter_map(|number| number.trim().parse().ok())
        .collect();
    let (Some(&load), Some(&server)) = (ends.iter().min(), ends.iter().max()) else {
        return Err("the kernel does not tell the cores".to_owned());
    };
    if load == server {
        return Err("there is one core only".to_owned());
    }
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", &load.to_string(), &pid])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match pinned {
        Ok(status) if status.success() => Ok(Cores { load, server }),
        Ok(_) => Err("taskset failed".to_owned()),
        Err(_) => Err("there is no taskset (util-linux)".to_owned()),
    }
}

/// A server that runs as long as this lives.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    readers: Vec<JoinHandle<()>>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server, the gateway with these flags, and waits until it listens.
    pub(crate) fn start(
        kind: Kind,
        cores: Option<Cores>,
        heartbeat: Duration,
        callback_url: Option<&str>,
        flags: &[&str],
    ) -> Outcome<Server> {
        let failed = |error: std::io::Error| format!("cannot start the {kind:?}: {error}");
        let address = free_address().map_err(failed)?;
        let program = match kind {
            Kind::Gateway => env!("CARGO_BIN_EXE_ssegateway").into(),
            Kind::Floor => std::env::current_exe().map_err(failed)?,
        };
        let mut command = match cores {
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cores.server.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        for setting in SETTINGS {
            command.env_remove(setting.name);
        }
        let (port, seconds) = (address.port().to_string(), heartbeat.as_secs().to_string());
        match kind {
            Kind::Floor => command.args([FLOOR, &port, &seconds]),
            Kind::Gateway => command
                .args(["--host", "127.0.0.1", "--port", &port])
                .args(["--heartbeat-interval-seconds", &seconds])
                .args(["--callback-url", callback_url.unwrap_or_default()])
                .args(flags),
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut server = Server {
            child: command.spawn().map_err(failed)?,
            address,
            readers: Vec::new(),
            complaints: Arc::default(),
        };
        server.read_log();
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// Reads the log as it comes: what is info is only taken off the pipe.
    fn read_log(&mut self) {
        if let Some(mut out) = self.child.stdout.take() {
            self.readers.push(thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while out.read(&mut buffer).is_ok_and(|n| n > 0) {}
            }));
        }
        if let Some(err) = self.child.stderr.take() {
            let complaints = Arc::clone(&self.complaints);
            self.readers.push(thread::spawn(move || {
                for line in BufReader::new(err).lines().map_while(Result::ok) {
                    if let Ok(mut kept) = complaints.lock()
                        && kept.len() < COMPLAINTS
                    {
                        kept.push(line);
                    }
                }
            }));
        }
    }

    fn wait_until_it_listens(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if begun.elapsed() > START || self.child.try_wait().is_ok_and(|it| it.is_some()) {
                // Its last words may still be on their way.
                thread::sleep(Duration::from_millis(50));
                return Err(format!("the server does not start{}", self.complaints()));
            }
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Asks the gateway whether streams can be opened, and takes nothing but yes for an answer.
    pub(crate) fn assert_ready(&self) -> Outcome<()> {
        let ask = || {
            let mut connection = TcpStream::connect(self.address)?;
            connection.set_read_timeout(Some(START))?;
            connection
                .write_all(b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let failed = |error: std::io::Error| format!("the gateway does not answer: {error}");
        let answer = ask().map_err(failed)?;
        match answer.starts_with("HTTP/1.1 200 ") {
            true => Ok(()),
            false => Err(format!("the gateway is not ready: {answer}")),
        }
    }

    /// The first lines that it wrote to standard error, for a failure's message.
    pub(crate) fn complaints(&self) -> String {
        let kept = self.complaints.lock().map(|kept| kept.clone());
        let lines = kept.unwrap_or_default().into_iter();
        lines.map(|line| format!("\n  server: {line}")).collect()
    }

    /// What it has cost so far.
    pub(crate) fn cpu(&self) -> Outcome<Cpu> {
        Cpu::of(self.child.id())
    }

    /// Its proportional set size in bytes.
    pub(crate) fn memory(&self) -> Outcome<u64> {
        self.rollup("Pss:")
    }

    /// Its memory that no file stands behind, in bytes: what it has allocated and touched.
    pub(crate) fn anonymous(&self) -> Outcome<u64> {
        self.rollup("Anonymous:")
    }

    fn rollup(&self, name: &str) -> Outcome<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let field = text.lines().find_map(|line| line.strip_prefix(name));
        let number = field.and_then(|it| it.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Ok(number.ok_or_else(|| format!("{path}: no {name}"))? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that is worth an orderly end; one that ended before is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// A loopback address that nobody listens on, with a port of five digits.
fn free_address() -> std::io::Result<SocketAddr> {
    loop {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if address.port() >= 10_000 {
            return Ok(address);
        }
    }
}

/// Processor time that a process has used up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    /// Nanoseconds of each thread that lives, by its id: exact, as the scheduler counts them.
    threads: Vec<(u32, u64)>,
    /// Nanoseconds of the whole process, threads that ended included, in steps of a tick.
    whole: u64,
}

/// A tick of `/proc/PID/stat` in nanoseconds: always a hundredth of a second on Linux.
const TICK: u64 = 10_000_000;

impl Cpu {
    pub(crate) fn of(pid: u32) -> Outcome<Cpu> {
        let failed = |error: std::io::Error| format!("/proc/{pid}: {error}");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(failed)?;
        // Behind the name in parentheses: fields 14 and 15 of proc(5) are the 12th and 13th.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|it| it.parse::<u64>().ok()).sum();
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
            let Ok(entry) = entry else { continue };
            // A thread may end at any time.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let id = entry.file_name().to_string_lossy().parse();
            let nanos = text.split_whitespace().next().map(str::parse);
            if let (Ok(id), Some(Ok(nanos))) = (id, nanos) {
                threads.push((id, nanos));
            }
        }
        Ok(Cpu {
            threads,
            whole: ticks * TICK,
        })
    }

    /// What was used since an earlier moment. Threads that lived at both moments are exact; when
    /// the process has used clearly more than they did, threads have ended in between and the
    /// process's own, coarser count is the truth.
    pub(crate) fn since(&self, earlier: &Cpu) -> Duration {
        let before = |id| {
            let thread = earlier.threads.iter().find(|(other, _)| *other == id);
            thread.map_or(0, |(_, nanos)| *nanos)
        };
        let of_thread = |(id, nanos): &(u32, u64)| nanos.saturating_sub(before(*id));
        let threads = self.threads.iter().map(of_thread).sum::<u64>();
        let whole = self.whole.saturating_sub(earlier.whole);
        Duration::from_nanos(if whole > threads + 3 * TICK {
            whole
        } else {
            threads
        })
    }
}
