//! Plays the shell for one gateway: hands in what happens, carries out the effects, keeps what
//! each client was given. The clock is a number; nothing waits.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ssegateway::callback::{Action, CallbackResult, Job, JobId, Outcome, Reason};
use ssegateway::config::Limits;
use ssegateway::gateway::{
    Broken, ConnId, Effect, Gateway, MOST_PIECES, Measures, Scope, Settings,
};
use ssegateway::time::Time;
use ssegateway::wire::{Directives, Event, Joins};

use super::capture;

pub(crate) const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// How much of the next writes a client's socket takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Takes {
    All,
    /// So many bytes, then it is full.
    Bytes(usize),
    /// Writing fails.
    Fails,
}

/// An effect that is no write, as the tests name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Did {
    Read(ConnId),
    Fin(ConnId),
    Abort(ConnId),
    Connect,
    Disconnect(Reason),
    Withdraw(JobId),
}

#[derive(Debug)]
struct Client {
    takes: Takes,
    got: Vec<u8>,
    /// How many bytes each write took.
    writes: Vec<usize>,
}

pub(crate) struct Script {
    pub(crate) gw: Gateway<()>,
    pub(crate) now: Time,
    /// Whether the workers give back a connect callback that is withdrawn.
    pub(crate) gives_back: bool,
    /// Whether the workers' queue is full.
    pub(crate) is_queue_full: bool,
    /// What is drawn next, and until it is set anew.
    pub(crate) drawn: Rc<Cell<u64>>,
    clients: HashMap<ConnId, Client>,
    done: Vec<Did>,
    jobs: VecDeque<Job>,
}

pub(crate) fn settings() -> Settings {
    Settings::new(Limits::default())
}

/// Bytes for tokens: a number, which is another one each time. What is drawn otherwise is the test's.
fn numbered(drawn: Rc<Cell<u64>>) -> impl FnMut(&mut [u8]) {
    let mut number = 0_u128;
    move |bytes| {
        if bytes.len() == size_of::<u64>() {
            return bytes.copy_from_slice(&drawn.get().to_le_bytes());
        }
        number += 1;
        bytes.copy_from_slice(&number.to_be_bytes()[..bytes.len()]);
    }
}

