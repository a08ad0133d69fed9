//! Looking at what goes on (contract, section 14) costs the same however many streams there are, and
//! whoever reads all of them page by page finds each.
//!
//! A process of its own: counting replaces the allocator of all tests in it, and it measures how long
//! a look takes.

#[path = "support/house.rs"]
#[allow(dead_code, unreachable_pub)] // Here it is used in part.
mod house;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use serde_json::Value;
use ssegateway::gateway::ConnId;

use house::House;

const FEW: usize = 10;
const MANY: usize = 10_000;

/// The looks that are compared; there is one more than a page holds.
fn looks(house: &House) -> [String; 4] {
    [
        "/internal/metrics".to_owned(),
        format!("/internal/streams?limit={}", FEW - 1),
        format!("/internal/streams/{}", house.tokens[FEW - 1]),
        "/internal/channels".to_owned(),
    ]
}

fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

/// The least time of many looks, in turns: whatever else is at work makes some of them longer, and not
/// all.
fn least(houses: &mut [House; 2], target: impl Fn(&House) -> String) -> [Duration; 2] {
    let requests = [&houses[0], &houses[1]].map(|house| request(&target(house)));
    let mut least = [Duration::MAX; 2];
    for _ in 0..300 {
        for at in 0..2 {
            let begun = Instant::now();
            houses[at].send(&requests[at]);
            least[at] = least[at].min(begun.elapsed());
        }
    }
    least
}

#[test]
fn a_look_costs_the_same_however_many_streams_there_are() {
    let mut houses = [House::of(FEW), House::of(MANY)];
    for number in 0..4 {
        let [few, many] = &mut houses;
        let [few, many] = [few, many].map(|house| {
            let request = request(&looks(house)[number]);
            house.send(&request);
            let before = house.written;
            let info = measure(|| house.send(&request));
            (info.count_total, house.written - before)
        });
        let target = &looks(&houses[0])[number];
        // Larger numbers have more digits, and a text that holds them may have to grow once more.
        assert!(
            many.0 <= few.0 + 2,
            "{target}: {few:?} and {many:?} allocations"
        );
        let [few, many] = least(&mut houses, |house| looks(house)[number].clone());
        println!("{few:.1?} and {many:.1?} for {target}");
        // Whatever looks at each of them takes several times as long.
        assert!(many * 2 < few * 3, "{target}: {few:?} and {many:?}");
    }
}

/// Clients that were behind once, and are not any more, cost one look something and the next nothing.
#[test]
fn who_was_behind_once_costs_nothing_for_ever() {
    let mut houses = [House::of(FEW), House::of(MANY)];
    for house in &mut houses {
        let event = "{\"broadcast\":true,\"event\":{\"data\":\"xyz\"}}";
        let length = event.len();
        let head = "POST /internal/send HTTP/1.1\r\nHost: h";
        let event = format!("{head}\r\nContent-Length: {length}\r\n\r\n{event}");
        house.takes = 3;
        house.send(event.as_bytes());
        while house.gateway.is_fanning_out() {
            house.gateway.fan_out(house.now);
            house.settle();
        }
        let unsent = |house: &mut House| {
            let page = house.look("/internal/metrics");
            let mut lines = page.lines();
            let line = lines.find_map(|it| it.strip_prefix("ssegateway_unsent_bytes "));
            line.expect("a line").parse::<usize>().expect("a number")
        };
        let chunk = "b\r\ndata: xyz\n\n\r\n".len();
        assert_eq!(unsent(house), house.tokens.len() * (chunk - 3));
        house.takes = usize::MAX;
        house
            .blocked
            .drain(..)
            .for_each(|id| house.gateway.writable(id, house.now));
        house.settle();
        assert_eq!(unsent(house), 0);
    }
    let [few, many] = least(&mut houses, |_| "/internal/metrics".to_owned());
    println!("{few:.1?} and {many:.1?}");
    assert!(many * 2 < few * 3, "{few:?} and {many:?}");
}

