//! The reference backend's rules through the real gateway: both run as programs, clients and the
//! test see what a browser and an operator would. The tests of its parts are run here as well.

// Cargo builds an example for the tests that start it, or runs the tests inside it: not both.
#[path = "../../examples/demo/main.rs"]
#[allow(dead_code)]
mod demo;
#[path = "../support/mod.rs"]
mod support;

mod connections;
mod program;
mod rooms;
mod stories;
mod tasks;
mod versions;
mod world;
