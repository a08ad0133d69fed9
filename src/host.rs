//! What the machine allows, and threads.

use std::io;
use std::thread;

use rlimit::Resource;

use crate::config::HostFacts;

/// What POSIX promises at least; only used when the limit cannot be read.
const FALLBACK: u64 = 20;

/// Raises the soft descriptor limit to the hard one and reports what it is now. Where that is not
/// allowed it stays as it is.
pub fn prepare() -> HostFacts {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let descriptors = raised.or_else(|_| Resource::NOFILE.get_soft());
    HostFacts {
        descriptors: descriptors.unwrap_or(FALLBACK),
    }
}

/// Starts a thread with so many bytes of stack. Boxed, so that the program holds the library's part
/// of it once and not for every kind of thread.
///
/// # Errors
/// The system has no more threads, or no memory for one.
pub fn spawn(name: &str, stack: usize, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(work)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let facts = prepare();
        let (soft, hard) = Resource::NOFILE.get().expect("a limit");
        assert_eq!((facts.descriptors, soft), (hard, hard));
    }
}
