//! Contract, section 3, and the lifecycle law at large: when the backend learns of an end, how
//! often, and what that may delay.

use std::thread;

use serde_json::json;

use crate::support::{
    Backend, Client, Gateway, OK, assert_error, assert_ok, open_stream, post_send, send_close,
    send_data,
};

/// How a stream ends, given the gateway, the client and the token.
type End = fn(&Gateway, Client, &str);

#[test]
fn every_reason() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let ends: [(&str, &str, End); 6] = [
        ("FIN", "client_closed", |_, client, _| drop(client)),
        ("reset", "client_closed", |_, client, _| client.reset()),
        ("half-close", "client_closed", |_, mut client, _| {
            client.shutdown_write();
            client.expect_eof_or_reset();
        }),
        ("close", "server_closed", |gateway, mut client, token| {
            assert_ok(&send_close(gateway, token), OK);
            client.expect_last_chunk_and_eof();
        }),
        (
            "event and close",
            "server_closed",
            |gateway, mut client, token| {
                let command = json!({"token": token, "event": {"data": "x"}, "close": true});
                assert_ok(&post_send(gateway, &command), OK);
                assert_eq!(client.next_event(), "data: x\n\n");
                client.expect_last_chunk_and_eof();
            },
        ),
        ("flood", "error", |_, mut client, _| {
            // Some of it is refused when the reset comes.
            client.try_send(&[b'x'; 256 * 1024]);
            client.expect_reset();
        }),
    ];
    for (name, reason, end) in ends {
        let path = format!("/{}", name.replace(' ', "-"));
        let (client, token) = open_stream(&gateway, &backend, &path);
        end(&gateway, client, &token);
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(
            disconnect.text(),
            format!(
                r#"{{"action":"disconnect","reason":"{reason}","token":"{token}","request":{{"url":"{path}","headers":{{"host":"h"}}}}}}"#
            )
        );
        // The token was forgotten before the callback was sent.
        assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
        gateway.wait_log_all(&[&token, &format!("url={path} reason={reason}")]);
        disconnect.answer(204, "");
        gateway.wait_log_all(&["[INFO]", "disconnect callback", &token, "status=204"]);
    }
    backend.assert_idle();
    backend.assert_balanced();
}

/// One attempt, whatever the answer; what it directs cannot be applied.
#[test]
fn the_answer_changes_nothing() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let elsewhere = Backend::start();
    let location = format!("Location: {}\r\n", elsewhere.url());
    for status in [200, 202, 302, 307, 400, 404, 408, 500, 503, 600] {
        let (client, token) = open_stream(&gateway, &backend, "/");
        client.reset();
        let disconnect = backend.next_disconnect_of(&token);
        disconnect.answer_with(status, &location, b"");
        let level = if status < 300 { "[INFO]" } else { "[ERROR]" };
        let status = format!("status={status}");
        gateway.wait_log_all(&[level, "disconnect callback", &token, &status]);
    }
    let (mut other, other_token) = open_stream(&gateway, &backend, "/other");
    let directives = [
        r#"{"close":true}"#,
        r#"{"event":{"data":"x"}}"#,
        r#"{"event":{"name":"n","data":"x"},"close":true}"#,
    ];
    for body in directives {
        let (client, token) = open_stream(&gateway, &backend, "/");
        client.reset();
        backend.next_disconnect_of(&token).answer(200, body);
        let line = gateway.wait_log_all(&["[WARN]", &format!("token={token}")]);
        assert!(line.is_error, "{line:?}");
    }
    for body in ["OK", "[1]", r#"{"close":"x"}"#] {
        let (client, token) = open_stream(&gateway, &backend, "/");
        client.reset();
        backend.next_disconnect_of(&token).answer(200, body);
        gateway.wait_log_all(&["[ERROR]", "disconnect callback", &token]);
    }
    // Nobody else was closed or written to.
    assert_ok(&send_data(&gateway, &other_token, "still"), OK);
    assert_eq!(other.next_event(), "data: still\n\n");
    other.reset();
    backend.next_disconnect_of(&other_token).answer(200, "");
    gateway.wait_log_all(&["disconnect callback", &other_token]);
    backend.assert_idle();
    backend.assert_balanced();
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_failure_is_logged_and_not_tried_again() {
    let mut backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .one_worker_each()
        .start();
    let (first, first_token) = open_stream(&gateway, &backend, "/reset");
    let (second, second_token) = open_stream(&gateway, &backend, "/refused");
    first.reset();
    // The first one on this lane: its connection is fresh.
    let disconnect = backend.next_disconnect_of(&first_token);
    assert_eq!(disconnect.connection, 1);
    disconnect.reset();
    gateway.wait_log_all(&["[ERROR]", "disconnect callback", &first_token, "error="]);
    backend.leave();
    second.reset();
    gateway.wait_log_all(&["[ERROR]", "disconnect callback", &second_token, "error="]);
    backend.listen();
    let (third, third_token) = open_stream(&gateway, &backend, "/delivered");
    third.reset();
    backend.next_disconnect_of(&third_token).answer(200, "");
    gateway.wait_log_all(&["[INFO]", "disconnect callback", &third_token]);
    backend.assert_idle();
}

