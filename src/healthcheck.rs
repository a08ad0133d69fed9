//! `--healthcheck`: asks the gateway that runs with the same settings on this machine whether it is
//! healthy, for supervisors of an image that holds neither a shell nor curl.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::config::{Config, Host};
use crate::net;

/// The check takes no longer. Only where `HOST` is a name its lookup, which comes first, takes the
/// resolver's time.
pub const LIMIT: Duration = Duration::from_secs(2);

/// HTTP/1.0, so that the answer ends with its connection and nothing has to be framed.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.0\r\n\r\n";

/// More than a gateway's answer has; nothing is read beyond it.
const ROOM: usize = 1024;

/// Why a gateway does not count as healthy; displays as one sentence.
#[derive(Debug)]
pub struct Unhealthy {
    address: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    Status(u16),
    NotHttp,
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::Io(error)
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no healthy gateway at {}: ", self.address)?;
        match &self.cause {
            // A read whose time is over says, on Linux, that it would block.
            Cause::Io(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                f.write_str("no whole answer in time")
            }
            Cause::Io(error) => error.fmt(f),
            Cause::Status(status) => write!(f, "GET /healthz was answered {status}"),
            Cause::NotHttp => f.write_str("what answers there is not HTTP"),
        }
    }
}

impl std::error::Error for Unhealthy {}

/// Asks the gateway that runs with `config`, for `limit` at most.
pub fn check(config: &Config, limit: Duration) -> Result<(), Unhealthy> {
    match &config.host {
        Some(Host::Unix(path)) => check_socket(path, limit),
        Some(Host::Name(host)) => check_port(Some(host), config.port, limit),
        None => check_port(None, config.port, limit),
    }
}

fn check_socket(path: &Path, limit: Duration) -> Result<(), Unhealthy> {
    let deadline = Instant::now() + limit;
    let stream = net::connect_unix(path, limit);
    let healthy = stream.map_err(Cause::from).and_then(|s| ask(s, deadline));
    healthy.map_err(|cause| Unhealthy {
        address: format!("unix:{}", path.display()),
        cause,
    })
}

fn check_port(host: Option<&str>, port: u16, limit: Duration) -> Result<(), Unhealthy> {
    let (host, other) = hosts(host);
    let ask_it = || {
        let addresses = (host, port).to_socket_addrs()?;
        let other = other.and_then(|ip| Some(SocketAddr::new(ip.parse().ok()?, port)));
        let deadline = Instant::now() + limit;
        let stream = connect(addresses.chain(other), deadline)?;
        ask(stream.into(), deadline)
    };
    ask_it().map_err(|cause| {
        let (open, close) = if host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let address = format!("{open}{host}{close}:{port}");
        Unhealthy { address, cause }
    })
}

/// Where a gateway that listens on `host` is reached from its own machine, and where else should
/// that refuse: a machine may have one family of addresses alone.
fn hosts(host: Option<&str>) -> (&str, Option<&'static str>) {
    let unspecified = |ip: &str| ip.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    match host {
        Some(host) if !unspecified(host) => (host, None),
        Some(v4) if !v4.contains(':') => ("127.0.0.1", None),
        _ => ("127.0.0.1", Some("::1")),
    }
}

fn ask(mut stream: Socket, deadline: Instant) -> Result<(), Cause> {
    let mut answer = [0; ROOM];
    let length = exchange(&mut stream, &mut answer, deadline)?;
    match status(&answer[..length]) {
        Some(200) => Ok(()),
        Some(status) => Err(Cause::Status(status)),
        None => Err(Cause::NotHttp),
    }
}

/// The first that takes a connection. If none does the first one's error is the one to tell: the
/// others are for machines that lack its family.
fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> io::Result<TcpStream> {
    let mut refusal = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| ErrorKind::NotFound.into()))
}

/// Reads to the end, if there is room: closing with bytes unread would be a reset to the gateway.
fn exchange(stream: &mut Socket, answer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    // It fits the send buffer of a fresh connection, so that writing does not block.
    stream.write_all(REQUEST)?;
    let mut length = 0;
    while length < answer.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut answer[length..])? {
            0 => break,
            n => length += n,
        }
    }
    Ok(length)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left.max(net::SHORTEST)),
    }
}

/// The status in an answer's first line (RFC 9112, 4).
fn status(answer: &[u8]) -> Option<u16> {
    let (version, rest) = answer.split_at_checked(9)?;
    let (code, rest) = rest.split_at_checked(3)?;
    let is_http = matches!(version, b"HTTP/1.1 " | b"HTTP/1.0 ") && rest.starts_with(b" ");
    let code = str::from_utf8(code).ok().filter(|_| is_http)?;
    // A sign is no digit, though it may begin a number elsewhere.
    code.parse().ok().filter(|status| *status >= 100)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn where_a_gateway_is_asked() {
        let both = ("127.0.0.1", Some("::1"));
        #[rustfmt::skip]
        let table = [
            (None, both), (Some("::"), both), (Some("0:0::0"), both),
            (Some("0.0.0.0"), ("127.0.0.1", None)), (Some("10.0.0.7"), ("10.0.0.7", None)),
            (Some("::1"), ("::1", None)), (Some("fe80::1%eth0"), ("fe80::1%eth0", None)),
            (Some("gateway.example"), ("gateway.example", None)),
        ];
        for (host, expected) in table {
            assert_eq!(hosts(host), expected, "{host:?}");
        }
    }

    #[test]
    fn statuses() {
        #[rustfmt::skip]
        let table: [(&str, Option<u16>); 15] = [
            ("HTTP/1.1 200 OK\r\n", Some(200)), ("HTTP/1.0 503 \r\n", Some(503)),
            ("HTTP/1.1 200 ", Some(200)), ("HTTP/1.1 200", None), ("HTTP/1.1 2000 ", None),
            ("HTTP/1.1 20x ", None), ("HTTP/1.1 +20 ", None), ("HTTP/1.1 099 ", None),
            ("HTTP/2.0 200 ", None), ("http/1.1 200 ", None), ("HTTP/1.1  200 ", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None), (" HTTP/1.1 200 ", None), ("H", None), ("", None),
        ];
        for (answer, expected) in table {
            assert_eq!(status(answer.as_bytes()), expected, "{answer:?}");
        }
    }

    #[test]
    fn the_first_that_takes_a_connection_is_asked() {
        let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = here.local_addr().unwrap();
        // Bound but not listening: it refuses, and nobody else can listen there meanwhile.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let refusing = socket.unwrap();
        let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        refusing.bind(&any.into()).unwrap();
        let nobody = refusing.local_addr().unwrap().as_socket().unwrap();
        let later = Instant::now() + Duration::from_secs(60);
        let stream = connect([nobody, at].into_iter(), later).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        let refused = connect([nobody, nobody].into_iter(), later).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let late = connect([at].into_iter(), Instant::now()).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    }
}
