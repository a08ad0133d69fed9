//! What the machine allows.

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
