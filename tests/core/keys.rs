//! How long it takes to tell a wrong key from a right one says nothing of the right one (contract,
//! section 13).

use std::hint::black_box;
use std::time::{Duration, Instant};

use ssegateway::keys::Keys;

/// Bytes of two keys: so long that bytes that are not looked at show, so unlike that it shows of which key
/// they are, and short enough to be looked at in one go on a busy host.
const LENGTHS: [usize; 2] = [16 * 1024, 64 * 1024];

/// Each is asked so often at the least. Its fastest run is what it takes when nothing else is at work.
const RUNS: usize = 25;

/// For how long a busy host may keep that from showing.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn it_takes_the_same_time_wherever_a_key_differs() {
    let [one, two] = LENGTHS.map(|length| "k".repeat(length));
    let keys = Keys::parse(&format!("{one},{two}")).expect("two keys");
    let differing = |key: &str, at: usize| {
        let mut key = key.as_bytes().to_vec();
        key[at] = b'x';
        String::from_utf8(key).expect("ASCII")
    };
    let cases = [
        ("the first", one.clone()),
        ("the second", two.clone()),
        ("the first, but for its first byte", differing(&one, 0)),
        (
            "the first, but for its last byte",
            differing(&one, one.len() - 1),
        ),
        ("the second, but for its first byte", differing(&two, 0)),
        (
            "the second, but in the middle",
            differing(&two, two.len() / 2),
        ),
        (
            "the second, but for its last byte",
            differing(&two, two.len() - 1),
        ),
        ("the second, cut", two[1..].to_owned()),
        ("the second, and more", two.clone() + "k"),
        ("another", "x".repeat(two.len())),
        ("a short one", "x".to_owned()),
    ];
    let cases = cases.map(|(name, key)| (name, format!("Bearer {key}")));
    let mut fastest = cases.each_ref().map(|_| Duration::MAX);
    let are_alike = |fastest: &[Duration]| {
        let (least, most) = (fastest.iter().min(), fastest.iter().max());
        least
            .zip(most)
            .is_some_and(|(least, most)| *most < 2 * *least)
    };
    let begun = Instant::now();
    for run in 0.. {
        // What takes less because less is looked at will not take more.
        if run >= RUNS && (are_alike(&fastest) || begun.elapsed() > PATIENCE) {
            break;
        }
        // In turns, so that what else is at work meets them alike.
        for ((_, asked), fastest) in cases.iter().zip(&mut fastest) {
            let begun = Instant::now();
            black_box(keys.admit(black_box(asked.as_bytes())));
            *fastest = begun.elapsed().min(*fastest);
        }
    }
    let admitted: Vec<_> = cases
        .iter()
        .filter(|(_, asked)| keys.admit(asked.as_bytes()))
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(admitted, ["the first", "the second"]);
    let shown: Vec<_> = cases.iter().map(|(name, _)| *name).zip(fastest).collect();
    assert!(are_alike(&fastest), "{shown:#?}");
}
