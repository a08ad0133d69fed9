//! Accepting: a budget a turn, and rests that do not spin when the house is full or descriptors
//! run out.

use std::io;
use std::time::Duration;

use mio::Token;

use super::{LISTENER, Server, Socket};
use crate::gateway::{Broken, Scope};
use crate::net::{self, AcceptError};
use crate::time::Time;

/// Connections accepted in one turn and listener.
const ACCEPT_BUDGET: usize = 64;
/// How long accepting rests after descriptors ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);
/// How long a listener rests when the house is full and nobody can go, unless somebody leaves.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// A socket that listens.
pub(super) struct Listener {
    pub(super) socket: net::Listener,
    pub(super) scope: Scope,
    /// It goes on listening without us.
    pub(super) is_inherited: bool,
    /// Nobody is accepted any more.
    pub(super) is_stopped: bool,
    /// Connections may wait although no readiness will tell.
    pub(super) is_unfinished: bool,
    pub(super) rests_until: Option<Time>,
    /// It rests because the house was full.
    pub(super) is_full: bool,
}

impl Listener {
    /// When accepting is to be taken up; `None` when nobody waits as far as is known.
    pub(super) fn due(&self) -> Option<Time> {
        (self.is_unfinished && !self.is_stopped).then(|| self.rests_until.unwrap_or_default())
    }
}

impl Server {
    /// Accepts who waits. Behind the turn's readiness, so that closing somebody for a newcomer
    /// frees a descriptor and a slot at once.
    pub(super) fn accept_some(&mut self, now: Time) {
        for listener in 0..self.listeners.len() {
            let it = &self.listeners[listener];
            let has_place = || it.is_full && self.gateway.has_place(it.scope);
            if it.due().is_some_and(|due| due <= now || has_place()) {
                self.accept_from(listener, now);
                self.settle(now);
            }
        }
        self.gateway.reap();
    }

    /// Leaves those who come now to the next process with that socket: they wait in the kernel's queue.
    /// On sockets of our own there is no such process, and they are told so.
    pub(super) fn stop_accepting(&mut self) {
        for it in &mut self.listeners {
            if it.is_inherited {
                it.is_stopped = true;
                // What readiness is still announced nobody looks at.
                let _ = it.socket.deregister(self.poll.registry());
            }
        }
    }

    fn accept_from(&mut self, listener: usize, now: Time) {
        let it = &mut self.listeners[listener];
        (it.rests_until, it.is_full) = (None, false);
        let scope = it.scope;
        for _ in 0..ACCEPT_BUDGET {
            if !self.gateway.make_place(scope, now) {
                let it = &mut self.listeners[listener];
                (it.rests_until, it.is_full) = (Some(now + FULL_PAUSE), true);
                return;
            }
            match net::accept(&self.listeners[listener].socket) {
                Ok(stream) => {
                    self.is_exhausted = false;
                    self.take_in(stream, scope, now);
                    if !self.gateway.has_place(scope) && self.ask_again(listener).is_ok() {
                        return;
                    }
                }
                Err(AcceptError::Drained) => {
                    self.listeners[listener].is_unfinished = false;
                    return;
                }
                Err(AcceptError::One) => {}
                Err(AcceptError::Exhausted(error)) => {
                    if !std::mem::replace(&mut self.is_exhausted, true) {
                        self.gateway.descriptors_ran_out(&error, now);
                    }
                    self.listeners[listener].rests_until = Some(now + EXHAUSTED_PAUSE);
                    return;
                }
            }
        }
    }

    /// Has readiness announced anew if somebody waits: whoever is closed for a newcomer shall not be
    /// closed for nobody.
    fn ask_again(&mut self, listener: usize) -> io::Result<()> {
        let it = &mut self.listeners[listener];
        let token = Token(LISTENER - listener);
        let registry = self.poll.registry();
        it.socket.reregister(registry, token)?;
        it.is_unfinished = false;
        Ok(())
    }

    fn take_in(&mut self, stream: socket2::Socket, scope: Scope, now: Time) {
        let socket = Socket {
            stream,
            is_queued: false,
        };
        let id = self.gateway.accept(socket, scope, now);
        let registry = self.poll.registry();
        if let Some(socket) = self.gateway.io(id)
            && net::register(&socket.stream, registry, Token(id.index())).is_err()
        {
            self.gateway.broken(id, Broken::Vanished, now);
        }
    }
}
