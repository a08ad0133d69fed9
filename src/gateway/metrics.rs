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

/// Families of one number each, in the order of their numbers.
const GAUGES: &str = "\
start_time_seconds When the process started, in seconds of the Unix clock.
ready Whether GET /readyz says so: 1 or 0.
streams Streams that are open.
streams_connecting Streams that wait for the backend's word.
max_streams Most streams, open or waiting (MAX_STREAMS, or what descriptors allow).
connections Connections, streams included.
max_connections Most connections, which the descriptor limit allows.
unsent_bytes Bytes that the sockets of streams did not take yet.
kept_header_bytes Memory for the header fields of all streams.
max_kept_header_bytes Most memory for header fields (MAX_KEPT_HEADER_BYTES).
fan_outs_pending Sends to many that have not come to everybody yet.
publishers_waiting Publishers that wait for room among those sends.
channels Channels that somebody is in.
memberships Memberships of streams in channels.
history_events Past events that are kept.
history_bytes Memory for past events.
max_history_bytes Most memory for past events (HISTORY_BYTES).
replays Open streams that take what they have missed from the history.
retained_bytes Memory for the current values of channels.
max_retained_bytes Most memory for current values (MAX_RETAINED_BYTES).
resident_memory_bytes Memory that the process has of the machine's.
open_descriptors Descriptors that the process has open.
max_descriptors Most descriptors that the process may have open.";

/// The same of those that only grow.
const COUNTERS: &str = "\
connections_accepted_total Connections that were accepted.
streams_opened_total Streams that were opened.
events_delivered_total Events that were given to streams, one for each of them.
delivered_bytes_total Bytes that the sockets of streams took.
gaps_total Streams that were told of something that they have missed.
keys_rejected_total Requests under /internal/ without a key that opens it.";

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

    fn figures(&mut self, measures: &Measures) -> String {
        let unsent = self.unsent();
        let mut page = Page {
            text: String::with_capacity(PAGE_BYTES),
            family: "",
        };
        page.family("build_info", "gauge", "The version that runs.");
        page.sample(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        self.gauges(&mut page, measures, unsent);
        self.hub.counts(&mut page);
        self.hub.journal.counters.render(&mut page);
        page.text
    }

    fn gauges(&self, page: &mut Page, measures: &Measures, unsent: u64) {
        let hub = &self.hub;
        let (limits, counters) = (&hub.settings.limits, &hub.journal.counters);
        let connecting = hub.calls.connects() - hub.calls.orphans();
        // With a history, whoever waits has a place among those that take from it.
        let waiting = if hub.history.is_on() { connecting } else { 0 };
        let replays = hub.replays.len() - waiting;
        let is_ready = u64::from(hub.settings.is_configured && !hub.is_draining);
        let channels = hub.channels.len() as u64;
        page.simple(
            "gauge",
            GAUGES,
            &[
                measures.start,
                is_ready,
                counters.open(),
                connecting as u64,
                limits.max_streams as u64,
                self.counts().connections as u64,
                limits.max_connections as u64,
                unsent,
                hub.fields.memory() as u64,
                limits.max_kept_headers as u64,
                hub.fan_outs.len() as u64,
                hub.fan_outs.waiting.len() as u64,
                channels,
                hub.channels.memberships() as u64,
                hub.history.len() as u64,
                hub.history.memory() as u64,
                limits.history as u64,
                replays as u64,
                hub.retained.memory() as u64,
                limits.max_retained as u64,
                measures.resident,
                measures.descriptors,
                measures.max_descriptors,
            ],
        );
        let pending = [hub.calls.connects(), hub.calls.disconnects()];
        for (name, help, values) in [
            (
                "callbacks_pending",
                "Callbacks that have not ended.",
                pending,
            ),
            (
                "callback_queue",
                "Callbacks that wait for a worker.",
                measures.queued,
            ),
        ] {
            page.family(name, "gauge", help);
            for (kind, value) in KINDS.iter().zip(values) {
                page.labelled("kind", kind, value as u64);
            }
        }
        page.family(
            "max_callback_queue",
            "gauge",
            "Most callbacks that wait for a worker (CONNECT_QUEUE).",
        );
        page.labelled("kind", KINDS[0], limits.connect_queue as u64);
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
                "Most memory that may be held (MAX_HELD_BYTES, MAX_INBOUND_BYTES).",
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
        page.simple(
            "counter",
            COUNTERS,
            &[
                self.accepted,
                self.opened,
                self.events,
                self.bytes,
                self.gaps,
                self.keys_rejected,
            ],
        );
        page.family(
            "streams_ended_total",
            "counter",
            "Streams that have ended, by what the backend was told.",
        );
        for (reason, value) in REASONS.iter().zip(self.ended) {
            page.labelled("reason", reason.as_str(), value);
        }
        page.family(
            "refusals_total",
            "counter",
            "Errors that were answered to other requests than sends, by their code.",
        );
        for (_, code, value) in self.refusals.rows() {
            page.labelled("code", code, *value);
        }
        page.family(
            "sends_total",
            "counter",
            "Sends that were read, by target and answer; none: refused before there was a target.",
        );
        for (target, answer, value) in self.sends.rows() {
            page.labelled_twice("", ("target", target), ("answer", answer), *value);
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
                page.labelled_twice("", ("kind", kind), ("outcome", outcome), *value);
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
                page.labelled_twice("_bucket", ("kind", kind), ("le", &bound), below);
            }
            page.labelled_twice("_bucket", ("kind", kind), ("le", "+Inf"), durations.count);
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

    /// Families of one number each: a line for each with its name and, behind a space, its help.
    fn simple(&mut self, kind: &str, families: &'static str, values: &[u64]) {
        for (family, value) in families.lines().zip(values) {
            let (name, help) = family.split_once(' ').unwrap_or((family, ""));
            self.family(name, kind, help);
            self.sample("", *value);
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

    /// A sample with one label.
    fn labelled(&mut self, label: &str, word: &str, value: u64) {
        let labels = ["{", label, "=\"", word, "\"}"].concat();
        self.sample(&labels, value);
    }

    /// A sample with two labels, of a family or a part of a histogram.
    fn labelled_twice(
        &mut self,
        part: &str,
        (one, its): (&str, &str),
        (other, word): (&str, &str),
        value: u64,
    ) {
        let labels = [part, "{", one, "=\"", its, "\",", other, "=\"", word, "\"}"].concat();
        self.sample(&labels, value);
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
            self.labelled("limit", limit.name(), count);
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
