use super::*;

fn keep(store: &HeaderStore, parts: &[&str]) -> Option<Request> {
    let mut ends = Vec::new();
    let mut all = String::new();
    for part in parts {
        all.push_str(part);
        ends.push(all.len());
    }
    store.keep(all.as_bytes(), &ends)
}

fn text(request: &Request) -> String {
    String::from_utf8(request.json()).expect("text")
}

#[test]
fn what_is_kept_comes_back() {
    let store = HeaderStore::new(1 << 20);
    for length in (0..100).chain([1000, 30_000]) {
        let field = format!("\"a\":\"{}\"", "x".repeat(length));
        let request = keep(&store, &["\"/u\"", &field, "\"b\":\"\""]).expect("room");
        let expected = format!("{{\"url\":\"/u\",\"headers\":{{{field},\"b\":\"\"}}}}");
        assert_eq!(text(&request), expected);
        assert_eq!(request.url(), b"/u");
    }
    let bare = keep(&store, &["\"/\""]).expect("room");
    assert_eq!(text(&bare), "{\"url\":\"/\",\"headers\":{}}");
    drop(bare);
    assert_eq!(store.memory(), 0);
}

#[test]
fn one_field_is_told_as_plain_text() {
    let store = HeaderStore::new(1 << 20);
    let long = "x".repeat(1000);
    let parts = [
        "\"/a\"",
        "\"last-event-id-2\":\"other\"",
        "\"last-event\":\"-id\"",
        "\"last-event-id\":\"a \\\"b\\\\ \\tc\u{e9}\"",
        "\"empty\":\"\"",
        &format!("\"long\":\"{long}\""),
    ];
    let request = keep(&store, &parts).expect("room");
    let before = text(&request);
    for (name, value) in [
        ("last-event-id", Some("a \"b\\ \tcé")),
        ("last-event", Some("-id")),
        ("last-event-id-2", Some("other")),
        ("empty", Some("")),
        ("long", Some(&*long)),
        ("last", None),
        ("Last-Event-ID", None),
        ("event-id", None),
        ("/a", None),
        ("a", None),
        ("", None),
    ] {
        assert_eq!(request.field(name).as_deref(), value, "{name}");
    }
    let mut json = b"before".to_vec();
    let names = ["last-event", "long", "last", "last-event-id"];
    let found = request.write_and_find(&mut json, names);
    assert_eq!(json, [b"before", before.as_bytes()].concat());
    let found = found.map(|at| String::from_utf8_lossy(&json[at]).into_owned());
    let id = "\"a \\\"b\\\\ \\tc\u{e9}\"";
    let quoted = format!("\"{long}\"");
    assert_eq!(found, ["\"-id\"", quoted.as_str(), "", id]);
    // What looking at it needs is nothing that is kept, or that others would see.
    assert_eq!(text(&request), before);
    let other = keep(&store, &["\"/\""]).expect("room");
    assert_eq!(other.field("last-event-id"), None);
    drop((request, other));
    assert_eq!(store.memory(), 0);
}

#[test]
fn a_field_that_many_have_is_kept_once() {
    let store = HeaderStore::new(1 << 20);
    let common = format!("\"a\":\"{}\"", "x".repeat(1000));
    let one = keep(&store, &["\"/1\"", &common]).expect("room");
    let before = store.memory();
    let others: Vec<Request> = (0..100)
        .map(|_| keep(&store, &["\"/2\"", &common]).expect("room"))
        .collect();
    assert!(store.memory() - before < 100 * 200);
    drop(one);
    assert!(text(&others[50]).contains(&common));
    let copy = others[50].clone();
    drop(others);
    assert!(text(&copy).contains(&common));
    drop(copy);
    assert_eq!(store.memory(), 0);
}

