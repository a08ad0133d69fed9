//! How the values of settings are read that are no limits; the error says what is allowed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Uri};
use log::LevelFilter;

use super::settings::DAY;
use super::{Address, CallbackUrl, Config, Host, HostPort, LogFormat, Origins};
use crate::callback::MAX_FIELD;
use crate::keys::Keys;
use crate::sse::Format;

/// Decimal digits only: no sign, no space, no unit.
pub(super) fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| (min..=max).contains(n))
}

fn port(text: &str) -> Option<u16> {
    number(text, 1, 65_535).and_then(|n| u16::try_from(n).ok())
}

pub(super) fn set_port(config: &mut Config, text: &str) -> Result<(), &'static str> {
    config.port = port(text).ok_or("a whole number from 1 to 65535")?;
    Ok(())
}

/// What stands before the path of a Unix socket.
const UNIX: &str = "unix:";

/// Most bytes of the path of a Unix socket (`sockaddr_un`, unix(7)).
const MAX_SOCKET_PATH: usize = 107;

const ALLOWED_SOCKET: &str = "unix: and an absolute path of at most 107 bytes";

/// The path of a Unix socket, where the text says that it is one.
fn socket(text: &str) -> Option<Result<PathBuf, &'static str>> {
    let path = text.strip_prefix(UNIX)?;
    Some(socket_path(path).ok_or(ALLOWED_SOCKET))
}

fn socket_path(path: &str) -> Option<PathBuf> {
    let is_good = path.starts_with('/') && !path.ends_with('/') && path.len() <= MAX_SOCKET_PATH;
    self::path(path).filter(|_| is_good)
}

pub(super) fn set_host(config: &mut Config, text: &str) -> Result<(), &'static str> {
    if let Some(path) = socket(text) {
        config.host = Some(Host::Unix(path?));
        return Ok(());
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let good = match bare {
        Some(v6) => is_v6(v6),
        None => is_v6(text) || is_name(text),
    };
    if !good {
        return Err("an IP address or a host name, without a port, or unix:/path");
    }
    config.host = Some(Host::Name(bare.unwrap_or(text).to_owned()));
    Ok(())
}

pub(super) fn set_internal_listen(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let allowed = "host:port or [IPv6 address]:port, with a port from 1 to 65535, or unix:/path";
    if let Some(path) = socket(text) {
        config.internal_listen = Some(Address::Unix(path?));
        return Ok(());
    }
    let (host, port_text) = text.rsplit_once(':').ok_or(allowed)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = match bare {
        Some(v6) => is_v6(v6),
        None => is_name(host),
    };
    match port(port_text) {
        Some(port) if good => {
            config.internal_listen = Some(Address::Tcp(HostPort {
                host: bare.unwrap_or(host).to_owned(),
                port,
            }));
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

pub(super) fn set_callback_url(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let allowed = "an absolute URL such as http://127.0.0.1:8080/callback";
    if let Some(rest) = text.strip_prefix("http://unix:") {
        config.callback_url = Some(callback_socket(rest)?);
        return Ok(());
    }
    let uri: Uri = text.parse().map_err(|_| allowed)?;
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
    config.callback_url = Some(CallbackUrl { uri, socket: None });
    Ok(())
}

/// The path of a socket, a colon, and the path and query of the request, as nginx has it.
fn callback_socket(text: &str) -> Result<CallbackUrl, &'static str> {
    let allowed =
        "a URL such as http://unix:/run/app.sock:/callback, whose socket has an absolute path";
    let (path, target) = text.split_once(':').unwrap_or((text, "/"));
    let uri = format!("http://localhost{target}").parse().ok();
    match (socket_path(path), uri) {
        (Some(socket), Some(uri)) if target.starts_with('/') => Ok(CallbackUrl {
            uri,
            socket: Some(socket),
        }),
        _ => Err(allowed),
    }
}

pub(super) fn set_unix_mode(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let is_octal =
        (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok();
    let allowed = "an octal mode from 0 to 777, such as 660";
    config.unix_mode = mode
        .filter(|mode| is_octal && *mode <= 0o777)
        .ok_or(allowed)?;
    Ok(())
}

pub(super) fn set_internal_key(config: &mut Config, text: &str) -> Result<(), &'static str> {
    config.internal_key = Some(Keys::parse(text)?);
    Ok(())
}

/// A path that can be shown in a line. U+FFFD stands for what is no text.
fn path(text: &str) -> Option<PathBuf> {
    let is_bad = |c: char| c.is_control() || c == '\u{fffd}';
    (!text.contains(is_bad)).then(|| text.into())
}

pub(super) fn set_internal_key_file(config: &mut Config, text: &str) -> Result<(), &'static str> {
    config.internal_key_file = Some(path(text).ok_or("the path of a file")?);
    Ok(())
}

/// Whether a text can be the value of a callback's field.
fn is_field_value(text: &str) -> bool {
    text.len() <= MAX_FIELD
        && text.is_ascii()
        && text.trim() == text
        && HeaderValue::from_str(text).is_ok()
}

/// Reads the `Authorization` field of callbacks.
///
/// # Errors
/// What is allowed.
pub fn parse_authorization(text: &str) -> Result<String, &'static str> {
    if !is_field_value(text) {
        return Err("the value of a header field of at most 4000 bytes, such as: Bearer and a key");
    }
    Ok(text.to_owned())
}

