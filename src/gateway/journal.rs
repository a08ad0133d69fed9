//! What the core says in the log (contract, section 9): one function for each event, and the rate
//! at which limits may speak.

use std::fmt::Display;
use std::time::Duration;

use log::{debug, error, info, log_enabled, warn};
use uuid::Uuid;

use super::counters::Counters;
use super::limit::{ALL_LIMITS, LIMITS, Limit};
use crate::callback::{CallbackResult, Outcome, Reason};
use crate::header_store::Request;
use crate::http::head::FramingError;
use crate::logfmt::Value;
use crate::time::Time;
use crate::wire::Directives;

/// Lines about one limit within [`WINDOW`]; the others are counted.
const LINES: u32 = 10;

/// Lines about requests that are somebody's mistake, beyond [`LINES`] in each [`WINDOW`]: enough for
/// whoever looks for his.
const MISTAKES: u32 = 100;

/// The unit of the rate at which one limit is spoken of.
const WINDOW: Duration = Duration::from_secs(1);

/// An event as the log tells of it: never its data.
#[derive(Debug)]
pub(super) struct SentEvent {
    name: String,
    /// Bytes of its data.
    length: usize,
}

/// What happened: how often in all, and of what was spoken lately.
#[derive(Debug, Default)]
pub(super) struct Journal {
    rates: [Rate; LIMITS],
    pub(super) counters: Counters,
    /// Disconnect callbacks that got no answer since a shutdown began, for its last line.
    pub(super) undelivered: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    since: Time,
    lines: u32,
    suppressed: u64,
}

impl Rate {
    /// Whether one more line may be written, of [`LINES`] in each [`WINDOW`] and so many more.
    fn admits(&mut self, more: u32, now: Time) -> bool {
        let windows = now.since(self.since).as_millis() / WINDOW.as_millis();
        if windows > 0 {
            self.since = now;
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            self.lines = self.lines.saturating_sub(LINES.saturating_mul(windows));
        }
        if self.lines < LINES + more {
            self.lines += 1;
            return true;
        }
        self.suppressed += 1;
        false
    }

    /// Tells how many lines were left out since, once their second is over.
    fn tell(&mut self, limit: Limit, now: Time) {
        if self.suppressed > 0 && now.since(self.since) >= WINDOW {
            let suppressed = std::mem::take(&mut self.suppressed);
            warn!("limit reached limit={} more={suppressed}", limit.name());
        }
    }
}

impl Journal {
    /// Tells of each limit how many lines were left out, once their second is over.
    pub(super) fn tick(&mut self, now: Time) {
        for (rate, limit) in self.rates.iter_mut().zip(ALL_LIMITS) {
            rate.tell(limit, now);
        }
    }

    /// When [`Journal::tick`] has something to tell.
    pub(super) fn deadline(&self) -> Option<Time> {
        let is_due = |rate: &&Rate| rate.suppressed > 0;
        let due = self.rates.iter().filter(is_due);
        due.map(|rate| rate.since + WINDOW).min()
    }

    /// Whether one more line may be written that strangers cause.
    fn admits(&mut self, limit: Limit, now: Time) -> bool {
        let more = match limit {
            Limit::RefusedSends | Limit::UnknownTokens | Limit::Unconfigured => MISTAKES,
            // Whoever has no key is a stranger.
            _ => 0,
        };
        self.counters.limits[limit as usize] += 1;
        let rate = &mut self.rates[limit as usize];
        // A flood that goes on leaves no moment between its lines.
        rate.tell(limit, now);
        rate.admits(more, now)
    }

    /// A limit was reached by something other than an open stream.
    pub(super) fn limit(&mut self, limit: Limit, token: Option<Uuid>, now: Time) {
        if self.admits(limit, now) {
            match token {
                Some(token) => warn!("limit reached limit={} token={token}", limit.name()),
                None => warn!("limit reached limit={}", limit.name()),
            }
        }
    }

    pub(super) fn accepting_pauses(&mut self, connections: usize, now: Time) {
        let limit = Limit::Descriptors;
        if self.admits(limit, now) {
            let limit = limit.name();
            warn!("accepting pauses connections={connections} limit={limit}");
        }
    }

    pub(super) fn descriptors_ran_out(&mut self, error: impl Display, now: Time) {
        let limit = Limit::Descriptors;
        if self.admits(limit, now) {
            let limit = limit.name();
            warn!("accepting pauses error=\"{error}\" limit={limit}");
        }
    }

    /// A kept-alive connection was silent for too long, which is how most of them end.
    pub(super) fn idled(&mut self) {
        let limit = Limit::Idle;
        self.counters.limits[limit as usize] += 1;
        debug!("connection closed limit={}", limit.name());
    }

