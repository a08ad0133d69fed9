//! One request of the gateway to the backend, the connection it came on, and the way to answer it.

use std::fmt;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use super::{Ledger, Shared};

/// One connection from the gateway.
#[derive(Debug)]
pub(super) struct Wire {
    number: usize,
    stream: Mutex<Option<TcpStream>>,
    is_ended: Shared<bool>,
}

impl Wire {
    pub(super) fn new(number: usize, stream: TcpStream) -> Arc<Wire> {
        Arc::new(Wire {
            number,
            stream: Mutex::new(Some(stream)),
            is_ended: Shared::new(false),
        })
    }

    /// The gateway has ended it, or the backend.
    pub(super) fn note_ended(&self) {
        self.stream().take();
        self.is_ended.change(|is_ended| *is_ended = true);
    }

    #[track_caller]
    pub(super) fn wait_ended(&self) {
        let ended = self.is_ended.wait(|is_ended| is_ended.then_some(()));
        assert!(
            ended.is_some(),
            "connection {} of the backend is still open",
            self.number
        );
    }

    fn stream(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the connection is gone.
    fn write(&self, bytes: &[u8]) -> bool {
        match self.stream().as_mut() {
            Some(stream) => stream.write_all(bytes).is_ok(),
            None => false,
        }
    }

    pub(super) fn end(&self, is_reset: bool) {
        let Some(stream) = self.stream().take() else {
            return;
        };
        // Errors mean that the gateway has ended it first.
        if is_reset {
            // The reading thread holds the other descriptor. Shutting down the reading side sends
            // nothing and wakes it; the last close then sends the reset.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Read);
        } else {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One request of the gateway, and the way to answer it.
pub struct Callback {
    /// The number of its connection, in the order in which they were made.
    pub connection: usize,
    /// Request line and fields with the empty line.
    pub head: String,
    pub body: Vec<u8>,
    /// The body's JSON; null when it is none.
    pub json: Value,
    is_answered: AtomicBool,
    wire: Arc<Wire>,
    ledger: Arc<Ledger>,
}

impl Callback {
    pub(super) fn new(
        wire: &Arc<Wire>,
        ledger: &Arc<Ledger>,
        head: String,
        body: Vec<u8>,
    ) -> Callback {
        Callback {
            connection: wire.number,
            head,
            json: serde_json::from_slice(&body).unwrap_or_default(),
            body,
            is_answered: AtomicBool::new(false),
            wire: Arc::clone(wire),
            ledger: Arc::clone(ledger),
        }
    }

    pub fn is_connect(&self) -> bool {
        self.json["action"] == "connect"
    }

    pub fn token(&self) -> String {
        self.json["token"].as_str().unwrap_or("").to_owned()
    }

    pub fn reason(&self) -> &str {
        self.json["reason"].as_str().unwrap_or("")
    }

    pub fn url(&self) -> &str {
        self.json["request"]["url"].as_str().unwrap_or("")
    }

    /// The body as it came.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field of the gateway's own request.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }

    /// A whole answer; the connection is kept.
    pub fn answer(&self, status: u16, body: &str) {
        self.answer_with(status, "", body.as_bytes());
    }

    /// A whole answer with further fields, each with its line end.
    pub fn answer_with(&self, status: u16, fields: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{fields}\r\n");
        if matches!(status, 200..=299) {
            self.note_accepted();
        }
        self.write(&[head.as_bytes(), body].concat());
    }

    /// These bytes, whatever they are. The ledger does not know what they mean.
    pub fn write(&self, bytes: &[u8]) -> bool {
        self.is_answered.store(true, Ordering::Release);
        self.wire.write(bytes)
    }

    /// Tells the ledger that a 2xx answer is about to be written.
    pub fn note_accepted(&self) {
        if self.is_connect() {
            self.ledger.accept(&self.token());
        }
    }

    /// Ends the connection with a FIN.
    pub fn close(&self) {
        self.note_lost();
        self.wire.end(false);
    }

    /// Ends the connection with a reset.
    pub fn reset(&self) {
        self.note_lost();
        self.wire.end(true);
    }

    fn note_lost(&self) {
        if !self.is_connect() && !self.is_answered() {
            self.ledger.lose(&self.token());
        }
    }

    /// Waits until the gateway has ended the connection.
    #[track_caller]
    pub fn wait_ended(&self) {
        self.wire.wait_ended();
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callback({}, {})", self.connection, self.text())
    }
}
