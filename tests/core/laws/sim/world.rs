//! The gateway, its clients and its backend: one action after another, every effect carried out,
//! every law checked behind each.

mod backend;
mod budgets;
mod clients;
mod look;
mod observe;
mod places;
mod publish;
mod sends;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use ssegateway::callback::{Action, CallbackResult, Job, JobId, Outcome, Reason};
use ssegateway::config::Limits;
use ssegateway::gateway::{Broken, ConnId, Counts, Effect, Gateway, Settings};
use ssegateway::time::Time;
use ssegateway::wire::Directives;
use uuid::Uuid;

use super::choices::Choices;
use super::model::{Life, Terms, Token};
use super::peer::{Answer, Peer, Takes, What};

/// Makes consecutive numbers differ in every byte, and no two of them alike.
const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// How often what happened.
pub(crate) type Happened = BTreeMap<String, u64>;

pub(crate) struct World<C> {
    pub(crate) choices: C,
    gw: Gateway<()>,
    now: Time,
    pub(crate) peers: Vec<Peer>,
    pub(crate) tokens: Vec<Token>,
    /// Callbacks whose results are owed.
    jobs: Vec<Job>,
    /// Callbacks whose results came, without what was kept of their requests.
    spent: Vec<(JobId, Uuid, Action)>,
    is_draining: bool,
    limits: Limits,
    terms: Terms,
    /// Streams are refused by streams.
    refuses_by_stream: bool,
    /// The step is a callback's result.
    is_answering: bool,
    /// How often fan-outs go on: one action in so many.
    slices: u32,
    /// Steps and calls so far.
    steps: u64,
    calls: u64,
    /// Fan-outs so far, how many of them have come to everybody for certain, and the bytes of those
    /// that may be pending.
    fan_outs: u64,
    done: u64,
    fanned_bytes: usize,
    /// This step's answers: whose, to which request, what.
    answers: Vec<(usize, usize, Answer)>,
    /// What was done for a publisher cannot be known, and so nothing that follows.
    is_cut: bool,
    /// When a full house was looked through last.
    looked_at: Option<Time>,
    happened: Happened,
    digest: DefaultHasher,
    /// Nothing is taken and every callback fails from now on.
    is_ending: bool,
    serial: u32,
}

impl<C: Choices> World<C> {
    pub(crate) fn new(mut choices: C) -> World<C> {
        let default = Limits::default();
        let max_connections = *choices.pick(&[5, 8, default.max_connections]);
        let internal_places = *choices.pick(&[0, 2]);
        // Fewer than there are connections for those who are no publishers.
        let most_streams = max_connections - internal_places - 1;
        let max_streams = *choices.pick(&[2, 5, default.max_streams]);
        let limits = Limits {
            max_unsent: *choices.pick(&[200, 3_000, default.max_unsent]),
            max_held: *choices.pick(&[2_000, 20_000, default.max_held, default.max_held]),
            max_inbound: *choices.pick(&[3_000, 20_000, default.max_inbound, default.max_inbound]),
            max_kept_headers: *choices.pick(&[350, 1_000, default.max_kept_headers]),
            max_unread_answer: *choices.pick(&[1, 300, 2_000, default.max_unread_answer]),
            max_discarded: *choices.pick(&[60, default.max_discarded, default.max_discarded]),
            max_streams: max_streams.min(most_streams),
            max_channels: *choices.pick(&[2, default.max_channels]),
            max_connections,
            internal_places,
            ..default
        };
        let heartbeat = Duration::from_secs(*choices.pick(&[1, 15, 40]));
        let seconds = |seconds: &u64| Duration::from_secs(*seconds);
        let terms = Terms {
            retry: *choices.pick(&[None, None, Some(0), Some(3_000)]),
            spread: seconds(choices.pick(&[0, 1, 3_600])),
            max_stream: seconds(choices.pick(&[0, 0, 2, 60])),
        };
        let refuses_by_stream = choices.one_in(3);
        let settings = Settings {
            heartbeat,
            refuses_by_stream,
            retry: terms.retry,
            reconnect_spread: terms.spread,
            max_stream: terms.max_stream,
            ..Settings::new(limits.clone())
        };
        let mut issued = 0_u128;
        World {
            gw: Gateway::new(settings, move |bytes| {
                // Nobody can tell these from random ones, but for the next run of the same choices.
                issued += 1;
                bytes.copy_from_slice(&issued.wrapping_mul(ODD).to_le_bytes()[..bytes.len()]);
            }),
            slices: *choices.pick(&[1, 4, 30]),
            choices,
            now: Time(0),
            peers: Vec::new(),
            tokens: Vec::new(),
            jobs: Vec::new(),
            spent: Vec::new(),
            is_draining: false,
            limits,
            terms,
            refuses_by_stream,
            is_answering: false,
            steps: 0,
            calls: 0,
            fan_outs: 0,
            done: 0,
            fanned_bytes: 0,
            answers: Vec::new(),
            is_cut: false,
            looked_at: None,
            happened: Happened::new(),
            digest: DefaultHasher::new(),
            is_ending: false,
            serial: 0,
        }
    }

