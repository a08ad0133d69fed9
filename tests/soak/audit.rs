//! The gateway's log against the backend's book, token by token.
//!
//! What must match: a connect that the log calls answered 2xx was answered so by the backend, and
//! has exactly one disconnect, received by the backend or logged as failed. A 2xx that the backend
//! has written and the log does not know is logged as given up. Nothing else is tolerated.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use super::book::{Account, Book, Word};
use super::support::{Gateway, Line};

/// What the log says of a token.
#[derive(Clone, Debug, Default)]
struct Entry {
    accepted: u32,
    connect_failed: Option<String>,
    opened: u32,
    /// Streams that have ended, or clients that left before.
    disconnects_answered: u32,
    disconnect_failed: Option<String>,
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
    reasons: BTreeMap<String, usize>,
    pub(crate) faults: Vec<String>,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tokens={} accepted={} opened={} delivered={} twice={} reasons={:?} undelivered={:?} \
             given_up={:?} faults={}",
            self.tokens,
            self.accepted,
            self.opened,
            self.delivered,
            self.delivered_twice,
            self.reasons,
            self.undelivered,
            self.given_up,
            self.faults.len()
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

fn read(lines: &[Line]) -> HashMap<&str, Entry> {
    let mut entries: HashMap<&str, Entry> = HashMap::new();
    for line in lines {
        let text = line.text.as_str();
        let Some(token) = field(text, "token") else {
            continue;
        };
        let (_, what) = text.split_once("] ").unwrap_or(("", text));
        let is = |part: &str| what.starts_with(part);
        let cause = || {
            let error = field(text, "error").or_else(|| field(text, "status"));
            Some(error.unwrap_or("?").to_owned())
        };
        if is("/internal/send") {
            continue;
        }
        let entry = entries.entry(token).or_default();
        if is("connect callback answered ") {
            entry.accepted += 1;
        } else if is("connect callback failed ") || is("connect callback rejected ") {
            entry.connect_failed = cause();
        } else if is("stream opened ") {
            entry.opened += 1;
        } else if is("disconnect callback answered ") {
            entry.disconnects_answered += 1;
        } else if is("disconnect callback failed ") || is("disconnect callback rejected ") {
            entry.disconnect_failed = cause();
        }
    }
    entries
}

/// Holds the whole log against the book.
pub(crate) fn account(lines: &[Line], book: &Book) -> Balance {
    let mut balance = Balance {
        faults: book.faults(),
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
    balance.faults.extend(forbidden(lines));
    balance
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
        let mut fault = |what: &str| {
            let text = format!("{token}: {what}: backend {account:?}, log {entry:?}");
            self.faults.push(text);
        };
        let ends = entry.disconnects_answered + u32::from(entry.disconnect_failed.is_some());
        if entry.accepted > 1 || entry.opened > entry.accepted || ends != entry.accepted {
            fault("the log contradicts itself");
        }
        if entry.accepted > 0 && account.word == Word::No {
            fault("accepted without a 2xx");
        }
        if entry.accepted == 0 && !account.disconnects.is_empty() {
            fault("a disconnect for nothing");
        }
        if entry.accepted > 0 && account.disconnects.is_empty() && entry.disconnect_failed.is_none()
        {
            fault("no disconnect and no word of it");
        }
        let is_given_up = account.word == Word::Yes && entry.accepted == 0;
        if is_given_up && entry.connect_failed.as_deref() != Some("timeout") {
            fault("a 2xx was not taken");
        }
        let mut reasons = account.disconnects.clone();
        reasons.dedup();
        if reasons.len() > 1 {
            fault("two reasons");
        }
        let is_allowed =
            |reason: &String| account.allowed.is_empty() || account.allowed.contains(&&**reason);
        if !reasons.iter().all(is_allowed) {
            fault("another reason than the client's doing");
        }
        self.sum(account, entry, is_given_up);
    }

    fn sum(&mut self, account: &Account, entry: &Entry, is_given_up: bool) {
        self.accepted += usize::from(entry.accepted > 0);
        self.opened += usize::from(entry.opened > 0);
        if let Some(reason) = account.disconnects.first() {
            self.delivered += 1;
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        self.delivered_twice += usize::from(account.disconnects.len() > 1);
        if let (true, Some(cause)) = (account.disconnects.is_empty(), &entry.disconnect_failed) {
            *self.undelivered.entry(cause.clone()).or_default() += 1;
        }
        if is_given_up {
            let cause = entry.connect_failed.clone().unwrap_or_default();
            *self.given_up.entry(cause).or_default() += 1;
        }
    }
}

/// Waits until nothing is owed any more: each connect callback that the log tells the beginning of
/// has its end, each accepted one its disconnect.
pub(crate) fn wait_settled(gateway: &Gateway, book: &Book, patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        let balance = account(&gateway.lines(), book);
        if balance.faults.is_empty() {
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
