//! What a real Prometheus makes of the gateway's figures (contract, section 14): those that it has are
//! those of what happened, to the last event.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::program::Program;
use crate::support::{Backend, Callback, Client, Folder, Gateway, Port, Response};
use crate::tools;

const KEY: &str = "as.it+is/written==";

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

/// What looks at the figures change themselves.
const VOLATILE: [&str; 5] = [
    "ssegateway_connections",
    "ssegateway_connections_accepted_total",
    "ssegateway_resident_memory_bytes",
    "ssegateway_open_descriptors",
    "ssegateway_held_bytes{towards=publishers}",
];

/// Numbers by series, whose labels stand in their order and without quotation marks.
type Figures = BTreeMap<String, f64>;

/// A Prometheus that scrapes a gateway; killed when dropped.
struct Prometheus {
    port: Port,
    // First it ends, then its folder goes.
    program: Program,
    _folder: Folder,
}

impl Prometheus {
    fn of(gateway: &Gateway) -> Prometheus {
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
    fn figures(&self) -> Figures {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a time since 1970").as_secs_f64();
        self.wait("a scrape", || {
            let samples = self.samples();
            let last = samples.iter().map(|(name, samples)| {
                let last = samples.last().filter(|(time, _)| *time > now);
                last.map(|(_, value)| (name.clone(), *value))
            });
            // Each series has one, or the scrape is not whole yet.
            let figures = last.collect::<Option<Figures>>();
            figures.filter(|figures| !figures.is_empty())
        })
    }

    /// Every alert has been tried, without an error.
    fn check_alerts(&self) {
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
fn check(page: &str) {
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
fn figure(line: &str) -> (String, f64) {
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

/// An open stream, and how many bytes its socket has taken.
struct Stream {
    client: Client,
    token: String,
    bytes: usize,
}

impl Stream {
    fn open(gateway: &Gateway, backend: &Backend, path: &str) -> Stream {
        let mut client = gateway.get(path);
        let token = backend.next_connect_of(path).token();
        let head = client.read_head();
        assert_eq!(head.status, 200, "{}", head.text());
        Stream {
            client,
            token,
            bytes: head.raw.len(),
        }
    }

    /// Reads events up to the one that is called so.
    fn read_to(&mut self, name: &str) {
        let last = format!("event: {name}\n");
        loop {
            let event = self.client.next_event();
            // A chunk: its size, its bytes, the ends of both.
            self.bytes += format!("{:x}", event.len()).len() + event.len() + 4;
            if event.starts_with(&last) {
                break;
            }
        }
    }
}

/// Requests under `/internal/`, on one connection, and what is to come of everything.
struct Operator {
    client: Client,
    expected: Figures,
}

impl Operator {
    fn to(gateway: &Gateway) -> Operator {
        Operator {
            client: gateway.connect(),
            expected: Figures::new(),
        }
    }

    fn request(&mut self, line: &str, body: &str) -> Response {
        let length = body.len();
        self.client.send(format!(
            "{line} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ));
        self.client.read_response()
    }

    /// All figures, as anybody gets them.
    fn page(&mut self) -> String {
        let response = self.request("GET /internal/metrics", "");
        let page = String::from_utf8(response.body).expect("text");
        check(&page);
        page
    }

    /// So many of a series more.
    fn expect(&mut self, series: &str, number: usize) {
        *self.entry(series) += number as f64;
    }

    fn expect_less(&mut self, series: &str, number: usize) {
        *self.entry(series) -= number as f64;
    }

    fn entry(&mut self, series: &str) -> &mut f64 {
        let series = format!("ssegateway_{series}");
        self.expected.entry(series).or_default()
    }

    /// A send to this kind of target, which is answered so.
    #[track_caller]
    fn send(&mut self, target: &str, answer: &str, body: &Value) {
        let response = self.request("POST /internal/send", &body.to_string());
        let text = String::from_utf8_lossy(&response.body);
        assert!(text.contains(&format!("\"{answer}\"")), "{text}");
        let series = format!("sends_total{{answer={answer},target={target}}}");
        self.expect(&series, 1);
    }

    /// The figures are as expected, both those of a page and those of the next scrape, and everything
    /// else that is counted never happened.
    #[track_caller]
    fn compare(&mut self, prometheus: &Prometheus) {
        let scraped = prometheus.figures();
        let page = self.page();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let shown: Figures = lines.map(figure).collect();
        let series = |figures: &Figures| figures.keys().cloned().collect::<Vec<_>>();
        assert_eq!(series(&shown), series(&scraped));
        for series in self.expected.keys() {
            assert!(shown.contains_key(series), "no {series} in {page}");
        }
        for (series, value) in &shown {
            if VOLATILE.contains(&series.as_str()) {
                continue;
            }
            assert_eq!(scraped[series], *value, "{series}");
            let is_counted = series.contains("_total") || series.contains("_count{");
            match self.expected.get(series) {
                Some(expected) => assert_eq!(value, expected, "{series}"),
                None => assert!(!is_counted || *value == 0.0, "{series}: {value}"),
            }
        }
    }
}

const STREAMS: usize = 240;
const REFUSED: usize = 20;
const WAITING: usize = 3;
const ROOMS: usize = 10;

/// `/s/17` is in two channels, `/refused` is refused, and at `/waiting` nothing happens yet.
fn answer(callback: &Callback) {
    let number = callback.url().strip_prefix("/s/");
    match number.map(|number| number.parse::<usize>().expect("a number")) {
        Some(number) => {
            let channels = json!(["news", format!("room.{}", number % ROOMS)]);
            callback.answer(200, &json!({"channels": channels}).to_string());
        }
        None if callback.url() == "/refused" => callback.answer(403, ""),
        None if callback.is_connect() => {}
        None => callback.answer(200, ""),
    }
}

/// What a connect that is answered, or any disconnect, is in the figures.
fn expect_callbacks(operator: &mut Operator, kind: &str, outcome: &str, number: usize) {
    let series = format!("callbacks_total{{kind={kind},outcome={outcome}}}");
    operator.expect(&series, number);
    let kind = format!("{{kind={kind}}}");
    operator.expect(&format!("callback_duration_seconds_count{kind}"), number);
}

fn open_all(gateway: &Gateway, backend: &Backend, operator: &mut Operator) -> Vec<Stream> {
    let open = |n| Stream::open(gateway, backend, &format!("/s/{n}"));
    let streams: Vec<Stream> = (0..STREAMS).map(open).collect();
    for _ in 0..REFUSED {
        let mut client = gateway.get("/refused");
        assert_eq!(client.read_response().status(), 403);
    }
    expect_callbacks(operator, "connect", "accepted", STREAMS);
    expect_callbacks(operator, "connect", "rejected", REFUSED);
    operator.expect("refusals_total{code=BACKEND_FORBIDDEN}", REFUSED);
    operator.expect("streams_opened_total", STREAMS);
    operator.expect("streams", STREAMS);
    operator.expect("channels", 1 + ROOMS);
    operator.expect("memberships", 2 * STREAMS);
    streams
}

/// Events in all ways that there are, and what is no event.
fn send_all(operator: &mut Operator, tokens: &[&str], waiting: &[String]) {
    let event = |target: Value| {
        let mut body = target;
        body["event"] = json!({"name": "tick", "data": "x"});
        body
    };
    for token in tokens {
        operator.send("token", "ok", &event(json!({"token": token})));
    }
    operator.expect("events_delivered_total", tokens.len());
    for some in tokens.chunks(100) {
        let some = [some, &["gone"]].concat();
        operator.send("tokens", "ok", &event(json!({"tokens": some})));
        operator.expect("events_delivered_total", some.len() - 1);
    }
    for _ in 0..4 {
        operator.send("channels", "ok", &event(json!({"channel": "news"})));
        operator.expect("events_delivered_total", STREAMS);
    }
    for _ in 0..3 {
        let rooms = json!({"channels": ["room.1", "room.2", "nobody"]});
        operator.send("channels", "ok", &event(rooms));
        operator.expect("events_delivered_total", 2 * STREAMS / ROOMS);
    }
    for name in ["tick", "last"] {
        let all = json!({"broadcast": true, "event": {"name": name, "data": "x"}});
        operator.send("broadcast", "ok", &all);
        operator.expect("events_delivered_total", STREAMS);
    }
    operator.expect("history_events", 4 + 3 + 2);
    for token in waiting {
        operator.send("token", "buffered", &event(json!({"token": token})));
    }
    for _ in 0..11 {
        operator.send("token", "TOKEN_NOT_FOUND", &event(json!({"token": "gone"})));
    }
    for _ in 0..5 {
        operator.send(
            "none",
            "INVALID_TARGET",
            &json!({"token": "", "tokens": []}),
        );
    }
    operator.send("none", "INVALID_JSON", &json!(7));
    for (line, status, code) in [
        ("GET /internal/nothing", 404, "NOT_FOUND"),
        ("PUT /healthz", 405, "METHOD_NOT_ALLOWED"),
    ] {
        assert_eq!(operator.request(line, "").status(), status);
        operator.expect(&format!("refusals_total{{code={code}}}"), 1);
    }
}

#[test]
#[ignore = "needs Prometheus"]
fn prometheus_has_the_figures_of_what_happened() {
    let backend = Backend::with(answer);
    let builder = Gateway::builder().backend(&backend);
    let builder = builder.env("INTERNAL_KEY", KEY).env("MAX_STREAMS", "5000");
    let builder = builder.env("HISTORY_BYTES", "1000000");
    // Every byte is counted, and those of heartbeats depend on how long the test takes.
    let builder = builder.env("HEARTBEAT_INTERVAL_SECONDS", "86400");
    let gateway = builder.env("CONNECT_TIMEOUT_SECONDS", "600").start();
    let prometheus = Prometheus::of(&gateway);
    let mut operator = Operator::to(&gateway);
    let version = env!("CARGO_PKG_VERSION");
    operator.expect(&format!("build_info{{version={version}}}"), 1);
    operator.expect("ready", 1);
    operator.expect("max_streams", 5000);
    operator.expect("max_history_bytes", 1_000_000);
    // Prometheus itself takes seconds to come for the first time.
    operator.page();
    let mut stranger = gateway.get("/internal/metrics");
    assert_eq!(stranger.read_response().status(), 401);
    operator.expect("keys_rejected_total", 1);
    operator.expect("refusals_total{code=UNAUTHORIZED}", 1);

    let mut streams = open_all(&gateway, &backend, &mut operator);
    let waiting: Vec<Client> = (0..WAITING).map(|_| gateway.get("/waiting")).collect();
    let held: Vec<Callback> = waiting
        .iter()
        .map(|_| backend.next_connect_of("/waiting"))
        .collect();
    operator.expect("streams_connecting", WAITING);
    operator.expect("callbacks_pending{kind=connect}", WAITING);

    let tokens: Vec<&str> = streams.iter().map(|stream| stream.token.as_str()).collect();
    let windows: Vec<String> = held.iter().map(Callback::token).collect();
    send_all(&mut operator, &tokens, &windows);
    for stream in &mut streams {
        stream.read_to("last");
    }
    let bytes = streams.iter().map(|stream| stream.bytes).sum();
    operator.expect("delivered_bytes_total", bytes);
    operator.compare(&prometheus);

    // A third stays; of the others a half is closed, and a half leaves in one of two ways.
    for (number, mut stream) in streams.drain(STREAMS / 3..).enumerate() {
        let reason = match number % 4 {
            0 => {
                drop(stream);
                "client_closed"
            }
            1 => {
                stream.client.reset();
                "client_closed"
            }
            _ => {
                operator.send(
                    "token",
                    "ok",
                    &json!({"token": stream.token, "close": true}),
                );
                stream.client.expect_last_chunk_and_eof();
                operator.expect("delivered_bytes_total", "0\r\n\r\n".len());
                "server_closed"
            }
        };
        operator.expect(&format!("streams_ended_total{{reason={reason}}}"), 1);
    }
    let gone = STREAMS - streams.len();
    operator.expect_less("streams", gone);
    operator.expect_less("memberships", 2 * gone);
    expect_callbacks(&mut operator, "disconnect", "accepted", gone);
    gateway.wait_log_times("a disconnect's answer", gone, |line| {
        line.text.contains("disconnect callback answered")
    });
    operator.compare(&prometheus);
    prometheus.check_alerts();
}
