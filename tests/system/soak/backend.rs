//! A backend with one fault after another. What it answers it writes into the book first.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::book::Word;
use super::world::{Rng, Serving, World};
use crate::support::{Client, Port};

/// What is wrong with the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answers at once.
    Prompt,
    /// Answers after 50 ms, and sends to the token meanwhile.
    Slow,
    /// Never answers, but keeps the connection.
    Hang,
    /// Half a head, or half a body.
    Half,
    /// A body without an end, quick or slow.
    Endless,
    /// Bytes that are not HTTP.
    Garbage,
    /// A reset instead of an answer.
    Reset,
    /// Answers and closes at once.
    CloseAfter,
    /// Answers, and closes when the connection is used again.
    CloseOnNext,
    /// Does not listen; connections that there are it serves.
    Refuse,
    /// Answers when many clients have left, and some time-outs are over.
    Late,
    /// A status that refuses the stream.
    Reject,
}

pub(crate) const FAULTS: [Fault; 12] = [
    Fault::Prompt,
    Fault::Slow,
    Fault::Hang,
    Fault::Half,
    Fault::Endless,
    Fault::Garbage,
    Fault::Reset,
    Fault::CloseAfter,
    Fault::CloseOnNext,
    Fault::Refuse,
    Fault::Late,
    Fault::Reject,
];

/// The backend's listener.
pub(crate) struct FaultyBackend {
    port: Port,
    acceptor: Option<(Arc<TcpListener>, JoinHandle<()>)>,
}

impl FaultyBackend {
    pub(crate) fn new() -> FaultyBackend {
        FaultyBackend {
            port: Port::reserve_local(),
            acceptor: None,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "http://127.0.0.1:{}/callback?key=secret",
            self.port.number()
        )
    }

    pub(crate) fn open(&mut self, world: &Arc<World>) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port.number()));
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&address.into()).expect("the own port");
        socket.listen(1024).expect("a listener");
        let listener = Arc::new(TcpListener::from(socket));
        let (accepting, world) = (Arc::clone(&listener), Arc::clone(world));
        let serving = Serving::new(&world);
        let thread = thread::spawn(move || {
            let _serving = serving;
            while let Ok((stream, _)) = accepting.accept() {
                let world = Arc::clone(&world);
                let rng = Rng::new(world.seed ^ world.id());
                let serving = Serving::new(&world);
                let connection = Connection { world, rng, stream };
                thread::Builder::new()
                    .stack_size(128 * 1024)
                    .spawn(move || {
                        let _serving = serving;
                        connection.serve();
                    })
                    .expect("a thread");
            }
        });
        self.acceptor = Some((listener, thread));
    }

    /// Takes no more connections; those that there are end with the gateway's side.
    pub(crate) fn shut(&mut self) {
        if let Some((listener, thread)) = self.acceptor.take() {
            SockRef::from(&*listener)
                .shutdown(Shutdown::Both)
                .expect("a listener");
            thread.join().expect("no panic");
        }
    }

    /// From now on it has this fault.
    pub(crate) fn set_fault(&mut self, world: &Arc<World>, fault: Fault) {
        world.set_backend_fault(fault);
        if fault == Fault::Refuse {
            self.shut();
        } else if self.acceptor.is_none() {
            self.open(world);
        }
    }

    /// Without a fault from now on.
    pub(crate) fn clear_fault(&mut self, world: &Arc<World>) {
        self.set_fault(world, Fault::Prompt);
    }
}

/// What becomes of the connection.
enum Next {
    Keep,
    End,
}

/// One callback.
struct Callback {
    is_connect: bool,
    token: String,
    url: String,
}

impl Callback {
    fn of(body: &[u8]) -> Callback {
        let json: Value = serde_json::from_slice(body).expect("a callback's JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Callback {
            is_connect: json["action"] == "connect",
            token: text(&json["token"]),
            url: text(&json["request"]["url"]),
        }
    }
}

/// One connection of the gateway.
struct Connection {
    world: Arc<World>,
    rng: Rng,
    stream: TcpStream,
}

impl Connection {
    fn serve(mut self) {
        let mut bytes = Vec::new();
        let mut closes_on_next = false;
        while let Some(body) = read_request(&mut self.stream, &mut bytes) {
            let callback = Callback::of(&body);
            if callback.is_connect {
                self.world.book.connect(&callback.token, &callback.url);
            } else {
                let json: Value = serde_json::from_slice(&body).expect("JSON");
                let reason = json["reason"].as_str().expect("a reason");
                self.world.book.disconnect(&callback.token, reason);
            }
            if closes_on_next {
                self.lose(&callback);
                return;
            }
            // Half of the callbacks meet no fault, so that streams open all the time.
            let fault = if self.rng.is_one_in(2) {
                Fault::Prompt
            } else {
                self.world.backend_fault()
            };
            closes_on_next = fault == Fault::CloseOnNext;
            if matches!(self.answer(fault, &callback), Next::End) {
                return;
            }
        }
    }

