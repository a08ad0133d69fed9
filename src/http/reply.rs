//! Answers: status line, fields, small bodies, and the head of a stream (contract, sections 1
//! and 2).

use http::StatusCode;

use crate::sse::Framing;

/// An IMF-fixdate (RFC 9110, section 5.6.7).
pub type Date = [u8; 29];

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays, as HTTP/1.1 implies.
    KeepAlive,
    /// It stays, and an HTTP/1.0 client must be told so.
    KeepAliveHttp10,
    /// It ends.
    Close,
}

/// The media type of JSON (RFC 8259, section 11).
pub const JSON: &str = "application/json";

/// An answer with a body.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// Further header lines, each with its line end.
    pub fields: &'a str,
    /// The body's media type.
    pub media_type: &'a str,
    /// The body.
    pub body: &'a str,
    /// Whether the body is left out, as for HEAD; its length is stated all the same.
    pub is_head_only: bool,
}

/// Which pages of other origins may read an answer (WHATWG Fetch, "CORS protocol"; contract, section
/// 13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors<'a> {
    /// None, and nothing is said of it.
    #[default]
    Silent,
    /// None of the origin that asks, while others may be told otherwise.
    Unlisted,
    /// All of this origin, with credentials.
    Listed(&'a str),
    /// All, without credentials.
    Any,
}

impl Cors<'_> {
    /// The fields that say so, in pieces.
    fn pieces(&self) -> [&str; 3] {
        match self {
            Cors::Silent => [""; 3],
            // A cache keeps answers for each origin apart.
            Cors::Unlisted => ["Vary: Origin\r\n", "", ""],
            Cors::Listed(origin) => [
                "Vary: Origin\r\nAccess-Control-Allow-Credentials: true\r\n\
                 Access-Control-Allow-Origin: ",
                origin,
                "\r\n",
            ],
            Cors::Any => ["Access-Control-Allow-Origin: *\r\n", "", ""],
        }
    }

    /// Whether the page that asks may read the answer.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Cors::Listed(_) | Cors::Any)
    }

    /// How many bytes that takes.
    pub fn room(&self) -> usize {
        self.pieces().into_iter().map(str::len).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for piece in self.pieces() {
            out.extend_from_slice(piece.as_bytes());
        }
    }
}

/// Most bytes that an answer takes beside its fields and its body.
const FRAME_BYTES: usize = 192;

/// The status of an answer without a body, which states no length either (RFC 9110, section 8.6).
pub const NO_CONTENT: u16 = 204;

impl Reply<'_> {
    /// An upper bound of the answer's length in bytes, beside what it says to pages of other origins.
    pub fn room(&self) -> usize {
        FRAME_BYTES + self.media_type.len() + self.fields.len() + self.body.len()
    }

    /// Appends the answer.
    pub fn write(&self, out: &mut Vec<u8>, date: &Date, persistence: Persistence, cors: Cors<'_>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, self.status.into());
        out.push(b' ');
        out.extend_from_slice(reason_phrase(self.status).as_bytes());
        if self.status != NO_CONTENT {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(self.media_type.as_bytes());
            out.extend_from_slice(b"\r\nContent-Length: ");
            push_decimal(out, self.body.len());
            if cors.is_allowed() {
                out.extend_from_slice(b"\r\nAccess-Control-Expose-Headers: Retry-After");
            }
        }
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(date);
        out.extend_from_slice(match persistence {
            Persistence::KeepAlive => b"\r\n",
            Persistence::KeepAliveHttp10 => b"\r\nConnection: keep-alive\r\n",
            Persistence::Close => b"\r\nConnection: close\r\n",
        });
        out.extend_from_slice(self.fields.as_bytes());
        cors.write(out);
        out.extend_from_slice(b"\r\n");
        if !self.is_head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

/// The interim answer that asks for the body (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Most bytes that a stream's head takes beside what it says to pages of other origins.
pub const STREAM_HEAD_BYTES: usize = 256;

/// Appends the head that opens a stream (contract, section 2, step 5).
pub fn write_stream_head(out: &mut Vec<u8>, date: &Date, framing: Framing, cors: Cors<'_>) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\n\
          Content-Type: text/event-stream\r\n\
          Cache-Control: no-cache\r\n\
          Connection: keep-alive\r\n\
          X-Accel-Buffering: no\r\n\
          Date: ",
    );
    out.extend_from_slice(date);
    out.extend_from_slice(match framing {
        Framing::Chunked => b"\r\nTransfer-Encoding: chunked\r\n",
        Framing::Plain => b"\r\n",
    });
    cors.write(out);
    out.extend_from_slice(b"\r\n");
}

