//! The event stream's bytes (contract, sections 5, 11 and 16; WHATWG HTML, "server-sent events").

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;

use crate::event_id::EventId;
use crate::wire::{self, Event};

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

/// How events with a name go out (contract, sections 5 and 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Under their name, for listeners of that name.
    #[default]
    Plain,
    /// Without it, for `onmessage`, and the name within the data; `connection_close` as ever.
    Envelope,
}

/// An event's fields as they stand on the stream (contract, sections 5 and 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The event's type, empty for none; holds no CR, LF or NUL.
    pub name: &'a str,
    /// Holds no CR, LF or NUL.
    pub id: Option<&'a str>,
    /// In milliseconds.
    pub retry: Option<u32>,
    /// Lines still joined.
    pub data: Cow<'a, str>,
}

impl Format {
    /// How `event` stands on the stream. Allocates for an envelope only.
    pub fn fields<'a>(self, event: &'a Event<'_>) -> Fields<'a> {
        let fields = Fields {
            name: &event.name,
            id: event.id.as_deref(),
            retry: event.retry,
            data: Cow::Borrowed(&event.data),
        };
        match self {
            Format::Envelope if !matches!(fields.name, "" | "connection_close") => Fields {
                name: "",
                data: Cow::Owned(envelope(fields.name, &fields.data)),
                ..fields
            },
            _ => fields,
        }
    }
}

/// `data` stands as it is where it is JSON: what is a number for one reader is no text for another.
fn envelope(name: &str, data: &str) -> String {
    let mut json = String::with_capacity(name.len() + data.len() + 32);
    json.push_str("{\"type\":");
    wire::push_string(&mut json, name);
    json.push_str(",\"payload\":");
    if serde_json::from_slice::<IgnoredAny>(data.as_bytes()).is_ok() {
        json.push_str(data);
    } else {
        wire::push_string(&mut json, data);
    }
    json.push('}');
    json
}

/// Most bytes that a chunk's framing adds to an event: sixteen digits and two line ends.
pub const CHUNK_OVERHEAD: usize = 20;

/// Length in bytes of the event that [`write_event`] writes, its chunk framing aside.
pub fn event_len(fields: &Fields<'_>) -> usize {
    let mut length = 1;
    if !fields.name.is_empty() {
        length += "event: ".len() + fields.name.len() + 1;
    }
    if let Some(id) = fields.id {
        length += "id: ".len() + id.len() + 1;
    }
    if let Some(retry) = fields.retry {
        length += "retry: ".len() + decimal_digits(retry) as usize + 1;
    }
    for line in lines(&fields.data) {
        length += "data: ".len() + line.len() + 1;
    }
    length
}

/// Length in bytes of a chunk of so many bytes.
pub fn chunk_len(length: usize) -> usize {
    hex_digits(length) as usize + "\r\n".len() + length + "\r\n".len()
}

