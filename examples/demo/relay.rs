//! A stream through the backend, for trying the page without a proxy: in production one reverse
//! proxy serves the gateway and the application under the same origin.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use tiny_http::{Request, Response};

use super::options::{Place, authority};

/// The field by which a browser that comes back says what it saw last.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// The gateway's answer to the same request, byte for byte.
pub(crate) fn relay(request: Request, gateway: &Place) -> io::Result<()> {
    let (host, port) = gateway;
    let stream = TcpStream::connect((host.as_str(), *port));
    let Ok(mut stream) = stream else {
        return request.respond(Response::empty(502));
    };
    let fields = request.headers().iter();
    let seen = fields.filter(|field| field.field.equiv(LAST_EVENT_ID));
    let seen: String = seen.map(|field| format!("{field}\r\n")).collect();
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nConnection: close\r\n{seen}\r\n",
        request.url(),
        authority(host, *port)
    );
    stream.write_all(head.as_bytes())?;
    // The raw writer: a response object would buffer and frame the events anew.
    copy(stream, request.into_writer())
}

/// Copies an answer as it comes. The writer cannot close the connection, so that a chunked answer
/// that breaks off is ended by what is no chunk: the browser takes it for the failure it is.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
    let mut buffer = [0; 16 * 1024];
    let mut chunked = None;
    let mut tail = Vec::new();
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let bytes = &buffer[..n];
        // The head comes in one piece.
        chunked.get_or_insert_with(|| bytes.to_ascii_lowercase().windows(9).any(is_chunked));
        tail.extend_from_slice(&bytes[n.saturating_sub(LAST_CHUNK.len())..]);
        tail.drain(..tail.len().saturating_sub(LAST_CHUNK.len()));
        to.write_all(bytes)?;
        to.flush()?;
    }
    if chunked == Some(true) && tail != LAST_CHUNK {
        to.write_all(b"broken off\r\n")?;
        to.flush()?;
    }
    Ok(())
}

fn is_chunked(word: &[u8]) -> bool {
    word == b": chunked"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(pieces: &[&str]) -> String {
        struct Pieces<'a>(std::slice::Iter<'a, &'a str>);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let piece = self.0.next().copied().unwrap_or_default().as_bytes();
                buffer[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
        }
        let mut to = Vec::new();
        copy(Pieces(pieces.iter()), &mut to).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn only_a_chunked_answer_that_breaks_off_is_spoilt() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = [head, "1\r\nx\r\n", "0\r\n", "\r\n"];
        assert_eq!(copied(&whole), whole.concat());
        let cut = [head, "1\r\nx\r\n"];
        assert_eq!(copied(&cut), cut.concat() + "broken off\r\n");
        let refusal = ["HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\n{}"];
        assert_eq!(copied(&refusal), refusal.concat());
    }
}
