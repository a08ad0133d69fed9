//! Many clients at once, read side by side, and what the process takes meanwhile.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process::proportional_kib;
use super::{Backend, Client, PATIENCE};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Raises the limit of descriptors, which the gateway inherits, so that both have so many. The
/// limit is the process', and so the other tests': it is raised as far as it goes, so that it is
/// the same whoever raised it last.
pub fn need_descriptors(number: u64) {
    let got = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    assert!(got >= number, "{got} descriptors, {number} are needed");
}

/// Streams that are asked for at once, by a backend that accepts by itself; each with its token.
pub fn open_crowd(
    backend: &Backend,
    number: usize,
    connect: impl Fn(usize) -> Client,
) -> Vec<(Client, String)> {
    let mut clients: Vec<Client> = (0..number).map(connect).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/{at}"));
    }
    let mut tokens: HashMap<String, String> = (0..number)
        .map(|_| backend.next_connect())
        .map(|callback| (callback.url().to_owned(), callback.token()))
        .collect();
    for client in &mut clients {
        assert_eq!(client.read_head().status, 200);
    }
    let token = |at: usize| tokens.remove(&format!("/{at}")).expect("a token");
    clients.into_iter().zip((0..number).map(token)).collect()
}

/// What came on one connection of many.
#[derive(Debug, Default)]
pub struct Taken {
    pub bytes: Vec<u8>,
    /// The connection was reset behind them.
    pub is_reset: bool,
    /// There is a FIN behind them.
    pub is_ended: bool,
}

/// Reads all connections side by side, so that the slowest does not hold up the others, until
/// each has `wanted` bytes or its end; [`PATIENCE`] without a byte or an end is too long.
#[track_caller]
pub fn read_all<'c>(clients: impl IntoIterator<Item = &'c Client>, wanted: usize) -> Vec<Taken> {
    let streams: Vec<&TcpStream> = clients.into_iter().map(Client::stream).collect();
    let mut reads: Vec<Taken> = streams.iter().map(|_| Taken::default()).collect();
    for stream in &streams {
        stream.set_nonblocking(true).expect("an option");
    }
    let mut last = Instant::now();
    loop {
        let (mut left, mut is_quiet) = (0, true);
        for (stream, read) in streams.iter().zip(&mut reads) {
            if read.is_over(wanted) {
                continue;
            }
            is_quiet &= !read.take(stream, wanted);
            left += usize::from(!read.is_over(wanted));
        }
        if left == 0 {
            break;
        }
        if is_quiet {
            assert!(last.elapsed() < PATIENCE, "{left} connections are silent");
            thread::sleep(Duration::from_millis(1));
        } else {
            last = Instant::now();
        }
    }
    for stream in &streams {
        stream.set_nonblocking(false).expect("an option");
    }
    reads
}

impl Taken {
    fn is_over(&self, wanted: usize) -> bool {
        self.is_reset || self.is_ended || self.bytes.len() >= wanted
    }

    /// Takes what there is, at most up to `wanted`; whether anything happened.
    fn take(&mut self, mut stream: &TcpStream, wanted: usize) -> bool {
        let mut room = [0; 64 * 1024];
        let most = room.len().min(wanted - self.bytes.len());
        match stream.read(&mut room[..most]) {
            Ok(0) => self.is_ended = true,
            Ok(n) => self.bytes.extend_from_slice(&room[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_reset = true,
            Err(error) => panic!("{error}"),
        }
        true
    }
}

/// Does something; gives what it came to and the most memory that the process was seen to have
/// meanwhile, in KiB.
pub fn watched<R>(pid: u32, act: impl FnOnce() -> R) -> (R, usize) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Acquire) {
                most = most.max(proportional_kib(pid));
                thread::sleep(LOOK);
            }
            most.max(proportional_kib(pid))
        });
        let over = Over(&is_over);
        let result = act();
        drop(over);
        (result, watching.join().expect("no panic"))
    })
}

/// Ends the watch, also when what was watched has panicked.
pub struct Over<'f>(pub &'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
