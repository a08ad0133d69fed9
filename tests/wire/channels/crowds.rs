//! A channel of thousands, and what is left of it when they go.

use serde_json::json;

use super::{assert_members, assert_receivers, next_data, to_channel};
use crate::support::crowd::{need_descriptors, open_crowd};
use crate::support::{Gateway, assert_ok, open_stream, post_send};

/// All at once, in the middle of a fan-out to them.
#[test]
fn two_thousand_members_that_leave_at_once() {
    const CROWD: usize = 2_000;
    need_descriptors(3 * CROWD as u64);
    let backend = crate::support::Backend::with(|callback| {
        callback.answer(200, r#"{"channels":["c","d"]}"#);
    });
    let gateway = Gateway::unhurried(&backend);
    let crowd = open_crowd(&backend, CROWD, |_| gateway.connect());
    assert_members(&gateway, "c", CROWD);
    let (mut stays, token) = open_stream(&gateway, &backend, "/stays");
    let both = json!({"channels": ["c", "d"], "event": {"data": "both"}});
    assert_receivers(&post_send(&gateway, &both), CROWD + 1);
    gateway.signal("STOP");
    let mut publisher = gateway.connect();
    publisher.post(to_channel("c", "one").to_string().as_bytes());
    drop(crowd);
    gateway.signal("CONT");
    assert_eq!(publisher.read_response().status(), 200);
    for _ in 0..CROWD {
        backend.next_disconnect();
    }
    assert_members(&gateway, "c", 1);
    assert_members(&gateway, "d", 1);
    assert_eq!(next_data(&mut stays), "both");
    assert_eq!(next_data(&mut stays), "one");
    let leaves = json!({"token": token, "unsubscribe": ["c"]});
    assert_ok(&post_send(&gateway, &leaves), crate::support::OK);
    assert_members(&gateway, "c", 0);
    stays.reset();
    backend.assert_balanced();
}