impl Script {
    pub(crate) fn new() -> Script {
        Script::with(settings())
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut Limits)) -> Script {
        let mut settings = settings();
        change(&mut settings.limits);
        Script::with(settings)
    }

    pub(crate) fn with(settings: Settings) -> Script {
        capture::install();
        let drawn = Rc::new(Cell::new(0));
        let mut gw = Gateway::new(settings, numbered(Rc::clone(&drawn)));
        gw.set_date(DATE.as_bytes().try_into().unwrap());
        Script {
            gw,
            now: Time(1_000),
            gives_back: false,
            is_queue_full: false,
            drawn,
            clients: HashMap::new(),
            done: Vec::new(),
            jobs: VecDeque::new(),
        }
    }

    // ---- what happens ----

    pub(crate) fn open(&mut self) -> ConnId {
        self.open_in(Scope::Whole)
    }

    pub(crate) fn open_in(&mut self, scope: Scope) -> ConnId {
        let id = self.gw.accept((), scope, self.now);
        let client = Client {
            takes: Takes::All,
            got: Vec::new(),
            writes: Vec::new(),
        };
        self.clients.insert(id, client);
        self.settle();
        id
    }

    pub(crate) fn bytes(&mut self, id: ConnId, bytes: impl AsRef<[u8]>) {
        self.gw.bytes(id, bytes.as_ref(), self.now);
        self.settle();
    }

    pub(crate) fn eof(&mut self, id: ConnId) {
        self.gw.eof(id, self.now);
        self.settle();
    }

    pub(crate) fn broken(&mut self, id: ConnId, how: Broken) {
        self.gw.broken(id, how, self.now);
        self.settle();
    }

    /// Sets how much the client's socket takes from now on, and says so to the gateway.
    pub(crate) fn takes(&mut self, id: ConnId, takes: Takes) {
        self.clients.get_mut(&id).unwrap().takes = takes;
        if takes != Takes::Bytes(0) {
            self.writable(id);
        }
    }

    /// The socket is said to take bytes again, whether it does or not.
    pub(crate) fn writable(&mut self, id: ConnId) {
        self.gw.writable(id, self.now);
        self.settle();
    }

    /// Time passes, and the loop wakes whenever a deadline says so.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.gw.deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.tick();
        }
        self.now = until;
        self.tick();
    }

    /// Time passes without the loop ever waking.
    pub(crate) fn jump(&mut self, time: Duration) {
        self.now = self.now + time;
        self.tick();
    }

    fn tick(&mut self) {
        let mut is_more = true;
        while is_more {
            is_more = self.gw.tick(self.now);
            self.settle();
        }
    }

    /// One turn's part of what is on its way to many.
    pub(crate) fn fan_out(&mut self) {
        self.gw.fan_out(self.now);
        self.settle();
    }

    pub(crate) fn shutdown(&mut self) {
        self.gw.shutdown(self.now);
        self.settle();
    }

    pub(crate) fn result(&mut self, job: &Job, outcome: Outcome) {
        let result = CallbackResult {
            id: job.id,
            token: job.token,
            action: job.action,
            outcome,
            took: Duration::ZERO,
        };
        self.gw.result(result, self.now);
        self.settle();
    }

    // ---- steps that many scripts share ----

    /// The callback that the gateway made next, oldest first.
    pub(crate) fn job(&mut self) -> Job {
        self.jobs.pop_front().expect("a callback")
    }

    /// A client whose request for a stream the backend has not answered.
    pub(crate) fn await_callback(&mut self) -> (ConnId, Job) {
        let id = self.open();
        self.bytes(id, GET);
        let job = self.jobs.pop_back().expect("a callback");
        assert!(matches!(job.action, Action::Connect { .. }));
        (id, job)
    }

    /// A client with an open stream, its head already taken from what it got.
    pub(crate) fn stream(&mut self) -> (ConnId, Job) {
        let (id, job) = self.await_callback();
        self.result(&job, accepted());
        assert_eq!(self.got(id), STREAM_HEAD);
        self.did();
        (id, job)
    }

    /// A send's answer in short.
    pub(crate) fn send(&mut self, publisher: ConnId, body: &str) -> String {
        self.bytes(publisher, post(body));
        self.answers(publisher)
    }

    /// The same for an event that is handed on; the bytes that are left unsent for its stream.
    pub(crate) fn sent(&mut self, publisher: ConnId, body: &str) -> usize {
        let answer = self.send(publisher, body);
        let json = answer.strip_prefix("200 ").expect("a send that is taken");
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(json["status"], "ok", "{json}");
        let queued = json.get("queued").map(|it| it.as_u64().expect("a number"));
        assert_ne!(queued, Some(0));
        queued.unwrap_or(0) as usize
    }

    // ---- what became of it ----

    /// The bytes that a client got since the last look.
    pub(crate) fn got(&mut self, id: ConnId) -> String {
        let bytes = std::mem::take(&mut self.clients.get_mut(&id).unwrap().got);
        String::from_utf8(bytes).unwrap()
    }

    /// Sizes of the writes since the last look.
    pub(crate) fn writes(&mut self, id: ConnId) -> Vec<usize> {
        std::mem::take(&mut self.clients.get_mut(&id).unwrap().writes)
    }

    /// The answers that a client got since the last look, in short: see [`in_short`].
    pub(crate) fn answers(&mut self, id: ConnId) -> String {
        in_short(&self.got(id))
    }

    /// The effects since the last look, writes left out.
    pub(crate) fn did(&mut self) -> Vec<Did> {
        std::mem::take(&mut self.done)
    }

    pub(crate) fn is_closed(&self, id: ConnId) -> bool {
        self.gw.at(id.index()) != Some(id)
    }

    // ---- the shell's part ----

    fn settle(&mut self) {
        while let Some(effect) = self.gw.effect() {
            match effect {
                Effect::TrimHeap => {}
                Effect::Measure(id) => {
                    let measures = Measures::default();
                    self.gw.measured(id, &measures, self.now);
                }
                Effect::Flush(id) => self.flush(id),
                Effect::Read(id) => self.done.push(Did::Read(id)),
                Effect::Fin(id) => {
                    assert!(self.gw.output(id).is_none(), "bytes behind the FIN");
                    self.done.push(Did::Fin(id));
                }
                Effect::Abort(id) => {
                    assert!(self.gw.io(id).is_some(), "a socket to abort");
                    self.done.push(Did::Abort(id));
                }
                Effect::Call(job) => self.call(job),
                Effect::Withdraw(job) => {
                    self.done.push(Did::Withdraw(job));
                    if self.gives_back {
                        self.gw.withdrawn(job);
                    }
                }
            }
        }
        if self.gw.is_looking() {
            self.gw.look_on(self.now);
            return self.settle();
        }
        self.gw.check_invariants();
        self.gw.reap();
    }

    fn flush(&mut self, id: ConnId) {
        let Some((_, output)) = self.gw.output(id) else {
            return;
        };
        let bytes = output
            .pieces()
            .take(MOST_PIECES)
            .collect::<Vec<_>>()
            .concat();
        let client = self.clients.get_mut(&id).unwrap();
        let n = match &mut client.takes {
            Takes::All => bytes.len(),
            Takes::Bytes(room) => {
                let n = bytes.len().min(*room);
                *room -= n;
                n
            }
            Takes::Fails => return self.gw.broken(id, Broken::WriteFailed, self.now),
        };
        client.got.extend_from_slice(&bytes[..n]);
        client.writes.push(n);
        self.gw.flushed(id, n, self.now);
    }

    fn call(&mut self, job: Job) {
        self.done.push(match job.action {
            Action::Connect { .. } => Did::Connect,
            Action::Disconnect { reason } => Did::Disconnect(reason),
        });
        if self.is_queue_full {
            let result = CallbackResult {
                id: job.id,
                token: job.token,
                action: job.action,
                outcome: Outcome::QueueFull,
                took: Duration::ZERO,
            };
            self.gw.result(result, self.now);
        } else {
            self.jobs.push_back(job);
        }
    }
}

