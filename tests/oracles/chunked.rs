//! A reader of chunked bodies that wants the whole buffer at once and splits it into lines (RFC
//! 9112, section 7.1), strict as the contract asks.

/// What became of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The content, and how many bytes the body took.
    Whole(Vec<u8>, usize),
    /// So far nothing is wrong; the content up to here.
    Partial(Vec<u8>),
    /// Not chunked framing, or beyond a limit.
    Wrong,
}

/// A sum of chunk sizes above `max` is wrong as soon as the size line is whole.
pub(crate) fn read(bytes: &[u8], max: usize) -> Read {
    let (mut content, mut at) = (Vec::new(), 0);
    let mut promised = 0;
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
        promised += size;
        if promised > max as u128 {
            return Read::Wrong;
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

fn size(line: &[u8]) -> Option<u128> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    if !is_extension(rest) {
        return None;
    }
    number_of(number)
}

/// Up to sixteen digits, and no more than a signed integer holds.
fn number_of(digits: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(digits).ok()?;
    let number = u128::from_str_radix(text, 16).ok()?;
    (digits.len() <= 16 && number <= i64::MAX as u128).then_some(number)
}

/// Nothing, or white space and a semicolon, then anything that may stand in a line.
fn is_extension(rest: &[u8]) -> bool {
    let blank = rest
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    rest.is_empty() || rest[blank..].starts_with(b";") && rest.iter().all(is_field_byte)
}

fn is_field_byte(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Whether these bytes without a line end can become a size line.
fn is_size_line_begun(bytes: &[u8]) -> bool {
    let (line, is_ending) = match bytes.strip_suffix(b"\r") {
        Some(line) => (line, true),
        None => (bytes, false),
    };
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    let is_blank = rest.iter().all(|b| matches!(b, b' ' | b'\t'));
    let is_rest = is_extension(rest) || (is_blank && !is_ending);
    if digits == 0 {
        return line.is_empty() && !is_ending;
    }
    is_rest && number_of(&line[..digits]).is_some()
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
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let is_named = !name.is_empty() && name.iter().all(is_token);
    is_named && value.iter().all(is_field_byte) && (colon.is_some() || !is_whole)
}
