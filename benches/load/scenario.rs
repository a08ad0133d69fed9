//! What is measured: the scenarios, and one run of one of them against one server.

use std::time::Duration;

use crate::Outcome;
use crate::kept::Joins;
use crate::process::{Cores, Kind};
use crate::run::{Party, Run};
use crate::{beside, fanout, history, lives, many, returning, sends};

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
    HistoryPublish,
    HistoryMemory,
    Returning,
    ReturningToMany,
    ReturningDeaf,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 17] = [
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
        Scenario::HistoryPublish,
        Scenario::HistoryMemory,
        Scenario::Returning,
        Scenario::ReturningToMany,
        Scenario::ReturningDeaf,
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
            Scenario::HistoryPublish => "history_publish",
            Scenario::HistoryMemory => "history_memory",
            Scenario::Returning => "returning",
            Scenario::ReturningToMany => "returning_to_many",
            Scenario::ReturningDeaf => "returning_deaf",
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
            Scenario::HistoryPublish => "sends of 100 bytes to channels, with history and without",
            Scenario::HistoryMemory => "200,000 events kept in 1,000 channels",
            Scenario::Returning => "all come at once to one channel each, and missed 10 or 100",
            Scenario::ReturningToMany => "the same to 8 channels each, 10 or 100 missed in each",
            Scenario::ReturningDeaf => "all come at once, missed 1 MB each, and read nothing",
        }
    }

    fn streams(self) -> u32 {
        match self {
            Scenario::Start | Scenario::HistoryPublish | Scenario::HistoryMemory => 0,
            Scenario::Idle | Scenario::Sweep => 10_000,
            Scenario::Returning | Scenario::ReturningToMany => 10_000,
            Scenario::ReturningDeaf => 2_000,
            Scenario::Fanout | Scenario::FanoutBeside | Scenario::Members => 10_000,
            Scenario::Tokens => many::MOST_TOKENS,
            Scenario::Connect => 5_000,
            Scenario::Closed | Scenario::Pipelined | Scenario::Rate => 1_000,
            Scenario::Churn => 500,
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Scenario::Start => 0,
            Scenario::Idle => 30,
            _ => 10,
        }
    }

    /// Streams and seconds, as asked for or by default. Each publisher needs a stream. Where the
    /// descriptors are too few, the default is what they allow.
    pub(crate) fn size(self, plan: &Plan) -> (u32, Duration) {
        let seconds = Duration::from_secs(plan.seconds.unwrap_or(self.seconds()));
        if self.streams() == 0 {
            return (0, seconds);
        }
        let mut streams = plan
            .streams
            .unwrap_or(self.streams().min(plan.most_streams));
        if self == Scenario::Tokens {
            streams = streams.min(many::MOST_TOKENS);
        }
        (streams.max(sends::PUBLISHERS as u32), seconds)
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) faults: Faults,
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
        Scenario::HistoryPublish => return history::publish(kind, plan),
        Scenario::HistoryMemory => return history::memory(kind, plan),
        Scenario::Returning => return returning::returning(scenario, kind, plan, 1),
        Scenario::ReturningToMany => return returning::returning(scenario, kind, plan, 8),
        Scenario::ReturningDeaf => return returning::deaf(kind, plan),
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
    let mut sample = Sample::default();
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
    channel: Option<&'static str>,
    work: Work,
) -> Outcome<Sample> {
    let (streams, duration) = scenario.size(plan);
    let joins = channel.map_or(Joins::Nothing, Joins::One);
    let party = Party::start(kind, plan, scenario.heartbeat(), joins, &[])?;
    let mut run = party.run(streams, duration)?;
    let sample = work(&mut run).and_then(|metrics| {
        Ok(Sample {
            metrics,
            faults: run.close()?,
        })
    });
    sample.map_err(|error| party.explain(error))
}
