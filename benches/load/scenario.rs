//! What is measured: the scenarios, and one run of one of them against one server.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::backend::Backend;
use crate::load::Load;
use crate::process::{Cores, Cpu, Kind, Server};
use crate::{beside, fanout, lives, many, sends};

/// How long the backend's accounts may take to balance after the last client left.
const SETTLING: Duration = Duration::from_secs(15);

/// Nothing new for so long means that nothing more comes.
const SILENCE: Duration = Duration::from_secs(1);

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Start,
    Idle,
    Connect,
    Closed,
    Pipelined,
    Rate,
    Sweep,
    Churn,
    Fanout,
    Tokens,
    FanoutBeside,
    Members,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 12] = [
        Scenario::Start,
        Scenario::Idle,
        Scenario::Connect,
        Scenario::Closed,
        Scenario::Pipelined,
        Scenario::Rate,
        Scenario::Sweep,
        Scenario::Churn,
        Scenario::Fanout,
        Scenario::Tokens,
        Scenario::FanoutBeside,
        Scenario::Members,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Start => "start",
            Scenario::Idle => "idle",
            Scenario::Connect => "connect",
            Scenario::Closed => "closed",
            Scenario::Pipelined => "pipelined",
            Scenario::Rate => "rate",
            Scenario::Sweep => "sweep",
            Scenario::Churn => "churn",
            Scenario::Fanout => "fanout",
            Scenario::Tokens => "tokens",
            Scenario::FanoutBeside => "fanout_beside",
            Scenario::Members => "members",
        }
    }

    /// What is done, in a few words.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Scenario::Start => "20 starts each, until it is ready",
            Scenario::Idle => "streams held with a heartbeat a second, then all leave at once",
            Scenario::Connect => "streams opened, 64 under way at once",
            Scenario::Closed => "16 publishers, 1 send of 100 bytes in flight each",
            Scenario::Pipelined => "16 publishers, 8 sends of 100 bytes in flight each",
            Scenario::Rate => "5,000 sends/s at fixed times, latency from the scheduled time",
            Scenario::Sweep => "one publisher sends one event to each stream in turn",
            Scenario::Churn => "streams open, get 4 events and leave; each eighth leaves unopened",
            Scenario::Fanout => {
                "one event of 100 bytes to a channel that all are in, some 30 times"
            }
            Scenario::Tokens => "one event of 100 bytes to the tokens of all, some 300 times",
            Scenario::FanoutBeside => "broadcasts without a pause, and what others feel meanwhile",
            Scenario::Members => "streams held, all in no channel and then all in one",
        }
    }

    fn streams(self) -> u32 {
        match self {
            Scenario::Start => 0,
            Scenario::Idle | Scenario::Sweep => 10_000,
            Scenario::Fanout | Scenario::FanoutBeside | Scenario::Members => 10_000,
            Scenario::Tokens => many::MOST_TOKENS,
            Scenario::Connect => 5_000,
            Scenario::Closed | Scenario::Pipelined | Scenario::Rate => 1_000,
            Scenario::Churn => 500,
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Scenario::Idle => 30,
            _ => 10,
        }
    }

    /// Streams and seconds, as asked for or by default. Each publisher needs a stream. Where the
    /// descriptors are too few, the default is what they allow.
    pub(crate) fn size(self, plan: &Plan) -> (u32, Duration) {
        if self == Scenario::Start {
            return (0, Duration::ZERO);
        }
        let mut streams = plan
            .streams
            .unwrap_or(self.streams().min(plan.most_streams));
        if self == Scenario::Tokens {
            streams = streams.min(many::MOST_TOKENS);
        }
        let seconds = plan.seconds.unwrap_or(self.seconds());
        (
            streams.max(sends::PUBLISHERS as u32),
            Duration::from_secs(seconds),
        )
    }

    /// Whether there are fewer streams than there should be.
    pub(crate) fn is_cut(self, plan: &Plan) -> bool {
        plan.streams.is_none() && self.size(plan).0 < self.streams()
    }

    fn heartbeat(self) -> Duration {
        match self {
            Scenario::Idle => Duration::from_secs(1),
            Scenario::FanoutBeside => beside::HEARTBEAT,
            // None: what has come to a client must be an event.
            Scenario::Fanout | Scenario::Tokens => lives::DAY,
            _ => Duration::from_secs(15),
        }
    }
}

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) runs: u32,
    pub(crate) seconds: Option<u64>,
    pub(crate) streams: Option<u32>,
    /// What the descriptors allow.
    pub(crate) most_streams: u32,
    /// `None`: nothing is pinned.
    pub(crate) cores: Option<Cores>,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