    pub(super) fn framing_refused(&mut self, error: FramingError, now: Time) {
        let limit = match error {
            FramingError::ContentTooLarge => Limit::Body,
            FramingError::UriTooLong | FramingError::HeadTooLarge => Limit::Head,
            FramingError::TooManyFields => Limit::Fields,
            FramingError::BadRequest(what) => {
                if self.admits(Limit::Malformed, now) {
                    warn!("request refused cause={}", Value::new(what.as_bytes()));
                }
                return;
            }
            FramingError::UnknownTransferCoding | FramingError::UnsupportedVersion => {
                Limit::Malformed
            }
        };
        self.limit(limit, None, now);
    }

    // ---- the life of a stream ----

    pub(super) fn connected(&self, token: Uuid, request: &Request) {
        if log_enabled!(log::Level::Info) {
            info!(
                "new connection token={token} url={}",
                Value::new(&request.url())
            );
        }
    }

    pub(super) fn not_configured(&mut self, request: &Request, now: Time) {
        if !self.admits(Limit::Unconfigured, now) {
            return;
        }
        let url = request.url();
        error!(
            "stream refused: CALLBACK_URL is not set url={}",
            Value::new(&url)
        );
    }

    /// `orphan`: the client is not waited for any more, and whether the log told so by a 504.
    pub(super) fn connect_ended(&mut self, result: &CallbackResult, orphan: Option<bool>) {
        self.counters.called(result);
        let token = result.token;
        match (&result.outcome, orphan) {
            (Outcome::TimedOut, Some(true)) | (Outcome::NeverSent, Some(_)) => {
                debug!("connect callback given up token={token}");
            }
            (Outcome::NeverSent, None) => self.callback_timed_out(token),
            _ => self.callback_ended("connect callback", result),
        }
        if let Outcome::Answered {
            status: 200..=299,
            directives,
        } = &result.outcome
        {
            info!(
                "connect answer token={token} hasEvent={} hasClose={}",
                directives.event.is_some(),
                directives.close
            );
        }
    }

    /// A 2xx that cannot open a stream.
    pub(super) fn answer_unusable(&self, token: Uuid, why: &str) {
        let why = Value::new(why.as_bytes());
        error!("connect callback answer cannot be used token={token} error={why}");
    }

    /// An answer's event brings an id of its own, which the history's would contradict.
    pub(super) fn own_id(&self, token: Uuid) {
        error!(
            "connect callback answer cannot be used token={token} error=\"'event.id' is given by the \
             gateway as HISTORY_BYTES is set\""
        );
    }

    /// A stream is told that it has missed something.
    pub(super) fn gap(&mut self, token: Option<Uuid>, asked: &str) {
        self.counters.gaps += 1;
        if let Some(token) = token {
            let asked = Value::new(asked.as_bytes());
            debug!("gap token={token} last_event_id={asked}");
        }
    }

    /// The client gets its 504.
    pub(super) fn callback_timed_out(&self, token: Uuid) {
        error!("connect callback failed token={token} error=timeout");
    }

    pub(super) fn disconnect_ended(&mut self, result: &CallbackResult) {
        self.counters.called(result);
        self.callback_ended("disconnect callback", result);
        if let Outcome::Answered {
            status: 200..=299,
            directives: Directives { event, close, .. },
        } = &result.outcome
            && (event.is_some() || *close)
        {
            let token = result.token;
            warn!(
                "directives in the answer to a disconnect callback cannot be applied token={token}"
            );
        }
    }

    fn callback_ended(&self, name: &str, result: &CallbackResult) {
        let token = result.token;
        let error = match &result.outcome {
            Outcome::Answered {
                status: status @ 200..=299,
                directives,
            } => {
                info!("{name} answered token={token} status={status}");
                if let Some(problem) = directives.problem {
                    let problem = Value::new(problem.as_bytes());
                    error!("{name} answer cannot be used token={token} error={problem}");
                }
                return;
            }
            Outcome::Answered { status, .. } => {
                return error!("{name} rejected token={token} status={status}");
            }
            Outcome::NeverSent => return debug!("{name} never sent token={token}"),
            Outcome::Unfinished { status, error } => {
                let error = error.as_deref().unwrap_or("timeout");
                let error = Value::new(error.as_bytes());
                return error!("{name} failed token={token} status={status} error={error}");
            }
            Outcome::TimedOut => "timeout",
            Outcome::Failed(what) => what,
            Outcome::QueueFull => "queue full",
        };
        let error = Value::new(error.as_bytes());
        error!("{name} failed token={token} error={error}");
    }

