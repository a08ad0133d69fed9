//! The addresses of the one callback host.
//!
//! An address literal is parsed once. A name is looked up by a short-lived thread, because
//! `getaddrinfo` cannot be bounded in time, at most one thread at once; the workers wait for it as
//! long as their own call may last.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use ureq::config::Config;
use ureq::unversioned::resolver::{ArrayVec, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

use crate::host;

/// How long found addresses are used for new connections.
const FOUND_FOR: Duration = Duration::from_secs(5);
/// How long a failed lookup is not repeated.
const LOST_FOR: Duration = Duration::from_secs(1);
/// The most addresses that [`ResolvedSocketAddrs`] holds.
const MAX_ADDRESSES: usize = 16;
/// The C library's resolver and its plug-ins use more stack than our own code.
const STACK: usize = 512 * 1024;

type Find = dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Finds the callback host's addresses, for all workers together.
pub(super) struct Lookup {
    host: Host,
    state: Mutex<Lookups>,
    changed: Condvar,
}

enum Host {
    Literal(SocketAddr),
    Name(Box<Find>),
}

#[derive(Default)]
struct Lookups {
    running: bool,
    abandoned: bool,
    /// The last answer, empty for a failure, and until when it counts.
    last: Option<(Vec<SocketAddr>, Instant)>,
}

impl Lookup {
    /// For the host and port of `url`; the port may come from its scheme.
    pub(super) fn new(url: &Uri) -> Lookup {
        let host = url.host().unwrap_or_default();
        let default = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = url.port_u16().unwrap_or(default);
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Lookup::of(Host::Literal(SocketAddr::new(ip, port))),
            Err(_) => {
                let host = host.to_owned();
                Lookup::by(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
            }
        }
    }

    /// For a backend that is reached in another way: finds at once what stands for no address.
    pub(super) fn needless() -> Lookup {
        Lookup::of(Host::Literal(nowhere()))
    }

    /// With any way to find the addresses.
    pub(super) fn by(
        find: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Lookup {
        Lookup::of(Host::Name(Box::new(find)))
    }

    fn of(host: Host) -> Lookup {
        Lookup {
            host,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lookups> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All addresses of the host, in the order in which they should be tried.
    ///
    /// # Errors
    /// `Timeout` when they are not known within `limit`, `HostNotFound`, or `Io` when no thread
    /// could be started or the process is about to end.
    pub(super) fn addresses(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if let Host::Literal(address) = self.host {
            return Ok(collect([address]));
        }
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if state.abandoned {
                return Err(io::Error::from(io::ErrorKind::NotConnected).into());
            }
            if let Some((found, until)) = &state.last
                && Instant::now() < *until
            {
                return match found.as_slice() {
                    [] => Err(Error::HostNotFound),
                    found => Ok(collect(found.iter().copied())),
                };
            }
            if !state.running {
                self.start()?;
                state.running = true;
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Error::Timeout(Timeout::Resolve));
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Called under the lock, which keeps the new thread from reporting too early.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        let lookup = Arc::clone(self);
        host::spawn("lookup", STACK, Box::new(move || lookup.run()))
    }

    fn run(&self) {
        let Host::Name(find) = &self.host else { return };
        let found = find().unwrap_or_default();
        let counts_for = if found.is_empty() {
            LOST_FOR
        } else {
            FOUND_FOR
        };
        let mut state = self.lock();
        state.running = false;
        state.last = Some((found, Instant::now() + counts_for));
        drop(state);
        self.changed.notify_all();
    }

    /// As if the time for which addresses count were over.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.lock().last = None;
    }

    /// Lets nobody wait any more; a lookup under way is left to itself.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.changed.notify_all();
    }
}

/// The host is part of the callback URL, which no log may hold.
impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

fn collect(from: impl IntoIterator<Item = SocketAddr>) -> ResolvedSocketAddrs {
    let mut addresses = ArrayVec::from_fn(|_| nowhere());
    for address in from.into_iter().take(MAX_ADDRESSES) {
        addresses.push(address);
    }
    addresses
}

fn nowhere() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

/// Answers ureq's question for addresses with a placeholder.
///
/// ureq asks before it looks into its pool, so that a name server's trouble would fail calls on
/// live connections. The connector asks [`Lookup`] when a connection is really made.
#[derive(Debug)]
pub(super) struct Deferred;

impl Resolver for Deferred {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(collect([nowhere()]))
    }
}
