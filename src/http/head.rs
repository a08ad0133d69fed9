//! Request heads: where one ends, and whether it may be trusted (RFC 9112, sections 2 to 6;
//! contract, section 7).
//!
//! [`HeadScan`] looks at each byte once, however the head arrives in pieces; [`parse`] runs once,
//! on the whole head. Together they give the same verdict for every way to cut the bytes: a fault
//! of the request line is told before any other, a fault found by scanning before the limit, and
//! every other fault once the head is whole.

mod line;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::Header;
use memchr::memchr2;

use line::{end_of_line, is_host, names_another_version, path, request_line};

/// Largest number of header fields that can be configured.
pub const MAX_HEADERS: usize = 256;

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first one to the empty line's end.
    pub bytes: usize,
    /// Header fields, at most [`MAX_HEADERS`].
    pub headers: usize,
}

/// Why a head, or a body's framing, is refused. Each of these ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// 400, with what is wrong.
    BadRequest(&'static str),
    /// 413: the body is larger than the limit.
    ContentTooLarge,
    /// 414: the head's limit is reached inside the request line.
    UriTooLong,
    /// 431: the head, or a chunked body's trailer section, is larger than the limit.
    HeadTooLarge,
    /// 431: there are more header fields than the limit.
    TooManyFields,
    /// 501: a transfer coding that is not implemented.
    UnknownTransferCoding,
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
}

/// The two versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the body's end is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// So many bytes; 0 where the head says nothing.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// A head that may be trusted.
#[derive(Debug)]
pub struct Head<'h, 'b> {
    /// The method, case kept.
    pub method: &'b str,
    /// The request target as received: any octets but controls, spaces and DEL.
    pub target: &'b [u8],
    /// The target's path: octets up to `?`, less scheme and authority; nothing decoded.
    pub path: &'b [u8],
    /// The version.
    pub version: Version,
    /// The header fields in their order, values without surrounding white space.
    pub headers: Cow<'h, [Header<'b>]>,
    /// How long the body is.
    pub body: BodyFraming,
    /// Whether the connection may serve another request (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    /// Whether there is a `Content-Encoding` field.
    pub is_encoded: bool,
}

impl<'b> Head<'_, 'b> {
    /// The values of the fields with this name, which is given in lower case.
    fn values(&self, name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
        let is_its = move |header: &&Header<'b>| is_word(header.name.as_bytes(), name);
        self.headers.iter().filter(is_its).map(|it| it.value)
    }

    /// The value of a field that comes once: of several nobody knows which is meant.
    pub fn only(&self, name: &[u8]) -> Option<&'b [u8]> {
        let mut values = self.values(name);
        let value = values.next();
        value.filter(|_| values.next().is_none())
    }

    /// Whether its `Accept` lists this media type by its name (RFC 9110, section 12.5.1).
    pub fn accepts(&self, media_type: &[u8]) -> bool {
        let is_listed = |range: &[u8]| {
            let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            is_word(name, media_type) && !parts.any(is_weight_of_nothing)
        };
        self.values(b"accept")
            .any(|value| list(value).any(is_listed))
    }
}

/// Whether a parameter says that this is not wanted: `q=0`, with up to three decimals.
fn is_weight_of_nothing(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0', decimals @ ..] => {
            decimals.iter().all(|byte| matches!(byte, b'.' | b'0'))
        }
        _ => false,
    }
}

/// Finds a head's end in bytes that arrive in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes looked at so far.
    seen: u32,
    /// Where the current line begins.
    line: u32,
    /// The request line's end, just behind its LF; 0 until it is there.
    request_line: u32,
    /// The request line was found good.
    is_checked: bool,
}

