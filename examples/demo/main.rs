//! The *reference backend*: what an application does for the gateway, to be read as an example in
//! whatever language the application is written, and a page that shows it.
//!
//! ```text
//! main ──► web ──► tasks, versions, rooms, stories ──► connections ──► gateway
//! ```
//!
//! [`tasks`], [`versions`], [`rooms`] and [`stories`] are services of an application, which send to
//! channels and to everybody; [`connections`] knows which connection is whose, where that matters;
//! [`gateway`] is the way there and [`web`] the routes. Whatever calls the gateway may block, and
//! holds no lock that a callback needs. What a client has missed is the gateway's to bring, which
//! keeps a history: no service keeps events.
//!
//! `demo` runs the gateway in the same process: the real one, with its settings as ever but for the
//! callback URL, which is this backend, and with a history. `demo backend` runs the backend alone.
#![forbid(unsafe_code)]

// They name each other by `super`: in tests/reference_backend, where their tests are run, all this is
// a module.
mod connections;
mod gateway;
mod options;
mod relay;
mod rooms;
mod stories;
mod target;
mod tasks;
mod versions;
mod web;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use ssegateway::config::{Address, CallbackUrl, Config, Host, Invocation};
use ssegateway::host;
use ssegateway::logger::Logger;
use ssegateway::secrets;
use ssegateway::server::Server;

use gateway::Http;
use options::{Options, authority};
use web::Backend;

/// Where the page is, unless something else is there.
const PAGE_PORT: u16 = 3080;

/// The gateway's default port; it is taken by something else on many a developer's machine.
const USUAL_PORT: u16 = 3000;

/// What the demo's gateway keeps of the past, unless it is told otherwise.
const HISTORY_BYTES: &str = "16777216";

/// An exit code and a sentence for people.
type Failure = (u8, String);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let is_alone = arguments.next_if(|first| first == "backend").is_some();
    let done = if is_alone {
        options::parse(arguments)
            .map_err(|why| (2, why))
            .and_then(backend_alone)
    } else {
        both(arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            let _ = writeln!(io::stderr(), "demo: {why}");
            ExitCode::from(code)
        }
    }
}

fn failed(what: &str, why: &dyn Display) -> Failure {
    (1, format!("{what}: {why}"))
}

/// The backend of a gateway that runs elsewhere.
fn backend_alone(options: Option<Options>) -> Result<(), Failure> {
    let Some(options) = options else {
        say(options::HELP);
        return Ok(());
    };
    let cannot_listen = |e| failed(&format!("cannot listen on {}", options.listen), &e);
    let listener = TcpListener::bind(&options.listen).map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let sends = Http::new(options.send_url);
    let thread = Backend::new(Arc::new(sends), options.gateway)
        .serve(listener)
        .map_err(|e| failed("the backend cannot start", &e))?;
    say(&format!("backend listening on {address}"));
    thread
        .join()
        .map_err(|_| (1, "the backend has ended".to_owned()))
}

/// The gateway and the backend in this process.
fn both(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let spare = free_port().map_err(|e| failed("there is no free port", &e))?;
    let Some(mut config) = configure(arguments, spare)? else {
        return Ok(());
    };
    // A page that is open finds the next demo again if that has the same port.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PAGE_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .map_err(|e| failed("the demo's backend cannot listen", &e))?;
    let page = listener
        .local_addr()
        .map_err(|e| failed("the demo's backend has no address", &e))?;
    let callback = format!("http://{page}/callback");
    let uri = callback.parse().ok();
    config.callback_url = uri.map(|uri| CallbackUrl { uri, socket: None });

    let logger = Logger::standard(config.log_level, config.log_format)
        .map_err(|e| failed("cannot start the log", &e))?;
    logger.install().map_err(|e| failed("cannot log", &e))?;
    let mut gateway = listen(&mut config, spare).map_err(|why| (1, why))?;
    let clients_to = (reachable(host(&config)), config.port);
    Backend::new(Arc::new(Http::new(send_url(&config))), clients_to)
        .serve(listener)
        .map_err(|e| failed("the demo's backend cannot start", &e))?;
    for note in &config.notes {
        log::warn!("{note}");
    }
    welcome(&config, &page);
    let ended = gateway.run();
    logger.flush_at_exit();
    ended
        .map(drop)
        .map_err(|e| failed("the gateway cannot go on", &e))
}

