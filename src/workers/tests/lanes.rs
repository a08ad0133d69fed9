//! Who works when: queues, threads, results and wakes.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::backend::*;
use crate::callback::{JobId, Outcome};
use crate::time::Time;
use crate::workers::lane::{Bounds, Lane};
use crate::workers::resolver::Lookup;

#[test]
fn a_thousand_jobs_have_a_result_each() {
    let mut settings = settings(Backend::new().serve());
    settings.connect_workers = 4;
    settings.connect_queue = 1000;
    settings.disconnect_workers = 2;
    settings.disconnect_queue = 1000;
    let rig = Rig::new(settings);
    for id in 0..1000 {
        rig.submit(if id % 2 == 0 {
            connect(id)
        } else {
            disconnect(id)
        });
    }
    let mut ids = BTreeSet::new();
    for _ in 0..1000 {
        let result = rig.result();
        assert_eq!(status(&result.outcome), 200);
        assert_eq!(result.token, token(result.id.0));
        assert!(ids.insert(result.id));
    }
    assert!(rig.workers.try_result().is_none());
    assert!(rig.workers.connects.threads().0 <= 4);
    assert!(rig.workers.disconnects.threads().0 <= 2);
}

#[test]
fn wakes_are_coalesced_and_none_is_lost() {
    let rig = Rig::new(settings("127.0.0.1:1"));
    let count = || rig.wakes.try_iter().count();
    let post = |id| {
        rig.workers
            .shared
            .outbox
            .post(connect(id), Outcome::NeverSent, Duration::ZERO)
    };
    (0..3).for_each(post);
    assert_eq!(count(), 1);
    for id in 0..3 {
        assert_eq!(
            rig.workers.try_result().map(|result| result.id),
            Some(JobId(id))
        );
    }
    // Not drained yet: the loop is still looking.
    post(3);
    assert_eq!(count(), 0);
    assert!(rig.workers.try_result().is_some());
    assert!(rig.workers.try_result().is_none());
    post(4);
    assert_eq!(count(), 1);
}

#[test]
fn a_queued_job_can_be_withdrawn() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(1));
    let mut peer = backend.accept();
    peer.request();
    rig.submit(connect(4));
    rig.submit(connect(2));
    rig.submit(connect(3));
    assert!(!rig.workers.withdraw(JobId(1)), "begun");
    assert!(rig.workers.withdraw(JobId(2)));
    assert!(!rig.workers.withdraw(JobId(2)), "gone");
    // The others are sent in the order of their ids.
    for id in [1, 3, 4] {
        if id > 1 {
            assert!(peer.request().contains(&token(id).to_string()));
        }
        peer.send(OK);
        assert_eq!(rig.result().id, JobId(id));
    }
    assert!(!rig.workers.withdraw(JobId(4)), "done");
    assert!(rig.workers.try_result().is_none());
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.connect_queue = 2;
    let rig = Rig::new(settings);
    rig.submit(connect(1));
    let mut peer = backend.accept();
    peer.request();
    rig.submit(connect(2));
    rig.submit(connect(3));
    let back = rig.workers.submit(connect(4)).expect_err("full");
    assert_eq!(back.id, JobId(4));
    assert!(rig.workers.withdraw(JobId(3)));
    rig.submit(connect(5));
}

#[test]
fn an_id_in_use_is_refused() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(1));
    backend.accept().request();
    rig.submit(connect(2));
    assert!(rig.workers.submit(connect(2)).is_err());
}

#[test]
fn hanging_connects_do_not_delay_disconnects() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.connect_workers = 2;
    let rig = Rig::new(settings);
    for id in 1..=3 {
        rig.submit(connect(id));
    }
    let hanging = [backend.accept(), backend.accept()].map(|mut peer| {
        peer.request();
        peer
    });
    rig.submit(disconnect(4));
    let mut peer = backend.accept();
    assert!(peer.request().contains("\"disconnect\""));
    peer.send(OK);
    assert_eq!(rig.result().id, JobId(4));
    backend.assert_idle();
    assert_eq!(rig.workers.connects.threads(), (2, 0));
    drop(hanging);
}

/// The limit of a disconnect begins with its exchange, however long it waited for a worker.
#[test]
fn a_disconnect_behind_one_that_hangs_has_its_whole_time() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    let limit = Duration::from_millis(500);
    settings.disconnect_timeout = limit;
    let rig = Rig::new(settings);
    let begun = Instant::now();
    rig.submit(disconnect(1));
    rig.submit(disconnect(2));
    for id in 1..=2 {
        let mut peer = backend.accept();
        assert!(peer.request().contains(&token(id).to_string()));
        let result = rig.result();
        assert_eq!(result.id, JobId(id));
        assert!(matches!(result.outcome, Outcome::TimedOut));
        assert!(begun.elapsed() >= limit * id as u32);
    }
}