impl HeadScan {
    /// Looks on in `bytes`, which begin where the head begins and hold all of it that has arrived.
    /// Gives the head's length once it is whole.
    pub fn find(
        &mut self,
        bytes: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<usize>, FramingError> {
        let within = &bytes[..bytes.len().min(limits.bytes)];
        let found = self.scan(within);
        if !self.is_checked && self.request_line > 0 && !matches!(found, Ok(Some(_))) {
            request_line(&within[..self.request_line as usize])?;
            self.is_checked = true;
        }
        match found {
            Ok(None) if within.len() == limits.bytes && self.request_line > 0 => {
                Err(FramingError::HeadTooLarge)
            }
            Ok(None) if within.len() == limits.bytes => Err(FramingError::UriTooLong),
            other => other,
        }
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, FramingError> {
        while let Some(offset) = memchr2(b'\n', 0, &bytes[self.seen as usize..]) {
            let at = self.seen as usize + offset;
            if bytes[at] == 0 {
                return Err(FramingError::BadRequest("a NUL in the head"));
            }
            let line = self.line as usize;
            if at == line || bytes[at - 1] != b'\r' {
                return Err(FramingError::BadRequest(
                    "a line feed without carriage return",
                ));
            }
            let next = at as u32 + 1;
            let is_empty = at - line == 1;
            self.seen = next;
            self.line = next;
            if is_empty && self.request_line > 0 {
                return Ok(Some(next as usize));
            }
            // Empty lines before the request line are passed over (RFC 9112, section 2.2).
            if !is_empty && self.request_line == 0 {
                self.request_line = next;
            }
        }
        self.seen = bytes.len() as u32;
        Ok(None)
    }
}

/// Room for the header fields that [`parse`] finds.
pub type HeaderRoom<'b> = [MaybeUninit<Header<'b>>; MAX_HEADERS];

/// Reads a whole head, as [`HeadScan::find`] delimits it.
pub fn parse<'h, 'b>(
    bytes: &'b [u8],
    limits: HeadLimits,
    room: &'h mut HeaderRoom<'b>,
) -> Result<Head<'h, 'b>, FramingError> {
    let mut request = httparse::Request::new(&mut []);
    let most = limits.headers.min(MAX_HEADERS);
    let outcome = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        bytes,
        &mut room[..most],
    );
    let (mut method, mut minor) = (request.method.unwrap_or_default(), request.version);
    let mut target = request.path.unwrap_or_default().as_bytes();
    let headers = match outcome {
        Ok(httparse::Status::Complete(_)) => Cow::Borrowed(&*request.headers),
        outcome => {
            // The tokenizer says nothing about the target's form and goes on to the fields.
            let (line, rest) = bytes.split_at(end_of_line(bytes));
            (method, target, minor) = request_line(line)?;
            let fields = match outcome {
                // Of a line that is good it refuses the target alone, which is no UTF-8.
                Err(httparse::Error::Token) => fields(rest, most),
                _ => outcome.map(|_| None),
            };
            match fields {
                Ok(Some(fields)) => Cow::Owned(fields),
                Ok(None) => {
                    return Err(FramingError::BadRequest(
                        "a carriage return without line feed",
                    ));
                }
                Err(error) => return Err(verdict(error, line)),
            }
        }
    };
    let version = match minor {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let path = path(method, target)?;
    let fields = Fields::of(&headers, version)?;
    Ok(Head {
        method,
        target,
        path,
        version,
        body: fields.body_framing(version)?,
        keep_alive: match version {
            Version::Http11 => !fields.says_close,
            Version::Http10 => fields.says_keep_alive && !fields.says_close,
        },
        expects_continue: version == Version::Http11 && fields.expects_continue,
        is_encoded: fields.is_encoded,
        headers,
    })
}

/// At most so many header fields on their own; `None` where their end is missing.
#[cold]
fn fields(bytes: &[u8], most: usize) -> Result<Option<Vec<Header<'_>>>, httparse::Error> {
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    Ok(match httparse::parse_headers(bytes, &mut room[..most])? {
        httparse::Status::Complete((_, found)) => Some(found.to_vec()),
        httparse::Status::Partial => None,
    })
}

fn verdict(error: httparse::Error, line: &[u8]) -> FramingError {
    match error {
        httparse::Error::TooManyHeaders => FramingError::TooManyFields,
        httparse::Error::Version | httparse::Error::NewLine if names_another_version(line) => {
            FramingError::UnsupportedVersion
        }
        httparse::Error::HeaderName => FramingError::BadRequest("a header name that is no token"),
        httparse::Error::HeaderValue => {
            FramingError::BadRequest("a header value with a control character")
        }
        _ => FramingError::BadRequest("a malformed request line"),
    }
}

