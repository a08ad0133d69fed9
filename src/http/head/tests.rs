mod octets;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 400,
    headers: 8,
};

/// What a head came to, in a form that can be compared.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    length: usize,
    line: String,
    path: String,
    body: BodyFraming,
    keep_alive: bool,
    expects_continue: bool,
    is_encoded: bool,
    headers: Vec<(String, Vec<u8>)>,
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The verdict when the bytes arrive in pieces that end at `cuts`; `None` while more must come.
fn verdict_of(
    bytes: &[u8],
    cuts: impl Iterator<Item = usize>,
) -> Result<Option<Seen>, FramingError> {
    let mut scan = HeadScan::default();
    for cut in cuts.chain([bytes.len()]) {
        if let Some(length) = scan.find(&bytes[..cut], LIMITS)? {
            let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
            let head = parse(&bytes[..length], LIMITS, &mut room)?;
            return Ok(Some(Seen {
                length,
                line: format!("{} {} {:?}", head.method, lossy(head.target), head.version),
                path: lossy(head.path),
                body: head.body,
                keep_alive: head.keep_alive,
                expects_continue: head.expects_continue,
                is_encoded: head.is_encoded,
                headers: head
                    .headers
                    .iter()
                    .map(|header| (header.name.to_owned(), header.value.to_vec()))
                    .collect(),
            }));
        }
    }
    Ok(None)
}

/// The verdict, made sure to be the same whole, byte by byte and for every cut in two.
fn at_every_cut(bytes: &[u8]) -> Result<Option<Seen>, FramingError> {
    let whole = verdict_of(bytes, [].into_iter());
    assert_eq!(verdict_of(bytes, 0..bytes.len()), whole, "byte by byte");
    for cut in 0..bytes.len() {
        assert_eq!(verdict_of(bytes, [cut].into_iter()), whole, "cut at {cut}");
    }
    whole
}

fn good(text: &str) -> Seen {
    at_every_cut(text.as_bytes())
        .unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
        .unwrap_or_else(|| panic!("{text:?} is incomplete"))
}

fn bad(text: &str) -> FramingError {
    match at_every_cut(text.as_bytes()) {
        Err(error) => error,
        Ok(seen) => panic!("{text:?} passed: {seen:?}"),
    }
}

#[test]
fn a_plain_head() {
    let text = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-Y:  v w \r\nEmpty:\r\n\r\nrest";
    let seen = good(text);
    assert_eq!(seen.line, "GET /a?b=c Http11");
    assert_eq!(seen.path, "/a");
    assert_eq!(seen.body, BodyFraming::Length(0));
    assert!(seen.keep_alive && !seen.expects_continue && !seen.is_encoded);
    assert_eq!(seen.headers[1], ("X-Y".into(), b"v w".to_vec()));
    assert_eq!(seen.headers[2], ("Empty".into(), b"".to_vec()));
    assert_eq!(seen.length, text.len() - "rest".len());
}

#[test]
fn values_keep_their_bytes() {
    let seen = at_every_cut(b"GET / HTTP/1.1\r\nHost: h\r\nA: \xe9\xff\tx\r\n\r\n");
    assert_eq!(seen.unwrap().unwrap().headers[1].1, b"\xe9\xff\tx");
}

#[test]
fn empty_lines_before_the_request_line_are_passed_over() {
    assert_eq!(good("\r\n\r\nGET / HTTP/1.0\r\n\r\n").length, 22);
    assert_eq!(
        bad("\nGET / HTTP/1.0\r\n\r\n"),
        FramingError::BadRequest("a line feed without carriage return")
    );
}

