//! The core by script: what happens in, bytes and effects out, every row of the state machine and
//! every limit, on a clock that the test moves.

mod budgets;
mod capture;
mod driver;

mod expiry;
mod fanouts;
mod figures;
mod http;
mod keys;
mod lifecycle;
mod limits;
mod lines;
mod origins;
mod refusals;
mod retry;
mod sends;
mod shutdown;
mod streams;
mod timeouts;
