//! Laws of the leaves under inputs made to a shape: the checks of the fuzz targets fed with what is
//! nearly well-formed, and two structures against their slow twins.

mod heads;

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ssegateway::buf::{ByteQueue, Spares};
use ssegateway::time::Time;
use ssegateway::wheel::{TICK_MS, Tick, Wheel};

use super::laws::{body, head, send_json, sse};

/// Bytes that steer, then the parts in a row.
fn steered(steer: &[u8], parts: &[String]) -> Vec<u8> {
    let mut data = steer.to_vec();
    data.extend(parts.iter().flat_map(|part| part.bytes()));
    data
}

fn request_line() -> impl Strategy<Value = String> {
    let method = select(vec!["GET", "POST", "HEAD", "OPTIONS", "get", "G T", ""]);
    let target = prop_oneof![
        select(vec![
            "/",
            "*",
            "/a?b",
            "http://h/p",
            "http://u@h",
            "h:1",
            "//x",
            "/é"
        ])
        .prop_map(str::to_owned),
        "/[!-~]{0,40}",
        "/[!-~\u{80}-\u{ff}]{0,8}",
    ];
    let version = select(vec![
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "HTTP/1.10",
        "",
    ]);
    (method, target, version).prop_map(|(m, t, v)| format!("{m} {t} {v}"))
}

fn field() -> impl Strategy<Value = String> {
    let known = select(vec![
        "Host: h",
        "Host: h",
        "Content-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 6",
        "Content-Length: +5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "transfer-encoding:\tchunked ",
        "Connection: close, x",
        "Expect: 100-continue",
        "Content-Encoding: gzip",
        "Host:",
        "A : b",
        " folded",
        "A",
    ]);
    prop_oneof![
        3 => known.prop_map(str::to_owned),
        1 => "[A-Za-z-]{1,8}:[ -~\u{e9}\t]{0,20}",
    ]
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n\r\n")]
}

fn head_parts() -> impl Strategy<Value = Vec<String>> {
    let line = (field(), line_end()).prop_map(|(field, end)| field + end);
    (request_line(), line_end(), vec(line, 0..8)).prop_map(|(first, end, fields)| {
        let mut parts = vec![first, end.to_owned()];
        parts.extend(fields);
        parts.extend(["\r\n".to_owned(), "rest".to_owned()]);
        parts
    })
}

/// Nearly one or several.
fn extension() -> impl Strategy<Value = String> {
    let part = select(vec![
        ";", ";a", ";a=b", ";a=\"b\"", "=", "\"", "\\", " ", "\t", "a", "\\\"", "é", "\r",
    ]);
    vec(part, 1..5).prop_map(|parts| parts.concat())
}

fn chunk() -> impl Strategy<Value = String> {
    let content = "[a-z\r\n]{1,20}";
    let extension = prop_oneof![8 => Just(String::new()), 3 => extension()];
    let skew = prop_oneof![12 => Just(0), 1 => Just(1), 1 => Just(-1)];
    (content, extension, line_end(), skew, any::<bool>()).prop_map(
        |(content, extension, end, skew, is_upper)| {
            let size = content.len().saturating_add_signed(skew);
            let digits = match is_upper {
                true => format!("{size:X}"),
                false => format!("{}{size:x}", "0".repeat(size)),
            };
            format!("{digits}{extension}\r\n{content}{end}")
        },
    )
}

fn chunked_parts() -> impl Strategy<Value = Vec<String>> {
    let trailers = select(vec![
        "",
        "",
        "A: b\r\n",
        "A:\r\nB: c\r\n",
        "A\r\n",
        " x: y\r\n",
    ]);
    (vec(chunk(), 0..6), trailers, line_end()).prop_map(|(mut parts, trailers, end)| {
        parts.push(format!("0\r\n{trailers}{end}rest"));
        parts
    })
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec![
            "null", "true", "false", "0", "-1.5e3", "1e999", "01", "\"\"", "nul"
        ])
        .prop_map(str::to_owned),
        "[ -~\u{e9}\u{2028}]{0,12}".prop_map(|text| serde_json::json!(text).to_string()),
        select(vec![
            "\"a\\nb\"",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "\"\t\""
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let name = select(vec![
            "token",
            "tokens",
            "channel",
            "channels",
            "broadcast",
            "subscribe",
            "unsubscribe",
            "event",
            "close",
            "data",
            "name",
            "id",
            "retry",
            "key",
            "expires_in",
            "x",
            "d\\u0061ta",
        ]);
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            vec((name, inner), 0..5).prop_map(object),
        ]
    })
}

