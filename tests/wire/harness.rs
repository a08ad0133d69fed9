//! The harness itself: what it promises the other tests.

use serde_json::json;

use crate::support::{Backend, Gateway, Ledger, OK, assert_ok, open_stream, post_send, send_close};

#[test]
fn a_stream_from_its_opening_to_its_end() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let (mut client, token) = open_stream(&gateway, &backend, "/events");
    let command = json!({"token": token, "event": {"name": "n", "data": "d"}});
    assert_ok(&post_send(&gateway, &command), OK);
    assert_eq!(client.next_event(), "event: n\ndata: d\n\n");
    assert_ok(&send_close(&gateway, &token), OK);
    client.expect_last_chunk_and_eof();
    let disconnect = backend.next_disconnect_of(&token);
    assert_eq!(disconnect.reason(), "server_closed");
    disconnect.answer(200, "");
    backend.assert_balanced();
}

#[test]
fn a_backend_that_leaves_and_comes_back_keeps_its_port() {
    let mut backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    backend.stop_listening();
    assert_eq!(gateway.get("/a").read_response().status(), 503);
    backend.listen();
    let (client, token) = open_stream(&gateway, &backend, "/b");
    client.reset();
    assert_eq!(backend.next_disconnect().token(), token);
    backend.assert_balanced();
}

#[test]
fn the_process_ends_by_signal_and_its_log_is_whole_then() {
    let backend = Backend::accepting();
    let mut gateway = Gateway::of(&backend);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(gateway.log().contains("exit"));
}

#[test]
#[should_panic(expected = "a panic of the backend")]
fn a_habit_that_panics_fails_the_test() {
    let backend = Backend::with(|_| panic!("as the test wants it"));
    let gateway = Gateway::of(&backend);
    assert_eq!(gateway.get("/a").read_response().status(), 503);
    backend.wait_ended(0);
}

#[test]
fn the_ledger_knows_every_breach_of_the_law() {
    let ledger = Ledger::default();
    ledger.disconnect("early", "error");
    assert_eq!(ledger.violations().len(), 1);
    ledger.accept("a");
    ledger.disconnect("a", "error");
    assert_eq!(ledger.violations().len(), 1);
    ledger.disconnect("a", "error");
    assert_eq!(ledger.violations().len(), 2);
    let ledger = Ledger::default();
    ledger.accept("b");
    ledger.disconnect("b", "error");
    ledger.lose("b");
    ledger.disconnect("b", "error");
    ledger.assert_balanced();
}
