//! What a service manager asks of its services (contract, section 14): that they say when they are
//! ready, that they go on and that they stop (sd_notify(3), sd_watchdog_enabled(3)), and that they
//! take over sockets that it has opened (sd_listen_fds(3)).

use std::env;
use std::ffi::{OsStr, OsString, c_int};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use listenfd::ListenFd;
use log::warn;
use socket2::{Domain, Socket, Type};

use crate::logfmt::Value;
use crate::time::Time;

// ---- what it is told ----

/// How long something waits that the service manager has no room for.
const AGAIN: Duration = Duration::from_millis(100);

/// Tells the service manager, if there is one, how the process fares.
///
/// All of it is said from the event loop's own turns, never from another thread: the watchdog is to
/// notice a loop that stands still. Nothing waits for the service manager. What it has no room for is
/// said again, and what cannot be said at all is no reason to end.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// What is still to be said.
    unsaid: Option<&'static str>,
    /// Between two signs of life, where they are asked for.
    every: Option<Duration>,
    /// When something is to be said.
    due: Option<Time>,
    /// That it cannot be told was logged.
    is_lost: bool,
}

impl Notifier {
    /// For the service manager that the environment names, or for none.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Notifier {
        let address = env("NOTIFY_SOCKET").and_then(|path| address(&path));
        let to = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Notifier {
            every: to.as_ref().and_then(|_| watchdog(env)),
            to,
            ..Notifier::default()
        }
    }

    /// There is somebody to be told.
    pub fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// Everything listens.
    pub(crate) fn ready(&mut self, now: Time) {
        self.say("READY=1", now);
    }

    /// It ends as soon as all is delivered.
    pub(crate) fn stopping(&mut self, now: Time) {
        self.say("STOPPING=1", now);
    }

    fn say(&mut self, what: &'static str, now: Time) {
        self.unsaid = Some(what);
        self.due = Some(now);
        self.tell(now, 0);
    }

    /// When something is to be said.
    pub(crate) fn due(&self) -> Option<Time> {
        self.due.filter(|_| self.to.is_some())
    }

    /// Says what is due, with the number of streams for those who ask for the service's state.
    pub(crate) fn tell(&mut self, now: Time, streams: usize) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let is_said = match self.unsaid {
            Some(what) => self.send(what.as_bytes()),
            None => self.send(format!("WATCHDOG=1\nSTATUS=streams: {streams}").as_bytes()),
        };
        if is_said {
            self.unsaid = None;
        }
        let wait = if is_said { self.every } else { Some(AGAIN) };
        self.due = wait.map(|wait| now + wait);
    }

    /// False: there was no room.
    fn send(&mut self, text: &[u8]) -> bool {
        let Some((socket, address)) = &self.to else {
            return true;
        };
        match socket.send_to_addr(text, address) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    warn!("the service manager cannot be told error=\"{error}\"");
                }
                true
            }
        }
    }
}

/// A path, or a name in the abstract namespace behind `@`. Another kind of address is not for us.
fn address(text: &OsStr) -> Option<SocketAddr> {
    match text.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(text).ok(),
        _ => None,
    }
}

/// A third of what the watchdog waits, so that one that comes late is no death.
fn watchdog(env: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| env(name)?.to_str()?.parse::<u64>().ok();
    let is_ours = env("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(own_id());
    let patience = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0)?;
    Some(Duration::from_micros(patience / 3).max(Duration::from_millis(1)))
}

fn own_id() -> u64 {
    process::id().into()
}

// ---- what it has opened ----

/// A socket that listens already.
#[derive(Debug)]
pub struct Inherited {
    /// TCP or Unix; it may be others' too.
    pub(crate) socket: Socket,
    /// It is for publishers, as what `INTERNAL_LISTEN` names is; if not, for clients.
    pub is_internal: bool,
}

/// Why sockets could not be taken over; displays as one sentence.
#[derive(Debug)]
pub enum ActivationError {
    /// The environment does not say how many there are.
    Count,
    /// There are not as many names as sockets.
    Names,
    /// One is of no use.
    Kind {
        /// Its descriptor.
        number: usize,
        /// Its name.
        name: String,
    },
    /// One cannot be made ready.
    Options(io::Error),
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActivationError::Count => f.write_str("LISTEN_FDS: must be a number of sockets"),
            ActivationError::Names => {
                f.write_str("LISTEN_FDNAMES: must hold a name for each socket of LISTEN_FDS")
            }
            ActivationError::Kind { number, name } => write!(
                f,
                "LISTEN_FDS: descriptor {number}, name {}, must be a TCP or Unix stream socket that \
                 listens (Accept=no)",
                Value::new(name)
            ),
            ActivationError::Options(source) => {
                write!(f, "LISTEN_FDS: a socket cannot be used: {source}")
            }
        }
    }
}

impl std::error::Error for ActivationError {}

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// The name of a socket for publishers.
const INTERNAL: &str = "internal";

