//! What is opened once, before the loop turns, and what can go wrong with it.

use std::fmt;
use std::io;

use mio::{Interest, Poll, Token};
use uuid::Uuid;

use super::LISTENER;
use super::accept::Listener;
use crate::config::{Address, Config, Host};
use crate::gateway::{Scope, Settings};
use crate::net::{self, SocketOptions};
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
                "{setting}: {address} is already in use; stop what listens there or choose another port"
            ),
            StartError::Listen {
                setting,
                address,
                source,
            } => write!(f, "{setting}: cannot listen on {address}: {source}"),
            StartError::System(source) => write!(f, "the event loop cannot start: {source}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(source: io::Error) -> StartError {
        StartError::System(source)
    }
}

pub(super) fn listeners(config: &Config, poll: &Poll) -> Result<Vec<Listener>, StartError> {
    let options = SocketOptions::from(&config.limits);
    let open = |setting, host: Option<&str>, port: u16, scope| {
        let sockets = net::listen(host, port, options).map_err(|source| StartError::Listen {
            setting,
            address: match host {
                Some(host) if host.contains(':') => format!("[{host}]:{port}"),
                Some(host) => format!("{host}:{port}"),
                None => format!("port {port}"),
            },
            source,
        })?;
        let listener = move |socket| Listener {
            socket,
            scope,
            is_unfinished: false,
            rests_until: None,
            is_full: false,
        };
        Ok::<_, StartError>(sockets.into_iter().map(listener))
    };
    let internal = config.internal_listen.as_ref();
    let scope = match internal {
        Some(_) => Scope::Public,
        None => Scope::Whole,
    };
    let host = match &config.host {
        Some(Host::Unix(_)) => return Err(StartError::System(io::ErrorKind::Unsupported.into())),
        Some(Host::Name(host)) => Some(host.as_str()),
        None => None,
    };
    let setting = if host.is_some() { "HOST, PORT" } else { "PORT" };
    let mut listeners: Vec<Listener> = open(setting, host, config.port, scope)?.collect();
    if let Some(Address::Tcp(at)) = internal {
        listeners.extend(open(
            "INTERNAL_LISTEN",
            Some(&at.host),
            at.port,
            Scope::Internal,
        )?);
    }
    for (at, listener) in listeners.iter_mut().enumerate() {
        poll.registry().register(
            &mut listener.socket,
            Token(LISTENER - at),
            Interest::READABLE,
        )?;
    }
    Ok(listeners)
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
    url: http::Uri,
    boot: Uuid,
) -> workers::CallbackSettings {
    let limits = &config.limits;
    workers::CallbackSettings {
        url,
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
