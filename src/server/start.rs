//! What is opened once, before the loop turns, and what can go wrong with it.

use std::fmt;
use std::io;
use std::path::Path;

use mio::{Poll, Token};
use uuid::Uuid;

use super::LISTENER;
use super::accept::Listener;
use crate::config::{Address, CallbackUrl, Config, Host};
use crate::gateway::{Scope, Settings};
use crate::net::{self, SocketOptions};
use crate::systemd::{ActivationError, Inherited};
use crate::tokens;
use crate::workers;

/// Why a gateway could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be listened on.
    Listen {
        /// The setting that named it.
        setting: &'static str,
        /// The address as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A socket could not be taken over.
    Inherited(ActivationError),
    /// The system refused something that the loop needs.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen {
                setting,
                address,
                source,
            } if source.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{setting}: {address} is already in use; stop what listens there or choose another {}",
                if address.starts_with("unix:") {
                    "path"
                } else {
                    "port"
                }
            ),
            StartError::Listen {
                setting,
                address,
                source,
            } => write!(f, "{setting}: cannot listen on {address}: {source}"),
            StartError::Inherited(error) => error.fmt(f),
            StartError::System(source) => write!(f, "the event loop cannot start: {source}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ActivationError> for StartError {
    fn from(error: ActivationError) -> StartError {
        StartError::Inherited(error)
    }
}

impl From<io::Error> for StartError {
    fn from(source: io::Error) -> StartError {
        StartError::System(source)
    }
}

/// What one setting names, or two.
enum Place<'a> {
    Tcp(Option<&'a str>, u16),
    Unix(&'a Path),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(Some(host), port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp(Some(host), port) => write!(f, "{host}:{port}"),
            Place::Tcp(None, port) => write!(f, "port {port}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Those for clients come first. What was inherited for a purpose stands in the place of what is
/// configured for it.
pub(super) fn listeners(
    config: &Config,
    inherited: Vec<Inherited>,
    poll: &Poll,
) -> Result<Vec<Listener>, StartError> {
    let (mut listeners, mut internals) = (Vec::new(), Vec::new());
    for it in inherited {
        let socket = net::inherit(it.socket, SocketOptions::from(&config.limits));
        let socket = socket.map_err(ActivationError::Options)?;
        if it.is_internal {
            internals.push(listener(socket, Scope::Internal, true));
        } else {
            listeners.push(listener(socket, Scope::Public, true));
        }
    }
    if listeners.is_empty() {
        let (setting, place) = match &config.host {
            Some(Host::Unix(path)) => ("HOST", Place::Unix(path)),
            Some(Host::Name(host)) => ("HOST, PORT", Place::Tcp(Some(host), config.port)),
            None => ("PORT", Place::Tcp(None, config.port)),
        };
        open(config, setting, &place, Scope::Public, &mut listeners)?;
    }
    if internals.is_empty()
        && let Some(at) = &config.internal_listen
    {
        let place = match at {
            Address::Unix(path) => Place::Unix(path),
            Address::Tcp(at) => Place::Tcp(Some(&at.host), at.port),
        };
        let (setting, scope) = ("INTERNAL_LISTEN", Scope::Internal);
        open(config, setting, &place, scope, &mut internals)?;
    }
    if internals.is_empty() {
        for it in &mut listeners {
            it.scope = Scope::Whole;
        }
    }
    listeners.append(&mut internals);
    for (at, listener) in listeners.iter().enumerate() {
        let token = Token(LISTENER - at);
        listener.socket.register(poll.registry(), token)?;
    }
    Ok(listeners)
}

fn listener(socket: net::Listener, scope: Scope, is_inherited: bool) -> Listener {
    Listener {
        socket,
        scope,
        is_inherited,
        is_stopped: false,
        is_unfinished: false,
        rests_until: None,
        is_full: false,
    }
}

fn open(
    config: &Config,
    setting: &'static str,
    place: &Place,
    scope: Scope,
    listeners: &mut Vec<Listener>,
) -> Result<(), StartError> {
    let options = SocketOptions::from(&config.limits);
    let opened = match place {
        Place::Tcp(host, port) => net::listen(*host, *port, options),
        Place::Unix(path) => {
            net::listen_unix(path, config.unix_mode, options).map(|socket| vec![socket])
        }
    };
    let sockets = opened.map_err(|source| StartError::Listen {
        setting,
        address: place.to_string(),
        source,
    })?;
    let sockets = sockets.into_iter();
    listeners.extend(sockets.map(|socket| listener(socket, scope, false)));
    Ok(())
}

pub(super) fn settings(config: &Config, random: &mut impl FnMut(&mut [u8])) -> Settings {
    let mut boot = [0; 16];
    random(&mut boot);
    Settings {
        is_configured: config.callback_url.is_some(),
        heartbeat: config.heartbeat,
        event_format: config.event_format,
        limits: config.limits.clone(),
        boot: tokens::from_random(boot),
        keys: config.internal_key.clone(),
        cors: config.cors.clone(),
        refuses_by_stream: config.refuses_by_stream,
        retry: config.retry,
        reconnect_spread: config.reconnect_spread,
        max_stream: config.max_stream,
    }
}

pub(super) fn worker_settings(
    config: &Config,
    url: CallbackUrl,
    boot: Uuid,
) -> workers::CallbackSettings {
    let limits = &config.limits;
    workers::CallbackSettings {
        url: url.uri,
        socket: url.socket,
        boot,
        gateway_url: config.gateway_url.clone(),
        authorization: config.callback_authorization.clone(),
        connect_workers: limits.connect_workers,
        connect_queue: limits.connect_queue,
        disconnect_workers: limits.disconnect_workers,
        disconnect_queue: limits.disconnect_queue,
        disconnect_timeout: limits.disconnect_timeout,
        worker_idle: limits.worker_idle,
    }
}
