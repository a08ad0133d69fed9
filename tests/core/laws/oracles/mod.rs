//! Slow and obvious twins of what the gateway does cleverly.

pub(crate) mod chunked;
pub(crate) mod command;
pub(crate) mod event_stream;
mod json;
