//! Which request goes where (contract, section 1), and the fixed answers.

use super::conn::Scope;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Open a stream.
    Stream,
    /// `POST /internal/send`.
    Send,
    /// The event loop runs.
    Health,
    /// Streams can be opened.
    Ready,
    /// A look at what goes on (contract, section 14).
    Look(View),
    /// `OPTIONS` where streams are opened: a browser asks before its page does, if it says so.
    Preflight,
    /// Nothing of the kind.
    Refuse(Answer),
}

/// What can be looked at under `/internal/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// `GET /internal/metrics`
    Metrics,
    /// `GET /internal/streams`
    Streams,
    /// `GET /internal/streams/<token>`
    OneStream,
    /// `GET /internal/channels`
    Channels,
}

/// Where one stream is found, by its token.
pub(super) const STREAM_PATH: &[u8] = b"/internal/streams/";

/// An answer that needs no more than its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// For programs.
    pub(super) code: &'static str,
    /// For people; plain text that JSON need not escape.
    pub(super) message: &'static str,
    /// What exactly, behind the message; the same kind of text.
    pub(super) detail: &'static str,
    /// Further header lines, each with its line end.
    pub(super) fields: &'static str,
    /// The connection ends with it, whatever the client wishes.
    pub(super) is_last: bool,
}

impl Answer {
    const fn new(status: u16, code: &'static str, message: &'static str) -> Answer {
        Answer {
            status,
            code,
            message,
            detail: "",
            fields: "",
            is_last: false,
        }
    }

    const fn with(mut self, fields: &'static str) -> Answer {
        self.fields = fields;
        self
    }

    pub(super) const fn last(mut self) -> Answer {
        self.is_last = true;
        self
    }
}

/// How long a client that is refused by a stream is to wait before it comes again, in milliseconds:
/// short where what is in the way may pass, long where it will not.
const SOON: (u32, u32) = (1_000, 5_000);
const LATE: (u32, u32) = (300_000, 600_000);

impl Answer {
    /// The shortest and the longest wait that a client is told to take before it asks again.
    pub(super) fn pause(&self) -> (u32, u32) {
        match self.status {
            429 | 500..=599 => SOON,
            _ => LATE,
        }
    }
}

/// No key, or a wrong one.
pub(super) const UNAUTHORIZED: Answer = Answer::new(
    401,
    "UNAUTHORIZED",
    "Requests under /internal/ must bear a key: Authorization: Bearer <key>.",
)
.with("WWW-Authenticate: Bearer\r\n");

const NOT_FOUND: Answer = Answer::new(404, "NOT_FOUND", "There is nothing at this path.");

const NOT_ALLOWED: Answer = Answer::new(
    405,
    "METHOD_NOT_ALLOWED",
    "This path does not take this method; the Allow field names those it takes.",
);

const fn not_allowed(allow: &'static str) -> Route {
    Route::Refuse(NOT_ALLOWED.with(allow))
}

pub(super) const UNSUPPORTED_ENCODING: Answer = Answer::new(
    415,
    "UNSUPPORTED_MEDIA_TYPE",
    "A send must come without Content-Encoding.",
)
.with("Accept-Encoding: identity\r\n");

pub(super) const TOKEN_NOT_FOUND: Answer =
    Answer::new(404, "TOKEN_NOT_FOUND", "No open connection has this token.");

pub(super) fn invalid_parameter(detail: &'static str) -> Answer {
    Answer {
        detail,
        ..Answer::new(
            400,
            "INVALID_PARAMETER",
            "A parameter of the query cannot be used: ",
        )
    }
}

pub(super) const WRITE_FAILED: Answer = Answer::new(
    500,
    "WRITE_FAILED",
    "The event could not be written; the connection is gone.",
);

pub(super) const BUFFER_FULL: Answer = Answer::new(
    503,
    "BUFFER_FULL",
    "The connect callback is still out and its buffer is full; nothing was stored.",
);

pub(super) const RETAINED_FULL: Answer = Answer::new(
    503,
    "RETAINED_FULL",
    "The current values of all channels would be more than MAX_RETAINED_BYTES; nothing was stored or delivered.",
);

pub(super) const NOT_CONFIGURED: Answer = Answer::new(
    503,
    "SERVICE_NOT_CONFIGURED",
    "The gateway has no callback URL; set CALLBACK_URL.",
);

/// Streams and callbacks that are refused now may be taken soon.
pub(super) const OVERLOADED: Answer = Answer::new(
    503,
    "OVERLOADED",
    "The gateway has reached a limit; try again later.",
)
.with("Retry-After: 5\r\n")
.last();

pub(super) const SHUTTING_DOWN: Answer =
    Answer::new(503, "SHUTTING_DOWN", "The gateway is shutting down.")
        .with("Retry-After: 5\r\n")
        .last();

pub(super) const GATEWAY_TIMEOUT: Answer = Answer::new(
    504,
    "GATEWAY_TIMEOUT",
    "The backend did not answer in time.",
);

pub(super) const BACKEND_UNAVAILABLE: Answer = Answer::new(
    503,
    "BACKEND_UNAVAILABLE",
    "The backend could not be reached.",
);

