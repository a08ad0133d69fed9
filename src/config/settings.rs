//! The one table of settings: name, default, what is allowed, meaning (contract, sections 6, 8,
//! 10 to 14 and 16). The parser, `--help` and [`Limits::default`](super::Limits) all read it.

use std::time::Duration;

use super::Config;
use super::limits::{Limits, MOST_STREAMS};
use super::values::*;

/// Most seconds that a setting takes: a day.
pub(super) const DAY: u64 = 86_400;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable; the flag is the same in lower kebab case.
    pub name: &'static str,
    /// What holds when neither gives a value.
    pub default: Default,
    /// What it means, one sentence.
    pub help: &'static str,
    pub(super) kind: Kind,
}

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This text, read like a given one.
    Is(&'static str),
    /// Nothing that could be written as a value; the words describe it.
    Unset(&'static str),
}

/// How a setting is read and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A number of bytes or of things.
    Size {
        min: u64,
        max: u64,
        unit: &'static str,
        field: fn(&mut Limits) -> &mut usize,
    },
    /// A number of whole seconds.
    Time {
        min: u64,
        max: u64,
        field: fn(&mut Limits) -> &mut Duration,
    },
    /// Anything else; the error says what is allowed.
    Own {
        /// The value's name in `--help`.
        shape: &'static str,
        set: fn(&mut Config, &str) -> Result<(), &'static str>,
    },
}

const fn size(
    name: &'static str,
    default: &'static str,
    (min, max, unit): (u64, u64, &'static str),
    field: fn(&mut Limits) -> &mut usize,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        default: Default::Is(default),
        help,
        kind: Kind::Size {
            min,
            // No allocation is larger; this only bites on machines of 32 bits.
            max: if max > isize::MAX as u64 {
                isize::MAX as u64
            } else {
                max
            },
            unit,
            field,
        },
    }
}

const fn time(
    name: &'static str,
    default: &'static str,
    max: u64,
    field: fn(&mut Limits) -> &mut Duration,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        default: Default::Is(default),
        help,
        kind: Kind::Time { min: 1, max, field },
    }
}

const fn own(
    name: &'static str,
    default: Default,
    shape: &'static str,
    set: fn(&mut Config, &str) -> Result<(), &'static str>,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        help,
        kind: Kind::Own { shape, set },
    }
}

