//! The program as a command that ends by itself: what it says where, and its exit code.

use std::process::{Command, Output, Stdio};

/// The command with these settings and nothing else.
pub fn program(settings: &[(&str, &str)], flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssegateway"));
    command
        .env_clear()
        .envs(settings.iter().copied())
        .args(flags)
        .stdin(Stdio::null());
    command
}

/// Nothing on standard output, one line that holds these parts on standard error, this code.
#[track_caller]
pub fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(output.stdout, b"", "{line}");
    assert!(
        line.starts_with("ssegateway: ") && line.ends_with('\n'),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "{part} in {line}");
    }
}
