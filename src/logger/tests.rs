//! Over writers that do what a test tells them, when it tells them. Nothing here sleeps.

mod objects;

use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::*;

/// What one call of `write` does.
enum Verdict {
    Take(usize),
    Fail(ErrorKind),
}

const ALL: Verdict = Verdict::Take(usize::MAX);

/// A writer that announces each call and then waits for its verdict.
struct Gated {
    calls: Sender<usize>,
    verdicts: Receiver<Verdict>,
    written: Arc<Mutex<Vec<u8>>>,
}

/// The test's end of it.
struct Gate {
    calls: Receiver<usize>,
    verdicts: Sender<Verdict>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.calls.send(bytes.len());
        // An abandoned gate is an open one.
        match self.verdicts.recv().unwrap_or(ALL) {
            Verdict::Take(most) => {
                let n = bytes.len().min(most);
                self.written.lock().unwrap().extend(&bytes[..n]);
                Ok(n)
            }
            Verdict::Fail(kind) => Err(kind.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gated, Gate) {
    let (call, calls) = channel();
    let (verdict, verdicts) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let gated = Gated {
        calls: call,
        verdicts,
        written: Arc::clone(&written),
    };
    let gate = Gate {
        calls,
        verdicts: verdict,
        written,
    };
    (gated, gate)
}

impl Gate {
    /// Waits until a call is made; its length.
    fn called(&self) -> usize {
        self.calls.recv_timeout(PATIENCE).expect("a writer")
    }

    fn say(&self, verdict: Verdict) {
        self.verdicts.send(verdict).expect("a writer");
    }

    /// Lets everything through from now on; what was written counts from the start.
    fn open(self) -> Arc<Mutex<Vec<u8>>> {
        self.written
    }
}

fn text(written: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(written.lock().unwrap().clone()).unwrap()
}

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

fn tuned(out: Gated, err: Gated, capacity: usize, linger: Duration) -> Logger {
    formatted(LogFormat::Text, out, err, capacity, linger)
}

fn formatted(
    format: LogFormat,
    out: Gated,
    err: Gated,
    capacity: usize,
    linger: Duration,
) -> Logger {
    let tuning = Tuning { capacity, linger };
    Logger::tuned(LevelFilter::Debug, format, out, err, tuning).unwrap()
}

/// A log whose standard error does not matter.
fn to_out(capacity: usize, linger: Duration) -> (Logger, Gate) {
    formatted_to_out(LogFormat::Text, capacity, linger)
}

fn formatted_to_out(format: LogFormat, capacity: usize, linger: Duration) -> (Logger, Gate) {
    let (out, gate) = gate();
    let (err, _) = self::gate();
    (formatted(format, out, err, capacity, linger), gate)
}

fn say(logger: &Logger, level: Level, target: &str, message: &str) {
    logger.log(
        &Record::builder()
            .level(level)
            .target(target)
            .args(format_args!("{message}"))
            .build(),
    );
}

fn info(logger: &Logger, message: &str) {
    say(logger, Level::Info, "ssegateway", message);
}

/// The lines, and the counts of the notices among them.
fn tally(text: &str) -> (Vec<&str>, Vec<u64>) {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let (notices, lines): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.starts_with("[WARN]"));
    let count = |line: &str| line.rsplit_once(" dropped=").unwrap().1.parse().unwrap();
    (lines, notices.into_iter().map(count).collect())
}

#[test]
fn levels_go_to_their_output_in_order() {
    let ((out, out_gate), (err, err_gate)) = (gate(), gate());
    let (out_text, err_text) = (out_gate.open(), err_gate.open());
    let logger = tuned(out, err, 1000, HOUR);
    say(&logger, Level::Info, "ssegateway", "a");
    say(&logger, Level::Warn, "ssegateway::server", "b");
    say(&logger, Level::Debug, "ssegateway::gateway::conn", "c");
    say(&logger, Level::Error, "ssegateway", "d");
    say(&logger, Level::Info, "ssegateway", "e");
    assert!(logger.flush_at_exit());
    assert_eq!(text(&out_text), "[INFO] a\n[DEBUG] c\n[INFO] e\n");
    assert_eq!(text(&err_text), "[WARN] b\n[ERROR] d\n");
}

#[test]
fn other_targets_and_lesser_levels_are_left_out() {
    let ((out, out_gate), (err, err_gate)) = (gate(), gate());
    let (out_text, err_text) = (out_gate.open(), err_gate.open());
    let logger = Logger::new(LevelFilter::Info, LogFormat::Text, out, err).unwrap();
    for target in ["ureq", "ureq::ssegateway", "ssegateway_x", "mio", ""] {
        say(&logger, Level::Error, target, "http://backend/?secret");
        say(&logger, Level::Info, target, "http://backend/?secret");
    }
    say(&logger, Level::Debug, "ssegateway", "detail");
    say(&logger, Level::Info, "ssegateway", "kept");
    assert!(logger.flush_at_exit());
    assert_eq!(text(&out_text), "[INFO] kept\n");
    assert_eq!(text(&err_text), "");
}

#[test]
fn a_record_is_one_line_whatever_it_holds() {
    let (logger, gate) = to_out(1000, HOUR);
    let written = gate.open();
    info(&logger, "a\n[ERROR] forged\r\x1b");
    info(&logger, "é");
    info(&logger, "");
    assert!(logger.flush_at_exit());
    assert_eq!(
        text(&written),
        "[INFO] a\\n[ERROR] forged\\r\\x1b\n[INFO] é\n[INFO] \n"
    );
}

#[test]
fn a_blocked_output_costs_whole_lines_and_one_line_that_counts_them() {
    let (logger, gate) = to_out(108, HOUR);
    info(&logger, "first");
    gate.called();
    // Blocked from here on. Lines of 11 bytes: nine fit into 108. That this loop ends at all is
    // the law that logging never waits for the output.
    for n in 0..1000 {
        info(&logger, &format!("{n:03}"));
    }
    // Its 8 bytes would fit, but not in its place.
    info(&logger, "");
    let written = gate.open();
    assert!(logger.flush_at_exit());
    info(&logger, "after");
    assert!(logger.flush_at_exit());
    let text = text(&written);
    let (lines, notices) = tally(&text);
    let mut expected = vec!["[INFO] first".to_owned()];
    expected.extend((0..9).map(|n| format!("[INFO] {n:03}")));
    expected.push("[INFO] after".to_owned());
    assert_eq!(lines, expected);
    assert_eq!(notices, [992]);
    let places: Vec<_> = text
        .lines()
        .map(|line| line.starts_with("[WARN]"))
        .collect();
    assert_eq!(places.iter().position(|&notice| notice), Some(10), "{text}");
}

#[test]
fn a_line_that_is_longer_than_the_queue_is_counted() {
    let (logger, gate) = to_out(100, HOUR);
    let written = gate.open();
    info(&logger, &"x".repeat(100));
    assert!(logger.flush_at_exit());
    assert_eq!(tally(&text(&written)), (vec![], vec![1]));
}

#[test]
fn a_closed_output_is_tried_again_and_the_loss_counted_once() {
    let kinds = [
        ErrorKind::BrokenPipe,
        ErrorKind::StorageFull,
        ErrorKind::Other,
    ];
    let (logger, gate) = to_out(1000, Duration::ZERO);
    for kind in kinds {
        info(&logger, "lost");
        gate.called();
        gate.say(Verdict::Fail(kind));
    }
    assert!(logger.flush_at_exit());
    info(&logger, "a");
    gate.called();
    gate.say(ALL);
    info(&logger, "b");
    gate.called();
    let written = gate.open();
    assert!(logger.flush_at_exit());
    let text = text(&written);
    assert_eq!(tally(&text), (vec!["[INFO] a", "[INFO] b"], vec![3]));
    assert!(
        text.starts_with("[WARN]"),
        "what is missing came before: {text}"
    );
}

#[test]
fn a_write_of_nothing_is_a_failure_and_not_a_spin() {
    let (logger, gate) = to_out(1000, Duration::ZERO);
    info(&logger, "lost");
    gate.called();
    gate.say(Verdict::Take(0));
    assert!(logger.flush_at_exit());
    let written = gate.open();
    info(&logger, "a");
    assert!(logger.flush_at_exit());
    assert_eq!(tally(&text(&written)), (vec!["[INFO] a"], vec![1]));
}

#[test]
fn a_line_torn_by_a_failure_does_not_swallow_the_next() {
    // One write that takes part of two lines, or part of the notice, before the failure.
    for (cuts, whole, count) in [
        (vec![3], 0, 2),
        (vec![9], 1, 1),
        (vec![12], 1, 1),
        (vec![12, 1], 1, 2),
        (vec![12, 5], 1, 2),
    ] {
        let (logger, gate) = to_out(1000, HOUR);
        info(&logger, "0");
        gate.called();
        info(&logger, "a");
        info(&logger, "b");
        gate.say(ALL);
        for (round, cut) in cuts.iter().enumerate() {
            if round > 0 {
                info(&logger, "c");
            }
            // In a thread of its own, since it waits for what is said below.
            let flusher = logger.clone();
            let flush = std::thread::spawn(move || flusher.flush_at_exit());
            gate.called();
            gate.say(Verdict::Take(*cut));
            gate.called();
            gate.say(Verdict::Fail(ErrorKind::StorageFull));
            flush.join().unwrap();
        }
        let written = gate.open();
        info(&logger, "z");
        assert!(logger.flush_at_exit());
        let text = text(&written);
        let (kept, notice) = text.rsplit_once("[WARN] ").expect("a notice");
        assert!(kept.ends_with('\n'), "{cuts:?}: {text}");
        assert!(
            notice.ends_with(&format!("dropped={count}\n[INFO] z\n")),
            "{cuts:?}: {text}"
        );
        assert_eq!(
            kept.lines().filter(|line| *line == "[INFO] a").count(),
            whole,
            "{text}"
        );
        assert_eq!(
            kept.lines().filter(|line| *line == "[INFO] b").count(),
            0,
            "{text}"
        );
    }
}

#[test]
fn interruptions_and_full_pipes_lose_nothing() {
    let (logger, gate) = to_out(1000, HOUR);
    info(&logger, "whole");
    for verdict in [
        Verdict::Fail(ErrorKind::Interrupted),
        Verdict::Take(4),
        Verdict::Fail(ErrorKind::WouldBlock),
        Verdict::Take(1),
        ALL,
    ] {
        gate.called();
        gate.say(verdict);
    }
    let written = gate.open();
    assert!(logger.flush_at_exit());
    assert_eq!(text(&written), "[INFO] whole\n");
}

#[test]
fn many_lines_are_few_writes() {
    let (logger, gate) = to_out(1_000_000, HOUR);
    info(&logger, "first");
    assert_eq!(gate.called(), "[INFO] first\n".len());
    gate.say(ALL);
    for n in 0..1000 {
        info(&logger, &format!("{n:04}"));
    }
    assert!(gate.calls.try_recv().is_err(), "it lingers");
    gate.say(ALL);
    assert!(logger.flush_at_exit());
    assert_eq!(gate.called(), 1000 * "[INFO] 0000\n".len());
    assert!(gate.calls.try_recv().is_err(), "one write for all of them");
}

#[test]
fn a_pause_ends_by_itself_and_before_the_queue_overflows() {
    let (logger, gate) = to_out(1000, Duration::from_millis(1));
    for _ in 0..3 {
        info(&logger, "x");
        gate.called();
        gate.say(ALL);
    }
    // Half full before the pause begins, and while it lasts.
    for wait_for_pause in [false, true] {
        let (logger, gate) = to_out(100, HOUR);
        info(&logger, "first");
        gate.called();
        if wait_for_pause {
            gate.say(ALL);
            while !logger.0.pipes[0].is_lingering() {
                std::thread::yield_now();
            }
        }
        for _ in 0..5 {
            info(&logger, "xxx");
        }
        if !wait_for_pause {
            gate.say(ALL);
        }
        assert!(gate.called() >= 50);
        gate.say(ALL);
    }
}

#[test]
fn a_flush_at_exit_ends_though_both_outputs_are_blocked() {
    let ((out, out_gate), (err, err_gate)) = (gate(), gate());
    let logger = tuned(out, err, 1000, HOUR);
    info(&logger, "x");
    say(&logger, Level::Error, "ssegateway", "y");
    out_gate.called();
    err_gate.called();
    let begun = Instant::now();
    assert!(!logger.flush_at_exit());
    let took = begun.elapsed();
    assert_eq!(FLUSH, Duration::from_millis(200), "the contract's");
    // How much longer a busy host makes it is not the log's affair; that it ends is.
    assert!(took >= FLUSH && took < Duration::from_secs(5), "{took:?}");
    // One blocked output does not keep the other's lines.
    say(&logger, Level::Error, "ssegateway", "z");
    let written = err_gate.open();
    assert!(!logger.flush_at_exit());
    assert_eq!(text(&written), "[ERROR] y\n[ERROR] z\n");
}

#[test]
fn the_threads_end_with_the_log_and_what_is_left_is_written() {
    let (logger, gate) = to_out(1000, HOUR);
    let clone = logger.clone();
    info(&logger, "a");
    gate.called();
    info(&clone, "b");
    drop((logger, clone));
    gate.say(ALL);
    gate.called();
    gate.say(ALL);
    let end = gate.calls.recv_timeout(PATIENCE);
    assert_eq!(
        end,
        Err(RecvTimeoutError::Disconnected),
        "the writer is gone"
    );
    assert_eq!(text(&gate.written), "[INFO] a\n[INFO] b\n");
}

#[test]
fn a_line_has_its_memory_before_the_first_and_no_more_after_a_long_one() {
    let (logger, gate) = to_out(100_000, HOUR);
    gate.open();
    let pipe = &logger.0.pipes[0];
    let mut line = Line::new(LogFormat::Text, pipe);
    let at_first = line.text.as_ptr();
    let tell = |line: &mut Line, length: usize| {
        let message = "a".repeat(length - "[INFO] \n".len());
        let mut record = Record::builder();
        let record = record.level(Level::Info);
        line.tell(&record.args(format_args!("{message}")).build());
    };
    for length in [10, 200, KEPT] {
        tell(&mut line, length);
        assert_eq!(line.text.as_ptr(), at_first, "{length}");
    }
    tell(&mut line, KEPT + 1);
    assert_eq!(line.text.capacity(), KEPT);
}
