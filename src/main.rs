//! The gateway's program: environment to configuration to server to exit code.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use ssegateway::config::{Config, HostFacts, Invocation};
use ssegateway::healthcheck;
use ssegateway::host;
use ssegateway::logger::Logger;
use ssegateway::secrets;
use ssegateway::server::{Exit, Server};
use ssegateway::systemd::{self, ActivationError, Inherited, Notifier};

/// What `--healthcheck` found.
const UNHEALTHY: u8 = 1;
/// A start-up failure other than the configuration's.
const START: u8 = 1;
/// A setting that is not valid, or names a file that is not.
const CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let notifier = Notifier::from_env(|name| std::env::var_os(name));
    let inherited = systemd::sockets();
    let sockets = inherited.as_deref().unwrap_or_default();
    let facts = HostFacts {
        taken: sockets.len() as u64 + u64::from(notifier.is_heard()),
        has_internal: sockets.iter().any(|it| it.is_internal),
        ..host::prepare()
    };
    let args = std::env::args_os().skip(1);
    match Config::from_sources(args, |name| std::env::var_os(name), &facts) {
        Ok(Invocation::Run(mut config)) => match secrets::fill(&mut config) {
            Ok(()) => run(&config, inherited, notifier),
            Err(error) => refuse(CONFIGURATION, &error),
        },
        Ok(Invocation::Healthcheck(config)) => {
            match healthcheck::check(&config, healthcheck::LIMIT) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(UNHEALTHY, &error),
            }
        }
        Ok(Invocation::Help(text) | Invocation::Version(text)) => {
            // Who asked may have left; `print!` would panic.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => refuse(CONFIGURATION, &error),
    }
}

fn run(
    config: &Config,
    inherited: Result<Vec<Inherited>, ActivationError>,
    notifier: Notifier,
) -> ExitCode {
    let inherited = match inherited {
        Ok(inherited) => inherited,
        Err(error) => return refuse(START, &error),
    };
    let logger = match Logger::standard(config.log_level, config.log_format) {
        Ok(logger) => logger,
        Err(error) => return refuse(START, &format!("cannot start the log: {error}")),
    };
    if let Err(error) = logger.install() {
        return refuse(START, &error);
    }
    let count = inherited.len();
    let mut server = match Server::take_over(config, inherited, notifier) {
        Ok(server) => server,
        Err(error) => return refuse(START, &error),
    };
    log::info!(
        "start {} callbackUrl={} heartbeat={}",
        server.place(),
        if config.callback_url.is_some() {
            "set"
        } else {
            "unset"
        },
        config.heartbeat.as_secs()
    );
    if count > 0 {
        log::info!("taken over from the service manager sockets={count}");
    }
    for note in &config.notes {
        log::warn!("{note}");
    }
    let exit = server.run();
    logger.flush_at_exit();
    match exit {
        Ok(Exit::Drained) => ExitCode::SUCCESS,
        // As the shell reports a process that the signal itself has ended.
        Ok(Exit::Forced(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Err(error) => refuse(START, &format!("the event loop cannot go on: {error}")),
    }
}

/// One line on standard error; nothing is in the log yet.
fn refuse(code: u8, why: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "ssegateway: {why}");
    ExitCode::from(code)
}
