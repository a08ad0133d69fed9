//! The core, its clients, its backend and the clock, all moved by one source of decisions.

mod clients;
mod observe;
mod probe;
mod sends;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use ssegateway::callback::Job;
use ssegateway::config::Limits;
use ssegateway::gateway::{ConnId, Gateway, Settings};
use ssegateway::time::Time;
use uuid::Uuid;

use super::log::Log;
use super::stream::Stream;
use crate::laws::sim::choices::Choices;
use crate::laws::sim::model::Terms;
use observe::Trace;

/// How often what happened.
pub(super) type Happened = BTreeMap<&'static str, u64>;

const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];
const CLIENTS: usize = 4;

/// One client's connection.
#[derive(Debug)]
struct Conn {
    id: ConnId,
    is_old: bool,
    /// The id that it sent.
    header: Option<String>,
    /// Bytes that its socket takes; `None`: any number.
    room: Option<usize>,
    is_blocked: bool,
    /// What was taken and is not a whole piece.
    rest: Vec<u8>,
    has_head: bool,
    /// The first byte of a position has come.
    is_position_begun: bool,
    is_over: bool,
    token: Uuid,
    /// Its connect callback, while that is out.
    job: Option<Job>,
    stream: Stream,
}

/// One client, through all its connections.
#[derive(Debug, Default)]
struct Client {
    last_id: Option<String>,
    conn: Option<Conn>,
}

/// What the backend has in its book of a token.
#[derive(Debug, Default)]
struct Entry {
    is_accepted: bool,
    disconnects: usize,
}

pub(super) struct World<C> {
    choices: C,
    gw: Gateway<()>,
    limits: Limits,
    terms: Terms,
    log: Log,
    has_keys: bool,
    /// Something may be forgotten.
    is_evicting: bool,
    now: Time,
    /// The Unix clock at time zero.
    epoch: u64,
    clients: Vec<Client>,
    publisher: Option<ConnId>,
    /// What the publisher got since its last send.
    told: Vec<u8>,
    probe: Option<ConnId>,
    /// What the prober got.
    probed: Vec<u8>,
    /// Connect callbacks that are out and not noted yet.
    calls: VecDeque<Job>,
    /// Those whose client has left.
    orphans: Vec<Job>,
    book: HashMap<Uuid, Entry>,
    traces: VecDeque<Trace>,
    /// Every id that was ever given.
    given: HashSet<String>,
    /// Some ids of earlier processes.
    foreign: Vec<String>,
    /// Fan-outs that may be pending.
    pending: usize,
    /// How many events there were before this step.
    known: u64,
    happened: Happened,
    /// Nobody is let in any more.
    is_ending: bool,
    is_told: bool,
}

fn limits(choices: &mut impl Choices) -> Limits {
    let (bytes, seconds) = match choices.below(10) {
        0 => (0, 300),
        1..=4 => (64 << 20, 80_000),
        5 | 6 => (*choices.pick(&[2500, 8000, 20_000]), 80_000),
        7 => (100_000, 80_000),
        8 => (64 << 20, *choices.pick(&[3, 10])),
        _ => (20_000, 10),
    };
    Limits {
        history: bytes,
        history_time: Duration::from_secs(seconds),
        max_unsent: 1 << 30,
        max_held: 1 << 30,
        ..Limits::default()
    }
}

fn gateway(limits: &Limits, terms: &Terms, mut seed: u64) -> Gateway<()> {
    let settings = Settings {
        retry: terms.retry,
        reconnect_spread: terms.spread,
        ..Settings::new(limits.clone())
    };
    Gateway::new(settings, move |bytes| {
        for chunk in bytes.chunks_mut(8) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mixed = (seed ^ (seed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 32)).to_le_bytes();
            chunk.copy_from_slice(&mixed[..chunk.len()]);
        }
    })
}

impl<C: Choices> World<C> {
    pub(super) fn new(mut choices: C) -> World<C> {
        let limits = limits(&mut choices);
        let seed = choices.below(1 << 30).into();
        let terms = Terms {
            retry: choices.one_in(3).then_some(3_000),
            spread: Duration::from_secs(*choices.pick(&[0, 10])),
            max_stream: Duration::ZERO,
        };
        let mut world = World {
            gw: gateway(&limits, &terms, seed),
            log: Log::new(limits.history > 0),
            has_keys: choices.one_in(2),
            is_evicting: limits.history > 0
                && (limits.history < 1 << 20 || limits.history_time < Duration::from_secs(1000)),
            limits,
            terms,
            choices,
            now: Time(1000),
            epoch: 1_700_000_000_000,
            clients: Vec::new(),
            publisher: None,
            told: Vec::new(),
            probe: None,
            probed: Vec::new(),
            calls: VecDeque::new(),
            orphans: Vec::new(),
            book: HashMap::new(),
            traces: VecDeque::new(),
            given: HashSet::new(),
            foreign: Vec::new(),
            pending: 0,
            known: 0,
            happened: Happened::new(),
            is_ending: false,
            is_told: std::env::var_os("HIST_SEED").is_some(),
        };
        world.clients.resize_with(CLIENTS, Client::default);
        world.begin();
        world
    }

