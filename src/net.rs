//! Sockets: listening, options, and what an `io::Error` means. The core never sees any of it.
//!
//! A connection is a [`Socket`] whatever family it is of: reading, writing and closing are the same
//! system calls for TCP and for Unix sockets, and only a [`Listener`] knows which it is.

mod unix;

use std::ffi::c_int;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::Limits;
use crate::gateway::{Broken, MOST_PIECES};
use crate::logfmt::Value;

use unix::SocketFile;
pub use unix::connect as connect_unix;

/// Connections that the kernel completes before they are accepted; it cuts the number to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The shortest time-out that a socket is given. The system takes none at all for one without end, and
/// so it takes less than a microsecond.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// Options of a TCP connection, which it inherits from its listener, so that accepting needs no
/// further system call. On a Unix socket there is but the first, and accepting sets it.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Bytes that the kernel may hold unsent for one connection.
    pub send_buffer: usize,
    /// How many of them may be such that are not on the network yet: what an event of the same key
    /// that comes later could still replace is better kept here than there.
    pub notsent_lowat: u32,
    /// How long sent bytes may stay unacknowledged.
    pub peer_timeout: Duration,
    /// Silence before keep-alive probes begin.
    pub keepalive_idle: Duration,
    /// Between keep-alive probes.
    pub keepalive_interval: Duration,
}

impl From<&Limits> for SocketOptions {
    fn from(limits: &Limits) -> SocketOptions {
        SocketOptions {
            send_buffer: limits.send_buffer,
            notsent_lowat: u32::try_from(limits.notsent_lowat).unwrap_or(u32::MAX),
            peer_timeout: limits.peer_timeout,
            keepalive_idle: limits.keepalive_idle,
            keepalive_interval: limits.keepalive_interval,
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// Goes before the socket does: as long as somebody listens, nobody else takes its place.
    _file: Option<SocketFile>,
    socket: Socket,
    /// What accepted connections do not inherit.
    send_buffer: Option<usize>,
}

impl Listener {
    /// Has readiness announced from now on, and at once if somebody waits.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// The same anew.
    pub fn reregister(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        registry.reregister(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Has nothing announced any more; it goes on listening.
    pub fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()))
    }
}

/// Where it listens, as a fact for the log: `port=` or `socket=`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(address) = self.socket.local_addr() else {
            return f.write_str("port=unknown");
        };
        match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) => write!(f, "port={}", address.port()),
            (_, path) => {
                let path = path.unwrap_or(Path::new("")).as_os_str().as_bytes();
                write!(f, "socket={}", Value::new(path))
            }
        }
    }
}

/// Has everything announced that happens to a connection, for life: nothing is re-armed for an
/// event.
pub fn register(socket: &Socket, registry: &Registry, token: Token) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
}

/// Listens at the path of a Unix socket whose file has this mode.
pub fn listen_unix(path: &Path, mode: u32, options: SocketOptions) -> io::Result<Listener> {
    let (socket, file) = unix::listen(path, mode)?;
    Ok(Listener {
        _file: Some(file),
        socket,
        send_buffer: Some(options.send_buffer),
    })
}

/// Takes over a socket that listens, whatever options it had. Its file, if it has one, is not ours.
pub fn inherit(socket: Socket, options: SocketOptions) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let is_unix = socket.domain()? == Domain::UNIX;
    if !is_unix {
        set_tcp_options(&socket, options)?;
    }
    Ok(Listener {
        _file: None,
        socket,
        send_buffer: is_unix.then_some(options.send_buffer),
    })
}

/// Listens on every address of `host`, or on all interfaces.
pub fn listen(host: Option<&str>, port: u16, options: SocketOptions) -> io::Result<Vec<Listener>> {
    let Some(host) = host else {
        return listen_everywhere(port, options).map(|listener| vec![listener]);
    };
    let mut addresses = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    listen_at_all(&addresses, options)
}

/// A name may stand for addresses of a family that the host has not; one that works is enough.
fn listen_at_all(addresses: &[SocketAddr], options: SocketOptions) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let mut missing = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match listen_at(*address, options) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_not_here(&error) => missing = error,
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        return Err(missing);
    }
    Ok(listeners)
}