/// Appends one event: the name's field unless the name is empty, id and retry where there are some,
/// one `data` field for each line of the data, an empty line.
pub fn write_event(out: &mut Vec<u8>, framing: Framing, fields: &Fields<'_>) {
    let length = event_len(fields);
    out.reserve(chunk_len(length));
    if framing == Framing::Chunked {
        push_hex(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if !fields.name.is_empty() {
        push_field(out, b"event: ", fields.name);
    }
    if let Some(id) = fields.id {
        push_field(out, b"id: ", id);
    }
    if let Some(retry) = fields.retry {
        out.extend_from_slice(b"retry: ");
        push_decimal(out, retry);
        out.push(b'\n');
    }
    for line in lines(&fields.data) {
        push_field(out, b"data: ", line);
    }
    out.push(b'\n');
    if framing == Framing::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

/// What a stream of this framing gets of an event that was written as a chunk.
pub fn of_chunk(chunk: &[u8], framing: Framing) -> &[u8] {
    let around = match framing {
        // Not even looked at.
        Framing::Chunked => None,
        Framing::Plain => memchr(b'\n', chunk),
    };
    around.map_or(chunk, |end| &chunk[end + 1..chunk.len() - 2])
}

/// Appends what fires nothing, but is what the client will name when it comes again (contract,
/// section 12).
pub fn write_position(out: &mut Vec<u8>, framing: Framing, id: &EventId) {
    write_silent(out, framing, &format!("id: {id}\n\n"));
}

/// Most bytes that [`write_retry`] writes.
pub const RETRY_BYTES: usize = 32;

/// Appends what fires nothing, but is how many milliseconds the client will wait before it comes
/// again (contract, section 14).
pub fn write_retry(out: &mut Vec<u8>, framing: Framing, millis: u32) {
    write_silent(out, framing, &format!("retry: {millis}\n\n"));
}

/// Appends a block without data.
fn write_silent(out: &mut Vec<u8>, framing: Framing, text: &str) {
    if framing == Framing::Chunked {
        push_hex(out, text.len());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(text.as_bytes());
    if framing == Framing::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
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
    for place in (0..hex_digits(number)).rev() {
        let digit = (number >> (4 * place)) & 0xf;
        out.push(b"0123456789abcdef"[digit]);
    }
}

fn hex_digits(number: usize) -> u32 {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(4)
}

fn push_decimal(out: &mut Vec<u8>, number: u32) {
    for place in (0..decimal_digits(number)).rev() {
        let digit = (number / 10_u32.pow(place)) % 10;
        out.push(b'0' + digit as u8);
    }
}

fn decimal_digits(number: u32) -> u32 {
    number.checked_ilog10().map_or(1, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(name: &'a str, data: &'a str) -> Fields<'a> {
        Fields {
            name,
            id: None,
            retry: None,
            data: data.into(),
        }
    }

    fn text(framing: Framing, fields: &Fields<'_>) -> String {
        let mut out = Vec::new();
        write_event(&mut out, framing, fields);
        String::from_utf8(out).unwrap()
    }

    fn event(framing: Framing, name: &str, data: &str) -> String {
        text(framing, &fields(name, data))
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
            let length = event_len(&fields(name, data));
            assert_eq!(length, expected.len(), "{data:?}");
        }
    }

    #[test]
    fn id_and_retry_stand_between_name_and_data() {
        let table = [
            ("n", Some("7-1"), None, "event: n\nid: 7-1\ndata: x\n\n"),
            ("", Some(":"), Some(0), "id: :\nretry: 0\ndata: x\n\n"),
            ("n", None, Some(9), "event: n\nretry: 9\ndata: x\n\n"),
            ("", None, Some(10), "retry: 10\ndata: x\n\n"),
            ("", None, Some(999), "retry: 999\ndata: x\n\n"),
            ("", None, Some(86_400_000), "retry: 86400000\ndata: x\n\n"),
            ("", None, Some(u32::MAX), "retry: 4294967295\ndata: x\n\n"),
        ];
        for (name, id, retry, expected) in table {
            let fields = Fields {
                id,
                retry,
                ..fields(name, "x")
            };
            assert_eq!(text(Framing::Plain, &fields), expected);
            assert_eq!(event_len(&fields), expected.len(), "{expected}");
            let chunk = format!("{:x}\r\n{expected}\r\n", expected.len());
            assert_eq!(text(Framing::Chunked, &fields), chunk);
        }
    }

    #[test]
    fn an_envelope_holds_json_as_it_is_and_all_else_as_a_string() {
        #[rustfmt::skip] // A table is read in columns.
        let table = [
            ("n", "{\"a\":[1]}", "{\"type\":\"n\",\"payload\":{\"a\":[1]}}"),
            ("n", "[ 1.50,\n\t2e3 ]", "{\"type\":\"n\",\"payload\":[ 1.50,\n\t2e3 ]}"),
            ("n", "5", "{\"type\":\"n\",\"payload\":5}"),
            ("n", " -0 ", "{\"type\":\"n\",\"payload\": -0 }"),
            ("n", "1e999", "{\"type\":\"n\",\"payload\":1e999}"),
            ("n", "null", "{\"type\":\"n\",\"payload\":null}"),
            ("n", "\"s\"", "{\"type\":\"n\",\"payload\":\"s\"}"),
            ("n", "{\"a\":1,\"a\":2}", "{\"type\":\"n\",\"payload\":{\"a\":1,\"a\":2}}"),
            ("n", "", "{\"type\":\"n\",\"payload\":\"\"}"),
            ("n", "plain", "{\"type\":\"n\",\"payload\":\"plain\"}"),
            ("n", "05", "{\"type\":\"n\",\"payload\":\"05\"}"),
            ("n", "{} {}", "{\"type\":\"n\",\"payload\":\"{} {}\"}"),
            ("n", "{'a':1}", "{\"type\":\"n\",\"payload\":\"{'a':1}\"}"),
            ("n", "a\r\n\"b\\\u{1}é", "{\"type\":\"n\",\"payload\":\"a\\r\\n\\\"b\\\\\\u0001é\"}"),
            ("n", "},\"x\":{", "{\"type\":\"n\",\"payload\":\"},\\\"x\\\":{\"}"),
            ("a\"\\\tb", "1", "{\"type\":\"a\\\"\\\\\\tb\",\"payload\":1}"),
            (" ", "1", "{\"type\":\" \",\"payload\":1}"),
            ("Connection_close", "1", "{\"type\":\"Connection_close\",\"payload\":1}"),
        ];
        for (name, data, expected) in table {
            let event = Event {
                name: name.into(),
                data: data.into(),
                id: Some("i".into()),
                retry: Some(5),
                key: Some("k".into()),
                retain: false,
            };
            let enveloped = Fields {
                name: "",
                id: Some("i"),
                retry: Some(5),
                data: expected.into(),
            };
            assert_eq!(Format::Envelope.fields(&event), enveloped);
            // Nesting beyond what is read elsewhere is no reason to quote.
            let deep = "[".repeat(4000) + &"]".repeat(4000);
            assert!(envelope(name, &deep).ends_with(&format!("\"payload\":{deep}}}")));
        }
    }

    #[test]
    fn what_is_not_enveloped_stands_as_it_was_given() {
        let table = [
            (Format::Plain, "n", "{}"),
            (Format::Plain, "", "x"),
            (Format::Envelope, "", "{}"),
            (Format::Envelope, "connection_close", "{\"a\":1}"),
        ];
        for (format, name, data) in table {
            let event = Event {
                name: name.into(),
                data: data.into(),
                id: Some("i".into()),
                retry: Some(0),
                key: None,
                retain: false,
            };
            let stands = format.fields(&event);
            let expected = Fields {
                id: Some("i"),
                retry: Some(0),
                ..fields(name, data)
            };
            assert_eq!(stands, expected);
            assert!(matches!(stands.data, Cow::Borrowed(_)));
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
    fn an_event_comes_out_of_its_chunk() {
        for length in [0, 7, 8, 300, 70_000] {
            let data = "\n".repeat(3) + &"y".repeat(length);
            let (plain, chunk) = (fields("n", &data), &fields("n", &data));
            let chunk = text(Framing::Chunked, chunk);
            let plain = text(Framing::Plain, &plain);
            assert_eq!(of_chunk(chunk.as_bytes(), Framing::Plain), plain.as_bytes());
            assert_eq!(
                of_chunk(chunk.as_bytes(), Framing::Chunked),
                chunk.as_bytes()
            );
        }
    }

    #[test]
    fn a_position_is_an_id_without_an_event() {
        let id = EventId {
            millis: 17,
            number: 4,
        };
        for (framing, expected) in [
            (Framing::Plain, "id: 17-4\n\n"),
            (Framing::Chunked, "a\r\nid: 17-4\n\n\r\n"),
        ] {
            let mut out = Vec::new();
            write_position(&mut out, framing, &id);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_retry_alone_is_a_block_of_its_own() {
        for (millis, framing, expected) in [
            (0, Framing::Plain, "retry: 0\n\n"),
            (3000, Framing::Plain, "retry: 3000\n\n"),
            (0, Framing::Chunked, "a\r\nretry: 0\n\n\r\n"),
            (
                86_400_000,
                Framing::Chunked,
                "11\r\nretry: 86400000\n\n\r\n",
            ),
            (
                u32::MAX,
                Framing::Chunked,
                "13\r\nretry: 4294967295\n\n\r\n",
            ),
        ] {
            let mut out = Vec::new();
            write_retry(&mut out, framing, millis);
            assert!(out.len() <= RETRY_BYTES);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
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