/// Every setting, in the order of `--help`.
#[rustfmt::skip] // One row is one setting: a table is read in columns.
pub static SETTINGS: &[Setting] = &[
    own("PORT", Default::Is("3000"), "NUMBER", set_port,
        "Port that clients connect to, 1 to 65535."),
    own("HOST", Default::Unset("all interfaces, IPv4 and IPv6"), "HOST", set_host,
        "IP address or host name to listen on, or unix:/path for a Unix socket."),
    own("INTERNAL_LISTEN", Default::Unset("/internal/ is served on PORT"), "HOST:PORT", set_internal_listen,
        "Address, or unix:/path, that alone serves /internal/, and the health routes besides."),
    own("UNIX_MODE", Default::Is("660"), "OCTAL", set_unix_mode,
        "Mode of the Unix sockets that are listened on."),
    own("INTERNAL_KEY", Default::Unset("none, /internal/ is open to whoever reaches it"), "KEY", set_internal_key,
        "Key that requests under /internal/ must bear; two, separated by a comma, while one replaces the other."),
    own("INTERNAL_KEY_FILE", Default::Unset("none"), "PATH", set_internal_key_file,
        "File that holds INTERNAL_KEY instead; read again on SIGHUP."),
    own("CORS_ORIGINS", Default::Unset("none, no CORS"), "ORIGINS", set_cors,
        "Origins whose pages may read streams, separated by commas; * for any, without credentials."),
    own("CALLBACK_URL", Default::Unset("none, streams are refused"), "URL", set_callback_url,
        "The backend's URL that is asked at each connect and told of each disconnect."),
    own("CALLBACK_AUTHORIZATION", Default::Unset("none"), "VALUE", set_callback_authorization,
        "The Authorization field of every callback."),
    own("CALLBACK_AUTHORIZATION_FILE", Default::Unset("none"), "PATH", set_callback_authorization_file,
        "File that holds CALLBACK_AUTHORIZATION instead; read again on SIGHUP."),
    own("GATEWAY_URL", Default::Unset("none"), "URL", set_gateway_url,
        "Where the backend reaches this gateway, as every callback tells it."),
    own("REFUSE_MODE", Default::Is("status"), "MODE", set_refuse_mode,
        "How streams are refused: status, or stream for a stream that tells why and ends."),
    own("RETRY_MILLISECONDS", Default::Unset("none; 3000 with REFUSE_MODE=stream or RECONNECT_SPREAD_SECONDS"), "MILLISECONDS", set_retry,
        "The retry that every stream begins with, 0 to 86400000."),
    own("RECONNECT_SPREAD_SECONDS", Default::Is("0"), "SECONDS", set_reconnect_spread,
        "Span over which clients come again after a shutdown, 0 to 3600."),
    own("MAX_STREAM_SECONDS", Default::Is("0"), "SECONDS", set_max_stream,
        "Time after which a stream ends, give or take a tenth; 0 for never, at most 31536000."),
    own("HEARTBEAT_INTERVAL_SECONDS", Default::Is("15"), "SECONDS", set_heartbeat,
        "Time between heartbeats on a stream, 1 to 86400."),
    own("LOG_LEVEL", Default::Is("info"), "LEVEL", set_log_level,
        "Least important level that is logged: error, warn, info or debug."),
    own("LOG_FORMAT", Default::Is("text"), "FORMAT", set_log_format,
        "How lines of the log are written: text, or json for an object a line."),
    own("EVENT_FORMAT", Default::Is("event"), "FORMAT", set_event_format,
        "How events with a name go out: event, or envelope for the name within the data."),

    size("MAX_HEAD_BYTES", "32768", (KIB, MIB, "BYTES"), |l| &mut l.max_head,
        "Largest request head; beyond it 431, or 414 for the target."),
    size("MAX_HEADERS", "100", (1, 256, "NUMBER"), |l| &mut l.max_headers,
        "Most headers of one request; beyond it 431."),
    size("MAX_BODY_BYTES", "4194304", (KIB, GIB, "BYTES"), |l| &mut l.max_body,
        "Largest request body; beyond it 413."),
    time("REQUEST_TIMEOUT_SECONDS", "10", DAY, |l| &mut l.request_timeout,
        "Time to receive a whole request, from its first byte; beyond it 408."),
    time("NEW_CONNECTION_TIMEOUT_SECONDS", "20", DAY, |l| &mut l.new_connection_timeout,
        "Silence allowed on a new connection before it is closed."),
    time("IDLE_TIMEOUT_SECONDS", "75", DAY, |l| &mut l.idle_timeout,
        "Silence allowed between two requests of one connection before it is closed."),
    size("MAX_UNSENT_BYTES", "4194304", (KIB, GIB, "BYTES"), |l| &mut l.max_unsent,
        "Most unsent bytes of one stream, and bytes buffered during its connect callback."),
    size("MAX_HELD_BYTES", "67108864", (64 * KIB, 1024 * GIB, "BYTES"), |l| &mut l.max_held,
        "Most memory held towards all clients; beyond it the stream that holds most is dropped."),
    size("MAX_INBOUND_BYTES", "33554432", (64 * KIB, 1024 * GIB, "BYTES"), |l| &mut l.max_inbound,
        "Most memory held from publishers and strangers; beyond it the youngest request gets 503."),
    size("MAX_KEPT_HEADER_BYTES", "67108864", (64 * KIB, 64 * GIB, "BYTES"), |l| &mut l.max_kept_headers,
        "Most memory for the header fields of all streams; beyond it 503."),
    size("SEND_BUFFER_BYTES", "131072", (4 * KIB, 64 * MIB, "BYTES"), |l| &mut l.send_buffer,
        "The kernel's send buffer of one stream."),
    size("NOTSENT_LOWAT_BYTES", "16384", (1, GIB, "BYTES"), |l| &mut l.notsent_lowat,
        "Bytes unsent in the kernel of one stream (TCP_NOTSENT_LOWAT)."),
    size("MAX_UNREAD_ANSWER_BYTES", "65536", (KIB, 64 * MIB, "BYTES"), |l| &mut l.max_unread_answer,
        "Most answers that a publisher may leave unread before its requests are read no further."),
    size("MAX_DISCARDED_BYTES", "65536", (KIB, GIB, "BYTES"), |l| &mut l.max_discarded,
        "Most bytes that a stream's client may send after its request before it is dropped."),
    time("STALL_TIMEOUT_SECONDS", "30", DAY, |l| &mut l.stall_timeout,
        "Time that a stream's unsent bytes may make no progress before it is dropped."),
    time("PEER_TIMEOUT_SECONDS", "30", DAY, |l| &mut l.peer_timeout,
        "Time that a peer may leave bytes unacknowledged before its connection is dropped."),
    // The kernel takes no more than 32767 for these two.
    time("KEEPALIVE_IDLE_SECONDS", "30", 32_767, |l| &mut l.keepalive_idle,
        "Silence on a connection before TCP keep-alive probes begin."),
    time("KEEPALIVE_INTERVAL_SECONDS", "10", 32_767, |l| &mut l.keepalive_interval,
        "Time between TCP keep-alive probes."),
    Setting { name: "MAX_STREAMS", default: Default::Unset("what the descriptor limit allows"),
        kind: Kind::Size { min: 1, max: MOST_STREAMS as u64, unit: "NUMBER", field: |l| &mut l.max_streams },
        help: "Most streams at once, connects under way included; beyond it 503." },
    size("MAX_CHANNELS", "64", (1, 1000, "NUMBER"), |l| &mut l.max_channels,
        "Most channels that one stream may be in."),
    size("HISTORY_BYTES", "0", (0, 1024 * GIB, "BYTES"), |l| &mut l.history,
        "Memory for past events to channels, which clients that come again get; 0 for none."),
    time("HISTORY_SECONDS", "300", DAY, |l| &mut l.history_time,
        "Time after which a past event is forgotten."),
    size("MAX_RETAINED_BYTES", "16777216", (0, 64 * GIB, "BYTES"), |l| &mut l.max_retained,
        "Most memory for the current values of all channels; beyond it 503."),
    time("CONNECT_TIMEOUT_SECONDS", "5", DAY, |l| &mut l.connect_timeout,
        "Time for a connect callback, from the client's request on; beyond it 504."),
    time("DISCONNECT_TIMEOUT_SECONDS", "5", DAY, |l| &mut l.disconnect_timeout,
        "Time for a disconnect callback, from its start on."),
    size("CONNECT_WORKERS", "64", (1, 1024, "NUMBER"), |l| &mut l.connect_workers,
        "Most connect callbacks at once; fewer under a low descriptor limit."),
    size("DISCONNECT_WORKERS", "32", (1, 1024, "NUMBER"), |l| &mut l.disconnect_workers,
        "Most disconnect callbacks at once; fewer under a low descriptor limit."),
    size("CONNECT_QUEUE", "4096", (1, 1_000_000, "NUMBER"), |l| &mut l.connect_queue,
        "Most connect callbacks that wait for a worker; beyond it 503."),
    time("WORKER_IDLE_SECONDS", "2", DAY, |l| &mut l.worker_idle,
        "Time after which an idle callback worker and its connection to the backend end."),
    time("SHUTDOWN_TIMEOUT_SECONDS", "4", DAY, |l| &mut l.shutdown_timeout,
        "Most time between SIGTERM or SIGINT and the exit."),
];

