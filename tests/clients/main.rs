//! Real clients against the real gateway: what people open streams with, and what stands between.
//!
//! ```text
//! cargo build --example demo && cargo test --test clients -- --include-ignored
//! ```
//!
//! Every test is ignored by default, so that `cargo test` needs Rust alone. What these need beside
//! it (Node, Python, curl, Chromium, proxies) is looked for by [`tools`], which says how to install
//! what is missing: that is a failure, never a skip.
//!
//! Laws: a client tells on its standard output what it saw, and the test sends the next event only
//! then, so that nothing passes that waited for a buffer to fill or for the stream to end. Nothing
//! sleeps; each test has processes and ports of its own.
// A test target has no users but itself.
#![allow(unreachable_pub)]

mod browser;
mod caddy;
mod door;
mod haproxy;
mod lines;
mod missed;
mod nginx;
mod node;
mod origins;
mod program;
mod prometheus;
mod proxied;
mod proxy;
mod readme;
mod refusals;
mod restart;
mod sockets;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod wire;
