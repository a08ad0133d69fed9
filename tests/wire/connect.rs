//! Contract, section 2, steps 1 to 3 and 5: what the backend is asked when a client connects, and
//! the head of the stream that opens.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{
    Backend, Client, Gateway, OK, assert_error, assert_ok, assert_served, open_stream, post_send,
    send_close, send_data,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Sends a stream's request, lets it open, ends it, and gives the request's JSON that both
/// callbacks told.
fn told(gateway: &Gateway, backend: &Backend, request: &[u8]) -> String {
    let mut client = gateway.connect();
    client.send(request);
    let connect = backend.next_connect();
    let token = connect.token();
    let text = connect.text();
    let told = text
        .strip_prefix(&format!(
            r#"{{"action":"connect","token":"{token}","request":"#
        ))
        .and_then(|rest| rest.strip_suffix('}'))
        .expect(&text);
    connect.answer(200, "");
    client.read_head();
    client.reset();
    let disconnect = backend.next_disconnect_of(&token);
    assert_eq!(
        disconnect.text(),
        format!(
            r#"{{"action":"disconnect","reason":"client_closed","token":"{token}","request":{told}}}"#
        )
    );
    disconnect.answer(200, "");
    told.to_owned()
}

#[test]
fn the_request_is_told_to_the_byte() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let table: [(&[u8], &str); 10] = [
        (
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            r#"{"url":"/","headers":{"host":"h"}}"#,
        ),
        (
            b"GET /%7E/\"'\\?a=b&c=%20#x HTTP/1.1\r\nHOST: Example:80\r\n\r\n",
            r#"{"url":"/%7E/\"'\\?a=b&c=%20#x","headers":{"host":"Example:80"}}"#,
        ),
        (
            b"GET http://Other:81/a?b HTTP/1.1\r\nHost: h\r\n\r\n",
            r#"{"url":"http://Other:81/a?b","headers":{"host":"h"}}"#,
        ),
        (
            b"GET / HTTP/1.0\r\nX-Last-Event-ID:  a \tb\t \r\nEmpty:\r\n\r\n",
            r#"{"url":"/","headers":{"x-last-event-id":"a \tb","empty":""}}"#,
        ),
        // Joined, whatever stands between and however the name is written.
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nAccept: a\r\nCookie: x=1; y=2\r\nACCEPT: b\r\n\
              X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\ncookie: z=3\r\naccept:\r\n\
              x-forwarded-for: 3.3.3.3\r\nSet-Cookie: m\r\nSet-Cookie: n\r\n\r\n",
            r#"{"url":"/","headers":{"host":"h","accept":"a, b, ","cookie":"x=1; y=2; z=3","x-forwarded-for":"1.1.1.1, 2.2.2.2, 3.3.3.3","set-cookie":"m, n"}}"#,
        ),
        // Latin-1, also where the bytes would be UTF-8.
        (
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\nA: \x80\xe9\xff\r\nB: \xe2\x82\xac\r\n\r\n",
            "{\"url\":\"/\u{c3}\u{a9}\",\"headers\":{\"host\":\"h\",\"a\":\"\u{80}\u{e9}\u{ff}\",\
             \"b\":\"\u{e2}\u{82}\u{ac}\"}}",
        ),
        (
            b"GET /\xe9?\xc3=\"\x80\xff\" HTTP/1.1\r\nHost: h\r\nA: \xe9\r\n\r\n",
            "{\"url\":\"/\u{e9}?\u{c3}=\\\"\u{80}\u{ff}\\\"\",\"headers\":{\"host\":\"h\",\"a\":\"\u{e9}\"}}",
        ),
        (
            b"GET http://h/\xe9 HTTP/1.0\r\n\r\n",
            "{\"url\":\"http://h/\u{e9}\",\"headers\":{}}",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\"b\\\r\nConnection: close\r\n\
              Content-Length: 2\r\n\r\nxy",
            r#"{"url":"/","headers":{"host":"h","authorization":"Bearer a\"b\\","connection":"close","content-length":"2"}}"#,
        ),
        (
            b"GET / HTTP/1.1\r\n__proto__: x\r\nconstructor: y\r\nhost: h\r\n\r\n",
            r#"{"url":"/","headers":{"__proto__":"x","constructor":"y","host":"h"}}"#,
        ),
    ];
    for (request, expected) in table {
        assert_eq!(told(&gateway, &backend, request), expected);
    }
    backend.assert_balanced();
}

