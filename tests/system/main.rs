//! What needs the machine beside the gateway: limits and accounts of the kernel, namespaces, a host
//! that stands still, hours.

mod descriptors;
mod memory;
mod netns;
mod outputs;
mod restart;
mod slow_readers_memory;
mod soak;
mod standstill;
#[path = "../support/mod.rs"]
mod support;
mod vanished;
mod without_ipv6;