/// Takes over the sockets that were opened for this process, once: the environment tells of them no
/// more. To be called before there is any thread that reads it.
///
/// # Errors
/// What the environment says, or a socket itself, is not as it must be.
pub fn sockets() -> Result<Vec<Inherited>, ActivationError> {
    let text = |name| env::var(name).unwrap_or_default();
    // What another process was given, and we have with its environment, is not for us.
    if text("LISTEN_PID").parse() != Ok(own_id()) {
        return Ok(Vec::new());
    }
    let Ok(count) = text("LISTEN_FDS").parse::<u16>() else {
        return Err(ActivationError::Count);
    };
    let names = text("LISTEN_FDNAMES");
    let names: Vec<&str> = match names.as_str() {
        "" => vec![""; count.into()],
        names => names.split(':').collect(),
    };
    if names.len() != usize::from(count) {
        return Err(ActivationError::Names);
    }
    let mut given = ListenFd::from_env();
    let mut take = |(at, name): (usize, &str)| match taken(&mut given, at) {
        Some(socket) => Ok(Inherited {
            socket,
            is_internal: name == INTERNAL,
        }),
        None => Err(ActivationError::Kind {
            number: FIRST + at,
            name: name.to_owned(),
        }),
    };
    names.into_iter().enumerate().map(&mut take).collect()
}

/// One of them, if it is of a kind that connections can be accepted from.
fn taken(given: &mut ListenFd, at: usize) -> Option<Socket> {
    // Asked for IPv4 it gives IPv6 too.
    let mut take = |family: Domain| {
        let (family, kind) = (c_int::from(family), c_int::from(Type::STREAM));
        given.take_custom(at, family, kind, "").ok().flatten()
    };
    let socket: Socket = take(Domain::IPV4).or_else(|| take(Domain::UNIX))?;
    socket.is_listener().is_ok_and(|it| it).then_some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(vars: &[(&str, &str)]) -> Notifier {
        Notifier::from_env(|name| {
            let var = vars.iter().find(|(var, _)| *var == name);
            var.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn signs_of_life_come_at_less_than_half_of_what_the_watchdog_waits() {
        let own = process::id().to_string();
        let other = (process::id() + 1).to_string();
        let at = ("NOTIFY_SOCKET", "/nowhere");
        let table = [
            (Some("30000000"), None, Some(10_000)),
            (Some("30000000"), Some(&own), Some(10_000)),
            (Some("30000000"), Some(&other), None),
            (Some("1"), None, Some(1)),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ];
        for (usec, pid, millis) in table {
            let mut vars = vec![at];
            vars.extend(usec.map(|usec| ("WATCHDOG_USEC", usec)));
            vars.extend(pid.map(|pid| ("WATCHDOG_PID", pid.as_str())));
            let every = notifier(&vars).every;
            assert_eq!(every, millis.map(Duration::from_millis), "{usec:?} {pid:?}");
            // There is nobody to be told.
            assert_eq!(notifier(&vars[1..]).every, None);
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_said_again() {
        let name = format!("ssegateway-systemd-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        let at = format!("@{name}");
        let mut it = notifier(&[("NOTIFY_SOCKET", &at), ("WATCHDOG_USEC", "3000000")]);
        let mut room = [0; 64];
        let mut said = || {
            let length = manager.recv(&mut room).expect("a message");
            String::from_utf8_lossy(&room[..length]).into_owned()
        };
        assert_eq!(it.due(), None);
        it.ready(Time(5));
        assert_eq!((said(), it.due()), ("READY=1".into(), Some(Time(1005))));
        it.tell(Time(1004), 7);
        assert_eq!(it.due(), Some(Time(1005)));
        it.tell(Time(1005), 7);
        let sign = "WATCHDOG=1\nSTATUS=streams: 7";
        assert_eq!((said(), it.due()), (sign.into(), Some(Time(2005))));
        let mut filled = 0;
        while it.send(b"x") {
            filled += 1;
        }
        it.stopping(Time(2000));
        assert_eq!(it.due(), Some(Time(2100)));
        for _ in 0..filled {
            assert_eq!(said(), "x");
        }
        it.tell(Time(2100), 7);
        assert_eq!((said(), it.due()), ("STOPPING=1".into(), Some(Time(3100))));
        // Nobody is there any more.
        drop(manager);
        it.tell(Time(3100), 7);
        assert_eq!((it.is_lost, it.due()), (true, Some(Time(4100))));
    }

    #[test]
    fn addresses() {
        let is_some = |text: &str| address(OsStr::new(text)).is_some();
        assert!(is_some("/run/systemd/notify") && is_some("@a") && is_some("@a/b"));
        assert!(!is_some("vsock:2:9") && !is_some("relative") && !is_some(""));
        assert!(!is_some(&format!("/{}", "x".repeat(200))));
    }
}
