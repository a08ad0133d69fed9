//! A line of the log as a JSON object (contract, section 14): a function of the line and the time.

use std::io::Write;

use crate::logfmt::{Shown, push_unescaped, take_apart};

/// Facts that are numbers. Every other is a string, whatever it holds: a key never changes its type.
const NUMBERS: [&str; 14] = [
    "connectCallbacks",
    "connections",
    "disconnectCallbacks",
    "dropped",
    "heartbeat",
    "length",
    "more",
    "port",
    "receivers",
    "sockets",
    "status",
    "streams",
    "unanswered",
    "undelivered",
];

/// What every object says, beside the facts.
const OWN: [&str; 3] = ["time", "level", "message"];

/// Stands before the key of a fact that cannot have its own.
const PREFIX: &[u8] = b"fact_";

/// The last millisecond that RFC 3339 has a date for.
const LAST: u64 = 253_402_300_799_999;

/// Room in which lines become objects, one after the other.
#[derive(Debug)]
pub(super) struct Objects {
    object: Vec<u8>,
    /// Bytes that a quoted value stands for.
    value: Vec<u8>,
    kept: usize,
}

impl Objects {
    /// Memory for `kept` bytes is had at once, and is not what a longer line grew to.
    pub(super) fn new(kept: usize) -> Objects {
        Objects {
            object: Vec::with_capacity(kept),
            value: Vec::with_capacity(kept),
            kept,
        }
    }

    /// The object of a line `[LEVEL] message key=value`, a line end behind it. It is one line of ASCII,
    /// whatever it is made of. `millis`: the time on the Unix clock.
    pub(super) fn object(&mut self, line: &str, millis: u64) -> &[u8] {
        if self.object.capacity().max(self.value.capacity()) > self.kept {
            *self = Objects::new(self.kept);
        }
        let Objects { object, value, .. } = self;
        object.clear();
        let level = line.strip_prefix('[');
        let (level, record) = level
            .and_then(|line| line.split_once("] "))
            .unwrap_or(("INFO", line));
        let (message, facts) = take_apart(record);
        object.extend_from_slice(b"{\"time\":\"");
        push_time(millis, object);
        object.extend_from_slice(b"\",\"level\":\"");
        for c in level.chars() {
            push_char(c.to_ascii_lowercase(), object);
        }
        object.extend_from_slice(b"\",\"message\":\"");
        push_chars(message, object);
        object.push(b'"');
        for (key, shown) in facts {
            push_fact(key, shown, value, object);
        }
        object.extend_from_slice(b"}\n");
        object
    }
}

fn push_fact(key: &str, shown: Shown<'_>, value: &mut Vec<u8>, object: &mut Vec<u8>) {
    let number = number(shown).filter(|_| NUMBERS.contains(&key));
    let is_misplaced = NUMBERS.contains(&key) && number.is_none();
    object.extend_from_slice(b",\"");
    if is_misplaced || OWN.contains(&key) {
        object.extend_from_slice(PREFIX);
    }
    object.extend_from_slice(key.as_bytes());
    object.extend_from_slice(b"\":");
    if let Some(number) = number {
        return object.extend_from_slice(number.as_bytes());
    }
    object.push(b'"');
    match shown {
        Shown::Bare(text) => push_chars(text, object),
        Shown::Quoted { text, is_cut } => {
            value.clear();
            push_unescaped(text, value);
            push_bytes(value, is_cut, object);
        }
    }
    object.push(b'"');
}

/// The value as JSON has a number.
fn number(shown: Shown<'_>) -> Option<&str> {
    let Shown::Bare(text) = shown else {
        return None;
    };
    let is_number =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_number.then_some(text)
}

/// Bytes as text: UTF-8 where they are that, and every other byte the character of its number (Latin-1),
/// as callbacks have it. Where a value is cut within a character, none is made of its first bytes.
fn push_bytes(bytes: &[u8], is_cut: bool, object: &mut Vec<u8>) {
    let mut left = bytes.len();
    for chunk in bytes.utf8_chunks() {
        push_chars(chunk.valid(), object);
        let stray = chunk.invalid();
        left -= chunk.valid().len() + stray.len();
        let is_half = str::from_utf8(stray).is_err_and(|error| error.error_len().is_none());
        if !(is_cut && left == 0 && is_half) {
            stray.iter().for_each(|&b| push_char(char::from(b), object));
        }
    }
    if is_cut {
        object.extend_from_slice(b"...");
    }
}