/// The gateway's settings from the environment and the command line. The port that stands for
/// "none was given" is `spare`; `None` when only a question had to be answered.
fn configure(
    arguments: impl Iterator<Item = OsString>,
    spare: u16,
) -> Result<Option<Config>, Failure> {
    let env = |name: &str| match name {
        // The demo's backend is the backend.
        "CALLBACK_URL" => None,
        "PORT" => Some(given(name).unwrap_or_else(|| spare.to_string().into())),
        // What happens is told by the demo itself.
        "LOG_LEVEL" => Some(given(name).unwrap_or_else(|| "warn".into())),
        "HISTORY_BYTES" => Some(given(name).unwrap_or_else(|| HISTORY_BYTES.into())),
        _ => given(name),
    };
    let facts = host::prepare();
    match Config::from_sources(arguments, env, &facts) {
        Ok(Invocation::Run(mut config)) => {
            secrets::fill(&mut config).map_err(|error| (2, error.to_string()))?;
            if config.callback_url.is_some() || given("CALLBACK_URL").is_some() {
                say("CALLBACK_URL is not used: the demo is its own backend.");
            }
            Ok(Some(config))
        }
        Ok(Invocation::Help(text) | Invocation::Version(text)) => {
            say(
                "The demo takes the gateway's settings, but for the callback URL. \
                 For the backend alone: demo backend --help\n",
            );
            say(&text);
            Ok(None)
        }
        Ok(Invocation::Healthcheck(_)) => Err((
            2,
            "the demo has no --healthcheck; `ssegateway --healthcheck` can ask it".to_owned(),
        )),
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
/// What `HOST` says; the demo speaks to its gateway over TCP.
fn host(config: &Config) -> Option<&str> {
    match &config.host {
        Some(Host::Name(host)) => Some(host),
        _ => None,
    }
}

fn reachable(host: Option<&str>) -> String {
    let Some(host) = host else {
        return "localhost".to_owned();
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => "localhost".to_owned(),
        _ => host.to_owned(),
    }
}

fn send_url(config: &Config) -> String {
    let (host, port) = match &config.internal_listen {
        Some(Address::Tcp(internal)) => (Some(internal.host.as_str()), internal.port),
        _ => (host(config), config.port),
    };
    format!("http://{}/internal/send", authority(&reachable(host), port))
}

fn welcome(config: &Config, page: &impl Display) {
    let gateway = authority(&reachable(host(config)), config.port);
    say(&format!(
        "The gateway listens on port {port}, with a demo backend behind it. Try:\n\n  \
         a stream       curl -N 'http://{gateway}/events?client=me'\n  \
         a task         curl 'http://{page}/tasks?client=me' -d '{{\"name\":\"report\",\"seconds\":5}}'\n  \
         a room         curl -d '' 'http://{page}/rooms/lobby/join?client=me'\n                 \
         curl 'http://{page}/rooms/lobby/say?client=you' -d '{{\"text\":\"hello\"}}'\n  \
         a story        curl -d '' 'http://{page}/rooms/lobby/tell?client=me'\n  \
         a cut          curl 'http://{page}/cut?client=me' -d '{{\"seconds\":10}}'\n  \
         a version      curl http://{page}/version -d '{{\"version\":\"1.2.3\"}}'\n  \
         in a browser   http://{page}/\n\n\
         What happens is shown below. Ctrl-C ends the demo.\n",
        port = config.port,
    ));
}

/// Prints one line; a reader that left is no reason to end.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
