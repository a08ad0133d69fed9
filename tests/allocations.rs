//! Nothing on the hot path allocates: once warm, sends and heartbeats cost no memory at all.
//!
//! A process of its own: counting replaces the allocator of all tests in it, and a log that another
//! test has set up would have the gateway write lines, which are memory.

#[path = "support/house.rs"]
#[allow(dead_code, unreachable_pub)] // Here it is used in part.
mod house;

use std::time::Duration;

use allocation_counter::measure;
use ssegateway::sse::{Format, Framing, event_len, write_event};
use ssegateway::wire::{Rules, send_command};

use house::{HEARTBEAT, House};

const STREAMS: usize = 100;
const RULES: Rules = Rules {
    max_channels: 64,
    has_history: false,
};
fn request(token: &str, data: &str) -> Vec<u8> {
    let body = format!(r#"{{"token":"{token}","event":{{"name":"n","data":"{data}"}}}}"#);
    let length = body.len();
    format!("POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Allocations in `act`, once it has run before.
#[track_caller]
fn allocations(house: &mut House, mut act: impl FnMut(&mut House)) -> u64 {
    act(house);
    let before = house.written;
    act(house);
    let each = house.written - before;
    assert!(each > 0, "nothing was written");
    let info = measure(|| act(house));
    assert_eq!(house.written - before, 2 * each);
    assert_eq!(info.count_current, 0, "something was kept");
    info.count_total
}

#[test]
fn sends_one_at_a_time() {
    let mut house = House::of(STREAMS);
    let requests: Vec<Vec<u8>> = house.tokens.iter().map(|t| request(t, "data")).collect();
    let count = allocations(&mut house, |house| {
        requests.iter().for_each(|request| house.send(request));
    });
    assert_eq!(count, 0);
}

/// A read that ends within a request costs two allocations at the most: for what is known of it until
/// the next, and for memory that fits what stays.
#[test]
fn sends_pipelined_and_cut() {
    let mut house = House::of(STREAMS);
    let requests: Vec<Vec<u8>> = house.tokens.iter().map(|t| request(t, "data")).collect();
    let all = requests.concat();
    let batch: usize = requests[..8].iter().map(Vec::len).sum();
    let count = allocations(&mut house, |house| {
        all.chunks(batch).for_each(|batch| house.send(batch));
    });
    assert_eq!(count, 0);
    let cuts = all.chunks(777).len() as u64;
    let count = allocations(&mut house, |house| {
        all.chunks(777).for_each(|piece| house.send(piece));
    });
    assert!(count <= 2 * cuts, "{count} for {cuts} cuts");
}

#[test]
fn heartbeats() {
    let mut house = House::of(STREAMS);
    // The wheel's first turns, in which it grows to its crowd.
    house.pass(Duration::from_secs(60));
    let count = allocations(&mut house, |house| house.pass(10 * HEARTBEAT));
    assert_eq!(count, 0);
}

/// However many names a list holds, what is kept of it is bounded.
#[test]
fn lists_of_millions() {
    let body = |items: &str| format!("{{\"tokens\":[{items}\"\"]}}");
    let repeated = body(&"\"\",".repeat(1_000_000));
    let distinct: Vec<_> = (0..300_000)
        .map(|number| format!("\"{number}\","))
        .collect();
    let distinct = body(&distinct.concat());
    for (body, is_accepted) in [(repeated, true), (distinct, false)] {
        let info = measure(|| {
            let command = send_command(body.as_bytes(), RULES);
            assert_eq!(command.is_ok(), is_accepted);
        });
        assert!(info.bytes_max < 256 * 1024, "{info:?}");
        assert!(info.count_total < 100, "{info:?}");
    }
}

/// A command with every field that one stream's event has.
#[test]
fn commands_to_one_stream() {
    let body = br#"{"token":"t","event":{"name":"n","data":"d","id":"i","retry":5,"key":"k"},"close":true}"#;
    let mut out = Vec::with_capacity(256);
    let info = measure(|| {
        let command = send_command(body, RULES).expect("a command");
        let event = command.event.as_ref().expect("an event");
        let fields = Format::Plain.fields(event);
        out.reserve(event_len(&fields));
        write_event(&mut out, Framing::Chunked, &fields);
    });
    assert!(!out.is_empty());
    assert_eq!(info.count_total, 0);
}
