//! `GET /internal/metrics`: what goes on, in figures (contract, section 14), as Prometheus reads them
//! (its text format, version 0.0.4). A look costs the same however many streams there are.

use super::conn::State;
use super::counters::{BOUNDS, Counters, KINDS, OUTCOMES, REASONS};
use super::hub::Hub;
use super::limit::{ALL_LIMITS, LIMITS, Limit};
use super::{ConnId, Effect, Gateway};
use crate::time::Time;

const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Room for a page: somewhat more than it has.
const PAGE_BYTES: usize = 20 * 1024;

/// What the shell alone knows of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measures {
    /// When it started, in seconds of the Unix clock.
    pub start: u64,
    /// Bytes of memory that it has of the machine's.
    pub resident: u64,
    /// Descriptors that it has open.
    pub descriptors: u64,
    /// How many it may have.
    pub max_descriptors: u64,
    /// Connect and disconnect callbacks that wait for a worker.
    pub queued: [usize; 2],
}

impl<S> Gateway<S> {
    /// Asks the shell for its part of the figures; what it gives is the answer's.
    pub(super) fn ask_measures(&mut self, id: ConnId) {
        if let Some((conn, hub)) = self.both(id) {
            conn.state = State::Sending;
            hub.effect(Effect::Measure(id));
        }
    }

    /// What the shell has measured for a connection that asks for the figures.
    pub fn measured(&mut self, id: ConnId, measures: &Measures, now: Time) {
        let page = self.figures(measures);
        if let Some((conn, hub)) = self.both(id)
            && matches!(conn.state, State::Sending)
        {
            conn.answer_with(hub, 200, MEDIA_TYPE, &page, now);
            conn.await_serving(hub, now);
        }
    }

    fn figures(&self, measures: &Measures) -> String {
        let mut page = Page {
            text: String::with_capacity(PAGE_BYTES),
            family: "",
        };
        page.family("build_info", "gauge", "The version that runs.");
        page.sample(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        self.gauges(&mut page, measures);
        self.hub.counts(&mut page);
        self.hub.journal.counters.render(&mut page);
        page.text
    }

    fn gauges(&self, page: &mut Page, measures: &Measures) {
        let hub = &self.hub;
        let (limits, counters) = (&hub.settings.limits, &hub.journal.counters);
        let connecting = hub.calls.connects() - hub.calls.orphans();
        let is_ready = u64::from(hub.settings.is_configured && !hub.is_draining);
        let channels = hub.channels.len() as u64;
        #[rustfmt::skip] // A table is read in columns.
        let gauges: [(&str, &str, u64); 24] = [
            ("start_time_seconds", "When the process started, in seconds of the Unix clock.", measures.start),
            ("ready", "Whether GET /readyz says so.", is_ready),
            ("streams", "Streams that are open.", counters.open()),
            ("streams_connecting", "Streams that wait for the backend's word.", connecting as u64),
            ("max_streams", "Streams, open or waiting, that there may be (MAX_STREAMS, or what descriptors allow).", limits.max_streams as u64),
            ("connections", "Connections, streams included.", self.counts().connections as u64),
            ("max_connections", "Connections that there may be.", limits.max_connections as u64),
            ("unsent_bytes", "Bytes for streams whose sockets did not take them.", self.unsent()),
            ("kept_header_bytes", "Memory for the header fields of all streams.", hub.fields.memory() as u64),
            ("max_kept_header_bytes", "What it may be (MAX_KEPT_HEADER_BYTES).", limits.max_kept_headers as u64),
            ("fan_outs_pending", "Sends to many that have not come to everybody.", hub.fan_outs.len() as u64),
            ("publishers_waiting", "Publishers that are read no further because of those.", hub.fan_outs.waiting.len() as u64),
            ("channels", "Channels that somebody is in.", channels),
            ("memberships", "Memberships of streams in channels.", hub.channels.memberships() as u64),
            ("history_events", "Past events that are kept.", hub.history.len() as u64),
            ("history_bytes", "Memory that they take.", hub.history.memory() as u64),
            ("max_history_bytes", "What it may be (HISTORY_BYTES).", limits.history as u64),
            ("replays", "Streams that take what they have missed from the history.", hub.replays.len() as u64),
            ("retained_bytes", "Memory for the current values of channels.", hub.retained.memory() as u64),
            ("max_retained_bytes", "What it may be (MAX_RETAINED_BYTES).", limits.max_retained as u64),
            ("resident_memory_bytes", "Memory that the process has of the machine's.", measures.resident),
            ("open_descriptors", "Descriptors that the process has open.", measures.descriptors),
            ("max_descriptors", "Descriptors that it may have.", measures.max_descriptors),
            ("max_callback_queue", "Connect callbacks that may wait for a worker (CONNECT_QUEUE).", limits.connect_queue as u64),
        ];
        for (name, help, value) in gauges {
            page.family(name, "gauge", help);
            page.sample("", value);
        }
        let pending = [hub.calls.connects(), hub.calls.disconnects()];
        for (name, help, values) in [
            (
                "callbacks_pending",
                "Callbacks whose result is owed.",
                pending,
            ),
            (
                "callback_queue",
                "Those of them that wait for a worker.",
                measures.queued,
            ),
        ] {
            page.family(name, "gauge", help);
            for (kind, value) in KINDS.iter().zip(values) {
                page.sample(&format!("{{kind=\"{kind}\"}}"), value as u64);
            }
        }
    }

    /// Bytes that sockets of streams did not take. Only those who are behind are looked at.
    fn unsent(&self) -> u64 {
        let behind = self.hub.eviction.behind.current(&self.conns);
        behind.map(|conn| conn.unsent() as u64).sum()
    }
}

impl Hub {
    /// What is held, and how much that may be.
    fn counts(&self, page: &mut Page) {
        let limits = &self.settings.limits;
        for (name, help, clients, publishers) in [
            (
                "held_bytes",
                "Memory held towards clients, and from publishers and strangers.",
                self.outbound(),
                self.held.inbound,
            ),
            (
                "max_held_bytes",
                "What it may be (MAX_HELD_BYTES, MAX_INBOUND_BYTES).",
                limits.max_held,
                limits.max_inbound,
            ),
        ] {
            page.family(name, "gauge", help);
            page.sample("{towards=\"clients\"}", clients as u64);
            page.sample("{towards=\"publishers\"}", publishers as u64);
        }
    }
}

impl Counters {
    fn render(&self, page: &mut Page) {
        #[rustfmt::skip] // A table is read in columns.
        let counters = [
            ("connections_accepted_total", "Connections that were accepted.", self.accepted),
            ("streams_opened_total", "Streams that were opened.", self.opened),
            ("events_delivered_total", "Events that were given to streams, one for each of them.", self.events),
            ("delivered_bytes_total", "Bytes that the sockets of streams took.", self.bytes),
            ("gaps_total", "Streams that were told of something that they have missed.", self.gaps),
            ("keys_rejected_total", "Requests under /internal/ without a key that opens it.", self.keys_rejected),
        ];
        for (name, help, value) in counters {
            page.family(name, "counter", help);
            page.sample("", value);
        }
        page.family(
            "streams_ended_total",
            "counter",
            "Streams that have ended, by what the backend was told.",
        );
        for (reason, value) in REASONS.iter().zip(self.ended) {
            page.sample(&format!("{{reason=\"{}\"}}", reason.as_str()), value);
        }
        page.family(
            "refusals_total",
            "counter",
            "Errors that were answered to other requests than sends, by their code.",
        );
        for (_, code, value) in self.refusals.rows() {
            page.sample(&format!("{{code=\"{code}\"}}"), *value);
        }
        page.family(
            "sends_total",
            "counter",
            "Sends that were read, by target and answer; none: refused before there was a target.",
        );
        for (target, answer, value) in self.sends.rows() {
            let labels = format!("{{target=\"{target}\",answer=\"{answer}\"}}");
            page.sample(&labels, *value);
        }
        self.render_limits(page);
        self.render_callbacks(page);
    }

