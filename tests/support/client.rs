//! A raw HTTP client: it sends the bytes it is told and looks at each byte that comes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::PATIENCE;

/// A response's head.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    /// Names as they came.
    pub fields: Vec<(String, String)>,
    /// All bytes with the empty line.
    pub raw: Vec<u8>,
}

impl Head {
    fn parse(raw: Vec<u8>) -> Head {
        let text = String::from_utf8(raw.clone()).expect("a head of ASCII");
        let mut lines = text.strip_suffix("\r\n\r\n").expect("an end").split("\r\n");
        let status_line = lines.next().expect("a status line");
        let (version, rest) = status_line.split_once(' ').expect("a version");
        assert_eq!(version, "HTTP/1.1", "{text}");
        let (status, _) = rest.split_once(' ').expect("a space behind the status");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.to_owned(), value.to_owned())
        };
        Head {
            status: status.parse().expect("a status"),
            fields: lines.map(field).collect(),
            raw,
        }
    }

    /// The value of a field that comes once at most.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice in {}", self.text());
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The text with `DATE` in place of its one Date, which must be that of the moment.
    #[track_caller]
    pub fn undated(&self) -> String {
        let date = self.value("date").expect("a Date");
        let then = httpdate::parse_http_date(date).expect("an HTTP date");
        assert_eq!(httpdate::fmt_http_date(then), date, "an IMF-fixdate");
        let age = std::time::SystemTime::now().duration_since(then);
        assert!(age.expect("not of the future") < PATIENCE, "{date}");
        self.text().replace(date, "DATE")
    }
}

/// A response with its body, chunks undone.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn text(&self) -> String {
        format!(
            "{}{}",
            self.head.text(),
            String::from_utf8_lossy(&self.body)
        )
    }
}

