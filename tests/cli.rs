//! The program's command line: what it prints where, and its exit codes (contract, section 8).

use std::net::{Ipv6Addr, TcpListener};
use std::process::{Command, Output, Stdio};

use ssegateway::config::SETTINGS;

/// The program with nothing set but what the test sets.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssegateway"));
    for setting in SETTINGS {
        command.env_remove(setting.name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

/// One line on standard error, nothing on standard output, this code.
fn assert_refused(output: &Output, code: i32) {
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert_eq!(text(&output.stdout), "");
    assert!(
        err.starts_with("ssegateway: ") && err.ends_with('\n'),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn an_invalid_setting_is_one_line_and_exit_code_2() {
    assert_refused(&program(&["--port", "0"]).output().unwrap(), 2);
    assert_refused(&program(&[]).env("LOG_LEVEL", "a\nb").output().unwrap(), 2);
    assert_refused(&program(&["stray"]).output().unwrap(), 2);
    let secret = program(&[]).env("CALLBACK_URL", "ftp://hunter2/").output();
    let secret = secret.unwrap();
    assert_refused(&secret, 2);
    assert!(!text(&secret.stderr).contains("hunter2"));
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| TcpListener::bind(("0.0.0.0", 0)))
        .unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = program(&["--port", &port]).output().unwrap();
    assert_refused(&output, 1);
    assert!(text(&output.stderr).contains(&port));
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (flag, part) in [("--help", "--callback-url"), ("--version", "ssegateway ")] {
        let output = program(&[flag]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(part));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_reader_that_left_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = program(&["--help"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}
