//! Contract, section 2, step 4: what the client gets for each thing that a backend may do.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Backend, Callback, Gateway, LATE, Response, assert_error, assert_ok, assert_served,
    open_stream, send_data,
};

/// A rejected stream's answer: no trace of a stream, nothing passed on from the backend.
#[track_caller]
fn assert_rejection(response: &Response, status: u16, code: &str) {
    assert_error(response, status, code);
    for name in ["location", "cache-control", "x-accel-buffering", "x-own"] {
        assert_eq!(response.head.value(name), None, "{}", response.text());
    }
}

/// Nothing of the token is left, and there was no disconnect callback.
#[track_caller]
fn assert_forgotten(gateway: &Gateway, backend: &Backend, token: &str) {
    assert_error(&send_data(gateway, token, "x"), 404, "TOKEN_NOT_FOUND");
    backend.assert_idle();
}

#[test]
fn every_2xx_opens_the_stream() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let answers: [&[u8]; 10] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nLocation: /x\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 205 Reset Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n",
        // Interim answers come before the one that counts.
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    for answer in answers {
        let mut client = gateway.get("/");
        let connect = backend.next_connect();
        connect.note_accepted();
        connect.write(answer);
        if answer.starts_with(b"HTTP/1.0") {
            connect.close();
        }
        let head = client.read_head();
        assert_eq!(head.status, 200, "{}", String::from_utf8_lossy(answer));
        assert_eq!(head.value("location"), None);
        client.reset();
        backend.next_disconnect_of(&connect.token()).answer(200, "");
    }
    backend.assert_balanced();
}

#[test]
fn any_other_status_is_passed_on() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let elsewhere = Backend::start();
    let location = format!("Location: {}\r\nX-Own: 1\r\n", elsewhere.url());
    let table = [
        (300, 300, "BACKEND_ERROR"),
        (301, 301, "BACKEND_ERROR"),
        (302, 302, "BACKEND_ERROR"),
        (303, 303, "BACKEND_ERROR"),
        (307, 307, "BACKEND_ERROR"),
        (308, 308, "BACKEND_ERROR"),
        (400, 400, "BACKEND_ERROR"),
        (401, 401, "BACKEND_AUTH_FAILED"),
        (403, 403, "BACKEND_FORBIDDEN"),
        (404, 404, "BACKEND_ERROR"),
        (407, 407, "BACKEND_ERROR"),
        (408, 408, "BACKEND_ERROR"),
        (417, 417, "BACKEND_ERROR"),
        (429, 429, "BACKEND_ERROR"),
        (499, 499, "BACKEND_ERROR"),
        (500, 500, "BACKEND_ERROR"),
        (503, 503, "BACKEND_ERROR"),
        (599, 599, "BACKEND_ERROR"),
        (600, 502, "BACKEND_ERROR"),
        (799, 502, "BACKEND_ERROR"),
        (999, 502, "BACKEND_ERROR"),
    ];
    let mut client = gateway.connect();
    for (status, passed_on, code) in table {
        client.get("/");
        let connect = backend.next_connect();
        let event = r#"{"event":{"data":"x"},"close":true}"#;
        connect.answer_with(status, &location, event.as_bytes());
        assert_rejection(&client.read_response(), passed_on, code);
        let token = connect.token();
        let line = gateway.wait_log_all(&["connect callback", &token, &format!("status={status}")]);
        assert!(
            line.is_error && line.text.starts_with("[ERROR] "),
            "{line:?}"
        );
        assert_forgotten(&gateway, &backend, &token);
    }
    // A 304 has no body, whatever its fields say.
    client.get("/");
    let connect = backend.next_connect();
    connect.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
    assert_rejection(&client.read_response(), 502, "BACKEND_ERROR");
    gateway.wait_log_all(&["[ERROR]", &connect.token(), "status=304"]);
    // An interim status that nothing follows.
    for status in [101, 103, 199] {
        client.get("/");
        let connect = backend.next_connect();
        connect.write(format!("HTTP/1.1 {status} Interim\r\n\r\n").as_bytes());
        connect.close();
        assert_rejection(&client.read_response(), 502, "BACKEND_ERROR");
        assert_forgotten(&gateway, &backend, &connect.token());
    }
    assert_served(&mut client);
    assert_eq!(elsewhere.connections(), 0);
}

