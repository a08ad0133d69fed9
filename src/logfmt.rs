//! Values from outside in log lines (contract, section 9), and how a line is taken apart again.

use std::fmt;

/// Most bytes of a value that a log line shows.
pub const MAX_VALUE: usize = 256;

/// A value from outside, shown such that it can neither forge nor flood a log line.
///
/// * Printable ASCII without space or `"` stands bare and means itself, backslashes and `=`
///   included: it has no end but the next space, so nothing in it can begin another `key=value`.
/// * Anything else, the empty value too, stands in `"`, with `\"`, `\\`, `\n`, `\r`, `\t`, and
///   `\xNN` (two lower-case hexadecimal digits) for every other byte that is not printable ASCII.
///   No bare value begins with `"`, so the first character tells which it is.
/// * Beyond [`MAX_VALUE`] bytes it is cut, and `...` follows, outside the quotes where there are
///   any. A bare value that ends in `...` by itself is shorter.
///
/// Displaying it allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Takes text or bytes.
    pub fn new<T: AsRef<[u8]> + ?Sized>(value: &'a T) -> Value<'a> {
        Value(value.as_ref())
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(MAX_VALUE)];
        let bare = |b: &u8| b.is_ascii_graphic() && *b != b'"';
        if !shown.is_empty() && shown.iter().all(bare) {
            f.write_str(str::from_utf8(shown).unwrap_or_default())?;
        } else {
            f.write_str("\"")?;
            escape(shown, b"\"\\", f)?;
            f.write_str("\"")?;
        }
        if shown.len() < self.0.len() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

/// Writes `bytes` with every byte that is not printable ASCII, and those in `marked`, escaped.
fn escape(bytes: &[u8], marked: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && !marked.contains(&b);
    let mut rest = bytes;
    while !rest.is_empty() {
        let run = rest.iter().position(|&b| !plain(b)).unwrap_or(rest.len());
        out.write_str(str::from_utf8(&rest[..run]).unwrap_or_default())?;
        if let Some(&byte) = rest.get(run) {
            match byte {
                b'"' => out.write_str("\\\"")?,
                b'\\' => out.write_str("\\\\")?,
                b'\n' => out.write_str("\\n")?,
                b'\r' => out.write_str("\\r")?,
                b'\t' => out.write_str("\\t")?,
                byte => write!(out, "\\x{byte:02x}")?,
            }
        }
        rest = rest.get(run + 1..).unwrap_or_default();
    }
    Ok(())
}

/// Appends a whole record to `line` such that it stays one line: control characters are escaped as
/// in a [`Value`], everything else is kept.
pub(crate) fn push_one_line(record: &str, line: &mut String) {
    for part in record.split_inclusive(|c: char| c.is_control()) {
        let mut chars = part.chars();
        match chars.next_back() {
            Some(last) if last.is_control() => {
                line.push_str(chars.as_str());
                let mut bytes = [0; 4];
                // Writing to a string cannot fail.
                let _ = escape(last.encode_utf8(&mut bytes).as_bytes(), b"", line);
            }
            _ => line.push_str(part),
        }
    }
}

/// Takes a record apart, `message key=value key="value"...`: its message, and the facts behind it. The
/// message ends where nothing but facts follows.
pub(crate) fn take_apart(record: &str) -> (&str, Facts<'_>) {
    let spaces = memchr::memchr_iter(b' ', record.as_bytes());
    for at in spaces.map(|space| space + 1) {
        if is_facts(&record[at..]) {
            return (&record[..at - 1], Facts(&record[at..]));
        }
    }
    match is_facts(record) {
        true => ("", Facts(record)),
        false => (record, Facts("")),
    }
}

fn is_facts(text: &str) -> bool {
    let mut facts = Facts(text);
    while let Some((.., rest)) = fact(facts.0) {
        facts.0 = rest;
    }
    facts.0.is_empty() && !text.is_empty()
}

/// Facts that stand one behind the other, a space between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a>(&'a str);

impl<'a> Iterator for Facts<'a> {
    type Item = (&'a str, Shown<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, shown, rest) = fact(self.0)?;
        self.0 = rest;
        Some((key, shown))
    }
}

/// What a fact shows of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// It means itself.
    Bare(&'a str),
    /// What stands between the quotes.
    Quoted {
        text: &'a str,
        /// The value goes on where it ends.
        is_cut: bool,
    },
}

/// The first fact of a text, and what stands behind it and the space there.
fn fact(text: &str) -> Option<(&str, Shown<'_>, &str)> {
    let is_of_key = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let (key, value) = text.split_once('=')?;
    if key.is_empty() || !key.bytes().all(is_of_key) {
        return None;
    }
    let (shown, rest) = match value.strip_prefix('"') {
        Some(quoted) => {
            let (text, rest) = quoted.split_at(end_of_quoted(quoted)?);
            let rest = &rest[1..];
            let behind = rest.strip_prefix("...");
            let is_cut = behind.is_some();
            (Shown::Quoted { text, is_cut }, behind.unwrap_or(rest))
        }
        None => {
            let is_bare = |b: u8| b.is_ascii_graphic() && b != b'"';
            let end = value.bytes().position(|b| !is_bare(b));
            let (text, rest) = value.split_at(end.unwrap_or(value.len()));
            (Shown::Bare(text), rest)
        }
    };
    if shown == Shown::Bare("") {
        return None;
    }
    match rest.strip_prefix(' ') {
        Some(rest) if !rest.is_empty() => Some((key, shown, rest)),
        None if rest.is_empty() => Some((key, shown, rest)),
        _ => None,
    }
}

/// Where the quote stands that ends a quoted value; `None` when what comes before it is none.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.as_bytes().get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 1 + escaped(&text.as_bytes()[at + 1..])?.1,
            control if control.is_ascii_control() => return None,
            _ => at += 1,
        }
    }
}

