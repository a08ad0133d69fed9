//! A reader of chunked bodies that wants the whole buffer at once and splits it into lines (RFC
//! 9112, section 7.1), strict as the contract asks.

/// What became of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The content, and how many bytes the body took.
    Whole(Vec<u8>, usize),
    /// So far nothing is wrong; the content up to here.
    Partial(Vec<u8>),
    /// Not chunked framing.
    Wrong,
    /// More content than may come.
    TooMuch,
}

/// A sum of chunk sizes above `max` is too much as soon as the size line is whole.
pub(crate) fn read(bytes: &[u8], max: usize) -> Read {
    let (mut content, mut at) = (Vec::new(), 0);
    let mut promised = 0u128;
    loop {
        let Some((line, next)) = line(bytes, at) else {
            return match is_size_line_begun(&bytes[at..]) {
                true => Read::Partial(content),
                false => Read::Wrong,
            };
        };
        let Some(size) = size(line) else {
            return Read::Wrong;
        };
        if size == 0 {
            return trailers(bytes, next, content);
        }
        promised += u128::from(size);
        if promised > max as u128 {
            return Read::TooMuch;
        }
        let end = next + size as usize;
        content.extend_from_slice(&bytes[next..end.min(bytes.len())]);
        let behind = bytes.get(end..).unwrap_or_default();
        match behind {
            [b'\r', b'\n', ..] => at = end + 2,
            [] | [b'\r'] => return Read::Partial(content),
            _ => return Read::Wrong,
        }
    }
}

/// The line from `at` on up to its CRLF, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let end = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[at..at + end], at + end + 2))
}

/// What a size line says; `None` where it is none.
fn size(line: &[u8]) -> Option<u64> {
    let (digits, mut rest) = split(line, |b| b.is_ascii_hexdigit());
    while !rest.is_empty() {
        rest = behind_extension(rest)?;
    }
    // Zeros before it are as good as none, however many.
    let number = std::str::from_utf8(digits).ok()?;
    let number = match number.trim_start_matches('0') {
        "" if !digits.is_empty() => "0",
        number => number,
    };
    u64::from_str_radix(number, 16).ok()
}

/// What follows `BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ]`.
fn behind_extension(line: &[u8]) -> Option<&[u8]> {
    let line = behind_blanks(behind_blanks(line).strip_prefix(b";")?);
    let rest = behind_token(line)?;
    let Some(value) = behind_blanks(rest).strip_prefix(b"=") else {
        return Some(rest);
    };
    match behind_blanks(value) {
        [b'"', text @ ..] => behind_quoted(text),
        value => behind_token(value),
    }
}

/// What follows a quoted string whose first quotation mark is gone.
fn behind_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', any, rest @ ..] if is_field_byte(any) => rest,
            [b'\\', ..] => return None,
            [any, rest @ ..] if is_field_byte(any) => rest,
            _ => return None,
        }
    }
}

fn behind_token(line: &[u8]) -> Option<&[u8]> {
    let (token, rest) = split(line, is_token_byte);
    (!token.is_empty()).then_some(rest)
}

fn behind_blanks(line: &[u8]) -> &[u8] {
    split(line, |b| matches!(b, b' ' | b'\t')).1
}

/// The bytes at the front that are of a kind, and the others.
fn split(line: &[u8], is_of_it: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    line.split_at(line.iter().take_while(|b| is_of_it(b)).count())
}

fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn is_field_byte(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Whether these bytes without a line end can become a size line: one of these ends makes it whole,
/// wherever it was broken off.
fn is_size_line_begun(bytes: &[u8]) -> bool {
    let is_size_line = |end: &str| size(&[bytes, end.as_bytes()].concat()).is_some();
    match bytes.strip_suffix(b"\r") {
        Some(line) => size(line).is_some(),
        None => ["", "0", ";a", "a", "\"", "a\""]
            .into_iter()
            .any(is_size_line),
    }
}

fn trailers(bytes: &[u8], mut at: usize, content: Vec<u8>) -> Read {
    while let Some((line, next)) = line(bytes, at) {
        if line.is_empty() {
            return Read::Whole(content, next);
        }
        if !is_trailer(line, true) {
            return Read::Wrong;
        }
        at = next;
    }
    let rest = &bytes[at..];
    let (line, is_ending) = match rest.strip_suffix(b"\r") {
        Some(line) => (line, true),
        None => (rest, false),
    };
    match line.is_empty() || is_trailer(line, is_ending) {
        true => Read::Partial(content),
        false => Read::Wrong,
    }
}

/// A field line; one that is not whole may still lack its colon.
fn is_trailer(line: &[u8], is_whole: bool) -> bool {
    let colon = line.iter().position(|&byte| byte == b':');
    let name = &line[..colon.unwrap_or(line.len())];
    let value = colon.map_or(&b""[..], |colon| &line[colon + 1..]);
    let is_named = !name.is_empty() && name.iter().all(is_token_byte);
    is_named && value.iter().all(is_field_byte) && (colon.is_some() || !is_whole)
}
