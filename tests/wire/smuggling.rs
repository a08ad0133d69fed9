//! Hostile and broken requests (contract, section 7): one verdict for every way to cut the bytes,
//! then the end of the connection, and nothing behind it is ever a request.
//!
//! Between two pieces the event loop answers a health check, so that it has read the first before
//! the second is sent: a cut on the wire is a cut for the gateway.

use std::thread;

use crate::support::{
    Backend, Client, Gateway, OK, Response, assert_error, assert_ok, assert_served, open_stream,
    post_send, send_data, send_request,
};

/// A gateway, a stream that must not notice anything, and a connection for health checks.
struct Stage {
    backend: Backend,
    gateway: Gateway,
    stream: Client,
    token: String,
    probe: Client,
    sent: u32,
}

impl Stage {
    fn new() -> Stage {
        let backend = Backend::accepting();
        let gateway = Gateway::builder()
            .backend(&backend)
            .env("MAX_HEAD_BYTES", "4096")
            .env("MAX_BODY_BYTES", "4096")
            .start();
        let (stream, token) = open_stream(&gateway, &backend, "/witness");
        let probe = gateway.connect();
        Stage {
            backend,
            gateway,
            stream,
            token,
            probe,
            sent: 0,
        }
    }

    /// A send to the witness, as it would be hidden behind another request.
    fn smuggled(&self) -> String {
        let token = &self.token;
        let body = format!(r#"{{"token":"{token}","event":{{"data":"smuggled"}}}}"#);
        send_request(&body) + "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    }

    /// The event loop has seen everything that was sent before.
    fn sync(&mut self) {
        assert_served(&mut self.probe);
    }

    /// Sends the pieces one by one, reads the answer, and then nothing but the FIN.
    #[track_caller]
    fn refused(&mut self, pieces: &[&[u8]]) -> Response {
        let mut client = self.gateway.connect();
        for piece in pieces {
            client.send(piece);
            self.sync();
        }
        let response = client.read_response();
        client.expect_eof();
        response
    }

    /// A healthy request works, and the witness sees its event and no other.
    #[track_caller]
    fn assert_unharmed(&mut self) {
        self.sent += 1;
        let data = format!("event {}", self.sent);
        assert_ok(&send_data(&self.gateway, &self.token, &data), OK);
        assert_eq!(self.stream.next_event(), format!("data: {data}\n\n"));
    }

    fn assert_nothing_was_smuggled(&self) {
        assert_eq!(self.backend.ledger().accepted(), 1);
        self.backend.assert_idle();
    }
}

/// Each request with something behind it that must never be served: whole, cut at four places,
/// and byte by byte.
fn assert_all_refused(rows: &[(&str, u16)]) {
    let mut stage = Stage::new();
    let smuggled = stage.smuggled();
    for (request, status) in rows {
        let bytes = [request.as_bytes(), smuggled.as_bytes()].concat();
        let length = request.len();
        let mut ways: Vec<Vec<&[u8]>> = vec![vec![&bytes]];
        for cut in [1, length / 2, length - 1, length] {
            ways.push(vec![&bytes[..cut], &bytes[cut..]]);
        }
        let mut singly: Vec<&[u8]> = bytes[..length].chunks(1).collect();
        singly.push(&bytes[length..]);
        ways.push(singly);
        for pieces in ways {
            let shown = format!("{request:?} in {} pieces", pieces.len());
            let response = stage.refused(&pieces);
            assert_eq!(response.status(), *status, "{shown}: {}", response.text());
            assert_closing_error(&response, *status);
            stage.assert_unharmed();
        }
    }
    stage.assert_nothing_was_smuggled();
    // Of a 400 the log tells the cause; what is too much for the log is a number in it.
    let mut told = vec![["refused", "cause="]];
    if rows.iter().any(|(_, status)| matches!(status, 501 | 505)) {
        told.push(["limit reached", "limit=malformed_request"]);
    }
    for [what, fact] in told {
        assert!(stage.gateway.wait_log_all(&["[WARN]", what, fact]).is_error);
    }
}

#[track_caller]
fn assert_closing_error(response: &Response, status: u16) {
    let json: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    let code = json["error"]["code"].as_str().expect("a code").to_owned();
    assert_error(response, status, &code);
    assert_eq!(status == 400, code == "BAD_REQUEST", "{code}");
    assert_eq!(response.head.value("connection"), Some("close"));
    assert!(response.head.value("date").is_some());
}

/// `POST /internal/send HTTP/1.1` with a Host, these fields, and what follows the empty line.
fn post(fields: &str, body: &str) -> String {
    format!("POST /internal/send HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}

fn assert_posts_refused(rows: &[(&str, &str, u16)]) {
    let requests: Vec<String> = rows.iter().map(|(f, b, _)| post(f, b)).collect();
    let rows: Vec<(&str, u16)> = requests
        .iter()
        .zip(rows)
        .map(|(request, row)| (request.as_str(), row.2))
        .collect();
    assert_all_refused(&rows);
}

#[test]
fn lengths_and_codings() {
    let chunk = "0\r\n\r\n";
    assert_posts_refused(&[
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            chunk,
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            chunk,
            400,
        ),
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            chunk,
            400,
        ),
        (
            "content-length: 5\r\ntransfer-encoding: gzip\r\n",
            chunk,
            400,
        ),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "", 400),
        ("Content-Length: 0\r\nContent-Length: 50\r\n", "", 400),
        ("Content-Length: 5, 6\r\n", "", 400),
        ("Content-Length: +5\r\n", "", 400),
        ("Content-Length: -5\r\n", "", 400),
        ("Content-Length: 0x5\r\n", "", 400),
        ("Content-Length: 5a\r\n", "", 400),
        ("Content-Length: 5 5\r\n", "", 400),
        ("Content-Length: 5,\r\n", "", 400),
        ("Content-Length: ,5\r\n", "", 400),
        ("Content-Length: 1e1\r\n", "", 400),
        ("Content-Length: 5.0\r\n", "", 400),
        ("Content-Length: \"5\"\r\n", "", 400),
        ("Content-Length:\r\n", "", 400),
        ("Content-Length:  \t \r\n", "", 400),
        ("Content-Length: \u{663}\r\n", "", 400),
        ("Content-Length: 99999999999999999999999\r\n", "", 413),
        ("Content-Length: 18446744073709551616\r\n", "", 413),
        ("Content-Length: 4097\r\n", "", 413),
        ("Transfer-Encoding:\r\n", chunk, 400),
        ("Transfer-Encoding: chunked, chunked\r\n", chunk, 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            chunk,
            400,
        ),
        ("Transfer-Encoding: \u{b}chunked\r\n", chunk, 400),
        ("Transfer-Encoding: gzip\r\n", chunk, 501),
        ("Transfer-Encoding: gzip, chunked\r\n", chunk, 501),
        ("Transfer-Encoding: chunked, gzip\r\n", chunk, 501),
        ("Transfer-Encoding: identity\r\n", chunk, 501),
        ("Transfer-Encoding: xchunked\r\n", chunk, 501),
        ("Transfer-Encoding: \"chunked\"\r\n", chunk, 501),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            chunk,
            501,
        ),
    ]);
}

