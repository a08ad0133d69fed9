//! Accepting: a budget a turn, and rests that do not spin when descriptors run out.

use std::time::Duration;

use log::warn;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};

use super::Server;
use crate::gateway::{Broken, Scope};
use crate::net::{self, AcceptError};
use crate::time::Time;

/// Connections accepted in one turn and listener.
const ACCEPT_BUDGET: usize = 64;
/// How long accepting rests after descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A socket that listens.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) scope: Scope,
    /// Connections may wait although no readiness will tell.
    pub(super) is_unfinished: bool,
}

impl Server {
    pub(super) fn accept_some(&mut self, listener: usize, now: Time) {
        for _ in 0..ACCEPT_BUDGET {
            self.listeners[listener].is_unfinished = true;
            if self.accept_rests_until.is_some() || self.is_full {
                return;
            }
            // Who is only waited for to go must not keep a health check waiting.
            if self.gateway.counts().connections >= self.max_connections && !self.gateway.shed() {
                self.is_full = true;
                self.gateway.accepting_pauses(now);
                return;
            }
            let scope = self.listeners[listener].scope;
            match net::accept(&self.listeners[listener].socket) {
                Ok(stream) => {
                    self.is_exhausted = false;
                    self.take_in(stream, scope, now);
                }
                Err(AcceptError::Drained) => {
                    self.listeners[listener].is_unfinished = false;
                    return;
                }
                Err(AcceptError::One) => {}
                Err(AcceptError::Exhausted(error)) => {
                    if !std::mem::replace(&mut self.is_exhausted, true) {
                        warn!("accepting pauses error=\"{error}\" limit=descriptors");
                    }
                    self.accept_rests_until = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// One registration for both directions and for life: nothing is re-armed for an event.
    fn take_in(&mut self, stream: TcpStream, scope: Scope, now: Time) {
        let id = self.gateway.accept(stream, scope, now);
        let registry = self.poll.registry();
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        if let Some(stream) = self.gateway.io(id)
            && registry
                .register(stream, Token(id.index()), interest)
                .is_err()
        {
            self.gateway.broken(id, Broken::Vanished, now);
        }
    }

    /// Takes up the accepting that a budget or a lack of descriptors cut short; after slots were
    /// freed, as that may be what it waited for.
    pub(super) fn resume_accepting(&mut self, now: Time) {
        if self.accept_rests_until.is_some_and(|until| until <= now) {
            self.accept_rests_until = None;
        }
        if self.is_full {
            let is_roomy = self.gateway.counts().connections <= self.resume_at;
            self.is_full = !is_roomy && !self.gateway.shed();
        }
        for listener in 0..self.listeners.len() {
            if self.listeners[listener].is_unfinished {
                self.accept_some(listener, now);
                self.settle(now);
            }
        }
    }
}
