//! What the parts of the hot path cost alone: `cargo bench --bench micro`.
//!
//! Absolute times depend on the machine; compare two runs on the same one.

use std::hint::black_box;
use std::mem::MaybeUninit;

use divan::Bencher;
use ssegateway::http::head::{self, HeadLimits, HeadScan, MAX_HEADERS};
use ssegateway::sse::{self, Format, Framing};
use ssegateway::time::Time;
use ssegateway::tokens::TokenIndex;
use ssegateway::wheel::Wheel;
use ssegateway::wire::{self, Event, Rules};
use uuid::Uuid;

fn main() {
    divan::main();
}

const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 * 1024,
    headers: 100,
};

const SEND_HEAD: &[u8] = b"POST /internal/send HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\
    Content-Type: application/json\r\nContent-Length: 180\r\n\r\n";

const BROWSER_HEAD: &[u8] = b"GET /events/dashboard?tab=3&since=1700000000 HTTP/1.1\r\n\
    Host: app.example.com\r\nConnection: keep-alive\r\nAccept: text/event-stream\r\n\
    Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 \
    (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\nReferer: https://app.example.com/board\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

const COMMAND: &[u8] = br#"{"token":"4dd2e989-ffc4-420d-8e0a-8a6fb7064a2b","event":{"name":"progress","data":"a payload of about a hundred bytes, as an application sends it many times in a second......"}}"#;

#[divan::bench(args = ["send", "browser"])]
fn request_head(bencher: Bencher<'_, '_>, whose: &str) {
    let bytes = if whose == "send" {
        SEND_HEAD
    } else {
        BROWSER_HEAD
    };
    bencher.bench(|| {
        let mut scan = HeadScan::default();
        let length = scan.find(black_box(bytes), LIMITS).ok().flatten();
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let bytes = &bytes[..length.unwrap_or_default()];
        head::parse(bytes, LIMITS, &mut room).map(|head| head.body)
    });
}

#[divan::bench]
fn send_command() -> bool {
    let rules = Rules {
        max_channels: 64,
        has_history: false,
    };
    wire::send_command(black_box(COMMAND), rules).is_ok()
}

/// A hundred bytes in so many lines.
#[divan::bench(args = [1, 20])]
fn encode_event(bencher: Bencher<'_, '_>, lines: usize) {
    let data = vec!["x".repeat(100 / lines); lines].join("\n");
    let event = Event {
        name: "progress".into(),
        data: data.into(),
        ..Event::default()
    };
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(move || {
        out.clear();
        let fields = Format::Plain.fields(black_box(&event));
        sse::write_event(&mut out, Framing::Chunked, &fields);
        out.len()
    });
}

/// Ten thousand heartbeats: arm, meet, arm again.
#[divan::bench]
fn wheel_of_ten_thousand(bencher: Bencher<'_, '_>) {
    let mut wheel = Wheel::default();
    for owner in 0..10_000u32 {
        wheel.arm(owner, Time(u64::from(owner)));
    }
    let (mut now, mut due) = (0, Vec::new());
    bencher.bench_local(move || {
        now += 10_000;
        wheel.expire(Time(now), usize::MAX, &mut due);
        for owner in due.drain(..) {
            wheel.arm(owner, Time(now + u64::from(owner)));
        }
    });
}

/// A thousand look-ups, spread over so many tokens.
#[divan::bench(args = [10_000, 50_000, 200_000, 1_000_000])]
fn look_up(bencher: Bencher<'_, '_>, known: usize) {
    let tokens: Vec<Uuid> = (0..known).map(|_| Uuid::new_v4()).collect();
    let mut index = TokenIndex::default();
    for (at, token) in tokens.iter().enumerate() {
        index.insert(*token, at);
    }
    let mut start = 0;
    bencher.bench_local(move || {
        start = (start + 7919) % known;
        // A stride that shares no factor with the number of tokens: each has its turn.
        (0..1000)
            .filter_map(|step| index.get(tokens[(start + step * 104_729) % known]))
            .fold(0, usize::wrapping_add)
    });
}
