//! A gateway of streams without sockets, as large as one likes: every client takes all that comes, and
//! every backend says yes.

use std::time::Duration;

use ssegateway::callback::{Action, CallbackResult, Job, Outcome};
use ssegateway::config::Limits;
use ssegateway::gateway::{ConnId, Effect, Gateway, Measures, Scope, Settings};
use ssegateway::time::Time;
use ssegateway::wire::{Directives, Joins};

pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Makes consecutive numbers differ in every byte, and no two of them alike: tokens are found by their
/// bits, which are to be as good as random.
const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

pub struct House {
    pub gateway: Gateway<()>,
    pub now: Time,
    /// Of the streams that it was opened with.
    pub tokens: Vec<String>,
    pub publisher: ConnId,
    /// Bytes so far.
    pub written: usize,
    /// What the publisher was written last, if that is kept.
    pub answer: Option<Vec<u8>>,
    /// Bytes that a stream's socket takes of one write.
    pub takes: usize,
    /// Those that took less than they were offered.
    pub blocked: Vec<ConnId>,
    /// Turns that looks have had.
    pub turns: usize,
}

impl House {
    /// Streams that are open, and somebody to send to them.
    pub fn of(streams: usize) -> House {
        let settings = Settings {
            heartbeat: HEARTBEAT,
            ..Settings::new(Limits {
                max_connections: 1_000_000,
                max_streams: 1_000_000,
                ..Limits::default()
            })
        };
        let mut issued = 0_u128;
        let mut gateway = Gateway::new(settings, move |bytes| {
            issued += 1;
            bytes.copy_from_slice(&issued.wrapping_mul(ODD).to_le_bytes()[..bytes.len()]);
        });
        let publisher = gateway.accept((), Scope::Whole, Time(0));
        let mut house = House {
            gateway,
            now: Time(0),
            tokens: Vec::new(),
            publisher,
            written: 0,
            answer: None,
            takes: usize::MAX,
            blocked: Vec::new(),
            turns: 0,
        };
        for _ in 0..streams {
            let (_, token) = house.open(&[]);
            house.tokens.push(token);
        }
        house
    }

    /// One more stream, in these channels.
    pub fn open(&mut self, channels: &[&str]) -> (ConnId, String) {
        let id = self.gateway.accept((), Scope::Whole, self.now);
        let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        self.gateway.bytes(id, request, self.now);
        let job = self.settle().expect("a connect callback");
        let token = job.token.to_string();
        let joins = (!channels.is_empty()).then(|| {
            let channels = channels.iter().map(|name| (*name).to_owned()).collect();
            Box::new(Joins {
                channels,
                last_event_id: None,
            })
        });
        self.answer(job, joins);
        self.settle();
        (id, token)
    }

    fn answer(&mut self, job: Job, joins: Option<Box<Joins>>) {
        let result = CallbackResult {
            id: job.id,
            token: job.token,
            action: job.action,
            outcome: Outcome::Answered {
                status: 200,
                directives: Directives {
                    joins,
                    ..Directives::default()
                },
            },
            took: Duration::ZERO,
        };
        self.gateway.result(result, self.now);
    }

    /// A stream's client leaves.
    pub fn leave(&mut self, id: ConnId) {
        self.gateway.eof(id, self.now);
        self.settle();
    }

    /// Carries out what the core asks for; every socket takes all. Gives the last connect callback.
    pub fn settle(&mut self) -> Option<Job> {
        let mut called = None;
        loop {
            let Some(effect) = self.gateway.effect() else {
                if !self.gateway.is_looking() {
                    return called;
                }
                self.turns += 1;
                self.gateway.look_on(self.now);
                continue;
            };
            match effect {
                Effect::Flush(id) => self.flush(id),
                // It is given all that there is at once.
                Effect::Read(_) => {}
                Effect::Call(job) if matches!(job.action, Action::Connect { .. }) => {
                    called = Some(job);
                }
                Effect::Call(job) => self.answer(job, None),
                Effect::Measure(id) => {
                    let measures = Measures::default();
                    self.gateway.measured(id, &measures, self.now);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn flush(&mut self, id: ConnId) {
        let mut length = 0;
        if let Some((_, output)) = self.gateway.output(id) {
            length = output.len();
            if id != self.publisher && length > self.takes {
                length = self.takes;
                self.blocked.push(id);
            }
            if id == self.publisher
                && let Some(answer) = &mut self.answer
            {
                output.pieces().for_each(|it| answer.extend_from_slice(it));
            }
        }
        self.written += length;
        self.gateway.flushed(id, length, self.now);
    }

    /// What the publisher, or an operator, has to say.
    pub fn send(&mut self, requests: &[u8]) {
        self.gateway.bytes(self.publisher, requests, self.now);
        self.settle();
    }

    /// The body of the answer to a look.
    #[track_caller]
    pub fn look(&mut self, target: &str) -> String {
        self.answer = Some(Vec::new());
        self.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = self.answer.take().unwrap_or_default();
        let answer = String::from_utf8(answer).expect("UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        body.to_owned()
    }

    /// So long; every stream's heartbeats are written in their time.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.gateway.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.gateway.tick(self.now);
            self.settle();
        }
        self.now = until;
    }
}
