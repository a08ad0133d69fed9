//! What clients do: connect, ask, send in pieces, read slowly, leave.

use std::time::Duration;

use ssegateway::callback::Reason;
use ssegateway::gateway::{Broken, Scope};

use super::super::choices::Choices;
use super::super::peer::{Asked, Peer, Takes, What};
use super::World;

/// Clients at once; more are not taken in.
const MOST_PEERS: usize = 10;

impl<C: Choices> World<C> {
    pub(super) fn accept(&mut self) {
        let alive = self.peers.iter().filter(|peer| !peer.is_gone).count();
        if alive >= MOST_PEERS {
            return;
        }
        let scope = self.scope();
        if !self.find_place(scope) {
            return;
        }
        let id = self.gw.accept((), scope, self.now);
        let is_noise = self.choices.one_in(12);
        let peer = Peer::new(id, scope, is_noise, self.now);
        self.peers.push(peer);
        self.step(None, |_, _| {});
    }

    /// A client that can still speak.
    fn speaker(&mut self) -> Option<usize> {
        let can = |peer: &Peer| !peer.is_gone && !peer.is_fin_sent;
        let all: Vec<usize> = (0..self.peers.len())
            .filter(|&at| can(&self.peers[at]))
            .collect();
        (!all.is_empty()).then(|| *self.choices.pick(&all))
    }

    /// A client writes one request or several; they are delivered at once or later, in pieces.
    pub(super) fn ask(&mut self) {
        let Some(at) = self.speaker().filter(|&at| !self.peers[at].is_noise) else {
            return;
        };
        let is_behind = |asked: &Asked| matches!(asked.what, What::Stream { .. });
        if self.peers[at].asked.last().is_some_and(is_behind) && !self.choices.one_in(4) {
            return;
        }
        for _ in 0..*self.choices.pick(&[1, 1, 1, 2, 5, 12]) {
            let scope = self.peers[at].scope;
            let what = self.what(scope);
            let bytes = self.request(at, &what);
            let peer = &mut self.peers[at];
            peer.unread.extend(bytes);
            let end = peer.delivered + peer.unread.len();
            // Little is sent behind it: that is discarded, and then the client is dropped.
            let is_last = matches!(what, What::Stream { .. });
            peer.asked.push(Asked { what, end });
            peer.is_readable = true;
            if is_last && !self.choices.one_in(8) {
                break;
            }
        }
        if !self.choices.one_in(3) {
            self.deliver(at, usize::MAX);
        }
    }

    /// Mostly what the client's listener takes.
    fn what(&mut self, scope: Scope) -> What {
        match (self.any(), scope) {
            (What::Send(_), Scope::Public) if !self.choices.one_in(8) => What::Stream {
                is_old: self.choices.one_in(4),
            },
            (What::Stream { .. }, Scope::Internal) if !self.choices.one_in(8) => {
                What::Send(self.command())
            }
            (what, _) => what,
        }
    }

    fn any(&mut self) -> What {
        match self.choices.below(20) {
            0..=1 => What::Health,
            2 => What::Ready,
            3 => What::Nowhere,
            4 => What::NotAllowed,
            5 => What::BadCommand,
            6..=10 => What::Stream {
                is_old: self.choices.one_in(4),
            },
            11 if self.choices.one_in(4) => What::Malformed,
            _ => What::Send(self.command()),
        }
    }

    fn request(&mut self, at: usize, what: &What) -> Vec<u8> {
        let number = self.peers[at].asked.len();
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into();
        match what {
            What::Health => get("/healthz"),
            What::Ready => get("/readyz"),
            What::Nowhere => "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".into(),
            What::NotAllowed => "DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            What::BadCommand => self.post("{\"token\":7}"),
            What::Stream { is_old } => {
                let accept = match self.refuses_by_stream {
                    true => "Accept: text/event-stream\r\n",
                    false => "",
                };
                let rest = match is_old {
                    true => "HTTP/1.0\r\nConnection: keep-alive",
                    false => "HTTP/1.1\r\nHost: h",
                };
                format!("GET /s/{at}/{number} {rest}\r\n{accept}\r\n").into()
            }
            What::Malformed => "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n".into(),
            What::Send(command) => {
                let body = command.json(|token| self.name(token));
                self.post(&body)
            }
        }
    }

