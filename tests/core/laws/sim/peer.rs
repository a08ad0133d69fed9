//! One client as the model sees it: what it asked, what it was given, and whether that fits.

use std::collections::VecDeque;

use ssegateway::gateway::{ConnId, Scope};
use ssegateway::time::Time;

use super::super::oracles::event_stream::{self, Dispatched};
use super::command::Command;

/// What a request is for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Health,
    Ready,
    Nowhere,
    NotAllowed,
    /// A send whose JSON is no command.
    BadCommand,
    Send(Command),
    Stream {
        is_old: bool,
    },
    /// Bytes that are no request.
    Malformed,
}

/// A request and where its bytes end in all that the client sent.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) what: What,
    pub(crate) end: usize,
}

/// How much the client's socket takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Takes {
    All,
    Bytes(usize),
    Fails,
}

/// An answer with its length stated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) is_last: bool,
}

/// What a client reads of its stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Event(Dispatched),
    /// How long to wait before coming again, without an event.
    Retry(u64),
    Beat,
    End,
}

/// What the client has read up to now, as far as its next piece is whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    Answers,
    Chunks,
    Plain,
    /// Nothing may follow.
    Over,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: ConnId,
    /// The listener that it came through.
    pub(crate) scope: Scope,
    /// Sends what it likes; its answers are not looked at.
    pub(crate) is_noise: bool,
    pub(crate) asked: Vec<Asked>,
    /// Written by the client, not yet read by the gateway.
    pub(crate) unread: VecDeque<u8>,
    /// The loop knows that there is something to read.
    pub(crate) is_readable: bool,
    pub(crate) is_fin_sent: bool,
    pub(crate) is_fin_read: bool,
    /// Bytes that the gateway has read.
    pub(crate) delivered: usize,
    /// Everything that was put out for the client, taken by its socket or not.
    pub(crate) given: Vec<u8>,
    /// How much of it the socket took.
    pub(crate) taken: usize,
    /// How much of it the socket had not taken when the step began.
    pub(crate) untaken_before: usize,
    /// When the socket took some of it, or some came into the empty queue.
    pub(crate) progress: Time,
    /// How much of it was looked at: all answers, and of a stream what the socket took as a whole.
    pub(crate) looked_at: usize,
    /// The socket took less than it was offered.
    pub(crate) is_blocked: bool,
    pub(crate) reading: Reading,
    /// A stream's head came.
    pub(crate) has_stream: bool,
    /// A stream came that refuses one, and its end with it.
    pub(crate) is_refused: bool,
    pub(crate) answered: usize,
    /// How many answers there were when the step began.
    pub(crate) answered_before: usize,
    /// When it was served last, as far as that can be seen: the number of that call.
    pub(crate) served: u64,
    pub(crate) served_in: u64,
    /// It had a whole request without an answer.
    pub(crate) waited: bool,
    /// Requests wait until it reads its answers.
    pub(crate) is_paused: bool,
    /// The event of its next unanswered send was seen on its way.
    pub(crate) is_tried: bool,
    pub(crate) takes: Takes,
    pub(crate) has_fin: bool,
    pub(crate) is_aborted: bool,
    /// The client's side broke.
    pub(crate) is_broken: bool,
    /// The stream that it asked for last, by its place in the world's list.
    pub(crate) token: Option<usize>,
    pub(crate) last_active: Time,
    pub(crate) is_gone: bool,
}

impl Peer {
    pub(crate) fn new(id: ConnId, scope: Scope, is_noise: bool, now: Time) -> Peer {
        Peer {
            id,
            scope,
            is_noise,
            asked: Vec::new(),
            unread: VecDeque::new(),
            is_readable: false,
            is_fin_sent: false,
            is_fin_read: false,
            delivered: 0,
            given: Vec::new(),
            taken: 0,
            untaken_before: 0,
            progress: now,
            looked_at: 0,
            is_blocked: false,
            reading: Reading::Answers,
            has_stream: false,
            is_refused: false,
            answered: 0,
            answered_before: 0,
            served: 0,
            served_in: 0,
            waited: false,
            is_paused: false,
            is_tried: false,
            takes: Takes::All,
            has_fin: false,
            is_aborted: false,
            is_broken: false,
            token: None,
            last_active: now,
            is_gone: false,
        }
    }

    pub(crate) fn begin_step(&mut self) {
        self.untaken_before = self.untaken();
        self.answered_before = self.answered;
    }

    /// Requests that the gateway has read to their ends.
    pub(crate) fn whole(&self) -> usize {
        let whole = |asked: &&Asked| asked.end <= self.delivered;
        self.asked.iter().take_while(whole).count()
    }

    /// The oldest request that the gateway has read and not answered.
    pub(crate) fn next(&self) -> Option<&Asked> {
        let next = self.asked.get(self.answered);
        next.filter(|asked| asked.end <= self.delivered)
    }

    /// All requests of the kind.
    pub(crate) fn unserved(&self) -> impl Iterator<Item = &What> {
        let rest = self.asked[self.answered.min(self.whole())..self.whole()].iter();
        rest.map(|asked| &asked.what)
    }

    /// Bytes that the gateway has read and not answered; of noise, all of them.
    pub(crate) fn unanswered(&self) -> usize {
        self.behind(self.answered)
    }

    /// The same, with what was answered in this step.
    pub(crate) fn fresh(&self) -> usize {
        self.behind(self.answered_before)
    }

    fn behind(&self, answered: usize) -> usize {
        let end = match answered {
            0 => 0,
            n => self.asked[n - 1].end,
        };
        self.delivered.saturating_sub(end)
    }