/// What the fields that matter to framing say.
#[derive(Default)]
struct Fields<'b> {
    length: Option<u64>,
    transfer_encoding: Option<Coding>,
    host: Option<&'b [u8]>,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
    is_encoded: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
    Malformed,
}

impl<'b> Fields<'b> {
    fn of(headers: &[Header<'b>], version: Version) -> Result<Fields<'b>, FramingError> {
        let mut fields = Fields::default();
        for header in headers {
            let name = header.name.as_bytes();
            // Most fields are told apart by their length alone.
            match name.len() {
                4 if is_word(name, b"host") => fields.host(header.value)?,
                6 if is_word(name, b"expect") => {
                    fields.expects_continue |= is_word(header.value, b"100-continue");
                }
                10 if is_word(name, b"connection") => fields.connection(header.value),
                14 if is_word(name, b"content-length") => fields.length(header.value)?,
                16 if is_word(name, b"content-encoding") => fields.is_encoded = true,
                17 if is_word(name, b"transfer-encoding") => {
                    fields.transfer_encoding(header.value);
                }
                _ => {}
            }
        }
        if version == Version::Http11 && fields.host.is_none() {
            return Err(FramingError::BadRequest("no Host"));
        }
        Ok(fields)
    }

    fn host(&mut self, value: &'b [u8]) -> Result<(), FramingError> {
        if self.host.replace(value).is_some() {
            return Err(FramingError::BadRequest("more than one Host"));
        }
        if !value.is_empty() && !is_host(value) {
            return Err(FramingError::BadRequest("a malformed Host"));
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.says_close |= is_word(option, b"close");
            self.says_keep_alive |= is_word(option, b"keep-alive");
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        for item in value.split(|&byte| byte == b',') {
            let length = decimal(item.trim_ascii())
                .ok_or(FramingError::BadRequest("a malformed Content-Length"))?;
            if self
                .length
                .replace(length)
                .is_some_and(|other| other != length)
            {
                return Err(FramingError::BadRequest("differing Content-Lengths"));
            }
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        let mut is_empty = true;
        for coding in list(value) {
            is_empty = false;
            let next = if is_word(coding, b"chunked") {
                Coding::Chunked
            } else {
                Coding::Unknown
            };
            self.transfer_encoding = Some(match (self.transfer_encoding, next) {
                (None, next) => next,
                (Some(Coding::Chunked), Coding::Chunked) => Coding::Malformed,
                (Some(Coding::Malformed), Coding::Chunked) => Coding::Malformed,
                _ => Coding::Unknown,
            });
        }
        if is_empty && self.transfer_encoding.is_none() {
            self.transfer_encoding = Some(Coding::Malformed);
        }
    }

    fn body_framing(&self, version: Version) -> Result<BodyFraming, FramingError> {
        let Some(coding) = self.transfer_encoding else {
            return Ok(BodyFraming::Length(self.length.unwrap_or(0)));
        };
        if self.length.is_some() {
            return Err(FramingError::BadRequest(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        if version == Version::Http10 {
            return Err(FramingError::BadRequest("Transfer-Encoding in HTTP/1.0"));
        }
        match coding {
            Coding::Chunked => Ok(BodyFraming::Chunked),
            Coding::Unknown => Err(FramingError::UnknownTransferCoding),
            Coding::Malformed => Err(FramingError::BadRequest("a malformed Transfer-Encoding")),
        }
    }
}

/// Whether this is that word in any case. Kept out of its many callers, which it would double.
#[inline(never)]
fn is_word(value: &[u8], word: &[u8]) -> bool {
    let is_same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b);
    value.len() == word.len() && value.iter().zip(word).all(is_same)
}

/// The members of a comma-separated list, empty ones left out (RFC 9110, section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// Digits only, no sign; a number that no integer holds is as good as the largest one.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    };
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests;
