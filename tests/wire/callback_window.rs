//! Contract, section 2, steps 6 and 7, and the lifecycle law: what happens between a client's
//! request and the backend's word on it.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    BUFFERED, Backend, Callback, Client, Gateway, LATE, OK, assert_error, assert_ok, assert_served,
    open_stream, post_send, send_close, send_data,
};

/// A client whose callback is out.
fn waiting(gateway: &Gateway, backend: &Backend, path: &str) -> (Client, Callback) {
    let client = gateway.get(path);
    let connect = backend.next_connect_of(path);
    (client, connect)
}

#[test]
fn head_then_the_answers_event_then_the_buffered_then_the_live_ones() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut client, connect) = waiting(&gateway, &backend, "/");
    let token = connect.token();
    for number in 1..=3 {
        assert_ok(
            &send_data(&gateway, &token, &format!("buffered {number}")),
            BUFFERED,
        );
    }
    gateway.wait_log_all(&["[INFO]", "buffered", &token]);
    // With neither event nor close there is nothing to buffer, but the token is known.
    assert_ok(&post_send(&gateway, &json!({"token": token})), BUFFERED);
    connect.answer(200, r#"{"event":{"name":"first","data":"answer"}}"#);
    assert_eq!(client.read_head().status, 200);
    assert_ok(&send_data(&gateway, &token, "live"), OK);
    let expected = [
        "event: first\ndata: answer\n\n",
        "data: buffered 1\n\n",
        "data: buffered 2\n\n",
        "data: buffered 3\n\n",
        "data: live\n\n",
    ];
    for event in expected {
        assert_eq!(client.next_event(), event);
    }
    client.reset();
    backend.assert_balanced();
}

#[test]
fn the_order_is_the_same_on_an_unchunked_stream() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let connect = backend.next_connect();
    assert_ok(&send_data(&gateway, &connect.token(), "b"), BUFFERED);
    connect.answer(200, r#"{"event":{"data":"a"}}"#);
    client.read_head();
    assert_ok(&send_data(&gateway, &connect.token(), "c"), OK);
    assert_ok(&send_close(&gateway, &connect.token()), OK);
    let body = String::from_utf8(client.read_to_end()).expect("UTF-8");
    assert_eq!(body, "data: a\n\ndata: b\n\ndata: c\n\n");
    backend.assert_balanced();
}

/// Wherever a close stands, nothing behind it reaches the client; the token is gone when the stream is.
#[test]
fn a_close_stops_the_stream_where_it_stands() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let event = |data: &str| json!({"event": {"data": data}});
    let close = json!({"close": true});
    let both = |data: &str| json!({"event": {"data": data}, "close": true});
    // What is sent during the callback, what the callback is answered, and which events the client
    // sees.
    type Row = (Vec<Value>, Value, Vec<&'static str>);
    let table: [Row; 6] = [
        (vec![event("a")], close.clone(), vec![]),
        (vec![event("a")], both("x"), vec!["x"]),
        (vec![close.clone()], json!({}), vec![]),
        (
            vec![event("a"), both("b"), event("c"), both("d")],
            event("x"),
            vec!["x", "a", "b"],
        ),
        (
            vec![close.clone(), close.clone(), event("a"), json!({})],
            event("x"),
            vec!["x"],
        ),
        (vec![both("a")], both("x"), vec!["x"]),
    ];
    for (sends, answer, expected) in table {
        let (mut client, connect) = waiting(&gateway, &backend, "/");
        let token = connect.token();
        for mut command in sends {
            command["token"] = json!(token);
            assert_ok(&post_send(&gateway, &command), BUFFERED);
        }
        connect.answer(200, &answer.to_string());
        assert_eq!(client.read_head().status, 200);
        for data in expected {
            assert_eq!(client.next_event(), format!("data: {data}\n\n"), "{answer}");
        }
        client.expect_last_chunk_and_eof();
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(disconnect.reason(), "server_closed", "{answer}");
        disconnect.answer(200, "");
        assert_error(&send_data(&gateway, &token, "late"), 404, "TOKEN_NOT_FOUND");
        gateway.wait_log_all(&["[INFO]", "closed", &token, "url=/", "reason=server_closed"]);
    }
    backend.assert_balanced();
}

