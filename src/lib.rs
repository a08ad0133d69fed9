//! A gateway for Server-Sent Events.
#![forbid(unsafe_code)]

pub mod buf;
pub mod callback;
pub mod config;
pub mod gateway;
pub mod host;
pub mod http;
pub mod logfmt;
pub mod logger;
pub mod net;
pub mod server;
pub mod sse;
pub mod time;
pub mod wheel;
pub mod wire;
pub mod workers;
