//! Settings from the environment and the command line, read once (contract, section 8).
//!
//! Pure: sources come in as arguments, so that every rule is a line in a test's table.

mod error;
mod limits;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::keys::Keys;
use crate::logfmt::Value;
use crate::sse::Format;

pub use error::{ConfigError, Source};
pub use limits::{DescriptorBudget, Limits, Wishes};
pub use settings::{Default, SETTINGS, Setting};
pub use values::parse_authorization;

/// What the machine allows, found out before the settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Descriptors that this process may have open (`RLIMIT_NOFILE`, the soft limit).
    pub descriptors: u64,
    /// How many of them a service manager takes up: sockets that it has opened, and one to tell it how
    /// things are.
    pub taken: u64,
    /// There is a listener for publishers, whatever `INTERNAL_LISTEN` says.
    pub has_internal: bool,
}

/// A host and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// An IP address or a host name; an IPv6 address without its brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// Where clients connect (contract, sections 8 and 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An IP address, an IPv6 one without its brackets, or a host name; the port is `PORT`.
    Name(String),
    /// The path of a Unix socket; there is no port.
    Unix(PathBuf),
}

/// Where publishers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(HostPort),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Where callbacks go. It may hold a secret: it is never shown, logged or part of an error.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl {
    /// Absolute, `http` (or `https` in a build with TLS), with a host: `localhost` where it stands for
    /// a Unix socket.
    pub uri: http::Uri,
    /// The Unix socket that the backend listens on.
    pub socket: Option<PathBuf>,
}

/// The origins whose pages may read streams (contract, section 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any, without credentials.
    Any,
    /// These, with credentials; at least one.
    Listed(Vec<String>),
}

/// How lines of the log are written (contract, sections 9 and 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `[LEVEL] message key=value`
    Text,
    /// One JSON object a line.
    Json,
}

/// The whole configuration of a gateway.
#[derive(Clone)]
pub struct Config {
    /// `PORT`: where clients connect.
    pub port: u16,
    /// `HOST`: the address, name or Unix socket to listen on; `None` for all interfaces.
    pub host: Option<Host>,
    /// `INTERNAL_LISTEN`: where alone `/internal/` is served; `None` for where clients connect.
    pub internal_listen: Option<Address>,
    /// `UNIX_MODE`: the mode of Unix sockets that are listened on.
    pub unix_mode: u32,
    /// `CALLBACK_URL`.
    pub callback_url: Option<CallbackUrl>,
    /// `INTERNAL_KEY`: what requests under `/internal/` have to show. Never shown.
    pub internal_key: Option<Keys>,
    /// `INTERNAL_KEY_FILE`: where that is read instead.
    pub internal_key_file: Option<PathBuf>,
    /// `CALLBACK_AUTHORIZATION`: the `Authorization` field of callbacks, good as a field's value. Never
    /// shown.
    pub callback_authorization: Option<String>,
    /// `CALLBACK_AUTHORIZATION_FILE`: where that is read instead.
    pub callback_authorization_file: Option<PathBuf>,
    /// `GATEWAY_URL`: where the backend reaches this gateway, good as a field's value.
    pub gateway_url: Option<String>,
    /// `CORS_ORIGINS`; `None` for no CORS.
    pub cors: Option<Origins>,
    /// `HEARTBEAT_INTERVAL_SECONDS`: 1 second to a day.
    pub heartbeat: Duration,
    /// `REFUSE_MODE`: whether a refusal is a stream for those who ask for one.
    pub refuses_by_stream: bool,
    /// `RETRY_MILLISECONDS`, or what follows from `REFUSE_MODE` and `RECONNECT_SPREAD_SECONDS`; `None`:
    /// no stream begins with a `retry:`.
    pub retry: Option<u32>,
    /// `RECONNECT_SPREAD_SECONDS`: the span over which clients are to come again after a shutdown; zero
    /// for none.
    pub reconnect_spread: Duration,
    /// `MAX_STREAM_SECONDS`: how long a stream lasts, give or take a tenth; zero for as long as it
    /// likes.
    pub max_stream: Duration,
    /// `LOG_LEVEL`: error, warn, info or debug.
    pub log_level: LevelFilter,
    /// `LOG_FORMAT`: text or json.
    pub log_format: LogFormat,
    /// `EVENT_FORMAT`: event or envelope (contract, section 16).
    pub event_format: Format,
    /// Everything of section 6, already fitted to the descriptor limit.
    pub limits: Limits,
    /// Sentences for the log at start, as warnings: settings that could not be honoured whole.
    pub notes: Vec<String>,
}

impl fmt::Debug for Config {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("port", &self.port)
            .field("host", &self.host)
            .field("internal_listen", &self.internal_listen)
            .field("callback_url_set", &self.callback_url.is_some())
            .field("internal_key_set", &self.internal_key.is_some())
            .field("heartbeat", &self.heartbeat)
            .field("log_level", &self.log_level)
            .field("event_format", &self.event_format)
            .field("limits", &self.limits)
            .field("notes", &self.notes)
            .finish()
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Run a gateway.
    Run(Config),
    /// Ask the gateway that runs with these settings whether it is healthy.
    Healthcheck(Config),
    /// Print this text, the list of all settings, and exit.
    Help(String),
    /// Print this line and exit.
    Version(String),
}

