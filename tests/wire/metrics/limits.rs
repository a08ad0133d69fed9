//! Limits that are reached without an answer, by their names.

use rlimit::Resource;

use crate::support::process::{Process, next_descriptor};
use crate::support::{Backend, Gateway, Scraper, assert_error, assert_served, send_request};

/// Time that is over: for a request, for a new connection, between requests.
#[test]
fn times_that_are_over_count_by_their_names() {
    let backend = Backend::start();
    let cases = [
        ("REQUEST_TIMEOUT_SECONDS", "GET / HTTP/1.1\r\n"),
        ("NEW_CONNECTION_TIMEOUT_SECONDS", ""),
        (
            "IDLE_TIMEOUT_SECONDS",
            "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
    ];
    for (setting, bytes) in cases {
        let builder = Gateway::builder().backend(&backend);
        let gateway = builder.env(setting, "1").start();
        let mut client = gateway.connect();
        client.send(bytes);
        let mut grown = vec![(format!("limits_hit_total limit={setting}"), 1)];
        match setting {
            "REQUEST_TIMEOUT_SECONDS" => {
                assert_error(&client.read_response(), 408, "REQUEST_TIMEOUT");
                grown.push(("refusals_total code=REQUEST_TIMEOUT".to_owned(), 1));
            }
            "IDLE_TIMEOUT_SECONDS" => assert_eq!(client.read_response().status(), 200),
            _ => {}
        }
        client.expect_eof();
        // Who looks may have been too late to see it grow.
        let metrics = Scraper::of(&gateway).last;
        for (series, by) in grown {
            assert_eq!(metrics.count(&series), by, "{series}");
        }
        assert_eq!(metrics.sum("limits_hit_total"), 1);
    }
}

#[test]
fn a_publisher_that_reads_nothing_counts_each_time_it_is_read_no_further() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("MAX_UNREAD_ANSWER_BYTES", "1024")
        .start();
    let mut scraper = Scraper::of(&gateway);
    let mut publisher = gateway.connect();
    let request = send_request("{}");
    let rounds = 20_000;
    // Its answers are more than the kernel takes.
    std::thread::scope(|scope| {
        let mut writer = publisher.stream().try_clone().expect("a descriptor");
        scope.spawn(move || {
            use std::io::Write;
            writer
                .write_all(request.repeat(rounds).as_bytes())
                .expect("a write");
        });
        scraper.wait("a pause", |metrics| {
            metrics.count("limits_hit_total limit=MAX_UNREAD_ANSWER_BYTES") >= 1
        });
        let held = scraper.get("held_bytes towards=publishers");
        assert!(held >= 1024, "{held}");
        for _ in 0..rounds {
            assert_error(&publisher.read_response(), 400, "INVALID_TOKEN_MISSING");
        }
    });
    let answered = "sends_total target=none answer=INVALID_TOKEN_MISSING";
    assert_eq!(scraper.get(answered), rounds as u64);
    assert_served(&mut publisher);
}

/// A house that is full: who idles is closed for a newcomer; and where nobody idles, newcomers wait.
#[test]
fn descriptors_that_run_out_are_counted() {
    let backend = Backend::accepting();
    let script = "ulimit -n 64; exec \"$0\"";
    let process = Process::start(script, &backend, &[]);
    let mut scraper = Scraper::over(process.connect());
    let max = scraper.last.count("max_descriptors");
    assert_eq!(max, 64);
    let places = scraper.last.count("max_connections");
    assert!(places < 64, "{places}");
    let idle: Vec<_> = (0..places + 5).map(|_| process.connect()).collect();
    let series = "limits_hit_total limit=descriptors";
    scraper.wait("a full house", |metrics| metrics.count(series) > 0);
    let open = scraper.get("open_descriptors");
    assert!(places <= open && open <= 64, "{open}");
    drop(idle);
}

/// The kernel gives no more of them, before the house is full.
#[test]
fn descriptors_that_run_out_all_the_same_are_counted() {
    let backend = Backend::accepting();
    let gateway = Gateway::of(&backend);
    let mut scraper = Scraper::of(&gateway);
    let few = next_descriptor(gateway.pid()) + 4;
    let pid = gateway.pid().try_into().expect("a process id");
    let (_, hard) = Resource::NOFILE.get().expect("a limit");
    rlimit::prlimit(pid, Resource::NOFILE, Some((few, hard)), None).expect("a lower limit");
    let silent: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    let series = "limits_hit_total limit=descriptors";
    scraper.wait("an end of descriptors", |it| it.count(series) >= 1);
    gateway.wait_log_all(&["accepting pauses", "error=", "limit=descriptors"]);
    drop(silent);
}
