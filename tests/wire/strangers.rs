//! What strangers leave with the gateway (contract, section 6): their own budget bounds it, and no
//! stream and no health check pays for it.

use crate::support::process::wait_until_read;
use crate::support::{
    Backend, Client, Gateway, OK, assert_error, assert_ok, assert_sent, assert_served, open_narrow,
    open_stream, send_data,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Connections of each flood.
const STRANGERS: usize = 300;

/// Bodies that lack their last byte, from many connections at once.
struct Flood {
    /// Of each, in bytes.
    body: usize,
    /// `MAX_INBOUND_BYTES`; `None` for its default.
    budget: Option<usize>,
}

#[test]
fn bodies_of_4_mib() {
    Flood::new(4 * MIB, None).run();
}

#[test]
fn bodies_of_256_kib() {
    Flood::new(256 * KIB, Some(4 * MIB)).run();
}

#[test]
fn bodies_of_64_kib() {
    Flood::new(64 * KIB, Some(2 * MIB)).run();
}

#[test]
fn bodies_of_4_kib() {
    Flood::new(4 * KIB, Some(256 * KIB)).run();
}

#[test]
fn bodies_of_512_bytes() {
    Flood::new(512, Some(64 * KIB)).run();
}

impl Flood {
    fn new(body: usize, budget: Option<usize>) -> Flood {
        Flood { body, budget }
    }

    fn run(&self) {
        let backend = Backend::accepting();
        let mut builder = Gateway::builder()
            .backend(&backend)
            .env("SEND_BUFFER_BYTES", "4096")
            .env("HEARTBEAT_INTERVAL_SECONDS", "600")
            // Nobody is ended for anything else.
            .env("REQUEST_TIMEOUT_SECONDS", "600");
        if let Some(budget) = self.budget {
            builder = builder.env("MAX_INBOUND_BYTES", &budget.to_string());
        }
        let gateway = builder.start();
        let (mut slow, slow_token) = open_narrow(&gateway, &backend, "/slow", 2048);
        let (mut quick, quick_token) = open_stream(&gateway, &backend, "/quick");
        let unsent = "x".repeat(40_000);
        assert_sent(&send_data(&gateway, &slow_token, &unsent));
        let strangers = self.begin(&gateway);
        wait_until_read(gateway.port());
        gateway.wait_log_all(&["[WARN]", "limit=MAX_INBOUND_BYTES"]);
        assert_sent(&send_data(&gateway, &slow_token, "more"));
        assert_ok(&send_data(&gateway, &quick_token, "more"), OK);
        assert_eq!(quick.next_event(), "data: more\n\n");
        assert_served(&mut gateway.connect());
        self.assert_bounded(strangers);
        assert_eq!(slow.next_event(), format!("data: {unsent}\n\n"));
        assert_eq!(slow.next_event(), "data: more\n\n");
        drop((slow, quick));
        backend.assert_balanced();
    }

    /// Everybody sends all but the last byte; whoever is refused meanwhile may not get rid of it.
    fn begin(&self, gateway: &Gateway) -> Vec<Client> {
        let length = self.body;
        let head =
            format!("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        let body = vec![b' '; length - 1];
        let mut strangers: Vec<Client> = (0..STRANGERS).map(|_| gateway.connect()).collect();
        for stranger in &mut strangers {
            stranger.try_send(head.as_bytes());
            stranger.try_send(&body);
        }
        strangers
    }

    /// Those who were kept fit the budget, and are served when their last byte comes; the others
    /// were told.
    fn assert_bounded(&self, strangers: Vec<Client>) {
        let mut kept = 0;
        for mut stranger in strangers {
            stranger.try_send(b" ");
            let response = stranger.read_response();
            if response.status() == 400 {
                assert_error(&response, 400, "INVALID_JSON");
                kept += 1;
            } else {
                assert_error(&response, 503, "OVERLOADED");
                assert_eq!(response.head.value("connection"), Some("close"));
                stranger.expect_eof_or_reset();
            }
        }
        let budget = self.budget.unwrap_or(32 * MIB);
        // A queue has some slack: half of what is in it, and a little.
        let (least, most) = (budget / (self.body * 3 / 2 + 512), budget / (self.body - 1));
        println!("{kept} of {} kept", STRANGERS);
        assert!(
            (least..=most).contains(&kept),
            "{kept}, not {least} to {most}"
        );
    }
}
