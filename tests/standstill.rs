//! The whole process stands still for a while, as a starved or frozen host lets it, and goes on
//! (contract, section 2, the lifecycle law).

mod support;

use std::time::Duration;

use support::{Backend, Client, Gateway};

/// What the backend has answered meanwhile counts, though its time is over.
#[test]
fn answers_that_came_meanwhile_are_paid() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "1")
        .start();
    let clients: Vec<Client> = (0..16).map(|n| gateway.get(&format!("/{n}"))).collect();
    let connects: Vec<_> = clients.iter().map(|_| backend.next_connect()).collect();
    gateway.signal("STOP");
    for connect in &connects {
        connect.answer(200, "");
    }
    // Not until something has happened, but for longer than any callback may last.
    std::thread::sleep(Duration::from_millis(2_500));
    gateway.signal("CONT");
    drop(clients);
    for connect in &connects {
        backend.next_disconnect_of(&connect.token()).answer(200, "");
    }
    backend.assert_balanced();
}

/// So does what the head of an answer says, though the gateway cannot read all of it.
#[test]
fn a_stream_opens_whatever_else_the_answers_head_holds() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    for fields in [
        "A: b\r\n".repeat(200),
        format!("A: {}\r\n", "b".repeat(20_000)),
    ] {
        let mut client = gateway.get("/");
        let connect = backend.next_connect();
        connect.note_accepted();
        connect.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes());
        assert_eq!(client.read_head().status, 200);
        let token = connect.token();
        gateway.wait_log_all(&["[ERROR]", &token, "larger than 16 KiB or 128 fields"]);
        drop(client);
        backend.next_disconnect_of(&token).answer(200, "");
    }
    backend.assert_balanced();
}
