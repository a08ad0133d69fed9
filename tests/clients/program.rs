//! A client or a proxy as a process: what it prints is what it saw.
// Each kind of client uses its own part.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Shared, each_line};

/// For what must come from a program that may have to start first, on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Output {
    /// Lines of standard output, without their ends.
    lines: Vec<String>,
    /// How many of them the test has taken.
    taken: usize,
    errors: Vec<String>,
    /// How many of the two streams have ended; both have when the process is gone.
    ended: usize,
}

/// A process that was started; killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Shared<Output>>,
}

impl Program {
    #[track_caller]
    pub fn start(command: &mut Command) -> Program {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = Arc::new(Shared::<Output>::default());
        let stdout = child.stdout.take().expect("a pipe");
        gather(stdout, &output, |output, line| output.lines.push(line));
        let stderr = child.stderr.take().expect("a pipe");
        gather(stderr, &output, |output, line| output.errors.push(line));
        Program {
            name,
            stdin: child.stdin.take(),
            child,
            output,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to its standard input.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open input");
        writeln!(stdin, "{line}").expect("a reader");
    }

    /// The next line of its standard output.
    #[track_caller]
    pub fn line(&self) -> String {
        let found = self.wait(|output| {
            let line = output.lines.get(output.taken)?.clone();
            output.taken += 1;
            Some(line)
        });
        found.unwrap_or_else(|| panic!("no further line of {}", self.text()))
    }

    /// The next line of its standard output, which is JSON.
    #[track_caller]
    pub fn report(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?} of {}", self.text()))
    }

    /// Lines of its standard output that came and were not taken.
    pub fn untaken(&self) -> Vec<String> {
        self.output.look(|o| o.lines[o.taken..].to_vec())
    }

    /// Waits for a line of standard error that holds `part`.
    #[track_caller]
    pub fn wait_error(&self, part: &str) -> String {
        let found = self.wait(|o| o.errors.iter().find(|line| line.contains(part)).cloned());
        found.unwrap_or_else(|| panic!("no {part:?} of {}", self.text()))
    }

    /// Waits for what only asking again and again can tell, as long as it runs.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            let runs = self.output.look(|output| output.ended < 2);
            assert!(runs && Instant::now() < end, "no {what}: {}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let ended = self.wait(|output| (output.ended == 2).then_some(()));
        assert!(ended.is_some(), "no end of {}", self.text());
        self.child.wait().expect("an exit status")
    }

    /// `None` when patience or the process' output is over.
    fn wait<R>(&self, mut take: impl FnMut(&mut Output) -> Option<R>) -> Option<R> {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.output.wait(|output| match take(output) {
                Some(found) => Some(Some(found)),
                None => (output.ended == 2).then_some(None),
            });
            match found {
                Some(found) => return found,
                None if Instant::now() >= end => return None,
                None => {}
            }
        }
    }

    /// All that it printed, long lines cut, for people.
    fn text(&self) -> String {
        let shorten = |line: &String| line.chars().take(200).collect::<String>();
        self.output.look(|output| {
            let lines: Vec<String> = output.lines.iter().map(shorten).collect();
            let errors: Vec<String> = output.errors.iter().map(shorten).collect();
            let taken = output.taken;
            format!(
                "{}: {lines:#?}, {taken} taken, errors {errors:#?}",
                self.name
            )
        })
    }
}

fn gather(
    pipe: impl Read + Send + 'static,
    output: &Arc<Shared<Output>>,
    keep: impl Fn(&mut Output, String) + Send + 'static,
) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        each_line(pipe, |text| output.change(|output| keep(output, text)));
        output.change(|output| output.ended += 1);
    });
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
