//! A gateway for Server-Sent Events.
#![forbid(unsafe_code)]

pub mod callback;
pub mod time;
pub mod wire;