    pub(super) fn opened(&mut self, token: Uuid, request: &Request, heartbeat: Duration) {
        self.counters.opened += 1;
        if log_enabled!(log::Level::Info) {
            info!(
                "stream opened token={token} url={} heartbeat={}",
                Value::new(&request.url()),
                heartbeat.as_secs()
            );
        }
    }

    /// The client left, or was dropped, before the backend has answered.
    pub(super) fn left_callback(&self, token: Uuid, request: &Request, reason: Reason) {
        if log_enabled!(log::Level::Info) {
            let (url, reason) = (request.url(), reason.as_str());
            info!(
                "disconnected during the connect callback token={token} url={} reason={reason}",
                Value::new(&url)
            );
        }
    }

    /// An open stream has ended.
    pub(super) fn ended(
        &mut self,
        token: Uuid,
        request: &Request,
        reason: Reason,
        limit: Option<Limit>,
        now: Time,
    ) {
        self.counters.ended(reason, limit);
        self.left(token, request, reason, limit, now);
    }

    /// A stream, open or not yet, is no more.
    pub(super) fn left(
        &mut self,
        token: Uuid,
        request: &Request,
        reason: Reason,
        limit: Option<Limit>,
        now: Time,
    ) {
        let word = reason.as_str();
        let url = || request.url();
        match (reason, limit) {
            (Reason::ClientClosed, _) if log_enabled!(log::Level::Info) => {
                info!(
                    "disconnected token={token} url={} reason={word}",
                    Value::new(&url())
                );
            }
            (Reason::ServerClosed, limit) if log_enabled!(log::Level::Info) => {
                let name = limit.map_or("", Limit::name);
                info!(
                    "closed token={token} url={} reason={word}{}{name}",
                    Value::new(&url()),
                    limit.map_or("", |_| " limit=")
                );
            }
            (Reason::Error, Some(limit)) if self.admits(limit, now) => {
                warn!(
                    "stream dropped token={token} url={} reason={word} limit={}",
                    Value::new(&url()),
                    limit.name()
                );
            }
            (Reason::Error, None) => {
                warn!(
                    "stream lost token={token} url={} reason={word}",
                    Value::new(&url())
                );
            }
            _ => {}
        }
    }

    // ---- sends ----

    /// What is to be told of an event once it is sent; nothing while nobody listens.
    pub(super) fn sent(&self, name: &str, length: usize) -> Option<SentEvent> {
        let name = log_enabled!(log::Level::Debug).then(|| name.to_owned())?;
        Some(SentEvent { name, length })
    }

    pub(super) fn event_sent(&self, token: Uuid, event: &SentEvent, request: &Request) {
        debug!(
            "event sent token={token} event={} length={} url={}",
            Value::new(event.name.as_bytes()),
            event.length,
            Value::new(&request.url())
        );
    }

    /// An event, or a close, is on its way to many.
    pub(super) fn fanned_out(
        &self,
        channels: impl FnOnce() -> String,
        receivers: usize,
        length: usize,
    ) {
        if log_enabled!(log::Level::Debug) {
            let channels = channels();
            let channels = Value::new(channels.as_bytes());
            debug!("event sent channel={channels} receivers={receivers} length={length}");
        }
    }

    pub(super) fn buffered(&self, token: Uuid) {
        info!("send buffered token={token}");
    }

    pub(super) fn send_refused(&mut self, code: &str, now: Time) {
        if self.admits(Limit::RefusedSends, now) {
            error!("/internal/send refused code={code}");
        }
    }

    /// Who asks for what is under `/internal/` has no key.
    pub(super) fn key_refused(&mut self, path: &[u8], now: Time) {
        self.counters.keys_rejected += 1;
        if self.admits(Limit::RefusedKeys, now) {
            error!(
                "request refused code=UNAUTHORIZED path={}",
                Value::new(path)
            );
        }
    }

    pub(super) fn token_unknown(&mut self, token: &str, now: Time) {
        if log_enabled!(log::Level::Info) && self.admits(Limit::UnknownTokens, now) {
            info!(
                "/internal/send unknown token token={}",
                Value::new(token.as_bytes())
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_speaks_a_bounded_number_of_times_a_second() {
        let mut rate = Rate::default();
        let mut admitted = |more, now| (0..100).filter(|_| rate.admits(more, Time(now))).count();
        assert_eq!(admitted(0, 10_000), LINES as usize);
        assert_eq!(admitted(0, 10_999), 0);
        assert_eq!(admitted(0, 11_000), LINES as usize);
        assert_eq!(admitted(20, 11_000), 20);
        assert_eq!(admitted(20, 12_000), LINES as usize);
        assert_eq!(admitted(20, 15_000), 3 * LINES as usize);
        assert_eq!(rate.suppressed, 90 + 100 + 90 + 80 + 90 + 70);
    }
}
