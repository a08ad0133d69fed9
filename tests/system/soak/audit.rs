//! The gateway's log against the backend's book, token by token.
//!
//! What must match: a token begins once, and its connect ends once, in the log as at the backend. A
//! connect that the log calls answered 2xx, whole or not, was answered so by the backend, and has
//! exactly one disconnect, received by the backend or logged as failed; one that the backend has answered whole
//! was taken as it was meant, or is logged as out of time. A 2xx that the backend has written and
//! the log does not know is logged as given up. Nothing else is tolerated.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use super::book::{Account, Book, Word};
use crate::support::{Gateway, Line};

/// What the log says of a token, every line of it: a repetition is a fault like any other.
#[derive(Clone, Debug, Default)]
struct Entry {
    begun: usize,
    /// The client left, or was dropped, before the backend's word.
    left: usize,
    accepted: usize,
    /// A 2xx head whose body never came whole: a failure that is paid.
    accepted_in_part: usize,
    /// The causes, and the statuses of rejections.
    connects_failed: Vec<String>,
    opened: usize,
    ended: usize,
    /// By a limit, opened or not; the log may leave it out, but counts it.
    dropped: usize,
    disconnects_answered: usize,
    /// The causes, and the statuses of rejections.
    disconnects_failed: Vec<String>,
}

impl Entry {
    /// The disconnects that the backend is to get.
    fn owed(&self) -> usize {
        self.accepted + self.accepted_in_part
    }
}

/// The sums, and whatever does not match.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    tokens: usize,
    accepted: usize,
    opened: usize,
    delivered: usize,
    delivered_twice: usize,
    /// By what the log says.
    undelivered: BTreeMap<String, usize>,
    given_up: BTreeMap<String, usize>,
    /// Streams whose end the log leaves out.
    unspoken: usize,
    reasons: BTreeMap<String, usize>,
    pub(crate) violations: Vec<String>,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tokens={} accepted={} opened={} delivered={} twice={} reasons={:?} undelivered={:?} \
             given_up={:?} violations={}",
            self.tokens,
            self.accepted,
            self.opened,
            self.delivered,
            self.delivered_twice,
            self.reasons,
            self.undelivered,
            self.given_up,
            self.violations.len()
        )
    }
}

fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let at = line.find(&format!(" {name}="))? + name.len() + 2;
    let rest = &line[at..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    }
}

/// How the log tells that an open stream has ended.
const ENDS: [&str; 3] = ["disconnected token=", "closed token=", "stream lost "];

fn read(lines: &[Line]) -> HashMap<&str, Entry> {
    let mut entries: HashMap<&str, Entry> = HashMap::new();
    for line in lines {
        let text = line.text.as_str();
        let Some(token) = field(text, "token") else {
            continue;
        };
        let (_, what) = text.split_once("] ").unwrap_or(("", text));
        let is = |part: &str| what.starts_with(part);
        if is("/internal/send") {
            continue;
        }
        let entry = entries.entry(token).or_default();
        let status = field(text, "status");
        let cause = match (status, field(text, "error")) {
            (Some(status), Some(error)) => format!("{error} behind {status}"),
            (status, error) => status.or(error).unwrap_or("?").to_owned(),
        };
        if is("new connection ") {
            entry.begun += 1;
        } else if is("connect callback answered ") {
            entry.accepted += 1;
        } else if is("connect callback failed ") || is("connect callback rejected ") {
            entry.accepted_in_part += usize::from(status.is_some_and(|it| it.starts_with('2')));
            entry.connects_failed.push(cause);
        } else if is("disconnected during ") {
            entry.left += 1;
        } else if is("stream opened ") {
            entry.opened += 1;
        } else if ENDS.iter().any(|end| is(end)) {
            entry.ended += 1;
        } else if is("stream dropped ") {
            entry.dropped += 1;
        } else if is("disconnect callback answered ") {
            entry.disconnects_answered += 1;
        } else if is("disconnect callback failed ") || is("disconnect callback rejected ") {
            entry.disconnects_failed.push(cause);
        }
    }
    entries
}

/// Holds the whole log against the book.
pub(crate) fn account(lines: &[Line], book: &Book) -> Balance {
    let mut balance = Balance {
        violations: book.violations(),
        ..Balance::default()
    };
    let accounts = book.accounts();
    let entries = read(lines);
    balance.tokens = accounts.len();
    let (no_entry, no_account) = (Entry::default(), Account::default());
    for (token, account) in &accounts {
        let entry = entries.get(token.as_str()).unwrap_or(&no_entry);
        balance.add(token, account, entry);
    }
    for (token, entry) in &entries {
        if !accounts.contains_key(*token) {
            balance.add(token, &no_account, entry);
        }
    }
    if balance.unspoken > suppressed(lines) {
        let unspoken = balance.unspoken;
        let text = format!("{unspoken} streams without an end in the log");
        balance.violations.push(text);
    }
    balance.violations.extend(forbidden(lines));
    balance
}

