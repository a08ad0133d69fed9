//! Replays what the fuzzers have found worth keeping, without a fuzzer: a fault that was fixed stays
//! fixed on every toolchain.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::laws::{body, gateway, head, send_json, sse};

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus.join(target)).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = std::fs::read(&path).expect("an input");
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
        assert!(outcome.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "an empty corpus proves nothing");
}

#[test]
fn heads() {
    replay("head", head::run);
}

#[test]
fn bodies() {
    replay("body", body::run);
}

#[test]
fn send_commands() {
    replay("send_json", send_json::run);
}

#[test]
fn events() {
    replay("sse", sse::run);
}

#[test]
fn conversations() {
    replay("gateway", gateway::run);
}
