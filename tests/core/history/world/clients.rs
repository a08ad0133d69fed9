//! Clients come, are let in, read as they like, and go.

use std::time::Duration;

use ssegateway::callback::{Job, Outcome};
use ssegateway::gateway::{Broken, Scope};
use ssegateway::time::Time;
use ssegateway::wheel::TICK_MS;
use ssegateway::wire::{Directives, Event, Joins};

use super::super::log::{Arrival, Log};
use super::super::pending::What;
use super::super::stream::Stream;
use super::{CHANNELS, Client, Conn, World};
use crate::laws::sim::choices::Choices;

const NONSENSE: [&str; 8] = [
    "x",
    "0",
    "1-1",
    "-",
    "99999999999999-1",
    "Earliest",
    "1700000000000",
    "1700000000000-18446744073709551615",
];

impl<C: Choices> World<C> {
    /// What is next for a client: it comes, or is let in.
    pub(super) fn step(&mut self, at: usize) {
        match &self.clients[at].conn {
            None => self.connect(at),
            Some(conn) if conn.job.is_some() => self.answer(at),
            Some(_) => {}
        }
    }

    /// An id to begin behind, of any kind.
    pub(super) fn some_id(&mut self) -> String {
        let last = self.log.last();
        match self.choices.below(12) {
            0 => (*self.choices.pick(&NONSENSE)).to_owned(),
            1 if !self.foreign.is_empty() => self.choices.pick(&self.foreign).clone(),
            2 => "earliest".to_owned(),
            3 => String::new(),
            _ if !self.log.has_history => "1-1".to_owned(),
            4 => self.log.position_text(),
            5 => self.ahead(),
            _ if last == 0 => self.log.position_text(),
            choice => {
                let most = if choice < 9 { last.min(8) } else { last };
                let number = last - u64::from(self.choices.below(most as u32));
                self.log.at(number).id.clone().unwrap_or_default()
            }
        }
    }

    /// An id that is not given yet.
    fn ahead(&self) -> String {
        let mut id = self.log.position.unwrap_or(ssegateway::event_id::EventId {
            millis: 1,
            number: 1,
        });
        id.number += 1_000_000;
        id.to_string()
    }

    fn connect(&mut self, at: usize) {
        let header = match self.choices.below(10) {
            0..=6 => self.clients[at].last_id.clone(),
            7 | 8 => Some(self.some_id()),
            _ => None,
        };
        let is_old = self.choices.one_in(4);
        let version = if is_old { "1.0" } else { "1.1" };
        let mut request = format!("GET /s HTTP/{version}\r\nHost: h\r\n");
        if let Some(id) = &header {
            request += &format!("Last-Event-ID: {id}\r\n");
        }
        request += "\r\n";
        self.tell(|| format!("{at} connects {header:?}"));
        let id = self.gw.accept((), Scope::Whole, self.now);
        self.gw.bytes(id, request.as_bytes(), self.now);
        self.settle();
        let job = self.calls.pop_back().expect("a callback");
        let position = job.position.as_ref().map(|it| it.to_string());
        assert_eq!(position.unwrap_or_default(), self.log.position_text());
        let is_slow = self.choices.one_in(3);
        let room = is_slow.then(|| self.choices.below(400) as usize);
        self.clients[at].conn = Some(Conn {
            id,
            is_old,
            header: header.filter(|id| !id.is_empty()),
            room,
            is_blocked: false,
            rest: Vec::new(),
            has_head: false,
            is_position_begun: false,
            is_over: false,
            token: job.token,
            job: Some(job),
            stream: Stream::new(&self.log),
        });
        self.look();
    }