#[test]
fn a_stale_connection_is_no_failure() {
    for is_reset in [false, true] {
        let backend = Backend::start();
        let gateway = Gateway::builder()
            .backend(&backend)
            .one_worker_each()
            .start();
        let (first, first_token) = open_stream(&gateway, &backend, "/first");
        let (second, second_token) = open_stream(&gateway, &backend, "/second");
        first.reset();
        backend.next_disconnect_of(&first_token).answer(200, "");
        gateway.wait_log_all(&["disconnect callback answered", &first_token]);
        second.reset();
        let lost = backend.next_disconnect_of(&second_token);
        assert_eq!(lost.connection, 1, "it was kept");
        match is_reset {
            true => lost.reset(),
            false => lost.close(),
        }
        let again = backend.next_disconnect_of(&second_token);
        assert_eq!((again.connection, again.text()), (2, lost.text()));
        again.answer(200, "");
        gateway.wait_log_all(&["[INFO]", "disconnect callback answered", &second_token]);
        assert_eq!(gateway.count_log("[ERROR]"), 0);
        backend.assert_balanced();
    }
}

#[test]
fn a_hanging_disconnect_delays_nothing_but_disconnects() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("DISCONNECT_WORKERS", "1")
        .start();
    let (first, first_token) = open_stream(&gateway, &backend, "/first");
    first.reset();
    let hanging = backend.next_disconnect_of(&first_token);
    for path in ["/1", "/2", "/3"] {
        let (mut client, token) = open_stream(&gateway, &backend, path);
        assert_ok(&send_data(&gateway, &token, "x"), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
        assert_ok(&send_close(&gateway, &token), OK);
        client.expect_last_chunk_and_eof();
        assert_error(&send_close(&gateway, &token), 404, "TOKEN_NOT_FOUND");
    }
    backend.assert_idle();
    hanging.answer(200, "");
    for path in ["/1", "/2", "/3"] {
        let next = backend.next();
        assert_eq!((next.url(), next.reason()), (path, "server_closed"));
        next.answer(200, "");
    }
    backend.assert_balanced();
}

#[test]
fn a_disconnect_that_takes_too_long_is_given_up() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .one_worker_each()
        .env("DISCONNECT_TIMEOUT_SECONDS", "2")
        .start();
    let (first, first_token) = open_stream(&gateway, &backend, "/first");
    let (second, second_token) = open_stream(&gateway, &backend, "/second");
    first.reset();
    backend.next_disconnect_of(&first_token).answer(200, "");
    gateway.wait_log_all(&["disconnect callback answered", &first_token]);
    second.reset();
    // On a kept connection, where a time-out is no reason to send it once more.
    let hanging = backend.next_disconnect_of(&second_token);
    assert_eq!(hanging.connection, 1);
    hanging.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{");
    gateway.wait_log_all(&[
        "[ERROR]",
        "disconnect callback",
        &second_token,
        "error=timeout",
    ]);
    hanging.wait_ended();
    backend.assert_idle();
    backend.assert_balanced();
}

/// The law under a crowd: clients that leave at every moment of the callback window, a backend
/// that answers late, both ways, and much at once.
#[test]
fn the_law_holds_in_a_crowd() {
    const HANGING: usize = 60;
    const LEAVING: usize = 300;
    let backend = Backend::with(|callback| {
        if !callback.url().starts_with("/hanging") || !callback.is_connect() {
            callback.answer(200, "");
        }
    });
    let mut gateway = Gateway::unhurried(&backend);
    let hanging: Vec<_> = (0..HANGING)
        .map(|at| {
            let path = format!("/hanging/{at}");
            let client = gateway.get(&path);
            (client, backend.next_connect_of(&path))
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for at in 0..LEAVING / 4 {
                    let mut client = gateway.get("/leaving");
                    match at % 4 {
                        0 => drop(client),
                        1 => client.reset(),
                        2 => client.shutdown_write(),
                        _ => {
                            client.read_head();
                        }
                    }
                }
            });
        }
    });
    for (at, (client, connect)) in hanging.into_iter().enumerate() {
        // Half leave before the answer; half of the answers are rejections.
        let status = if at % 2 == 0 { 200 } else { 403 };
        match at % 4 {
            0 | 1 => {
                client.reset();
                gateway.wait_log_all(&["disconnected", &connect.token()]);
                connect.answer(status, "");
            }
            2 => {
                connect.answer(status, "");
                drop(client);
            }
            _ => {
                connect.answer(status, r#"{"close":true}"#);
                let mut client = client;
                client.read_response();
            }
        }
    }
    // Once every client's end is known, a shutdown delivers what is owed; at its end the account
    // is final.
    backend.assert_balanced();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    backend.assert_balanced();
    assert!(gateway.log().contains("undelivered=0"), "{}", gateway.log());
    assert!(backend.ledger().accepted() >= HANGING / 2 + LEAVING / 4);
}
