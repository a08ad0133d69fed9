//! What the front of a backend's answer shows before ureq reads it.
//!
//! The status decides whether the backend has accepted a stream, and the lifecycle law hangs on
//! that (contract, section 2): so it is found out even where the rest of the head is more than ureq
//! takes, and however many interim answers come before.

/// Bytes of the largest head that is read, and of a connection's buffer for what comes in.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// The most header fields that ureq reads.
const MAX_FIELDS: usize = 128;

/// What stands at the front of the bytes that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// More must come before anything can be told.
    Partial,
    /// An answer that a final one follows (RFC 9110, section 15.2), of so many bytes.
    Interim {
        /// 100, 102 or 103.
        status: u16,
        /// Its bytes, the empty line included.
        length: usize,
    },
    /// A head of which no more than the status can be used.
    Unusable(u16),
    /// Something that ureq can read, or refuse as not HTTP.
    Readable,
}

/// Looks at the front of `input`, which begins where an answer does.
pub(super) fn front(input: &[u8]) -> Front {
    let status = match status(input) {
        Ok(Some(status)) => status,
        Ok(None) => return Front::Partial,
        Err(NotHttp) => return Front::Readable,
    };
    match (status, head(input)) {
        (100 | 102 | 103, Some((length, _))) => Front::Interim { status, length },
        // Nobody has defined the others, and no other head is to be expected behind one.
        (..=199, Some(_)) => Front::Unusable(status),
        (_, Some((_, fields))) if fields > MAX_FIELDS => Front::Unusable(status),
        (_, Some(_)) => Front::Readable,
        (_, None) if input.len() >= MAX_HEAD => Front::Unusable(status),
        (_, None) => Front::Partial,
    }
}

struct NotHttp;

/// The status, once it is there.
fn status(input: &[u8]) -> Result<Option<u16>, NotHttp> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let begin = input.len().min(BEGIN.len());
    if input[..begin] != BEGIN[..begin] {
        return Err(NotHttp);
    }
    let Some(rest) = input.get(BEGIN.len()..).filter(|rest| rest.len() > 5) else {
        return Ok(None);
    };
    let [b'0' | b'1', b' ', a, b, c, b' ' | b'\r' | b'\n', ..] = *rest else {
        return Err(NotHttp);
    };
    if ![a, b, c].iter().all(u8::is_ascii_digit) {
        return Err(NotHttp);
    }
    let digit = |byte: u8| u16::from(byte - b'0');
    Ok(Some(100 * digit(a) + 10 * digit(b) + digit(c)))
}

/// The head's length, and how many fields it has. As lenient about line ends as ureq is.
fn head(input: &[u8]) -> Option<(usize, usize)> {
    let (mut start, mut lines) = (0, 0);
    for end in memchr::memchr_iter(b'\n', input) {
        let line = &input[start..end];
        if line.is_empty() || line == b"\r" {
            return Some((end + 1, lines - 1));
        }
        (start, lines) = (end + 1, lines + 1);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts() {
        let interim = |status, length| Front::Interim { status, length };
        let table: [(&str, Front); 21] = [
            ("", Front::Partial),
            ("HTTP/1", Front::Partial),
            ("HTTP/1.1 20", Front::Partial),
            ("HTTP/1.1 200", Front::Partial),
            ("HTTP/1.1 200 OK\r\nA: b\r\n", Front::Partial),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", Front::Readable),
            ("HTTP/1.0 200\r\n\r\n", Front::Readable),
            ("HTTP/1.1 200 OK\n\n", Front::Readable),
            ("HTTP/1.1 999 X\r\n\r\n", Front::Readable),
            ("HTTP/1.1 100 Continue\r\n\r", Front::Partial),
            ("HTTP/1.1 100 Continue\r\n\r\n", interim(100, 25)),
            ("HTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK", interim(102, 18)),
            ("HTTP/1.1 103 E\r\nLink: x\r\n\r\n", interim(103, 27)),
            ("HTTP/1.1 103 E\n\n", interim(103, 16)),
            ("HTTP/1.1 101 S\r\n\r\n", Front::Unusable(101)),
            ("HTTP/1.1 199 X\r\n\r\n", Front::Unusable(199)),
            ("HTTP/1.1 000 X\r\n\r\n", Front::Unusable(0)),
            ("HTTP/1.1 099 X\r\n\r\n", Front::Unusable(99)),
            ("HTTP/2 200\r\n\r\n", Front::Readable),
            ("HTTP/1.1 2xx OK\r\n\r\n", Front::Readable),
            ("SSH-2.0-OpenSSH\r\n", Front::Readable),
        ];
        for (input, expected) in table {
            assert_eq!(front(input.as_bytes()), expected, "{input:?}");
        }
    }

    #[test]
    fn more_than_ureq_takes_is_good_for_its_status_alone() {
        let of = |fields: usize| format!("HTTP/1.1 201 C\r\n{}\r\n", "A: b\r\n".repeat(fields));
        assert_eq!(front(of(MAX_FIELDS).as_bytes()), Front::Readable);
        assert_eq!(front(of(MAX_FIELDS + 1).as_bytes()), Front::Unusable(201));
        let mut long = b"HTTP/1.1 401 U\r\nA: ".to_vec();
        long.resize(MAX_HEAD - 1, b'x');
        assert_eq!(front(&long), Front::Partial);
        long.push(b'x');
        assert_eq!(front(&long), Front::Unusable(401));
    }
}
