//! Clients that come and go: in every way, at every moment.

use std::time::Duration;

use serde_json::json;

use super::backend::answer_body;
use super::world::{Count, Present, Rng, World};
use crate::support::{Client, Response};

/// One client's visit, and a rest.
pub(crate) fn churn(world: &World, rng: &mut Rng) {
    let answer = rng.pick(&["none", "none", "none", "event", "close", "bad"]);
    let kind = rng.pick(&["plain", "plain", "window"]);
    let url = format!("/{kind}/{}?answer={answer}", world.id());
    if rng.is_one_in(3) {
        leave_early(world, rng, &url);
    } else {
        stay(world, rng, &url);
    }
    let rest = rng.millis(300);
    world.pause(rest);
}

/// Leaves while the callback is out, or at about the moment of its answer.
fn leave_early(world: &World, rng: &mut Rng, url: &str) {
    let mut client = Client::connect(world.port);
    client.get(url);
    if rng.is_one_in(2) {
        let a_moment = rng.millis(60);
        world.pause(a_moment);
    }
    match rng.below(3) {
        0 => drop(client),
        1 => client.reset(),
        _ => {
            client.shutdown_write();
            // To the end, whether a stream had opened or not.
            client.read_to_end();
        }
    }
    world.book.forget(url);
    world.count(Count::LeftEarly);
}

fn stay(world: &World, rng: &mut Rng, url: &str) {
    let mut client = Client::connect(world.port);
    client.get(url);
    let head = client.read_head();
    if head.status != 200 {
        refused(world, client, head);
        return;
    }
    let _present = world.enter();
    let token = world.book.token_of(url);
    let mut visit = Visit {
        world,
        client,
        publisher: Client::connect(world.port),
        token,
        sent: 0,
    };
    visit.expect_first_events(url);
    // An endless body of the backend's carries no directives, whatever was asked.
    if url.ends_with("close") && visit.world.book.is_sure(&visit.token) {
        world.book.allow(&visit.token, &["server_closed"]);
        visit.client.expect_last_chunk_and_eof();
        return;
    }
    for _ in 0..rng.below(12) {
        if rng.is_one_in(2) {
            visit.send_closed_loop();
        } else {
            visit.send_pipelined(1 + rng.below(30));
        }
        let a_moment = rng.millis(100);
        world.pause(a_moment);
    }
    visit.leave(rng);
}

/// After a rejection the connection goes on.
fn refused(world: &World, mut client: Client, head: crate::support::Head) {
    let length = head.value("content-length").expect("a length");
    let body = client.read_exact(length.parse().expect("a length"));
    let text = String::from_utf8_lossy(&body).into_owned();
    let code = |status: u16| match status {
        401 => "BACKEND_AUTH_FAILED",
        403 => "BACKEND_FORBIDDEN",
        302 | 404 | 500 | 502 | 599 => "BACKEND_ERROR",
        503 => "BACKEND_UNAVAILABLE",
        504 => "GATEWAY_TIMEOUT",
        _ => "no such status",
    };
    if !text.contains(code(head.status)) {
        world.report(format!("{}{text}", head.text()));
    }
    client.get("/healthz");
    assert_eq!(client.read_response().status(), 200);
    world.count(Count::Refused);
}

struct Visit<'w> {
    world: &'w World,
    client: Client,
    publisher: Client,
    token: String,
    sent: u64,
}

