//! The command line of `demo backend`, and addresses as they stand in URLs.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

/// A host and a port.
pub(crate) type Place = (String, u16);

pub(crate) const HELP: &str = "\
The reference backend alone, for a gateway that runs elsewhere.

Usage: demo backend [OPTIONS]

  --listen HOST:PORT   where it serves callbacks and the page  [127.0.0.1:3080]
  --gateway URL        the gateway  [http://127.0.0.1:3000]
  --send-url URL       where events are sent to  [<gateway>/internal/send]
  --help               this text";

/// How the backend alone is run.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) listen: String,
    /// Where clients reach the gateway.
    pub(crate) gateway: Place,
    pub(crate) send_url: String,
}

/// The arguments behind `backend`; `None` when help was asked for, a sentence for people when they
/// cannot be used.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Option<Options>, String> {
    let mut listen = "127.0.0.1:3080".to_owned();
    let mut gateway = "http://127.0.0.1:3000".to_owned();
    let mut send_url = None;
    let mut parser = Parser::from_args(arguments);
    let text = |parser: &mut Parser| parser.value().and_then(ValueExt::string);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        let value = match argument {
            Arg::Long("listen") => text(&mut parser).map(|value| listen = value),
            Arg::Long("gateway") => text(&mut parser).map(|value| gateway = value),
            Arg::Long("send-url") => text(&mut parser).map(|value| send_url = Some(value)),
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            _ => Err(argument.unexpected()),
        };
        value.map_err(|e| e.to_string())?;
    }
    let gateway = gateway.trim_end_matches('/');
    Ok(Some(Options {
        listen,
        send_url: send_url.unwrap_or_else(|| format!("{gateway}/internal/send")),
        gateway: place(gateway).ok_or_else(|| {
            format!("--gateway {gateway:?} is not http://HOST or http://HOST:PORT")
        })?,
    }))
}

/// Host and port of a URL without a path.
fn place(url: &str) -> Option<Place> {
    let uri: http::Uri = url.parse().ok()?;
    let is_bare = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    let authority = uri.authority().filter(|_| is_bare)?;
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .map_or(host, |host| host.trim_end_matches(']'));
    Some((host.to_owned(), authority.port_u16().unwrap_or(80)))
}

/// `host:port` as it stands in a URL.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Options>, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let options = |listen: &str, host: &str, port, send_url: &str| Options {
            listen: listen.to_owned(),
            gateway: (host.to_owned(), port),
            send_url: send_url.to_owned(),
        };
        let usual = "http://127.0.0.1:3000/internal/send";
        let table = [
            ("", options("127.0.0.1:3080", "127.0.0.1", 3000, usual)),
            (
                "--listen [::1]:1",
                options("[::1]:1", "127.0.0.1", 3000, usual),
            ),
            (
                "--gateway http://[::1]:9/",
                options("127.0.0.1:3080", "::1", 9, "http://[::1]:9/internal/send"),
            ),
            (
                "--send-url http://h/s --gateway=http://g",
                options("127.0.0.1:3080", "g", 80, "http://h/s"),
            ),
        ];
        for (line, options) in table {
            assert_eq!(parsed(line), Ok(Some(options)), "{line}");
        }
        assert_eq!(parsed("--help"), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for line in [
            "--port 1",
            "x",
            "--listen",
            "--gateway https://h",
            "--gateway http://h/p",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
