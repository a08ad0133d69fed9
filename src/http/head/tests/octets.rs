//! Octets beyond ASCII: where they may stand, and that nothing else is read in another way for them.

use super::*;

/// What a target of these octets comes to: itself and its path, or the error.
fn of_target(target: &[u8], rest: &[u8]) -> Result<(Vec<u8>, Vec<u8>), FramingError> {
    let bytes = [b"\r\nPOST ", target, rest].concat();
    let seen = at_every_cut(&bytes)?.expect("a whole head");
    assert_eq!(seen.line, format!("POST {} Http11", lossy(target)));
    assert_eq!(seen.length, bytes.len());
    assert_eq!(seen.headers[0], ("Host".into(), b"h".to_vec()));
    assert_eq!(seen.headers[1], ("X".into(), b"\xe9".to_vec()));
    assert_eq!(seen.body, BodyFraming::Length(7));
    Ok((target.to_vec(), seen.path.into_bytes()))
}

#[test]
fn octets_beyond_ascii_in_a_target() {
    const FIELDS: &[u8] = b" HTTP/1.1\r\nHost: h\r\nX: \xe9\r\nContent-Length: 7\r\n\r\n";
    let table: [(&[u8], &str); 9] = [
        ("/é?ü".as_bytes(), "/é"),
        (b"/\xe9", "/\u{fffd}"),
        (b"/\xe9?\xff/", "/\u{fffd}"),
        (b"/\xc3?\xa9", "/\u{fffd}"),
        (
            b"/\xf8\x88\x80\x80\x80",
            "/\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
        ),
        (b"/\x80\x9f", "/\u{fffd}\u{fffd}"),
        (b"/a?\xe9=\"\xe9\"", "/a"),
        (b"http://h/\xe9?x", "/\u{fffd}"),
        (b"http://h?\xe9", "/"),
    ];
    for (target, path) in table {
        let seen = of_target(target, FIELDS);
        assert_eq!(
            seen,
            Ok((target.to_vec(), path.into())),
            "{}",
            lossy(target)
        );
    }
    for target in [&b"\xe9"[..], b"\xe9/", b"http://\xe9/", b"h\xe9ttp://h/"] {
        let error = FramingError::BadRequest("a malformed request target");
        assert_eq!(of_target(target, FIELDS), Err(error), "{}", lossy(target));
    }
}

/// Whatever else is wrong is told as it is of a target in ASCII, and where only the target may have
/// octets beyond ASCII they are refused.
#[test]
fn faults_beside_octets_beyond_ascii() {
    let line = FramingError::BadRequest("a malformed request line");
    let table: [(&[u8], FramingError); 16] = [
        (b"P\xe9ST / HTTP/1.1\r\n", line),
        (b"\xe9\r\nGET / HTTP/1.1\r\n", line),
        (b"GET /\xe9\r\n", line),
        (b"GET /\xe9 \r\n", line),
        (b"GET  /\xe9 HTTP/1.1\r\n", line),
        (b"GET /\xe9 \xe9 HTTP/1.1\r\n", line),
        (b"GET /\xe9\t HTTP/1.1\r\n", line),
        (b"GET /\xe9\x7f HTTP/1.1\r\n", line),
        (b"GET /\xe9\x1f HTTP/1.1\r\n", line),
        (b"GET /\xe9 HTTP\xe91.1\r\n", line),
        (b"GET /\xe9 HTTP/1.1\xe9\r\n", line),
        (b"GET /\xe9 HTTP/1.1\rX\r\n", line),
        (b"GET /\xe9 HTTP/2.0\r\n", FramingError::UnsupportedVersion),
        (
            b"GET /\xe9\0 HTTP/1.1\r\n",
            FramingError::BadRequest("a NUL in the head"),
        ),
        (
            b"GET /\xe9 HTTP/1.1\n",
            FramingError::BadRequest("a line feed without carriage return"),
        ),
        (b"GET \xe9 HTTP/1.1\r\nA: \x01\r\n\r\n", {
            FramingError::BadRequest("a malformed request target")
        }),
    ];
    for (bytes, error) in table {
        let seen = at_every_cut(bytes);
        assert_eq!(seen, Err(error), "{}", lossy(bytes));
    }
    let many = "A: b\r\n".repeat(9);
    let table = [
        ("A\r\n", "a header name that is no token"),
        ("\u{e9}: b\r\n", "a header name that is no token"),
        ("A: \x01\r\n", "a header value with a control character"),
        ("A: b\rc\r\n", "a header value with a control character"),
        ("\rGET / HTTP/2.0\r\n", "a malformed request line"),
        ("", "no Host"),
        (&*many, ""),
    ];
    for (fields, what) in table {
        let of = |line: &[u8]| {
            let bytes = [line, fields.as_bytes(), b"\r\n"].concat();
            at_every_cut(&bytes).expect_err(what)
        };
        let error = of(b"GET /\xe9 HTTP/1.1\r\n");
        assert_eq!(error, of(b"GET /e HTTP/1.1\r\n"), "{fields:?}");
        match what {
            "" => assert_eq!(error, FramingError::TooManyFields),
            _ => assert_eq!(error, FramingError::BadRequest(what)),
        }
    }
}
