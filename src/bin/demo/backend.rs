//! The demo's backend: what an application does for the gateway, and a page that shows it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::{Value as Json, json};
use ssegateway::logfmt::Value;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::events::{self, Streams};
use crate::{authority, say};

const PAGE: &str = include_str!("page.html");

/// Most bytes of a callback's body that are looked at.
const MAX_CALLBACK: u64 = 1024 * 1024;

/// What the backend knows.
pub(crate) struct Backend {
    /// Host and port where clients reach the gateway.
    pub(crate) gateway: (String, u16),
    /// Where events are sent to.
    pub(crate) send_url: String,
    /// The streams that are open.
    pub(crate) streams: Arc<Streams>,
}

impl Backend {
    /// Serves in threads of its own, one for each request, so that a streaming answer holds up
    /// none of the others.
    pub(crate) fn serve(self, listener: TcpListener) -> io::Result<()> {
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let backend = Arc::new(self);
        thread::Builder::new()
            .name("backend".to_owned())
            .spawn(move || {
                for request in server.incoming_requests() {
                    let backend = Arc::clone(&backend);
                    // Without a thread the request is dropped, which answers it with 500.
                    let _ = thread::Builder::new().spawn(move || backend.answer(request));
                }
            })?;
        Ok(())
    }

    fn answer(&self, request: Request) {
        let path = request.url().split('?').next().unwrap_or_default();
        let done = match (request.method(), path) {
            (Method::Post, "/callback") => self.callback(request),
            (Method::Get, "/events") => self.events(request),
            (Method::Get, "/") => request.respond(
                Response::from_string(PAGE)
                    .with_header(header("Content-Type", "text/html; charset=utf-8")),
            ),
            _ => request.respond(Response::empty(404)),
        };
        // Whoever asked has left; there is nobody to tell.
        drop(done);
    }

    /// The two callbacks, in whole: accept every stream and greet it, forget it when it is gone.
    fn callback(&self, mut request: Request) -> io::Result<()> {
        let mut body = Vec::new();
        request
            .as_reader()
            .take(MAX_CALLBACK)
            .read_to_end(&mut body)?;
        let body: Json = serde_json::from_slice(&body).unwrap_or_default();
        let (token, url) = (text(&body["token"]), text(&body["request"]["url"]));
        let shown = format!("token={} url={}", Value::new(token), Value::new(url));
        match text(&body["action"]) {
            "connect" => {
                // Before the answer: the gateway buffers what is sent during the callback.
                self.streams.add(token);
                say(&format!(
                    "connect     {shown}\n            curl {} -d '{}'",
                    self.send_url,
                    events::example(token)
                ));
                let greeting = json!({"token": token, "send_url": self.send_url}).to_string();
                let answer = json!({"event": {"name": "hello", "data": greeting}}).to_string();
                request.respond(
                    Response::from_string(answer)
                        .with_header(header("Content-Type", "application/json")),
                )
            }
            "disconnect" => {
                self.streams.forget(token);
                let reason = Value::new(text(&body["reason"]));
                say(&format!("disconnect  {shown} reason={reason}"));
                request.respond(Response::empty(204))
            }
            _ => request.respond(Response::empty(400)),
        }
    }

    /// The page's stream, under the page's own origin: the gateway's answer, byte for byte. (In
    /// production the gateway and the application share an origin behind one reverse proxy.)
    fn events(&self, request: Request) -> io::Result<()> {
        let (host, port) = &self.gateway;
        let stream = TcpStream::connect((host.as_str(), *port));
        let Ok(mut stream) = stream else {
            return request.respond(Response::empty(502));
        };
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n",
            request.url(),
            authority(host, *port)
        );
        stream.write_all(head.as_bytes())?;
        // The raw writer: a response object would buffer and frame the events anew.
        copy(stream, request.into_writer())
    }
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

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

/// A header of the demo's own; both parts are constants and fit.
fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("a header's name and value")
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