impl Setting {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }

    /// Whether `flag`, without its dashes, is this setting's.
    pub(super) fn has_flag(&self, flag: &str) -> bool {
        let kebab = |b: u8| match b {
            b'_' => b'-',
            b => b.to_ascii_lowercase(),
        };
        self.name.bytes().map(kebab).eq(flag.bytes())
    }

    /// Whether its value may hold a secret and is never shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(
            self.name,
            "CALLBACK_URL" | "INTERNAL_KEY" | "CALLBACK_AUTHORIZATION"
        )
    }

    /// What stands for the value in `--help`.
    pub(super) fn shape(&self) -> &'static str {
        match self.kind {
            Kind::Size { unit, .. } => unit,
            Kind::Time { .. } => "SECONDS",
            Kind::Own { shape, .. } => shape,
        }
    }

    /// Least and most, for a number that is a limit.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        match self.kind {
            Kind::Size { min, max, .. } | Kind::Time { min, max, .. } => Some((min, max)),
            Kind::Own { .. } => None,
        }
    }

    /// Reads `text` into the limit that this is; `None` when it is no limit.
    pub(super) fn set_limit(&self, limits: &mut Limits, text: &str) -> Option<Result<(), String>> {
        match self.kind {
            Kind::Size {
                min,
                max,
                unit,
                field,
            } => Some(match number(text, min, max).map(usize::try_from) {
                Some(Ok(value)) => {
                    *field(limits) = value;
                    Ok(())
                }
                _ => Err(match unit {
                    "BYTES" => format!("a whole number of bytes from {min} to {max}"),
                    _ => format!("a whole number from {min} to {max}"),
                }),
            }),
            Kind::Time { min, max, field } => Some(match number(text, min, max) {
                Some(value) => {
                    *field(limits) = Duration::from_secs(value);
                    Ok(())
                }
                None => Err(format!("a whole number of seconds from {min} to {max}")),
            }),
            Kind::Own { .. } => None,
        }
    }

    /// Reads `text` into its place; the error is what would be allowed.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        if let Kind::Own { set, .. } = self.kind {
            return set(config, text).map_err(String::from);
        }
        self.set_limit(&mut config.limits, text).unwrap_or(Ok(()))
    }
}
