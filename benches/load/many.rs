//! What streams share.

/// The channel of those who share one.
pub(crate) const CHANNEL: &str = "all";
