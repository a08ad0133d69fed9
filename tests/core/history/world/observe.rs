//! The shell's part, and what each client makes of what it gets.

use std::time::Duration;

use std::fmt;

use ssegateway::callback::{Action, CallbackResult, Job, Outcome, Reason};
use ssegateway::gateway::{ConnId, Effect, MOST_PIECES};
use uuid::Uuid;

use super::super::log::Log;
use super::super::reader::{self, Piece};
use super::{Conn, World};
use crate::laws::sim::choices::Choices;

/// What the shell did, in its order.
#[derive(Debug)]
pub(super) enum Trace {
    /// A client's socket was offered this and took the first bytes of it.
    Flushed {
        conn: ConnId,
        offered: Vec<u8>,
        taken: usize,
    },
    /// A FIN.
    Ended(ConnId),
    Aborted(ConnId),
    /// The backend is told of a stream's end.
    Gone {
        token: Uuid,
        reason: Reason,
    },
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trace::Flushed {
                conn,
                offered,
                taken,
            } => {
                let text = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes);
                    text.replace(" x", "").escape_debug().to_string()
                };
                let (took, left) = offered.split_at(*taken);
                write!(f, "{conn:?} {taken}: {} | {}", text(took), text(left))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl<C: Choices> World<C> {
    /// Carries out what the core asks for.
    pub(super) fn settle(&mut self) {
        while let Some(effect) = self.gw.effect() {
            match effect {
                Effect::Flush(id) => self.flush(id),
                Effect::Fin(id) => self.traces.push_back(Trace::Ended(id)),
                Effect::Abort(id) => self.traces.push_back(Trace::Aborted(id)),
                Effect::Call(job) => self.call(job),
                Effect::Read(_) | Effect::Withdraw(_) | Effect::TrimHeap => {}
                Effect::Measure(_) => unreachable!("nobody asks for figures"),
            }
        }
        self.gw.check_invariants();
        self.gw.reap();
    }

    fn flush(&mut self, id: ConnId) {
        let Some((_, output)) = self.gw.output(id) else {
            return;
        };
        let offered: Vec<u8> = output
            .pieces()
            .take(MOST_PIECES)
            .collect::<Vec<_>>()
            .concat();
        assert!(!offered.is_empty(), "an empty write");
        let mut conns = self.clients.iter_mut().filter_map(|it| it.conn.as_mut());
        let mut taken = offered.len();
        if let Some(conn) = conns.find(|conn| conn.id == id) {
            if let Some(room) = &mut conn.room {
                taken = taken.min(*room);
                *room -= taken;
            }
            conn.is_blocked = taken < offered.len();
            self.traces.push_back(Trace::Flushed {
                conn: id,
                offered,
                taken,
            });
        } else if self.probe == Some(id) {
            self.probed.extend(offered);
        } else if self.publisher == Some(id) {
            self.told.extend(offered);
        }
        self.gw.flushed(id, taken, self.now);
    }

    fn call(&mut self, job: Job) {
        if let Action::Disconnect { reason } = job.action {
            let entry = self.book.entry(job.token).or_default();
            assert!(entry.is_accepted, "a disconnect of what was not accepted");
            entry.disconnects += 1;
            let token = job.token;
            self.traces.push_back(Trace::Gone { token, reason });
            return self.result(&job, Outcome::TimedOut);
        }
        self.book.insert(job.token, super::Entry::default());
        self.calls.push_back(job);
    }

    /// What became of a callback; its consequences are not carried out.
    pub(super) fn result(&mut self, job: &Job, outcome: Outcome) {
        if let (Action::Connect { .. }, Some(200)) = (job.action, outcome.status()) {
            self.book.entry(job.token).or_default().is_accepted = true;
        }
        let result = CallbackResult {
            id: job.id,
            token: job.token,
            action: job.action,
            outcome,
            took: Duration::ZERO,
        };
        self.gw.result(result, self.now);
    }

    /// Has the clients read what they got.
    pub(super) fn look(&mut self) {
        let says_gap = |trace: &Trace| match trace {
            Trace::Flushed { offered, .. } => offered.windows(10).any(|it| it == b"event: gap"),
            _ => false,
        };
        if self.log.kept.is_none() && !self.is_ending && self.traces.iter().any(says_gap) {
            self.look_at_kept();
        }
        while let Some(trace) = self.traces.pop_front() {
            self.tell(|| trace.to_string());
            match trace {
                Trace::Flushed {
                    conn,
                    offered,
                    taken,
                } => self.got(conn, &offered, taken),
                Trace::Ended(id) | Trace::Aborted(id) => {
                    let is_whole = matches!(trace, Trace::Ended(_));
                    let mut conns = self.clients.iter_mut().filter_map(|it| it.conn.as_mut());
                    if let Some(conn) = conns.find(|conn| conn.id == id) {
                        conn.is_over = true;
                        let is_closed = conn.stream.is_open && conn.stream.ends.is_some();
                        if conn.is_old && is_whole && is_closed {
                            conn.stream.end(&self.log);
                        }
                    }
                }
                Trace::Gone { token, reason } => self.gone(token, reason),
            }
        }
        for at in 0..self.clients.len() {
            if self.clients[at]
                .conn
                .as_ref()
                .is_some_and(|conn| conn.is_over)
            {
                self.leave(at);
            }
        }
    }

    fn gone(&mut self, token: Uuid, reason: Reason) {
        let mut conns = self.clients.iter_mut().filter_map(|it| it.conn.as_mut());
        if let Some(conn) = conns.find(|conn| conn.token == token) {
            assert!(conn.stream.is_open, "the end of what never was open");
            let is_asked = conn.stream.ends.is_some();
            match reason {
                Reason::ServerClosed => assert!(is_asked, "an end that nobody asked for"),
                Reason::ClientClosed | Reason::Error => conn.is_over = true,
            }
            conn.stream.is_ended = true;
        }
    }

    /// A client's socket was offered bytes and took some.
    fn got(&mut self, id: ConnId, offered: &[u8], taken: usize) {
        let is_its = |conn: &Conn| conn.id == id;
        let mut clients = self.clients.iter_mut();
        let client = clients.find(|client| client.conn.as_ref().is_some_and(is_its));
        if let Some(client) = client
            && let Some(conn) = &mut client.conn
        {
            let got = conn.got(offered, taken, self.known, &self.log);
            client.last_id = got.last_id.or(client.last_id.take());
            if got.is_overtaken {
                self.note("gap on the way");
            }
        }
    }
}

