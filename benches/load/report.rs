//! The figures and what they were taken on: a table for people, JSON for programs.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::Kind;
use crate::scenario::{Faults, Plan, Sample, Scenario};

/// Crates whose versions stand beside the figures.
const CRATES: [&str; 5] = ["mio", "httparse", "serde_json", "ureq", "uuid"];

/// What the figures were taken on, looked up before the load begins.
pub(crate) struct Surroundings {
    machine: String,
    kernel: String,
    rustc: String,
    crates: String,
    command: String,
    load_average: String,
    pinning: String,
}

impl Surroundings {
    pub(crate) fn look_up(pinning: String) -> Surroundings {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let cores = cpus
            .lines()
            .filter(|it| it.starts_with("processor"))
            .count();
        let rustc = Command::new("rustc").arg("-V").output();
        let arguments: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
            .collect();
        Surroundings {
            machine: format!(
                "{}, {cores} cores, {} of memory",
                field(&cpus, "model name"),
                field(&memory, "MemTotal")
            ),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: rustc.map_or("unknown".to_owned(), |output| {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }),
            crates: crate_versions(include_str!("../../Cargo.lock")),
            command: format!("cargo bench --bench load -- {}", arguments.join(" ")),
            load_average: read("/proc/loadavg").trim().to_owned(),
            pinning,
        }
    }

    fn lines(&self) -> [(&'static str, &str); 7] {
        [
            ("machine", &self.machine),
            ("kernel", &self.kernel),
            ("rustc", &self.rustc),
            ("crates", &self.crates),
            ("command", self.command.trim_end()),
            ("load average at the start", &self.load_average),
            ("pinning", &self.pinning),
        ]
    }
}

/// This crate's version, and those that the lock file has of [`CRATES`].
fn crate_versions(lock: &str) -> String {
    let mut text = format!("ssegateway {}", env!("CARGO_PKG_VERSION"));
    let lines: Vec<&str> = lock.lines().collect();
    for pair in lines.windows(2) {
        let value = |line: &str, key: &str| {
            let quoted = line.strip_prefix(key)?.strip_prefix(" = ")?;
            Some(quoted.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version)) = (value(pair[0], "name"), value(pair[1], "version"))
            && CRATES.contains(&name.as_str())
        {
            text.push_str(&format!(", {name} {version}"));
        }
    }
    text
}

/// A scenario's samples, gateway and floor in turn.
pub(crate) struct Results {
    pub(crate) scenario: Scenario,
    pub(crate) samples: Vec<(Kind, Sample)>,
    /// Why it was given up.
    pub(crate) failure: Option<String>,
}

impl Results {
    pub(crate) fn is_good(&self) -> bool {
        self.failure.is_none() && !self.faults().any()
    }

    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        for (_, sample) in &self.samples {
            faults.add(sample.faults);
        }
        faults
    }

    /// The figures' names and units, in the order in which the gateway gives them.
    fn metrics(&self) -> Vec<(&'static str, &'static str)> {
        let first = self.samples.iter().find(|(kind, _)| *kind == Kind::Gateway);
        let metrics = first.map_or(&[][..], |(_, sample)| &sample.metrics);
        metrics.iter().map(|it| (it.name, it.unit)).collect()
    }

    /// All values of a figure, smallest first; the floor does not have every one.
    fn values(&self, kind: Kind, name: &str) -> Vec<f64> {
        let samples = self.samples.iter().filter(|(of, _)| *of == kind);
        let metrics = samples.flat_map(|(_, sample)| &sample.metrics);
        let mut values: Vec<f64> = metrics
            .filter(|metric| metric.name == name)
            .map(|metric| metric.value)
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// The middle one of sorted values, or the mean of the two in the middle.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The table.
pub(crate) fn table(surroundings: &Surroundings, plan: &Plan, all: &[Results]) -> String {
    let mut text = String::new();
    for (name, value) in surroundings.lines() {
        text.push_str(&format!("{name}: {value}\n"));
    }
    for results in all {
        let (streams, duration) = results.scenario.size(plan);
        let cut = match results.scenario.is_cut(plan) {
            true => " (the descriptors allow no more)",
            false => "",
        };
        text.push_str(&format!(
            "\n{}: {}\n{streams} streams{cut}, {} s, {} runs, medians\n",
            results.scenario.name(),
            results.scenario.about(),
            duration.as_secs(),
            plan.runs
        ));
        text.push_str(&format!(
            "  {:<36}{:>12}{:>12}{:>8}   {}\n",
            "", "gateway", "floor", "ratio", "gateway's range"
        ));
        for (name, unit) in results.metrics() {
            text.push_str(&row(results, name, unit));
        }
        let Faults {
            lost,
            duplicated,
            misordered,
            unbalanced,
        } = results.faults();
        text.push_str(&format!(
            "  events lost {lost}, duplicated {duplicated}, misordered {misordered}; \
             tokens unbalanced {unbalanced}\n"
        ));
        if let Some(failure) = &results.failure {
            text.push_str(&format!("  FAILED: {failure}\n"));
        }
    }
    text
}

fn row(results: &Results, name: &str, unit: &str) -> String {
    let gateway = results.values(Kind::Gateway, name);
    let (one, other) = (median(&gateway), median(&results.values(Kind::Floor, name)));
    let show = |value: Option<f64>| value.map_or("-".to_owned(), short);
    let ratio = one.zip(other).filter(|(_, floor)| *floor > 0.0);
    let ratio = ratio.map_or(String::new(), |(one, other)| format!("{:.2}", one / other));
    let ends = gateway.first().zip(gateway.last());
    let range = ends.map_or(String::new(), |(least, most)| {
        format!("{} to {}", short(*least), short(*most))
    });
    format!(
        "  {:<36}{:>12}{:>12}{ratio:>8}   {range}\n",
        format!("{name}, {unit}"),
        show(one),
        show(other)
    )
}

/// Three digits at least, none that says nothing.
fn short(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The same for programs, with the figures of every run.
pub(crate) fn json(surroundings: &Surroundings, plan: &Plan, all: &[Results]) -> Value {
    let about: serde_json::Map<_, _> = surroundings
        .lines()
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let scenarios: Vec<Value> = all.iter().map(|it| scenario_json(plan, it)).collect();
    json!({ "surroundings": about, "runs": plan.runs, "scenarios": scenarios })
}

fn scenario_json(plan: &Plan, results: &Results) -> Value {
    let (streams, duration) = results.scenario.size(plan);
    let figures = |kind, name: &str| {
        let values = results.values(kind, name);
        json!({ "median": median(&values), "runs": values })
    };
    let metrics: Vec<Value> = results
        .metrics()
        .iter()
        .map(|(name, unit)| {
            json!({
                "name": name,
                "unit": unit,
                "gateway": figures(Kind::Gateway, name),
                "floor": figures(Kind::Floor, name),
            })
        })
        .collect();
    let faults = results.faults();
    json!({
        "name": results.scenario.name(),
        "about": results.scenario.about(),
        "streams": streams,
        "seconds": duration.as_secs(),
        "metrics": metrics,
        "lost": faults.lost,
        "duplicated": faults.duplicated,
        "misordered": faults.misordered,
        "unbalanced": faults.unbalanced,
        "failure": results.failure,
    })
}
