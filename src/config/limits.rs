//! The limits (contract, section 6) and what the descriptor limit makes of them.

use std::time::Duration;

use super::settings::{Default as Text, SETTINGS};

/// Every limit, with the derived ones filled in. Fields are named like their settings, without
/// the unit; times are whole seconds, sizes are bytes where the name of the setting says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head; beyond it 431, or 414 for the target.
    pub max_head: usize,
    /// Headers of a request; beyond it 431.
    pub max_headers: usize,
    /// Bytes of a request body; beyond it 413.
    pub max_body: usize,
    /// To receive a whole request, from its first byte; beyond it 408.
    pub request_timeout: Duration,
    /// Silence on a new connection before it is closed.
    pub new_connection_timeout: Duration,
    /// Silence between two requests of a connection before it is closed.
    pub idle_timeout: Duration,
    /// Unsent bytes of one stream, and bytes of one callback window.
    pub max_unsent: usize,
    /// Bytes of memory held towards all clients together: callback windows, unsent.
    pub max_held: usize,
    /// Bytes of memory held from all publishers and strangers together: requests under way,
    /// pipelined requests, answers that are not read.
    pub max_inbound: usize,
    /// Bytes of memory for the header fields of all streams, and of callbacks that wait.
    pub max_kept_headers: usize,
    /// Bytes of the kernel's send buffer of one stream.
    pub send_buffer: usize,
    /// Bytes unsent in the kernel of one stream (`TCP_NOTSENT_LOWAT`). At least 1.
    pub notsent_lowat: usize,
    /// Bytes of answers that a publisher may leave unread before it is read no further.
    pub max_unread_answer: usize,
    /// Bytes that a stream's client may send after its request before it is dropped.
    pub max_discarded: usize,
    /// For unsent bytes without progress, before the stream is dropped.
    pub stall_timeout: Duration,
    /// For unacknowledged bytes (`TCP_USER_TIMEOUT`), before the connection is dropped.
    pub peer_timeout: Duration,
    /// Silence before keep-alive probes begin.
    pub keepalive_idle: Duration,
    /// Between keep-alive probes.
    pub keepalive_interval: Duration,
    /// Streams at once, connects under way included; beyond it 503 `OVERLOADED`. At least 1.
    pub max_streams: usize,
    /// Channels that one stream may be in (contract, section 11). 1 to 1,000.
    pub max_channels: usize,
    /// Bytes of past events that are kept for those who come again (contract, section 12); zero for
    /// none, and events have no ids of the gateway's.
    pub history: usize,
    /// Until a past event is forgotten. At least a second.
    pub history_time: Duration,
    /// Bytes of the current values of all channels; beyond it 503 `RETAINED_FULL`.
    pub max_retained: usize,
    /// Connections at once; beyond it the longest idle one is closed, or accepting pauses. Derived;
    /// more than `max_streams`.
    pub max_connections: usize,
    /// How many of them only the internal listener's may be. Derived; zero without that listener.
    pub internal_places: usize,
    /// For a connect callback, from the client's request on; beyond it 504.
    pub connect_timeout: Duration,
    /// For a disconnect callback, from its start on.
    pub disconnect_timeout: Duration,
    /// Connect callbacks at once. At least 1.
    pub connect_workers: usize,
    /// Disconnect callbacks at once. At least 1.
    pub disconnect_workers: usize,
    /// Connect callbacks that wait for a worker; beyond it 503 `OVERLOADED`.
    pub connect_queue: usize,
    /// Disconnect callbacks that wait for a worker. Derived: room for one of each connection there
    /// can be and of each connect that is still queued.
    pub disconnect_queue: usize,
    /// Until an idle worker and its connection to the backend end.
    pub worker_idle: Duration,
    /// From the signal to the exit at the latest (contract, section 10).
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    /// The contract's numbers, and the streams and connections of a process that may have 65,536
    /// descriptors.
    fn default() -> Limits {
        let mut limits = Limits::wished();
        limits.fit(65_536, false);
        limits
    }
}

