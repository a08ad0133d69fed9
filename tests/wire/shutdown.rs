//! Signals (contract, section 10): what ends how, what is still delivered, and when the process
//! is gone.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::process::write_until_stuck;
use crate::support::{
    BUFFERED, Backend, Builder, Callback, Client, Gateway, OK, assert_error, assert_ok,
    assert_sent, assert_served, open_narrow, open_stream, post_send, send_close, send_data,
    send_request, signal,
};

/// Callbacks may hang as long as the test likes: only the shutdown's own time can end them.
fn untimed(backend: &Backend) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("CONNECT_TIMEOUT_SECONDS", "600")
        .env("DISCONNECT_TIMEOUT_SECONDS", "600")
        .env("STALL_TIMEOUT_SECONDS", "600")
}

/// A gateway whose shutdown has no limit in time that a test could see.
fn patient(backend: &Backend) -> Gateway {
    untimed(backend)
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start()
}

/// The log says that the shutdown has begun: streams are ended, callbacks are on their way.
fn terminate(gateway: &Gateway, name: &str) {
    gateway.signal(name);
    gateway.wait_log("[INFO] streams ended");
}

/// What the log says that a shutdown, begun a moment ago, has to wait for.
#[track_caller]
fn assert_under_way(gateway: &Gateway, connects: usize, disconnects: usize) {
    let line = gateway.wait_log("[INFO] streams ended");
    let facts = format!(" connectCallbacks={connects} disconnectCallbacks={disconnects}");
    assert!(line.ends_with(&facts), "{line}");
}

/// What the log says that it did not wait for.
#[track_caller]
fn assert_left_over(gateway: &Gateway, disconnects: usize, connects: usize) {
    let line = gateway.wait_log("[INFO] exit");
    let facts = format!(" undelivered={disconnects} unanswered={connects}");
    assert!(line.ends_with(&facts), "{line}");
}

#[track_caller]
fn assert_clean_exit(gateway: &mut Gateway) {
    assert_eq!(gateway.wait_exit().code(), Some(0), "{}", gateway.log());
}

#[test]
fn idle_gateways_end_at_once_by_either_signal() {
    for name in ["TERM", "INT"] {
        let backend = Backend::start();
        let mut gateway = patient(&backend);
        // Kept and half-spoken connections are not waited for.
        let mut kept = gateway.connect();
        assert_served(&mut kept);
        let mut half = gateway.connect();
        half.send("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{");
        let _silent = gateway.connect();
        gateway.signal(name);
        assert_clean_exit(&mut gateway);
        gateway.wait_log_all(&["[INFO]", "shutting down", &format!("SIG{name}")]);
        assert_under_way(&gateway, 0, 0);
        assert_left_over(&gateway, 0, 0);
        backend.assert_idle();
    }
}

#[test]
fn streams_end_cleanly_and_the_backend_is_told() {
    for name in ["TERM", "INT"] {
        let backend = Backend::start();
        let mut gateway = patient(&backend);
        let mut streams: Vec<_> = (0..20)
            .map(|number| open_stream(&gateway, &backend, &format!("/{number}")))
            .collect();
        // An HTTP/1.0 stream ends with its connection.
        let mut old = gateway.connect();
        old.send("GET /old HTTP/1.0\r\n\r\n");
        backend.next_connect_of("/old").answer(200, "");
        assert_eq!(old.read_head().status, 200);
        gateway.signal(name);
        for (client, _) in &mut streams {
            client.expect_last_chunk_and_eof();
        }
        old.expect_eof();
        for _ in 0..21 {
            let callback = backend.next_disconnect();
            assert_eq!(callback.reason(), "server_closed");
            callback.answer(200, "");
        }
        assert_clean_exit(&mut gateway);
        backend.assert_balanced();
        backend.assert_idle();
        let line = gateway.wait_log("shutting down");
        assert!(line.contains("streams=21"), "{line}");
        assert_under_way(&gateway, 0, 21);
        assert_left_over(&gateway, 0, 0);
    }
}

