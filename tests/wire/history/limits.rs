//! What is kept is bounded, whatever its size and whatever its channels.

use serde_json::json;

use super::{Stage, assert_next, event, gap, position};
use crate::channels::{pipeline, to_channel};

/// An event that is larger than all that is kept comes to who is there and to nobody later.
#[test]
fn events_larger_than_the_history() {
    let large = "x".repeat(50_000);
    for bytes in ["1000", "20000"] {
        let stage = Stage::with(&[("HISTORY_BYTES", bytes)]);
        let (mut client, _) = stage.join(&["c"], None);
        let begin = client.next_event()[4..].trim_end().to_owned();
        let mut last = begin.clone();
        for round in 0..3 {
            let id = stage.to("c", &large);
            assert_next(&mut client, [event(&id, &large)]);
            let (mut again, _) = stage.join(&["c"], Some(&last));
            assert_next(&mut again, [gap(&last), position(&id)]);
            again.reset();
            // What is small is kept behind it.
            last = stage.to("c", "small");
            assert_next(&mut client, [event(&last, "small")]);
            let (mut again, _) = stage.join(&["c"], Some(&id));
            assert_next(&mut again, [event(&last, "small"), position(&last)]);
            again.reset();
            let (mut all, _) = stage.join(&["c"], Some("earliest"));
            assert_next(&mut all, [event(&last, "small"), position(&last)]);
            all.reset();
            println!("{round}");
        }
        stage.end([client]);
    }
}

/// The newest are kept, whatever their channels, as many as there is room for.
#[test]
fn thousands_of_channels_in_which_nobody_is() {
    const CHANNELS: usize = 5000;
    let stage = Stage::with(&[("HISTORY_BYTES", "200000")]);
    let begin = stage.to("begin", "x");
    let commands: Vec<_> = (0..CHANNELS)
        .map(|number| to_channel(&format!("user.{number}"), &number.to_string()))
        .collect();
    let mut ids = Vec::new();
    for some in commands.chunks(1000) {
        ids.extend(pipeline(&stage.gateway, some).iter().map(super::id_of));
    }
    let last = ids.last().expect("one");
    let of = |number: usize, asked: &str| {
        let (mut client, _) = stage.join(&[&format!("user.{number}")], Some(asked));
        let first = client.next_event();
        if first == gap(asked) {
            assert_next(&mut client, [position(last)]);
            client.reset();
            return false;
        }
        assert_eq!(first, event(&ids[number], &number.to_string()));
        assert_next(&mut client, [position(last)]);
        client.reset();
        true
    };
    let before_last = ids[CHANNELS - 2].clone();
    assert!(of(CHANNELS - 1, &before_last));
    assert!(of(CHANNELS - 200, &ids[CHANNELS - 201]));
    assert!(!of(0, &begin));
    assert!(!of(CHANNELS / 2, &begin));
    // Of all those that are kept none is missing: a stream in the last of them has them all.
    let mut kept = 0;
    for from in (0..CHANNELS).rev().step_by(50).take(20) {
        kept += usize::from(of(from, &ids[from.max(1) - 1]));
    }
    assert!(kept > 5, "{kept}");
    let channels: Vec<String> = (CHANNELS - 64..CHANNELS)
        .map(|number| format!("user.{number}"))
        .collect();
    let answer = json!({"channels": channels});
    let (mut client, _) = stage.visit(Some(&ids[CHANNELS - 65]), &answer);
    for (number, id) in ids.iter().enumerate().skip(CHANNELS - 64) {
        assert_next(&mut client, [event(id, &number.to_string())]);
    }
    assert_next(&mut client, [position(last)]);
    stage.end([client]);
}