impl Limits {
    /// The table's defaults before the descriptor limit is looked at: zero streams stand for "as
    /// many as it allows".
    pub(super) fn wished() -> Limits {
        let none = Duration::ZERO;
        let mut limits = Limits {
            max_head: 0,
            max_headers: 0,
            max_body: 0,
            request_timeout: none,
            new_connection_timeout: none,
            idle_timeout: none,
            max_unsent: 0,
            max_held: 0,
            max_inbound: 0,
            max_kept_headers: 0,
            send_buffer: 0,
            notsent_lowat: 0,
            max_unread_answer: 0,
            max_discarded: 0,
            stall_timeout: none,
            peer_timeout: none,
            keepalive_idle: none,
            keepalive_interval: none,
            max_streams: 0,
            max_channels: 0,
            history: 0,
            history_time: none,
            max_retained: 0,
            max_connections: 0,
            internal_places: 0,
            connect_timeout: none,
            disconnect_timeout: none,
            connect_workers: 0,
            disconnect_workers: 0,
            connect_queue: 0,
            disconnect_queue: 0,
            worker_idle: none,
            shutdown_timeout: none,
        };
        for setting in SETTINGS {
            if let Text::Is(text) = setting.default {
                let set = setting.set_limit(&mut limits, text);
                debug_assert!(!matches!(set, Some(Err(_))), "default of {}", setting.name);
            }
        }
        limits
    }

    /// Shrinks what needs descriptors to what `descriptors` allow and fills in the derived limits.
    /// `has_internal`: whether the internal listener has an address of its own.
    pub(super) fn fit(&mut self, descriptors: u64, has_internal: bool) {
        let budget = DescriptorBudget::of(
            descriptors,
            &Wishes {
                connect_workers: self.connect_workers,
                disconnect_workers: self.disconnect_workers,
                max_streams: Some(self.max_streams).filter(|&n| n > 0),
            },
        );
        self.connect_workers = budget.connect_workers;
        self.disconnect_workers = budget.disconnect_workers;
        self.max_connections = budget.max_connections;
        self.max_streams = budget.max_streams;
        if has_internal {
            self.internal_places = budget.publishers.div_ceil(2);
        }
        self.disconnect_queue = budget
            .max_connections
            .saturating_add(self.connect_queue)
            .saturating_add(QUEUE_SLACK);
    }
}

/// Disconnects of connections that ended while those before them are still queued.
const QUEUE_SLACK: usize = 1024;

/// Descriptors that are always in use: three standard streams and two copies of them for the log,
/// the poll, its waker, two for signals, four listeners (two addresses each for clients and for
/// sends), one for a name look-up.
const FIXED: usize = 14;

/// Most connections kept for publishers and health checks.
const MOST_PUBLISHERS: usize = 256;

/// Most streams, whatever the descriptor limit says: in containers it is often as good as none.
pub(super) const MOST_STREAMS: usize = 1_000_000;

/// What would be used if descriptors were free.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Connect callbacks at once.
    pub connect_workers: usize,
    /// Disconnect callbacks at once.
    pub disconnect_workers: usize,
    /// Streams at once; `None` for as many as possible.
    pub max_streams: Option<usize>,
}

/// How the descriptors are shared out, so that neither a flood of streams nor a slow backend takes
/// the last one from health checks, publishers and callbacks.
///
/// Every number is at least 1: under a limit too low for even that, accepting pauses at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// Connect callbacks at once: as wished, but at most an eighth of all descriptors.
    pub connect_workers: usize,
    /// Disconnect callbacks at once: as wished, but at most a sixteenth.
    pub disconnect_workers: usize,
    /// Connections that no stream may take, for publishers and health checks.
    pub publishers: usize,
    /// Connections at once; accepting pauses there.
    pub max_connections: usize,
    /// Streams at once: as wished, but no more than the rest.
    pub max_streams: usize,
}