/// A disconnect that is held keeps the gateway in its last state as long as the test likes.
#[test]
fn what_is_answered_while_shutting_down() {
    let backend = Backend::start();
    let mut gateway = patient(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let mut kept = gateway.connect();
    kept.get("/readyz");
    assert_eq!(kept.read_response().status(), 200);
    terminate(&gateway, "TERM");
    let held = backend.next_disconnect_of(&token);
    stream.expect_last_chunk_and_eof();
    // On the connection that was there, and on the listener, which stays.
    for mut client in [kept, gateway.connect()] {
        client.get("/readyz");
        let response = client.read_response();
        assert_eq!(response.status(), 503);
        assert_eq!(
            response.body,
            br#"{"status":"not_ready","configured":true}"#
        );
        assert_served(&mut client);
        client.get("/new");
        assert_error(&client.read_response(), 503, "SHUTTING_DOWN");
    }
    assert_error(&send_data(&gateway, &token, "x"), 404, "TOKEN_NOT_FOUND");
    held.answer(200, "");
    assert_clean_exit(&mut gateway);
    backend.assert_balanced();
    backend.assert_idle();
}

#[test]
fn unsent_bytes_are_waited_for() {
    let backend = Backend::accepting();
    let mut gateway = untimed(&backend)
        .env("SEND_BUFFER_BYTES", "4096")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start();
    let (mut client, token) = open_narrow(&gateway, &backend, "/s", 2048);
    let data = "x".repeat(500_000);
    assert_sent(&send_data(&gateway, &token, &data));
    terminate(&gateway, "TERM");
    backend.assert_balanced();
    assert_served(&mut gateway.connect());
    assert_eq!(client.next_event().len(), data.len() + 8);
    client.expect_last_chunk_and_eof();
    assert_clean_exit(&mut gateway);
}

/// A reader that never reads cannot hold up the end.
#[test]
fn unsent_bytes_are_not_waited_for_longer_than_the_limit() {
    let backend = Backend::accepting();
    let mut gateway = untimed(&backend)
        .env("SEND_BUFFER_BYTES", "4096")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "1")
        .start();
    let (_client, token) = open_narrow(&gateway, &backend, "/s", 2048);
    assert_sent(&send_data(&gateway, &token, &"x".repeat(1_000_000)));
    let start = Instant::now();
    gateway.signal("TERM");
    backend.assert_balanced();
    assert_clean_exit(&mut gateway);
    assert!(start.elapsed() > Duration::from_millis(900));
}

#[test]
fn pending_connects_are_refused_and_a_late_2xx_is_paid_for() {
    let backend = Backend::start();
    let mut gateway = untimed(&backend)
        .env("CONNECT_WORKERS", "2")
        .env("SHUTDOWN_TIMEOUT_SECONDS", "600")
        .start();
    let (mut accepted, mut rejected) = (gateway.get("/accepted"), gateway.get("/rejected"));
    let callbacks = ["/accepted", "/rejected"].map(|url| backend.next_connect_of(url));
    // An event in the window is dropped with it.
    assert_ok(&send_data(&gateway, &callbacks[0].token(), "x"), BUFFERED);
    let mut queued: Vec<Client> = (0..5)
        .map(|n| gateway.get(&format!("/queued/{n}")))
        .collect();
    gateway.wait_log("url=/queued/4");
    terminate(&gateway, "TERM");
    // The queued ones are taken back; what is under way may still be answered.
    assert_under_way(&gateway, 2, 0);
    for client in queued.iter_mut().chain([&mut accepted, &mut rejected]) {
        assert_error(&client.read_response(), 503, "SHUTTING_DOWN");
        client.expect_eof();
    }
    assert_error(
        &send_data(&gateway, &callbacks[0].token(), "x"),
        404,
        "TOKEN_NOT_FOUND",
    );
    callbacks[0].answer(200, "");
    let disconnect = backend.next();
    assert_eq!(disconnect.token(), callbacks[0].token());
    assert_eq!(disconnect.reason(), "server_closed");
    disconnect.answer(200, "");
    callbacks[1].answer(403, "");
    // The queued ones were never sent, and nothing else is.
    assert_clean_exit(&mut gateway);
    backend.assert_balanced();
    backend.assert_idle();
}

