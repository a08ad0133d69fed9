//! A stream's request as both callbacks tell it: `{"url":…,"headers":{…}}` (contract, section 2,
//! step 3). Taken from the head once, kept as long as the stream.
//!
//! Clients of one application send much the same header fields, so each field is kept once,
//! however many streams have it: what a stream costs is what sets it apart.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use httparse::Header;

use crate::callback::{ALLOCATION, Request};
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

/// The header fields of all streams.
#[derive(Debug, Default)]
pub(super) struct Fields {
    shared: HashSet<Arc<[u8]>>,
    /// Bytes of memory that they take, those included that nobody has any more.
    bytes: usize,
    /// Bytes of memory that requests take beside them.
    requests: usize,
    /// Fields that came, and requests that went, since the last look for fields that nobody has any
    /// more.
    changes: usize,
    /// Bytes that came since then.
    grown: usize,
    scratch: Vec<u8>,
}

/// Bytes that a field costs beside its content: its allocation, and its place in the set.
const FIELD: usize = ALLOCATION + 2 * size_of::<Arc<[u8]>>();

/// New bytes after which fields that nobody has any more are looked for in any case.
const GROWTH: usize = 4 * 1024 * 1024;

impl Fields {
    /// Keeps what a head says.
    pub(super) fn keep(&mut self, head: &Head<'_, '_>) -> Request {
        let headers = &*head.headers;
        self.changed(headers.len());
        let mut parts = Vec::with_capacity(headers.len() + 1);
        self.scratch.clear();
        push_string(&mut self.scratch, &latin1(head.target));
        parts.push(Arc::from(&self.scratch[..]));
        for (at, header) in headers.iter().enumerate() {
            if headers[..at].iter().any(|earlier| is_same(earlier, header)) {
                continue;
            }
            let name = header.name.to_ascii_lowercase();
            self.scratch.clear();
            push_string(&mut self.scratch, &name);
            self.scratch.push(b':');
            push_string(&mut self.scratch, &value(&name, header, &headers[at + 1..]));
            parts.push(self.share());
        }
        Request::new(parts)
    }

    /// The field in the scratch buffer, as all who have it share it.
    fn share(&mut self) -> Arc<[u8]> {
        if let Some(field) = self.shared.get(&self.scratch[..]) {
            return Arc::clone(field);
        }
        let field: Arc<[u8]> = Arc::from(&self.scratch[..]);
        self.shared.insert(Arc::clone(&field));
        self.bytes += FIELD + field.len();
        self.grown += FIELD + field.len();
        field
    }

    /// Counts a request, whose fields are here already, until it is released; false when there is
    /// no room for it within `max` bytes.
    pub(super) fn hold(&mut self, request: &Request, max: usize) -> bool {
        let more = request.memory();
        if self.memory() + more > max
            && (self.changes > self.shared.len() / 64 || self.grown > max / 64)
        {
            self.forget_unused();
        }
        let is_room = self.memory() + more <= max;
        if is_room {
            self.requests += more;
        }
        is_room
    }

    /// A request of so many bytes of its own was dropped.
    pub(super) fn release(&mut self, request: usize) {
        self.requests -= request;
        self.changed(1);
    }

    /// Bytes of memory that all requests take.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.requests
    }

    /// What is counted beside the fields.
    pub(super) fn held(&self) -> usize {
        self.requests
    }

    /// Now and then, so seldom that it costs a few steps for each change, fields that nobody has
    /// any more are forgotten.
    fn changed(&mut self, changes: usize) {
        self.changes += changes;
        if self.changes > self.shared.len() / 2 + 64 || self.grown > GROWTH {
            self.forget_unused();
        }
    }

    /// Forgets all fields that nobody has any more, and gives their memory back.
    pub(super) fn shrink_to_fit(&mut self) {
        self.forget_unused();
        self.shared.shrink_to_fit();
    }

    fn forget_unused(&mut self) {
        let bytes = &mut self.bytes;
        self.shared.retain(|field| {
            let is_used = Arc::strong_count(field) > 1;
            if !is_used {
                *bytes -= FIELD + field.len();
            }
            is_used
        });
        (self.changes, self.grown) = (0, 0);
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

    fn kept(fields: &mut Fields, head: &[u8]) -> Request {
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let length = HeadScan::default().find(head, LIMITS).unwrap().unwrap();
        fields.keep(&parse(&head[..length], LIMITS, &mut room).unwrap())
    }

    fn text(head: &[u8]) -> String {
        String::from_utf8(kept(&mut Fields::default(), head).json()).unwrap()
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
            assert_eq!(kept(&mut Fields::default(), &head).url(), target);
        }
    }

    #[test]
    fn a_field_that_many_have_is_kept_once() {
        let mut fields = Fields::default();
        let head = |n: usize| format!("GET /{n} HTTP/1.1\r\nHost: h\r\nA: b\r\nN: {n}\r\n\r\n");
        let requests: Vec<Request> = (0..1000)
            .map(|n| kept(&mut fields, head(n).as_bytes()))
            .collect();
        assert_eq!(fields.shared.len(), 2 + 1000);
        assert_eq!(
            requests[7].json(),
            br#"{"url":"/7","headers":{"host":"h","a":"b","n":"7"}}"#
        );
    }

    #[test]
    fn fields_that_nobody_has_are_forgotten() {
        let mut fields = Fields::default();
        for n in 0..10_000 {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\nN: {n}\r\n\r\n");
            drop(kept(&mut fields, head.as_bytes()));
        }
        assert!(fields.shared.len() < 300, "{}", fields.shared.len());
        let crowd: Vec<Request> = (0..10_000)
            .map(|n| {
                let head = format!("GET / HTTP/1.1\r\nHost: h\r\nN: {n}\r\n\r\n");
                kept(&mut fields, head.as_bytes())
            })
            .collect();
        for request in crowd {
            drop(request);
            fields.changed(1);
        }
        assert!(fields.shared.len() < 300, "{}", fields.shared.len());
        fields.shrink_to_fit();
        assert_eq!(fields.shared.capacity(), 0);
    }
}
