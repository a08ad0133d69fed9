//! One run under way: a server, what it needs, its load, and what it costs.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::backend::Backend;
use crate::kept::Joins;
use crate::load::Load;
use crate::process::{Cpu, Kind, Server};
use crate::scenario::{Faults, Metric, Plan};

/// How long the backend's accounts may take to balance after the last client left.
const SETTLING: Duration = Duration::from_secs(15);

/// Nothing new for so long means that nothing more comes.
const SILENCE: Duration = Duration::from_secs(1);

/// A server and its backend; several may run side by side.
pub(crate) struct Party {
    // Before the backend, which its last callbacks go to.
    server: Server,
    /// The gateway's; the floor has none.
    backend: Option<Backend>,
}

impl Party {
    /// Starts a server with these flags, whose streams are in these channels.
    pub(crate) fn start(
        kind: Kind,
        plan: &Plan,
        heartbeat: Duration,
        joins: Joins,
        flags: &[&str],
    ) -> Outcome<Party> {
        let failed = |error: std::io::Error| format!("no backend: {error}");
        let backend = match kind {
            Kind::Gateway => Some(Backend::start(joins).map_err(failed)?),
            Kind::Floor => None,
        };
        let url = backend.as_ref().map(Backend::url);
        let server = Server::start(kind, plan.cores, heartbeat, url.as_deref(), flags)?;
        Ok(Party { server, backend })
    }

    /// Begins to load it.
    pub(crate) fn run(&self, streams: u32, duration: Duration) -> Outcome<Run<'_>> {
        let limit = Duration::from_secs(60 + u64::from(streams) / 100) + 2 * duration;
        let backend = self.backend.as_ref();
        Ok(Run {
            server: &self.server,
            backend,
            load: Load::new(self.server.address, backend, limit)?,
            streams,
            duration,
        })
    }

    /// An error, and what the server had to say.
    pub(crate) fn explain(&self, error: String) -> String {
        format!("{error}{}", self.server.complaints())
    }
}

/// One run under way.
pub(crate) struct Run<'a> {
    pub(crate) server: &'a Server,
    /// The gateway's; the floor has none.
    pub(crate) backend: Option<&'a Backend>,
    pub(crate) load: Load<'a>,
    pub(crate) streams: u32,
    pub(crate) duration: Duration,
}

impl Run<'_> {
    /// All clients leave; then the accounts must balance.
    pub(crate) fn close(&mut self) -> Outcome<Faults> {
        self.load.drain()?;
        self.load.peers.streams.clear();
        let tally = &self.load.peers.tally;
        let mut faults = Faults {
            lost: tally.lost,
            duplicated: tally.duplicated,
            misordered: tally.misordered,
            unbalanced: 0,
        };
        let Some(backend) = self.backend else {
            return Ok(faults);
        };
        self.wait_for_callbacks()?;
        // Those that should not come at all.
        self.load.turns_for(Duration::from_millis(100))?;
        backend.check()?;
        faults.unbalanced = backend.accounts().unbalanced();
        Ok(faults)
    }

    /// Waits until every connect has a disconnect and a while longer, as callbacks may still be on
    /// their way; at most [`SETTLING`].
    fn wait_for_callbacks(&mut self) -> Outcome<()> {
        let Some(backend) = self.backend else {
            return Ok(());
        };
        let begun = Instant::now();
        loop {
            let accounts = backend.accounts();
            let is_balanced = accounts.connects == accounts.disconnects;
            let is_silent = accounts.last.is_none_or(|last| last.elapsed() > SILENCE);
            drop(accounts);
            if is_balanced && is_silent || begun.elapsed() > SETTLING {
                return Ok(());
            }
            self.load.turn(Duration::from_millis(20))?;
        }
    }

    /// Begins to measure.
    pub(crate) fn meter(&self) -> Outcome<Meter> {
        Ok(Meter {
            server: self.server.cpu()?,
            load: Cpu::of(std::process::id())?,
            begun: Instant::now(),
        })
    }

    /// What it has cost since.
    pub(crate) fn cost(&self, meter: &Meter) -> Outcome<Cost> {
        let wall = meter.begun.elapsed();
        Ok(Cost {
            server: self.server.cpu()?.since(&meter.server),
            load: Cpu::of(std::process::id())?.since(&meter.load),
            wall,
        })
    }
}

/// The beginning of a measured interval.
pub(crate) struct Meter {
    server: Cpu,
    load: Cpu,
    begun: Instant,
}

/// What a measured interval cost: processor time of the server and of this process, and time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) server: Duration,
    load: Duration,
    pub(crate) wall: Duration,
}

impl Cost {
    /// The server's processor time for each of `count`, in microseconds.
    pub(crate) fn each(&self, count: u64) -> f64 {
        self.server.as_secs_f64() * 1e6 / count.max(1) as f64
    }

    /// So many in a second.
    pub(crate) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.wall.as_secs_f64()
    }

    /// How much of a core each side used: tells which one was the limit.
    pub(crate) fn busy(&self) -> [Metric; 2] {
        let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / self.wall.as_secs_f64();
        [
            Metric::new("server's core busy", "%", share(self.server)),
            Metric::new("load's core busy", "%", share(self.load)),
        ]
    }
}
