//! The program's command line: what it prints where, and its exit codes (contract, section 8).

use crate::support::{assert_refused, program};

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

#[test]
fn an_invalid_setting_is_one_line_and_exit_code_2() {
    let refused = |settings: &[(&str, &str)], flags: &[&str]| {
        let output = program(settings, flags).output().expect("a program");
        assert_refused(&output, 2, &[]);
        text(&output.stderr).to_owned()
    };
    refused(&[], &["--port", "0"]);
    refused(&[("LOG_LEVEL", "a\nb")], &[]);
    refused(&[], &["stray"]);
    let line = refused(&[("CALLBACK_URL", "ftp://hunter2/")], &[]);
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (flag, part) in [("--help", "--callback-url"), ("--version", "ssegateway ")] {
        let output = program(&[], &[flag]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(part));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_reader_that_left_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = program(&[], &["--help"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}
