//! The log, kept for the test that caused it: each test has a thread of its own. The other tests of
//! the process, which do not look at it, go on as if nobody logged.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        LINES.with_borrow(Option::is_some)
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push(format!("[{}] {}", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// Captures from now on, in this thread.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Capture).expect("the first one");
        log::set_max_level(LevelFilter::Info);
    });
    LINES.with_borrow_mut(|lines| {
        lines.get_or_insert_default();
    });
}

/// This test's lines since the last look.
pub(crate) fn lines() -> Vec<String> {
    LINES.with_borrow_mut(|lines| lines.as_mut().map(std::mem::take).unwrap_or_default())
}
