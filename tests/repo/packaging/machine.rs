//! A machine of a test's own, whose first process is systemd: `machine.sh` makes it of namespaces.
//! The test runs again as a process in the machine's network, so that what it connects to and what
//! it listens on is there; files and commands of the machine it reaches by [`Machine::run`].

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::root;
use crate::support::Folder;
use crate::support::process::{eventually_within, read_line};

/// Says to the inner process which the machine's first process is.
const FIRST: &str = "TEST_MACHINE";
/// And which folder is its `/tmp/from`.
const FROM: &str = "TEST_MACHINE_FROM";

/// For what a service manager does, under any load.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine that runs.
pub(super) struct Machine {
    first: String,
    from: String,
}

/// Runs a test in a machine of its own. `test` is its name, with its module among those of packaging.
///
/// # Panics
/// Without the rights or the tools for it: what could not be tried has not passed.
#[track_caller]
pub(super) fn within(test: &str, body: fn(&Machine)) {
    if let (Ok(first), Ok(from)) = (env::var(FIRST), env::var(FROM)) {
        return body(&Machine { first, from });
    }
    let name = format!("packaging::{test}");
    let (folder, from) = (Folder::new("machine"), Folder::new("from"));
    let mut supervisor = Command::new("unshare")
        .args(["--mount", "sh"])
        .arg(root().join("tests/repo/packaging/machine.sh"))
        .args([&folder.0, &from.0])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let first = read_line(supervisor.stdout.as_mut().expect("a pipe"));
    assert!(!first.trim().is_empty(), "there is no machine");
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", first.trim()))
        .arg(env::current_exe().expect("the test's own path"))
        .args([&name, "--exact", "--ignored", "--nocapture"])
        .env(FIRST, first.trim())
        .env(FROM, &from.0)
        .stderr(Stdio::inherit())
        .output()
        .expect("nsenter runs");
    // Before anything is judged: a machine is not to be left behind.
    end(supervisor);
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(output.status.success(), "{name}: {}", output.status);
    // A name that no test has would be no failure.
    assert!(said.contains("test result: ok. 1 passed"), "{name}");
}

/// The machine ends with its supervisor's input.
fn end(mut supervisor: Child) {
    drop(supervisor.stdin.take());
    let status = supervisor.wait().expect("a child");
    assert!(status.success(), "the machine's end: {status}");
}

impl Machine {
    /// What a command of the machine's shell writes, and whether it succeeds.
    pub(super) fn try_run(&self, script: &str) -> Result<String, String> {
        let output = Command::new("nsenter")
            .args(["--all", "--target", &self.first, "sh", "-euc"])
            .args([script, "sh"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .expect("nsenter runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{script}: {}\n{text}\n{error}", output.status))
        }
    }

    /// The same of a command that succeeds.
    #[track_caller]
    pub(super) fn run(&self, script: &str) -> String {
        let journal = "journalctl --no-pager --lines=50 || true";
        self.try_run(script).unwrap_or_else(|error| {
            panic!("{error}\n{}", self.try_run(journal).unwrap_or_default())
        })
    }

    /// Waits until a command succeeds.
    #[track_caller]
    pub(super) fn wait_for(&self, script: &str) {
        eventually_within(script, PATIENCE, || self.try_run(script).is_ok());
    }

    /// Gives the machine a file, as `/tmp/from/NAME`.
    pub(super) fn give(&self, name: &str, file: &Path) {
        fs::copy(file, Path::new(&self.from).join(name)).expect(name);
    }

    /// Waits until it has started all that it starts by itself.
    pub(super) fn wait_until_up(&self) {
        self.wait_for("systemctl is-system-running");
    }

    /// What systemd knows of a unit.
    pub(super) fn property(&self, unit: &str, name: &str) -> String {
        let text = self.run(&format!("systemctl show --value -p {name} {unit}"));
        text.trim().to_owned()
    }
}
