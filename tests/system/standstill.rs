//! The whole process stands still for a while, as a starved or frozen host lets it, and goes on
//! (contract, section 2, the lifecycle law).

use std::thread;
use std::time::Duration;

use crate::support::crowd::need_descriptors;
use crate::support::process::{descriptors, eventually};
use crate::support::{Backend, Client, Gateway, OK, assert_ok, assert_served};

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
    thread::sleep(Duration::from_millis(2_500));
    gateway.signal("CONT");
    drop(clients);
    for connect in &connects {
        backend.next_disconnect_of(&connect.token()).answer(200, "");
    }
    backend.assert_balanced();
}

/// Nor has anybody been slow who has sent the rest of his request meanwhile: more of them than one
/// look at what is ready finds.
#[test]
fn requests_that_became_whole_meanwhile_are_served() {
    const CLIENTS: usize = 700;
    need_descriptors(2_000);
    let gateway = Gateway::builder()
        .env("REQUEST_TIMEOUT_SECONDS", "2")
        .start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.connect()).collect();
    eventually("all connections", || descriptors(gateway.pid()) > CLIENTS);
    for client in &mut clients {
        client.send("GET /healthz HTTP/1.1\r\nHo");
    }
    assert_served(&mut gateway.connect());
    gateway.signal("STOP");
    for client in &mut clients {
        client.send("st: h\r\n\r\n");
    }
    // Not until something has happened, but for longer than any request may take.
    thread::sleep(Duration::from_millis(3_500));
    gateway.signal("CONT");
    for client in &mut clients {
        assert_ok(&client.read_response(), OK);
    }
}

/// Clients whose backend has answered meanwhile.
#[test]
fn streams_open_whose_answers_came_meanwhile() {
    const STREAMS: usize = 60;
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("CONNECT_TIMEOUT_SECONDS", "2")
        .start();
    let mut clients: Vec<Client> = (0..STREAMS).map(|_| gateway.get("/")).collect();
    let connects: Vec<_> = clients.iter().map(|_| backend.next_connect()).collect();
    gateway.signal("STOP");
    for connect in &connects {
        connect.answer(200, "");
    }
    thread::sleep(Duration::from_millis(3_500));
    gateway.signal("CONT");
    let statuses = clients.iter_mut().map(|client| client.read_head().status);
    let statuses: Vec<u16> = statuses.collect();
    let opened = statuses.iter().filter(|status| **status == 200).count();
    let late = statuses.iter().filter(|status| **status == 504).count();
    println!("{opened} opened, {late} were late");
    assert_eq!(opened + late, STREAMS);
    // On a host that is busy a thread may take its time.
    assert!(opened >= STREAMS / 2, "{opened} of {STREAMS}");
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