    /// Gives what happened on the way, and a digest of all that the gateway wrote and asked for.
    pub(crate) fn run(mut self, actions: usize) -> (Happened, u64) {
        for _ in 0..actions {
            if self.choices.is_spent() || self.is_cut {
                break;
            }
            self.act();
            if self.gw.is_fanning_out() && self.choices.below(self.slices) == 0 {
                self.slice();
            }
        }
        if self.is_cut {
            self.note("cut");
        } else {
            self.end();
        }
        for at in 0..self.tokens.len() {
            let token = &self.tokens[at];
            let happened = [
                (token.queue.taken_out > 0, "kept the latest"),
                (token.is_overflown, "window overflown"),
                (token.has_expired, "expired"),
                (token.queue.has_said_when, "told when to come again"),
            ];
            for (_, what) in happened.into_iter().filter(|(has, _)| *has) {
                self.note(what);
            }
        }
        if self.peers.iter().any(|peer| peer.is_refused) {
            self.note("refused by a stream");
        }
        (self.happened, self.digest.finish())
    }

    fn note(&mut self, what: impl Into<String>) {
        *self.happened.entry(what.into()).or_default() += 1;
    }

    fn act(&mut self) {
        match self.choices.below(64) {
            0..=5 => self.accept(),
            6..=24 => self.ask(),
            25..=35 => self.deliver_some(),
            36..=46 => self.answer_callback(),
            47..=52 => self.change_takes(),
            53..=56 => self.pass(),
            57 => self.fin(),
            58 => self.break_one(),
            59..=60 => self.stale_result(),
            61..=62 => self.noise(),
            _ if self.choices.one_in(30) => {
                self.is_draining = true;
                self.note("shutdown");
                for token in &mut self.tokens {
                    token.shut(&self.terms, &self.limits);
                }
                self.step(None, |gw, now| gw.shutdown(now));
            }
            _ => self.gw.reap(),
        }
    }

    // ---- one step ----

    /// `by`: the client that the verb is about.
    fn step(&mut self, by: Option<usize>, verb: impl FnOnce(&mut Gateway<()>, Time)) {
        self.steps += 1;
        self.tokens.iter_mut().for_each(Token::begin_step);
        self.peers.iter_mut().for_each(Peer::begin_step);
        if !self.gw.is_fanning_out() {
            self.fanned_bytes = 0;
        }
        verb(&mut self.gw, self.now);
        self.observe(by);
        while let Some(effect) = self.gw.effect() {
            self.observe(None);
            if self.is_cut {
                return;
            }
            match effect {
                Effect::Flush(id) => self.flush(id),
                Effect::Read(id) => {
                    let at = self.peer_of(id);
                    self.peers[at].is_readable = true;
                }
                Effect::Fin(id) => {
                    assert!(self.gw.output(id).is_none(), "bytes behind the FIN");
                    let at = self.peer_of(id);
                    assert!(!self.peers[at].has_fin, "a second FIN");
                    self.peers[at].has_fin = true;
                }
                Effect::Abort(id) => {
                    assert!(self.gw.io(id).is_some(), "no socket to abort");
                    let at = self.peer_of(id);
                    self.check_aborted(at);
                    self.peers[at].is_aborted = true;
                }
                Effect::TrimHeap => {}
                Effect::Measure(_) => unreachable!("nobody asks for figures"),
                Effect::Call(job) => {
                    (job.id, job.token).hash(&mut self.digest);
                    self.call(job);
                }
                Effect::Withdraw(job) => self.withdraw(job),
            }
        }
        self.observe(None);
        if self.is_cut {
            return;
        }
        self.gw.check_invariants();
        self.look();
        if !self.choices.one_in(4) {
            self.gw.reap();
        }
    }

    fn peer_of(&self, id: ConnId) -> usize {
        let found = self.peers.iter().position(|peer| peer.id == id);
        found.expect("a connection's client")
    }

    fn flush(&mut self, id: ConnId) {
        let at = self.peer_of(id);
        let Some((_, output)) = self.gw.output(id) else {
            return;
        };
        let all = output.pieces().collect::<Vec<_>>().concat();
        let offered = output.len();
        (at, &all).hash(&mut self.digest);
        let peer = &mut self.peers[at];
        // What is blocked was put out before.
        if peer.untaken_before == 0 && !peer.is_blocked {
            peer.progress = self.now;
        }
        let n = match &mut peer.takes {
            Takes::All => offered,
            Takes::Bytes(room) => {
                let n = offered.min(*room);
                *room -= n;
                n
            }
            Takes::Fails => {
                peer.is_broken = true;
                self.leave(at, Reason::Error);
                self.gw.broken(id, Broken::WriteFailed, self.now);
                return self.observe(Some(at));
            }
        };
        peer.is_blocked = n < offered;
        if n > 0 {
            peer.last_active = self.now;
            peer.progress = self.now;
        }
        self.take(at, n);
        if n < offered {
            self.judge(at);
        }
        self.gw.flushed(id, n, self.now);
        self.observe(Some(at));
    }

