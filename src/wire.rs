//! The JSON of sends and of callbacks, as types. No behaviour beyond reading and writing it.

/// The first step that a connect answer may direct (contract, section 2, step 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The event to send first.
    pub event: Option<Event>,
    /// Whether to close after it.
    pub close: bool,
    /// What was wrong with the body, for the log; the rest still counts.
    pub problem: Option<&'static str>,
}

/// One event as the backend gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type; empty for none.
    pub name: String,
    /// Its payload, lines still joined.
    pub data: String,
}

/// Reads the body of a callback's 2xx answer; `None` stands for a body that passed the size limit.
///
/// Never fails: what cannot be used counts as absent and is named in [`Directives::problem`]. An
/// empty body is no problem.
pub fn directives(_body: Option<&[u8]>) -> Directives {
    Directives::default()
}