#[test]
fn chunked_framing() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    let bodies = [
        ("\r\n", 400),
        (";x\r\n", 400),
        ("g\r\n", 400),
        ("-1\r\na\r\n", 400),
        ("+1\r\na\r\n", 400),
        ("0x1\r\na\r\n", 400),
        (" 1\r\na\r\n", 400),
        ("1 1\r\na\r\n", 400),
        ("1\na\n0\n\n", 400),
        ("1\r\r\na", 400),
        ("1\r\nab\r\n0\r\n\r\n", 400),
        ("2\r\na\r\n0\r\n\r\n", 400),
        ("1\r\na\n0\r\n\r\n", 400),
        ("1 \r\na\r\n", 400),
        ("1;\r\na\r\n", 400),
        ("1;=\r\na\r\n", 400),
        ("1;=b\r\na\r\n", 400),
        ("1;a=\r\na\r\n", 400),
        ("1;a b\r\na\r\n", 400),
        ("1;a \r\na\r\n", 400),
        ("1;\u{e9}\r\na\r\n", 400),
        ("1;a=\"x\r\na\r\n", 400),
        ("1;a=\"x\ry\"\r\na\r\n", 400),
        ("1;a=\"x\\\r\na\r\n", 400),
        ("1;a=\"x\"y\r\na\r\n", 400),
        ("1;a\u{1}b\r\na\r\n", 400),
        ("1;a\nb\r\na\r\n", 400),
        ("1;a\rb\r\na\r\n", 400),
        ("fffffffffffffffff\r\n", 400),
        ("10000000000000001\r\n", 400),
        ("10000000000000000\r\n", 400),
        ("00fffffffffffffffff\r\n", 400),
        ("FFFFFFFFFFFFFFFF\r\n", 413),
        ("000fffffffffffffff\r\n", 413),
        ("8000000000000000\r\n", 413),
        ("7fffffffffffffff\r\n", 413),
        ("1001\r\n", 413),
        ("0\r\n\n", 400),
        ("0\r\n \r\n\r\n", 400),
        ("0\r\nA\r\n\r\n", 400),
        ("0\r\nA b: c\r\n\r\n", 400),
        ("0\r\nA : c\r\n\r\n", 400),
        ("0\r\n: c\r\n\r\n", 400),
        ("0\r\nA: b\r\n c\r\n\r\n", 400),
        ("0\r\nA: b\nC: d\r\n\r\n", 400),
        ("0\r\nA: \0\r\n\r\n", 400),
        ("0\r\nA: b\rc\r\n\r\n", 400),
    ];
    let rows = bodies.map(|(body, status)| (CHUNKED, body, status));
    assert_posts_refused(&rows);
}