    fn answer(&mut self, fault: Fault, callback: &Callback) -> Next {
        match fault {
            Fault::Prompt | Fault::Refuse | Fault::CloseOnNext => self.accept(callback),
            Fault::Slow => {
                self.send_into_window(callback);
                self.world.pause(Duration::from_millis(50));
                self.accept(callback)
            }
            Fault::Late => {
                let length = self.rng.millis(6500);
                self.world.pause(length);
                self.accept(callback)
            }
            Fault::CloseAfter => {
                self.accept(callback);
                Next::End
            }
            Fault::Hang => {
                // Until the gateway has had enough.
                let _ = self.stream.read(&mut [0; 64]);
                Next::End
            }
            Fault::Half => self.half(callback),
            Fault::Endless => self.endless(callback),
            Fault::Garbage => {
                self.lose(callback);
                let _ = self.stream.write_all(b"\x16\x03\x01 what is this?\r\n\r\n");
                Next::End
            }
            Fault::Reset => {
                self.lose(callback);
                let socket = SockRef::from(&self.stream);
                socket.set_linger(Some(Duration::ZERO)).expect("an option");
                Next::End
            }
            Fault::Reject => {
                let status = self.rng.pick(&[403, 500, 401, 302, 304, 404, 599]);
                let length = if status == 304 { 0 } else { 2 };
                let body = &b"no"[..length];
                self.write_whole(callback, status, body)
            }
        }
    }

    /// It will get no whole answer head.
    fn lose(&self, callback: &Callback) {
        if !callback.is_connect {
            self.world.book.lose(&callback.token);
        }
    }

    fn accept(&mut self, callback: &Callback) -> Next {
        if callback.is_connect {
            self.world.book.say(&callback.token, Word::Yes);
        }
        let body = if callback.is_connect {
            answer_body(&callback.url)
        } else {
            ""
        };
        let status = if body.is_empty() { 204 } else { 200 };
        let next = self.write_whole(callback, status, body.as_bytes());
        if callback.is_connect && matches!(next, Next::End) {
            self.world.book.say(&callback.token, Word::Perhaps);
        }
        next
    }

    /// An answer that the gateway can take for nothing else.
    fn write_whole(&mut self, callback: &Callback, status: u16, body: &[u8]) -> Next {
        let next = self.write_answer(status, body.len(), body);
        if !callback.is_connect && matches!(next, Next::Keep) {
            self.world.book.note_answered(&callback.token, status);
        }
        next
    }

    fn write_answer(&mut self, status: u16, length: usize, body: &[u8]) -> Next {
        let length = match status {
            204 => String::new(),
            _ => format!("Content-Length: {length}\r\n"),
        };
        let head = format!("HTTP/1.1 {status} Status\r\n{length}\r\n");
        match self.stream.write_all(&[head.as_bytes(), body].concat()) {
            Ok(()) => Next::Keep,
            Err(_) => Next::End,
        }
    }

    fn half(&mut self, callback: &Callback) -> Next {
        if self.rng.is_one_in(2) {
            self.lose(callback);
            let _ = self.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
        } else {
            if callback.is_connect {
                self.world.book.say(&callback.token, Word::Perhaps);
            }
            self.write_answer(200, 10, b"{\"ev");
        }
        Next::End
    }

    /// A quick one passes the limit of a body, which is an answer; a slow one takes too long.
    fn endless(&mut self, callback: &Callback) -> Next {
        if callback.is_connect {
            self.world.book.say(&callback.token, Word::Perhaps);
        }
        let is_quick = self.rng.is_one_in(2);
        let part = vec![b' '; if is_quick { 64 * 1024 } else { 16 }];
        let _ = self.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while self.stream.write_all(&part).is_ok() {
            if !is_quick {
                self.world.pause(Duration::from_millis(100));
                // Without the pause at the soak's end this would be a quick one.
                if !self.world.is_on() {
                    break;
                }
            }
        }
        Next::End
    }

    /// Three events while the callback is out: buffered, unless the client has left.
    fn send_into_window(&mut self, callback: &Callback) {
        if !callback.is_connect || !callback.url.contains("window") {
            return;
        }
        let mut publisher = Client::connect(self.world.port);
        for at in 0..3 {
            let command = json!({"token": callback.token, "event": {"data": format!("w{at}")}});
            publisher.post(command.to_string().as_bytes());
        }
        let statuses = [(); 3].map(|()| publisher.read_response().status());
        let buffered = statuses.iter().filter(|status| **status == 200).count();
        let is_in_order = statuses.is_sorted();
        if !is_in_order || statuses.iter().any(|status| ![200, 404].contains(status)) {
            self.world
                .report(format!("{}: window {statuses:?}", callback.token));
        }
        self.world
            .book
            .note_window(&callback.token, buffered as u64);
    }
}

/// What a target asks its connect's answer to direct.
pub(crate) fn answer_body(url: &str) -> &'static str {
    match url.rsplit_once("answer=") {
        Some((_, "event")) => r#"{"event":{"name":"greeting","data":"hello"}}"#,
        Some((_, "close")) => r#"{"event":{"name":"greeting","data":"hello"},"close":true}"#,
        Some((_, "bad")) => r#"{"event":7,"close":"#,
        _ => "",
    }
}

/// The body of the next request; `None` at the connection's end.
fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut room = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            let total = end + 4 + length;
            if bytes.len() >= total {
                let body = bytes[end + 4..total].to_vec();
                bytes.drain(..total);
                return Some(body);
            }
        }
        match stream.read(&mut room) {
            Ok(n @ 1..) => bytes.extend_from_slice(&room[..n]),
            _ => return None,
        }
    }
}
