//! What must hold whatever comes in, each law a function of any bytes. Fuzzers look for bytes that
//! break one: to them this folder is a library, so that these files are all it may refer to.
// A test target has no users but itself.
#![allow(unreachable_pub)]

pub mod body;
mod cuts;
pub mod gateway;
pub mod head;
pub(crate) mod oracles;
pub mod send_json;
pub(crate) mod sim;
pub mod sse;