#[test]
fn heads() {
    assert_all_refused(&[
        // Line ends.
        ("GET /a HTTP/1.1\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\n\n", 400),
        ("GET /a HTTP/1.1\nHost: h\n\n", 400),
        ("\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\rHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\r\r\n\r\n", 400),
        // White space where it means something else to somebody.
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\n Host: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\n",
            400,
        ),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nContent\u{b}Length: 5\r\n\r\n",
            400,
        ),
        // Characters.
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: \u{1}\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: \u{7f}\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX(y): x\r\n\r\n", 400),
        (
            "\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}\u{0}\u{0}\u{1}\u{3}\r\n\r\n",
            400,
        ),
        // Hosts.
        ("GET /a HTTP/1.1\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h\r\nhost: other\r\n\r\n", 400),
        ("GET /a HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h/p\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h%zz\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: h%4\r\n\r\n", 400),
        ("GET http://h/a HTTP/1.1\r\n\r\n", 400),
        // Transfer-Encoding in HTTP/1.0.
        (
            "POST /internal/send HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
    ]);
}

#[test]
fn request_lines() {
    assert_all_refused(&[
        ("GET /a\r\n\r\n", 400),
        ("GET /a\r\nHost: h\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("GET /a \r\nHost: h\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        // Octets beyond ASCII may stand in the path and behind it, and nowhere else.
        ("G\u{e9}T /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET \u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET http://\u{e9}/a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{e9} \u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{e9}\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{e9} HTTP\u{e9}1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{e9}\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\u{e9}: x\r\n\r\n", 400),
        ("GET /a HTTP/1.1 x\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
        ("GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (" GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("G@T /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /a http/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/11\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/1.10\r\nHost: h\r\n\r\n", 400),
        ("GET /a HTTP/2\r\nHost: h\r\n\r\n", 505),
        ("GET /a XTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET http://u@h/a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET http://h%zz/a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (
            "POST ftp://h/internal/send HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
        ),
        ("GET /a HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("GET /a HTTP/1.2\r\nHost: h\r\n\r\n", 505),
        ("GET /a HTTP/0.9\r\nHost: h\r\n\r\n", 505),
        ("GET /a HTTP/3.0\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ]);
}

/// A client that does not read before all is sent, and one that sends without an end.
#[test]
fn no_reset_destroys_the_answer_before_the_megabytes_behind_it() {
    let mut stage = Stage::new();
    let filler = "x".repeat(900_000);
    let requests = [
        (
            format!(
                "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n{filler}"
            ),
            413,
        ),
        (
            format!(
                "POST /internal/send HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 dbba0\r\n{filler}"
            ),
            413,
        ),
        (format!("GET /{filler}"), 414),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {filler}"), 431),
        (format!("GET /\r\n\r\n{filler}"), 400),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n{filler}"),
            501,
        ),
        (format!("GET / HTTP/2.0\r\n\r\n{filler}"), 505),
    ];
    for (request, status) in &requests {
        let mut client = stage.gateway.connect();
        for piece in request.as_bytes().chunks(100_000) {
            // A reset behind an earlier piece would make this fail.
            client.send(piece);
            stage.sync();
        }
        let response = client.read_response();
        assert_eq!(response.status(), *status, "{request:.60}");
        assert_closing_error(&response, *status);
        client.expect_eof();
        stage.assert_unharmed();
    }
    for (request, status) in &requests {
        let mut client = stage.gateway.connect();
        let mut sender = client.stream().try_clone().expect("a descriptor");
        thread::scope(|scope| {
            scope.spawn(|| {
                use std::io::Write;
                // Beyond 1 MiB the gateway may refuse to take more.
                let _ = sender.write_all(request.as_bytes());
                let _ = sender.write_all(&vec![b'x'; 8_000_000]);
            });
            assert_eq!(client.read_response().status(), *status, "{request:.60}");
            client.expect_eof();
            let _ = client.stream().shutdown(std::net::Shutdown::Both);
        });
        stage.assert_unharmed();
    }
    stage.assert_nothing_was_smuggled();
}

/// The FIN behind a refusal comes at once, although the peer keeps its side open.
#[test]
fn what_follows_a_refusal_is_not_served_even_much_later() {
    let mut stage = Stage::new();
    let smuggled = stage.smuggled();
    let mut client = stage.gateway.connect();
    client.send("GET /\r\n\r\n");
    assert_eq!(client.read_response().status(), 400);
    client.expect_eof();
    client.send(&smuggled);
    stage.sync();
    stage.assert_unharmed();
    client.expect_eof();
    stage.assert_nothing_was_smuggled();
    // The witness lives to its end.
    let close = serde_json::json!({"token": stage.token, "close": true});
    assert_ok(&post_send(&stage.gateway, &close), OK);
    stage.stream.expect_last_chunk_and_eof();
    stage.backend.assert_balanced();
}
