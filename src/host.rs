//! What the machine allows, and threads.

use std::fs;
use std::hint::black_box;
use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

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
        taken: 0,
        has_internal: false,
    }
}

/// What the process has of the machine's.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Bytes of memory.
    pub resident: u64,
    /// Descriptors that are open; zero where the kernel does not say.
    pub descriptors: u64,
    /// Descriptors that may be open.
    pub max_descriptors: u64,
}

/// What the process has of the machine's. It takes the same time however much that is.
pub fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: Option<u64> = resident.and_then(|kib| kib.parse().ok());
    // Since Linux 6.2 that folder's size is the number of its entries (proc_pid_fd(5)).
    let descriptors = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    Usage {
        resident: kib.unwrap_or(0) * 1024,
        descriptors,
        max_descriptors: Resource::NOFILE.get_soft().unwrap_or(FALLBACK),
    }
}

/// Bytes that are asked of the kernel at once: one system call for some tokens.
const AHEAD: usize = 256;

/// A source of bytes that nobody can foresee, for up to 256 at a time.
///
/// # Panics
/// The source, when the kernel has none to give; nothing can be done without.
pub fn randomness() -> impl FnMut(&mut [u8]) {
    let mut ahead = [0; AHEAD];
    let mut left = 0;
    move |bytes| {
        if left < bytes.len() {
            assert!(
                getrandom::fill(&mut ahead).is_ok(),
                "the kernel gives no random numbers"
            );
            left = AHEAD;
        }
        let given = &mut ahead[left - bytes.len()..left];
        bytes.copy_from_slice(given);
        // What was given away is nobody else's.
        given.fill(0);
        left -= bytes.len();
    }
}

/// What a thread does. Boxed, so that the program holds the library's part of starting one once and
/// not for every kind of thread.
type Work = Box<dyn FnOnce() + Send>;

/// Bytes of stack of a thread that does next to nothing.
const LITTLE: usize = 64 * 1024;

fn begin(name: &str, stack: usize, work: Work) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(work)
}

/// Starts a thread with so many bytes of stack.
///
/// # Errors
/// The system has no more threads, or no memory for one.
pub fn spawn(name: &str, stack: usize, work: Work) -> io::Result<()> {
    begin(name, stack, work).map(drop)
}

/// Starts a thread as [`spawn`] does, by way of another that ends at once: the C library allocates a
/// little for each thread, in the heap of the one that starts it, and keeps that for longer than the
/// thread lives. Amid the memory of a crowd it would pin all that is below it.
///
/// # Errors
/// As of [`spawn`].
pub fn spawn_apart(name: &'static str, stack: usize, work: Work) -> io::Result<()> {
    let begun = Arc::new(OnceLock::new());
    let theirs = Arc::clone(&begun);
    let starter = begin(
        "starter",
        LITTLE,
        Box::new(move || {
            let _ = theirs.set(spawn(name, stack, work));
        }),
    )?;
    let _ = starter.join();
    let begun = Arc::into_inner(begun).and_then(OnceLock::into_inner);
    begun.unwrap_or_else(|| Err(io::Error::other("the thread that starts threads panicked")))
}

/// Bytes of stack, next to none of them touched: more than the 40 MiB that glibc keeps of threads that
/// have ended.
const STACKS: usize = 41 * 1024 * 1024;

/// Sizes of small pieces, from [`SMALLEST`] on in steps of [`STEP`] bytes, that glibc keeps in a
/// cache of each thread when they are freed, and how many of each.
const SIZES: usize = 64;
const EACH: usize = 7;
const SMALLEST: usize = 24;
const STEP: usize = 16;

/// Bytes of a piece that is too short for a mapping of its own, and how many pieces are longer than
/// 64 MiB together.
const LARGE: usize = 127 * 1024;
const MANY: usize = 64 * 1024 * 1024 / LARGE + 1;

/// Lets the C library give the free end of its heap back to the system. Takes a millisecond or two.
///
/// glibc waits until that end is twice as long as the longest piece so far that had a mapping of its
/// own and was freed, at most 64 MiB; once it has, larger pieces lie in the heap too. So the end is
/// made longer than that. Of the memory that comes with it only the heads of pieces are touched.
///
/// What a thread has freed in small pieces stays in its cache, and a piece there keeps all that is
/// free below it. So this thread's cache is emptied by allocating what it holds, and the pieces are
/// freed by a thread that ends, with which its cache ends as well. The end that grows by that is
/// given back the next time: to wait for it here would stop the loop, and not to wait could have the
/// loop allocate behind the large pieces.
///
/// glibc also keeps the stacks of threads that have ended, and with each of them a piece of the heap
/// of whoever started its thread. [`spawn_apart`] keeps those pieces out of this thread's heap only as
/// long as each thread has a heap of its own: there are eight for each processor, or as many as
/// `MALLOC_ARENA_MAX` says, and more threads share them. So the thread that ends here has a stack
/// larger than all that glibc keeps, and as it goes the others are given up, with their pieces.
///
/// # Errors
/// As of [`spawn`].
pub fn trim_heap() -> io::Result<()> {
    drop(black_box(pieces(MANY, LARGE, 0)));
    let desk = Arc::new((Mutex::new(None), Condvar::new()));
    let theirs = Arc::clone(&desk);
    // Before the cache is emptied: what starting a thread frees would fill it anew.
    let free = move || {
        let (pieces, filled) = &*theirs;
        let pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = filled.wait_while(pieces, |pieces| pieces.is_none());
        drop(pieces.map(|mut pieces| pieces.take()));
    };
    spawn_apart("trim", STACKS, Box::new(free))?;
    let small = pieces(SIZES * EACH, SMALLEST, STEP);
    let (slot, filled) = &*desk;
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(small);
    filled.notify_one();
    Ok(())
}

/// So many pieces of memory, or as many as there is memory for: [`EACH`] of a size, which then grows
/// by `step` bytes.
fn pieces(count: usize, size: usize, step: usize) -> Vec<Vec<u8>> {
    let mut pieces = Vec::with_capacity(count);
    for n in 0..count {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(size + n / EACH * step).is_err() {
            break;
        }
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_many_are_the_same() {
        let mut random = randomness();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 16];
            random(&mut bytes);
            assert_ne!(bytes, [0; 16]);
            assert!(seen.insert(bytes));
        }
        let mut more = [0; 100];
        random(&mut more);
        assert!(more.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let facts = prepare();
        let (soft, hard) = Resource::NOFILE.get().expect("a limit");
        assert_eq!((facts.descriptors, soft), (hard, hard));
    }
}