fn push_chars(text: &str, object: &mut Vec<u8>) {
    text.chars().for_each(|c| push_char(c, object));
}

fn push_char(c: char, object: &mut Vec<u8>) {
    match c {
        '"' | '\\' => object.extend_from_slice(&[b'\\', c as u8]),
        ' '..='~' => object.push(c as u8),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a vector cannot fail.
                let _ = write!(object, "\\u{unit:04x}");
            }
        }
    }
}

/// As RFC 3339 has it, in UTC: `2026-11-22T03:04:05.678Z`.
fn push_time(millis: u64, object: &mut Vec<u8>) {
    let millis = millis.min(LAST);
    let (days, millis) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = date(days);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a vector cannot fail.
    let _ = write!(
        object,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
    );
}

/// The date of a day that is so many days behind the first of January 1970. Years are counted from the
/// first of March on, so that the day that a leap year has more is its last.
fn date(days: u64) -> (u64, u64, u64) {
    const TO_EPOCH: u64 = 719_468; // from the first of March of the year 0
    const CENTURIES: u64 = 146_097; // days in four of them
    let days = days + TO_EPOCH;
    let (era, day) = (days / CENTURIES, days % CENTURIES);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months have 153 days, from March on as from August.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::logfmt::{self, MAX_VALUE};

    fn object(line: &str) -> String {
        let mut objects = Objects::new(100);
        String::from_utf8(objects.object(line, 0).to_vec()).expect("UTF-8")
    }

    /// Members behind the time and the level, which must be the first of January and `info`.
    fn members(record: &str) -> String {
        let object = object(&format!("[INFO] {record}"));
        let head = r#"{"time":"1970-01-01T00:00:00.000Z","level":"info","#;
        let rest = object
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix("}\n"));
        rest.expect(&object).to_owned()
    }

    #[test]
    fn lines_become_objects() {
        let table = [
            ("", r#""message":"""#),
            ("a message", r#""message":"a message""#),
            ("m: A=1 is it", r#""message":"m: A=1 is it""#),
            (
                "connect callback answered token=t status=200",
                r#""message":"connect callback answered","token":"t","status":200"#,
            ),
            ("m a=1 b=true", r#""message":"m","a":"1","b":"true""#),
            // Keys of numbers whose value is none.
            ("m status=", r#""message":"m status=""#),
            ("m port=unix:/x", r#""message":"m","fact_port":"unix:/x""#),
            ("m port=\"1\"", r#""message":"m","fact_port":"1""#),
            (
                "m more=0 status=012",
                r#""message":"m","more":0,"fact_status":"012""#,
            ),
            ("m length=-1", r#""message":"m","fact_length":"-1""#),
            // Keys that are taken.
            (
                "m time=1 level=2 message=3",
                r#""message":"m","fact_time":"1","fact_level":"2","fact_message":"3""#,
            ),
            // Values and messages of all kinds.
            (r#"m a=\n/x"#, r#""message":"m","a":"\\n/x""#),
            (
                r#"m a="\" \\ \n\r\t\x00\x1b\x7f" b="""#,
                r#""message":"m","a":"\" \\ \u000a\u000d\u0009\u0000\u001b\u007f","b":"""#,
            ),
            (
                r#"m utf8="\xc3\xa9\xf0\x9f\x98\x80" latin="\xe9 \xc3x\xff" c1="\xc2\x85""#,
                r#""message":"m","utf8":"\u00e9\ud83d\ude00","latin":"\u00e9 \u00c3x\u00ff","c1":"\u0085""#,
            ),
            (
                r#"m a=x... b="y\xe2\x82"... c="\xe2\x82z\xff"... d="\xe2\x82""#,
                r#""message":"m","a":"x...","b":"y...","c":"\u00e2\u0082z\u00ff...","d":"\u00e2\u0082""#,
            ),
            ("é\n\u{2028}\\", r#""message":"\u00e9\u000a\u2028\\""#),
        ];
        for (record, expected) in table {
            assert_eq!(members(record), expected, "{record}");
        }
    }

    #[test]
    fn levels_are_the_words_of_the_setting() {
        for (line, level, message) in [
            ("[ERROR] x", "error", "x"),
            ("[WARN] ", "warn", ""),
            ("[DEBUG] [INFO] x", "debug", "[INFO] x"),
            ("no level", "info", "no level"),
        ] {
            let object: Value = serde_json::from_str(&object(line)).expect(line);
            assert_eq!(
                (&object["level"], &object["message"]),
                (&json!(level), &json!(message))
            );
        }
    }

    #[test]
    fn times() {
        let shown = |millis| {
            let mut bytes = Vec::new();
            push_time(millis, &mut bytes);
            String::from_utf8(bytes).expect("ASCII")
        };
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_316_645_678, "2026-11-22T03:04:05.678Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
            (LAST + 1, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(shown(millis), expected, "{millis}");
        }
    }

    /// Every day up to the last, by the rules of the calendar themselves.
    #[test]
    fn every_day_has_its_date() {
        let mut expected = (1970, 1, 1);
        for days in 0..=LAST / 86_400_000 {
            assert_eq!(date(days), expected, "{days}");
            let (year, month, day) = expected;
            let is_leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
            let last = match month {
                2 => 28 + u64::from(is_leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }

    #[test]
    fn memory_is_had_before_the_first_line_and_no_more_after_a_long_one() {
        let mut objects = Objects::new(1000);
        let at_first = objects.object("[INFO] x", 0).as_ptr();
        let short = r#"[INFO] m a=" ""#;
        assert_eq!(objects.object(short, 0).as_ptr(), at_first);
        let long = format!("[INFO] m a=\" {}\"", "x".repeat(2000));
        assert!(objects.object(&long, 0).len() > 2000);
        objects.object(short, 0);
        assert_eq!(
            (objects.object.capacity(), objects.value.capacity()),
            (1000, 1000)
        );
    }

    /// What a reader of the object finds where the log was told these bytes.
    fn told(bytes: &[u8]) -> String {
        let shown = &bytes[..bytes.len().min(MAX_VALUE)];
        let is_cut = shown.len() < bytes.len();
        let mut text = String::new();
        let mut rest = shown;
        while let Some(&first) = rest.first() {
            let is_char =
                |length: &usize| rest.len() >= *length && str::from_utf8(&rest[..*length]).is_ok();
            let length = (1..=4).find(is_char);
            let begins_one =
                |more: &[u8]| str::from_utf8(more).is_err_and(|e| e.error_len().is_none());
            match length {
                Some(length) => text += str::from_utf8(&rest[..length]).expect("a character"),
                None if is_cut && begins_one(rest) => break,
                None => text.push(char::from(first)),
            }
            rest = &rest[length.unwrap_or(1)..];
        }
        text + if is_cut { "..." } else { "" }
    }

    proptest! {
        /// Whatever a value is, the object is one line of JSON, and tells it.
        #[test]
        fn every_value_is_told(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..2 * MAX_VALUE),
                "\\PC{0,300}".prop_map(String::into_bytes),
                r#"[ "\\=.nx0]{0,20}"#.prop_map(String::into_bytes),
            ],
            number in any::<u64>(),
        ) {
            let value = &value[..];
            let shown = logfmt::Value::new(value);
            let object = object(&format!("[WARN] a message url={shown} length={number}"));
            let line = object.strip_suffix('\n').expect("a line");
            prop_assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)));
            let json: Value = serde_json::from_str(line).expect("JSON");
            prop_assert_eq!(json, json!({
                "time": "1970-01-01T00:00:00.000Z",
                "level": "warn",
                "message": "a message",
                "url": told(value),
                "length": number,
            }));
        }

        /// Whatever a line is, the object is one line of JSON.
        #[test]
        fn every_line_is_an_object(line in prop_oneof![".{0,60}", "(?s:.){0,60}", r#"\[INFO\] [ab "\\=.nx0\n]{0,40}"#]) {
            let object = object(&line);
            let json: Value = serde_json::from_str(object.strip_suffix('\n').expect("a line")).expect("JSON");
            prop_assert!(json["message"].is_string());
            prop_assert!(object.strip_suffix('\n').is_some_and(|line| line.bytes().all(|b| (b' '..=b'~').contains(&b))));
        }
    }
}
