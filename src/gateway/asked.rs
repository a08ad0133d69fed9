//! What a head asks for: whether it may, and how it is to be answered.

use super::conn::{Asked, Scope};
use super::hub::Hub;
use super::origins::{self, Page};
use super::routes::{self, Route};
use crate::http::head::{Head, Version};
use crate::sse::Framing;
use crate::time::Time;

impl Hub {
    /// Where a request goes: to nothing without its key, be there anything or not.
    pub(super) fn route(&mut self, scope: Scope, head: &Head<'_, '_>, now: Time) -> Route {
        if self.is_locked(head, now) {
            return Route::Refuse(routes::UNAUTHORIZED);
        }
        match routes::route(scope, head.method, head.path) {
            Route::Preflight if !origins::is_preflight(head, &self.settings) => {
                Route::Refuse(routes::STREAMS_ONLY)
            }
            route => route,
        }
    }

    /// Whether a request is for what it bears no key to (contract, section 13).
    fn is_locked(&mut self, head: &Head<'_, '_>, now: Time) -> bool {
        let Some(keys) = &self.settings.keys else {
            return false;
        };
        let is_locked = routes::is_internal(head.path)
            && !head
                .only(b"authorization")
                .is_some_and(|value| keys.admit(value));
        if is_locked {
            self.journal.key_refused(head.path, now);
        }
        is_locked
    }
}

impl Asked {
    /// Notes how who asks for a stream is to be answered, as the head may not stay.
    pub(super) fn note(&mut self, hub: &Hub, route: Route, head: &Head<'_, '_>) {
        if matches!(route, Route::Stream | Route::Preflight) {
            self.page = Page::of(head, &hub.settings);
        }
        if route == Route::Stream
            && hub.settings.refuses_by_stream
            && head.accepts(b"text/event-stream")
        {
            self.refused_by = Some(framing(head));
        }
    }
}

/// How a stream is framed that this head asks for.
pub(super) fn framing(head: &Head<'_, '_>) -> Framing {
    match head.version {
        Version::Http11 => Framing::Chunked,
        Version::Http10 => Framing::Plain,
    }
}
