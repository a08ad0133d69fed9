//! How a worker's connections are made, and what they tell about a call.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::front::{Front, front};
use super::resolver::Lookup;
use super::socket::CallbackSocket;

/// How long a read takes that only looks for what is there already. The system cannot wait for less.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(1);

/// Such reads in one attempt, behind its time limit: enough for the largest answer.
const GLANCES: u32 = 128;

/// What happened on the wire in the current attempt. One worker's thread uses it alone; ureq asks
/// for types that could be shared.
#[derive(Debug, Default)]
pub(super) struct Watch {
    dialled: AtomicBool,
    sent: AtomicBool,
    broken: AtomicBool,
    /// The last interim status; zero for none.
    interim: AtomicU16,
    /// A status beside which nothing of its head can be used, plus one; zero for none.
    unusable: AtomicU16,
}

impl Watch {
    /// Before every attempt.
    pub(super) fn reset(&self) {
        self.dialled.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
        self.interim.store(0, Ordering::Relaxed);
        self.unusable.store(0, Ordering::Relaxed);
    }

    /// The attempt used a connection that had served a call before.
    pub(super) fn reused(&self) -> bool {
        self.sent.load(Ordering::Relaxed) && !self.dialled.load(Ordering::Relaxed)
    }

    /// Reading failed, other than by a time-out. ureq takes a reset for the end of a body that is
    /// delimited by the connection's end.
    pub(super) fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The status of the last interim answer.
    pub(super) fn interim(&self) -> Option<u16> {
        Some(self.interim.load(Ordering::Relaxed)).filter(|status| *status != 0)
    }

