//! The core by injected time: no socket, no clock, no other thread.

mod fuzz_corpus;
mod history;
mod keys;
mod laws;
mod prop;
mod scenario;
mod sim;
