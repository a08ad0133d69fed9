//! The limits that can be reached (contract, section 6), by the names that logs and metrics have for
//! them.

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
    /// Silence between requests.
    Idle,
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
    /// Lines about requests without a key; not a setting.
    RefusedKeys,
    /// Lines about streams that nobody can decide on.
    Unconfigured,
}

pub(super) const LIMITS: usize = Limit::Unconfigured as usize + 1;

impl Limit {
    /// Whether it drops open streams.
    pub(super) fn drops_streams(self) -> bool {
        matches!(
            self,
            Limit::Unsent | Limit::Held | Limit::Stall | Limit::Discarded | Limit::Peer
        )
    }

    /// Whether it is none but of lines in the log.
    pub(super) fn is_for_lines(self) -> bool {
        matches!(
            self,
            Limit::RefusedSends | Limit::UnknownTokens | Limit::RefusedKeys | Limit::Unconfigured
        )
    }

    /// What the log and the metrics call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Limit::Head => "MAX_HEAD_BYTES",
            Limit::Fields => "MAX_HEADERS",
            Limit::Body => "MAX_BODY_BYTES",
            Limit::Malformed => "malformed_request",
            Limit::Silence => "NEW_CONNECTION_TIMEOUT_SECONDS",
            Limit::Idle => "IDLE_TIMEOUT_SECONDS",
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
            Limit::RefusedKeys => "refused_keys",
            Limit::Unconfigured => "CALLBACK_URL",
        }
    }
}

/// Each at its own place.
pub(super) const ALL_LIMITS: [Limit; LIMITS] = [
    Limit::Head,
    Limit::Fields,
    Limit::Body,
    Limit::Malformed,
    Limit::Silence,
    Limit::Idle,
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
    Limit::RefusedKeys,
    Limit::Unconfigured,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_stands_at_its_own_place() {
        for (at, limit) in ALL_LIMITS.into_iter().enumerate() {
            assert_eq!(limit as usize, at);
        }
    }
}