impl Metric {
    pub(crate) fn new(name: &'static str, unit: &'static str, value: f64) -> Metric {
        Metric { name, unit, value }
    }
}

/// What must never happen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) misordered: u64,
    /// Tokens without exactly one connect and one disconnect.
    pub(crate) unbalanced: u64,
}

impl Faults {
    pub(crate) fn any(self) -> bool {
        self.lost + self.duplicated + self.misordered + self.unbalanced > 0
    }

    pub(crate) fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.misordered += other.misordered;
        self.unbalanced += other.unbalanced;
    }
}

/// What one run gave.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) faults: Faults,
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

/// Runs a scenario once against a fresh server.
pub(crate) fn run(scenario: Scenario, kind: Kind, plan: &Plan) -> Outcome<Sample> {
    let work: Work = match scenario {
        Scenario::Start => {
            return Ok(Sample {
                metrics: lives::start(kind, plan)?,
                faults: Faults::default(),
            });
        }
        Scenario::Members => return members(kind, plan),
        Scenario::Idle => lives::idle,
        Scenario::Connect => lives::connect,
        Scenario::Churn => lives::churn,
        Scenario::Closed => |run| sends::closed(run, 1),
        Scenario::Pipelined => |run| sends::closed(run, 8),
        Scenario::Rate => sends::rate,
        Scenario::Sweep => sends::sweep,
        Scenario::Fanout => fanout::channel,
        Scenario::Tokens => fanout::tokens,
        Scenario::FanoutBeside => beside::beside,
    };
    let channel = (scenario == Scenario::Fanout).then_some(many::CHANNEL);
    run_with(scenario, kind, plan, channel, work)
}

/// What the memory of a stream in a channel is beyond that of one in none. The floor has nothing
/// to compare: it knows no channels.
fn members(kind: Kind, plan: &Plan) -> Outcome<Sample> {
    let mut sample = Sample {
        metrics: Vec::new(),
        faults: Faults::default(),
    };
    if kind == Kind::Floor {
        return Ok(sample);
    }
    let names = ["memory in no channel", "memory in one channel"];
    for (name, channel) in names.into_iter().zip([None, Some(many::CHANNEL)]) {
        let work: Work = lives::memory_per_stream;
        let one = run_with(Scenario::Members, kind, plan, channel, work)?;
        sample.faults.add(one.faults);
        for metric in one.metrics {
            sample.metrics.push(Metric { name, ..metric });
        }
    }
    let of = |at: usize| sample.metrics.get(at).map_or(0.0, |metric| metric.value);
    let membership = of(1) - of(0);
    let name = "memory of a membership";
    sample.metrics.insert(0, Metric::new(name, "B", membership));
    Ok(sample)
}

/// What is done once the server runs.
type Work = fn(&mut Run<'_>) -> Outcome<Vec<Metric>>;

/// Does that against a fresh server, whose streams are all in a channel or none.
fn run_with(
    scenario: Scenario,
    kind: Kind,
    plan: &Plan,
    channel: Option<&str>,
    work: Work,
) -> Outcome<Sample> {
    let (streams, duration) = scenario.size(plan);
    let failed = |error: std::io::Error| format!("no backend: {error}");
    let backend = match kind {
        Kind::Gateway => Some(Backend::start(channel).map_err(failed)?),
        Kind::Floor => None,
    };
    let url = backend.as_ref().map(Backend::url);
    let server = Server::start(kind, plan.cores, scenario.heartbeat(), url.as_deref())?;
    let limit = Duration::from_secs(60 + u64::from(streams) / 100) + 2 * duration;
    let mut run = Run {
        server: &server,
        backend: backend.as_ref(),
        load: Load::new(server.address, backend.as_ref(), limit)?,
        streams,
        duration,
    };
    let sample = work(&mut run).and_then(|metrics| {
        Ok(Sample {
            metrics,
            faults: run.close()?,
        })
    });
    sample.map_err(|error| format!("{error}{}", server.complaints()))
}

impl Run<'_> {
    /// All clients leave; then the accounts must balance.
    fn close(&mut self) -> Outcome<Faults> {
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