#[test]
fn the_most_recently_idle_works_and_the_others_age_out() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.connect_workers = 3;
    // Long beside what a busy host may keep this test from looking: the last worker must still be
    // there when the others have gone.
    settings.worker_idle = Duration::from_secs(2);
    let rig = Rig::new(settings);
    let mut peers = Vec::new();
    for id in 0..3 {
        rig.submit(connect(id));
        let mut peer = backend.accept();
        peer.request();
        peers.push(peer);
    }
    for (rest, peer) in peers.iter_mut().enumerate() {
        peer.send(OK);
        rig.result();
        until(|| rig.workers.connects.threads() == (3, rest + 1));
    }
    let mut last = peers.pop().expect("three");
    let (mut id, begun) = (3, Instant::now());
    while !peers.iter_mut().all(Peer::is_closed) {
        assert!(begun.elapsed() < PATIENCE, "the others do not age out");
        rig.submit(connect(id));
        last.request();
        last.send(OK);
        assert_eq!(status(&rig.result().outcome), 200);
        until(|| {
            let (running, idle) = rig.workers.connects.threads();
            running == idle
        });
        id += 1;
    }
    assert_eq!(rig.workers.connects.threads(), (1, 1));
    let begun = Instant::now();
    last.closed();
    // Its rest began before `begun`, by no more than the host kept this test waiting.
    assert!(begun.elapsed() > Duration::from_millis(500));
    assert_eq!(rig.workers.connects.threads(), (0, 0));
    backend.assert_idle();
    // And again from nothing.
    rig.submit(connect(id));
    let mut peer = backend.accept();
    peer.request();
    peer.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
}

#[test]
fn a_panic_is_one_failed_callback() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.hook(|job| assert!(job.id != JobId(2), "as the test wants it"));
    rig.submit(connect(1));
    let mut peer = backend.accept();
    peer.request();
    peer.send(OK);
    rig.result();
    rig.submit(connect(2));
    let result = rig.result();
    assert_eq!(result.id, JobId(2));
    assert!(matches!(result.outcome, Outcome::Failed(_)));
    assert!(rig.workers.try_result().is_none());
    // Its agent is gone, the thread is not.
    peer.closed();
    rig.submit(connect(3));
    let mut peer = backend.accept();
    peer.request();
    peer.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
    assert_eq!(rig.workers.connects.threads().0, 1);
}

#[test]
fn abandon_interrupts() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let begun = Instant::now();
    rig.submit(connect(1));
    rig.submit(disconnect(2));
    let mut hanging = [backend.accept(), backend.accept()].map(|mut peer| {
        peer.request();
        peer
    });
    rig.submit(connect(3));
    rig.workers.abandon();
    let mut results = [rig.result(), rig.result(), rig.result()];
    results.sort_by_key(|result| result.id);
    let [first, second, third] = results.map(|result| (result.id.0, result.outcome));
    assert!(matches!(first, (1, Outcome::Failed(_))), "{first:?}");
    assert!(matches!(second, (2, Outcome::Failed(_))), "{second:?}");
    assert!(matches!(third, (3, Outcome::NeverSent)), "{third:?}");
    hanging.iter_mut().for_each(Peer::closed);
    assert!(rig.workers.submit(connect(4)).is_err());
    until(|| rig.workers.connects.threads().0 == 0);
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn abandon_interrupts_a_lookup() {
    let (begun, has_begun) = channel();
    let (go, gate) = channel::<()>();
    let (begun, gate) = (Mutex::new(begun), Mutex::new(gate));
    let lookup = Lookup::by(move || {
        let _ = begun.lock().expect("the test").send(());
        let _ = gate.lock().expect("the gate").recv_timeout(PATIENCE);
        Ok(Vec::new())
    });
    let start = Instant::now();
    let rig = Rig::with(settings("name"), start, lookup);
    rig.submit(connect(1));
    has_begun.recv_timeout(PATIENCE).expect("a lookup");
    rig.workers.abandon();
    assert!(matches!(rig.result().outcome, Outcome::Failed(_)));
    assert!(start.elapsed() < PATIENCE / 2);
    drop(go);
}

/// A worker that had taken its job, but not begun to call, finds its new agent shut down.
#[test]
fn abandon_reaches_a_call_about_to_begin() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let (taken, is_taken) = channel();
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    rig.hook(move |_| {
        taken.send(()).expect("the test");
        gate.lock()
            .expect("the gate")
            .recv_timeout(PATIENCE)
            .expect("the go");
    });
    rig.submit(connect(1));
    is_taken.recv_timeout(PATIENCE).expect("a worker");
    rig.workers.abandon();
    go.send(()).expect("the worker");
    assert!(matches!(rig.result().outcome, Outcome::Failed(_)));
    backend.assert_idle();
}

#[test]
fn an_expired_job_is_never_sent() {
    let backend = Backend::new();
    let epoch = Instant::now() - Duration::from_secs(10);
    let rig = Rig::since(settings(backend.address()), epoch);
    let outcome = rig.outcome(connect_until(1, Time(10_000)));
    assert!(matches!(outcome, Outcome::NeverSent));
    backend.assert_idle();
}

#[test]
fn without_a_thread_the_job_comes_back() {
    let lane = Lane::new(Bounds {
        workers: 2,
        queue: 8,
        idle: Duration::from_secs(1),
    });
    let fail = || Err(io::Error::from(io::ErrorKind::WouldBlock));
    let back = lane.submit(connect(1), fail).expect_err("no thread");
    assert_eq!(back.id, JobId(1));
    assert_eq!(lane.threads(), (0, 0));
    // One is running and will come to it.
    lane.submit(connect(2), || Ok(())).expect("a thread");
    lane.submit(connect(3), fail).expect("a thread");
    assert_eq!(lane.threads(), (1, 0));
    // Another attempt is made for the next.
    lane.submit(connect(4), || Ok(())).expect("a thread");
    assert_eq!(lane.threads(), (2, 0));
    lane.submit(connect(5), || panic!("two is all"))
        .expect("queued");
}
