//! The log as its readers find it (contract, section 9): each row of the table, nothing forged,
//! nothing secret.

use serde_json::{Value, json};

use crate::support::{
    BUFFERED, Backend, Gateway, Line, OK, assert_error, assert_ok, open_stream, post_body,
    post_send, send_close, send_data,
};

/// The line that holds all these parts, each `key=` as a word of its own, at this level and on the
/// stream that belongs to it.
#[track_caller]
fn assert_line(gateway: &Gateway, level: &str, parts: &[&str]) -> Line {
    let prefix = format!("[{level}] ");
    let holds = |line: &Line, part: &str| match part.split_once('=') {
        Some(("", _)) | None => line.text.contains(part),
        Some(_) => line.text.contains(&format!(" {part}")),
    };
    let line = gateway.wait_log_where(&format!("{prefix}{parts:?}"), |line| {
        line.text.starts_with(&prefix) && parts.iter().all(|part| holds(line, part))
    });
    assert_eq!(line.is_error, matches!(level, "WARN" | "ERROR"), "{line:?}");
    line
}

#[test]
fn every_event_has_its_line() {
    let backend = Backend::with(|callback| {
        // On a connection that was used before it is asked once more.
        if callback.url() == "/broken" {
            callback.write(b"SMTP?\r\n\r\n");
        }
    });
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .keeping_connections()
        .env("LOG_LEVEL", "debug")
        .env("HEARTBEAT_INTERVAL_SECONDS", "77")
        .start();
    let port = format!("port={}", gateway.port());
    assert_line(
        &gateway,
        "INFO",
        &["start", &port, "callbackUrl=set", "heartbeat=77"],
    );
    let mut client = gateway.get("/s?q=1");
    let callback = backend.next_connect();
    let token_text = callback.token();
    let token = format!("token={token_text}");
    let url = "url=/s?q=1";
    assert_line(&gateway, "INFO", &["new connection", &token, url]);
    let named = json!({"token": token_text, "event": {"name": "greeting", "data": "12345"}});
    assert_ok(&post_send(&gateway, &named), BUFFERED);
    assert_line(&gateway, "INFO", &["buffered", &token]);
    callback.answer(201, r#"{"event":{"data":"first"}}"#);
    assert_line(
        &gateway,
        "INFO",
        &["connect callback", &token, "status=201"],
    );
    assert_line(
        &gateway,
        "INFO",
        &[&token, "hasEvent=true", "hasClose=false"],
    );
    assert_line(
        &gateway,
        "INFO",
        &["stream opened", &token, url, "heartbeat=77"],
    );
    assert_eq!(client.read_head().status, 200);
    assert_ok(&post_send(&gateway, &named), OK);
    assert_line(
        &gateway,
        "DEBUG",
        &[&token, "event=greeting", "length=5", url],
    );
    assert_ok(&send_close(&gateway, &token_text), OK);
    assert_line(
        &gateway,
        "INFO",
        &["closed", &token, url, "reason=server_closed"],
    );
    backend.next_disconnect().answer(202, r#"{"close":true}"#);
    assert_line(
        &gateway,
        "INFO",
        &["disconnect callback", &token, "status=202"],
    );
    assert_line(&gateway, "WARN", &[&token, "disconnect"]);
    // An empty answer, and a client that leaves.
    let (client, token) = open_stream(&gateway, &backend, "/left");
    let token = format!("token={token}");
    assert_line(
        &gateway,
        "INFO",
        &[&token, "hasEvent=false", "hasClose=false"],
    );
    drop(client);
    assert_line(
        &gateway,
        "INFO",
        &["disconnected", &token, "url=/left", "reason=client_closed"],
    );
    backend.next_disconnect().answer(500, "");
    assert_line(
        &gateway,
        "ERROR",
        &["disconnect callback", &token, "status=500"],
    );
    // Rejections, failures, and an answer that cannot be used.
    let mut client = gateway.get("/rejected");
    let callback = backend.next_connect();
    callback.answer(403, "");
    let token = format!("token={}", callback.token());
    assert_eq!(client.read_response().status(), 403);
    assert_line(
        &gateway,
        "ERROR",
        &["connect callback", &token, "status=403"],
    );
    client.get("/broken");
    let callback = backend.next_connect();
    callback.write(b"SMTP?\r\n\r\n");
    let token = format!("token={}", callback.token());
    assert_eq!(client.read_response().status(), 503);
    assert_line(&gateway, "ERROR", &["connect callback", &token, "error="]);
    client.get("/odd");
    let callback = backend.next_connect_of("/odd");
    callback.answer(200, "{\"close\":1}");
    let token = format!("token={}", callback.token());
    assert_eq!(client.read_head().status, 200);
    assert_line(&gateway, "ERROR", &["connect callback", &token]);
    assert_line(
        &gateway,
        "INFO",
        &[&token, "hasEvent=false", "hasClose=false"],
    );
    client.reset();
    let callback = backend.next_disconnect();
    callback.reset();
    backend.next_disconnect().answer(200, "");
    // Sends that are refused.
    assert_error(&post_body(&gateway, b"{}"), 400, "INVALID_TOKEN_MISSING");
    assert_line(
        &gateway,
        "ERROR",
        &["/internal/send", "INVALID_TOKEN_MISSING"],
    );
    assert_error(&send_data(&gateway, "nobody", ""), 404, "TOKEN_NOT_FOUND");
    assert_line(&gateway, "INFO", &["/internal/send", "token=nobody"]);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert_line(&gateway, "INFO", &["SIGTERM", "streams=0"]);
    assert_line(&gateway, "INFO", &["exit", "undelivered=0"]);
    backend.assert_balanced();
}

#[test]
fn failures_of_the_connection_to_the_backend_are_errors() {
    let mut backend = Backend::start();
    let gateway = Gateway::builder().backend(&backend).start();
    let mut client = gateway.get("/s");
    let connect = backend.next_connect();
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    backend.stop_listening();
    connect.close();
    connect.wait_ended();
    drop(client);
    let token = connect.token();
    let token = format!("token={token}");
    assert_line(
        &gateway,
        "ERROR",
        &["disconnect callback", &token, "error="],
    );
    let mut client = gateway.get("/t");
    assert_error(&client.read_response(), 503, "BACKEND_UNAVAILABLE");
    assert_line(
        &gateway,
        "ERROR",
        &["connect callback", "token=", "refused"],
    );
    let gateway = Gateway::builder().start();
    let mut client = gateway.get("/s");
    assert_error(&client.read_response(), 503, "SERVICE_NOT_CONFIGURED");
    assert_line(&gateway, "ERROR", &["CALLBACK_URL"]);
    assert_line(&gateway, "INFO", &["start", "callbackUrl=unset"]);
}

#[test]
fn levels_leave_out_what_is_less_important() {
    for (level, least) in [("error", 3), ("warn", 2), ("info", 1), ("DEBUG", 0)] {
        let backend = Backend::start();
        let builder = Gateway::builder()
            .backend(&backend)
            .env("LOG_LEVEL", level)
            .env("MAX_STREAMS", "1");
        let mut gateway = builder.spawn();
        // Above info nothing tells that it listens.
        crate::support::process::eventually("a listener", || {
            std::net::TcpStream::connect(("127.0.0.1", gateway.port())).is_ok()
        });
        let (client, token) = open_stream(&gateway, &backend, "/s");
        assert_ok(&send_data(&gateway, &token, "x"), OK);
        assert_eq!(gateway.get("/t").read_response().status(), 503);
        assert_error(&post_body(&gateway, b"{}"), 400, "INVALID_TOKEN_MISSING");
        drop(client);
        backend.next_disconnect().answer(200, "");
        gateway.signal("TERM");
        assert!(gateway.wait_exit().success());
        for (rank, word) in ["[DEBUG]", "[INFO]", "[WARN]", "[ERROR]"]
            .iter()
            .enumerate()
        {
            assert_eq!(gateway.count_log(word) > 0, rank >= least, "{level} {word}");
        }
    }
}

// ---- values from outside ----

#[test]
fn no_value_forges_or_floods_a_line() {
    let backend = Backend::start();
    let mut gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .start();
    let long = "x".repeat(10_000);
    let tails = [
        "\n[INFO] forged token=forged",
        "\r[INFO] forged",
        "\u{1b}[2J\u{7}",
        " token=forged url=forged",
        "\" token=\"forged",
        "\u{85}\u{2028}[INFO] forged",
        "\\n\\\"",
        "\0",
        "é\u{202e}",
        long.as_str(),
    ];
    // A target holds no spaces and no controls; what is left of each tail is tried.
    for tail in tails {
        let rest: String = tail
            .chars()
            .filter(|c| *c > ' ' && *c != '\u{7f}')
            .collect();
        let mut client = gateway.connect();
        client.send(format!("GET /{rest} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let callback = backend.next_connect();
        callback.answer(200, "");
        assert_eq!(client.read_head().status, 200, "{rest:?}");
        let token = callback.token();
        for name in tails {
            let command = json!({"token": token, "event": {"name": name, "data": "d"}});
            let status = post_send(&gateway, &command).status();
            let is_name = !name.contains(['\r', '\n', '\0']);
            assert_eq!(status, if is_name { 200 } else { 400 }, "{name:?}");
        }
        drop(client);
        backend.next_disconnect().answer(200, "");
        let unknown = json!({"token": format!("t{tail}")});
        assert_error(&post_send(&gateway, &unknown), 404, "TOKEN_NOT_FOUND");
    }
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let lines = gateway.lines();
    assert!(lines.len() > 10 * 10);
    for Line { text, .. } in &lines {
        assert!(
            text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
            "{text}"
        );
        let levels = ["[INFO] ", "[WARN] ", "[ERROR] ", "[DEBUG] "];
        assert!(levels.iter().any(|level| text.starts_with(level)), "{text}");
        assert!(!text.starts_with("[INFO] forged"), "{text}");
        assert!(text.len() < 3000, "{} bytes", text.len());
        // A key stands behind a space, outside of quotes.
        let bare = unquoted(text);
        for key in [" token=forged", " url=forged"] {
            assert!(!bare.contains(key), "{text}");
        }
    }
    assert!(lines.iter().any(|line| {
        line.text
            .contains(r#"token="t\n[INFO] forged token=forged""#)
    }));
}

/// A line without its quoted values.
fn unquoted(line: &str) -> String {
    let (mut bare, mut is_quoted, mut is_escaped) = (String::new(), false, false);
    for c in line.chars() {
        // Only behind `=` does a quote begin a value.
        let opens = c == '"' && !is_quoted && bare.ends_with('=');
        let closes = c == '"' && is_quoted && !is_escaped;
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        if opens || closes {
            is_quoted = opens;
        } else if !is_quoted {
            bare.push(c);
        }
    }
    bare
}

#[test]
fn secrets_are_nowhere_even_at_the_lowest_level() {
    const SECRET: &str = "hunter2";
    const RAW: [&str; 5] = [
        "hunter2\r\n\r\n",
        "HTTP/1.1 200 hunter2\r\nContent-Length: 7\r\n\r\nhunter2",
        "HTTP/1.1 500 hunter2\r\nX: hunter2\r\nContent-Length: 7\r\n\r\nhunter2",
        "HTTP/1.1 302 Found\r\nLocation: http://hunter2/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n",
    ];
    // Whatever is asked for by number is answered so, as often as it is asked.
    let mut backend = Backend::with(|callback| {
        let number = callback.url().trim_start_matches('/').parse::<usize>();
        match number.ok().and_then(|number| RAW.get(number)) {
            Some(answer) if callback.is_connect() => {
                callback.note_accepted();
                callback.write(answer.as_bytes());
                callback.close();
            }
            _ if callback.is_connect() => {}
            _ => callback.answer(200, r#"{"event":{"data":"hunter2"}}"#),
        }
    });
    let url = format!("http://{}/{SECRET}?key={SECRET}", backend.address());
    let mut gateway = Gateway::builder()
        .env("CALLBACK_URL", &url)
        .env("LOG_LEVEL", "debug")
        .start();
    let connect = |path: &str| {
        let mut client = gateway.connect();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {SECRET}\r\n\
             Proxy-Authorization: {SECRET}\r\nCookie: session={SECRET}\r\nX-Key: {SECRET}\r\n\r\n"
        ));
        client
    };
    // Every way in which a connect can go, with the secret in whatever the backend says.
    let mut client = connect("/s");
    let callback = backend.next_connect();
    let token = callback.token();
    assert!(callback.text().contains(SECRET) && callback.head.contains(SECRET));
    let event = json!({"token": token, "event": {"name": "n", "data": SECRET}});
    assert_ok(&post_send(&gateway, &event), BUFFERED);
    callback.answer(200, &json!({"event": {"data": SECRET}}).to_string());
    assert_eq!(client.read_head().status, 200);
    assert_ok(&post_send(&gateway, &event), OK);
    let bad: [Value; 3] = [
        json!({"token": token, "event": {"data": {"a": SECRET}}}),
        json!({"token": token, "event": {"data": "d", "name": {"a": SECRET}}}),
        json!({"token": token, "close": SECRET}),
    ];
    for command in bad {
        assert_eq!(post_send(&gateway, &command).status(), 400);
    }
    assert_eq!(post_body(&gateway, SECRET.as_bytes()).status(), 400);
    drop(client);
    backend.next_disconnect();
    for (number, status) in [503, 200, 500, 302, 503].into_iter().enumerate() {
        let mut client = connect(&format!("/{number}"));
        assert_eq!(client.read_head().status, status, "{number}");
    }
    backend.stop_listening();
    assert_eq!(connect("/t").read_response().status(), 503);
    // Requests that are refused.
    for request in [
        format!("GET /\0{SECRET}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nAuthorization {SECRET}\r\n\r\n"),
    ] {
        let mut client = gateway.connect();
        client.send(&request);
        assert_eq!(client.read_response().status(), 400);
    }
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(gateway.lines().len() > 20);
    assert_eq!(gateway.count_log(SECRET), 0, "{}", gateway.log());
    assert_eq!(gateway.count_log(&backend.address().to_string()), 0);
}

/// A host name in the callback URL may be the secret as well.
#[test]
fn a_callback_host_that_cannot_be_found_is_not_named() {
    let mut gateway = Gateway::builder()
        .env("CALLBACK_URL", "http://user:hunter2@hunter2.invalid/")
        .env("LOG_LEVEL", "debug")
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let status = gateway.get("/s").read_response().status();
    assert!(matches!(status, 503 | 504), "{status}");
    assert_line(&gateway, "ERROR", &["connect callback", "token=", "error="]);
    gateway.signal("TERM");
    gateway.wait_exit();
    assert_eq!(gateway.count_log("hunter2"), 0, "{}", gateway.log());
}