fn is_not_here(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// One socket for IPv6 and IPv4; for IPv4 alone where the host has no IPv6.
fn listen_everywhere(port: u16, options: SocketOptions) -> io::Result<Listener> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match listen_at(both, options) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
        Err(_) => listen_at(
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            options,
        ),
        listener => listener,
    }
}

fn listen_at(address: SocketAddr, options: SocketOptions) -> io::Result<Listener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V6(ip) = address.ip()
        && ip.is_unspecified()
    {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    set_tcp_options(&socket, options)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Listener {
        _file: None,
        socket,
        send_buffer: None,
    })
}

fn set_tcp_options(socket: &Socket, options: SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(options.send_buffer)?;
    socket.set_tcp_notsent_lowat(options.notsent_lowat)?;
    socket.set_tcp_user_timeout(Some(options.peer_timeout))?;
    let keepalive = TcpKeepalive::new()
        .with_time(options.keepalive_idle)
        .with_interval(options.keepalive_interval);
    socket.set_tcp_keepalive(&keepalive)
}

/// Why accepting stopped.
#[derive(Debug)]
pub enum AcceptError {
    /// Nobody waits.
    Drained,
    /// One connection came to nothing; the next may not.
    One,
    /// Descriptors or memory have run out; trying again at once would spin.
    Exhausted(io::Error),
}

/// Accepts one connection.
pub fn accept(listener: &Listener) -> Result<Socket, AcceptError> {
    // The flags alone: accept4(2) takes them as socket(2) does, beside the type.
    let flags = c_int::from(Type::STREAM.nonblocking().cloexec()) - c_int::from(Type::STREAM);
    match listener.socket.accept4(flags) {
        Ok((socket, _)) => {
            if let Some(bytes) = listener.send_buffer {
                // It cannot fail, and if it did there would still be a limit, the system's.
                let _ = socket.set_send_buffer_size(bytes);
            }
            Ok(socket)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(AcceptError::Drained),
        Err(error) => match error.raw_os_error() {
            Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => Err(AcceptError::Exhausted(error)),
            // accept(2) passes on the pending errors of the connection itself.
            _ => Err(AcceptError::One),
        },
    }
}

// The numbers that Linux gives them on every architecture that Rust supports with it, MIPS and
// SPARC aside; there the connection is skipped and accepting goes on.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
const EAFNOSUPPORT: i32 = 97;

/// What one read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// So many bytes; 0 for a read means the peer's FIN.
    Bytes(usize),
    /// Nothing now.
    WouldBlock,
    /// Nothing ever.
    Broken(Broken),
}

/// Reads once.
pub fn read_some(stream: &mut Socket, buffer: &mut [u8]) -> Transfer {
    loop {
        match stream.read(buffer) {
            Ok(n) => return Transfer::Bytes(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return failed(&error, Broken::Reset),
        }
    }
}

/// Writes once. A socket that takes less than it is offered is full: its readiness to take more
/// will be announced.
pub fn write_some(stream: &mut Socket, bytes: &[u8]) -> Transfer {
    loop {
        match stream.write(bytes) {
            Ok(n) => return Transfer::Bytes(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return failed(&error, Broken::WriteFailed),
        }
    }
}

/// The same for what stands in several places, [`MOST_PIECES`] of them at most.
pub fn write_pieces<'a>(stream: &mut Socket, pieces: impl Iterator<Item = &'a [u8]>) -> Transfer {
    let mut slices = [IoSlice::new(&[]); MOST_PIECES];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
        count += 1;
    }
    loop {
        match stream.write_vectored(&slices[..count]) {
            Ok(n) => return Transfer::Bytes(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return failed(&error, Broken::WriteFailed),
        }
    }
}

fn failed(error: &io::Error, otherwise: Broken) -> Transfer {
    match error.kind() {
        ErrorKind::WouldBlock => Transfer::WouldBlock,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Transfer::Broken(Broken::Vanished)
        }
        _ => Transfer::Broken(otherwise),
    }
}

/// Makes the coming close of `stream` a reset that drops what the kernel still holds for it. A Unix
/// socket has no resets: what was written is with the peer already, which reads it to an end that
/// comes without the last chunk.
pub fn reset_on_close(stream: &Socket) {
    // If the option cannot be set the connection is already gone.
    let _ = stream.set_linger(Some(Duration::ZERO));
}