/// The byte that an escape stands for, and how many bytes the escape has behind its backslash.
fn escaped(behind: &[u8]) -> Option<(u8, usize)> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(match *behind {
        [mark @ (b'"' | b'\\'), ..] => (mark, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'x', high, low, ..] => (digit(high)? << 4 | digit(low)?, 3),
        _ => return None,
    })
}

/// Appends the bytes that a quoted value stands for.
pub(crate) fn push_unescaped(quoted: &str, bytes: &mut Vec<u8>) {
    let mut rest = quoted.as_bytes();
    while let Some(&byte) = rest.first() {
        rest = &rest[1..];
        match escaped(rest).filter(|_| byte == b'\\') {
            Some((byte, length)) => {
                bytes.push(byte);
                rest = &rest[length..];
            }
            None => bytes.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_shown_unambiguously() {
        let table: &[(&[u8], &str)] = &[
            (b"/events?a=1&b=2", "/events?a=1&b=2"),
            (b"", r#""""#),
            (b"-", "-"),
            (b"a b", r#""a b""#),
            (b"a\"b", r#""a\"b""#),
            // Bare: a backslash means itself. Quoted: it is doubled.
            (br"a\nb", r"a\nb"),
            (br"a \n", r#""a \\n""#),
            (b"it's", "it's"),
            (b"a\tb\r\n", r#""a\tb\r\n""#),
            (b"\0\x1b[31m\x7f", r#""\x00\x1b[31m\x7f""#),
            ("é€".as_bytes(), r#""\xc3\xa9\xe2\x82\xac""#),
            (b"\xff", r#""\xff""#),
            ("\u{2028}".as_bytes(), r#""\xe2\x80\xa8""#),
        ];
        for (value, shown) in table {
            assert_eq!(Value::new(value).to_string(), *shown);
        }
    }

    #[test]
    fn no_value_forges_a_line_or_a_key() {
        let forged = [
            "x\n[INFO] forged token=1",
            "x token=1",
            "x\" token=\"1",
            "\" reason=server_closed",
            "x\r[ERROR] forged",
            "x\u{85}y\u{2029}z",
        ];
        for value in forged {
            let shown = Value::new(value).to_string();
            assert!(
                shown.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
                "{shown}"
            );
            let inner = shown.strip_prefix('"').and_then(|s| s.strip_suffix('"'));
            let inner = inner
                .expect("quoted")
                .replace(r"\\", "")
                .replace("\\\"", "");
            assert!(!inner.contains('"'), "a quote ends it early: {shown}");
        }
    }

    #[test]
    fn long_values_are_cut_and_marked() {
        let full = "a".repeat(MAX_VALUE);
        assert_eq!(Value::new(&full).to_string(), full);
        assert_eq!(
            Value::new(&format!("{full}a")).to_string(),
            format!("{full}...")
        );
        let spaces = " ".repeat(MAX_VALUE + 1);
        let cut = format!("\"{}\"...", &spaces[1..]);
        assert_eq!(Value::new(&spaces).to_string(), cut);
        // The cut may fall inside a character: bytes are shown, not characters.
        let wide = format!("{}é", &full[1..]);
        assert!(Value::new(&wide).to_string().ends_with("a\\xc3\"..."));
        // What is cut away does not decide the form.
        assert_eq!(
            Value::new(&format!("{full} ")).to_string(),
            format!("{full}...")
        );
    }

    #[test]
    fn a_record_stays_one_line() {
        let mut line = String::new();
        push_one_line("a\\b é\n[INFO] forged\r\u{85}\x1b end\n", &mut line);
        assert_eq!(line, "a\\b é\\n[INFO] forged\\r\\xc2\\x85\\x1b end\\n");
    }

    /// The facts of a record, their values in full.
    fn facts(record: &str) -> (&str, Vec<(&str, Vec<u8>)>) {
        let (message, facts) = take_apart(record);
        let value = |shown| match shown {
            Shown::Bare(text) => text.as_bytes().to_vec(),
            Shown::Quoted { text, is_cut } => {
                let mut bytes = Vec::new();
                push_unescaped(text, &mut bytes);
                if is_cut {
                    bytes.extend(b"...");
                }
                bytes
            }
        };
        (
            message,
            facts.map(|(key, shown)| (key, value(shown))).collect(),
        )
    }

    /// A record, its message, its facts.
    type Row = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
    );

    #[test]
    fn records_are_taken_apart() {
        let table: &[Row] = &[
            ("", "", &[]),
            ("a message", "a message", &[]),
            ("a b c=d e=f", "a b", &[("c", "d"), ("e", "f")]),
            ("c=d", "", &[("c", "d")]),
            (
                "A=1 is more than B=2, lower A",
                "A=1 is more than B=2, lower A",
                &[],
            ),
            ("raise A=1 b=2", "raise", &[("A", "1"), ("b", "2")]),
            ("raise A=1, b=2", "raise", &[("A", "1,"), ("b", "2")]),
            (
                "m url=/s?a=1&b=c=d token_id=x",
                "m",
                &[("url", "/s?a=1&b=c=d"), ("token_id", "x")],
            ),
            (
                r#"m url="/a b=c" error="\"x\" \\n\n\r\t\x00\xff"..."#,
                "m",
                &[("url", "/a b=c"), ("error", "\"x\" \\n\n\r\t\0\u{ff}...")],
            ),
            (r#"m a="" b=\n..."#, "m", &[("a", ""), ("b", r"\n...")]),
            ("m: é a=\"é\"", "m: é", &[("a", "é")]),
            // No facts, or none there.
            ("m a= b=c", "m a=", &[("b", "c")]),
            ("m a=b ", "m a=b ", &[]),
            ("m  a=b", "m ", &[("a", "b")]),
            ("m =b", "m =b", &[]),
            ("m a-b=c", "m a-b=c", &[]),
            ("m a=é", "m a=é", &[]),
            ("m a=b\"c", "m a=b\"c", &[]),
            (r#"m a="b"c"#, r#"m a="b"c"#, &[]),
            (r#"m a="b"#, r#"m a="b"#, &[]),
            (r#"m a="b\"#, r#"m a="b\"#, &[]),
            (r#"m a="\x1""#, r#"m a="\x1""#, &[]),
            (r#"m a="\xFF""#, r#"m a="\xFF""#, &[]),
            (r#"m a="\q""#, r#"m a="\q""#, &[]),
            ("m a=\"b\nc\"", "m a=\"b\nc\"", &[]),
            ("m\na=b", "m\na=b", &[]),
        ];
        for (record, message, expected) in table {
            let latin1 = |text: &str| match text.contains('\u{ff}') {
                true => text.chars().map(|c| c as u8).collect(),
                false => text.as_bytes().to_vec(),
            };
            let expected: Vec<_> = expected.iter().map(|(k, v)| (*k, latin1(v))).collect();
            assert_eq!(facts(record), (*message, expected), "{record}");
        }
    }

    proptest! {
        /// Whatever the values are, nothing of them is lost, or is taken for anything else.
        #[test]
        fn every_value_comes_back(
            values in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..2 * MAX_VALUE),
                    "[ -~]{0,20}".prop_map(String::into_bytes),
                    r#"[ "\\=.nx0]{0,20}"#.prop_map(String::into_bytes),
                ],
                0..4,
            )
        ) {
            let mut record = "a message: A=1, and more".to_owned();
            for (at, value) in values.iter().enumerate() {
                record += &format!(" key_{at}={}", Value::new(value));
            }
            let (message, facts) = facts(&record);
            prop_assert_eq!(message, "a message: A=1, and more");
            let expected: Vec<_> = values
                .iter()
                .map(|value| match value.get(..MAX_VALUE) {
                    Some(shown) if shown != value => [shown, b"..."].concat(),
                    _ => value.clone(),
                })
                .collect();
            let keys: Vec<_> = (0..values.len()).map(|at| format!("key_{at}")).collect();
            prop_assert!(facts.iter().map(|(key, _)| *key).eq(&keys));
            let values: Vec<_> = facts.into_iter().map(|(_, value)| value).collect();
            prop_assert_eq!(values, expected);
        }

        /// Nor is there a record that cannot be taken apart, and put together again.
        #[test]
        fn every_record_is_its_message_and_its_facts(
            record in prop_oneof!["\\PC{0,40}", r#"[ab "\\=.nx0]{0,30}"#]
        ) {
            let (message, facts) = take_apart(&record);
            let mut whole = message.to_owned();
            for (at, (key, shown)) in facts.enumerate() {
                if at > 0 || message.len() < record.len() && record[message.len()..].starts_with(' ') {
                    whole.push(' ');
                }
                whole += key;
                whole.push('=');
                match shown {
                    Shown::Bare(text) => whole += text,
                    Shown::Quoted { text, is_cut } => {
                        whole += &format!("\"{text}\"{}", if is_cut { "..." } else { "" });
                    }
                }
            }
            prop_assert_eq!(whole, record);
        }
    }
}
