//! The event stream's bytes (contract, section 5; WHATWG HTML, "server-sent events").

use memchr::memchr2;

/// How a stream's bytes are framed on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1: one chunk for each event or heartbeat (RFC 9112, section 7.1).
    Chunked,
    /// HTTP/1.0: the bytes as they are, ended by the connection's end.
    Plain,
}

const HEARTBEAT: &[u8] = b": heartbeat\n\n";
const HEARTBEAT_CHUNK: &[u8] = b"d\r\n: heartbeat\n\n\r\n";

/// The comment that keeps a silent stream alive.
pub fn heartbeat(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => HEARTBEAT_CHUNK,
        Framing::Plain => HEARTBEAT,
    }
}

/// What tells a clean end from a lost connection: the last chunk, or nothing in HTTP/1.0.
pub fn end(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => b"0\r\n\r\n",
        Framing::Plain => b"",
    }
}

/// Most bytes that a chunk's framing adds to an event: sixteen digits and two line ends.
pub const CHUNK_OVERHEAD: usize = 20;

/// Length in bytes of the event that [`write_event`] writes, its chunk framing aside.
pub fn event_len(name: &str, data: &str) -> usize {
    let name_field = if name.is_empty() {
        0
    } else {
        "event: ".len() + name.len() + 1
    };
    let mut length = name_field + 1;
    for line in lines(data) {
        length += "data: ".len() + line.len() + 1;
    }
    length
}

/// Appends one event: the name's field unless `name` is empty, one `data` field for each line of
/// `data`, an empty line.
///
/// `name` holds no CR, LF or NUL; the send command's reader sees to that.
pub fn write_event(out: &mut Vec<u8>, framing: Framing, name: &str, data: &str) {
    let length = event_len(name, data);
    out.reserve(length + CHUNK_OVERHEAD);
    if framing == Framing::Chunked {
        push_hex(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    for line in lines(data) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
    if framing == Framing::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

/// Splits at CRLF, LF and lone CR alike, as a reader of the stream does; a trailing line end gives
/// a last empty line, and empty data one empty line.
fn lines(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr2(b'\r', b'\n', text.as_bytes()) else {
            rest = None;
            return Some(text);
        };
        let width = if text.as_bytes()[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = Some(&text[end + width..]);
        Some(&text[..end])
    })
}

fn push_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - (number | 1).leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place)) & 0xf;
        out.push(b"0123456789abcdef"[digit]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(framing: Framing, name: &str, data: &str) -> String {
        let mut out = Vec::new();
        write_event(&mut out, framing, name, data);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_line_end_starts_a_new_data_field() {
        let table = [
            ("", "", "data: \n\n"),
            ("", "x", "data: x\n\n"),
            ("tick", "x", "event: tick\ndata: x\n\n"),
            ("", "a\nb", "data: a\ndata: b\n\n"),
            ("", "a\rb", "data: a\ndata: b\n\n"),
            ("", "a\r\nb", "data: a\ndata: b\n\n"),
            ("", "a\n\rb", "data: a\ndata: \ndata: b\n\n"),
            ("", "a\r\r\nb", "data: a\ndata: \ndata: b\n\n"),
            ("", "a\n", "data: a\ndata: \n\n"),
            ("", "\r\n", "data: \ndata: \n\n"),
            ("", "\n\n", "data: \ndata: \ndata: \n\n"),
            ("", "x\nevent: forged", "data: x\ndata: event: forged\n\n"),
            ("n", " lead", "event: n\ndata:  lead\n\n"),
            ("é", "ü\u{2028}b", "event: é\ndata: ü\u{2028}b\n\n"),
        ];
        for (name, data, expected) in table {
            assert_eq!(event(Framing::Plain, name, data), expected, "{data:?}");
            assert_eq!(event_len(name, data), expected.len(), "{data:?}");
        }
    }

    #[test]
    fn a_chunk_holds_exactly_one_event() {
        assert_eq!(
            event(Framing::Chunked, "", "x"),
            "9\r\ndata: x\n\n\r\n".to_owned()
        );
        let data = "y".repeat(300);
        assert_eq!(
            event(Framing::Chunked, "", &data),
            format!("{:x}\r\ndata: {data}\n\n\r\n", 300 + 8)
        );
    }

    #[test]
    fn the_heartbeat_chunk_states_its_own_length() {
        let expected = format!("{:x}\r\n: heartbeat\n\n\r\n", HEARTBEAT.len());
        assert_eq!(heartbeat(Framing::Chunked), expected.as_bytes());
        assert_eq!(heartbeat(Framing::Plain), b": heartbeat\n\n");
    }

    #[test]
    fn hexadecimal_has_no_leading_zero() {
        for number in [0, 1, 9, 15, 16, 255, 256, 4095, 65_536, usize::MAX] {
            let mut out = Vec::new();
            push_hex(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }
}