impl DescriptorBudget {
    /// Shares out `nofile` descriptors, the process's limit.
    pub fn of(nofile: u64, wishes: &Wishes) -> DescriptorBudget {
        // "Unlimited" is a huge number here; no kernel gives more than this.
        let nofile = usize::try_from(nofile.min(1 << 30)).unwrap_or(usize::MAX);
        let connect_workers = wishes.connect_workers.min(nofile / 8).max(1);
        let disconnect_workers = wishes.disconnect_workers.min(nofile / 16).max(1);
        let used = FIXED + connect_workers + disconnect_workers;
        let max_connections = nofile
            .saturating_sub(used)
            .clamp(2, MOST_STREAMS + MOST_PUBLISHERS);
        let publishers = (max_connections / 8)
            .clamp(2, MOST_PUBLISHERS)
            .min(max_connections - 1);
        let rest = max_connections - publishers;
        DescriptorBudget {
            connect_workers,
            disconnect_workers,
            publishers,
            max_connections,
            max_streams: wishes.max_streams.map_or(rest, |wish| wish.clamp(1, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(max_streams: Option<usize>) -> Wishes {
        Wishes {
            connect_workers: 64,
            disconnect_workers: 32,
            max_streams,
        }
    }

    #[test]
    fn descriptors_are_shared_out() {
        // nofile, connect workers, disconnect workers, publishers, connections, streams
        let table = [
            (0, 1, 1, 1, 2, 1),
            (16, 2, 1, 1, 2, 1),
            (20, 2, 1, 2, 3, 1),
            (32, 4, 2, 2, 12, 10),
            (64, 8, 4, 4, 38, 34),
            (256, 32, 16, 24, 194, 170),
            (1024, 64, 32, 114, 914, 800),
            (20_000, 64, 32, 256, 19_890, 19_634),
            (1_000_000, 64, 32, 256, 999_890, 999_634),
            (1 << 30, 64, 32, 256, 1_000_256, 1_000_000),
            (u64::MAX, 64, 32, 256, 1_000_256, 1_000_000),
        ];
        for (nofile, connect_workers, disconnect_workers, publishers, connections, streams) in table
        {
            let expected = DescriptorBudget {
                connect_workers,
                disconnect_workers,
                publishers,
                max_connections: connections,
                max_streams: streams,
            };
            assert_eq!(
                DescriptorBudget::of(nofile, &wishes(None)),
                expected,
                "{nofile}"
            );
        }
    }

    #[test]
    fn the_shares_never_exceed_the_limit_and_are_never_empty() {
        for nofile in (20..5000).chain([65_536, 1_000_000]) {
            let b = DescriptorBudget::of(nofile, &wishes(None));
            let all = FIXED + b.connect_workers + b.disconnect_workers + b.max_connections;
            assert!(all as u64 <= nofile, "{nofile}: {b:?}");
            assert_eq!(b.max_connections, b.publishers + b.max_streams, "{nofile}");
            assert!(b.connect_workers >= 1 && b.disconnect_workers >= 1 && b.max_streams >= 1);
        }
    }

    #[test]
    fn a_wish_for_streams_is_met_up_to_the_rest() {
        let streams = |n| DescriptorBudget::of(1024, &wishes(Some(n))).max_streams;
        assert_eq!((streams(1), streams(800), streams(801)), (1, 800, 800));
        // The others do not grow into what the streams leave.
        let few = DescriptorBudget::of(1024, &wishes(Some(10)));
        assert_eq!(few.max_connections, 914);
    }

    #[test]
    fn disconnects_of_all_connections_and_queued_connects_fit_the_queue() {
        let mut limits = Limits::wished();
        limits.fit(1024, false);
        assert_eq!(limits.disconnect_queue, 914 + 4096 + QUEUE_SLACK);
        assert_eq!(limits.max_connections, 914);
    }

    #[test]
    fn the_internal_listener_has_places_that_leave_some_for_health_checks_on_the_other() {
        for nofile in [0, 20, 32, 64, 256, 1024, 65_536, u64::MAX] {
            let (mut one, mut two) = (Limits::wished(), Limits::wished());
            one.fit(nofile, false);
            assert_eq!(one.internal_places, 0);
            two.fit(nofile, true);
            assert!(two.internal_places >= 1, "{nofile}");
            let outsiders = two.max_connections - two.internal_places;
            assert!(outsiders >= two.max_streams, "{nofile}");
            assert!(nofile < 20 || outsiders > two.max_streams, "{nofile}");
        }
    }
}
