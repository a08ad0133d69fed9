//! What the repository promises beside the program's behaviour: how its sources are built up, and
//! what it is shipped with.

mod architecture;
mod packaging;
#[path = "../support/mod.rs"]
mod support;