    /// Bytes that were put out for the client and that its socket has not taken.
    pub(crate) fn untaken(&self) -> usize {
        self.given.len() - self.taken
    }

    /// Whether it waits between two requests, as far as the model can tell.
    pub(crate) fn is_idle(&self) -> bool {
        let is_served = self.reading == Reading::Answers && self.unanswered() == 0;
        is_served && !self.is_noise && !self.is_fin_read && self.untaken() == 0
    }

    /// Notes what waits for the client now. Answers never change; of a stream what has begun to be
    /// taken does not.
    pub(crate) fn observe(&mut self, output: &[u8]) {
        assert!(!self.has_fin || output.is_empty(), "bytes behind the FIN");
        if !self.has_stream {
            let known = &self.given[self.taken..];
            assert!(output.starts_with(known), "output was changed");
        }
        self.given.truncate(self.taken);
        self.given.extend_from_slice(output);
    }

    /// The next answer, once it is whole; turns to the stream when its head comes.
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        if self.reading != Reading::Answers {
            return None;
        }
        let text = &self.given[self.looked_at..];
        let end = text.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(text[..end].to_vec()).expect("a head in ASCII");
        let status: u16 = head[9..12].parse().expect("a status");
        if status == 100 {
            self.looked_at += end;
            return self.next_answer();
        }
        let is_asked = self.answered < self.asked.len();
        assert!(is_asked, "an answer that nothing asked for: {head}");
        if head.contains("text/event-stream") {
            self.answered += 1;
            let reading = match head.contains("Transfer-Encoding: chunked\r\n") {
                true => Reading::Chunks,
                false => Reading::Plain,
            };
            if let Some(answer) = refusal(&text[end..], reading) {
                self.looked_at = self.given.len();
                self.reading = Reading::Over;
                self.is_refused = true;
                return Some(answer);
            }
            self.looked_at += end;
            self.has_stream = true;
            self.reading = reading;
            return Some(Answer {
                status,
                body: String::new(),
                is_last: false,
            });
        }
        let length = head.split("Content-Length: ").nth(1).expect("a length");
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let body = String::from_utf8(text[end..end + length].to_vec()).unwrap();
        self.looked_at += end + length;
        self.answered += 1;
        let is_last = head.contains("Connection: close\r\n");
        if is_last {
            self.reading = Reading::Over;
        }
        Some(Answer {
            status,
            body,
            is_last,
        })
    }

    /// What was put out on the stream and not taken as a whole, each with its length in bytes.
    pub(crate) fn items(&self) -> Vec<(Item, usize)> {
        let mut items = Vec::new();
        let mut text = &self.given[self.looked_at..];
        while !text.is_empty() {
            let (content, used) = match self.reading {
                Reading::Chunks => chunk(text),
                _ => plain(text),
            };
            items.push((item(content), used));
            text = &text[used..];
        }
        items
    }
}

/// What a stream says that is a refusal, as the answer that it stands for. It is all there at once.
fn refusal(text: &[u8], reading: Reading) -> Option<Answer> {
    let (content, end) = match reading {
        _ if text.is_empty() => return None,
        Reading::Chunks => chunk(text),
        _ => plain(text),
    };
    let content = std::str::from_utf8(content).expect("UTF-8");
    let fields = content.strip_prefix("event: rejected\nretry: ")?;
    let (retry, data) = fields.split_once("\ndata: ").expect("data");
    let json: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let status = u16::try_from(json["status"].as_u64().expect("a number")).expect("a status");
    let retry: u32 = retry.parse().expect("a number");
    let may_pass = status == 429 || status >= 500;
    let drawn = if may_pass {
        1_000..=5_000
    } else {
        300_000..=600_000
    };
    assert!(drawn.contains(&retry), "{content}");
    let rest: &[u8] = if reading == Reading::Chunks {
        b"0\r\n\r\n"
    } else {
        b""
    };
    assert_eq!(&text[end..], rest, "more behind a refusal");
    let error = serde_json::json!({"error": {"message": json["message"], "code": json["code"]}});
    Some(Answer {
        status,
        body: error.to_string(),
        is_last: true,
    })
}

/// The content of the first chunk, and the bytes of all of it. One chunk holds one event or one
/// heartbeat.
fn chunk(text: &[u8]) -> (&[u8], usize) {
    let line = text.windows(2).position(|two| two == b"\r\n");
    let line = line.expect("a chunk's first line");
    let digits = std::str::from_utf8(&text[..line]).expect("a chunk size");
    let size = usize::from_str_radix(digits, 16).expect("a chunk size");
    let end = line + 2 + size;
    let content = text.get(line + 2..end).expect("a whole chunk");
    assert_eq!(text.get(end..end + 2), Some(&b"\r\n"[..]), "its end");
    (content, end + 2)
}

fn plain(text: &[u8]) -> (&[u8], usize) {
    let end = text.windows(2).position(|two| two == b"\n\n");
    let end = end.expect("a whole event") + 2;
    (&text[..end], end)
}

fn item(content: &[u8]) -> Item {
    let content = std::str::from_utf8(content).expect("UTF-8");
    if content.is_empty() {
        return Item::End;
    }
    assert!(content.ends_with("\n\n"), "{content:?}");
    let mut events = event_stream::read(content);
    let retry = content.strip_prefix("retry: ");
    let retry = retry.and_then(|rest| rest.strip_suffix("\n\n")?.parse().ok());
    match (events.pop(), retry) {
        (Some(event), None) if events.is_empty() => Item::Event(event),
        (None, Some(millis)) => Item::Retry(millis),
        (None, None) if content == ": heartbeat\n\n" => Item::Beat,
        _ => panic!("not one event: {content:?}"),
    }
}
