//! Who looks at the gateway's figures, again and again, as Prometheus does.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::{Client, Gateway, PATIENCE};

/// Looks come so far apart while something is awaited.
const PAUSE: Duration = Duration::from_millis(5);

/// Counters that [`Scraper::expect`] leaves out: a test that posts makes connections, and bytes are
/// compared with those that were read.
const LEFT_OUT: [&str; 2] = ["connections_accepted_total", "delivered_bytes_total"];

/// A connection on which figures are asked for, and what they were last.
pub struct Scraper {
    client: Client,
    request: String,
    pub last: Metrics,
    /// All series that there ever are: one that begins to exist with its first event hides that from
    /// whoever looks for increases.
    series: Vec<String>,
}

impl Scraper {
    /// Takes a first look.
    #[track_caller]
    pub fn of(gateway: &Gateway) -> Scraper {
        Scraper::over(gateway.connect())
    }

    #[track_caller]
    pub fn over(client: Client) -> Scraper {
        Scraper::asking(client, "")
    }

    #[track_caller]
    pub fn with_key(client: Client, key: &str) -> Scraper {
        Scraper::asking(client, &format!("Authorization: Bearer {key}\r\n"))
    }

    #[track_caller]
    fn asking(client: Client, fields: &str) -> Scraper {
        let mut scraper = Scraper {
            client,
            request: format!("GET /internal/metrics HTTP/1.1\r\nHost: h\r\n{fields}\r\n"),
            last: Metrics::default(),
            series: Vec::new(),
        };
        scraper.last = scraper.look();
        scraper
    }

    /// The figures now. What they promise always is looked at each time.
    #[track_caller]
    pub fn look(&mut self) -> Metrics {
        self.client.send(&self.request);
        let response = self.client.read_response();
        assert_eq!(response.status(), 200, "{}", response.text());
        let text = String::from_utf8(response.body).expect("UTF-8");
        let metrics = Metrics::parse(&text).unwrap_or_else(|why| panic!("{why} in:\n{text}"));
        let series: Vec<String> = metrics.series().map(str::to_owned).collect();
        if self.series.is_empty() {
            self.series = series;
        } else {
            assert_eq!(self.series, series);
        }
        assert_consistent(&metrics);
        metrics
    }

    /// A figure now.
    #[track_caller]
    pub fn get(&mut self, series: &str) -> u64 {
        self.look().count(series)
    }

    /// Waits until the counters, but for those that are left out, have grown by just this much since
    /// the last call, and no other has.
    #[track_caller]
    pub fn expect(&mut self, grown: &[(&str, u64)]) {
        let expected = grown.iter().map(|(name, by)| ((*name).to_owned(), *by));
        let expected: BTreeMap<String, u64> = expected.collect();
        let since = Instant::now();
        loop {
            let metrics = self.look();
            let mut seen = metrics.since(&self.last);
            seen.retain(|series, _| !LEFT_OUT.contains(&&**series));
            if seen == expected {
                self.last = metrics;
                return;
            }
            // More than was expected will not become less.
            let is_over = |(series, by): (&String, &u64)| expected.get(series) < Some(by);
            let is_too_late = since.elapsed() > PATIENCE;
            assert!(
                !is_too_late && !seen.iter().any(is_over),
                "grown by {seen:#?}, not by {expected:#?}"
            );
            thread::sleep(PAUSE);
        }
    }

    /// Waits until this is true of the figures.
    #[track_caller]
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&Metrics) -> bool) -> Metrics {
        let since = Instant::now();
        loop {
            let metrics = self.look();
            if is_so(&metrics) {
                return metrics;
            }
            assert!(since.elapsed() < PATIENCE, "{what} in {metrics:#?}");
            thread::sleep(PAUSE);
        }
    }
}

/// What is true of the figures at every moment.
#[track_caller]
pub fn assert_consistent(metrics: &Metrics) {
    let opened = metrics.count("streams_opened_total");
    let ended = metrics.sum("streams_ended_total");
    assert_eq!(opened, ended + metrics.count("streams"));
    let dropped = metrics.sum("streams_dropped_total");
    let errors = metrics.count("streams_ended_total reason=error");
    assert!(dropped <= errors, "{dropped} of {errors}");
    for (series, dropped) in metrics.of("streams_dropped_total") {
        let hit = series.replace("streams_dropped_total", "limits_hit_total");
        assert!(dropped <= metrics.get(&hit), "{series}");
    }
    for kind in ["connect", "disconnect"] {
        let outcome = |name: &&str| {
            let series = format!("callbacks_total kind={kind} outcome={name}");
            metrics.count(&series)
        };
        let sent = ["accepted", "rejected", "timed_out", "failed", "unfinished"];
        let sent: u64 = sent.iter().map(outcome).sum();
        let label = format!(" kind={kind}");
        let count = metrics.count(&format!("callback_duration_seconds_count{label}"));
        assert_eq!(count, sent, "{kind}");
        let queued = metrics.count(&format!("callback_queue{label}"));
        let pending = metrics.count(&format!("callbacks_pending{label}"));
        assert!(queued <= pending, "{kind}: {queued} of {pending}");
        assert_between(metrics, &label);
    }
    let connecting = metrics.count("streams_connecting");
    assert!(connecting <= metrics.count("callbacks_pending kind=connect"));
    let streams = metrics.count("streams") + connecting;
    assert!(streams <= metrics.count("max_streams"));
    assert!(streams < metrics.count("connections"), "and the scraper");
    assert!(metrics.count("connections") <= metrics.count("max_connections"));
}

/// The sum of a histogram is one that its buckets allow.
#[track_caller]
fn assert_between(metrics: &Metrics, label: &str) {
    let sum = metrics.get(&format!("callback_duration_seconds_sum{label}"));
    let (mut least, mut most) = (0.0, 0.0);
    let (mut below, mut bound) = (0.0, 0.0);
    for (le, count) in metrics.buckets("callback_duration_seconds", label) {
        if count > below {
            least += bound * (count - below);
            most += le * (count - below);
        }
        (below, bound) = (count, le);
    }
    let slack = 1e-9;
    assert!(
        least <= sum + slack && sum <= most + slack,
        "{least} {sum} {most}"
    );
}
