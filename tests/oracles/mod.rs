//! Slow and obvious twins of what the gateway does cleverly.
#![allow(dead_code)]

pub(crate) mod chunked;
pub(crate) mod event_stream;
