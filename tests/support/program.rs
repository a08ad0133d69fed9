//! The program as a command that ends by itself: what it says where, and its exit code.

use std::fs;
use std::path::{Path, PathBuf};
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

/// The demo's program. Cargo does not build an example for a test that is picked out, nor tell where
/// it is: what was left there by an earlier build is not tested.
#[track_caller]
pub fn demo() -> PathBuf {
    let gateway = Path::new(env!("CARGO_BIN_EXE_ssegateway"));
    let program = gateway.with_file_name("examples").join("demo");
    let time = |file: &Path| fs::metadata(file).and_then(|about| about.modified()).ok();
    let built = time(&program);
    // As Cargo writes it: the program, a colon and its sources.
    let rule = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let is_older = |source: &str| time(Path::new(source)) <= built;
    assert!(
        built.is_some() && rule.split_whitespace().skip(1).all(is_older),
        "{} is missing or older than its sources: `cargo build --example demo` builds it, with the \
         flags of `cargo test`, if any; so does `cargo test` when no `--test` picks one out",
        program.display()
    );
    program
}