/// A connection to the gateway. Every read has a time-out.
pub struct Client {
    stream: TcpStream,
    /// Read and not yet looked at.
    bytes: Vec<u8>,
    /// All that came so far, in bytes.
    pub received: u64,
    is_chunked: bool,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        Client::to((Ipv4Addr::LOCALHOST, port).into())
    }

    pub fn to(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).expect("a connection"))
    }

    /// Over a Unix socket. What a stream can do it can do whatever its socket is of; only its addresses
    /// are none of TCP's.
    pub fn to_socket(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("a connection");
        Client::over(OwnedFd::from(stream).into())
    }

    /// With a receive buffer of this many bytes, or what the kernel makes of it, from the
    /// handshake on.
    pub fn with_receive_buffer(port: u16, bytes: usize) -> Client {
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("an option");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket.connect(&address.into()).expect("a connection");
        Client::over(socket.into())
    }

    fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time-out");
        if stream.local_addr().is_ok() {
            stream.set_nodelay(true).expect("an option");
        }
        Client {
            stream,
            bytes: Vec::new(),
            received: 0,
            is_chunked: false,
        }
    }

    // ---- out ----

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("a write");
    }

    /// For bytes that the gateway may refuse to take: false when it did.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }

    /// A send.
    #[track_caller]
    pub fn post(&mut self, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        self.send([head.as_bytes(), body].concat());
    }

    pub fn shutdown_write(&self) {
        self.stream.shutdown(Shutdown::Write).expect("a FIN");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("an option");
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    // ---- in ----

    /// One read. One with a time limit is interrupted when the process is stopped and goes on, though
    /// no signal is handled (signal(7)).
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    self.received += result.as_ref().map_or(0, |n| *n as u64);
                    return result;
                }
            }
        }
    }

    /// Takes bytes in; 0 at the connection's clean end.
    #[track_caller]
    fn fill(&mut self) -> usize {
        let mut room = [0; 16 * 1024];
        match self.read(&mut room) {
            Ok(n) => {
                self.bytes.extend_from_slice(&room[..n]);
                n
            }
            Err(error) => panic!("{error} behind {:?}", String::from_utf8_lossy(&self.bytes)),
        }
    }

    /// As many bytes as `end` finds to be enough.
    #[track_caller]
    fn take(&mut self, mut end: impl FnMut(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(end) = end(&self.bytes) {
                return self.bytes.drain(..end).collect();
            }
            let shown = self.bytes.len();
            assert!(
                self.fill() > 0,
                "the connection ended behind {:?}",
                String::from_utf8_lossy(&self.bytes[..shown])
            );
        }
    }

    #[track_caller]
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        self.take(|bytes| (bytes.len() >= length).then_some(length))
    }

    /// A response's head, of a stream or of anything else.
    #[track_caller]
    pub fn read_head(&mut self) -> Head {
        let raw = self.take(|bytes| {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
            Some(end + 4)
        });
        let head = Head::parse(raw);
        self.is_chunked = head.value("transfer-encoding") == Some("chunked");
        head
    }

    /// A whole response: by Content-Length, chunked, or to the connection's end.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        let head = self.read_head();
        let length = head.value("content-length").map(str::parse::<usize>);
        let body = match length {
            Some(length) => self.read_exact(length.expect("a length")),
            None if self.is_chunked => {
                let mut body = Vec::new();
                loop {
                    let chunk = self.next_chunk();
                    if chunk.is_empty() {
                        break body;
                    }
                    body.extend_from_slice(&chunk);
                }
            }
            None => self.read_to_end(),
        };
        Response { head, body }
    }

    /// Exactly one chunk: its size in lower-case hexadecimal, its bytes, both line ends. The last
    /// one is empty.
    #[track_caller]
    pub fn next_chunk(&mut self) -> Vec<u8> {
        let (size, chunk) = self.chunk();
        assert_eq!(size, format!("{:x}", chunk.len()));
        chunk
    }

    /// The same of a proxy, which may write sizes its own way.
    #[track_caller]
    pub fn next_proxied_chunk(&mut self) -> Vec<u8> {
        self.chunk().1
    }

    /// A chunk's size as it is written, and its bytes.
    #[track_caller]
    fn chunk(&mut self) -> (String, Vec<u8>) {
        let line = self.take(|bytes| {
            let end = bytes.windows(2).position(|two| two == b"\r\n")?;
            Some(end + 2)
        });
        let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        let size = usize::from_str_radix(&text, 16).unwrap_or_else(|_| panic!("size {text:?}"));
        let mut chunk = self.read_exact(size + 2);
        assert_eq!(chunk.split_off(size), b"\r\n", "the end of a chunk");
        (text, chunk)
    }

    /// The next event or heartbeat as text: one chunk, or in HTTP/1.0 what ends with an empty line.
    #[track_caller]
    pub fn next_event(&mut self) -> String {
        let bytes = if self.is_chunked {
            self.next_chunk()
        } else {
            self.take(|bytes| {
                let end = bytes.windows(2).position(|two| two == b"\n\n")?;
                Some(end + 2)
            })
        };
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert_eq!(
            text.find("\n\n"),
            Some(text.len() - 2),
            "one event: {text:?}"
        );
        text
    }

    /// The next event, whatever heartbeats come before it.
    #[track_caller]
    pub fn next_event_behind_heartbeats(&mut self) -> String {
        loop {
            let event = self.next_event();
            if event != ": heartbeat\n\n" {
                return event;
            }
        }
    }

    /// The last chunk, then the FIN, and nothing behind either.
    #[track_caller]
    pub fn expect_last_chunk_and_eof(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.read_to_end()), "0\r\n\r\n");
    }

    /// The FIN and nothing before it.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.read_to_end()), "");
    }

    /// Whatever comes until the FIN.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.bytes)
    }

    /// The connection's end, clean or not, and nothing before it.
    #[track_caller]
    pub fn expect_eof_or_reset(&mut self) {
        let mut room = [0; 1];
        match self.read(&mut room) {
            Ok(0) => {}
            Ok(_) => panic!("a byte, not the end"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(self.bytes.is_empty());
    }

    /// A reset, whatever comes before it; gives what came.
    #[track_caller]
    pub fn expect_reset(&mut self) -> Vec<u8> {
        let mut room = [0; 16 * 1024];
        loop {
            match self.read(&mut room) {
                Ok(0) => panic!("a FIN, not a reset"),
                Ok(n) => self.bytes.extend_from_slice(&room[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return std::mem::take(&mut self.bytes);
                }
                Err(error) => panic!("{error}, not a reset"),
            }
        }
    }
}
