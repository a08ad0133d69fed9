//! What operators are told (contract, section 14) of moments that only a script can hold: while sends
//! to many are under way, when sockets fail, and of whoever is behind.

use serde_json::Value;
use ssegateway::gateway::{Broken, ConnId};

use super::driver::*;
use crate::metrics::Metrics;

/// Somebody who looks.
struct Operator(ConnId);

impl Operator {
    fn new(s: &mut Script) -> Operator {
        Operator(s.open())
    }

    fn ask(&self, s: &mut Script, path: &str) -> String {
        s.bytes(self.0, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let got = s.got(self.0);
        let (head, body) = got.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        body.to_owned()
    }

    fn figures(&self, s: &mut Script) -> Metrics {
        let page = self.ask(s, "/internal/metrics");
        Metrics::parse(&page).expect(&page)
    }

    fn streams(&self, s: &mut Script) -> Vec<Value> {
        let page = self.ask(s, "/internal/streams");
        let mut page: Value = serde_json::from_str(&page).expect("JSON");
        assert_eq!(page["next"], Value::Null);
        page["streams"].as_array_mut().map(std::mem::take).unwrap()
    }
}

fn to_all(data: &str) -> String {
    format!("{{\"broadcast\":true,\"event\":{{\"data\":\"{data}\"}}}}")
}

/// Eight are pending, the ninth waits, and is a send once it has found its place.
#[test]
fn sends_to_many_are_told_until_they_have_come_to_everybody() {
    let mut s = Script::new();
    let operator = Operator::new(&mut s);
    let streams: Vec<_> = (0..3).map(|_| s.stream()).collect();
    let publishers: Vec<ConnId> = (0..10).map(|_| s.open()).collect();
    for publisher in &publishers {
        s.bytes(*publisher, post(&to_all("x")));
    }
    let told = |s: &mut Script| {
        let figures = operator.figures(s);
        [
            "fan_outs_pending",
            "publishers_waiting",
            "sends_total target=broadcast answer=ok",
            "events_delivered_total",
        ]
        .map(|series| figures.count(series))
    };
    assert_eq!(told(&mut s), [8, 2, 8, 0]);
    let held = operator
        .figures(&mut s)
        .count("held_bytes towards=publishers");
    assert!(held as usize >= 2 * to_all("x").len(), "{held}");
    while s.gw.is_fanning_out() {
        s.fan_out();
    }
    assert_eq!(told(&mut s), [0, 0, 10, 30]);
    for (client, _) in &streams {
        assert_eq!(s.got(*client), chunk("x").repeat(10));
    }
    for stream in operator.streams(&mut s) {
        assert_eq!(stream["events"], 10, "{stream}");
    }
}

/// The end of a stream whose socket fails is no limit's; that of one whose peer has vanished is.
#[test]
fn sockets_that_fail_end_streams() {
    let mut s = Script::new();
    let operator = Operator::new(&mut s);
    let publisher = s.open();
    let (client, job) = s.stream();
    s.takes(client, Takes::Fails);
    let answer = s.send(publisher, &event_for(&job, "x"));
    assert_eq!(answer, "500 WRITE_FAILED");
    let figures = operator.figures(&mut s);
    assert_eq!(figures.count("streams_ended_total reason=error"), 1);
    assert_eq!(
        figures.count("sends_total target=token answer=WRITE_FAILED"),
        1
    );
    assert_eq!(figures.sum("streams_dropped_total"), 0);
    assert_eq!(figures.sum("limits_hit_total"), 0);
    let (client, _) = s.stream();
    s.broken(client, Broken::Vanished);
    let (client, _) = s.stream();
    s.broken(client, Broken::Reset);
    let figures = operator.figures(&mut s);
    assert_eq!(figures.count("streams_ended_total reason=error"), 2);
    assert_eq!(figures.count("streams_ended_total reason=client_closed"), 1);
    let dropped = "streams_dropped_total limit=PEER_TIMEOUT_SECONDS";
    assert_eq!(
        (figures.count(dropped), figures.sum("streams_dropped_total")),
        (1, 1)
    );
    assert_eq!(
        figures.count("limits_hit_total limit=PEER_TIMEOUT_SECONDS"),
        1
    );
    assert_eq!(figures.count("streams"), 0);
}

/// Whoever asks behind a send is told of it, in the order of the requests.
#[test]
fn a_look_comes_behind_what_was_asked_before() {
    let mut s = Script::new();
    let publisher = s.open();
    let (client, job) = s.stream();
    let look = "GET /internal/metrics HTTP/1.1\r\nHost: h\r\n\r\n";
    let list = "GET /internal/streams HTTP/1.1\r\nHost: h\r\n\r\n";
    let send = post(&event_for(&job, "x"));
    s.bytes(publisher, [look, &send, look, &send, list, HEALTH].concat());
    assert_eq!(s.got(client), chunk("x").repeat(2));
    let got = s.got(publisher);
    let answers: Vec<&str> = got.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
    let [none, first, one, second, two, health] = answers[..] else {
        panic!("{got}");
    };
    let events = |page: &str| {
        let (_, page) = page.split_once("\r\n\r\n").expect("a head");
        Metrics::parse(page)
            .expect(page)
            .count("events_delivered_total")
    };
    assert_eq!((events(none), events(one)), (0, 1));
    assert!(first.ends_with("{\"status\":\"ok\"}") && second.ends_with("{\"status\":\"ok\"}"));
    assert!(two.contains("\"events\":2"), "{two}");
    assert!(health.ends_with("{\"status\":\"ok\"}"), "{health}");
}

/// Nobody is forgotten who is behind, and nobody counted twice, whatever he was before: the sum is that
/// of the list.
#[test]
fn bytes_that_wait_are_those_of_all_streams() {
    for seed in 0..8_u64 {
        let mut s = Script::with_limits(|limits| limits.max_held = 30_000);
        let operator = Operator::new(&mut s);
        let publisher = s.open();
        let mut streams = Vec::new();
        let mut state = seed;
        let mut random = move |below: usize| {
            // Knuth's; its high bits are good enough here.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut most = 0;
        for _ in 0..300 {
            streams.retain(|(client, _)| !s.is_closed(*client));
            if streams.len() < 6 {
                streams.push(s.stream());
            }
            let (client, job) = &streams[random(streams.len())];
            match random(8) {
                0 => s.takes(*client, Takes::All),
                1 => s.takes(*client, Takes::Bytes(random(5000))),
                2 => s.takes(*client, Takes::Bytes(0)),
                // It says that it takes more, and does not.
                3 => s.writable(*client),
                4 => {
                    s.send(publisher, &to_all(&"x".repeat(random(2000))));
                    while s.gw.is_fanning_out() {
                        s.fan_out();
                    }
                }
                5 => s.eof(*client),
                _ => {
                    s.send(publisher, &event_for(job, &"x".repeat(1 << random(14))));
                }
            }
            if random(2) == 0 {
                let unsent = operator.figures(&mut s).count("unsent_bytes");
                let listed = operator.streams(&mut s);
                let sum = listed.iter().map(|it| it["unsent"].as_u64().unwrap());
                assert_eq!(unsent, sum.sum::<u64>(), "{listed:?}");
                most = most.max(unsent);
            }
        }
        assert!(most > 10_000, "{most}");
    }
}