/// A request line that arrives before the rest of its head is looked at on its own.
#[test]
fn octets_beyond_ascii_arrive_in_pieces() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for (target, url, shown) in [
        (
            &b"/a\xe9?\xff"[..],
            "/a\u{e9}?\u{ff}",
            r#"url="/a\xe9?\xff""#,
        ),
        (b"/b\xc3\xa9", "/b\u{c3}\u{a9}", r#"url="/b\xc3\xa9""#),
    ] {
        let line = [b"GET ", target, b" HTTP/1.1\r\n"].concat();
        let mut client = gateway.connect();
        for piece in [&line[..6], &line[6..], b"Host: h\r\n", b"\r\n"] {
            client.send(piece);
            // The event loop has read it.
            assert_served(&mut gateway.connect());
        }
        backend.next_connect_of(url).answer(403, "");
        assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
        gateway.wait_log_all(&["new connection", shown]);
    }
}

#[test]
fn of_some_fields_the_first_counts() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    // Two Hosts or differing lengths are framing errors, not repetitions.
    let names = [
        "age",
        "authorization",
        "content-type",
        "etag",
        "expires",
        "from",
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
    let fields: String = names
        .iter()
        .map(|name| format!("{name}: one {name}\r\n{}: two\r\n", name.to_uppercase()))
        .collect();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 0\r\ncontent-length: 0\r\n\r\n"
    );
    let expected: String = names
        .iter()
        .map(|name| format!(r#","{name}":"one {name}""#))
        .collect();
    assert_eq!(
        told(&gateway, &backend, request.as_bytes()),
        format!(r#"{{"url":"/","headers":{{"host":"h"{expected},"content-length":"0"}}}}"#)
    );
    backend.assert_balanced();
}

#[test]
fn the_callback_is_a_plain_post_of_json() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: client-host\r\nUser-Agent: client\r\nAccept-Encoding: gzip\r\n\
         Cookie: secret\r\n\r\n",
    );
    let connect = backend.next_connect();
    client.read_head();
    client.reset();
    let disconnect = backend.next_disconnect();
    for callback in [&connect, &disconnect] {
        let head = &callback.head;
        assert!(head.starts_with("POST /callback HTTP/1.1\r\n"), "{head}");
        assert_eq!(callback.field("content-type"), Some("application/json"));
        let agent = format!("ssegateway/{VERSION}");
        assert_eq!(callback.field("user-agent"), Some(&*agent));
        let host = backend.address().to_string();
        assert_eq!(callback.field("host"), Some(&*host));
        let length = callback.body.len().to_string();
        assert_eq!(callback.field("content-length"), Some(&*length));
        // An answer may not be compressed, and nothing of the client's is passed on as a field.
        for name in ["accept-encoding", "cookie", "transfer-encoding", "expect"] {
            assert_eq!(callback.field(name), None, "{head}");
        }
    }
    backend.assert_balanced();
}

#[test]
fn the_callback_url_is_used_verbatim_and_never_logged() {
    let table = [
        ("", "/"),
        ("/", "/"),
        ("?secret=1", "/?secret=1"),
        ("/a/../b//c/", "/a/../b//c/"),
        (
            "/%7euser/%2F?secret=a%2fb&x=&&y=%zz+'",
            "/%7euser/%2F?secret=a%2fb&x=&&y=%zz+'",
        ),
    ];
    for (suffix, target) in table {
        let mut backend = Backend::accepting();
        let url = format!("http://{}{suffix}", backend.address());
        let gateway = Gateway::builder()
            .env("CALLBACK_URL", &url)
            .env("LOG_LEVEL", "debug")
            .start();
        let (client, token) = open_stream(&gateway, &backend, "/s");
        client.reset();
        let disconnect = backend.next_disconnect_of(&token);
        let line = format!("POST {target} HTTP/1.1\r\n");
        assert!(disconnect.head.starts_with(&line), "{}", disconnect.head);
        gateway.wait_log("disconnect callback answered");
        // A failure must not tell it either.
        backend.leave();
        assert_eq!(gateway.get("/refused").read_response().status(), 503);
        gateway.wait_log("connect callback failed");
        let log = gateway.log();
        let authority = backend.address().to_string();
        for part in [&*authority, "secret", "callback=", "user/"] {
            assert!(!log.contains(part), "{part} in:\n{log}");
        }
    }
}

#[test]
fn proxies_in_the_environment_are_not_for_callbacks() {
    let proxy = Backend::start();
    let backend = Backend::accepting();
    let url = format!("http://{}", proxy.address());
    let mut builder = Gateway::builder().backend(&backend);
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
    ] {
        builder = builder.env(name, &url);
    }
    let gateway = builder.start();
    let (client, token) = open_stream(&gateway, &backend, "/");
    client.reset();
    let disconnect = backend.next_disconnect_of(&token);
    // Not in the form that is for proxies either.
    let line = "POST /callback HTTP/1.1\r\n";
    assert!(disconnect.head.starts_with(line), "{}", disconnect.head);
    assert_eq!(proxy.connections(), 0);
    // Nor is the backend asked to be one.
    backend.assert_idle();
    backend.assert_balanced();
}