    pub(super) fn run(mut self, actions: usize) -> Happened {
        for _ in 0..actions {
            self.act();
        }
        if self.choices.one_in(4) {
            self.shut_down();
        }
        self.drain();
        for at in 0..CLIENTS {
            self.leave(at);
        }
        self.pay_orphans();
        self.gw.fan_out(self.now);
        self.settle();
        let counts = self.gw.counts();
        assert_eq!(
            (counts.streams, counts.connects),
            (0, 0),
            "something is left"
        );
        for (token, entry) in &self.book {
            let expected = usize::from(entry.is_accepted);
            assert_eq!(entry.disconnects, expected, "disconnects of {token}");
        }
        self.happened
    }

    /// Tells somebody who replays a seed what is done.
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>6} {}", self.now.0, what());
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn act(&mut self) {
        self.known = self.log.last();
        let client = self.choices.below(CLIENTS as u32) as usize;
        match self.choices.below(100) {
            0..=29 => self.publish(),
            30..=41 => self.send(client),
            42..=55 => self.step(client),
            56..=71 => self.take(client),
            72..=78 => self.leave(client),
            79..=87 => self.fan_out(),
            88..=94 => self.pass(),
            95..=97 => self.drain(),
            98 => {
                self.look_at_all();
            }
            _ if self.choices.one_in(3) => self.restart(),
            _ if self.choices.one_in(10) && self.is_evicting => self.publish_widely(),
            _ => self.pay_orphans(),
        }
    }

    /// A new process.
    fn begin(&mut self) {
        self.set_clock();
        self.look_at_all();
    }

    fn set_clock(&mut self) {
        self.gw.set_clock(self.epoch + self.now.0);
    }

    /// The process ends without a word, and begins anew.
    fn restart(&mut self) {
        self.note("restart");
        self.tell(|| "restart".to_owned());
        let mut old: Vec<String> = self.log.ids.keys().cloned().collect();
        old.sort();
        old.truncate(8);
        self.foreign.extend(old);
        for client in &mut self.clients {
            client.conn = None;
        }
        self.orphans.clear();
        self.book.clear();
        self.publisher = None;
        let back = u64::from(self.choices.below(3)) * 100_000;
        self.epoch = self.epoch + u64::from(self.choices.below(3)) * 60_000 - back;
        let seed = self.choices.below(1 << 30).into();
        self.gw = gateway(&self.limits, &self.terms, seed);
        self.log = Log::new(self.log.has_history);
        self.pending = 0;
        self.known = 0;
        self.begin();
    }

    /// Time passes.
    fn pass(&mut self) {
        let millis = *self.choices.pick(&[1, 10, 200, 700, 2000, 4000, 11_000]);
        let until = self.now + Duration::from_millis(millis);
        while let Some(next) = self.gw.deadline().filter(|next| *next <= until) {
            self.tick(self.now.max(next));
        }
        self.tick(until);
        if self.choices.one_in(8) {
            self.epoch -= 5000;
        }
    }

    fn tick(&mut self, now: Time) {
        self.now = now;
        self.set_clock();
        self.forget();
        self.expire();
        let mut is_more = true;
        while is_more {
            is_more = self.gw.tick(self.now);
            self.settle();
        }
        self.look();
    }

    /// The time of some streams is over.
    fn expire(&mut self) {
        let conns = self.clients.iter_mut().filter_map(|it| it.conn.as_mut());
        let streams = conns.map(|conn| &mut conn.stream);
        let mut happened = Vec::new();
        for stream in streams.filter(|it| !it.is_ended && it.expires <= Some(self.now)) {
            if stream.expires.take().is_some() {
                let is_cut = stream.is_replaying;
                happened.push(if is_cut {
                    "expired in a replay"
                } else {
                    "expired"
                });
                stream.cut(&self.log);
            }
        }
        happened.into_iter().for_each(|what| self.note(what));
    }

    /// Something may be forgotten now.
    fn forget(&mut self) {
        if self.is_evicting {
            self.log.kept = None;
        }
    }

    fn fan_out(&mut self) {
        self.tell(|| "fan out".to_owned());
        if self.choices.one_in(3) {
            self.gw.fan_out(self.now);
        } else {
            let looks = self.choices.below(6) as usize;
            self.gw.fan_out_by(looks, self.now);
        }
        self.settle();
        self.look();
    }

    /// All that is on its way to many comes to them.
    fn fan_out_all(&mut self) {
        for _ in 0..10_000 {
            if !self.gw.is_fanning_out() {
                self.pending = 0;
                return;
            }
            self.gw.fan_out(self.now);
            self.settle();
            self.look();
        }
        panic!("fan-outs without end");
    }

    /// Everybody reads all there is: nothing may be left.
    fn drain(&mut self) {
        for at in 0..CLIENTS {
            self.read_all(at);
        }
        self.fan_out_all();
        let open = self
            .clients
            .iter()
            .filter_map(|client| client.conn.as_ref());
        for conn in open.filter(|conn| conn.stream.is_open) {
            assert!(conn.rest.is_empty(), "a piece that is not whole");
            conn.stream.check_idle(&self.log);
            assert!(conn.stream.ends.is_none(), "it was closed and goes on");
        }
        self.note("drained");
        self.tell(|| "drained".to_owned());
    }

    fn shut_down(&mut self) {
        self.note("shutdown");
        self.is_ending = true;
        let spread = self.terms.spread.as_millis() as u64;
        for client in &mut self.clients {
            if let Some(conn) = &mut client.conn {
                conn.stream.shut(spread, &self.log);
            }
        }
        self.gw.shutdown(self.now);
        self.settle();
        self.look();
    }
}