#[test]
fn a_hanging_backend_is_waited_for_so_long_and_counted() {
    let backend = Backend::start();
    let mut gateway = untimed(&backend)
        .env("SHUTDOWN_TIMEOUT_SECONDS", "1")
        .env("DISCONNECT_WORKERS", "2")
        .start();
    let streams: Vec<_> = (0..3)
        .map(|number| open_stream(&gateway, &backend, &format!("/{number}")))
        .collect();
    let start = Instant::now();
    gateway.signal("TERM");
    let _held: [Callback; 2] = [backend.next_disconnect(), backend.next_disconnect()];
    assert_clean_exit(&mut gateway);
    let time = start.elapsed();
    let bounds = Duration::from_millis(900)..Duration::from_secs(5);
    assert!(bounds.contains(&time), "{time:?}");
    // The one that waited for a worker is no less undelivered.
    assert_under_way(&gateway, 0, 3);
    assert_left_over(&gateway, 3, 0);
    drop(streams);
}

/// None of them is under way any more when it exits, and none has arrived.
#[test]
fn disconnects_that_nobody_answered_are_counted() {
    const STREAMS: usize = 200;
    let mut backend = Backend::accepting();
    let mut gateway = untimed(&backend).start();
    let streams: Vec<_> = (0..STREAMS)
        .map(|number| open_stream(&gateway, &backend, &format!("/{number}")))
        .collect();
    backend.leave();
    gateway.signal("TERM");
    assert_clean_exit(&mut gateway);
    assert_under_way(&gateway, 0, STREAMS);
    assert_eq!(
        gateway.count_log("[ERROR] disconnect callback failed"),
        STREAMS
    );
    assert_left_over(&gateway, STREAMS, 0);
    drop(streams);
}

/// An answer is an answer: a backend that likes none of them was told of all.
#[test]
fn disconnects_that_were_answered_badly_are_delivered() {
    let backend = Backend::with(|callback| match (callback.is_connect(), callback.url()) {
        (true, _) => callback.answer(200, ""),
        (false, "/500") => callback.answer(500, ""),
        (false, "/broken") => {
            callback.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
            callback.close();
        }
        _ => callback.close(),
    });
    let mut gateway = untimed(&backend).start();
    let streams = ["/500", "/broken", "/nothing"].map(|url| open_stream(&gateway, &backend, url));
    gateway.signal("TERM");
    assert_clean_exit(&mut gateway);
    assert_left_over(&gateway, 1, 0);
    drop(streams);
}

#[test]
fn a_hanging_connect_is_waited_for_so_long() {
    let backend = Backend::start();
    let mut gateway = untimed(&backend)
        .env("SHUTDOWN_TIMEOUT_SECONDS", "1")
        .start();
    let mut client = gateway.get("/s");
    let callback = backend.next_connect();
    gateway.signal("TERM");
    assert_error(&client.read_response(), 503, "SHUTTING_DOWN");
    assert_clean_exit(&mut gateway);
    assert_under_way(&gateway, 1, 0);
    assert_left_over(&gateway, 0, 1);
    callback.wait_ended();
    backend.assert_balanced();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let either = ["TERM", "INT"];
    for (first, second) in either.into_iter().flat_map(|f| either.map(|s| (f, s))) {
        let backend = Backend::start();
        let mut gateway = patient(&backend);
        let (mut stream, _) = open_stream(&gateway, &backend, "/s");
        terminate(&gateway, first);
        let _held = backend.next_disconnect();
        stream.expect_last_chunk_and_eof();
        gateway.signal(second);
        gateway.wait_exit();
        gateway.wait_log_all(&["[INFO]", "second signal", &format!("signal=SIG{second}")]);
    }
}

#[test]
fn sigpipe_is_ignored() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    signal(gateway.pid(), "PIPE");
    assert_ok(&send_data(&gateway, &token, "x"), OK);
    assert_eq!(stream.next_event(), "data: x\n\n");
    // A client's reset, which is what a write to its connection would raise it for, ends that
    // stream and nothing else.
    stream.reset();
    assert_eq!(backend.next_disconnect_of(&token).reason(), "client_closed");
    let (mut stream, token) = open_stream(&gateway, &backend, "/t");
    assert_ok(&send_data(&gateway, &token, "y"), OK);
    assert_eq!(stream.next_event(), "data: y\n\n");
}