/// Sends the FIN.
pub fn finish(stream: &Socket) {
    // If it cannot be sent the connection is already gone, which reading will tell.
    let _ = stream.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const OPTIONS: SocketOptions = SocketOptions {
        send_buffer: 96 * 1024,
        notsent_lowat: 12 * 1024,
        peer_timeout: Duration::from_secs(17),
        keepalive_idle: Duration::from_secs(23),
        keepalive_interval: Duration::from_secs(7),
    };

    fn accepted(listener: &Listener) -> Socket {
        loop {
            match accept(listener) {
                Ok(stream) => return stream,
                Err(AcceptError::Drained) => std::thread::yield_now(),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn accepted_connections_inherit_every_option() {
        let listener = listen(Some("127.0.0.1"), 0, OPTIONS).unwrap().remove(0);
        let address = listener.socket.local_addr().unwrap();
        let _client = TcpStream::connect(address.as_socket().unwrap()).unwrap();
        let socket = accepted(&listener);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), OPTIONS.keepalive_idle);
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            OPTIONS.keepalive_interval
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(OPTIONS.peer_timeout)
        );
        assert!(socket.nonblocking().unwrap());
        // The kernel doubles what is asked for, to have room for its own bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * OPTIONS.send_buffer);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), OPTIONS.notsent_lowat);
    }

    #[test]
    fn accepted_unix_sockets_have_the_buffer_that_they_do_not_inherit() {
        let path = std::env::temp_dir().join(format!("ssegateway-net-{}", std::process::id()));
        let listener = listen_unix(&path, 0o600, OPTIONS).unwrap();
        assert_eq!(listener.to_string(), format!("socket={}", path.display()));
        let _client = connect_unix(&path, Duration::from_secs(60)).unwrap();
        let socket = accepted(&listener);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * OPTIONS.send_buffer);
        assert!(socket.nonblocking().unwrap());
        drop(listener);
        let gone = connect_unix(&path, Duration::from_secs(60)).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn an_inherited_socket_gives_what_one_of_our_own_does() {
        let own = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = own.local_addr().unwrap();
        let listener = inherit(own.into(), OPTIONS).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let socket = accepted(&listener);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * OPTIONS.send_buffer);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let name = format!("ssegateway-inherit-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let own = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listener = inherit(std::os::fd::OwnedFd::from(own).into(), OPTIONS).unwrap();
        assert_eq!(listener.to_string(), format!("socket={}", path.display()));
        let _client = connect_unix(&path, Duration::from_secs(60)).unwrap();
        let socket = accepted(&listener);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * OPTIONS.send_buffer);
        assert!(socket.nonblocking().unwrap());
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn all_interfaces_are_reached_by_both_families() {
        let listener = listen(None, 0, OPTIONS).unwrap().remove(0);
        let address = listener.socket.local_addr().unwrap();
        let port = address.as_socket().unwrap().port();
        assert_eq!(listener.to_string(), format!("port={port}"));
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if address.is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn an_address_that_is_not_here_is_passed_over_if_another_works() {
        let of = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
        let (here, elsewhere) = (of("127.0.0.1"), of("192.0.2.1"));
        let listeners = listen_at_all(&[elsewhere, here], OPTIONS).unwrap();
        assert_eq!(listeners.len(), 1);
        let error = listen_at_all(&[elsewhere], OPTIONS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn what_errors_mean() {
        let table = [
            (ErrorKind::WouldBlock, Transfer::WouldBlock),
            (ErrorKind::TimedOut, Transfer::Broken(Broken::Vanished)),
            (
                ErrorKind::HostUnreachable,
                Transfer::Broken(Broken::Vanished),
            ),
            (
                ErrorKind::NetworkUnreachable,
                Transfer::Broken(Broken::Vanished),
            ),
            (ErrorKind::ConnectionReset, Transfer::Broken(Broken::Reset)),
            (ErrorKind::BrokenPipe, Transfer::Broken(Broken::Reset)),
        ];
        for (kind, expected) in table {
            assert_eq!(failed(&kind.into(), Broken::Reset), expected, "{kind:?}");
        }
    }
}