/// However many are asked for at once, nobody else waits for more than one of them.
#[test]
fn a_turn_has_one_look() {
    let mut house = House::of(FEW);
    for number in 0..4 {
        let before = (house.turns, house.written);
        let request = request(&looks(&house)[number]);
        house.send(&request.repeat(5));
        assert_eq!(house.turns - before.0, 5);
        let length = (house.written - before.1) / 5;
        let before = house.written;
        house.send(&request);
        // Numbers in it may have grown.
        assert!((house.written - before).abs_diff(length) < 8);
    }
}

// ---- pages ----

/// The tokens of a page, and where the next one begins.
fn page(house: &mut House, query: &str) -> (Vec<String>, Option<String>) {
    let text = house.look(&format!("/internal/streams?{query}"));
    let page: Value = serde_json::from_str(&text).expect(&text);
    let streams = page["streams"].as_array().expect("streams").iter();
    let token = |stream: &Value| stream["token"].as_str().expect("a token").to_owned();
    let next = page["next"].as_str().map(str::to_owned).or_else(|| {
        let next = page["next"].as_u64();
        next.map(|next| next.to_string())
    });
    (streams.map(token).collect(), next)
}

/// All pages; `between` is done behind each.
fn all_pages(
    house: &mut House,
    query: &str,
    mut between: impl FnMut(&mut House),
) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    let mut next = None;
    loop {
        let after = next.map_or(String::new(), |next| format!("&after={next}"));
        let (tokens, following) = page(house, &format!("{query}{after}"));
        for token in tokens {
            *seen.entry(token).or_default() += 1;
        }
        let Some(following) = following else {
            return seen;
        };
        next = Some(following);
        between(house);
    }
}

#[test]
fn each_of_many_streams_is_on_one_page_while_others_come_and_go() {
    let mut house = House::of(MANY);
    let mut guests: Vec<(ConnId, String)> = (0..1000).map(|_| house.open(&[])).collect();
    let stay: HashSet<String> = house.tokens.iter().cloned().collect();
    for limit in [9, 100, 1000] {
        let (mut turns, mut came) = (0, HashSet::new());
        came.extend(guests.iter().map(|(_, token)| token.clone()));
        let seen = all_pages(&mut house, &format!("limit={limit}"), |house| {
            turns += 1;
            if turns % (1000 / limit) != 0 {
                return;
            }
            // Some leave, in front of where the reader is and behind it, and some take their places.
            for at in (0..guests.len()).step_by(3) {
                house.leave(guests[at].0);
            }
            house.gateway.reap();
            for at in (0..guests.len()).step_by(3) {
                guests[at] = house.open(&[]);
                came.insert(guests[at].1.clone());
            }
        });
        assert!(turns >= MANY / limit, "{turns}");
        for (token, times) in &seen {
            assert_eq!(*times, 1, "{token}");
            assert!(stay.contains(token) || came.contains(token), "{token}");
        }
        let missed = stay.iter().filter(|token| !seen.contains_key(*token));
        assert_eq!(missed.count(), 0);
    }
    // None is asked for, and more than there may be.
    for (query, most) in [("", 100), ("limit=999999999", 1000)] {
        assert_eq!(page(&mut house, query).0.len(), most, "{query}");
    }
}

/// The few of a channel among many: pages may be short, and each member is on one.
#[test]
fn the_members_of_a_channel_are_found_among_many() {
    let mut house = House::of(MANY);
    let mut members = HashSet::new();
    for round in 0..20 {
        members.insert(house.open(&["c", "d"]).1);
        (0..round * 100).for_each(|_| drop(house.open(&["d"])));
    }
    for limit in [1, 3, 100] {
        let query = format!("channel=c&limit={limit}");
        let seen = all_pages(&mut house, &query, |_| {});
        assert!(seen.values().all(|times| *times == 1));
        assert_eq!(seen.into_keys().collect::<HashSet<_>>(), members, "{limit}");
    }
}