/// What came of some bytes.
#[derive(Default)]
struct Got {
    last_id: Option<String>,
    /// Something is forgotten that was to come.
    is_overtaken: bool,
}

impl Conn {
    fn got(&mut self, offered: &[u8], taken: usize, known: u64, log: &Log) -> Got {
        let mut got = Got::default();
        let mut all = std::mem::take(&mut self.rest);
        let mut end = all.len() + taken;
        all.extend_from_slice(offered);
        let mut head = 0;
        if !self.has_head {
            let found = all.windows(4).position(|four| four == b"\r\n\r\n");
            head = found.expect("a whole head is offered") + 4;
            if !all.starts_with(b"HTTP/1.1 200 ") {
                (self.is_over, self.stream.is_ended) = (true, true);
                assert!(!self.stream.is_open, "refused, and yet it is open");
                return got;
            }
        }
        let (offered, is_cut) = pieces(&all[head..], self.is_old);
        got.is_overtaken = self.stream.look_for_gap(&offered, log);
        if end < head {
            self.stream.offer(&offered, is_cut, log);
            self.rest = all[..end].to_vec();
            return got;
        }
        self.has_head = true;
        all.drain(..head);
        end -= head;
        let at = self.read(&all, end, known, log, &mut got);
        let (left, is_cut) = pieces(&all[at..], self.is_old);
        self.stream.offer(&left, is_cut, log);
        self.rest = all[at..end].to_vec();
        got
    }

    /// Takes the whole pieces among the first `end` bytes, and gives how many bytes these are.
    fn read(&mut self, all: &[u8], end: usize, known: u64, log: &Log, got: &mut Got) -> usize {
        let mut at = 0;
        while at < end {
            match reader::next(&all[at..], self.is_old) {
                Some((piece, length)) if at + length <= end => {
                    at += length;
                    self.take(&piece, known, log);
                    let id = match piece {
                        Piece::Event(seen) => seen.id,
                        Piece::Position(id) => Some(id),
                        _ => None,
                    };
                    got.last_id = id.or(got.last_id.take());
                    continue;
                }
                Some((Piece::Position(id), _)) if !self.is_position_begun => {
                    self.stream.position(&id, log);
                    self.is_position_begun = true;
                }
                Some((Piece::Position(_) | Piece::Retry(_) | Piece::Beat | Piece::End, _)) => {}
                _ => self.stream.begin_piece(),
            }
            break;
        }
        at
    }

    fn take(&mut self, piece: &Piece, known: u64, log: &Log) {
        assert!(!self.is_over, "{piece:?} behind the end");
        match piece {
            Piece::Event(seen) => self.stream.event(seen, known, log),
            Piece::Position(id) => {
                if !std::mem::take(&mut self.is_position_begun) {
                    self.stream.position(id, log);
                }
            }
            Piece::Retry(millis) => self.stream.words(*millis),
            Piece::Beat => {}
            Piece::End => {
                self.stream.end(log);
                self.is_over = true;
            }
        }
    }
}

/// The whole pieces at the front, and whether there is more.
fn pieces(mut text: &[u8], is_old: bool) -> (Vec<Piece>, bool) {
    let mut pieces = Vec::new();
    while let Some((piece, length)) = reader::next(text, is_old) {
        pieces.push(piece);
        text = &text[length..];
    }
    (pieces, !text.is_empty())
}