#[test]
fn paths_of_every_form_of_target() {
    let table = [
        ("GET", "/", "/"),
        ("GET", "/a/b?c?d", "/a/b"),
        ("GET", "/?", "/"),
        ("GET", "//x/healthz", "//x/healthz"),
        ("GET", "/%68ealthz", "/%68ealthz"),
        ("GET", "http://h/healthz?x", "/healthz"),
        ("GET", "HTTP://h:80/p", "/p"),
        ("GET", "hTTpS://h%41/p", "/p"),
        ("GET", "http://[::1]:80/p", "/p"),
        ("GET", "http://h", "/"),
        ("GET", "http://h?q=/x", "/"),
        ("OPTIONS", "*", "*"),
        ("CONNECT", "h:443", "h:443"),
    ];
    for (method, target, path) in table {
        let seen = good(&format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(seen.path, path, "{method} {target}");
    }
    for target in [
        "a",
        "*",
        "h:80",
        "http:/x",
        "http://",
        "http:///p",
        "http://u@h/p",
        "1x://h/",
        "ftp://h/internal/send",
        "ws://h/",
        "httpx://h/",
        "http+x://h/",
        "http://h%zz/",
        "http://h:x/",
        "://h/",
    ] {
        let error = bad(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(
            matches!(error, FramingError::BadRequest(_)),
            "{target}: {error:?}"
        );
    }
}

#[test]
fn what_the_fields_say() {
    let post = |fields: &str| good(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    assert_eq!(post("Content-Length: 12\r\n").body, BodyFraming::Length(12));
    assert_eq!(
        post("Content-Length: 5, 5\r\ncontent-length: 5\r\n").body,
        BodyFraming::Length(5)
    );
    assert_eq!(
        post("Content-Length: 99999999999999999999999\r\n").body,
        BodyFraming::Length(u64::MAX)
    );
    assert_eq!(
        post("Transfer-Encoding: Chunked\r\n").body,
        BodyFraming::Chunked
    );
    assert_eq!(
        post("Transfer-Encoding: , chunked\r\n").body,
        BodyFraming::Chunked
    );
    assert!(post("EXPECT: 100-Continue\r\n").expects_continue);
    assert!(post("Content-Encoding: gzip\r\n").is_encoded);
    assert!(!post("Connection: x, Close\r\n").keep_alive);
    assert!(post("Connection: keep-alive\r\n").keep_alive);
    let old = |fields: &str| good(&format!("GET / HTTP/1.0\r\n{fields}\r\n"));
    assert!(!old("").keep_alive);
    assert!(old("Connection: Keep-Alive\r\n").keep_alive);
    assert!(!old("Connection: keep-alive, close\r\n").keep_alive);
    assert!(!old("Expect: 100-continue\r\n").expects_continue);
}

#[test]
fn hosts() {
    for host in [
        "",
        "h",
        "h:80",
        "h:",
        "1.2.3.4:5",
        "[::1]",
        "[::1]:80",
        "a_b.c-d",
        "a%41.%c3%A9:80",
        "[fe80::1%25eth0]:80",
    ] {
        good(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for host in [
        "a b",
        "h:x",
        "u@h",
        "h/p",
        "h?x",
        "h#x",
        "[::1",
        "::1",
        "]",
        "[]",
        "é",
        "h:1:2",
        "[::1]x",
        ":80",
        "h%zz",
        "%",
        "h%4",
        "h%%41",
        "h%4g:80",
        "h%4:1",
        "[fe80::1%eth0]",
    ] {
        let error = bad(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(
            error,
            FramingError::BadRequest("a malformed Host"),
            "{host}"
        );
    }
}

#[test]
fn bad_requests() {
    let heads = [
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / http/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1\r\nHost: h\r\n\r\n",
        "GET / HTTP/11\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.10\r\nHost: h\r\n\r\n",
        "GET / HTTP/10.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.\r\nHost: h\r\n\r\n",
        "GET / HTTP/.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/\r\nHost: h\r\n\r\n",
        "GET / HTTX/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\rHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\0\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "\0",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA b: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: \x7f\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\nhost: i\r\n\r\n",
    ];
    for head in heads {
        let error = bad(head);
        assert!(
            matches!(error, FramingError::BadRequest(_)),
            "{head:?}: {error:?}"
        );
    }
}

#[test]
fn smuggling_vectors() {
    let post = |fields: &str| bad(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let bad_request = [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 1,\r\n",
        "Content-Length:\r\n",
        "Content-Length: 1.0\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: x\r\n chunked\r\n",
    ];
    for fields in bad_request {
        let error = post(fields);
        assert!(
            matches!(error, FramingError::BadRequest(_)),
            "{fields:?}: {error:?}"
        );
    }
    for coding in [
        "gzip",
        "identity",
        "xchunked",
        "chunked;a=b",
        "gzip, chunked",
        "chunked, gzip",
        "\"chunked\"",
    ] {
        let error = post(&format!("Transfer-Encoding: {coding}\r\n"));
        assert_eq!(error, FramingError::UnknownTransferCoding, "{coding}");
    }
    assert_eq!(
        bad("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        FramingError::BadRequest("Transfer-Encoding in HTTP/1.0")
    );
}

#[test]
fn other_versions() {
    for version in [
        "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0", "HTTP/9.9", "HTTP/2",
    ] {
        assert_eq!(
            bad(&format!("GET / {version}\r\nHost: h\r\n\r\n")),
            FramingError::UnsupportedVersion
        );
        assert_eq!(
            bad(&format!("GET / {version}\r\n")),
            FramingError::UnsupportedVersion
        );
    }
    assert_eq!(
        bad("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        FramingError::UnsupportedVersion
    );
}

#[test]
fn limits_of_size_and_number() {
    let padded = |length: usize| {
        let frame = "GET / HTTP/1.0\r\nA: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.0\r\nA: {}\r\n\r\n",
            "x".repeat(length - frame)
        )
    };
    assert_eq!(good(&padded(400)).length, 400);
    assert_eq!(bad(&padded(401)), FramingError::HeadTooLarge);
    assert_eq!(bad(&padded(2000)), FramingError::HeadTooLarge);
    let long = |length: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(length - 18));
    assert_eq!(good(&long(400)).length, 400);
    assert_eq!(bad(&long(403)), FramingError::UriTooLong);
    assert_eq!(bad(&long(2000)), FramingError::UriTooLong);
    assert_eq!(bad(&"x".repeat(400)), FramingError::UriTooLong);
    let fields = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(good(&fields(8)).headers.len(), 8);
    assert_eq!(bad(&fields(9)), FramingError::TooManyFields);
}

#[test]
fn a_fault_of_the_request_line_comes_before_any_other() {
    assert_eq!(
        bad("GET / HTTP/2.0\r\nHost: h\n\r\n"),
        FramingError::UnsupportedVersion
    );
    let fields = "A: b\r\n".repeat(9);
    for rest in [&*fields, "A: \x01\r\n", "A\r\n", "A: b\rc\r\n"] {
        assert_eq!(
            bad(&format!("\r\nGET a HTTP/1.1\r\n{rest}\r\n")),
            FramingError::BadRequest("a malformed request target"),
            "{rest:?}"
        );
    }
    let long = format!("GET / HTTP/2.0\r\nA: {}", "x".repeat(500));
    assert_eq!(bad(&long), FramingError::UnsupportedVersion);
}

#[test]
fn what_is_incomplete_waits() {
    for head in [
        "",
        "\r\n",
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r",
    ] {
        assert_eq!(at_every_cut(head.as_bytes()), Ok(None), "{head:?}");
    }
}