/// Lines about limits that the log has only counted.
fn suppressed(lines: &[Line]) -> usize {
    let counts = lines.iter().filter_map(|line| field(&line.text, "more"));
    counts.filter_map(|count| count.parse::<usize>().ok()).sum()
}

/// Lines that no soak may see: a lost line would make the account worthless.
fn forbidden(lines: &[Line]) -> impl Iterator<Item = String> + '_ {
    const PARTS: [&str; 3] = ["panick", " dropped=", "queue full"];
    lines
        .iter()
        .filter(|line| PARTS.iter().any(|part| line.text.contains(part)))
        .map(|line| line.text.clone())
}

impl Balance {
    fn add(&mut self, token: &str, account: &Account, entry: &Entry) {
        for what in contradictions(account, entry) {
            let text = format!("{token}: {what}: backend {account:?}, log {entry:?}");
            self.violations.push(text);
        }
        self.accepted += usize::from(entry.owed() > 0);
        self.opened += usize::from(entry.opened > 0);
        self.unspoken += usize::from(entry.opened > entry.ended + entry.dropped);
        if let Some(reason) = account.disconnects.first() {
            self.delivered += 1;
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        self.delivered_twice += usize::from(account.disconnects.len() > 1);
        if let (true, [cause, ..]) = (account.disconnects.is_empty(), &*entry.disconnects_failed) {
            *self.undelivered.entry(cause.clone()).or_default() += 1;
        }
        if is_given_up(account, entry) {
            let cause = entry.connects_failed.first().cloned().unwrap_or_default();
            *self.given_up.entry(cause).or_default() += 1;
        }
    }

    /// Most of what is owed reaches the backend: it refuses connections for a twelfth of the time,
    /// and half of its other faults lose an answer but not the callback.
    pub(crate) fn assert_delivered(&self) {
        let (delivered, accepted) = (self.delivered, self.accepted);
        assert!(delivered * 10 >= accepted * 8, "{delivered} of {accepted}");
    }
}

/// A whole 2xx that the log does not call one.
fn is_given_up(account: &Account, entry: &Entry) -> bool {
    account.word == Word::Yes && entry.accepted == 0
}

/// What of one token cannot be.
fn contradictions(account: &Account, entry: &Entry) -> Vec<&'static str> {
    let mut violations = connect_contradictions(account, entry);
    let mut check =
        |is_wrong: bool, what: &'static str| violations.extend(is_wrong.then_some(what));
    let failed = &entry.disconnects_failed;
    let ends = entry.disconnects_answered + failed.len();
    check(ends != entry.owed(), "accepted and ended unlike often");
    check(
        entry.owed() == 0 && !account.disconnects.is_empty(),
        "a disconnect for nothing",
    );
    check(
        entry.owed() > 0 && account.disconnects.is_empty() && failed.is_empty(),
        "no disconnect and no word of it",
    );
    let is_taken = |status: &u16| match status {
        200..=299 => entry.disconnects_answered == 1,
        _ => *failed == [status.to_string()],
    };
    let is_late = *failed == ["timeout"];
    check(
        !is_late && !account.answered.iter().all(is_taken),
        "an answer to a disconnect was not taken",
    );
    let mut reasons = account.disconnects.clone();
    reasons.dedup();
    check(reasons.len() > 1, "two reasons");
    let is_allowed =
        |reason: &String| account.allowed.is_empty() || account.allowed.contains(&&**reason);
    check(
        !reasons.iter().all(is_allowed),
        "another reason than the client's doing",
    );
    violations
}

/// What of one token's connect cannot be.
fn connect_contradictions(account: &Account, entry: &Entry) -> Vec<&'static str> {
    let mut violations = Vec::new();
    let mut check =
        |is_wrong: bool, what: &'static str| violations.extend(is_wrong.then_some(what));
    check(entry.begun != 1, "not begun once");
    let is_dropped_before = entry.opened == 0;
    let left = entry.left + usize::from(is_dropped_before) * entry.dropped;
    // The client's 504 is one line, and what still came of the callback another.
    let failed: Vec<&str> = entry.connects_failed.iter().map(|f| &**f).collect();
    let is_known = match (left, entry.accepted, &failed[..]) {
        (0 | 1, 1, []) | (0 | 1, 0, [_]) | (0, 1, ["timeout"]) => true,
        (0, 0, ["timeout", later]) => *later != "timeout",
        // Taken back before it was sent.
        (1, 0, []) => account.connects == 0,
        _ => false,
    };
    check(!is_known, "not one end of the connect");
    let is_served = entry.accepted == 1 && left == 0 && failed.is_empty();
    check(
        entry.opened != usize::from(is_served) || entry.ended + entry.dropped > entry.opened + left,
        "a stream without its connect, or a connect without its stream",
    );
    check(
        entry.owed() > 0 && account.word == Word::No,
        "accepted without a 2xx",
    );
    check(
        is_given_up(account, entry) && failed.first() != Some(&"timeout"),
        "a 2xx was not taken",
    );
    violations
}

