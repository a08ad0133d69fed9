//! Peers that vanish (contract, section 6): no FIN, no reset, nothing. The client is in a network
//! namespace of the test's own, at the far end of a wire that is cut.
//!
//! Needs the right to make namespaces (root), `ip` of iproute2 and bash, and fails without them:
//!
//! ```text
//! cargo test --test system vanished:: -- --ignored
//! ```

use std::time::{Duration, Instant};

use super::netns::{Far, FarClient, Loss, within};
use crate::support::{
    Backend, Builder, Gateway, OK, assert_error, assert_ok, assert_sent, open_stream, send_data,
};

const SECOND: Duration = Duration::from_secs(1);
const PEER_TIMEOUT: Duration = Duration::from_secs(3);
/// The kernel looks at a connection's time-out when it retransmits or probes, and the wait between
/// two tries is at most the time-out itself; the rest is the host's noise.
const LATEST: Duration = Duration::from_secs(7);
/// Who waits for a peer that vanished just now waits for its time-out, a second less if its last
/// sign of life was earlier. Nobody else does, however busy the host.
const AT_ONCE: Duration = Duration::from_secs(2);

fn builder(backend: &Backend, heartbeat: &str, keepalive_idle: &str) -> Builder {
    Gateway::builder()
        .backend(backend)
        .env("PEER_TIMEOUT_SECONDS", "3")
        .env("HEARTBEAT_INTERVAL_SECONDS", heartbeat)
        .env("KEEPALIVE_IDLE_SECONDS", keepalive_idle)
        .env("KEEPALIVE_INTERVAL_SECONDS", "1")
}

/// A stream whose client is far.
fn open_far(gateway: &Gateway, backend: &Backend, far: &Far, path: &str) -> (FarClient, String) {
    let client = far.get(gateway.port(), path);
    let callback = backend.next_connect_of(path);
    callback.answer(200, "");
    client.wait_text("\r\n\r\n");
    (client, callback.token())
}

/// The one disconnect of a stream whose peer vanished at `start`.
fn expect_lost(gateway: &Gateway, backend: &Backend, token: &str, start: Instant) {
    let disconnect = backend.next_disconnect_of(token);
    let elapsed = start.elapsed();
    println!("lost after {elapsed:.2?}");
    assert_eq!(disconnect.reason(), "error");
    disconnect.answer(200, "");
    // One second less: the last sign of life may have been that much before the cut.
    assert!(elapsed > PEER_TIMEOUT - SECOND, "{elapsed:?}");
    assert!(elapsed < LATEST, "{elapsed:?}");
    assert_error(&send_data(gateway, token, "x"), 404, "TOKEN_NOT_FOUND");
}

/// A far stream is lost and a near one feels nothing of it.
fn vanishes(far: &Far, loss: Loss, heartbeat: &str, keepalive_idle: &str) {
    let backend = Backend::start();
    let gateway = builder(&backend, heartbeat, keepalive_idle).start();
    let (client, token) = open_far(&gateway, &backend, far, "/far");
    let (mut near, near_token) = open_stream(&gateway, &backend, "/near");
    far.lose(loss);
    let start = Instant::now();
    for at in 0..20 {
        let sent = Instant::now();
        assert_ok(&send_data(&gateway, &near_token, &at.to_string()), OK);
        assert_eq!(
            near.next_event_behind_heartbeats(),
            format!("data: {at}\n\n")
        );
        assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
    }
    expect_lost(&gateway, &backend, &token, start);
    let limit = "limit=PEER_TIMEOUT_SECONDS";
    gateway.wait_log_all(&["[WARN]", &token, "reason=error", limit]);
    assert_ok(&send_data(&gateway, &near_token, "still"), OK);
    assert_eq!(near.next_event_behind_heartbeats(), "data: still\n\n");
    near.reset();
    let disconnect = backend.next_disconnect();
    assert_eq!(disconnect.token(), near_token);
    assert_eq!(disconnect.reason(), "client_closed");
    disconnect.answer(200, "");
    backend.assert_idle();
    backend.assert_balanced();
    drop(client);
}

#[test]
#[ignore = "needs the right to make network namespaces"]
fn heartbeats_find_a_lost_link() {
    within("vanished::heartbeats_find_a_lost_link", |far| {
        vanishes(far, Loss::Link, "1", "60");
    });
}

#[test]
#[ignore = "needs the right to make network namespaces"]
fn heartbeats_find_a_silent_peer() {
    within("vanished::heartbeats_find_a_silent_peer", |far| {
        vanishes(far, Loss::Address, "1", "60");
    });
}

#[test]
#[ignore = "needs the right to make network namespaces"]
fn probes_find_a_lost_link() {
    within("vanished::probes_find_a_lost_link", |far| {
        vanishes(far, Loss::Link, "600", "1");
    });
}

#[test]
#[ignore = "needs the right to make network namespaces"]
fn probes_find_a_silent_peer() {
    within("vanished::probes_find_a_silent_peer", |far| {
        vanishes(far, Loss::Address, "600", "1");
    });
}

/// Sends to the lost are answered 200 while they fit, and delay nobody.
#[test]
#[ignore = "needs the right to make network namespaces"]
fn many_vanish_at_once_with_events_under_way() {
    within(
        "vanished::many_vanish_at_once_with_events_under_way",
        |far| {
            let backend = Backend::start();
            let gateway = builder(&backend, "1", "60").start();
            let streams: Vec<_> = (0..30)
                .map(|at| open_far(&gateway, &backend, far, &format!("/far/{at}")))
                .collect();
            far.lose(Loss::Link);
            let start = Instant::now();
            for (_, token) in &streams {
                let sent = Instant::now();
                assert_sent(&send_data(&gateway, token, &"x".repeat(300_000)));
                assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
            }
            for (_, token) in &streams {
                expect_lost(&gateway, &backend, token, start);
            }
            backend.assert_idle();
            backend.assert_balanced();
            assert_eq!(backend.ledger().accepted(), streams.len());
            // One limit speaks ten times a second; the others are counted.
            assert!(gateway.count_log("limit=PEER_TIMEOUT_SECONDS") < streams.len());
        },
    );
}

/// What is mended within the time costs nothing but the wait, whatever was sent meanwhile.
#[test]
#[ignore = "needs the right to make network namespaces"]
fn a_short_cut_is_survived() {
    within("vanished::a_short_cut_is_survived", |far| {
        let backend = Backend::start();
        let gateway = builder(&backend, "60", "60")
            .env("PEER_TIMEOUT_SECONDS", "30")
            .start();
        let (client, token) = open_far(&gateway, &backend, far, "/far");
        far.lose(Loss::Link);
        for at in 0..100 {
            assert_sent(&send_data(&gateway, &token, &format!("event {at}")));
        }
        far.mend();
        client.wait_text("data: event 99\n\n");
        let text = client.text();
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let expected = (0..100).map(|at| format!("event {at}"));
        assert!(events.eq(expected), "{text}");
        backend.assert_idle();
        drop(client);
        let disconnect = backend.next_disconnect_of(&token);
        assert_eq!(disconnect.reason(), "client_closed");
        disconnect.answer(200, "");
        backend.assert_balanced();
    });
}
