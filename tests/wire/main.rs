//! The contract, section by section: the real binary, real sockets, a backend that the test holds,
//! clients that look at every byte.

mod callback_connections;
mod callback_window;
mod channels;
mod cli;
mod connect;
mod connect_outcomes;
mod disconnect;
mod expiry;
mod harness;
mod healthcheck;
mod history;
mod house;
mod http;
mod limits;
mod listeners;
mod log_floods;
mod logs;
mod readme;
mod retry;
mod routes;
mod send;
mod shutdown;
mod slow_readers;
mod smuggling;
mod strangers;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod workers;