/// Waits until nothing is owed any more: each connection that the log tells the beginning of has
/// its end, each accepted one its disconnect.
pub(crate) fn wait_settled(gateway: &Gateway, book: &Book, patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        let balance = account(&gateway.lines(), book);
        if balance.violations.is_empty() {
            println!("settled after {:.1?}", start.elapsed());
            return true;
        }
        if start.elapsed() > patience {
            return false;
        }
        // Pace: each look reads the whole log.
        thread::park_timeout(Duration::from_millis(250));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(lines: &str) -> Entry {
        let line = |text: &str| Line {
            text: format!("[INFO] {}", text.replace(" T", " token=t")),
            is_error: false,
        };
        let lines: Vec<Line> = lines.split(" | ").map(line).collect();
        read(&lines).remove("t").unwrap_or_default()
    }

    fn account(word: Word, disconnects: usize, answered: &[u16]) -> Account {
        Account {
            word,
            connects: 1,
            disconnects: vec!["error".to_owned(); disconnects],
            answered: answered.to_vec(),
            ..Account::default()
        }
    }

    const OPENED: &str = "new connection T | connect callback answered T | stream opened T";
    const CUT: &str =
        "new connection T | connect callback failed T status=200 error=\"answer cut short\"";
    const TIMED_OUT: &str = "new connection T | connect callback failed T error=timeout";

    #[test]
    fn lives_that_the_laws_allow() {
        let rejected = "new connection T | connect callback rejected T status=403";
        let left = "new connection T | disconnected during the connect callback T";
        let late = format!("{TIMED_OUT} | connect callback answered T");
        let behind =
            "connect callback failed T status=201 error=timeout | disconnect callback answered T";
        let table = [
            (rejected.to_owned(), account(Word::No, 0, &[])),
            (TIMED_OUT.to_owned(), account(Word::Yes, 0, &[])),
            (left.to_owned(), Account::default()),
            (
                format!("{OPENED} | closed T | disconnect callback answered T"),
                account(Word::Yes, 1, &[204]),
            ),
            (
                format!("{OPENED} | disconnect callback rejected T status=500"),
                account(Word::Yes, 1, &[500]),
            ),
            (
                format!("{late} | disconnect callback failed T error=timeout"),
                account(Word::Yes, 1, &[204]),
            ),
            (
                format!("{CUT} | disconnect callback answered T"),
                account(Word::Perhaps, 1, &[204]),
            ),
            (
                format!("{TIMED_OUT} | {behind}"),
                account(Word::Perhaps, 1, &[204]),
            ),
            (CUT.replace("200", "500"), account(Word::No, 0, &[])),
            (
                format!("{OPENED} | disconnect callback failed T error=\"connection refused\""),
                account(Word::Yes, 0, &[]),
            ),
        ];
        for (lines, account) in table {
            let found = contradictions(&account, &entry(&lines));
            assert!(found.is_empty(), "{found:?} of {lines}");
        }
    }

    #[test]
    fn lives_that_the_laws_forbid() {
        let gone = format!("{OPENED} | closed T | disconnect callback answered T");
        let (no, yes) = (account(Word::No, 0, &[]), account(Word::Yes, 1, &[204]));
        let untaken = "disconnect callback failed T error=\"answer cut short\"";
        let table = [
            ("a lost result", "new connection T".to_owned(), &no),
            ("nothing at all", String::new(), &no),
            (
                "begun twice",
                format!("{TIMED_OUT} | new connection T"),
                &no,
            ),
            ("no disconnect", OPENED.to_owned(), &yes),
            ("unpaid", CUT.to_owned(), &no),
            (
                "paid without a 2xx",
                format!("{CUT} | disconnect callback answered T").replace("200", "403"),
                &yes,
            ),
            ("not asked", gone.clone(), &no),
            ("two ends", format!("{gone} | closed T"), &yes),
            (
                "two answers",
                format!("{gone} | disconnect callback answered T"),
                &yes,
            ),
            (
                "two failures",
                format!("{TIMED_OUT} | connect callback failed T error=timeout"),
                &no,
            ),
            (
                "both",
                format!("{gone} | connect callback failed T error=reset"),
                &yes,
            ),
            ("untaken", format!("{OPENED} | {untaken}"), &yes),
            (
                "failed twice",
                format!("{OPENED} | {untaken} | {untaken}"),
                &yes,
            ),
            ("not opened", gone.replace("stream opened T", "?"), &yes),
        ];
        for (name, lines, account) in table {
            assert!(
                !contradictions(account, &entry(&lines)).is_empty(),
                "{name}"
            );
        }
    }
}