    fn call(&mut self, job: Job) {
        match job.action {
            Action::Connect { expires } => {
                assert_eq!(expires, self.now + Duration::from_secs(5));
                let asked = self.client_of(&job.request.json());
                let is_old = asked.is_some_and(|(at, number)| {
                    let what = &self.peers[at].asked[number].what;
                    matches!(what, What::Stream { is_old: true })
                });
                let token = Token::new(&job, expires, asked, is_old);
                self.tokens.push(token);
                if let Some((at, _)) = asked {
                    self.peers[at].token = Some(self.tokens.len() - 1);
                }
            }
            Action::Disconnect { reason } => {
                let found = self.tokens.iter().position(|t| t.uuid == job.token);
                let at = found.expect("a known token");
                if reason == Reason::Error && self.tokens[at].cause.is_none() {
                    self.check_uncaused(at);
                }
                if self.tokens[at].queue.would_drop(self.limits.max_unsent) {
                    self.note("dropped by a fan-out");
                }
                self.tokens[at].tell(reason, &self.limits, self.now);
            }
        }
        if self.is_ending || self.choices.one_in(20) {
            if let Action::Connect { .. } = job.action {
                let token = self.token_of(job.id);
                (token.is_owed, token.life) = (false, Life::Over);
                token.expect(503, "OVERLOADED");
            }
            self.gw.result(result(&job, Outcome::QueueFull), self.now);
            self.observe(None);
        } else {
            self.jobs.push(job);
        }
    }

    /// The client whose request this is, unless it is one that keeps to nothing.
    fn client_of(&self, request: &[u8]) -> Option<(usize, usize)> {
        let request: serde_json::Value = serde_json::from_slice(request).expect("JSON");
        let url = request["url"].as_str().expect("a url");
        let mut parts = url.strip_prefix("/s/")?.split('/');
        let at: usize = parts.next()?.parse().ok()?;
        let number: usize = parts.next()?.parse().ok()?;
        let what = &self.peers[at].asked[number].what;
        assert!(
            matches!(what, What::Stream { .. }),
            "{url} was not asked for"
        );
        Some((at, number))
    }

    fn withdraw(&mut self, job: JobId) {
        let is_given_back = self.choices.one_in(2);
        let (now, is_draining) = (self.now, self.is_draining);
        let found = self.tokens.iter().position(|token| token.job == job);
        let at = found.expect("a callback's token");
        let token = &mut self.tokens[at];
        if token.cause.is_none() && now >= token.expires {
            token.expect(504, "GATEWAY_TIMEOUT");
        } else if is_draining && token.cause == Some(Reason::ServerClosed) {
            token.expect(503, "SHUTTING_DOWN");
        } else if token.cause.is_none() && token.peer.is_some_and(|at| !self.peers[at].is_aborted) {
            let is_reason = token.is_overflown || self.is_inbound_full() || self.is_outbound_full();
            assert!(is_reason, "turned away while there is room");
            self.tokens[at].expect(503, "OVERLOADED");
        } else if token.cause.is_none() {
            self.check_uncaused(at);
        }
        let token = &mut self.tokens[at];
        // A full queue may have ended its life within the same step.
        token.cause.get_or_insert(Reason::Error);
        token.life = Life::Over;
        // Nor is a result that came with it owed any more.
        if is_given_back && token.is_owed {
            token.is_owed = false;
            self.jobs.retain(|other| other.id != job);
            self.gw.withdrawn(job);
        }
    }

    /// All callbacks end, nobody reads, and time passes: nothing may be left. Some runs let everything
    /// come to its clients before.
    fn end(&mut self) {
        if self.choices.one_in(2) {
            self.deliver_all();
        }
        self.is_ending = true;
        for at in 0..self.peers.len() {
            self.peers[at].takes = Takes::Bytes(0);
        }
        while let Some(job) = self.jobs.pop() {
            self.finish(job, answered(200));
        }
        for _ in 0..6 {
            while self.gw.is_fanning_out() {
                self.step(None, |gw, now| gw.fan_out(now));
            }
            self.now = self.now + Duration::from_secs(100_000);
            self.step(None, |gw, now| {
                gw.tick(now);
            });
            while let Some(job) = self.jobs.pop() {
                self.finish(job, answered(200));
            }
        }
        if self.is_cut {
            return;
        }
        self.gw.reap();
        assert_eq!(self.gw.counts(), Counts::default());
        assert_eq!(self.gw.deadline(), None);
        for token in &self.tokens {
            assert!(!token.is_owed && token.is_accepted == token.told.is_some());
        }
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        directives: Directives::default(),
    }
}

fn result(job: &Job, outcome: Outcome) -> CallbackResult {
    CallbackResult {
        id: job.id,
        token: job.token,
        action: job.action,
        outcome,
        took: Duration::ZERO,
    }
}