    /// Some of the channels, each once.
    pub(super) fn channels(&mut self) -> Vec<&'static str> {
        let mut names = CHANNELS.to_vec();
        for _ in 0..self.choices.below(5) {
            let at = self.choices.below(names.len() as u32) as usize;
            names.remove(at);
        }
        names
    }

    pub(super) fn some_key(&mut self) -> Option<&'static str> {
        let has_key = self.has_keys && self.choices.one_in(2);
        has_key.then(|| *self.choices.pick(&["k", "l"]))
    }

    fn answer(&mut self, at: usize) {
        self.know();
        let Some(conn) = &mut self.clients[at].conn else {
            return;
        };
        let Some(job) = conn.job.take() else {
            return;
        };
        if self.choices.one_in(12) {
            let status = *self.choices.pick(&[403, 500]);
            let directives = Directives::default();
            self.result(&job, Outcome::Answered { status, directives });
            self.settle();
            return self.look();
        }
        self.let_in(at, job);
    }

    fn let_in(&mut self, at: usize, job: Job) {
        let names = self.channels();
        let told = match self.choices.below(5) {
            0 => Some(self.some_id()),
            1 => Some(self.choices.pick(&["", "earliest"]).to_string()),
            _ => None,
        };
        let close = self.choices.one_in(25);
        let event = self.choices.one_in(4).then(|| {
            let data = format!("first {}", self.choices.below(1 << 30));
            (data, self.some_key())
        });
        let Some(conn) = &mut self.clients[at].conn else {
            return;
        };
        let Some((arrival, told)) = conn.arrival(&names, told, &self.log) else {
            // A current value of which nobody knows whether it is in the history.
            conn.job = Some(job);
            return;
        };
        let expires_in = self.choices.one_in(6).then(|| {
            let millis = *self.choices.pick(&[1, 700, 5_000, 20_000]);
            Duration::from_millis(millis)
        });
        let first_words = self.terms.retry.map(u64::from);
        let Some(conn) = &mut self.clients[at].conn else {
            return;
        };
        // Timers are no finer.
        let tick = |time: Time| Time(time.0.next_multiple_of(TICK_MS));
        conn.stream.expires = expires_in.map(|span| tick(self.now + span));
        conn.stream.first_words = first_words;
        let what = event.clone().map(|(data, key)| What::Answer { data, key });
        conn.stream.open(what, close, &arrival, &self.log);
        self.tell(|| format!("{at} opens {names:?} {told:?} {event:?} {close}: {arrival:?}"));
        if arrival.gap.is_some() {
            self.note("gap at the door");
        }
        let joins = Joins {
            channels: names.iter().map(|name| (*name).to_owned()).collect(),
            last_event_id: told,
        };
        let event = event.map(|(data, key)| {
            Box::new(Event {
                data: data.into(),
                key: key.map(Into::into),
                ..Event::default()
            })
        });
        let directives = Directives {
            event,
            close,
            joins: Some(Box::new(joins)),
            expires_in,
            ..Directives::default()
        };
        let outcome = Outcome::Answered {
            status: 200,
            directives,
        };
        self.result(&job, outcome);
        self.settle();
        self.note("opened");
        self.look();
    }

    /// The client's socket takes more, or less, from now on.
    pub(super) fn take(&mut self, at: usize) {
        let room = match self.choices.below(8) {
            0 | 1 => None,
            2 => Some(0),
            3 => Some(self.choices.below(100_000) as usize),
            _ => Some(self.choices.below(300) as usize),
        };
        self.give_room(at, room);
    }

    /// The client's socket takes all there is.
    pub(super) fn read_all(&mut self, at: usize) {
        self.give_room(at, None);
    }

    fn give_room(&mut self, at: usize, room: Option<usize>) {
        self.tell(|| format!("{at} takes {room:?}"));
        let Some(conn) = &mut self.clients[at].conn else {
            return;
        };
        conn.room = room;
        if conn.is_blocked && room != Some(0) {
            let id = conn.id;
            self.gw.writable(id, self.now);
            self.settle();
        }
        self.look();
    }

    /// The client goes.
    pub(super) fn leave(&mut self, at: usize) {
        let Client {
            conn: Some(conn), ..
        } = &mut self.clients[at]
        else {
            return;
        };
        let id = conn.id;
        conn.is_over = true;
        conn.stream.is_ended = true;
        if let Some(job) = conn.job.take() {
            self.orphans.push(job);
        }
        if self.choices.one_in(3) {
            self.gw.broken(id, Broken::Reset, self.now);
        } else {
            self.gw.eof(id, self.now);
        }
        self.settle();
        self.clients[at].conn = None;
        self.look();
    }

    /// The backend answers those whose client has left.
    pub(super) fn pay_orphans(&mut self) {
        for job in std::mem::take(&mut self.orphans) {
            let status = *self.choices.pick(&[200, 200, 403]);
            let directives = Directives::default();
            self.result(&job, Outcome::Answered { status, directives });
            self.settle();
        }
        self.look();
    }
}

impl Conn {
    /// What an answer comes to that names these channels and this id, or another where the model could
    /// not tell.
    fn arrival(
        &self,
        names: &[&'static str],
        told: Option<String>,
        log: &Log,
    ) -> Option<(Arrival, Option<String>)> {
        let is_in = |name: &str| self.stream.members.contains_key(name);
        let asked = told.as_ref().or(self.header.as_ref());
        let asked = asked.unwrap_or(&self.stream.began.0);
        let asked = if log.has_history { asked } else { "" };
        if let Some(arrival) = log.arrival(names, is_in, asked, true) {
            return Some((arrival, told));
        }
        let arrival = log.arrival(names, is_in, "", true)?;
        Some((arrival, Some(String::new())))
    }
}