#[test]
fn tokens_are_lower_case_uuids_of_version_4_and_differ() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let mut tokens = BTreeSet::new();
    for _ in 0..20 {
        let (client, token) = open_stream(&gateway, &backend, "/");
        let bytes = token.as_bytes();
        assert_eq!(bytes.len(), 36, "{token}");
        for (at, byte) in bytes.iter().enumerate() {
            let is_right = match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                14 => *byte == b'4',
                19 => b"89ab".contains(byte),
                _ => b"0123456789abcdef".contains(byte),
            };
            assert!(is_right, "{token}");
        }
        tokens.insert(token);
        client.reset();
    }
    assert_eq!(tokens.len(), 20);
    backend.assert_balanced();
}

#[test]
fn the_head_of_a_stream_to_the_byte() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let common = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                  Connection: keep-alive\r\nX-Accel-Buffering: no\r\nDate: DATE\r\n";
    let chunked = format!("{common}Transfer-Encoding: chunked\r\n\r\n");
    let plain = format!("{common}\r\n");
    let table = [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", &chunked),
        // As nginx sends upstream by default.
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            &chunked,
        ),
        ("GET / HTTP/1.0\r\n\r\n", &plain),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &plain),
    ];
    for (request, expected) in table {
        let mut client = gateway.connect();
        client.send(request);
        let connect = backend.next_connect();
        connect.answer(200, "");
        // Nothing but the callback's answer moves the head: no event, no heartbeat.
        let head = client.read_head();
        assert_eq!(&head.undated(), expected, "{request}");
        let token = connect.token();
        assert_ok(&send_data(&gateway, &token, "x"), OK);
        assert_ok(&send_close(&gateway, &token), OK);
        match expected == &chunked {
            true => {
                assert_eq!(client.next_chunk(), b"data: x\n\n");
                client.expect_last_chunk_and_eof();
            }
            false => assert_eq!(client.read_to_end(), b"data: x\n\n"),
        }
        backend.next_disconnect_of(&token).answer(200, "");
    }
    backend.assert_balanced();
}

/// From the moment of the callback the backend can use the token.
#[test]
fn the_token_is_known_before_the_callback() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/");
    let connect = backend.next_connect();
    let command = json!({"token": connect.token()});
    assert_ok(&post_send(&gateway, &command), crate::support::BUFFERED);
    connect.answer(200, "");
    client.read_head();
    assert_ok(&post_send(&gateway, &command), OK);
    client.reset();
    backend.assert_balanced();
}

#[test]
fn what_an_opening_leaves_in_the_log() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("HEARTBEAT_INTERVAL_SECONDS", "77")
        .start();
    let start = gateway.wait_log("[INFO] start");
    for part in [
        &format!("port={}", gateway.port()),
        "callbackUrl=set",
        "heartbeat=77",
    ] {
        assert!(start.contains(part), "{start}");
    }
    let mut client = gateway.connect();
    client.send(b"GET /a?b=\"\xc3\xa9 HTTP/1.1\r\nHost: h\r\nCookie: secret\r\n\r\n");
    let connect = backend.next_connect();
    let token = format!("token={}", connect.token());
    let url = r#"url="/a?b=\"\xc3\xa9""#;
    gateway.wait_log_all(&["[INFO]", "new connection", &token, url]);
    connect.answer(202, r#"{"event":{"data":"secret"}}"#);
    client.read_head();
    gateway.wait_log_all(&["[INFO]", "connect callback", &token, "status=202"]);
    gateway.wait_log_all(&["[INFO]", &token, "hasEvent=true hasClose=false"]);
    gateway.wait_log_all(&["[INFO]", "stream opened", &token, url, "heartbeat=77"]);
    client.reset();
    backend.next_disconnect().answer(201, "");
    gateway.wait_log_all(&[
        "[INFO]",
        "disconnected",
        &token,
        url,
        "reason=client_closed",
    ]);
    gateway.wait_log_all(&["[INFO]", "disconnect callback", &token, "status=201"]);
    for line in gateway.lines() {
        let is_low = line.text.starts_with("[INFO] ") || line.text.starts_with("[DEBUG] ");
        let is_high = line.text.starts_with("[ERROR] ") || line.text.starts_with("[WARN] ");
        assert!(is_low != is_high && is_high == line.is_error, "{line:?}");
        assert!(!line.text.contains("secret"), "{line:?}");
    }
    backend.assert_balanced();
}

/// A request that arrives byte by byte is the same request.
#[test]
fn the_cuts_of_tcp_do_not_matter() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let request = b"GET /cut HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
    let mut client: Client = gateway.connect();
    for byte in request {
        client.send([*byte]);
    }
    let connect = backend.next_connect_of("/cut");
    assert_eq!(
        connect.json["request"],
        json!({"url": "/cut", "headers": {"host": "h", "a": "b"}})
    );
    connect.answer(403, "");
    assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
    backend.assert_balanced();
}
