//! The callback workers and the backends they meet (contract, section 6, and the life of
//! connections to the backend in section 2).

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rlimit::Resource;

use crate::support::crowd::need_descriptors;
use crate::support::process::{eventually, threads};
use crate::support::{
    Backend, Callback, Client, Gateway, OK, assert_error, assert_ok, open_stream, send_close,
    send_data,
};

#[test]
fn threads_and_connections_at_rest_end() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let at_start = threads(gateway.pid());
    let streams: Vec<_> = (0..20)
        .map(|number| open_stream(&gateway, &backend, &format!("/{number}")))
        .collect();
    assert!(threads(gateway.pid()) > at_start);
    drop(streams);
    backend.assert_balanced();
    let start = Instant::now();
    for connection in 0..backend.connections() {
        backend.wait_ended(connection);
    }
    eventually("no workers", || threads(gateway.pid()) == at_start);
    // Two seconds, by default; those that ended first had theirs earlier.
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    // And they come back.
    let (_client, token) = open_stream(&gateway, &backend, "/again");
    assert_ok(&send_close(&gateway, &token), OK);
    backend.assert_balanced();
}

#[test]
fn connections_to_the_backend_are_used_again_within_their_idle_time() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    for number in 0..10 {
        let (_client, token) = open_stream(&gateway, &backend, &format!("/{number}"));
        assert_ok(&send_close(&gateway, &token), OK);
        backend.assert_balanced();
    }
    assert!(backend.connections() <= 4, "{}", backend.connections());
}

// ---- lanes ----

#[test]
fn at_most_so_many_callbacks_at_once_and_the_rest_waits_its_turn() {
    let backend = Backend::start();
    let gateway = Gateway::unhurried(&backend);
    let mut clients: Vec<Client> = (0..100).map(|n| gateway.get(&format!("/{n}"))).collect();
    let mut under_way: Vec<Callback> = (0..64).map(|_| backend.next_connect()).collect();
    // All clients are known to the gateway, and the lane is full: nobody else is asked for.
    for number in 0..100 {
        gateway.wait_log(&format!("url=/{number}"));
    }
    backend.assert_idle();
    assert_eq!(backend.connections(), 64);
    for _ in 64..100 {
        under_way.remove(0).answer(200, "");
        under_way.push(backend.next_connect());
    }
    for callback in &under_way {
        callback.answer(200, "");
    }
    for client in &mut clients {
        assert_eq!(client.read_head().status, 200);
    }
    // The same for disconnects, of which 32 go at once.
    drop(clients);
    let mut under_way: Vec<Callback> = (0..32).map(|_| backend.next_disconnect()).collect();
    eventually("all disconnects are known", || {
        gateway.count_log("[INFO] disconnected ") == 100
    });
    backend.assert_idle();
    for _ in 32..100 {
        under_way.remove(0).answer(200, "");
        under_way.push(backend.next_disconnect());
    }
    for callback in &under_way {
        callback.answer(200, "");
    }
    backend.assert_balanced();
}

#[test]
fn hanging_connects_do_not_hold_up_disconnects() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_WORKERS", "1")
        .start();
    let (client, token) = open_stream(&gateway, &backend, "/s");
    let _hanging = gateway.get("/hanging");
    let hanging = backend.next_connect_of("/hanging");
    let _queued = gateway.get("/queued");
    drop(client);
    backend.next_disconnect_of(&token).answer(200, "");
    hanging.answer(403, "");
    backend.next_connect_of("/queued").answer(403, "");
    backend.assert_balanced();
}

#[test]
fn a_full_queue_is_told_at_once() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_WORKERS", "1")
        .env("CONNECT_QUEUE", "1")
        .start();
    let mut first = gateway.get("/1");
    let callback = backend.next_connect_of("/1");
    let mut second = gateway.get("/2");
    gateway.wait_log("url=/2");
    let mut third = gateway.get("/3");
    let response = third.read_response();
    assert_error(&response, 503, "OVERLOADED");
    assert!(response.head.value("retry-after").is_some());
    gateway.wait_log_all(&["[WARN]", "limit=CONNECT_QUEUE"]);
    // A client that leaves frees its place; its connect is never sent.
    drop(second);
    gateway.wait_log_all(&["disconnected during the connect callback", "url=/2"]);
    second = gateway.get("/4");
    gateway.wait_log("url=/4");
    callback.answer(200, "");
    assert_eq!(first.read_head().status, 200);
    let next = backend.next();
    assert_eq!(next.url(), "/4");
    next.answer(200, "");
    assert_eq!(second.read_head().status, 200);
    drop((first, second));
    for _ in 0..2 {
        backend.next_disconnect().answer(200, "");
    }
    backend.assert_balanced();
    backend.assert_idle();
}

