//! Why a callback failed, in words for the log.
//!
//! ureq's own sentences may quote the URL and the backend's bytes, so none of them is used.

use std::io;

use ureq::Error;

/// How far the call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No whole answer head yet.
    Head,
    /// The answer's body was being read.
    Body,
}

/// Names the cause; holds no part of the callback URL.
pub(super) fn sentence(error: &Error, phase: Phase) -> String {
    let text = match error {
        Error::Io(error) => return io_sentence(error, phase),
        Error::HostNotFound => "host name not found",
        Error::Protocol(_) => match phase {
            Phase::Head => "answer is not HTTP",
            Phase::Body => "answer body badly framed",
        },
        Error::TlsRequired => "https is not part of this build",
        Error::BadUri(_) | Error::Http(_) => "callback URL cannot be used",
        #[cfg(feature = "tls")]
        Error::Rustls(error) => return tls_sentence(&format!("{error:?}")).to_owned(),
        Error::Tls(_) => "TLS failed",
        Error::ConnectionFailed => "no connection",
        _ => "callback failed",
    };
    text.to_owned()
}

fn io_sentence(error: &io::Error, phase: Phase) -> String {
    use io::ErrorKind::*;
    let text = match error.kind() {
        ConnectionRefused => "connection refused",
        // Of connecting to a Unix socket: the system's words would do, but say too little here.
        NotFound => "connection refused, there is no such socket",
        ConnectionReset | ConnectionAborted => "connection reset",
        BrokenPipe => "connection closed while sending",
        UnexpectedEof => match phase {
            Phase::Head => "connection closed before the answer",
            Phase::Body => "answer cut short",
        },
        HostUnreachable => "host unreachable",
        NetworkUnreachable | NetworkDown => "network unreachable",
        NotConnected => "given up, the gateway is exiting",
        #[cfg(feature = "tls")]
        InvalidData => tls_sentence(&format!("{error:?}")),
        // The operating system's own words; other errors may carry anything.
        kind => {
            return match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code).to_string(),
                None => kind.to_string(),
            };
        }
    };
    text.to_owned()
}

/// From an error's debug form, which names the cause but also the host.
#[cfg(feature = "tls")]
fn tls_sentence(debug: &str) -> &'static str {
    const CAUSES: [(&str, &str); 6] = [
        ("UnknownIssuer", "TLS certificate of an unknown issuer"),
        ("NotValidForName", "TLS certificate for another name"),
        ("NotValidYet", "TLS certificate not valid yet"),
        ("Expired", "TLS certificate expired"),
        ("Revoked", "TLS certificate revoked"),
        ("InvalidMessage", "answer is not TLS"),
    ];
    CAUSES
        .iter()
        .find(|(mark, _)| debug.contains(mark))
        .map_or("TLS failed", |(_, text)| text)
}
