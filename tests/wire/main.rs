//! The contract, section by section: the real binary, real sockets, a backend that the test holds,
//! clients that look at every byte.

mod callback_connections;
mod callback_fields;
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
mod json_logs;
mod keys;
mod limits;
mod listeners;
mod lists;
mod log_floods;
mod logs;
mod metrics;
mod origins;
mod readme;
mod refusals;
mod reload;
mod retry;
mod routes;
mod secrets;
mod send;
mod shutdown;
mod slow_readers;
mod smuggling;
mod strangers;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod systemd_notify;
mod systemd_sockets;
mod unix;
mod unix_callbacks;
mod workers;