/// What can go wrong with an answer on a connection that was made for it.
type Failure = fn(&Callback);

#[test]
fn no_http_answer_is_503_and_is_not_tried_again() {
    let failures: [(&str, Failure); 11] = [
        ("reset", |c| c.reset()),
        ("closed", |c| c.close()),
        ("garbage", |c| {
            c.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
        }),
        ("binary", |c| {
            c.write(b"\x16\x03\x01\0\xff\r\n\r\n");
        }),
        ("HTTP/2", |c| {
            c.write(b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n");
        }),
        ("bad status", |c| {
            c.write(b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n");
        }),
        ("bad field", |c| {
            c.write(b"HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n");
        }),
        ("bad length", |c| {
            c.write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n");
        }),
        ("half a head", |c| {
            c.write(b"HTTP/1.1 200 OK\r\nContent-Le");
            c.close();
        }),
        ("half a refusal", |c| {
            c.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n{");
            c.close();
        }),
        ("half a refusal, reset", |c| {
            c.write(b"HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{");
            c.reset();
        }),
    ];
    for (name, failure) in failures {
        let backend = Backend::start();
        let gateway = Gateway::of(&backend);
        let mut client = gateway.get("/");
        let connect = backend.next_connect();
        failure(&connect);
        let response = client.read_response();
        assert_eq!(response.status(), 503, "{name}: {}", response.text());
        assert_rejection(&response, 503, "BACKEND_UNAVAILABLE");
        let token = connect.token();
        let line = gateway.wait_log_all(&["[ERROR]", "connect callback", &token, "error="]);
        assert!(line.is_error);
        assert_forgotten(&gateway, &backend, &token);
        assert_eq!(backend.connections(), 1, "{name}");
        assert_served(&mut client);
    }
}

const SIZED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{";
const CHUNKED: &[u8] = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n";

/// A 2xx whose body never becomes whole.
#[track_caller]
fn accept_in_part(connect: &Callback, bytes: &[u8]) {
    connect.note_accepted();
    assert!(connect.write(bytes));
}

/// The one disconnect that pays for a 2xx, and nothing left of the token.
#[track_caller]
fn assert_paid(gateway: &Gateway, backend: &Backend, token: &str, reason: &str) {
    let disconnect = backend.next_disconnect_of(token);
    assert_eq!(disconnect.reason(), reason);
    disconnect.answer(200, "");
    gateway.wait_log_all(&["[INFO] disconnect callback answered", token]);
    assert_forgotten(gateway, backend, token);
    assert_eq!(backend.ledger().reasons(token), [reason]);
}

/// The backend has said 2xx and keeps the token in its book, whatever became of the rest.
#[test]
fn a_2xx_whose_body_breaks_off_is_503_and_is_paid() {
    let failures: [(&str, Failure); 8] = [
        ("sized, closed", |c| {
            accept_in_part(c, SIZED);
            c.close();
        }),
        ("sized, reset", |c| {
            accept_in_part(c, SIZED);
            c.reset();
        }),
        ("none of it", |c| {
            accept_in_part(c, b"HTTP/1.1 299 \r\nContent-Length: 9\r\n\r\n");
            c.close();
        }),
        ("chunked, closed", |c| {
            accept_in_part(c, CHUNKED);
            c.close();
        }),
        ("chunked, reset", |c| {
            accept_in_part(c, CHUNKED);
            c.reset();
        }),
        ("bad chunk", |c| {
            accept_in_part(c, &[CHUNKED, b"xyz\r\n"].concat());
        }),
        ("until the end, reset", |c| {
            accept_in_part(c, b"HTTP/1.0 200 OK\r\n\r\n{");
            c.reset();
        }),
        ("behind an interim answer", |c| {
            accept_in_part(c, &[b"HTTP/1.1 103 X\r\n\r\n", SIZED].concat());
            c.close();
        }),
    ];
    for (name, failure) in failures {
        let backend = Backend::start();
        let gateway = Gateway::of(&backend);
        let mut client = gateway.get("/");
        let connect = backend.next_connect();
        failure(&connect);
        let response = client.read_response();
        assert_eq!(response.status(), 503, "{name}: {}", response.text());
        assert_rejection(&response, 503, "BACKEND_UNAVAILABLE");
        let token = connect.token();
        let line = gateway.wait_log_all(&["connect callback", &token, "status=2", "error="]);
        assert!(
            line.is_error && line.text.starts_with("[ERROR] "),
            "{line:?}"
        );
        assert_paid(&gateway, &backend, &token, "error");
        assert_served(&mut client);
        backend.assert_balanced();
    }
}

#[test]
fn a_client_that_leaves_a_2xx_in_its_body_is_paid_with_its_own_reason() {
    let endings: [Failure; 3] = [
        |c| c.close(),
        |c| c.reset(),
        // The worker gives it up, a second after its client would have.
        |_| {},
    ];
    for ending in endings {
        let backend = Backend::start();
        let gateway = Gateway::builder()
            .backend(&backend)
            .env("CONNECT_TIMEOUT_SECONDS", "1")
            .start();
        let client = gateway.get("/");
        let connect = backend.next_connect();
        accept_in_part(&connect, CHUNKED);
        client.reset();
        let token = connect.token();
        gateway.wait_log_all(&["disconnected during the connect callback", &token]);
        backend.assert_idle();
        ending(&connect);
        gateway.wait_log_all(&["[ERROR] connect callback", &token, "status=201", "error="]);
        assert_paid(&gateway, &backend, &token, "client_closed");
        backend.assert_balanced();
    }
}

#[test]
fn a_backend_that_cannot_be_reached_is_503() {
    let closed = Backend::refusing(|_| {});
    // A label of more than 63 letters is no name, which needs no server to find out.
    let long = format!("http://{}.invalid/", "a".repeat(64));
    for url in [closed.url(), long] {
        let gateway = Gateway::builder().env("CALLBACK_URL", &url).start();
        let mut client = gateway.get("/");
        assert_rejection(&client.read_response(), 503, "BACKEND_UNAVAILABLE");
        gateway.wait_log_all(&["[ERROR]", "connect callback", "token=", "error="]);
        assert_served(&mut client);
    }
}

/// Bytes that never add up to an answer, one at a time; ends with the connection.
fn trickle(connect: Arc<Callback>) {
    let (hold, ticks) = channel::<()>();
    connect.note_accepted();
    thread::spawn(move || {
        connect.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        // The pace is the stimulus: each byte comes well within any time-out for one read.
        while let Err(RecvTimeoutError::Timeout) = ticks.recv_timeout(Duration::from_millis(50)) {
            if !connect.write(b" ") {
                break;
            }
        }
        drop(hold);
    });
}

#[test]
fn no_whole_answer_in_time_is_504() {
    let backend = Backend::start();
    // Time enough for a send within the window, however busy the host.
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "3")
        .start();
    let stages: [Option<&[u8]>; 6] = [
        None,
        Some(b"HTTP/1.1 200 OK\r\nContent-"),
        Some(SIZED),
        Some(CHUNKED),
        Some(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        Some(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n{"),
    ];
    let start = Instant::now();
    let (mut clients, mut accepted) = (Vec::new(), Vec::new());
    for (at, stage) in stages.into_iter().enumerate() {
        let path = format!("/{at}");
        clients.push(gateway.get(&path));
        let connect = backend.next_connect_of(&path);
        match stage {
            Some(bytes @ (SIZED | CHUNKED)) => {
                accept_in_part(&connect, bytes);
                accepted.push(connect.token());
            }
            Some(bytes) => {
                connect.write(bytes);
            }
            None => {}
        }
        if at == 2 {
            // Sends meanwhile are dropped with it.
            let answer = send_data(&gateway, &connect.token(), "x");
            assert_ok(&answer, crate::support::BUFFERED);
        }
    }
    clients.push(gateway.get("/trickle"));
    let connect = backend.next_connect_of("/trickle");
    accepted.push(connect.token());
    trickle(Arc::new(connect));
    for client in &mut clients {
        let response = client.read_response();
        assert_rejection(&response, 504, "GATEWAY_TIMEOUT");
        let took = start.elapsed();
        let bounds = Duration::from_millis(2900)..Duration::from_secs(7);
        assert!(bounds.contains(&took), "{took:?}");
        assert_served(client);
    }
    gateway.wait_log_all(&["[ERROR]", "connect callback", "token=", "error=timeout"]);
    for token in accepted {
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(disconnect.reason(), "error");
        disconnect.answer(200, "");
        let told = ["[ERROR] connect callback", &token, "status=2", "error="];
        gateway.wait_log_all(&told);
        gateway.wait_log_all(&["[INFO] disconnect callback answered", &token]);
    }
    backend.assert_balanced();
    backend.assert_idle();
}

/// A protocol that nobody asked to switch to is no HTTP answer to wait behind.
#[test]
fn switching_protocols_is_502_at_once() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let mut client = gateway.get("/");
    let connect = backend.next_connect();
    connect.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    assert_rejection(&client.read_response(), 502, "BACKEND_ERROR");
}

/// Of the interim statuses three are known, and a head of its own follows each of them; behind one
/// that nobody has defined none is waited for.
#[test]
fn an_undefined_interim_status_is_502_at_once() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.get("/");
    let connect = backend.next_connect();
    connect.write(b"HTTP/1.1 199 What\r\nContent-Length: 0\r\n\r\n");
    assert_rejection(&client.read_response(), 502, "BACKEND_ERROR");
    connect.wait_ended();
    backend.assert_idle();
    let mut client = gateway.get("/");
    let connect = backend.next_connect();
    connect.write(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    connect.answer(200, "");
    client.read_head();
    drop(client);
    backend.assert_balanced();
}

#[test]
fn every_504_is_logged_as_an_error() {
    let backend = Backend::with(|callback| {
        if callback.is_connect() && callback.url() == "/late" {
            thread::sleep(LATE);
            callback.answer(200, "");
        }
    });
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .env("CONNECT_WORKERS", "2")
        .start();
    let token = |path: &str| {
        let line = gateway
            .wait_log_all(&["new connection", &format!("url=/{path}")])
            .text;
        let token = line.split("token=").nth(1).expect("a token");
        token.split(' ').next().expect("a token").to_owned()
    };
    let mut hanging = gateway.get("/hanging");
    backend.next_connect_of("/hanging");
    // Requests are met in the order of their lines in the log: the third finds both workers busy.
    let mut late = gateway.get("/late");
    token("late");
    let mut queued = gateway.get("/queued");
    for client in [&mut late, &mut hanging, &mut queued] {
        assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    }
    backend.next_disconnect_of(&token("late")).answer(200, "");
    for path in ["hanging", "late", "queued"] {
        gateway.wait_log_all(&["[ERROR]", &token(path)]);
    }
    backend.assert_balanced();
}

/// The defaults of both time limits, side by side.
#[test]
fn five_seconds_unless_told_otherwise() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (stream, token) = open_stream(&gateway, &backend, "/stream");
    let assert_five = |since: Instant, what: &str| {
        let bounds = Duration::from_millis(4800)..Duration::from_secs(8);
        let took = since.elapsed();
        assert!(bounds.contains(&took), "{what}: {took:?}");
    };
    let start = Instant::now();
    stream.reset();
    let hanging = backend.next_disconnect_of(&token);
    // Each is timed when it comes, whichever is first.
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let mut client = gateway.get("/");
            assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
            assert_five(start, "connect");
        });
        gateway.wait_log_all(&["[ERROR]", "disconnect callback", &token, "error=timeout"]);
        assert_five(start, "disconnect");
    });
    hanging.wait_ended();
    backend.assert_balanced();
}
