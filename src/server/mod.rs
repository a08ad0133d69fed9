//! The event loop: the only place that knows both sockets and the core.
//!
//! One turn: wait for readiness, tell the core what happened, carry out what it asks for, let
//! time pass, free what was closed. Everything that a budget cuts short is taken up in the next
//! turn without waiting, as edge-triggered readiness is announced once.

mod accept;
mod reload;
mod shutdown;
mod start;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook_mio::v1_0::Signals;

use crate::callback::{CallbackResult, Job, Outcome};
use crate::config::Config;
use crate::gateway::{ConnId, Effect, Gateway, Measures};
use crate::host;
use crate::net::{self, Transfer};
use crate::secrets::SecretFiles;
use crate::systemd::{Inherited, Notifier};
use crate::time::Time;
use crate::workers::Workers;

use accept::Listener;
pub use start::StartError;

const SIGNAL: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Listeners count down from here; connections count up from 0.
const LISTENER: usize = usize::MAX - 2;

/// Readiness events of one turn.
const EVENTS: usize = 512;
/// Reads of one connection in one turn: a single-threaded server must let the others speak.
const READ_BUDGET: usize = 4;
/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Bytes read in one turn, of all connections: some ten milliseconds of the smallest requests.
const TURN_BYTES: usize = 256 * 1024;
/// Callback results taken in one turn.
const RESULT_BUDGET: usize = 256;

/// A turn that comes so much later than it was to come ends a standstill: of the loop, the process
/// or its host.
const STANDSTILL: Duration = Duration::from_millis(200);
/// Behind a standstill time passes for deadlines once nothing has been ready for so long...
const QUIET: Duration = Duration::from_millis(50);
/// ...or after this long, whatever is ready.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// The time of the Unix clock.
fn unix_clock() -> Duration {
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// After a signal, with everything delivered or the time for it over.
    Drained,
    /// A second signal ended it at once; the number is the signal's.
    Forced(i32),
}

/// What the shell keeps with a connection.
struct Socket {
    stream: socket2::Socket,
    /// It is among those that are to be looked at.
    is_queued: bool,
}

/// A gateway that listens.
pub struct Server {
    poll: Poll,
    listeners: Vec<Listener>,
    signals: Signals,
    workers: Option<Workers>,
    gateway: Gateway<Socket>,
    /// What SIGHUP has read again.
    files: SecretFiles,
    /// Connections to be looked at, each once, first come first served: a budget or an unread
    /// answer cut their reading short, or others were ready before them.
    unfinished: VecDeque<ConnId>,
    /// Bytes that may still be read in this turn.
    turn_left: usize,
    /// A budget cut the taking of results short.
    has_results: bool,
    /// Until when no deadline is met, after a standstill.
    catches_up_until: Option<Time>,
    scratch: Box<[u8; READ_BYTES]>,
    epoch: Instant,
    /// When it was bound, in seconds of the Unix clock.
    start: u64,
    /// The second that the gateway's date stands for.
    date: u64,
    /// After what time the workers want to be looked at again.
    tend_after: Option<Duration>,
    /// Descriptors ran out, and no connection was accepted since; told once.
    is_exhausted: bool,
    notifier: Notifier,
    shutdown_timeout: Duration,
    /// When a shutdown that was begun ends at the latest.
    ends: Option<Time>,
}

impl Server {
    /// Opens the listeners and makes everything ready to [`Server::run`].
    pub fn bind(config: &Config) -> Result<Server, StartError> {
        Server::take_over(config, Vec::new(), Notifier::default())
    }