#[test]
fn beyond_the_limit_nothing_is_kept_and_nothing_lost() {
    let store = HeaderStore::new(10_000);
    let unique = |n: usize| format!("\"n\":\"{}\"", format!("{n:04}").repeat(200));
    let mut kept = Vec::new();
    for n in 0.. {
        match keep(&store, &["\"/\"", "\"a\":\"b\"", &unique(n)]) {
            Some(request) => kept.push(request),
            None => break,
        }
    }
    assert!((8..12).contains(&kept.len()), "{}", kept.len());
    let memory = store.memory();
    assert!(memory <= 10_000);
    for n in 100..200 {
        assert!(keep(&store, &["\"/\"", "\"c\":\"d\"", &unique(n)]).is_none());
    }
    assert_eq!(store.memory(), memory, "a part of what was refused is held");
    for (n, request) in kept.iter().enumerate() {
        assert!(text(request).contains(&unique(n)));
    }
    kept.pop();
    assert!(keep(&store, &["\"/\"", "\"a\":\"b\"", &unique(5000)]).is_some());
}

#[test]
fn two_fields_with_one_hash_are_told_apart() {
    let store = HeaderStore::new(1 << 20);
    let one = keep(&store, &["\"/\"", "\"a\":\"1\""]).expect("room");
    {
        let mut inner = store.lock();
        let id = *inner.index.values().next().expect("a field");
        let hash = inner.hash(b"\"a\":\"2\"");
        inner.index.insert(hash, id);
    }
    let other = keep(&store, &["\"/\"", "\"a\":\"2\""]).expect("room");
    assert!(text(&one).contains("\"1\"") && text(&other).contains("\"2\""));
    drop((one, other));
    assert_eq!(store.memory(), 0);
}

#[test]
fn a_crowd_that_has_left_leaves_its_memory() {
    let store = HeaderStore::new(64 << 20);
    let field = |n: usize| format!("\"n\":\"{}\"", n.to_string().repeat(500));
    let mut crowd: Vec<Request> = (1000..3000)
        .map(|n| keep(&store, &["\"/\"", "\"a\":\"b\"", &field(n)]).expect("room"))
        .collect();
    assert!(store.lock().units.capacity() * mem::size_of::<Unit>() >= MAPPED);
    let stay: Vec<Request> = [1999, 700, 3].map(|at| crowd.swap_remove(at)).into();
    let texts: Vec<String> = stay.iter().map(text).collect();
    drop(crowd);
    store.shrink_to_fit();
    {
        let inner = store.lock();
        assert_eq!(inner.units.capacity(), inner.used);
        assert!(inner.used < 3 * 100);
    }
    assert_eq!(stay.iter().map(text).collect::<Vec<_>>(), texts);
    let more = keep(&store, &["\"/\"", "\"a\":\"b\"", &field(5)]).expect("room");
    assert!(text(&more).contains(&field(5)));
    drop((stay, more));
    store.shrink_to_fit();
    assert_eq!(store.lock().units.capacity(), 0);
}

/// Random requests come and go; the twin keeps their texts whole.
#[test]
fn the_store_agrees_with_plain_strings() {
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let store = HeaderStore::new(20_000);
    let mut kept: Vec<(Request, String)> = Vec::new();
    let mut refused = 0;
    for _ in 0..5000 {
        match next(8) {
            0..=3 => {
                let fields: Vec<String> = (0..next(6))
                    .map(|_| format!("\"{}\":\"{}\"", next(5), "y".repeat(next(120) as usize)))
                    .collect();
                let url = format!("\"/{}\"", next(1000));
                let parts: Vec<&str> = [&url].into_iter().chain(&fields).map(|s| &**s).collect();
                let whole = format!("{{\"url\":{url},\"headers\":{{{}}}}}", fields.join(","));
                match keep(&store, &parts) {
                    Some(request) => kept.push((request, whole)),
                    None => refused += 1,
                }
            }
            4 if !kept.is_empty() => {
                let (request, whole) = &kept[next(kept.len() as u64) as usize];
                let copy = (request.clone(), whole.clone());
                kept.push(copy);
            }
            5..=6 if !kept.is_empty() => {
                kept.swap_remove(next(kept.len() as u64) as usize);
            }
            _ => store.shrink_to_fit(),
        }
        if let Some((request, whole)) = kept.last() {
            assert_eq!(text(request), *whole);
        }
    }
    assert!(refused > 0);
    for (request, whole) in kept.drain(..) {
        assert_eq!(text(&request), whole);
    }
    assert_eq!(store.memory(), 0);
    assert!(store.lock().index.is_empty());
}
