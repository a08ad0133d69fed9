//! What the core says in the log (contract, section 9): one function for each event, and the rate
//! at which limits may speak.

use std::time::Duration;

use log::{debug, error, info, log_enabled, warn};
use uuid::Uuid;

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

/// A limit that was reached, by the name of its setting where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Bytes of a head, or of a trailer section.
    Head,
    /// Fields of a head.
    Fields,
    /// Bytes of a body.
    Body,
    /// Requests that are not well-formed; not a setting.
    Malformed,
    /// Silence on a new connection.
    Silence,
    /// The time for a whole request.
    RequestTime,
    /// Answers that a publisher leaves unread.
    UnreadAnswers,
    /// Unsent bytes of one stream.
    Unsent,
    /// Bytes of one callback window; the same setting.
    Window,
    /// Bytes held towards clients.
    Held,
    /// Bytes held from publishers and strangers.
    Inbound,
    /// Bytes of kept header fields.
    Headers,
    /// Unsent bytes without progress.
    Stall,
    /// Bytes that a stream's client sent after its request.
    Discarded,
    /// Streams.
    Streams,
    /// Connect callbacks that wait for a worker.
    ConnectQueue,
    /// Connections, which the descriptor limit bounds.
    Descriptors,
    /// Sent bytes, or probes, that stay unacknowledged.
    Peer,
    /// How long a stream lasts.
    MaxStream,
    /// The same as the answer to a connect callback says it; not a setting.
    ExpiresIn,
    /// Bytes of current values.
    Retained,
    /// Lines about sends that are refused; not a setting.
    RefusedSends,
    /// Lines about sends to unknown tokens; not a setting.
    UnknownTokens,
    /// Lines about streams that nobody can decide on.
    Unconfigured,
}

const LIMITS: usize = Limit::Unconfigured as usize + 1;

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Limit::Head => "MAX_HEAD_BYTES",
            Limit::Fields => "MAX_HEADERS",
            Limit::Body => "MAX_BODY_BYTES",
            Limit::Malformed => "malformed_request",
            Limit::Silence => "NEW_CONNECTION_TIMEOUT_SECONDS",
            Limit::RequestTime => "REQUEST_TIMEOUT_SECONDS",
            Limit::UnreadAnswers => "MAX_UNREAD_ANSWER_BYTES",
            Limit::Unsent | Limit::Window => "MAX_UNSENT_BYTES",
            Limit::Held => "MAX_HELD_BYTES",
            Limit::Inbound => "MAX_INBOUND_BYTES",
            Limit::Headers => "MAX_KEPT_HEADER_BYTES",
            Limit::Stall => "STALL_TIMEOUT_SECONDS",
            Limit::Discarded => "MAX_DISCARDED_BYTES",
            Limit::Streams => "MAX_STREAMS",
            Limit::ConnectQueue => "CONNECT_QUEUE",
            Limit::Descriptors => "descriptors",
            Limit::Peer => "PEER_TIMEOUT_SECONDS",
            Limit::MaxStream => "MAX_STREAM_SECONDS",
            Limit::ExpiresIn => "expires_in",
            Limit::Retained => "MAX_RETAINED_BYTES",
            Limit::RefusedSends => "refused_sends",
            Limit::UnknownTokens => "unknown_tokens",
            Limit::Unconfigured => "CALLBACK_URL",
        }
    }
}

/// An event as the log tells of it: never its data.
#[derive(Debug)]
pub(super) struct SentEvent {
    name: String,
    /// Bytes of its data.
    length: usize,
}

/// How often each limit was spoken of lately.
#[derive(Debug, Default)]
pub(super) struct Journal {
    rates: [Rate; LIMITS],
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
            _ => 0,
        };
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

    /// A kept-alive connection was silent for too long, which is how most of them end.
    pub(super) fn idled(&self) {
        debug!("connection closed limit=IDLE_TIMEOUT_SECONDS");
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
    pub(super) fn connect_ended(&self, result: &CallbackResult, orphan: Option<bool>) {
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
    pub(super) fn gap(&self, token: Option<Uuid>, asked: &str) {
        if let Some(token) = token {
            let asked = Value::new(asked.as_bytes());
            debug!("gap token={token} last_event_id={asked}");
        }
    }

    /// The client gets its 504.
    pub(super) fn callback_timed_out(&self, token: Uuid) {
        error!("connect callback failed token={token} error=timeout");
    }

    pub(super) fn disconnect_ended(&self, result: &CallbackResult) {
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

    pub(super) fn opened(&self, token: Uuid, request: &Request, heartbeat: Duration) {
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

    pub(super) fn ended(
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

    pub(super) fn token_unknown(&mut self, token: &str, now: Time) {
        if log_enabled!(log::Level::Info) && self.admits(Limit::UnknownTokens, now) {
            info!(
                "/internal/send unknown token token={}",
                Value::new(token.as_bytes())
            );
        }
    }
}

const ALL_LIMITS: [Limit; LIMITS] = [
    Limit::Head,
    Limit::Fields,
    Limit::Body,
    Limit::Malformed,
    Limit::Silence,
    Limit::RequestTime,
    Limit::UnreadAnswers,
    Limit::Unsent,
    Limit::Window,
    Limit::Held,
    Limit::Inbound,
    Limit::Headers,
    Limit::Stall,
    Limit::Discarded,
    Limit::Streams,
    Limit::ConnectQueue,
    Limit::Descriptors,
    Limit::Peer,
    Limit::MaxStream,
    Limit::ExpiresIn,
    Limit::Retained,
    Limit::RefusedSends,
    Limit::UnknownTokens,
    Limit::Unconfigured,
];

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

    #[test]
    fn every_limit_stands_at_its_own_place() {
        for (at, limit) in ALL_LIMITS.into_iter().enumerate() {
            assert_eq!(limit as usize, at);
        }
    }
}
