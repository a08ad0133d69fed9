//! `LOG_FORMAT=json`.

use serde_json::{Value, json};

use super::super::pipe::MISSING;
use super::*;

/// The objects in order, without their times, which must be those of the moment.
fn objects_in(text: &str, since: u64) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let object = |line: &str| {
        let mut object: Value = serde_json::from_str(line).expect(line);
        let time = object.as_object_mut().expect(line).remove("time");
        let time = time.as_ref().and_then(|time| time.as_str()).expect(line);
        let text = |millis| {
            let mut objects = Objects::new(0);
            let line = objects.object("", millis);
            String::from_utf8_lossy(&line[9..33]).into_owned()
        };
        assert!(*text(since) <= *time && *time <= *text(clock()), "{line}");
        object
    };
    text.lines().map(object).collect()
}

#[test]
fn in_json_every_line_is_an_object() {
    let since = clock();
    let ((out, out_gate), (err, err_gate)) = (gate(), gate());
    let (out_text, err_text) = (out_gate.open(), err_gate.open());
    let logger = formatted(LogFormat::Json, out, err, 10_000, HOUR);
    say(
        &logger,
        Level::Info,
        "ssegateway",
        "start port=3000 url=set",
    );
    say(
        &logger,
        Level::Debug,
        "ssegateway",
        "a\n[ERROR] forged\r\x1b é=\u{85}",
    );
    say(&logger, Level::Info, "ssegateway", "");
    say(&logger, Level::Warn, "ssegateway", "b limit=x more=3");
    say(
        &logger,
        Level::Error,
        "ssegateway",
        "c error=\"a \\\" b=c\"",
    );
    say(&logger, Level::Error, "ureq", "secret");
    assert!(logger.flush_at_exit());
    let expected = json!([
        {"level": "info", "message": "start", "port": 3000, "url": "set"},
        {"level": "debug", "message": "a\n[ERROR] forged\r\x1b é=\u{85}"},
        {"level": "info", "message": ""},
    ]);
    assert_eq!(json!(objects_in(&text(&out_text), since)), expected);
    let expected = json!([
        {"level": "warn", "message": "b", "limit": "x", "more": 3},
        {"level": "error", "message": "c", "error": "a \" b=c"},
    ]);
    assert_eq!(json!(objects_in(&text(&err_text), since)), expected);
}

#[test]
fn in_json_what_is_lost_is_counted_by_an_object() {
    let since = clock();
    let (logger, gate) = formatted_to_out(LogFormat::Json, 1000, Duration::ZERO);
    info(&logger, "lost");
    gate.called();
    gate.say(Verdict::Take(5));
    gate.called();
    gate.say(Verdict::Fail(ErrorKind::StorageFull));
    assert!(logger.flush_at_exit());
    let written = gate.open();
    info(&logger, "next");
    assert!(logger.flush_at_exit());
    let text = text(&written);
    let rest = text.strip_prefix("{\"tim\n").expect(&text);
    let missing = MISSING.trim_start_matches("[WARN] ");
    let expected = json!([
        {"level": "warn", "message": missing, "dropped": 1},
        {"level": "info", "message": "next"},
    ]);
    assert_eq!(json!(objects_in(rest, since)), expected);
}