    /// A send; a chunk may end within a character.
    fn post(&mut self, body: &str) -> Vec<u8> {
        let (body, length) = (body.as_bytes(), body.len());
        let start = "POST /internal/send HTTP/1.1\r\nHost: h\r\n";
        match self.choices.below(6) {
            0 => {
                let (one, two) = body.split_at(length / 2);
                let start = format!(
                    "{start}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    one.len()
                );
                let between = format!("\r\n{:x};x\r\n", two.len());
                let parts = [
                    start.as_bytes(),
                    one,
                    between.as_bytes(),
                    two,
                    b"\r\n0\r\n\r\n",
                ];
                parts.concat()
            }
            1 => [
                format!("{start}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
                    .as_bytes(),
                body,
            ]
            .concat(),
            _ => [
                format!("{start}Content-Length: {length}\r\n\r\n").as_bytes(),
                body,
            ]
            .concat(),
        }
    }

    pub(super) fn deliver_some(&mut self) {
        let waiting = |peer: &Peer| peer.is_readable && !peer.is_gone;
        let all: Vec<usize> = (0..self.peers.len())
            .filter(|&at| waiting(&self.peers[at]))
            .collect();
        if !all.is_empty() {
            let at = *self.choices.pick(&all);
            let most = *self.choices.pick(&[1, 7, 60, 400, usize::MAX]);
            self.deliver(at, most);
        }
    }

    /// The loop reads from a client, at most so many bytes.
    fn deliver(&mut self, at: usize, most: usize) {
        let peer = &mut self.peers[at];
        if peer.is_gone || !peer.is_readable {
            return;
        }
        if !self.gw.wants_input(peer.id) {
            // This readiness is spent; an effect has to tell when to read again.
            peer.is_readable = false;
            return;
        }
        let count = peer.unread.len().min(most);
        let bytes: Vec<u8> = peer.unread.drain(..count).collect();
        let id = peer.id;
        peer.delivered += count;
        if count > 0 {
            // Empty lines ask for nothing, and end no silence.
            if bytes.iter().any(|byte| !b"\r\n".contains(byte)) {
                peer.last_active = self.now;
            }
            self.step(Some(at), |gw, now| gw.bytes(id, &bytes, now));
        } else if peer.is_fin_sent && !peer.is_fin_read {
            peer.is_fin_read = true;
            self.leave(at, Reason::ClientClosed);
            self.step(Some(at), |gw, now| gw.eof(id, now));
        } else {
            peer.is_readable = false;
        }
    }

    pub(super) fn leave(&mut self, at: usize, reason: Reason) {
        for token in self
            .tokens
            .iter_mut()
            .filter(|token| token.peer == Some(at))
        {
            token.end(reason);
        }
    }

    pub(super) fn fin(&mut self) {
        if let Some(at) = self.speaker() {
            self.peers[at].is_fin_sent = true;
            self.peers[at].is_readable = true;
        }
    }

    pub(super) fn break_one(&mut self) {
        let Some(at) = self.speaker() else {
            return;
        };
        let (how, reason) = *self.choices.pick(&[
            (Broken::Reset, Reason::ClientClosed),
            (Broken::Vanished, Reason::Error),
            (Broken::WriteFailed, Reason::Error),
        ]);
        self.peers[at].is_broken = true;
        self.leave(at, reason);
        let id = self.peers[at].id;
        self.step(Some(at), |gw, now| gw.broken(id, how, now));
    }

    pub(super) fn change_takes(&mut self) {
        let Some(at) = self.speaker() else {
            return;
        };
        let takes = match self.choices.below(8) {
            0..=2 => Takes::Bytes(0),
            3..=4 => Takes::Bytes(1 + self.choices.below(500) as usize),
            5 => Takes::Fails,
            _ => Takes::All,
        };
        self.peers[at].takes = takes;
        let id = self.peers[at].id;
        if takes != Takes::Bytes(0) {
            self.peers[at].is_blocked = false;
            self.step(Some(at), |gw, now| gw.writable(id, now));
        }
    }

    pub(super) fn pass(&mut self) {
        let time = *self
            .choices
            .pick(&[1, 1, 60, 60, 900, 900, 2_000, 5_000, 15_000, 31_000, 90_000]);
        self.now = self.now + Duration::from_millis(time);
        self.step(None, |gw, now| {
            gw.tick(now);
        });
    }

    /// A client that keeps to nothing.
    pub(super) fn noise(&mut self) {
        let Some(at) = self.speaker().filter(|&at| self.peers[at].is_noise) else {
            return;
        };
        const WORDS: [&str; 12] = [
            "GET /x HTTP/1.1\r\n",
            "Host: h\r\n",
            "\r\n",
            "\r",
            "POST /internal/send HTTP/1.1\r\n",
            "Content-Length: 20\r\n",
            "Transfer-Encoding: chunked\r\n",
            "5\r\nabcde\r\n0\r\n\r\n",
            "{\"token\":\"x\"}",
            "\0",
            "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "Expect: 100-continue\r\n",
        ];
        let peer_bytes: Vec<u8> = (0..1 + self.choices.below(6))
            .flat_map(|_| self.choices.pick(&WORDS).bytes())
            .collect();
        self.peers[at].unread.extend(peer_bytes);
        self.peers[at].is_readable = true;
        self.deliver(at, usize::MAX);
    }
}