impl Visit<'_> {
    /// What the answer and the window gave, in this order.
    fn expect_first_events(&mut self, url: &str) {
        let answer = answer_body(url);
        if answer.contains("hello") && self.world.book.is_sure(&self.token) {
            self.expect("event: greeting\ndata: hello\n\n");
        }
        if answer.contains("close\":true") {
            return;
        }
        for at in 0..self.world.book.window(&self.token) {
            self.expect(&format!("data: w{at}\n\n"));
        }
    }

    fn expect(&mut self, event: &str) {
        let next = next_event(&mut self.client);
        if next != event {
            self.world
                .report(format!("{}: {next:?}, not {event:?}", self.token));
        }
        self.world.count(Count::Read);
    }

    fn command(&mut self, close: bool) -> Vec<u8> {
        let data = format!("{}:{}", self.token, self.sent);
        self.sent += 1;
        let json =
            json!({"token": self.token, "event": {"name": "n", "data": data}, "close": close});
        json.to_string().into_bytes()
    }

    fn expect_own(&mut self, at: u64) {
        let event = format!("event: n\ndata: {}:{at}\n\n", self.token);
        self.expect(&event);
    }

    fn expect_ok(&mut self) {
        let response: Response = self.publisher.read_response();
        if response.status() != 200 {
            self.world
                .report(format!("{}: {}", self.token, response.text()));
        }
        self.world.count(Count::Sent);
    }

    fn send_closed_loop(&mut self) {
        let command = self.command(false);
        self.publisher.post(&command);
        self.expect_ok();
        self.expect_own(self.sent - 1);
    }

    fn send_pipelined(&mut self, n: u64) {
        let first = self.sent;
        let mut requests = Vec::new();
        for _ in 0..n {
            requests.extend(post(&self.command(false)));
        }
        self.publisher.send(&requests);
        for _ in 0..n {
            self.expect_ok();
        }
        for at in first..self.sent {
            self.expect_own(at);
        }
    }

    fn leave(mut self, rng: &mut Rng) {
        match rng.below(5) {
            0 => {
                self.world.book.allow(&self.token, &["client_closed"]);
            }
            1 => {
                self.world.book.allow(&self.token, &["client_closed"]);
                self.client.reset();
            }
            2 => {
                self.world.book.allow(&self.token, &["server_closed"]);
                let command = json!({"token": self.token, "close": true}).to_string();
                self.publisher.post(command.as_bytes());
                self.expect_ok();
                expect_end(&mut self.client);
                self.expect_unknown();
            }
            3 => {
                self.world.book.allow(&self.token, &["server_closed"]);
                let command = self.command(true);
                self.publisher.post(&command);
                self.expect_ok();
                self.expect_own(self.sent - 1);
                expect_end(&mut self.client);
            }
            _ => {
                self.world.book.allow(&self.token, &["error"]);
                // Some of it is refused when the reset comes.
                self.client.try_send(&[b'x'; 256 * 1024]);
                self.client.expect_reset();
                self.expect_unknown();
            }
        }
    }

    fn expect_unknown(&mut self) {
        let command = self.command(false);
        self.publisher.post(&command);
        let response = self.publisher.read_response();
        if response.status() != 404 {
            self.world
                .report(format!("{}: {}", self.token, response.text()));
        }
    }
}

/// A send as bytes.
pub(crate) fn post(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The next event that is not a heartbeat.
pub(crate) fn next_event(client: &mut Client) -> String {
    loop {
        let event = client.next_event();
        if !event.starts_with(':') {
            return event;
        }
    }
}

/// The last chunk, heartbeats before it aside, and the FIN.
pub(crate) fn expect_end(client: &mut Client) {
    loop {
        let chunk = client.next_chunk();
        if chunk.is_empty() {
            return client.expect_eof();
        }
        assert_eq!(String::from_utf8_lossy(&chunk), ": heartbeat\n\n");
    }
}

/// Between two visits of those who stay long.
pub(crate) fn rest(world: &World, rng: &mut Rng) {
    let rest = Duration::from_millis(200) + rng.millis(800);
    world.pause(rest);
}

/// An open stream.
pub(crate) struct Opened<'w> {
    pub(crate) client: Client,
    pub(crate) token: String,
    pub(crate) present: Present<'w>,
}

/// Opens a stream, if the backend feels like it.
pub(crate) fn try_open<'w>(
    world: &'w World,
    kind: &str,
    receive_buffer: Option<usize>,
) -> Option<Opened<'w>> {
    let url = format!("/{kind}/{}", world.id());
    let mut client = match receive_buffer {
        Some(bytes) => Client::with_receive_buffer(world.port, bytes),
        None => Client::connect(world.port),
    };
    client.get(&url);
    let head = client.read_head();
    if head.status != 200 {
        world.count(Count::Refused);
        world.book.forget(&url);
        return None;
    }
    let present = world.enter();
    let token = world.book.token_of(&url);
    Some(Opened {
        client,
        token,
        present,
    })
}