pub(super) const REQUEST_TIMEOUT: Answer = Answer::new(
    408,
    "REQUEST_TIMEOUT",
    "The request did not arrive in time.",
)
.last();

pub(super) const BACKEND_ERROR: Answer = Answer::new(
    502,
    "BACKEND_ERROR",
    "The backend gave an answer that cannot be passed on.",
);

/// What the client gets when the backend answered with a status other than 2xx (contract,
/// section 2, step 4).
pub(super) fn rejection(status: u16) -> Answer {
    match status {
        401 => Answer::new(
            401,
            "BACKEND_AUTH_FAILED",
            "The backend asks for authentication.",
        ),
        403 => Answer::new(
            403,
            "BACKEND_FORBIDDEN",
            "The backend refused the connection.",
        ),
        300..=303 | 305..=599 => Answer::new(
            status,
            "BACKEND_ERROR",
            "The backend refused the connection.",
        ),
        _ => BACKEND_ERROR,
    }
}

/// The answer to a request that cannot be framed; each of them ends the connection (contract,
/// section 7).
pub(super) fn framing_error(error: crate::http::head::FramingError) -> Answer {
    use crate::http::head::FramingError;
    match error {
        FramingError::BadRequest(what) => Answer {
            detail: what,
            ..Answer::new(400, "BAD_REQUEST", "The request is not well-formed HTTP: ")
        },
        FramingError::ContentTooLarge => Answer::new(
            413,
            "CONTENT_TOO_LARGE",
            "The request body is larger than MAX_BODY_BYTES.",
        ),
        FramingError::UriTooLong => Answer::new(
            414,
            "URI_TOO_LONG",
            "The request target is longer than MAX_HEAD_BYTES.",
        ),
        FramingError::HeadTooLarge => Answer::new(
            431,
            "REQUEST_HEADER_FIELDS_TOO_LARGE",
            "The request head is larger than MAX_HEAD_BYTES.",
        ),
        FramingError::TooManyFields => Answer::new(
            431,
            "REQUEST_HEADER_FIELDS_TOO_LARGE",
            "The request has more header fields than MAX_HEADERS.",
        ),
        FramingError::UnknownTransferCoding => Answer::new(
            501,
            "NOT_IMPLEMENTED",
            "The only transfer coding is chunked.",
        ),
        FramingError::UnsupportedVersion => Answer::new(
            505,
            "HTTP_VERSION_NOT_SUPPORTED",
            "The versions are HTTP/1.1 and HTTP/1.0.",
        ),
    }
    .last()
}

/// Whether a path is one that asks for a key where there is one, be there anything or not.
pub(super) fn is_internal(path: &[u8]) -> bool {
    path.starts_with(b"/internal/")
}

/// What a method gets that is not for streams, where they are opened.
pub(super) const STREAMS_ONLY: Answer = NOT_ALLOWED.with("Allow: GET\r\n");

