//! What a real Prometheus makes of the gateway's figures (contract, section 14): those that it has are
//! those of what happened, to the last event.

mod server;

use serde_json::{Value, json};

use crate::support::{Backend, Callback, Client, Gateway, Response};

use server::{Figures, KEY, Prometheus, check, figure};

/// What looks at the figures change themselves.
const VOLATILE: [&str; 5] = [
    "ssegateway_connections",
    "ssegateway_connections_accepted_total",
    "ssegateway_resident_memory_bytes",
    "ssegateway_open_descriptors",
    "ssegateway_held_bytes{towards=publishers}",
];

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
