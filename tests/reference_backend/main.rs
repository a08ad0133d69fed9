//! The reference backend's rules through the real gateway: both run as programs, clients and the
//! test see what a browser and an operator would.

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod program;
mod tasks;
mod versions;
mod world;
