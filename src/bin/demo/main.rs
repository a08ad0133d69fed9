//! The gateway and a small backend in one process, to try it with nothing to configure.
//!
//! The gateway is the real one and takes its settings as ever, but for the callback URL, which is
//! the demo's own backend.
#![forbid(unsafe_code)]

mod backend;
mod events;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use ssegateway::config::{Config, Invocation};
use ssegateway::host;
use ssegateway::logger::Logger;
use ssegateway::server::Server;

use backend::Backend;
use events::Streams;

/// Where the page is, unless something else is there.
const PAGE_PORT: u16 = 3080;

/// The gateway's default port; it is taken by something else on many a developer's machine.
const USUAL_PORT: u16 = 3000;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            let _ = writeln!(io::stderr(), "demo: {why}");
            ExitCode::from(code)
        }
    }
}

fn start() -> Result<(), (u8, String)> {
    let failed = |what: &str, why: &dyn Display| (1, format!("{what}: {why}"));
    let spare = free_port().map_err(|e| failed("there is no free port", &e))?;
    let Some(mut config) = configure(spare)? else {
        return Ok(());
    };
    let streams = Arc::new(Streams::default());
    // A page that is open finds the next demo again if that has the same port.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PAGE_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .map_err(|e| failed("the demo's backend cannot listen", &e))?;
    let page = listener
        .local_addr()
        .map_err(|e| failed("the demo's backend has no address", &e))?;
    let callback = format!("http://{page}/callback");
    config.callback_url = callback.parse().ok();

    let logger =
        Logger::standard(config.log_level).map_err(|e| failed("cannot start the log", &e))?;
    logger.install().map_err(|e| failed("cannot log", &e))?;
    let mut gateway = listen(&mut config, spare).map_err(|why| (1, why))?;
    let send_url = send_url(&config);
    let backend = Backend {
        gateway: (reachable(config.host.as_deref()), config.port),
        send_url: send_url.clone(),
        streams: Arc::clone(&streams),
    };
    backend
        .serve(listener)
        .map_err(|e| failed("the demo's backend cannot start", &e))?;
    events::tick(streams, send_url.clone()).map_err(|e| failed("cannot start the clock", &e))?;
    for note in &config.notes {
        log::warn!("{note}");
    }
    welcome(&config, &send_url, &page);
    let ended = gateway.run();
    logger.flush_at_exit();
    ended
        .map(drop)
        .map_err(|e| failed("the gateway cannot go on", &e))
}

/// The gateway's settings from the environment and the command line. The port that stands for
/// "none was given" is `spare`; `None` when only a question had to be answered.
fn configure(spare: u16) -> Result<Option<Config>, (u8, String)> {
    let env = |name: &str| match name {
        // The demo's backend is the backend.
        "CALLBACK_URL" => None,
        "PORT" => Some(given(name).unwrap_or_else(|| spare.to_string().into())),
        // What happens is told by the demo itself.
        "LOG_LEVEL" => Some(given(name).unwrap_or_else(|| "warn".into())),
        _ => given(name),
    };
    let facts = host::prepare();
    match Config::from_sources(std::env::args_os().skip(1), env, &facts) {
        Ok(Invocation::Run(config)) => {
            if config.callback_url.is_some() || given("CALLBACK_URL").is_some() {
                say("CALLBACK_URL is not used: the demo is its own backend.");
            }
            Ok(Some(config))
        }
        Ok(Invocation::Help(text) | Invocation::Version(text)) => {
            say("The demo takes the gateway's settings, but for the callback URL.\n");
            say(&text);
            Ok(None)
        }
        Err(error) => Err((2, error.to_string())),
    }
}

fn given(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn free_port() -> io::Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok(probe.local_addr()?.port())
}

/// Binds the gateway: to the port that was asked for, else to the usual one, else to `spare`.
fn listen(config: &mut Config, spare: u16) -> Result<Server, String> {
    if config.port == spare {
        config.port = USUAL_PORT;
        if let Ok(gateway) = Server::bind(config) {
            return Ok(gateway);
        }
        config.port = spare;
        say(&format!(
            "Port {USUAL_PORT} is taken, the gateway takes {spare}."
        ));
    }
    Server::bind(config).map_err(|error| error.to_string())
}

/// A host under which this machine reaches what listens on `host`.
fn reachable(host: Option<&str>) -> String {
    let Some(host) = host else {
        return "localhost".to_owned();
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => "localhost".to_owned(),
        _ => host.to_owned(),
    }
}

/// `host:port` as it stands in a URL.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn send_url(config: &Config) -> String {
    let (host, port) = match &config.internal_listen {
        Some(internal) => (Some(internal.host.as_str()), internal.port),
        None => (config.host.as_deref(), config.port),
    };
    format!("http://{}/internal/send", authority(&reachable(host), port))
}

fn welcome(config: &Config, send_url: &str, page: &impl Display) {
    let gateway = authority(&reachable(config.host.as_deref()), config.port);
    say(&format!(
        "The gateway listens on port {port}, with a demo backend behind it. Try:\n\n  \
         a stream       curl -N http://{gateway}/events\n  \
         a send to it   curl {send_url} -d '{example}'\n  \
         in a browser   http://{page}/\n\n\
         Each stream's token is shown below when it connects. Ctrl-C ends the demo.\n",
        port = config.port,
        example = events::example("TOKEN"),
    ));
}

/// Prints one line; a reader that left is no reason to end.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
