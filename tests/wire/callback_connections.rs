//! Connections to the backend that are used again, and what may go wrong with one meanwhile
//! (contract, section 2, step 4).

use crate::support::{Backend, Gateway, OK, assert_error, assert_ok, open_stream, send_data};

#[test]
fn a_stale_connection_costs_no_client_anything() {
    stale_connections(Backend::start);
}

/// How a backend may take leave of a connection that it has kept.
pub(super) fn stale_connections(start: impl Fn() -> Backend) {
    for how in [
        "closed behind the answer",
        "reset by the next",
        "closed by the next",
        // What came is no whole answer head, and decides nothing.
        "closed within the head",
        "closed behind an interim head",
    ] {
        let backend = start();
        let gateway = Gateway::builder()
            .backend(&backend)
            .one_worker_each()
            .start();
        let mut client = gateway.get("/first");
        let first = backend.next_connect_of("/first");
        first.answer(403, "");
        if how == "closed behind the answer" {
            first.close();
        }
        assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
        client.get("/second");
        let mut second = backend.next_connect_of("/second");
        if how != "closed behind the answer" {
            assert_eq!(second.connection, first.connection, "{how}: it was kept");
            let begun: &[u8] = match how {
                "closed within the head" => b"HTTP/1.1 200 OK\r\nContent-Le",
                "closed behind an interim head" => b"HTTP/1.1 103 Early Hints\r\n\r\n",
                _ => b"",
            };
            second.write(begun);
            match how {
                "reset by the next" => second.reset(),
                _ => second.close(),
            }
            let again = backend.next_connect_of("/second");
            assert_eq!(again.text(), second.text(), "{how}: the same callback");
            second = again;
        }
        assert_eq!(second.connection, 1, "{how}: a fresh connection");
        second.answer(200, "");
        assert_eq!(client.read_head().status, 200, "{how}");
        assert_ok(&send_data(&gateway, &second.token(), "x"), OK);
        assert_eq!(client.next_event(), "data: x\n\n");
        client.reset();
        backend.assert_balanced();
    }
}

/// Once more means once; and an answer's head, once there, is the backend's word.
#[test]
fn a_stale_connection_is_no_reason_to_go_on_trying() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .one_worker_each()
        .start();
    let mut client = gateway.get("/first");
    backend.next_connect().answer(403, "");
    client.read_response();
    client.get("/twice");
    for connection in [0, 1] {
        let connect = backend.next_connect_of("/twice");
        assert_eq!(connect.connection, connection);
        connect.reset();
    }
    assert_error(&client.read_response(), 503, "BACKEND_UNAVAILABLE");
    client.get("/third");
    backend.next_connect_of("/third").answer(403, "");
    client.read_response();
    client.get("/head");
    let connect = backend.next_connect_of("/head");
    assert_eq!(connect.connection, 2);
    connect.note_accepted();
    connect.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
    let token = connect.token();
    connect.close();
    assert_error(&client.read_response(), 503, "BACKEND_UNAVAILABLE");
    // That word was a stream, which is over; the disconnect has a connection of its own.
    backend.next_disconnect_of(&token).answer(200, "");
    backend.assert_idle();
    assert_eq!(backend.connections(), 4);
}

#[test]
fn idle_connections_to_the_backend_are_closed() {
    let backend = Backend::accepting();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("WORKER_IDLE_SECONDS", "1")
        .start();
    let (client, token) = open_stream(&gateway, &backend, "/");
    client.reset();
    backend.next_disconnect_of(&token);
    // Two lanes, a connection each.
    backend.wait_ended(0);
    backend.wait_ended(1);
    assert_eq!(backend.connections(), 2);
    backend.assert_balanced();
}

/// The answer to one callback is never taken for that to the next, whatever a backend writes.
#[test]
fn what_a_backend_writes_out_of_turn_decides_nothing() {
    let extra: [(&str, &[u8]); 5] = [
        (
            "a second answer",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("a second answer's begin", b"HTTP/1.1 200 OK\r\n"),
        ("a body too long", b"{\"close\":true}"),
        (
            "an idle time-out",
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
        ),
        ("a line end", b"\r\n"),
    ];
    for (name, bytes) in extra {
        for in_one_write in [true, false] {
            // It may see the second callback twice, and answers it alike.
            let backend = Backend::with(|callback| {
                if callback.url() == "/second" {
                    callback.answer(401, "");
                }
            });
            let gateway = Gateway::builder()
                .backend(&backend)
                .one_worker_each()
                .start();
            let mut client = gateway.get("/first");
            let first = backend.next_connect();
            let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
            if in_one_write {
                first.write(&[answer, bytes].concat());
                assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
            } else {
                first.write(answer);
                assert_error(&client.read_response(), 403, "BACKEND_FORBIDDEN");
                first.write(bytes);
            }
            client.get("/second");
            let response = client.read_response();
            assert_eq!(response.status(), 401, "{name}: {}", response.text());
        }
    }
}