#[test]
fn a_connect_whose_time_is_over_in_the_queue_is_never_sent() {
    let backend = Backend::with(|callback| {
        if callback.is_connect() && callback.url() == "/hanging" {
            thread::sleep(crate::support::LATE);
            callback.answer(200, "");
        }
    });
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_WORKERS", "1")
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    // Jobs are taken in the order in which their requests were met.
    let mut first = gateway.get("/hanging");
    gateway.wait_log_all(&["new connection", "url=/hanging"]);
    for client in [&mut first, &mut gateway.get("/queued")] {
        assert_error(&client.read_response(), 504, "GATEWAY_TIMEOUT");
    }
    // Answered within the second of grace: paid with a disconnect.
    let hanging = backend.next_connect_of("/hanging");
    let disconnect = backend.next_disconnect();
    assert_eq!(
        (disconnect.token(), disconnect.reason()),
        (hanging.token(), "error")
    );
    disconnect.answer(200, "");
    // The only worker has been free since: what it is asked next is the next one.
    let later = gateway.get("/later");
    let next = backend.next();
    assert_eq!(next.url(), "/later");
    drop(later);
    next.answer(403, "");
    backend.assert_idle();
    backend.assert_balanced();
}

#[test]
fn a_disconnect_has_a_time_of_its_own_and_no_second_attempt() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("DISCONNECT_WORKERS", "1")
        .env("DISCONNECT_TIMEOUT_SECONDS", "2")
        .start();
    let (client, token) = open_stream(&gateway, &backend, "/s");
    let (second, second_token) = open_stream(&gateway, &backend, "/t");
    drop(client);
    let hanging = backend.next_disconnect_of(&token);
    // It waits as long for the worker as it may take: were that time counted, none would be left.
    drop(second);
    gateway.wait_log_all(&["[INFO]", "disconnected", &second_token]);
    backend.next_disconnect_of(&second_token).answer(500, "");
    let line = gateway.wait_log_all(&["[ERROR]", "disconnect callback", &token, "timeout"]);
    assert!(line.is_error);
    gateway.wait_log_all(&[
        "[ERROR]",
        "disconnect callback",
        &second_token,
        "status=500",
    ]);
    hanging.wait_ended();
    backend.assert_idle();
    backend.assert_balanced();
}

// ---- backends ----

#[test]
fn a_backend_that_dies_and_comes_back_is_used_again() {
    let mut backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let mut stream = gateway.get("/1");
    assert_eq!(stream.read_head().status, 200);
    let mut callbacks = vec![backend.next_connect_of("/1")];
    let token = callbacks[0].token();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.get("/2");
        assert_eq!(client.read_head().status, 200);
        clients.push(client);
        backend.stop_listening();
        // It takes all its connections with it.
        callbacks.push(backend.next_connect_of("/2"));
        for callback in callbacks.drain(..) {
            callback.close();
            callback.wait_ended();
        }
        // Whether on a connection that was used before or on a fresh one: both fail.
        let mut refused = gateway.get("/3");
        assert_error(&refused.read_response(), 503, "BACKEND_UNAVAILABLE");
        // What is open stays open.
        assert_ok(&send_data(&gateway, &token, "x"), OK);
        assert_eq!(stream.next_event(), "data: x\n\n");
        backend.listen();
        refused.get("/4");
        assert_eq!(refused.read_head().status, 200);
        callbacks.push(backend.next_connect_of("/4"));
        clients.push(refused);
    }
    gateway.wait_log_all(&["[ERROR]", "connect callback", "token=", "refused"]);
    drop((stream, clients));
    backend.assert_balanced();
}

/// A backend that can do one thing at a time still serves everybody.
#[test]
fn a_backend_of_one_thread() {
    let one = Mutex::new(());
    let backend = Backend::with(move |callback| {
        let _turn = one.lock().unwrap_or_else(PoisonError::into_inner);
        callback.answer(200, "");
    });
    let gateway = Gateway::of(&backend);
    let mut clients: Vec<Client> = (0..200).map(|_| gateway.get("/s")).collect();
    for client in &mut clients {
        assert_eq!(client.read_head().status, 200);
    }
    drop(clients);
    backend.assert_balanced();
    assert_eq!(backend.ledger().accepted(), 200);
}

/// Opens streams, all at once; their clients and how long it took until the last one's head.
fn open_many(gateway: &Gateway, number: usize) -> (Vec<(Client, u16)>, Duration) {
    let start = Instant::now();
    let clients: Vec<Client> = (0..number).map(|_| gateway.get("/s")).collect();
    let answered = clients
        .into_iter()
        .map(|mut client| {
            let status = client.read_head().status;
            (client, status)
        })
        .collect();
    (answered, start.elapsed())
}