    /// The final status, of a head that is no use otherwise: reading was given up there.
    pub(super) fn unusable(&self) -> Option<u16> {
        self.unusable.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// What makes the connections themselves, one for all workers. With TLS it keeps one configuration
/// and one session cache. There is no proxy.
pub(super) struct Inner {
    /// The backend's Unix socket, if it has one.
    socket: Option<PathBuf>,
    #[cfg(feature = "tls")]
    tls: ureq::unversioned::transport::RustlsConnector,
}

impl Inner {
    pub(super) fn new(socket: Option<PathBuf>) -> Inner {
        Inner {
            socket,
            #[cfg(feature = "tls")]
            tls: Default::default(),
        }
    }

    fn connect(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, Error> {
        let socket = CallbackSocket::connect(details, self.socket.as_deref())?;
        #[cfg(feature = "tls")]
        if details.needs_tls() {
            let made = self.tls.connect(details, Some(socket))?;
            return Ok(Box::new(made.ok_or(Error::ConnectionFailed)?));
        }
        Ok(Box::new(socket))
    }
}

/// Makes connections: finds the addresses, notes that it was called, and wraps the connection so
/// that it reports to a [`Watch`].
pub(super) struct Dial {
    pub(super) inner: Arc<Inner>,
    pub(super) lookup: Arc<Lookup>,
    pub(super) watch: Arc<Watch>,
}

impl Connector for Dial {
    type Out = Watched;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Watched>, Error> {
        self.watch.dialled.store(true, Ordering::Relaxed);
        let start = std::time::Instant::now();
        let addrs = self.lookup.addresses(*details.timeout.after)?;
        let timeout = rest(details.timeout, start)?;
        let details = ConnectionDetails {
            uri: details.uri,
            addrs,
            resolver: details.resolver,
            config: details.config,
            // The configurations of our calls differ in their time limit alone. Said so, the TLS
            // configuration is made once and not for every connection.
            request_level: false,
            now: Instant::now(),
            timeout,
            current_time: Arc::clone(&details.current_time),
            run_connector: Arc::clone(&details.run_connector),
            register_shutdown: Arc::clone(&details.register_shutdown),
        };
        Ok(Some(Watched {
            inner: self.inner.connect(&details)?,
            watch: Arc::clone(&self.watch),
            head: Vec::new(),
            resting: false,
            reads_head: true,
            glances: GLANCES,
        }))
    }
}

/// The chain's own types would print addresses.
impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// What is left of a limit that began at `start`.
fn rest(timeout: NextTimeout, start: std::time::Instant) -> Result<NextTimeout, Error> {
    let Duration::Exact(limit) = timeout.after else {
        return Ok(timeout);
    };
    let left = limit.saturating_sub(start.elapsed());
    if left.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    let after = Duration::Exact(left);
    Ok(NextTimeout { after, ..timeout })
}

/// A connection that reports to its worker's [`Watch`], and that spares system calls: a head goes
/// out together with its body, so that the backend wakes once, and ureq's probe for a closed
/// connection is made before a connection is used again but not also after each use.
pub(super) struct Watched {
    inner: Box<dyn Transport>,
    watch: Arc<Watch>,
    /// A head that waits for its body; each of our heads has one.
    head: Vec<u8>,
    /// Unused since it went back to the pool.
    resting: bool,
    /// The final answer's head has not come yet.
    reads_head: bool,
    /// Reads that are left behind the time limit.
    glances: u32,
}

impl Watched {
    /// Sends the head that was held, and `amount` bytes of the output buffer after it.
    fn transmit_with_head(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let start = std::time::Instant::now();
        let mut bytes = std::mem::take(&mut self.head);
        let room = self.inner.buffers().output();
        bytes.extend_from_slice(&room[..amount]);
        for part in bytes.chunks(room.len()) {
            self.inner.buffers().output()[..part.len()].copy_from_slice(part);
            self.inner
                .transmit_output(part.len(), rest(timeout, start)?)?;
        }
        Ok(())
    }
}

impl Watched {
    /// Reads once. When the time is over it still takes what is there already: the whole process
    /// may have stood still, and an answer that has come counts.
    fn read(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match self.inner.await_input(timeout) {
            Err(Error::Timeout(_)) if self.glances > 0 => {
                self.glances -= 1;
                let after = Duration::Exact(GLANCE);
                self.inner.await_input(NextTimeout { after, ..timeout })
            }
            read => read,
        }
    }

    /// Passes over interim answers; whether nothing is left of what came in.
    fn skip_interim(&mut self) -> Result<bool, Error> {
        loop {
            let input = self.inner.buffers().input();
            match front(input) {
                Front::Interim { status, length } => {
                    let is_all = length == input.len();
                    self.watch.interim.store(status, Ordering::Relaxed);
                    self.inner.buffers().input_consume(length);
                    if is_all {
                        return Ok(true);
                    }
                }
                Front::Unusable(status) => {
                    self.watch.unusable.store(status + 1, Ordering::Relaxed);
                    return Err(Error::ConnectionFailed);
                }
                Front::Partial => return Ok(false),
                Front::Readable => {
                    self.reads_head = false;
                    return Ok(false);
                }
            }
        }
    }
}

impl Transport for Watched {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.resting = false;
        if !self.watch.sent.swap(true, Ordering::Relaxed) {
            (self.reads_head, self.glances) = (true, GLANCES);
            let head = &self.inner.buffers().output()[..amount];
            self.head.extend_from_slice(head);
            return Ok(());
        }
        if !self.head.is_empty() {
            return self.transmit_with_head(amount, timeout);
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let start = std::time::Instant::now();
        let mut read = self.read(timeout);
        while matches!(read, Ok(true)) && self.reads_head && self.skip_interim()? {
            read = rest(timeout, start).and_then(|timeout| self.read(timeout));
        }
        if !matches!(read, Ok(_) | Err(Error::Timeout(_))) {
            self.watch.broken.store(true, Ordering::Relaxed);
        }
        read
    }

    fn is_open(&mut self) -> bool {
        let returns = !std::mem::replace(&mut self.resting, true);
        returns || self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}