/// What comes behind a close in the window is checked, logged and answered like everything before it:
/// to a backend 404 means that its client is gone, and may by then mean another one.
#[test]
fn a_send_behind_a_buffered_close_is_like_any_other() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut client, connect) = waiting(&gateway, &backend, "/");
    let token = connect.token();
    assert_ok(&send_close(&gateway, &token), BUFFERED);
    assert_ok(&send_data(&gateway, &token, "nothing"), BUFFERED);
    let bad = json!({"token": token, "event": {"name": "a\nb", "data": ""}});
    assert_error(&post_send(&gateway, &bad), 400, "INVALID_EVENT_NAME");
    assert_ok(&send_close(&gateway, &token), BUFFERED);
    connect.answer(403, "");
    assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
    gateway.wait_log_all(&["connect callback", &token, "status=403"]);
    assert_error(&send_close(&gateway, &token), 404, "TOKEN_NOT_FOUND");
    // On the same output as the lines before it, and behind them.
    gateway.wait_log_all(&["[INFO]", "unknown token", &token]);
    let buffered = format!("send buffered token={token}");
    assert_eq!(gateway.count_log(&buffered), 3);
    assert_eq!(gateway.count_log("unknown token"), 1);
    backend.assert_balanced();
}

/// A backend with one thread sends from inside its connect handler; nothing may wait for the
/// answer that it cannot yet give.
#[test]
fn a_backend_with_one_thread_uses_the_token_before_it_answers() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut old, old_token) = open_stream(&gateway, &backend, "/old");
    let (mut new, connect) = waiting(&gateway, &backend, "/new");
    let token = connect.token();
    assert_ok(&send_data(&gateway, &token, "early"), BUFFERED);
    // One session, one stream: the older one has to go.
    let farewell = json!({"token": old_token, "event": {"data": "replaced"}, "close": true});
    assert_ok(&post_send(&gateway, &farewell), OK);
    assert_eq!(old.next_event(), "data: replaced\n\n");
    old.expect_last_chunk_and_eof();
    // The disconnect callback comes on the other lane and waits for nobody either.
    let disconnect = backend.next_disconnect_of(&old_token);
    assert_error(&send_close(&gateway, &old_token), 404, "TOKEN_NOT_FOUND");
    disconnect.answer(200, "");
    connect.answer(200, "");
    new.read_head();
    assert_eq!(new.next_event(), "data: early\n\n");
    new.reset();
    backend.assert_balanced();
}

