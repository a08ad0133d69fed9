//! The query of a request target (RFC 3986, section 3.4), read as forms write it (WHATWG URL,
//! "application/x-www-form-urlencoded").

/// The value of the first parameter of this name, decoded; `None` when there is none. What decodes to
/// no UTF-8 is read as if each bad byte were U+FFFD.
pub fn parameter(target: &[u8], name: &str) -> Option<String> {
    let at = target.iter().position(|byte| *byte == b'?')?;
    let query = target[at + 1..].split(|byte| *byte == b'#').next()?;
    for pair in query.split(|byte| *byte == b'&') {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        if parts.next().map(decoded).as_deref() == Some(name) {
            return Some(decoded(parts.next().unwrap_or_default()));
        }
    }
    None
}

fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let table = [
            ("/a", "x", None),
            ("/a?", "x", None),
            ("/a?x", "x", Some("")),
            ("/a?x=", "x", Some("")),
            ("/a?x=1&x=2", "x", Some("1")),
            ("/a?y=x&x=1", "x", Some("1")),
            ("/a?y=1", "x", None),
            ("/a?x=a%20b+c%2B", "x", Some("a b c+")),
            ("/a?x=%zz%4", "x", Some("%zz%4")),
            ("/a?x=%C3%A9%e9", "x", Some("\u{e9}\u{fffd}")),
            ("/a?%78=1", "x", Some("1")),
            ("/a?x=1=2?3", "x", Some("1=2?3")),
            ("http://h/a?x=1#y", "x", Some("1")),
        ];
        for (target, name, expected) in table {
            assert_eq!(
                parameter(target.as_bytes(), name).as_deref(),
                expected,
                "{target}"
            );
        }
    }
}
