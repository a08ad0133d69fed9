//! Values from outside in log lines (contract, section 9).

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

#[cfg(test)]
mod tests {
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
}
