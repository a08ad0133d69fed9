//! The core and the leaves know no socket, no clock and no thread: what makes them testable by
//! script is kept by reading their sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that take bytes and `now` and give bytes and effects.
const PURE: [&str; 10] = [
    "gateway",
    "http",
    "wire",
    "buf.rs",
    "callback.rs",
    "logfmt.rs",
    "sse.rs",
    "time.rs",
    "wheel.rs",
    "wire.rs",
];

/// What only the shell may name.
const FORBIDDEN: [&str; 8] = [
    "mio::",
    "ureq",
    "std::net",
    "Instant",
    "SystemTime",
    "std::thread",
    "std::io",
    "std::fs",
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
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
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN {
                let place = format!("{}:{}", file.display(), at + 1);
                assert!(!code.contains(word), "{place} names {word}");
            }
        }
    }
}
