use super::*;
use crate::sse::{Fields, Framing};

fn frame(data: &str, key: Option<&str>, id: &str) -> Rc<Frame> {
    let fields = Fields {
        name: "",
        id: Some(id),
        retry: None,
        data: data.into(),
    };
    Frame::event(&fields, key, 0)
}

fn history(max: usize) -> History {
    let mut history = History::new(max, Duration::from_secs(60), 1000);
    history.set_clock(5000);
    history
}

fn append(history: &mut History, names: &[&str], data: &str, key: Option<&str>, now: u64) {
    let id = history.next_id().to_string();
    let frame = frame(data, key, &id);
    history.append(&frame, names.iter().copied(), Time(now));
}

fn data(history: &History, number: u64) -> Option<String> {
    let bytes = match history.bytes(number)? {
        Kept::Chunk(bytes) => bytes,
        Kept::Frame(frame) => frame.bytes(Framing::Chunked),
    };
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let (_, data) = text.split_once("data: ").expect("data");
    Some(data.trim_end().to_owned())
}

fn numbers(history: &History, name: &str, behind: u64) -> Vec<u64> {
    let mut cursor = history.cursor(name, behind);
    let mut numbers = Vec::new();
    while let Some(number) = cursor.next {
        assert!(history.is_in(number, &cursor));
        numbers.push(number);
        history.advance(&mut cursor);
    }
    numbers
}

/// What a plain list knows of an event.
struct Plain {
    number: u64,
    names: Vec<&'static str>,
    data: String,
    key: Option<&'static str>,
    now: u64,
}

/// Compares everything that can be asked with a plain list, of which the history keeps the end.
fn check(history: &History, all: &[Plain]) {
    let kept = &all[all.len() - history.entries.len()..];
    for event in kept {
        assert_eq!(data(history, event.number).as_deref(), Some(&*event.data));
        let mut later = kept.iter().filter(|it| it.number > event.number);
        let later = later.find(|it| it.key.is_some() && it.key == event.key);
        let later = later.map(|it| it.number);
        assert_eq!(history.later(event.number), later);
    }
    let gone = &all[..all.len() - kept.len()];
    for name in ["", "a", "b", "c", "never"] {
        let of = |events: &[Plain]| -> Vec<u64> {
            let its = events.iter().filter(|it| it.names.contains(&name));
            its.map(|it| it.number).collect()
        };
        let own = of(kept);
        for behind in [0, history.last() / 2, history.last()] {
            let expected: Vec<u64> = own.iter().copied().filter(|it| *it > behind).collect();
            assert_eq!(numbers(history, name, behind), expected);
        }
        let forgotten = of(gone).last().copied().unwrap_or(0);
        assert_eq!(history.forgotten(name), forgotten, "{name}");
    }
    let oldest = kept.first().map(|it| Time(it.now.div_ceil(1000) * 1000));
    let deadline = oldest.map(|oldest| oldest + Duration::from_secs(60));
    assert_eq!(history.deadline(), deadline);
}

#[test]
fn it_keeps_the_end_of_a_plain_list() {
    let mut seed = 1u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let mut history = history(60_000);
    // The lower halves of the numbers run over in between.
    history.last = u64::from(u32::MAX) - 300;
    let mut all: Vec<Plain> = Vec::new();
    let mut now = 0;
    for _ in 0..2000 {
        now += below(3) * below(700);
        history.expire(Time(now));
        let names: &[&'static str] = match below(6) {
            0 => &[""],
            1 => &["a", "b"],
            2 => &["c", "a", "b"],
            3 => &["c"],
            _ => &["a"],
        };
        let key = [Some("x"), Some("y"), None, None][below(4) as usize];
        let length = [10, 300, 3000, 20_000, 70_000][(below(5) * below(2) * below(2)) as usize];
        let data = format!("{now}{}", "x".repeat(length));
        append(&mut history, names, &data, key, now);
        all.push(Plain {
            number: history.last(),
            names: names.to_vec(),
            data,
            key,
            now,
        });
        assert!(history.memory <= 60_000);
        check(&history, &all);
    }
    assert!(history.first() > u64::from(u32::MAX));
    history.expire(Time(now + 62_000));
    check(&history, &all);
    // Nothing is left but the channel that is everybody's.
    assert_eq!((history.memory, history.entries.len()), (0, 0));
    assert_eq!((history.channels.len(), history.names.len()), (1, 1));
    assert_eq!(history.keys.len(), 0);
}

#[test]
fn what_an_event_costs_is_what_it_takes() {
    let mut history = history(100_000_000);
    for number in 0..20_000 {
        let name = ["a", "b", "c", "d"][number % 4];
        append(&mut history, &[name], "some words", None, 0);
    }
    let bytes = data_bytes(&history);
    let lists: usize = history
        .channels
        .iter()
        .map(|(_, it)| it.events.capacity())
        .sum();
    let taken =
        bytes.1 + history.entries.capacity() * size_of::<Entry>() + lists * size_of::<u32>();
    assert!(
        taken <= history.memory,
        "{taken}, counted {}",
        history.memory
    );
    assert!(history.memory <= bytes.0 + 20_000 * 64 + 4 * 200);
}

/// Bytes of the events, and of the blocks that they lie in.
fn data_bytes(history: &History) -> (usize, usize) {
    let events = (history.first()..=history.last()).map(|number| match history.bytes(number) {
        Some(Kept::Chunk(bytes)) => bytes.len(),
        _ => 0,
    });
    (events.sum(), history.blocks.capacity())
}

#[test]
fn ids_only_grow_whatever_the_clock_does() {
    let mut history = history(10_000);
    let mut last = history.position();
    assert_eq!((last.millis, last.number), (5000, 1000));
    for clock in [5000, 5000, 4000, 0, 5001, 9000, 8999] {
        history.set_clock(clock);
        let next = history.next_id();
        append(&mut history, &["a"], "x", None, 0);
        assert_eq!(history.position(), next);
        assert!(next > last, "{next:?} {last:?}");
        assert_eq!(next.number, last.number + 1);
        last = next;
    }
    assert_eq!(last.millis, 9000);
}

#[test]
fn what_stands_in_place_of_an_id() {
    let mut history = history(10_000);
    for _ in 0..3 {
        append(&mut history, &["a"], "x", None, 0);
    }
    history.set_clock(6000);
    append(&mut history, &["a"], "x", None, 0);
    #[rustfmt::skip] // A table is read in columns.
    let table = [
        ("", "Now"),
        ("earliest", "Earliest"),
        ("Earliest", "Unknown"),
        ("5000-1000", "Behind 0"),
        ("5000-1003", "Behind 3"),
        ("6000-1004", "Behind 4"),
        ("6000-1005", "Unknown"),
        ("5000-999", "Unknown"),
        ("4999-1001", "Unknown"),
        ("6001-1004", "Unknown"),
        ("1", "Unknown"),
        (" 5000-1001", "Unknown"),
    ];
    for (text, expected) in table {
        let found = match history.start(text) {
            Start::Behind(id) => format!("Behind {}", history.number_of(id)),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected, "{text}");
    }
}