fn object(fields: Vec<(&str, String)>) -> String {
    let field = |(name, value)| format!("\"{name}\": {value}");
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// Mostly right, each field sometimes of any other kind, absent or repeated.
fn command() -> impl Strategy<Value = String> {
    let text = || prop_oneof![6 => "\"[a-z ]{1,6}\"", 1 => json_value()];
    let word = || prop_oneof![6 => "\"[!#-~]{1,6}\"", 1 => "\"[!-é]{0,3}\"", 1 => json_value()];
    let words = || {
        let list = vec(word(), 0..5).prop_map(|items| format!("[{}]", items.join(",")));
        prop_oneof![6 => list, 1 => Just("[\"a\",\"a\",\"b\"]".to_owned()), 1 => json_value()]
    };
    let delay =
        prop_oneof![3 => any::<u32>().prop_map(|n| (n / 40).to_string()), 1 => json_value()];
    let span = prop_oneof![
        2 => any::<u64>().prop_map(|n| (n >> (n % 64)).to_string()),
        2 => any::<f64>().prop_map(|n| serde_json::json!(n).to_string()),
        1 => (0.0..100.0_f64).prop_map(|n| n.to_string()),
        1 => json_value(),
    ];
    let inner = vec(
        prop_oneof![
            (Just("data"), text()),
            (Just("data"), text()),
            (Just("name"), text()),
            (Just("id"), word()),
            (Just("retry"), delay),
            (Just("key"), word()),
            (Just("x"), json_value()),
        ],
        0..4,
    );
    let event = prop_oneof![5 => inner.prop_map(object), 1 => json_value()];
    let flag = || prop_oneof![3 => Just("true".to_owned()), 1 => json_value()];
    let target = || {
        prop_oneof![
            4 => (Just("token"), text()),
            1 => (Just("tokens"), words()),
            1 => (Just("channel"), word()),
            1 => (Just("channels"), words()),
            1 => (Just("broadcast"), flag()),
        ]
    };
    let more = prop_oneof![
        4 => (Just("event"), event),
        4 => (Just("close"), flag()),
        2 => (Just("subscribe"), words()),
        2 => (Just("unsubscribe"), words()),
        1 => (Just("expires_in"), span),
        2 => (Just("x"), json_value()),
        1 => target(),
    ];
    (target(), vec(more, 0..4)).prop_map(|(target, mut fields)| {
        fields.insert(0, target);
        object(fields)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads_have_one_verdict(steer in any::<[u8; 3]>(), parts in head_parts()) {
        head::run(&steered(&steer, &parts));
        head::run(&steered(&[255, 19, steer[2]], &parts));
        let latin1 = heads::octets(&parts.concat(), true);
        head::run(&[&[255, 19, steer[2]], &latin1[..]].concat());
    }

    #[test]
    fn well_formed_heads_are_read_as_they_were_meant(head in heads::well_formed()) {
        head.check();
    }

    #[test]
    fn chunked_bodies_are_read_as_their_twin_reads_them(
        steer in any::<[u8; 4]>(),
        parts in chunked_parts(),
    ) {
        body::run(&steered(&steer, &parts));
        body::run(&steered(&[1, 255, 0, steer[3]], &parts));
    }

    #[test]
    fn events_are_read_as_they_were_meant(
        name in "[^\r\n\0]{0,20}",
        id in "[!-~]{0,20}",
        retry in any::<u8>(),
        data in prop_oneof![
            2 => "([a-z:é ]|\r|\n|\r\n|data|event|retry|id){0,20}",
            1 => json_value(),
        ],
    ) {
        let length = |text: &str| u8::try_from(text.len()).unwrap_or(0);
        let steer = [length(&name), length(&id), retry];
        sse::run(&steered(&steer, &[name, id, data]));
    }

    #[test]
    fn commands_are_accepted_as_a_whole_reader_accepts_them(body in command()) {
        send_json::run(body.as_bytes());
    }

    #[test]
    fn any_json_is_judged_as_a_whole_reader_judges_it(body in json_value()) {
        send_json::run(body.as_bytes());
    }

    #[test]
    fn the_wheel_fires_what_a_sorted_map_fires(
        actions in vec((0u8..7, 0u64..120_000, 1usize..20), 1..80),
    ) {
        wheel_against_map(&actions);
    }

    #[test]
    fn a_queue_gives_what_was_put_in(
        actions in vec((0u8..9, 0usize..12_000), 1..40),
    ) {
        queue_against_deque(&actions);
    }
}

/// Arms a few owners again and again at random distances, cancels some, lets random times pass with
/// random budgets.
fn wheel_against_map(actions: &[(u8, u64, usize)]) {
    let mut wheel = Wheel::default();
    let mut map: BTreeMap<u32, u64> = BTreeMap::new();
    let mut now = 0;
    for (serial, (kind, distance, budget)) in actions.iter().enumerate() {
        let owner = (serial * budget % 17) as u32;
        if *kind == 0 {
            wheel.cancel(owner);
            map.remove(&owner);
        } else if *kind < 4 {
            let at = now + distance;
            let tick = wheel.arm(owner, Time(at));
            assert!(tick >= Tick::at(Time(at)));
            map.insert(owner, at.div_ceil(TICK_MS) * TICK_MS);
        } else {
            // Now and then longer than a turn of the wheel.
            now += distance / (1 + *budget as u64 % 12);
            let (mut fired, mut due) = (Vec::new(), Vec::new());
            while wheel.expire(Time(now), *budget, &mut due) {
                assert_eq!(due.len(), *budget, "a budget is used up");
                assert!(wheel.next().is_some_and(|next| next <= Time(now)));
                fired.append(&mut due);
            }
            assert!(due.len() <= *budget);
            fired.append(&mut due);
            fired.sort_unstable();
            let is_due = |(owner, at): (&u32, &u64)| (*at <= now).then_some(*owner);
            let expected: Vec<u32> = map.iter().filter_map(is_due).collect();
            assert_eq!(fired, expected);
            map.retain(|_, at| *at > now);
        }
        let earliest = map.values().min().map(|at| Time(*at));
        let next = wheel.next();
        assert_eq!(next.is_some(), earliest.is_some());
        // A deadline that has passed already fires at the next tick, never before its own.
        let bound = earliest.map(|at| at.max(Time((now / TICK_MS + 1) * TICK_MS)));
        assert!(next <= bound, "{next:?} is later than {bound:?}");
        // What was looked at once needs no other look.
        let is_new = next.is_none_or(|next| next > Time(now) || now == 0);
        assert!(is_new, "{next:?} is over at {now}");
        assert_eq!(wheel.len(), map.len());
    }
}

fn queue_against_deque(actions: &[(u8, usize)]) {
    let mut spares = Spares::default();
    let mut queue = ByteQueue::default();
    let mut deque: VecDeque<u8> = VecDeque::new();
    for (serial, (kind, n)) in actions.iter().enumerate() {
        let bytes: Vec<u8> = (0..*n).map(|at| (at + serial) as u8).collect();
        match kind {
            0..=2 => {
                queue.push(&bytes, &mut spares);
                deque.extend(&bytes);
            }
            3 => {
                queue.tail(*n, &mut spares).extend_from_slice(&bytes);
                deque.extend(&bytes);
            }
            4..=5 => {
                queue.consume(*n, &mut spares);
                deque.drain(..deque.len().min(*n));
            }
            6 => {
                let mut taken = queue.take();
                assert!(queue.is_empty());
                taken.consume(*n / 3, &mut spares);
                deque.drain(..deque.len().min(*n / 3));
                queue.put_back(taken, &mut spares);
            }
            7 => {
                queue.fit(&mut spares);
                assert!(queue.memory() <= (3 * queue.len() / 2).max(1088) + 256);
            }
            _ => {
                queue.clear(&mut spares);
                deque.clear();
            }
        }
        assert_eq!(queue.len(), deque.len());
        assert_eq!(queue.is_empty(), deque.is_empty());
        assert!(deque.iter().eq(queue.bytes()));
    }
}
