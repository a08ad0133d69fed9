//! A Prometheus that scrapes a gateway, and what it says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::program::Program;
use crate::support::{Client, Folder, Gateway, Port};
use crate::tools;

/// What opens `/internal/`, and more than letters.
pub const KEY: &str = "as.it+is/written==";

/// The alerts, at whose top stands how Prometheus is to find a gateway.
const ALERTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/packaging/prometheus/alerts.yml"
);

/// What stands around that: scrapes come soon one behind the other.
const AROUND: &str = "\
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [{alerts}]
{block}
";

/// It writes a scrape's time down as up to so many seconds later, to have them evenly spaced.
const ROUNDING: f64 = 0.01;

/// Numbers by series, whose labels stand in their order and without quotation marks.
pub type Figures = BTreeMap<String, f64>;

/// A Prometheus that scrapes a gateway; killed when dropped.
pub struct Prometheus {
    port: Port,
    // First it ends, then its folder goes.
    program: Program,
    _folder: Folder,
}

impl Prometheus {
    pub fn of(gateway: &Gateway) -> Prometheus {
        let folder = Folder::new("prometheus");
        let [file, key, storage] =
            ["configuration", "key", "storage"].map(|name| folder.path(name));
        fs::write(&key, format!("{KEY}\n")).expect("a file");
        let own = format!("127.0.0.1:{}", gateway.port());
        let mut block = block();
        for (old, new) in [
            (
                "/etc/prometheus/ssegateway.key",
                key.to_str().expect("a path"),
            ),
            ("127.0.0.1:3000", &own),
        ] {
            assert!(block.contains(old), "{old} in {block}");
            block = block.replace(old, new);
        }
        let text = AROUND
            .replace("{alerts}", ALERTS)
            .replace("{block}", &block);
        fs::write(&file, text).expect("a file");
        let port = Port::reserve_local();
        let mut command = Command::new(tools::program("prometheus"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", storage.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        let program = Program::start(&mut command);
        program.wait_error("Server is ready to receive web requests");
        Prometheus {
            port,
            program,
            _folder: folder,
        }
    }

    /// What it answers at a path of its API.
    fn ask(&self, path: &str) -> Value {
        let mut client = Client::connect(self.port.number());
        client.get(&format!("/api/v1/{path}"));
        let response = client.read_response();
        let mut answer: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(answer["status"], "success", "{}", response.text());
        answer["data"].take()
    }

    /// All that it was told in the last hour: the times and values of each series.
    fn samples(&self) -> BTreeMap<String, Vec<(f64, f64)>> {
        // {__name__=~"ssegateway_.+"}[1h]
        let data = self.ask("query?query=%7B__name__%3D~%22ssegateway_.%2B%22%7D%5B1h%5D");
        let series = data["result"].as_array().expect("series");
        let samples = |one: &Value| {
            let samples = one["values"].as_array().expect("samples").iter();
            let pairs = samples.map(|pair| {
                let value = pair[1].as_str().and_then(|text| text.parse().ok());
                (pair[0].as_f64().expect("a time"), value.expect("a value"))
            });
            (name_of(&one["metric"]), pairs.collect())
        };
        series.iter().map(samples).collect()
    }

    /// What it has of a scrape that began after this moment.
    pub fn figures(&self) -> Figures {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a time since 1970").as_secs_f64();
        self.wait("a scrape", || {
            let samples = self.samples();
            let last = samples.iter().map(|(name, samples)| {
                let last = samples.last().filter(|(time, _)| *time > now + ROUNDING);
                last.map(|(_, value)| (name.clone(), *value))
            });
            // Each series has one, or the scrape is not whole yet.
            let figures = last.collect::<Option<Figures>>();
            figures.filter(|figures| !figures.is_empty())
        })
    }

    /// Every alert has been tried, without an error.
    pub fn check_alerts(&self) {
        let rules = self.wait("the alerts", || {
            let data = self.ask("rules");
            let groups = data["groups"].as_array().expect("groups").iter();
            let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
            let rules: Vec<Value> = rules.cloned().collect();
            let are_tried = rules.iter().all(|rule| rule["health"] != "unknown");
            are_tried.then_some(rules)
        });
        assert!(rules.len() > 5, "{rules:?}");
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }

    #[track_caller]
    fn wait<R>(&self, what: &str, mut find: impl FnMut() -> Option<R>) -> R {
        let mut found = None;
        self.program.wait_until(what, || {
            found = find();
            found.is_some()
        });
        found.expect(what)
    }
}

/// What a Prometheus is to be told of a gateway: it stands in a comment.
fn block() -> String {
    let text = fs::read_to_string(ALERTS).expect("the alerts");
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    let block: Vec<&str> = lines.filter_map(|line| line.strip_prefix("   ")).collect();
    block.join("\n")
}

fn name_of(metric: &Value) -> String {
    let labels = metric.as_object().expect("labels").iter();
    let own =
        labels.filter(|(label, _)| !["__name__", "instance", "job"].contains(&label.as_str()));
    let own: Vec<String> = own
        .map(|(label, value)| format!("{label}={}", value.as_str().expect("text")))
        .collect();
    let name = metric["__name__"].as_str().expect("a name");
    match &own[..] {
        [] => name.to_owned(),
        _ => format!("{name}{{{}}}", own.join(",")),
    }
}

/// promtool finds nothing wrong, neither with the format nor with names and units.
#[track_caller]
pub fn check(page: &str) {
    let mut command = Command::new(tools::program("promtool"));
    let mut child = command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(page.as_bytes()).expect("a reader");
    drop(stdin);
    let output = child.wait_with_output().expect("an output");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

/// A line of a page: its series and its value.
pub fn figure(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().expect("a number");
    let series = series.replace('"', "");
    let Some((name, labels)) = series.split_once('{') else {
        return (series, value);
    };
    let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    (format!("{name}{{{}}}", labels.join(",")), value)
}