#[test]
fn what_an_answers_body_may_direct() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let huge = format!(
        r#"{{"event":{{"data":"{}"}},"close":true}}"#,
        "x".repeat(1024 * 1024)
    );
    let large = format!(
        r#"{{"event":{{"data":"{}"}}}}"#,
        "x".repeat(1024 * 1024 - 100)
    );
    // Body, the event that the client gets, whether the stream is closed, whether that is logged
    // as an error.
    let table: [(&[u8], &str, bool, bool); 31] = [
        (b"", "", false, false),
        (b"{}", "", false, false),
        (b" \r\n\t{ } ", "", false, false),
        (br#"{"other":1,"token":5,"reason":null}"#, "", false, false),
        (br#"{"event":{"data":"d"}}"#, "data: d\n\n", false, false),
        (
            br#"{"event":{"name":"n","data":"a\nb"}}"#,
            "event: n\ndata: a\ndata: b\n\n",
            false,
            false,
        ),
        (
            br#"{"event":{"name":"","data":""}}"#,
            "data: \n\n",
            false,
            false,
        ),
        (
            br#"{"event":{"data":"d","more":7}}"#,
            "data: d\n\n",
            false,
            false,
        ),
        (
            br#"{"event":{"name":"n","data":"d","id":"7-1","retry":5,"key":"k"}}"#,
            "event: n\nid: 7-1\nretry: 5\ndata: d\n\n",
            false,
            false,
        ),
        (
            br#"{"event":{"data":"d","id":7,"retry":5,"key":null}}"#,
            "retry: 5\ndata: d\n\n",
            false,
            true,
        ),
        (br#"{"close":true}"#, "", true, false),
        (br#"{"close":false}"#, "", false, false),
        (
            br#"{"close":true,"event":{"data":"d"}}"#,
            "data: d\n\n",
            true,
            false,
        ),
        // A bad name drops the name, bad data the event.
        (
            br#"{"event":{"name":"a\nb","data":"d"}}"#,
            "data: d\n\n",
            false,
            true,
        ),
        (
            br#"{"event":{"name":"a\rb","data":"d"},"close":true}"#,
            "data: d\n\n",
            true,
            true,
        ),
        (
            br#"{"event":{"name":"\u0000","data":"d"}}"#,
            "data: d\n\n",
            false,
            true,
        ),
        (
            br#"{"event":{"name":7,"data":"d"}}"#,
            "data: d\n\n",
            false,
            true,
        ),
        (
            br#"{"event":{"name":null,"data":"d"}}"#,
            "data: d\n\n",
            false,
            true,
        ),
        (br#"{"event":{"name":"n"}}"#, "", false, true),
        (br#"{"event":{"data":null},"close":true}"#, "", true, true),
        (br#"{"event":{"data":{"a":1}}}"#, "", false, true),
        (br#"{"event":null}"#, "", false, true),
        (br#"{"event":"d","close":true}"#, "", true, true),
        (
            br#"{"event":{"data":"d"},"close":1}"#,
            "data: d\n\n",
            false,
            true,
        ),
        (
            br#"{"event":{"data":"d"},"close":"true"}"#,
            "data: d\n\n",
            false,
            true,
        ),
        (b"OK", "", false, true),
        (b"[]", "", false, true),
        (b"null", "", false, true),
        (br#"{"close":true"#, "", false, true),
        (
            b"{\"event\":{\"data\":\"\xff\"},\"close\":true}",
            "",
            false,
            true,
        ),
        (huge.as_bytes(), "", false, true),
    ];
    for (body, event, is_closed, is_error) in table {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        let (mut client, connect) = waiting(&gateway, &backend, "/");
        let token = connect.token();
        connect.answer_with(200, "Content-Type: text/plain\r\n", body);
        assert_eq!(client.read_head().status, 200, "{shown}");
        gateway.wait_log_all(&[
            "[INFO]",
            &format!("token={token}"),
            &format!("hasEvent={} hasClose={is_closed}", !event.is_empty()),
        ]);
        if !event.is_empty() {
            assert_eq!(client.next_event(), event, "{shown}");
        }
        if !is_closed {
            assert_ok(&send_data(&gateway, &token, "last"), OK);
            assert_ok(&send_close(&gateway, &token), OK);
            assert_eq!(client.next_event(), "data: last\n\n", "{shown}");
        }
        client.expect_last_chunk_and_eof();
        if is_error {
            gateway.wait_log_all(&["[ERROR]", "connect callback", &token]);
        }
        let errors = gateway.lines();
        let errors = errors
            .iter()
            .filter(|line| line.is_error && line.text.contains(&token));
        let errors: Vec<_> = errors.map(|line| &line.text).collect();
        assert_eq!(errors.len(), usize::from(is_error), "{shown}: {errors:?}");
        backend.next_disconnect_of(&token).answer(200, "");
    }
    // As large as may be.
    let (mut client, connect) = waiting(&gateway, &backend, "/");
    connect.answer(200, &large);
    client.read_head();
    assert_eq!(
        client.next_event().len(),
        1024 * 1024 - 100 + "data: \n\n".len()
    );
    client.reset();
    backend.assert_balanced();
}

/// How a client goes away.
type Leave = fn(Client);

/// Every way to leave during the callback ends alike.
#[test]
fn a_client_that_leaves_during_the_callback() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let leave: [(&str, Leave); 3] = [
        ("FIN", drop),
        ("reset", Client::reset),
        ("half-close", |client| {
            client.shutdown_write();
            // Kept open on this side: a FIN is enough.
            std::mem::forget(client);
        }),
    ];
    for (how, leave) in leave {
        for status in [200, 403] {
            let path = format!("/{how}/{status}");
            let (client, connect) = waiting(&gateway, &backend, &path);
            let token = connect.token();
            assert_ok(&send_data(&gateway, &token, "dropped"), BUFFERED);
            leave(client);
            let reason = "reason=client_closed";
            gateway.wait_log_all(&["[INFO]", "disconnected", &token, &path, reason]);
            assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
            connect.answer(status, "");
            gateway.wait_log_all(&["connect callback", &token, &format!("status={status}")]);
            if status == 200 {
                let disconnect = backend.next_disconnect_of(&token);
                assert_eq!(disconnect.reason(), "client_closed", "{how}");
                assert_eq!(disconnect.url(), path);
                disconnect.answer(200, "");
            }
        }
    }
    assert_eq!(gateway.count_log("stream opened"), 0);
    backend.assert_balanced();
    backend.assert_idle();
}

#[test]
fn a_queued_connect_whose_client_leaves_is_never_sent() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_WORKERS", "1")
        .start();
    let (mut first, hanging) = waiting(&gateway, &backend, "/hanging");
    for (path, leave) in [("/gone/1", drop as Leave), ("/gone/2", Client::reset)] {
        let client = gateway.get(path);
        gateway.wait_log_all(&["new connection", path]);
        leave(client);
        gateway.wait_log_all(&["disconnected", path, "reason=client_closed"]);
    }
    let third = gateway.get("/stays");
    gateway.wait_log_all(&["new connection", "/stays"]);
    hanging.answer(403, "");
    first.read_response();
    let next = backend.next();
    assert_eq!(next.url(), "/stays");
    next.answer(403, "");
    drop(third);
    backend.assert_idle();
    backend.assert_balanced();
}

#[test]
fn a_rejection_takes_back_everything() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut client, connect) = waiting(&gateway, &backend, "/");
    let token = connect.token();
    assert_ok(&send_data(&gateway, &token, "never seen"), BUFFERED);
    assert_ok(&send_close(&gateway, &token), BUFFERED);
    connect.answer(401, r#"{"event":{"data":"never seen"}}"#);
    assert_error(&client.read_response(), 401, "BACKEND_AUTH_FAILED");
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    // Nothing of it shows in the next stream of the same connection.
    client.get("/again");
    let connect = backend.next_connect_of("/again");
    assert_ne!(connect.token(), token);
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    assert_ok(&send_data(&gateway, &connect.token(), "seen"), OK);
    assert_eq!(client.next_event(), "data: seen\n\n");
    client.reset();
    assert_eq!(backend.next_disconnect().token(), connect.token());
    backend.assert_idle();
    backend.assert_balanced();
}

/// Within a second after the 504 the answer still counts, and is paid for.
#[test]
fn a_2xx_behind_the_504_is_followed_by_one_disconnect() {
    let backend = Backend::with(|callback| match callback.url() {
        "/accepted" if callback.is_connect() => {
            thread::sleep(LATE);
            callback.answer(200, r#"{"event":{"data":"x"}}"#);
        }
        "/rejected" => {
            thread::sleep(LATE);
            callback.answer(403, "");
        }
        _ => {}
    });
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let paths = ["/accepted", "/rejected", "/given-up"];
    let mut clients = paths.map(|path| gateway.get(path));
    for client in &mut clients {
        assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    }
    let [late, later, never] = paths.map(|path| backend.next_connect_of(path));
    let disconnect = backend.next_disconnect();
    assert_eq!(
        (disconnect.token(), disconnect.reason()),
        (late.token(), "error")
    );
    disconnect.answer(200, "");
    gateway.wait_log_all(&["connect callback", &later.token(), "status=403"]);
    // Later the exchange is given up: its connection ends and nothing is owed.
    never.wait_ended();
    gateway.wait_log_all(&["[ERROR]", "connect callback", &never.token(), "timeout"]);
    assert_error(
        &send_data(&gateway, &never.token(), "x"),
        404,
        "TOKEN_NOT_FOUND",
    );
    // The clients of the 504s can connect anew.
    clients.iter_mut().for_each(assert_served);
    backend.assert_idle();
    backend.assert_balanced();
}

/// The loss of an answer that comes too late for everything is in the log.
#[test]
fn a_callback_that_hangs_although_its_client_left_is_logged_as_failed() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let client = gateway.get("/left");
    let connect = backend.next_connect_of("/left");
    drop(client);
    gateway.wait_log_all(&["disconnected", &connect.token(), "reason=client_closed"]);
    let line = gateway.wait_log_all(&["connect callback failed", &connect.token()]);
    assert!(line.is_error && line.text.starts_with("[ERROR] "));
    connect.wait_ended();
    backend.assert_balanced();
}
