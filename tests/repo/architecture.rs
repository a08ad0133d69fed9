//! The core and the leaves know no socket, no clock and no thread: what makes them testable by
//! script is kept by reading their sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that take bytes and `now` and give bytes and effects.
const PURE: [&str; 14] = [
    "gateway",
    "http",
    "wire",
    "buf.rs",
    "callback.rs",
    "event_id.rs",
    "header_store.rs",
    "keys.rs",
    "logfmt.rs",
    "sse.rs",
    "time.rs",
    "tokens.rs",
    "wheel.rs",
    "wire.rs",
];

/// What only the shell may name: crates and types.
const WORDS: [&str; 12] = [
    "mio",
    "socket2",
    "ureq",
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "Stdio",
    "JoinHandle",
];

/// Modules of the standard library that only the shell may use.
const MODULES: [&str; 7] = ["env", "fs", "io", "net", "os", "process", "thread"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
}

/// The words of a source and the signs between them, lines of comment left out.
fn tokens(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim);
    let code = lines.filter(|line| !line.starts_with("//"));
    code.flat_map(|line| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        line.split_inclusive(move |c| !is_word(c))
            .flat_map(move |part| match part.char_indices().last() {
                Some((at, sign)) if !is_word(sign) => [&part[..at], &part[at..]],
                _ => [part, ""],
            })
    })
    .filter(|token| !token.trim().is_empty())
    .collect()
}

/// What a source names that it must not, and how.
fn offences(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let rest = &tokens[at + 1..];
        let is_module = MODULES.contains(token) && rest.starts_with(&[":", ":"]);
        if WORDS.contains(token) || is_module {
            found.push((*token).to_owned());
        }
        match rest {
            // A group may name anything, at any depth: one module a line is the house's way.
            [":", ":", "{", ..] if *token == "std" => found.push("std::{".to_owned()),
            [":", ":", module, ..] if *token == "std" && MODULES.contains(module) => {
                found.push(format!("std::{module}"));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_pure_rooms_name_nothing_of_the_shell() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for room in PURE {
        sources(&root.join(room), &mut files);
    }
    assert!(files.len() > 20, "the rooms have moved: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let offences = offences(&text);
        assert!(offences.is_empty(), "{} names {offences:?}", file.display());
    }
}

#[test]
fn no_way_of_naming_passes() {
    let bad = [
        "use std::io;",
        "use std::{fmt, io};",
        "use std::{\n    collections::HashMap,\n    thread,\n};",
        "use std::thread as t;",
        "fn f() { thread::sleep(d) }",
        "let link = \"http://h\"; let s: TcpStream = x;",
        "/* a */ let now = std::time::Instant::now();",
        "use mio::Token;",
        "use socket2 as s;",
        "extern crate ureq;",
        "std :: net :: lookup()",
    ];
    for text in bad {
        assert!(!offences(text).is_empty(), "{text}");
    }
    let good = "// std::io is not for us\nuse std::collections::HashMap;\nlet io = mio_like.io;";
    assert_eq!(offences(good), [""; 0]);
}