#[test]
fn two_thousand_connects_at_once_to_a_slow_backend() {
    // Both ends of 2,000 connections.
    need_descriptors(4096);
    // The time that this backend takes for each is what it is, not a way to wait for something.
    let backend = Backend::with(|callback| {
        if callback.is_connect() {
            thread::sleep(Duration::from_millis(50));
        }
        callback.answer(200, "");
    });
    let gateway = Gateway::unhurried(&backend);
    let (streams, _) = open_many(&gateway, 2000);
    let opened = streams.iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(opened, 2000);
    drop(streams);
    backend.assert_balanced();
    assert_eq!(backend.ledger().accepted(), 2000);
}

#[test]
fn connects_to_a_dead_backend_are_all_answered_in_time() {
    // Both ends of 2,000 connections.
    need_descriptors(4096);
    let backend = Backend::refusing(|_| {});
    let gateway = Gateway::of(&backend);
    let (answered, time) = open_many(&gateway, 1000);
    for (_, status) in &answered {
        assert_eq!(*status, 503);
    }
    assert!(time < Duration::from_secs(8), "{time:?}");
}

#[test]
fn connects_to_a_backend_that_never_answers_are_all_answered_in_time() {
    // Both ends of 2,000 connections.
    need_descriptors(4096);
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let (answered, time) = open_many(&gateway, 1000);
    for (_, status) in &answered {
        assert_eq!(*status, 504);
    }
    assert!(time < Duration::from_secs(6), "{time:?}");
    // Those that waited behind the 64 were never sent.
    let sent = backend.waiting();
    assert!((64..500).contains(&sent), "{sent}");
    // Once the hanging exchanges are given up, a second later, everything works.
    for connection in 0..backend.connections() {
        backend.wait_ended(connection);
    }
    let (client, token) = open_stream(&gateway, &backend, "/works");
    drop(client);
    backend.next_disconnect_of(&token).answer(200, "");
    backend.assert_balanced();
}

/// The gateway, the backend and its habit under a storm of all that can happen, and the books.
#[test]
fn the_books_are_balanced_after_a_storm() {
    struct Gate(Mutex<bool>, Condvar);
    static GATE: Gate = Gate(Mutex::new(false), Condvar::new());
    let backend = Backend::with(|callback| {
        let status = match callback.url().rsplit('/').next() {
            Some("reject") => 403,
            Some("late") => {
                let is_open = GATE.0.lock().unwrap_or_else(PoisonError::into_inner);
                let wait = GATE
                    .1
                    .wait_timeout_while(is_open, crate::support::PATIENCE, |open| !*open);
                drop(wait);
                200
            }
            _ => 200,
        };
        callback.answer(status, "");
    });
    let gateway = Gateway::unhurried(&backend);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, backend) = (&gateway, &backend);
            scope.spawn(move || {
                for round in 0..25 {
                    let path = format!("/{worker}/{round}/");
                    let mut open = gateway.get(&format!("{path}open"));
                    assert_eq!(open.read_head().status, 200);
                    let token = backend.next_connect_of(&format!("{path}open")).token();
                    assert_error(
                        &gateway.get(&format!("{path}reject")).read_response(),
                        403,
                        "BACKEND_FORBIDDEN",
                    );
                    match round % 3 {
                        0 => {
                            // Some leave while the backend thinks; not so many that they keep all
                            // workers.
                            drop(gateway.get(&format!("{path}late")));
                            open.reset();
                        }
                        1 => drop(open),
                        _ => assert_ok(&send_close(gateway, &token), OK),
                    }
                }
            });
        }
    });
    *GATE.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    GATE.1.notify_all();
    // Every 2xx that is still owed comes now; behind them the lane answers once more.
    let (client, _) = open_stream(&gateway, &backend, "/last/open");
    drop(client);
    backend.assert_balanced();
    assert!(backend.ledger().accepted() >= 101);
}

/// Fewer descriptors, fewer workers: what is configured gives way, and the log says so.
#[test]
fn a_low_descriptor_limit_shrinks_the_lanes() {
    let (soft, _) = Resource::NOFILE.get().expect("a limit");
    assert!(soft > 64);
    let backend = Backend::start();
    let mut gateway = crate::support::process::Process::start(
        "ulimit -n 64; exec \"$0\"",
        &backend,
        &[("CONNECT_WORKERS", "60")],
    );
    let _clients: Vec<Client> = (0..20).map(|n| gateway.get(&format!("/{n}"))).collect();
    let callbacks: Vec<Callback> = (0..8).map(|_| backend.next_connect()).collect();
    let mut health = gateway.get("/healthz");
    assert_ok(&health.read_response(), OK);
    backend.assert_idle();
    drop(callbacks);
    let note = crate::support::process::read_line(gateway.stderr.as_mut().expect("a pipe"));
    assert!(
        note.starts_with("[WARN]") && note.contains("CONNECT_WORKERS=60"),
        "{note}"
    );
}