/// Where a request goes; `path` is compared octet by octet.
pub(super) fn route(scope: Scope, method: &str, path: &[u8]) -> Route {
    let of_health = |route| match method {
        "GET" | "HEAD" => route,
        _ => not_allowed("Allow: GET, HEAD\r\n"),
    };
    let of_view = |view| match method {
        "GET" => Route::Look(view),
        _ => not_allowed("Allow: GET\r\n"),
    };
    match (path, scope) {
        (b"/healthz", _) => of_health(Route::Health),
        (b"/readyz", _) => of_health(Route::Ready),
        (b"/internal/send", Scope::Whole | Scope::Internal) => match method {
            "POST" => Route::Send,
            _ => not_allowed("Allow: POST\r\n"),
        },
        (b"/internal/metrics", Scope::Whole | Scope::Internal) => of_view(View::Metrics),
        (b"/internal/streams", Scope::Whole | Scope::Internal) => of_view(View::Streams),
        (b"/internal/channels", Scope::Whole | Scope::Internal) => of_view(View::Channels),
        (_, Scope::Whole | Scope::Internal) if path.starts_with(STREAM_PATH) => {
            of_view(View::OneStream)
        }
        (_, Scope::Internal) => Route::Refuse(NOT_FOUND),
        // Reserved, with any method and on any listener: no stream may come to depend on it.
        _ if is_internal(path) => Route::Refuse(NOT_FOUND),
        (_, Scope::Whole | Scope::Public) => match method {
            "GET" => Route::Stream,
            "POST" => Route::Refuse(NOT_FOUND),
            // That of the whole server is about no path.
            "OPTIONS" if path != b"*" => Route::Preflight,
            _ => Route::Refuse(STREAMS_ONLY),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(scope: Scope, method: &str, path: &str) -> String {
        match route(scope, method, path.as_bytes()) {
            Route::Refuse(answer) => format!("{} {}", answer.status, answer.fields.trim_end()),
            route => format!("{route:?}"),
        }
    }

    #[test]
    fn every_method_on_every_path() {
        let table = [
            ("GET", "/", "Stream"),
            ("GET", "/a/b", "Stream"),
            ("GET", "/internal", "Stream"),
            ("GET", "/internalx", "Stream"),
            ("GET", "/internalx/send", "Stream"),
            ("GET", "/Internal/send", "Stream"),
            ("GET", "//internal/send", "Stream"),
            ("GET", "/a/internal/send", "Stream"),
            ("GET", "/internal%2Fsend", "Stream"),
            ("PUT", "/internal", "405 Allow: GET"),
            ("POST", "/internal", "404 "),
            ("GET", "/internal/", "404 "),
            ("GET", "/internal/metrics", "Look(Metrics)"),
            ("POST", "/internal/metrics", "405 Allow: GET"),
            ("HEAD", "/internal/streams", "405 Allow: GET"),
            ("GET", "/internal/streams", "Look(Streams)"),
            ("GET", "/internal/streams/", "Look(OneStream)"),
            ("GET", "/internal/streams/x", "Look(OneStream)"),
            ("GET", "/internal/streamsx", "404 "),
            ("GET", "/internal/channels", "Look(Channels)"),
            ("GET", "/internal/channels/x", "404 "),
            ("GET", "/internal/send/", "404 "),
            ("GET", "/internal/sendx", "404 "),
            ("GET", "/internal//send", "404 "),
            ("GET", "/internal/../a", "404 "),
            ("HEAD", "/internal/other", "404 "),
            ("PUT", "/internal/other", "404 "),
            ("OPTIONS", "/internal/other", "404 "),
            ("CONNECT", "/internal/other", "404 "),
            ("GET", "/Healthz", "Stream"),
            ("GET", "/healthz/", "Stream"),
            ("GET", "/%69nternal/send", "Stream"),
            ("POST", "/internal/send", "Send"),
            ("POST", "/internal/send/", "404 "),
            ("POST", "/a", "404 "),
            ("GET", "/internal/send", "405 Allow: POST"),
            ("HEAD", "/internal/send", "405 Allow: POST"),
            ("PUT", "/internal/send", "405 Allow: POST"),
            ("GET", "/healthz", "Health"),
            ("HEAD", "/healthz", "Health"),
            ("GET", "/readyz", "Ready"),
            ("HEAD", "/readyz", "Ready"),
            ("POST", "/healthz", "405 Allow: GET, HEAD"),
            ("DELETE", "/readyz", "405 Allow: GET, HEAD"),
            ("HEAD", "/", "405 Allow: GET"),
            ("OPTIONS", "*", "405 Allow: GET"),
            ("OPTIONS", "/", "Preflight"),
            ("OPTIONS", "/internal", "Preflight"),
            ("OPTIONS", "/internal/", "404 "),
            ("OPTIONS", "/internal/send", "405 Allow: POST"),
            ("OPTIONS", "/healthz", "405 Allow: GET, HEAD"),
            ("get", "/", "405 Allow: GET"),
            ("CONNECT", "h:1", "405 Allow: GET"),
        ];
        for (method, path, expected) in table {
            assert_eq!(
                told(Scope::Whole, method, path),
                expected,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn two_listeners_share_health_alone() {
        let table = [
            ("POST", "/internal/send", "404 ", "Send"),
            ("GET", "/internal/send", "404 ", "405 Allow: POST"),
            ("GET", "/internal/other", "404 ", "404 "),
            ("PUT", "/internal/", "404 ", "404 "),
            ("GET", "/internal/metrics", "404 ", "Look(Metrics)"),
            ("GET", "/internal/streams", "404 ", "Look(Streams)"),
            ("GET", "/internal/streams/x", "404 ", "Look(OneStream)"),
            ("GET", "/internal/channels", "404 ", "Look(Channels)"),
            ("GET", "/internal", "Stream", "404 "),
            ("GET", "/internalx", "Stream", "404 "),
            ("GET", "/a", "Stream", "404 "),
            ("OPTIONS", "/a", "Preflight", "404 "),
            ("OPTIONS", "/internal/send", "404 ", "405 Allow: POST"),
            ("PUT", "/a", "405 Allow: GET", "404 "),
            ("GET", "/healthz", "Health", "Health"),
            ("HEAD", "/readyz", "Ready", "Ready"),
        ];
        for (method, path, public, internal) in table {
            assert_eq!(told(Scope::Public, method, path), public, "{method} {path}");
            assert_eq!(
                told(Scope::Internal, method, path),
                internal,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn what_a_backends_status_becomes() {
        let table = [
            (300, 300, "BACKEND_ERROR"),
            (302, 302, "BACKEND_ERROR"),
            (304, 502, "BACKEND_ERROR"),
            (400, 400, "BACKEND_ERROR"),
            (401, 401, "BACKEND_AUTH_FAILED"),
            (403, 403, "BACKEND_FORBIDDEN"),
            (599, 599, "BACKEND_ERROR"),
            (600, 502, "BACKEND_ERROR"),
            (199, 502, "BACKEND_ERROR"),
            (999, 502, "BACKEND_ERROR"),
        ];
        for (status, expected, code) in table {
            let answer = rejection(status);
            assert_eq!((answer.status, answer.code), (expected, code), "{status}");
        }
    }
}
