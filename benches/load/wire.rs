//! The bytes that both servers get and give, and where in them each fact stands.
//!
//! Every length is fixed: ports have five digits, streams eight, sequence numbers ten. So the
//! floor finds everything at an offset, and both servers move exactly the same number of bytes.
//! Sends to many are in `many`.

use memchr::memmem;

/// Bytes of an event's data.
pub(crate) const DATA_BYTES: usize = 100;

/// Bytes of a token.
pub(crate) const TOKEN_BYTES: usize = 36;

/// A token, as it stands in JSON.
pub(crate) type Token = [u8; TOKEN_BYTES];

/// What a stream's request target begins with; its number follows.
pub(crate) const TARGET: &str = "/s/";

/// Digits of a stream's number.
const NUMBER_DIGITS: usize = 8;

/// Where a stream's number stands in its request.
const REQUEST_NUMBER_AT: usize = "GET ".len() + TARGET.len();

/// What stands between a stream's number and what its client has seen last.
const SEEN_FRONT: &[u8] = b" HTTP/1.1\r\nLast-Event-ID: ";

/// A stream's request as a browser sends it, about 600 bytes; `seen` is what it has seen last.
pub(crate) fn stream_request(number: u32, port: u16, seen: Option<&str>) -> Vec<u8> {
    let seen = seen.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
    format!(
        "GET {TARGET}{number:08} HTTP/1.1\r\n\
         {seen}\
         Host: 127.0.0.1:{port:05}\r\n\
         Connection: keep-alive\r\n\
         sec-ch-ua-platform: \"Linux\"\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/142.0.0.0 Safari/537.36\r\n\
         Accept: text/event-stream\r\n\
         sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\n\
         Cache-Control: no-cache\r\n\
         sec-ch-ua-mobile: ?0\r\n\
         Sec-Fetch-Site: same-origin\r\n\
         Sec-Fetch-Mode: cors\r\n\
         Sec-Fetch-Dest: empty\r\n\
         Referer: http://127.0.0.1:{port:05}/board\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
         Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n"
    )
    .into_bytes()
}

/// The number of the stream that a request opens; `None` while the request is not there so far.
pub(crate) fn requested_number(request: &[u8]) -> Option<u32> {
    let digits = request.get(REQUEST_NUMBER_AT..REQUEST_NUMBER_AT + NUMBER_DIGITS)?;
    Some(decimal(digits) as u32)
}

/// The number that a stream's request has in place of what was seen last; zero without one.
pub(crate) fn seen_number(request: &[u8]) -> u64 {
    let behind = request.get(REQUEST_NUMBER_AT + NUMBER_DIGITS..);
    let seen = behind.and_then(|behind| behind.strip_prefix(SEEN_FRONT));
    seen.map_or(0, leading_decimal)
}

/// What opens a stream; the gateway's differs in the date only.
pub(crate) const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\n\
    Connection: keep-alive\r\n\
    X-Accel-Buffering: no\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

