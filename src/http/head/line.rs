//! The request line: its version, its target's form, the path in it (RFC 9112, section 3).

use super::{FramingError, is_word, verdict};

/// Where a whole head's request line ends, just behind its LF.
pub(super) fn end_of_line(bytes: &[u8]) -> usize {
    let mut end = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        // Empty lines before it are passed over.
        if line != b"\r\n" {
            break;
        }
    }
    end
}

/// Reads a request line on its own, up to its LF, nothing but empty lines before it: its method, its
/// target, and of its version the minor number.
///
/// The tokenizer takes a target for UTF-8. It is octets, so those beyond ASCII are hidden from it,
/// behind one that may stand in a target and in nothing else.
pub(super) fn request_line(line: &[u8]) -> Result<(&str, &[u8], Option<u8>), FramingError> {
    let mut hidden = line.to_vec();
    for byte in hidden.iter_mut().filter(|byte| !byte.is_ascii()) {
        *byte = b'"';
    }
    let mut request = httparse::Request::new(&mut []);
    if let Err(error) = request.parse(&hidden) {
        return Err(verdict(error, line));
    }
    let [method, target, ..] = words(line).map(Option::unwrap_or_default);
    let method = std::str::from_utf8(method).unwrap_or_default();
    path(method, target)?;
    Ok((method, target, request.version))
}

/// The words of a request line, and what is too much.
fn words(line: &[u8]) -> [Option<&[u8]>; 4] {
    let line = line.trim_ascii_start();
    let end = memchr::memchr(b'\r', line).unwrap_or(line.len());
    let mut words = line[..end].split(|&byte| byte == b' ');
    std::array::from_fn(|_| words.next())
}

/// Whether the request line ends in a version other than 1.0 and 1.1, as RFC 9112, section 2.3,
/// writes one, or by a single digit, as the later ones are called.
pub(super) fn names_another_version(line: &[u8]) -> bool {
    let [Some(_), Some(_), Some(version), None] = words(line) else {
        return false;
    };
    match version {
        [b'H', b'T', b'T', b'P', b'/', number @ ..] => match number {
            b"1.0" | b"1.1" | b"1" => false,
            [major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
            [major] => major.is_ascii_digit(),
            _ => false,
        },
        _ => false,
    }
}

/// The path of a request target in the form that its method asks for (RFC 9112, section 3.2).
pub(super) fn path<'b>(method: &str, target: &'b [u8]) -> Result<&'b [u8], FramingError> {
    let path = if target.starts_with(b"/") || method == "CONNECT" {
        target
    } else if target == b"*" && method == "OPTIONS" {
        return Ok(target);
    } else {
        absolute_path(target)?
    };
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    Ok(&path[..end])
}

fn absolute_path(target: &[u8]) -> Result<&[u8], FramingError> {
    const ERROR: FramingError = FramingError::BadRequest("a malformed request target");
    let colon = memchr::memchr(b':', target).ok_or(ERROR)?;
    let (scheme, rest) = target.split_at(colon);
    let is_ours = is_word(scheme, b"http") || is_word(scheme, b"https");
    let rest = rest.strip_prefix(b"://").filter(|_| is_ours).ok_or(ERROR)?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    if end == 0 || !is_host(&rest[..end]) {
        return Err(ERROR);
    }
    match &rest[end..] {
        path if path.starts_with(b"/") => Ok(path),
        _ => Ok(b"/"),
    }
}

/// Whether this can be a host with an optional port (RFC 9110, section 7.2). User information
/// cannot be part of it.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port, is_literal) = match memchr::memchr(b']', value) {
        Some(end) if value[0] == b'[' => (&value[1..end], &value[end + 1..], true),
        Some(_) => return false,
        None => {
            let (host, port) = value.split_at(memchr::memchr(b':', value).unwrap_or(value.len()));
            (host, port, false)
        }
    };
    let is_port = port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit));
    let is_allowed = |(at, byte): (usize, &u8)| match byte {
        // An octet's encoding (RFC 3986, section 2.1).
        b'%' => matches!(&host[at..], [_, high, low, ..]
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()),
        b':' => is_literal,
        _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
    };
    !host.is_empty() && is_port && host.iter().enumerate().all(is_allowed)
}
