//! HTTP/1.1, the server's side (RFC 9112): heads and bodies in, answers out. Pure: bytes to values
//! and back; no connection, no time.

pub mod body;
pub mod head;
pub mod query;
pub mod reply;
