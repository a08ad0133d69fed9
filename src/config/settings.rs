//! The one table of settings: name, default, what is allowed, meaning (contract, sections 6, 8,
//! 10 to 12 and 16). The parser, `--help` and [`Limits::default`](super::Limits) all read it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use log::LevelFilter;

use super::limits::{Limits, MOST_STREAMS};
use super::{Config, HostPort};
use crate::sse::Format;

/// Most seconds that a setting takes: a day.
const DAY: u64 = 86_400;
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
        "IP address or host name to listen on."),
    own("INTERNAL_LISTEN", Default::Unset("/internal/send is served on PORT"), "HOST:PORT", set_internal_listen,
        "Address that alone serves /internal/send, and the health routes besides."),
    own("CALLBACK_URL", Default::Unset("none, streams are refused"), "URL", set_callback_url,
        "The backend's URL that is asked at each connect and told of each disconnect."),
    own("HEARTBEAT_INTERVAL_SECONDS", Default::Is("15"), "SECONDS", set_heartbeat,
        "Time between heartbeats on a stream, 1 to 86400."),
    own("LOG_LEVEL", Default::Is("info"), "LEVEL", set_log_level,
        "Least important level that is logged: error, warn, info or debug."),
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
        self.name == "CALLBACK_URL"
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

/// Decimal digits only: no sign, no space, no unit.
fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| (min..=max).contains(n))
}

fn port(text: &str) -> Option<u16> {
    number(text, 1, 65_535).and_then(|n| u16::try_from(n).ok())
}

fn set_port(config: &mut Config, text: &str) -> Result<(), &'static str> {
    config.port = port(text).ok_or("a whole number from 1 to 65535")?;
    Ok(())
}

fn set_host(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let good = match bare {
        Some(v6) => is_v6(v6),
        None => is_v6(text) || is_name(text),
    };
    if !good {
        return Err("an IP address or a host name, without a port");
    }
    config.host = Some(bare.unwrap_or(text).to_owned());
    Ok(())
}

fn set_internal_listen(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let allowed = "host:port or [IPv6 address]:port, with a port from 1 to 65535";
    let (host, port_text) = text.rsplit_once(':').ok_or(allowed)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = match bare {
        Some(v6) => is_v6(v6),
        None => is_name(host),
    };
    match port(port_text) {
        Some(port) if good => {
            config.internal_listen = Some(HostPort {
                host: bare.unwrap_or(host).to_owned(),
                port,
            });
            Ok(())
        }
        _ => Err(allowed),
    }
}

/// An IPv6 address, with a zone such as `%eth0` or without.
fn is_v6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_name)
}

/// An IPv4 address or a host name. Digits and dots alone are an address or nothing.
fn is_name(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    text.len() <= 253 && text.bytes().all(in_name) && !text.starts_with(['-', '.'])
}

fn set_callback_url(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let allowed = "an absolute URL such as http://127.0.0.1:8080/callback";
    let uri: http::Uri = text.parse().map_err(|_| allowed)?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") => {
            return Err(
                "an http URL: this build has no TLS, build it with `--features tls` for https",
            );
        }
        _ => return Err(allowed),
    }
    let authority = uri.authority().ok_or(allowed)?;
    if authority.host().is_empty() {
        return Err(allowed);
    }
    // A port out of range reads as no port at all, and so would an empty one, as a variable that
    // expanded to nothing leaves behind: port 80 would be a surprise.
    let after_host = authority.as_str().rsplit(['@', ']']).next().unwrap_or("");
    if after_host.contains(':') && uri.port_u16().is_none_or(|port| port == 0) {
        return Err("a URL whose port, where it has one, is from 1 to 65535");
    }
    config.callback_url = Some(uri);
    Ok(())
}

fn set_heartbeat(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let seconds = number(text, 1, DAY).ok_or("a whole number of seconds from 1 to 86400")?;
    config.heartbeat = Duration::from_secs(seconds);
    Ok(())
}

fn set_log_level(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let levels = [
        LevelFilter::Error,
        LevelFilter::Warn,
        LevelFilter::Info,
        LevelFilter::Debug,
    ];
    config.log_level = levels
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(text))
        .ok_or("error, warn, info or debug")?;
    Ok(())
}

fn set_event_format(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let formats = [("event", Format::Plain), ("envelope", Format::Envelope)];
    config.event_format = formats
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, format)| format)
        .ok_or("event or envelope")?;
    Ok(())
}
