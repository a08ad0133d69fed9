//! The backend's side of each token's account: what it was asked, answered and told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::Shared;

/// What the backend's last word on a connect was, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Word {
    /// None, a rejection, or nothing that is an answer.
    #[default]
    No,
    /// A 2xx answer without an end, or one whose writing failed half-way: the gateway's log tells
    /// what it made of it.
    Perhaps,
    /// A whole 2xx answer.
    Yes,
}

/// What the backend knows of a token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) word: Word,
    /// Connect callbacks received.
    pub(crate) connects: u32,
    /// The reasons of the disconnect callbacks received.
    pub(crate) disconnects: Vec<String>,
    /// The statuses of the whole answers to them.
    pub(crate) answered: Vec<u16>,
    /// Disconnect callbacks that got no whole answer head, so that they may come once more.
    pub(crate) lost: u32,
    /// Events that the backend sent within the callback window and saw buffered.
    pub(crate) window: u64,
    /// The reasons that the client's doing allows; all, if it did not say.
    pub(crate) allowed: Vec<&'static str>,
}

/// All accounts.
#[derive(Default)]
pub(crate) struct Book {
    accounts: Mutex<HashMap<String, Account>>,
    /// The tokens by the request target, of those whose client has not asked yet.
    tokens: Shared<HashMap<String, String>>,
    violations: Mutex<Vec<String>>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, what: String) {
        let mut violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        violations.push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        violations.clone()
    }

    // ---- the backend's side ----

    pub(crate) fn connect(&self, token: &str, url: &str) {
        let mut accounts = self.lock();
        let account = accounts.entry(token.to_owned()).or_default();
        account.connects += 1;
        let is_repeated = account.connects > 2 || account.word == Word::Yes;
        let (connects, word) = (account.connects, account.word);
        drop(accounts);
        if is_repeated {
            self.report(format!("{token}: connect {connects} after {word:?}"));
        }
        self.tokens
            .change(|tokens| tokens.insert(url.to_owned(), token.to_owned()));
    }

    /// To be called before the first byte of the answer is written.
    pub(crate) fn say(&self, token: &str, word: Word) {
        self.lock().entry(token.to_owned()).or_default().word = word;
    }

    pub(crate) fn disconnect(&self, token: &str, reason: &str) {
        let mut accounts = self.lock();
        let account = accounts.entry(token.to_owned()).or_default();
        let is_early = account.word == Word::No;
        let is_too_many = account.disconnects.len() as u32 > account.lost.min(1);
        account.disconnects.push(reason.to_owned());
        if is_early || is_too_many {
            let what = format!("{token}: disconnect {reason} at {account:?}");
            drop(accounts);
            self.report(what);
        }
    }

    /// To be called before the connection of a disconnect that has no answer is ended.
    pub(crate) fn lose(&self, token: &str) {
        self.lock().entry(token.to_owned()).or_default().lost += 1;
    }

    /// To be called when the whole answer to a disconnect is written.
    pub(crate) fn note_answered(&self, token: &str, status: u16) {
        let mut accounts = self.lock();
        let account = accounts.entry(token.to_owned()).or_default();
        account.answered.push(status);
    }

    pub(crate) fn note_window(&self, token: &str, events: u64) {
        self.lock().entry(token.to_owned()).or_default().window += events;
    }

    // ---- the clients' side ----

    /// The token of a request target whose stream has opened; each target is asked for once.
    pub(crate) fn token_of(&self, url: &str) -> String {
        self.tokens
            .change(|tokens| tokens.remove(url))
            .unwrap_or_else(|| panic!("no connect callback for {url}"))
    }

    /// A target whose client does not ask.
    pub(crate) fn forget(&self, url: &str) {
        self.tokens.change(|tokens| tokens.remove(url));
    }

    pub(crate) fn window(&self, token: &str) -> u64 {
        self.lock().get(token).map_or(0, |account| account.window)
    }

    /// The backend gave a whole 2xx answer, as it would when it is well.
    pub(crate) fn is_sure(&self, token: &str) -> bool {
        let accounts = self.lock();
        let account = accounts.get(token);
        account.is_some_and(|account| account.word == Word::Yes)
    }

    /// Says which reasons the client's leaving allows.
    pub(crate) fn allow(&self, token: &str, reasons: &[&'static str]) {
        let mut accounts = self.lock();
        accounts.entry(token.to_owned()).or_default().allowed = reasons.to_vec();
    }

    pub(crate) fn accounts(&self) -> HashMap<String, Account> {
        self.lock().clone()
    }
}