pub(super) fn set_callback_authorization(
    config: &mut Config,
    text: &str,
) -> Result<(), &'static str> {
    config.callback_authorization = Some(parse_authorization(text)?);
    Ok(())
}

pub(super) fn set_callback_authorization_file(
    config: &mut Config,
    text: &str,
) -> Result<(), &'static str> {
    config.callback_authorization_file = Some(path(text).ok_or("the path of a file")?);
    Ok(())
}

pub(super) fn set_gateway_url(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let allowed = "an absolute URL such as http://10.0.0.7:3001, of at most 4000 bytes";
    let uri: Uri = text.parse().map_err(|_| allowed)?;
    let is_absolute = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    if !is_absolute || !is_field_value(text) {
        return Err(allowed);
    }
    config.gateway_url = Some(text.to_owned());
    Ok(())
}

pub(super) fn set_cors(config: &mut Config, text: &str) -> Result<(), &'static str> {
    if text == "*" {
        config.cors = Some(Origins::Any);
        return Ok(());
    }
    let origins: Vec<&str> = text.split(',').map(str::trim_ascii).collect();
    if !origins.iter().all(|origin| is_origin(origin)) {
        return Err("* or origins such as https://app.example:8443, separated by commas");
    }
    config.cors = Some(Origins::Listed(
        origins.into_iter().map(str::to_ascii_lowercase).collect(),
    ));
    Ok(())
}

/// Scheme, host and port, as browsers write them (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_part = |part: &str, more: &[u8]| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    // Nor do they write the port that the scheme has by itself.
    let has_needless_port = match scheme {
        "http" => authority.ends_with(":80"),
        "https" => authority.ends_with(":443"),
        _ => false,
    };
    let is_named = authority.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    is_named && !has_needless_port && is_part(scheme, b"+-.") && is_part(authority, b"-._:[]")
}

pub(super) fn set_refuse_mode(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let mode = one_of(text, &["status", "stream"]).ok_or("status or stream")?;
    config.refuses_by_stream = mode == 1;
    Ok(())
}

pub(super) fn set_retry(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let retry = number(text, 0, 86_400_000).and_then(|n| u32::try_from(n).ok());
    config.retry = Some(retry.ok_or("a whole number of milliseconds from 0 to 86400000")?);
    Ok(())
}

pub(super) fn set_reconnect_spread(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let seconds = number(text, 0, 3600).ok_or("a whole number of seconds from 0 to 3600")?;
    config.reconnect_spread = Duration::from_secs(seconds);
    Ok(())
}

pub(super) fn set_max_stream(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let seconds =
        number(text, 0, 31_536_000).ok_or("a whole number of seconds from 0 to 31536000")?;
    config.max_stream = Duration::from_secs(seconds);
    Ok(())
}

pub(super) fn set_heartbeat(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let seconds = number(text, 1, DAY).ok_or("a whole number of seconds from 1 to 86400")?;
    config.heartbeat = Duration::from_secs(seconds);
    Ok(())
}

pub(super) fn set_log_level(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let levels = [
        LevelFilter::Error,
        LevelFilter::Warn,
        LevelFilter::Info,
        LevelFilter::Debug,
    ];
    let level = one_of(text, &["error", "warn", "info", "debug"]);
    config.log_level = level
        .map(|level| levels[level])
        .ok_or("error, warn, info or debug")?;
    Ok(())
}

/// Which of these words a text is, in whatever case it is written.
fn one_of(text: &str, words: &[&str]) -> Option<usize> {
    words
        .iter()
        .position(|word| word.eq_ignore_ascii_case(text))
}

pub(super) fn set_log_format(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let format = one_of(text, &["text", "json"]).ok_or("text or json")?;
    config.log_format = [LogFormat::Text, LogFormat::Json][format];
    Ok(())
}

pub(super) fn set_event_format(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let format = one_of(text, &["event", "envelope"]).ok_or("event or envelope")?;
    config.event_format = [Format::Plain, Format::Envelope][format];
    Ok(())
}
