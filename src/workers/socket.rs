//! A connection to the backend, over TCP or a Unix socket, that costs a callback two system calls and
//! a probe.
//!
//! ureq's own takes six more: what is left of a call's time is never the same, and both of the
//! socket's time-outs are set to it anew; and to look for a closed connection it turns blocking off
//! and on again. Here a wait is cut into slices of one length.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use socket2::Socket;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

use crate::net;

/// The longest that the kernel waits in one call.
const SLICE: Duration = Duration::from_secs(1);

/// `MSG_PEEK` and `MSG_DONTWAIT`, the same on every Linux.
const PROBE: i32 = 0x02 | 0x40;

/// A connection that another thread may shut down.
struct Line(Socket);

impl ShutdownHandle for Line {
    fn shutdown(&self) {
        // An error means that it is closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A connection and its buffers.
pub(super) struct CallbackSocket {
    line: Arc<Line>,
    buffers: LazyBuffers,
    /// The time-outs that the socket has.
    read_timeout: Duration,
    write_timeout: Duration,
}

impl CallbackSocket {
    /// Connects to the Unix socket at `path`, or else to one of the addresses, in their order.
    pub(super) fn connect(
        details: &ConnectionDetails<'_>,
        path: Option<&Path>,
    ) -> Result<CallbackSocket, Error> {
        let socket = match path {
            Some(path) => dial_socket(path, details.timeout)?,
            None => dial(details)?,
        };
        let line = Arc::new(Line(socket));
        let handle: Weak<Line> = Arc::downgrade(&line);
        (details.register_shutdown)(handle as Weak<dyn ShutdownHandle>)?;
        let config = details.config;
        Ok(CallbackSocket {
            line,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
        })
    }
}

fn dial_socket(path: &Path, timeout: NextTimeout) -> Result<Socket, Error> {
    match net::connect_unix(path, *timeout.after) {
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(Error::Timeout(timeout.reason)),
        socket => Ok(socket?),
    }
}

/// Each address but the last may take half of the time that is left.
fn dial(details: &ConnectionDetails<'_>) -> Result<Socket, Error> {
    let mut failed = Error::Timeout(details.timeout.reason);
    let mut others = details.addrs.len();
    let begun = Instant::now();
    for address in &details.addrs {
        others -= 1;
        let left = details.timeout.after.saturating_sub(begun.elapsed());
        let share = if others > 0 { left / 2 } else { left };
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

/// Goes on with `attempt`, whose wait is bounded by the time-out that is `known`, until it is done
/// or the time is over.
fn within<T>(
    timeout: NextTimeout,
    known: &mut Duration,
    set: impl Fn(Option<Duration>) -> io::Result<()>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Result<T, Error> {
    let begun = Instant::now();
    let mut left = *timeout.after;
    while !left.is_zero() {
        let slice = left.clamp(net::SHORTEST, SLICE);
        if *known != slice {
            set(Some(slice))?;
            *known = slice;
        }
        match attempt() {
            // A slice is over, or the process was stopped meanwhile.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            done => return Ok(done?),
        }
        left = timeout.after.saturating_sub(begun.elapsed());
    }
    Err(Error::Timeout(timeout.reason))
}

impl Transport for CallbackSocket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let (mut socket, known) = (&self.line.0, &mut self.write_timeout);
        let mut bytes = &self.buffers.output()[..amount];
        let set = |slice| self.line.0.set_write_timeout(slice);
        within(timeout, known, set, || {
            while !bytes.is_empty() {
                let sent = socket.write(bytes)?;
                bytes = &bytes[sent..];
            }
            Ok(())
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let (mut socket, known) = (&self.line.0, &mut self.read_timeout);
        let room = self.buffers.input_append_buf();
        let set = |slice| self.line.0.set_read_timeout(slice);
        let amount = within(timeout, known, set, || socket.read(room))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Neither closed nor with bytes that nobody asked for.
    fn is_open(&mut self) -> bool {
        let seen = self
            .line
            .0
            .recv_with_flags(&mut [MaybeUninit::uninit()], PROBE);
        matches!(seen, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

/// Its address is part of the callback URL.
impl fmt::Debug for CallbackSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackSocket")
    }
}