    /// The same with sockets that listen already, in place of those that are configured for the same
    /// purpose, and with somebody who wants to be told.
    pub fn take_over(
        config: &Config,
        inherited: Vec<Inherited>,
        notifier: Notifier,
    ) -> Result<Server, StartError> {
        let poll = Poll::new()?;
        let listeners = start::listeners(config, inherited, &poll)?;
        // A log that has reached the limit of a file's size shall fail, not kill.
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGXFSZ])?;
        if reload::meets_hangups(config) {
            signals.add_signal(SIGHUP)?;
        }
        poll.registry()
            .register(&mut signals, SIGNAL, Interest::READABLE)?;
        let epoch = Instant::now();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut random = host::randomness();
        let settings = start::settings(config, &mut random);
        let workers = config.callback_url.clone().map(|url| {
            let settings = start::worker_settings(config, url, settings.boot);
            // The waker's pipe outlives the workers: a wake that fails has nobody to wake.
            Workers::new(settings, epoch, move || {
                let _ = waker.wake();
            })
        });
        Ok(Server {
            poll,
            listeners,
            signals,
            gateway: Gateway::new(settings, random),
            workers,
            files: SecretFiles::of(config),
            unfinished: VecDeque::new(),
            turn_left: 0,
            has_results: false,
            catches_up_until: None,
            scratch: Box::new([0; READ_BYTES]),
            epoch,
            start: unix_clock().as_secs(),
            date: 0,
            tend_after: None,
            is_exhausted: false,
            notifier,
            shutdown_timeout: config.limits.shutdown_timeout,
            ends: None,
        })
    }

    /// Where clients connect, as a fact for the log: `port=` or `socket=`.
    pub fn place(&self) -> String {
        let first = self.listeners.first();
        first.map_or_else(String::new, |it| it.socket.to_string())
    }

    /// Runs until a signal has ended it.
    ///
    /// # Errors
    /// Waiting for readiness failed, which no program can work around.
    pub fn run(&mut self) -> io::Result<Exit> {
        let mut events = Events::with_capacity(EVENTS);
        let mut last = self.now();
        self.notifier.ready(last);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let now = self.now();
            if timeout.is_some_and(|timeout| now.since(last) > timeout + STANDSTILL) {
                self.catches_up_until = Some(now + CATCHING_UP);
            }
            last = now;
            self.keep_date();
            self.turn_left = TURN_BYTES;
            for event in &events {
                match event.token() {
                    SIGNAL => {
                        if let Some(signal) = self.take_signals(now) {
                            return Ok(Exit::Forced(signal));
                        }
                    }
                    WAKER => self.has_results = true,
                    Token(listener) if listener > LISTENER - self.listeners.len() => {
                        self.listeners[LISTENER - listener].is_unfinished = true;
                    }
                    Token(index) => self.conn_ready(index, event, now),
                }
                self.settle(now);
            }
            self.take_results(now);
            self.look_on(now);
            self.gateway.fan_out(now);
            self.gateway.look_on(now);
            self.settle(now);
            let is_quiet = events.is_empty() && timeout == Some(QUIET);
            self.pass_time(is_quiet, now);
            self.tend_workers();
            self.gateway.reap();
            self.accept_some(now);
            self.notifier.tell(now, self.gateway.counts().streams);
            if self.is_over(now) {
                return Ok(self.end());
            }
        }
    }

    // ---- time ----

    fn now(&self) -> Time {
        let elapsed = self.epoch.elapsed().as_millis();
        Time(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self) -> Option<Duration> {
        let is_busy = self.gateway.is_fanning_out() || self.gateway.is_looking();
        if self.has_results || !self.unfinished.is_empty() || is_busy {
            return Some(Duration::ZERO);
        }
        let accepts = self.listeners.iter().filter_map(Listener::due).min();
        if self.catches_up_until.is_some() {
            let until_accept = accepts.map(|due| due.since(self.now()));
            return Some(until_accept.map_or(QUIET, |time| time.min(QUIET)));
        }
        let deadlines = [
            self.gateway.deadline(),
            accepts,
            self.notifier.due(),
            self.ends,
        ];
        let next = deadlines.into_iter().flatten().min();
        // Rounded up to a whole millisecond, so that the deadline has come when poll returns.
        let until_next = next.map(|next| next.since(self.now()));
        match (until_next, self.tend_after) {
            (Some(time), Some(workers)) => Some(time.min(workers)),
            (time, workers) => time.or(workers),
        }
    }

    fn keep_date(&mut self) {
        let age = unix_clock();
        let second = age.as_secs();
        self.gateway
            .set_clock(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        if second != self.date
            && let Ok(date) = httpdate::fmt_http_date(UNIX_EPOCH + age)
                .as_bytes()
                .try_into()
        {
            self.date = second;
            self.gateway.set_date(date);
        }
    }

    /// Whatever is ready is looked at before time passes: no deadline shall strike a connection
    /// whose bytes, or whose backend's answer, came while the loop stood still.
    fn pass_time(&mut self, is_quiet: bool, now: Time) {
        if let Some(until) = self.catches_up_until {
            if now < until && !(is_quiet && self.unfinished.is_empty()) {
                return;
            }
            self.catches_up_until = None;
        }
        // More may be due than one look takes; the deadline is past then and the next turn comes
        // at once.
        self.gateway.tick(now);
        self.settle(now);
    }

    // ---- what readiness announces ----

    fn conn_ready(&mut self, index: usize, event: &Event, now: Time) {
        let Some(id) = self.gateway.at(index) else {
            return;
        };
        // Whoever was cut short waits for its turn, and has half of each for certain; whoever comes
        // now does not wait for what all of them have sent.
        let is_queued = self.gateway.io(id).is_some_and(|socket| socket.is_queued);
        if is_queued || self.turn_left <= TURN_BYTES / 2 {
            return self.queue(id);
        }
        // Reading first: a reset is then the client's leaving, not a write that failed.
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            // A read stops short at urgent data too (tcp(7)).
            let is_ending = event.is_read_closed() || event.is_error() || event.is_priority();
            self.read_some(id, is_ending, now);
        }
        if event.is_writable() {
            self.gateway.writable(id, now);
        }
    }

    /// Reads what there is, at most a budget. A read that does not fill the buffer has emptied the
    /// socket, unless the peer's FIN waits behind the bytes: no further edge announces that one.
    fn read_some(&mut self, id: ConnId, is_ending: bool, now: Time) {
        for _ in 0..READ_BUDGET {
            if !self.gateway.wants_input(id) {
                return;
            }
            let Some(socket) = self.gateway.io(id) else {
                return;
            };
            match net::read_some(&mut socket.stream, &mut self.scratch[..]) {
                Transfer::Bytes(0) => {
                    self.gateway.eof(id, now);
                    return self.settle(now);
                }
                Transfer::Bytes(n) => {
                    self.turn_left = self.turn_left.saturating_sub(n);
                    self.gateway.bytes(id, &self.scratch[..n], now);
                    self.settle(now);
                    if n < READ_BYTES && !is_ending {
                        return;
                    }
                }
                Transfer::WouldBlock => return,
                Transfer::Broken(how) => {
                    self.gateway.broken(id, how, now);
                    return self.settle(now);
                }
            }
        }
        self.queue(id);
    }

    /// Remembers to look at a connection.
    fn queue(&mut self, id: ConnId) {
        if let Some(socket) = self.gateway.io(id)
            && !std::mem::replace(&mut socket.is_queued, true)
        {
            self.unfinished.push_back(id);
        }
    }

    /// Takes results until there are none, which makes the next one wake the loop, or until the
    /// budget is used up.
    fn take_results(&mut self, now: Time) {
        if !std::mem::take(&mut self.has_results) {
            return;
        }
        for _ in 0..RESULT_BUDGET {
            let Some(result) = self.workers.as_ref().and_then(Workers::try_result) else {
                return;
            };
            self.gateway.result(result, now);
            self.settle(now);
        }
        self.has_results = true;
    }

    /// Sees to it that callbacks which wait get workers, as far as there are any more.
    fn tend_workers(&mut self) {
        let counts = self.gateway.counts();
        self.tend_after = match &self.workers {
            Some(workers) if counts.connects + counts.disconnects > 0 => workers.tend(),
            _ => None,
        };
    }

    /// Looks at the connections that wait for it, as far as the turn's budget goes. Who is cut
    /// short once more waits for the next turn.
    fn look_on(&mut self, now: Time) {
        for _ in 0..self.unfinished.len() {
            if self.turn_left == 0 {
                return;
            }
            let Some(id) = self.unfinished.pop_front() else {
                return;
            };
            let Some(socket) = self.gateway.io(id) else {
                continue;
            };
            socket.is_queued = false;
            self.read_some(id, true, now);
            self.gateway.writable(id, now);
            self.settle(now);
        }
    }

    // ---- what the core asks for ----

    fn settle(&mut self, now: Time) {
        while let Some(effect) = self.gateway.effect() {
            match effect {
                Effect::Flush(id) => self.flush(id, now),
                Effect::Read(id) => self.queue(id),
                Effect::Fin(id) => {
                    if let Some(socket) = self.gateway.io(id) {
                        net::finish(&socket.stream);
                    }
                }
                Effect::Abort(id) => {
                    if let Some(socket) = self.gateway.io(id) {
                        net::reset_on_close(&socket.stream);
                    }
                }
                Effect::Call(job) => self.call(job, now),
                Effect::Measure(id) => {
                    let measures = self.measures();
                    self.gateway.measured(id, &measures, now);
                }
                Effect::TrimHeap => {
                    // What grew amid a crowd lies amid what it left.
                    if self.unfinished.is_empty() {
                        self.unfinished = VecDeque::new();
                    }
                    // Memory that stays is no fault.
                    let _ = host::trim_heap();
                }
                Effect::Withdraw(job) => {
                    if self
                        .workers
                        .as_ref()
                        .is_some_and(|workers| workers.withdraw(job))
                    {
                        self.gateway.withdrawn(job);
                    }
                }
            }
        }
    }

    fn flush(&mut self, id: ConnId, now: Time) {
        let Some((socket, output)) = self.gateway.output(id) else {
            return;
        };
        let written = match output.single() {
            Some(bytes) => net::write_some(&mut socket.stream, bytes),
            None => net::write_pieces(&mut socket.stream, output.pieces()),
        };
        match written {
            Transfer::Bytes(n) => self.gateway.flushed(id, n, now),
            Transfer::WouldBlock => self.gateway.flushed(id, 0, now),
            Transfer::Broken(how) => self.gateway.broken(id, how, now),
        }
    }

    fn measures(&self) -> Measures {
        let usage = host::usage();
        // Where the kernel does not say, nearly all of them are connections.
        let least = self.gateway.counts().connections as u64;
        Measures {
            start: self.start,
            resident: usage.resident,
            descriptors: usage.descriptors.max(least),
            max_descriptors: usage.max_descriptors,
            queued: self.workers.as_ref().map_or([0; 2], Workers::queued),
        }
    }

    fn call(&mut self, job: Job, now: Time) {
        let refused = match &self.workers {
            Some(workers) => workers.submit(job).err(),
            None => Some(job),
        };
        if let Some(Job {
            id, token, action, ..
        }) = refused
        {
            self.gateway.result(
                CallbackResult {
                    id,
                    token,
                    action,
                    outcome: Outcome::QueueFull,
                    took: Duration::ZERO,
                },
                now,
            );
        }
    }
}
