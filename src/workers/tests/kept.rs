//! Connections that are used again, and what may go wrong with them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::backend::*;
use crate::workers::dial::{Dial, Inner, Watch};
use crate::workers::exchange::Exchange;
use crate::workers::fields::Fields;
use crate::workers::resolver::Lookup;

#[test]
fn sequential_jobs_share_a_connection() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(0));
    let mut peer = backend.accept();
    let answers = [
        OK,
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 403 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for id in 0..20 {
        assert!(peer.request().contains(&token(id).to_string()));
        peer.send(answers[id as usize % 3]);
        assert_ne!(status(&rig.result().outcome), 0);
        rig.submit(connect(id + 1));
    }
    peer.request();
    backend.assert_idle();
}

/// The backend closes a kept connection on the next request: sent twice, and answered.
#[test]
fn lost_on_a_used_connection_is_sent_again() {
    for reset in [false, true] {
        let backend = Backend::new();
        let rig = Rig::new(settings(backend.address()));
        rig.submit(connect(1));
        let mut peer = backend.accept();
        peer.request();
        peer.send(OK);
        rig.result();
        rig.submit(connect(2));
        let first = peer.request();
        if reset {
            peer.reset()
        } else {
            drop(peer)
        }
        let mut peer = backend.accept();
        assert_eq!(peer.request(), first);
        // The second loss is on a fresh connection and final.
        drop(peer);
        assert_eq!(
            sentence(rig.result().outcome),
            "connection closed before the answer"
        );
        backend.assert_idle();
        rig.submit(connect(3));
        let mut peer = backend.accept();
        peer.request();
        peer.send(OK);
        assert_eq!(status(&rig.result().outcome), 200);
        rig.submit(connect(4));
        peer.request();
        drop(peer);
        let mut peer = backend.accept();
        peer.request();
        peer.send(OK);
        assert_eq!(status(&rig.result().outcome), 200);
        backend.assert_idle();
    }
}

/// The backend closes right after its answer: found closed, so the next connection is a fresh one,
/// and what is lost on that is not sent again.
#[test]
fn a_connection_found_closed_is_not_a_used_one() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(1));
    let mut peer = backend.accept();
    peer.request();
    peer.send(OK);
    rig.result();
    drop(peer);
    rig.submit(connect(2));
    let mut peer = backend.accept();
    peer.request();
    peer.reset();
    sentence(rig.result().outcome);
    backend.assert_idle();
}

/// Bytes that came while the connection rested are not the next call's answer.
#[test]
fn what_nobody_asked_for_is_no_answer() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(1));
    let mut old = backend.accept();
    old.request();
    old.send(OK);
    rig.result();
    old.send(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    rig.submit(connect(2));
    let mut new = backend.accept();
    new.request();
    new.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
    old.closed();
}

/// What was answered in part may have been done: no second time. Nor after a time-out.
#[test]
fn a_used_connection_is_no_excuse_for_everything() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.disconnect_timeout = Duration::from_secs(1);
    let rig = Rig::new(settings);
    let mut peer = None;
    for (answer, close) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", true),
        ("", false),
    ] {
        rig.submit(disconnect(1));
        let mut kept = backend.accept();
        kept.request();
        kept.send(OK);
        rig.result();
        rig.submit(disconnect(2));
        kept.request();
        kept.send(answer.as_bytes());
        peer = if close { None } else { Some(kept) };
        assert_eq!(status(&rig.result().outcome), 0);
        backend.assert_idle();
    }
    drop(peer);
}

#[test]
fn a_connection_that_rested_too_long_is_not_used() {
    let backend = Backend::new();
    let settings = settings(backend.address());
    let url = settings.url.clone();
    let dial = Dial {
        inner: Arc::new(Inner::new(None)),
        lookup: Arc::new(Lookup::new(&url)),
        watch: Arc::new(Watch::default()),
    };
    let age = Duration::from_millis(20);
    let mut exchange = Exchange::new(url, age, dial, Arc::new(Fields::new(&settings)));
    let serve = thread::spawn(move || {
        let mut old = backend.accept();
        old.request();
        old.send(OK);
        let mut new = backend.accept();
        new.request();
        new.send(OK);
        old.closed();
    });
    assert_eq!(status(&exchange.run(&connect(1), PATIENCE)), 200);
    thread::sleep(age);
    assert_eq!(status(&exchange.run(&connect(2), PATIENCE)), 200);
    serve.join().expect("no panic");
}