/// Milliseconds after which browsers come back by themselves.
const BROWSERS_RETRY: u32 = 3000;

/// What the command line holds: a value for some settings, or a question.
enum CommandLine {
    Settings(Vec<(&'static Setting, OsString)>, Purpose),
    Help,
    Version,
}

/// What the settings are read for.
type Purpose = fn(Config) -> Invocation;

impl Config {
    /// Reads the settings: `args` without the program's name, `env` for one variable's value.
    ///
    /// A flag wins over the environment; an empty value counts as one that was not given. What a
    /// flag overrides is not looked at.
    pub fn from_sources(
        args: impl Iterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
        host: &HostFacts,
    ) -> Result<Invocation, ConfigError> {
        let (flags, purpose) = match read_flags(args)? {
            CommandLine::Help => return Ok(Invocation::Help(help())),
            CommandLine::Version => {
                let version = concat!("ssegateway ", env!("CARGO_PKG_VERSION"), "\n");
                return Ok(Invocation::Version(version.to_owned()));
            }
            CommandLine::Settings(flags, purpose) => (flags, purpose),
        };
        let mut config = Config::unset();
        let mut given = Vec::new();
        for setting in SETTINGS {
            let flag = flags
                .iter()
                .find(|(of, value)| of.name == setting.name && !value.is_empty())
                .map(|(_, value)| (value.clone(), Source::Flag));
            let value = flag.or_else(|| {
                env(setting.name)
                    .filter(|value| !value.is_empty())
                    .map(|value| (value, Source::Environment))
            });
            if let Some((value, source)) = value {
                apply(&mut config, setting, &value, source)?;
                given.push(setting.name);
            }
        }
        config.agree(&given)?;
        config.fit(host, &given);
        Ok(purpose(config))
    }

    /// Every default, before the machine is looked at.
    fn unset() -> Config {
        let mut config = Config {
            port: 0,
            host: None,
            internal_listen: None,
            unix_mode: 0,
            callback_url: None,
            internal_key: None,
            internal_key_file: None,
            callback_authorization: None,
            callback_authorization_file: None,
            gateway_url: None,
            cors: None,
            heartbeat: Duration::ZERO,
            refuses_by_stream: false,
            retry: None,
            reconnect_spread: Duration::ZERO,
            max_stream: Duration::ZERO,
            log_level: LevelFilter::Off,
            log_format: LogFormat::Text,
            event_format: Format::Plain,
            limits: Limits::wished(),
            notes: Vec::new(),
        };
        for setting in SETTINGS {
            if let Default::Is(text) = setting.default {
                let set = setting.set(&mut config, text);
                debug_assert!(set.is_ok(), "default of {}", setting.name);
            }
        }
        config
    }

    /// Settings that exclude each other, and one that follows from others.
    fn agree(&mut self, given: &[&'static str]) -> Result<(), ConfigError> {
        for (name, file) in [
            ("INTERNAL_KEY", "INTERNAL_KEY_FILE"),
            ("CALLBACK_AUTHORIZATION", "CALLBACK_AUTHORIZATION_FILE"),
        ] {
            if given.contains(&name) && given.contains(&file) {
                return Err(ConfigError::Conflict(name, file));
            }
        }
        if self.refuses_by_stream || !self.reconnect_spread.is_zero() {
            // A browser keeps a `retry:` for good: one that was meant for a bad hour has to be taken
            // back by the next stream.
            self.retry = self.retry.or(Some(BROWSERS_RETRY));
        }
        Ok(())
    }

    /// Fits the limits to the machine and notes which of the settings in `given` had to give way.
    fn fit(&mut self, host: &HostFacts, given: &[&str]) {
        let wished = self.limits.clone();
        let has_internal = self.internal_listen.is_some() || host.has_internal;
        let descriptors = host.descriptors.saturating_sub(host.taken);
        self.limits.fit(descriptors, has_internal);
        let shrunk = [
            ("MAX_STREAMS", wished.max_streams, self.limits.max_streams),
            (
                "CONNECT_WORKERS",
                wished.connect_workers,
                self.limits.connect_workers,
            ),
            (
                "DISCONNECT_WORKERS",
                wished.disconnect_workers,
                self.limits.disconnect_workers,
            ),
        ];
        for (name, wish, got) in shrunk {
            if given.contains(&name) && got < wish {
                self.notes.push(format!(
                    "{name}={wish} is more than the descriptor limit of {} allows, {got} is used; \
                     raise the limit (ulimit -n) or lower {name}",
                    host.descriptors
                ));
            }
        }
        if self.limits.max_body > self.limits.max_inbound {
            self.notes.push(format!(
                "MAX_BODY_BYTES={} is more than MAX_INBOUND_BYTES={}, so that the largest bodies \
                 are always refused; raise MAX_INBOUND_BYTES or lower MAX_BODY_BYTES",
                self.limits.max_body, self.limits.max_inbound
            ));
        }
        if self.limits.stall_timeout > self.limits.peer_timeout {
            self.notes.push(format!(
                "STALL_TIMEOUT_SECONDS={} is more than PEER_TIMEOUT_SECONDS={}, after which the \
                 system ends a connection whose peer takes nothing; raise PEER_TIMEOUT_SECONDS or \
                 lower STALL_TIMEOUT_SECONDS",
                self.limits.stall_timeout.as_secs(),
                self.limits.peer_timeout.as_secs()
            ));
        }
    }
}

fn apply(
    config: &mut Config,
    setting: &'static Setting,
    value: &OsStr,
    source: Source,
) -> Result<(), ConfigError> {
    let set = match value.to_str() {
        Some(text) => setting.set(config, text),
        // A byte that no value has: asked only for what is allowed.
        None => setting.set(config, "\u{fffd}"),
    };
    set.map_err(|allowed| ConfigError::Invalid {
        setting,
        source,
        value: (!setting.is_secret()).then(|| Value::new(value.as_bytes()).to_string()),
        allowed,
    })
}

fn read_flags(args: impl Iterator<Item = OsString>) -> Result<CommandLine, ConfigError> {
    let mut parser = lexopt::Parser::from_args(args.collect::<Vec<_>>());
    let mut settings: Vec<(&'static Setting, OsString)> = Vec::new();
    let mut purpose: Purpose = Invocation::Run;
    // Values are always taken with their flag, so that `next` itself has nothing to refuse.
    while let Some(arg) = parser.next().map_err(|_| ConfigError::StrayArgument)? {
        let question = match arg {
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => ("help", CommandLine::Help),
            lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => {
                ("version", CommandLine::Version)
            }
            lexopt::Arg::Long("healthcheck") => {
                if parser.optional_value().is_some() {
                    return Err(ConfigError::UnexpectedValue("healthcheck"));
                }
                purpose = Invocation::Healthcheck;
                continue;
            }
            lexopt::Arg::Long(flag) => {
                let setting = SETTINGS
                    .iter()
                    .find(|setting| setting.has_flag(flag))
                    .ok_or_else(|| ConfigError::UnknownFlag(showable(flag)))?;
                let value = flag_value(&mut parser, setting)?;
                if settings.iter().any(|(of, _)| of.name == setting.name) {
                    return Err(ConfigError::Repeated(setting.flag()));
                }
                settings.push((setting, value));
                continue;
            }
            lexopt::Arg::Short(letter) => {
                let flag = letter.is_ascii_alphanumeric().then(|| format!("-{letter}"));
                return Err(ConfigError::UnknownFlag(flag));
            }
            lexopt::Arg::Value(_) => return Err(ConfigError::StrayArgument),
        };
        return match parser.optional_value() {
            Some(_) => Err(ConfigError::UnexpectedValue(question.0)),
            None => Ok(question.1),
        };
    }
    Ok(CommandLine::Settings(settings, purpose))
}

/// The value behind `=` or in the next argument; another flag there means that it was forgotten.
fn flag_value(parser: &mut lexopt::Parser, setting: &Setting) -> Result<OsString, ConfigError> {
    if let Some(value) = parser.optional_value() {
        return Ok(value);
    }
    match parser.value() {
        Ok(value) if !value.as_bytes().starts_with(b"--") => Ok(value),
        _ => Err(ConfigError::MissingValue(setting.flag())),
    }
}

/// An unknown flag as it may be shown: a plain word, not a URL that was glued to a flag's name.
fn showable(flag: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (flag.len() <= 40 && flag.bytes().all(plain)).then(|| format!("--{flag}"))
}

/// The text of `--help`.
fn help() -> String {
    let mut text = concat!(
        "ssegateway ",
        env!("CARGO_PKG_VERSION"),
        "\n",
        env!("CARGO_PKG_DESCRIPTION"),
        ".\n\nUsage: ssegateway [--FLAG VALUE | --FLAG=VALUE]...\n\n\
         Every setting is an environment variable and a flag, which wins. An empty value is an\n\
         unset one.\n\n"
    )
    .to_owned();
    for setting in SETTINGS {
        let default = match setting.default {
            Default::Is(text) | Default::Unset(text) => text,
        };
        let range = match setting.range() {
            Some((min, max)) => format!(" [from {min} to {max}]"),
            None => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  --{} <{}>\n      {}\n      [env: {}] [default: {default}]{range}",
            setting.flag(),
            setting.shape(),
            setting.help,
            setting.name,
        );
    }
    text.push_str(
        "  --healthcheck\n      Ask the gateway that runs here with these settings whether it is healthy, by exit code.\n  \
         -h, --help\n      Print this list.\n  -V, --version\n      Print the version.\n",
    );
    text
}
