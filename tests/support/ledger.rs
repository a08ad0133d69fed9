//! The lifecycle law, kept account of (contract, section 2): every connect callback answered 2xx
//! is followed by exactly one disconnect callback, never before that answer.

use std::collections::BTreeMap;

use super::Shared;

#[derive(Debug, Default)]
struct Account {
    /// Answered 2xx.
    accepted: bool,
    /// The disconnects received, by reason.
    disconnects: Vec<String>,
    /// Disconnects whose connection the backend lost before it answered, so that they may come
    /// once more.
    lost: usize,
}

#[derive(Debug, Default)]
struct Book {
    accounts: BTreeMap<String, Account>,
    violations: Vec<String>,
}

/// What a backend was asked and told, by token.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Shared<Book>,
}

impl Ledger {
    /// To be called before the first byte of a 2xx answer is written.
    pub fn accept(&self, token: &str) {
        self.book.change(|book| {
            book.accounts.entry(token.to_owned()).or_default().accepted = true;
        });
    }

    pub fn disconnect(&self, token: &str, reason: &str) {
        self.book.change(|book| {
            let account = book.accounts.entry(token.to_owned()).or_default();
            if !account.accepted {
                let text = format!("{token}: disconnect {reason} without an accepted connect");
                book.violations.push(text);
            } else if account.disconnects.len() > account.lost {
                let text = format!("{token}: disconnect {reason} is one too many: {account:?}");
                book.violations.push(text);
            }
            account.disconnects.push(reason.to_owned());
        });
    }

    /// To be called before the connection of an unanswered disconnect is closed.
    pub fn lose(&self, token: &str) {
        self.book.change(|book| {
            book.accounts.entry(token.to_owned()).or_default().lost += 1;
        });
    }

    /// Tokens answered 2xx.
    pub fn accepted(&self) -> usize {
        self.book
            .look(|book| book.accounts.values().filter(|a| a.accepted).count())
    }

    /// Tokens answered 2xx whose disconnect has not come.
    pub fn open(&self) -> usize {
        let is_open = |a: &&Account| a.accepted && a.disconnects.is_empty();
        self.book
            .look(|book| book.accounts.values().filter(is_open).count())
    }

    /// The reasons that were given for a token.
    pub fn reasons(&self, token: &str) -> Vec<String> {
        self.book.look(|book| {
            let account = book.accounts.get(token);
            account.map_or(Vec::new(), |account| account.disconnects.clone())
        })
    }

    /// Waits until every accepted connect has its disconnect, and panics if there was any other.
    #[track_caller]
    pub fn assert_balanced(&self) {
        let result = self.book.wait(|book| {
            if !book.violations.is_empty() {
                return Some(Err(book.violations.join("\n")));
            }
            let is_paid = |a: &Account| !a.accepted || !a.disconnects.is_empty();
            book.accounts.values().all(is_paid).then_some(Ok(()))
        });
        match result {
            Some(Ok(())) => {}
            Some(Err(violations)) => panic!("{violations}"),
            None => panic!(
                "not balanced: {}",
                self.book.look(|book| format!("{book:#?}"))
            ),
        }
    }

    /// Something beside the law that must fail the test.
    pub fn violate(&self, what: &str) {
        self.book
            .change(|book| book.violations.push(what.to_owned()));
    }

    /// What has broken the law so far.
    pub fn violations(&self) -> Vec<String> {
        self.book.look(|book| book.violations.clone())
    }
}