// ---- requests ----

pub(crate) const GET: &str = "GET /s?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
pub(crate) const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

pub(crate) fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub(crate) fn event_for(job: &Job, data: &str) -> String {
    let token = job.token;
    format!("{{\"token\":\"{token}\",\"event\":{{\"data\":\"{data}\"}}}}")
}

pub(crate) fn close_for(job: &Job) -> String {
    format!("{{\"token\":\"{}\",\"close\":true}}", job.token)
}

pub(crate) fn event_and_close_for(job: &Job, data: &str) -> String {
    let token = job.token;
    format!("{{\"token\":\"{token}\",\"event\":{{\"data\":\"{data}\"}},\"close\":true}}")
}

// ---- what the backend says ----

pub(crate) fn status(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        directives: Directives::default(),
    }
}

pub(crate) fn accepted() -> Outcome {
    status(200)
}

/// `error`: why the body broke off, `None` if it was too slow.
pub(crate) fn unfinished(status: u16, error: Option<&str>) -> Outcome {
    Outcome::Unfinished {
        status,
        error: error.map(str::to_owned),
    }
}

pub(crate) fn directing(event: Option<(&str, &str)>, close: bool) -> Outcome {
    let event = event.map(|(name, data)| Event {
        name: name.to_owned().into(),
        data: data.to_owned().into(),
        ..Event::default()
    });
    Outcome::Answered {
        status: 200,
        directives: Directives {
            event: event.map(Box::new),
            close,
            ..Directives::default()
        },
    }
}

/// A 2xx whose stream joins these channels.
pub(crate) fn joining(channels: &[&str]) -> Outcome {
    let channels = channels.iter().map(|name| (*name).to_owned());
    let joins = Joins {
        channels: channels.collect(),
        last_event_id: None,
    };
    Outcome::Answered {
        status: 200,
        directives: Directives {
            joins: Some(Box::new(joins)),
            ..Directives::default()
        },
    }
}

// ---- what is expected ----

pub(crate) const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\n\
    Connection: keep-alive\r\n\
    X-Accel-Buffering: no\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

pub(crate) const BEAT: &str = "d\r\n: heartbeat\n\n\r\n";
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// The chunk that an event of one line and without a name takes.
pub(crate) fn chunk(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// Answers as `status body` or, for an error, `status CODE`; further words for what else its head
/// says. A body that does not have its stated length, or a message that is empty, panics.
pub(crate) fn in_short(mut bytes: &str) -> String {
    let mut short = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_once("\r\n\r\n").expect("a whole head");
        let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = &line["HTTP/1.1 ".len()..][..3];
        if status == "100" {
            short.push("100".to_owned());
            bytes = rest;
            continue;
        }
        let (mut length, mut marks) = (0, String::new());
        for field in fields.split("\r\n") {
            match field.split_once(": ").expect("a field") {
                ("Content-Length", value) => length = value.parse().unwrap(),
                ("Content-Type", value) => assert_eq!(value, "application/json"),
                ("Date", value) => assert_eq!(value, DATE),
                ("Connection", value) => marks += &format!(" {value}"),
                (name, value) => marks += &format!(" {name}={value}"),
            }
        }
        let (body, rest) = rest.split_at(length);
        short.push(format!("{status} {}{marks}", told(body)));
        bytes = rest;
    }
    short.join(" | ")
}

fn told(body: &str) -> &str {
    let Some(error) = body.strip_prefix("{\"error\":{\"message\":\"") else {
        return body;
    };
    let (message, code) = error.split_once("\",\"code\":\"").expect("a code");
    assert!(!message.is_empty() && !message.contains('"'), "{body}");
    code.strip_suffix("\"}}").expect("the end of an error")
}