    fn render_limits(&self, page: &mut Page) {
        page.family(
            "streams_dropped_total",
            "counter",
            "Streams that were dropped as they passed a limit, by its name.",
        );
        page.limits(&self.dropped, Limit::drops_streams);
        page.family(
            "limits_hit_total",
            "counter",
            "How often a limit was reached, by its name.",
        );
        page.limits(&self.limits, |limit| !limit.is_for_lines());
    }

    fn render_callbacks(&self, page: &mut Page) {
        page.family(
            "callbacks_total",
            "counter",
            "Callbacks that have ended, by kind and outcome.",
        );
        for (kind, row) in KINDS.iter().zip(&self.callbacks) {
            for (outcome, value) in OUTCOMES.iter().zip(row) {
                let labels = format!("{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
                page.sample(&labels, *value);
            }
        }
        page.family(
            "callback_duration_seconds",
            "histogram",
            "How long callbacks took that were sent.",
        );
        for (kind, durations) in KINDS.iter().zip(&self.durations) {
            let mut below = 0;
            for (bound, within) in BOUNDS.iter().zip(durations.within) {
                below += within;
                let bound = seconds(*bound);
                let labels = format!("_bucket{{kind=\"{kind}\",le=\"{bound}\"}}");
                page.sample(&labels, below);
            }
            page.sample(
                &format!("_bucket{{kind=\"{kind}\",le=\"+Inf\"}}"),
                durations.count,
            );
            let labels = format!("_sum{{kind=\"{kind}\"}}");
            page.line(&labels, &seconds(durations.sum));
            page.sample(&format!("_count{{kind=\"{kind}\"}}"), durations.count);
        }
    }
}

/// Microseconds as seconds, without needless zeros.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text, and the family that its next samples are of.
struct Page {
    text: String,
    family: &'static str,
}

const PREFIX: &str = "ssegateway_";

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        for (what, rest) in [("# HELP ", help), ("# TYPE ", kind)] {
            for part in [what, PREFIX, name, " ", rest, "\n"] {
                self.text.push_str(part);
            }
        }
    }

    /// `labels` are all that stands behind the family's name.
    fn line(&mut self, labels: &str, value: &str) {
        for part in [PREFIX, self.family, labels, " ", value, "\n"] {
            self.text.push_str(part);
        }
    }

    fn sample(&mut self, labels: &str, value: u64) {
        self.line(labels, &value.to_string());
    }

    /// A sample for the name of each limit that is meant.
    fn limits(&mut self, counts: &[u64; LIMITS], is_meant: fn(Limit) -> bool) {
        for limit in ALL_LIMITS.into_iter().filter(|limit| is_meant(*limit)) {
            let mut count = counts[limit as usize];
            match limit {
                // They are one setting.
                Limit::Window => continue,
                Limit::Unsent => count += counts[Limit::Window as usize],
                _ => {}
            }
            self.sample(&format!("{{limit=\"{}\"}}", limit.name()), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_short() {
        for (micros, text) in [
            (0, "0"),
            (1_000, "0.001"),
            (2_500_000, "2.5"),
            (10_000_000, "10"),
            (1, "0.000001"),
        ] {
            assert_eq!(seconds(micros), text);
        }
    }
}
