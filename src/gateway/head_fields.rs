//! A stream's request as both callbacks tell it: `{"url":…,"headers":{…}}` (contract, section 2,
//! step 3). Taken from the head once, kept as long as the stream.

use std::borrow::Cow;

use httparse::Header;

use crate::header_store::{HeaderStore, Request};
use crate::http::head::Head;

/// Fields of which the first counts when they are repeated, as Node.js has it.
const FIRST_COUNTS: [&str; 18] = [
    "age",
    "authorization",
    "content-length",
    "content-type",
    "etag",
    "expires",
    "from",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "proxy-authorization",
    "referer",
    "retry-after",
    "server",
    "user-agent",
];

/// Composes what is kept of heads.
#[derive(Debug)]
pub(super) struct HeadFields {
    store: HeaderStore,
    /// Room for the parts of one request, and where each of them ends.
    parts: Vec<u8>,
    ends: Vec<usize>,
}

impl HeadFields {
    /// `max`: bytes of memory that all requests may take.
    pub(super) fn new(max: usize) -> HeadFields {
        HeadFields {
            store: HeaderStore::new(max),
            parts: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Keeps what a head says; `None` when there is no room.
    pub(super) fn keep(&mut self, head: &Head<'_, '_>) -> Option<Request> {
        let headers = &*head.headers;
        let HeadFields { store, parts, ends } = self;
        parts.clear();
        ends.clear();
        push_string(parts, &latin1(head.target));
        ends.push(parts.len());
        for (at, header) in headers.iter().enumerate() {
            if headers[..at].iter().any(|earlier| is_same(earlier, header)) {
                continue;
            }
            let name = header.name.to_ascii_lowercase();
            push_string(parts, &name);
            parts.push(b':');
            push_string(parts, &value(&name, header, &headers[at + 1..]));
            ends.push(parts.len());
        }
        store.keep(parts, ends)
    }

    /// Bytes that all requests take.
    pub(super) fn memory(&self) -> usize {
        self.store.memory()
    }

    /// Gives back the memory of requests that are gone.
    pub(super) fn shrink_to_fit(&mut self) {
        self.store.shrink_to_fit();
        (self.parts, self.ends) = (Vec::new(), Vec::new());
    }
}

fn is_same(one: &Header<'_>, other: &Header<'_>) -> bool {
    one.name.eq_ignore_ascii_case(other.name)
}

/// The field's value, joined with those of its repetitions in `later`.
fn value<'b>(name: &str, header: &Header<'b>, later: &[Header<'b>]) -> Cow<'b, str> {
    let mut joined = latin1(header.value);
    if FIRST_COUNTS.contains(&name) {
        return joined;
    }
    let separator = if name == "cookie" { "; " } else { ", " };
    for repetition in later.iter().filter(|other| is_same(header, other)) {
        let joined = joined.to_mut();
        joined.push_str(separator);
        joined.push_str(&latin1(repetition.value));
    }
    joined
}

/// Bytes as text, each byte the code point of its number.
fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

fn push_string(json: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(json, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, HeadScan, MAX_HEADERS, parse};
    use std::mem::MaybeUninit;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 4096,
        headers: MAX_HEADERS,
    };

    fn kept(fields: &mut HeadFields, head: &[u8]) -> Request {
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let length = HeadScan::default().find(head, LIMITS).unwrap().unwrap();
        fields
            .keep(&parse(&head[..length], LIMITS, &mut room).unwrap())
            .unwrap()
    }

    fn text(head: &[u8]) -> String {
        String::from_utf8(kept(&mut HeadFields::new(1 << 20), head).json()).unwrap()
    }

    #[test]
    fn one_field_is_told_as_it_came() {
        let head =
            b"GET / HTTP/1.1\r\nHost: h\r\nLAST-Event-ID:  5-\"\\\t\xe9 \r\nX: 1\r\nx: 2\r\n\r\n";
        let request = kept(&mut HeadFields::new(1 << 20), head);
        for (name, value) in [
            ("last-event-id", Some("5-\"\\\té")),
            ("host", Some("h")),
            ("x", Some("1, 2")),
            ("cookie", None),
        ] {
            assert_eq!(request.field(name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn names_are_lowered_and_values_unchanged() {
        assert_eq!(
            text(b"GET /a?b=\"c HTTP/1.1\r\nHost: h\r\nX-Q:  a \"b\\ \tc\r\nE:\r\n\r\n"),
            r#"{"url":"/a?b=\"c","headers":{"host":"h","x-q":"a \"b\\ \tc","e":""}}"#
        );
    }

    #[test]
    fn bytes_above_ascii_read_as_latin1() {
        assert_eq!(
            text(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\nA: \xe9\xff\r\n\r\n"),
            "{\"url\":\"/\u{c3}\u{a9}\",\"headers\":{\"host\":\"h\",\"a\":\"\u{e9}\u{ff}\"}}"
        );
        assert_eq!(
            text(b"GET /\xe9?\x80 HTTP/1.1\r\nHost: h\r\nA: \xe9\r\na: \xff\r\n\r\n"),
            "{\"url\":\"/\u{e9}?\u{80}\",\"headers\":{\"host\":\"h\",\"a\":\"\u{e9}, \u{ff}\"}}"
        );
    }

    #[test]
    fn repeated_fields() {
        assert_eq!(
            text(
                b"GET / HTTP/1.1\r\nHost: h\r\nAccept: a\r\nCookie: x=1\r\nACCEPT: b\r\n\
                  User-Agent: u\r\ncookie: y=2\r\nuser-agent: v\r\naccept: c\r\n\r\n"
            ),
            r#"{"url":"/","headers":{"host":"h","accept":"a, b, c","cookie":"x=1; y=2","user-agent":"u"}}"#
        );
        for name in FIRST_COUNTS
            .iter()
            .filter(|name| !matches!(**name, "host" | "content-length"))
        {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: 1\r\n{name}: 2\r\n\r\n");
            let expected = format!(r#"{{"url":"/","headers":{{"host":"h","{name}":"1"}}}}"#);
            assert_eq!(text(head.as_bytes()), expected);
        }
    }

    #[test]
    fn the_url_can_be_had_back() {
        for target in [
            &b"/"[..],
            b"/a?b=c",
            b"/\"\\\\x",
            b"/\xc3\xa9",
            b"/\xe9?\x80\xff",
            b"http://h/p",
        ] {
            let head = [b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
            assert_eq!(kept(&mut HeadFields::new(1 << 20), &head).url(), target);
        }
    }
}
