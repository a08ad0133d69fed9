//! The gateway under load, beside the least that any server could cost:
//! `cargo bench --bench load -- [scenario…] [--runs N] [--seconds N] [--streams N] [--json]`.
//!
//! Each run starts the release build of the gateway, or the floor (see `floor`), on one core and
//! loads it from another with real connections over loopback. The two take turns, so that what
//! disturbs the machine disturbs both, and every figure is the median of its runs. The exit code
//! is 1 when an event was lost, duplicated or out of order, when a token did not get exactly one
//! connect and one disconnect, or when a scenario could not be finished.

mod backend;
mod beside;
mod fanout;
mod feed;
mod floor;
mod history;
mod kept;
mod lives;
mod load;
mod many;
mod process;
mod publishers;
mod report;
mod returning;
mod run;
mod scenario;
mod sends;
mod streams;
mod wire;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;

use process::Kind;
use report::{Results, Surroundings};
use scenario::{Plan, Scenario};

/// Descriptors that are for no stream: publishers, the backend's connections, what is closing.
const RESERVE: u64 = 500;

/// What went wrong is a sentence.
type Outcome<T> = Result<T, String>;

/// What the command line asks for.
enum Command {
    Measure {
        scenarios: Vec<Scenario>,
        plan: Plan,
        is_json: bool,
    },
    /// The hidden one: be the floor.
    ServeAsFloor { port: u16, heartbeat: Duration },
    /// Not started by `cargo bench`, which always says `--bench`; a test run has no use for it.
    Nothing,
}

fn main() -> ExitCode {
    let command = match command() {
        Ok(command) => command,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Nothing => {
            println!("load: run it with cargo bench --bench load");
            ExitCode::SUCCESS
        }
        Command::ServeAsFloor { port, heartbeat } => match floor::serve(port, heartbeat) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("floor: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Measure {
            scenarios,
            plan,
            is_json,
        } => measure(&scenarios, plan, is_json),
    }
}

fn command() -> Result<Command, lexopt::Error> {
    let mut scenarios = Vec::new();
    let mut plan = Plan {
        runs: 5,
        seconds: None,
        streams: None,
        most_streams: u32::MAX,
        cores: None,
    };
    let (mut is_json, mut is_bench) = (false, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("runs") => plan.runs = parser.value()?.parse::<u32>()?.max(1),
            Long("seconds") => plan.seconds = Some(parser.value()?.parse::<u64>()?.max(1)),
            Long("streams") => plan.streams = Some(parser.value()?.parse()?),
            Long("json") => is_json = true,
            Long("bench") => is_bench = true,
            Long("serve-as-floor") => {
                return Ok(Command::ServeAsFloor {
                    port: parser.value()?.parse()?,
                    heartbeat: Duration::from_secs(parser.value()?.parse()?),
                });
            }
            Value(name) => {
                let known = Scenario::ALL.into_iter().find(|it| name == it.name());
                scenarios.push(known.ok_or_else(|| {
                    let names = Scenario::ALL.map(Scenario::name).join(", ");
                    format!("{} is not one of {names}", name.to_string_lossy())
                })?);
            }
            other => return Err(other.unexpected()),
        }
    }
    if !is_bench {
        return Ok(Command::Nothing);
    }
    if scenarios.is_empty() {
        scenarios.extend(Scenario::ALL);
    }
    Ok(Command::Measure {
        scenarios,
        plan,
        is_json,
    })
}

fn measure(scenarios: &[Scenario], mut plan: Plan, is_json: bool) -> ExitCode {
    let descriptors = ssegateway::host::prepare().descriptors;
    plan.most_streams = descriptors.saturating_sub(RESERVE).min(u64::from(u32::MAX)) as u32;
    let pinned = process::pin_load();
    let pinning = match &pinned {
        Ok(cores) => format!(
            "server on core {}, load on core {}",
            cores.server, cores.load
        ),
        Err(error) => format!("none: {error}"),
    };
    plan.cores = pinned.ok();
    let surroundings = Surroundings::look_up(pinning);
    let mut all = Vec::new();
    for &scenario in scenarios {
        let (streams, _) = scenario.size(&plan);
        if streams > plan.most_streams {
            eprintln!("load: {streams} streams need more than the {descriptors} descriptors");
            return ExitCode::from(2);
        }
        all.push(runs_of(scenario, &plan));
    }
    let text = if is_json {
        format!("{:#}\n", report::json(&surroundings, &plan, &all))
    } else {
        report::table(&surroundings, &plan, &all)
    };
    // A reader that is gone does not want it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if all.iter().all(Results::is_good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All runs of a scenario: gateway, floor, gateway, floor, …
fn runs_of(scenario: Scenario, plan: &Plan) -> Results {
    let mut results = Results {
        scenario,
        samples: Vec::new(),
        failure: None,
    };
    for run in 1..=plan.runs {
        for kind in [Kind::Gateway, Kind::Floor] {
            progress(&format!("{} {run}/{} {kind:?}", scenario.name(), plan.runs));
            match scenario::run(scenario, kind, plan) {
                Ok(sample) => results.samples.push((kind, sample)),
                Err(error) => {
                    let failure = format!("run {run}, {kind:?}: {error}");
                    progress(&format!("{}: {failure}\n", scenario.name()));
                    results.failure = Some(failure);
                    return results;
                }
            }
        }
    }
    progress("");
    results
}

/// What is being done, on standard error: in one line that is written over on a terminal.
fn progress(what: &str) {
    let mut err = std::io::stderr();
    // Nobody who reads it is nobody who misses it.
    let _ = if err.is_terminal() {
        write!(err, "\r\x1b[K{what}")
    } else if what.is_empty() {
        Ok(())
    } else {
        writeln!(err, "{what}")
    };
}
