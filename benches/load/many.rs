//! The bytes of sends to many, as `wire` has those of sends to one.
//!
//! All requests of one publisher are of one length and differ in the event's mark alone, so the
//! floor looks at the first one and finds the rest at offsets.

use memchr::memmem;

use crate::wire::{self, DATA_BYTES, Mark, TOKEN_BYTES, Token};

/// The number in the marks of events that every stream gets.
pub(crate) const EVERYONE: u32 = 99_999_999;

/// The channel of those who share one.
pub(crate) const CHANNEL: &str = "all";

/// Tokens that one send may name.
pub(crate) const MOST_TOKENS: u32 = 1_000;

/// Bytes from one token in a list to the next: the token, two quotes, a comma.
const TOKEN_STEP: usize = TOKEN_BYTES + "\"\",".len();

const CHANNEL_FRONT: &str = "{\"channel\":\"";
const BROADCAST_FRONT: &str = "{\"broadcast\":true,";
const TOKENS_FRONT: &str = "{\"tokens\":[\"";
const TOKENS_TAIL: &str = "\"],";
const EVENT_FRONT: &str = "\"event\":{\"data\":\"";
const EVENT_TAIL: &str = "\"}}";

/// A request for a server's health, of a length that both servers know.
pub(crate) const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// Whom a send is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Everyone in [`CHANNEL`].
    Channel,
    /// These, [`MOST_TOKENS`] at most.
    Tokens(&'a [Token]),
    Broadcast,
}

/// A send to many without its mark.
pub(crate) struct ManyRequest {
    bytes: Vec<u8>,
    data_at: usize,
}

impl ManyRequest {
    pub(crate) fn new(port: u16, target: Target<'_>) -> ManyRequest {
        let mut body = match target {
            Target::Channel => format!("{CHANNEL_FRONT}{CHANNEL}\","),
            Target::Broadcast => BROADCAST_FRONT.to_owned(),
            Target::Tokens(tokens) => {
                let tokens = tokens.iter().map(|token| String::from_utf8_lossy(token));
                let list = tokens.collect::<Vec<_>>().join("\",\"");
                format!("{TOKENS_FRONT}{list}{TOKENS_TAIL}")
            }
        };
        body.push_str(EVENT_FRONT);
        body.push_str(&"x".repeat(DATA_BYTES));
        body.push_str(EVENT_TAIL);
        let bytes = wire::post(port, &body).into_bytes();
        ManyRequest {
            data_at: bytes.len() - EVENT_TAIL.len() - DATA_BYTES,
            bytes,
        }
    }

    /// The request with this mark in its event.
    pub(crate) fn marked(&mut self, mark: Mark) -> &[u8] {
        mark.write(&mut self.bytes[self.data_at..self.data_at + DATA_BYTES]);
        &self.bytes
    }
}

/// The answer to a send that addressed so many; the gateway's differs in the date only.
pub(crate) fn answer(receivers: usize) -> Vec<u8> {
    let body = format!("{{\"status\":\"ok\",\"receivers\":{receivers}}}");
    format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// How many streams a send has addressed, by its answer's body.
pub(crate) fn receivers(body: &[u8]) -> Option<u64> {
    Some(wire::leading_decimal(behind(body, b"\"receivers\":")?))
}

/// What stands behind the first `mark`.
pub(crate) fn behind<'a>(body: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    body.get(memmem::find(body, mark)? + mark.len()..)
}

/// What the floor has to know of a publisher's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of one.
    pub(crate) length: usize,
    pub(crate) kind: Kind,
}

/// Whom a publisher's requests are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    /// So many tokens, from an offset on.
    Tokens {
        at: usize,
        count: usize,
    },
    Broadcast,
}

impl Shape {
    /// The shape of the request that begins here, if it is a send to many.
    pub(crate) fn of(request: &[u8]) -> Option<Shape> {
        let (head, length) = wire::ends(request)?;
        let body = &request[head..];
        let kind = if body.starts_with(CHANNEL_FRONT.as_bytes()) {
            Kind::Channel
        } else if body.starts_with(BROADCAST_FRONT.as_bytes()) {
            Kind::Broadcast
        } else if body.starts_with(TOKENS_FRONT.as_bytes()) {
            let at = head + TOKENS_FRONT.len();
            let behind = TOKENS_TAIL.len() + EVENT_FRONT.len() + DATA_BYTES + EVENT_TAIL.len();
            // The last token has two quotes and a comma less behind it.
            let count = (length - behind - at + TOKEN_STEP - TOKEN_BYTES) / TOKEN_STEP;
            Kind::Tokens { at, count }
        } else {
            return None;
        };
        Some(Shape { length, kind })
    }

    /// The event's data.
    pub(crate) fn data<'a>(&self, request: &'a [u8]) -> &'a [u8] {
        let end = self.length - EVENT_TAIL.len();
        &request[end - DATA_BYTES..end]
    }
}

/// The numbers in `count` of the floor's tokens, the first of which stands at an offset.
pub(crate) fn numbers(request: &[u8], at: usize, count: usize) -> impl Iterator<Item = usize> {
    let tokens = request[at..].chunks(TOKEN_STEP).take(count);
    tokens.map(|token| wire::number(token) as usize)
}