/// The phrase of a registered status code; of others none, which RFC 9112, section 4, allows.
fn reason_phrase(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}

fn push_decimal(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &Date = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn written(reply: Reply<'_>, persistence: Persistence) -> String {
        written_for(Cors::Silent, reply, persistence)
    }

    fn written_for(cors: Cors<'_>, reply: Reply<'_>, persistence: Persistence) -> String {
        let mut out = Vec::new();
        reply.write(&mut out, DATE, persistence, cors);
        assert!(out.len() <= reply.room() + cors.room());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_in_full() {
        let reply = Reply {
            status: 503,
            fields: "Retry-After: 5\r\n",
            media_type: JSON,
            body: "{}",
            is_head_only: false,
        };
        assert_eq!(
            written(reply, Persistence::Close),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\
             Retry-After: 5\r\n\r\n{}"
        );
    }

    #[test]
    fn head_states_the_length_of_the_body_it_leaves_out() {
        let reply = Reply {
            status: 200,
            fields: "",
            media_type: JSON,
            body: "0123456789",
            is_head_only: true,
        };
        let text = written(reply, Persistence::KeepAlive);
        assert!(text.contains("Content-Length: 10\r\n") && text.ends_with("\r\n\r\n"));
        assert!(!text.contains("Connection:"));
        let text = written(reply, Persistence::KeepAliveHttp10);
        assert!(text.contains("Connection: keep-alive\r\n"));
    }

    #[test]
    fn a_status_without_a_phrase_keeps_its_space() {
        let reply = Reply {
            status: 499,
            fields: "",
            media_type: JSON,
            body: "",
            is_head_only: false,
        };
        assert!(written(reply, Persistence::KeepAlive).starts_with("HTTP/1.1 499 \r\n"));
    }

    #[test]
    fn the_longest_phrase_fits() {
        for status in 100..=999 {
            let reply = Reply {
                status,
                fields: "",
                media_type: JSON,
                body: "",
                is_head_only: false,
            };
            written_for(Cors::Any, reply, Persistence::KeepAliveHttp10);
        }
    }

    #[test]
    fn what_pages_of_other_origins_are_told() {
        let expose = "Access-Control-Expose-Headers: Retry-After\r\n";
        let table = [
            (Cors::Silent, ""),
            (Cors::Unlisted, "Vary: Origin\r\n"),
            (
                Cors::Listed("https://a.example"),
                "Vary: Origin\r\nAccess-Control-Allow-Credentials: true\r\n\
                 Access-Control-Allow-Origin: https://a.example\r\n",
            ),
            (Cors::Any, "Access-Control-Allow-Origin: *\r\n"),
        ];
        for (cors, fields) in table {
            let expose = if cors.is_allowed() { expose } else { "" };
            let mut reply = Reply {
                status: 403,
                fields: "A: b\r\n",
                media_type: JSON,
                body: "{}",
                is_head_only: false,
            };
            assert_eq!(
                written_for(cors, reply, Persistence::KeepAlive),
                format!(
                    "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\
                     Content-Length: 2\r\n{expose}Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                     A: b\r\n{fields}\r\n{{}}"
                )
            );
            (reply.status, reply.body) = (204, "");
            assert_eq!(
                written_for(cors, reply, Persistence::Close),
                format!(
                    "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                     Connection: close\r\nA: b\r\n{fields}\r\n"
                )
            );
            let mut out = Vec::new();
            write_stream_head(&mut out, DATE, Framing::Chunked, cors);
            assert!(out.len() <= STREAM_HEAD_BYTES + cors.room());
            let head = String::from_utf8(out).unwrap();
            let end = format!("Transfer-Encoding: chunked\r\n{fields}\r\n");
            assert!(head.ends_with(&end), "{head}");
        }
    }

    #[test]
    fn stream_heads() {
        for (framing, is_chunked) in [(Framing::Chunked, true), (Framing::Plain, false)] {
            let mut out = Vec::new();
            write_stream_head(&mut out, DATE, framing, Cors::Silent);
            assert!(out.len() <= STREAM_HEAD_BYTES);
            let head = String::from_utf8(out).unwrap();
            let field = "Transfer-Encoding: chunked\r\n";
            assert_eq!(head.contains(field), is_chunked);
            assert_eq!(
                head.replace(field, ""),
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                 Connection: keep-alive\r\nX-Accel-Buffering: no\r\n\
                 Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
            );
        }
    }
}
