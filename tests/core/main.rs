//! The core by injected time: no socket, no clock, no other thread.

mod fuzz_corpus;
mod history;
mod keys;
mod laws;
#[path = "../support/metrics.rs"]
#[allow(dead_code, unreachable_pub)] // Here it is used in part.
mod metrics;
mod prop;
mod scenario;
mod sim;