/// A process that was killed leaves connections in the kernel; its successor listens all the same
/// and knows nothing of it.
#[test]
fn a_killed_gateway_is_replaced_on_its_port_at_once() {
    let backend = Backend::accepting();
    let mut first = Gateway::of(&backend);
    let (mut stream, token) = open_stream(&first, &backend, "/s");
    let port = first.port();
    first.signal("KILL");
    assert_eq!(first.wait_exit().code(), None);
    let second = crate::support::process::Process::start(
        "exec \"$0\" --port \"$PORT_AGAIN\"",
        &backend,
        &[("PORT_AGAIN", &port.to_string())],
    );
    stream.read_to_end();
    let mut client = Client::connect(port);
    assert_served(&mut client);
    client.post(json!({"token": token}).to_string().as_bytes());
    assert_error(&client.read_response(), 404, "TOKEN_NOT_FOUND");
    client.get("/s");
    assert_eq!(client.read_head().status, 200);
    drop(second);
}

/// The end of one that had streams does not keep its port either.
#[test]
fn a_gateway_that_ended_by_itself_is_replaced_on_its_port_at_once() {
    let backend = Backend::accepting();
    let mut first = Gateway::of(&backend);
    let (mut stream, _) = open_stream(&first, &backend, "/s");
    let port = first.port();
    first.signal("TERM");
    stream.expect_last_chunk_and_eof();
    assert_clean_exit(&mut first);
    backend.assert_balanced();
    let settings = [("PORT_AGAIN", &*port.to_string())];
    let script = "exec \"$0\" --port \"$PORT_AGAIN\"";
    let _second = crate::support::process::Process::start(script, &backend, &settings);
    let mut client = Client::connect(port);
    client.get("/s");
    assert_eq!(client.read_head().status, 200);
}

/// A send and a close under way when the signal comes: whatever they were answered is true. A
/// disconnect that is held keeps the gateway there until each has its answer.
#[test]
fn sends_race_the_signal_and_are_answered_truly() {
    const SENDS: usize = 2000;
    let backend = Backend::start();
    let mut gateway = patient(&backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let (mut closed, closed_token) = open_stream(&gateway, &backend, "/closed");
    let mut publisher = gateway.connect();
    let mut requests = String::new();
    for number in 0..SENDS {
        let body = json!({"token": token, "event": {"data": number.to_string()}}).to_string();
        requests += &send_request(&body);
    }
    assert_ok(&send_close(&gateway, &closed_token), OK);
    let socket = publisher.stream().try_clone().expect("a descriptor");
    let writer = std::thread::spawn(move || {
        write_until_stuck(&socket, requests.as_bytes(), crate::support::PATIENCE);
    });
    for _ in 0..500 {
        assert_ok(&publisher.read_response(), OK);
    }
    gateway.signal("TERM");
    let answers: Vec<_> = (500..SENDS).map(|_| publisher.read_response()).collect();
    let oks = 500 + answers.iter().take_while(|a| a.status() == 200).count();
    for refused in &answers[oks - 500..] {
        assert_error(refused, 404, "TOKEN_NOT_FOUND");
    }
    writer.join().expect("no panic");
    closed.expect_last_chunk_and_eof();
    // What was answered 200 has arrived, and nothing else, in order and up to a clean end.
    let mut events = 0;
    loop {
        let chunk = stream.next_chunk();
        if chunk.is_empty() {
            break;
        }
        assert_eq!(
            String::from_utf8_lossy(&chunk),
            format!("data: {events}\n\n")
        );
        events += 1;
    }
    stream.expect_eof();
    assert_eq!(events, oks);
    for token in [&closed_token, &token] {
        backend.next_disconnect_of(token).answer(200, "");
    }
    assert_clean_exit(&mut gateway);
    backend.assert_balanced();
    assert_eq!(backend.ledger().reasons(&closed_token), ["server_closed"]);
}

#[test]
fn without_a_callback_url_it_ends_as_well() {
    let mut gateway = Gateway::builder().start();
    assert_error(
        &gateway.get("/s").read_response(),
        503,
        "SERVICE_NOT_CONFIGURED",
    );
    let unknown = json!({"token": "x"});
    assert_error(&post_send(&gateway, &unknown), 404, "TOKEN_NOT_FOUND");
    gateway.signal("TERM");
    assert_clean_exit(&mut gateway);
}