/// The answer to a send; the gateway's differs in the date only.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 15\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n\
    {\"status\":\"ok\"}";

/// What both servers' answers begin with.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// The body that ends an [`ANSWER`].
pub(crate) const OK_BODY: &[u8] = b"{\"status\":\"ok\"}";

/// A heartbeat's chunk.
pub(crate) const HEARTBEAT: &[u8] = b"d\r\n: heartbeat\n\n\r\n";

/// What stands before and behind the data in an event's chunk.
pub(crate) const CHUNK_HEAD: &[u8] = b"6c\r\ndata: ";
pub(crate) const CHUNK_TAIL: &[u8] = b"\n\n\r\n";

/// Bytes of an event's chunk.
pub(crate) const CHUNK_BYTES: usize = CHUNK_HEAD.len() + DATA_BYTES + CHUNK_TAIL.len();

/// The floor's token of a stream, which is its number: a table is enough to find it.
pub(crate) fn floor_token(number: u32) -> Token {
    let mut token = *b"00000000-0000-4000-8000-000000000000";
    put_decimal(&mut token[..NUMBER_DIGITS], u64::from(number));
    token
}

/// The number that a floor's token is.
pub(crate) fn number(token: &[u8]) -> u64 {
    decimal(&token[..NUMBER_DIGITS])
}

/// A send of this body, as a backend's HTTP client makes it.
pub(crate) fn post(port: u16, body: &str) -> String {
    format!(
        "POST /internal/send HTTP/1.1\r\n\
         Host: 127.0.0.1:{port:05}\r\n\
         User-Agent: load\r\n\
         Accept: */*\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Where the head of the first request or answer ends, and where its body does by what the head
/// says of its length; `None` until the head is there whole.
pub(crate) fn ends(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let lower = bytes[..head].to_ascii_lowercase();
    let at = memmem::find(&lower, b"\r\ncontent-length:")? + "\r\ncontent-length:".len();
    let length = leading_decimal(lower[at..].trim_ascii_start());
    Some((head, head + length as usize))
}

/// A send's request without its facts, and where they go.
#[derive(Clone, Debug)]
pub(crate) struct SendRequest {
    bytes: Vec<u8>,
    token_at: usize,
    data_at: usize,
}

impl SendRequest {
    /// The request as a backend's HTTP client sends it to this port.
    pub(crate) fn new(port: u16) -> SendRequest {
        let token = "0".repeat(TOKEN_BYTES);
        let data = "x".repeat(DATA_BYTES);
        let body = format!("{{\"token\":\"{token}\",\"event\":{{\"data\":\"{data}\"}}}}");
        let text = post(port, &body);
        SendRequest {
            token_at: text.len() - body.len() + "{\"token\":\"".len(),
            data_at: text.len() - "\"}}".len() - DATA_BYTES,
            bytes: text.into_bytes(),
        }
    }

    /// Bytes of a request.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a request.
    pub(crate) fn write(&self, out: &mut Vec<u8>, token: &Token, mark: Mark) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let request = &mut out[at..];
        request[self.token_at..self.token_at + TOKEN_BYTES].copy_from_slice(token);
        mark.write(&mut request[self.data_at..self.data_at + DATA_BYTES]);
    }

    /// The number in a floor's token.
    pub(crate) fn number(&self, request: &[u8]) -> usize {
        number(&request[self.token_at..]) as usize
    }

    /// The event's data.
    pub(crate) fn data<'a>(&self, request: &'a [u8]) -> &'a [u8] {
        &request[self.data_at..self.data_at + DATA_BYTES]
    }
}

/// What an event's data says about itself; filler makes up its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The stream that it is for, or [`EVERYONE`](crate::many::EVERYONE).
    pub(crate) number: u32,
    /// Its place among the stream's own events, or among those for everyone, from 0.
    pub(crate) sequence: u64,
    /// When it was to be sent, in nanoseconds since the load's start.
    pub(crate) due: u64,
}

impl Mark {
    pub(crate) fn write(self, data: &mut [u8]) {
        put_decimal(&mut data[0..8], u64::from(self.number));
        put_decimal(&mut data[9..19], self.sequence);
        put_decimal(&mut data[20..40], self.due);
    }

    /// Reads the mark of `data`, which is [`DATA_BYTES`] long.
    pub(crate) fn read(data: &[u8]) -> Mark {
        Mark {
            number: decimal(&data[0..8]) as u32,
            sequence: decimal(&data[9..19]),
            due: decimal(&data[20..40]),
        }
    }
}

/// Fills `digits` with a number.
pub(crate) fn put_decimal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The number that `digits` are; what is not a digit gives a number that nobody waits for.
pub(crate) fn decimal(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value: u64, &digit| {
        value
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// The number that the digits at the front of `bytes` are.
pub(crate) fn leading_decimal(bytes: &[u8]) -> u64 {
    let count = bytes.iter().take_while(|it| it.is_ascii_digit()).count();
    decimal(&bytes[..count])
}
