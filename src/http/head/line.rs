//! The request line: its version, its target's form, the path in it (RFC 9112, section 3).

use super::{FramingError, verdict};

/// A whole head's request line, with the empty lines before it.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    let mut end = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        if line != b"\r\n" {
            break;
        }
    }
    &bytes[..end]
}

/// Whether a request line is good on its own, before the head is whole.
pub(super) fn request_line(line: &[u8]) -> Result<(), FramingError> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse(line) {
        Ok(_) => path(
            request.method.unwrap_or_default(),
            request.path.unwrap_or_default().as_bytes(),
        )
        .map(|_| ()),
        Err(error) => Err(verdict(error, line)),
    }
}

/// Whether the request line ends in a version other than 1.0 and 1.1, as RFC 9112, section 2.3,
/// writes one, or by a single digit, as the later ones are called.
pub(super) fn names_another_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\r')
        .find(|line| !line.iter().all(|&byte| byte == b'\n'))
        .unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(_), Some(_), Some(version), None) = (method, target, version, words.next()) else {
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
    let is_ours = [&b"http"[..], b"https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
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
    let (host, port) = match memchr::memchr(b']', value) {
        Some(end) if value[0] == b'[' => value.split_at(end + 1),
        Some(_) => return false,
        None => value.split_at(memchr::memchr(b':', value).unwrap_or(value.len())),
    };
    let is_literal = host.first() == Some(&b'[');
    let is_port = port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit));
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    let is_literal_byte = |byte: &u8| is_name(byte) || *byte == b':';
    let is_host = if is_literal {
        host.len() > 2 && host[1..host.len() - 1].iter().all(is_literal_byte)
    } else {
        !host.is_empty() && host.iter().all(is_name)
    };
    // A `%` begins an octet's encoding (RFC 3986, section 3.2.2).
    let mut behind_percents = host.split(|&byte| byte == b'%').skip(1);
    let is_encoded = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    is_host && is_port && behind_percents.all(is_encoded)
}
