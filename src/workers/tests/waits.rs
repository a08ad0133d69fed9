//! Waiting for the backend: a wait is made of slices of a second, and none of that shows.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::backend::*;
use crate::callback::{Job, Outcome};

/// Longer than a slice.
const PAUSE: Duration = Duration::from_millis(1100);

/// More than the buffers of both sockets take.
fn huge(id: u64) -> Job {
    let mut job = connect(id);
    job.request = request_of(&"x".repeat(16 << 20));
    job
}

fn limited(backend: &Backend, limit: Duration) -> Rig {
    let mut settings = settings(backend.address());
    settings.disconnect_timeout = limit;
    Rig::new(settings)
}

#[test]
fn an_answer_may_take_longer_than_a_slice() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(connect(1));
    let mut peer = backend.accept();
    peer.request();
    for part in [&OK[..5], &OK[5..]] {
        // The pace is the stimulus.
        sleep(PAUSE);
        peer.send(part);
    }
    assert_eq!(status(&rig.result().outcome), 200);
    backend.assert_idle();
}

#[test]
fn the_limit_is_exact_behind_whole_slices() {
    let limit = Duration::from_millis(2050);
    let backend = Backend::new();
    let rig = limited(&backend, limit);
    let begun = Instant::now();
    rig.submit(disconnect(1));
    let mut peer = backend.accept();
    peer.request();
    assert!(matches!(rig.result().outcome, Outcome::TimedOut));
    assert!(begun.elapsed() >= limit);
    assert!(begun.elapsed() < limit + Duration::from_millis(850));
}

#[test]
fn a_request_that_is_taken_slowly_arrives_whole() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    rig.submit(huge(1));
    let mut peer = backend.accept();
    sleep(PAUSE);
    assert!(peer.request().ends_with("\",\"headers\":{}}}"));
    peer.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
}

#[test]
fn a_request_that_is_not_taken_times_out() {
    let limit = Duration::from_millis(1300);
    let backend = Backend::new();
    let rig = limited(&backend, limit);
    let begun = Instant::now();
    let mut job = huge(1);
    job.action = disconnect(1).action;
    rig.submit(job);
    let peer = backend.accept();
    assert!(matches!(rig.result().outcome, Outcome::TimedOut));
    assert!(begun.elapsed() >= limit);
    drop(peer);
}
