//! The core in a world that is made of decisions, next to a plain model of what it promises.

pub(crate) mod choices;
mod command;
pub(crate) mod model;
mod peer;
mod queue;
pub(crate) mod world;
