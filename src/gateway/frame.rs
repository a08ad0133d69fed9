//! One event's bytes: encoded once, however many streams it goes to.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::sse::{self, Fields, Framing};

/// What goes to a stream in one piece; shared by all for whom it waits.
pub(super) struct Frame {
    /// As a stream of HTTP/1.1 has it, in one chunk (RFC 9112, section 7.1); behind that its key.
    bytes: Box<[u8]>,
    /// Where it stands among the events of the history: behind those up to this one.
    at: u64,
    /// Backlogs that it waits in.
    holders: Cell<u32>,
    /// Bytes before what a stream of HTTP/1.0 has of it; behind that there are two. Zero: it has
    /// all of it.
    before: u8,
    key_len: u8,
    /// That is its own number.
    is_numbered: bool,
}

impl Frame {
    /// An event that was read when there were `at` of them; one that comes later with the same
    /// `key` takes it out where it waits.
    pub(super) fn event(fields: &Fields<'_>, key: Option<&str>, at: u64) -> Rc<Frame> {
        let key = key.unwrap_or_default();
        let length = sse::event_len(fields);
        // Exactly, as what is left over would have to be given back.
        let mut bytes = Vec::with_capacity(sse::chunk_len(length) + key.len());
        sse::write_event(&mut bytes, Framing::Chunked, fields);
        let around = bytes.len() - length;
        bytes.extend_from_slice(key.as_bytes());
        Rc::new(Frame {
            bytes: bytes.into_boxed_slice(),
            at,
            holders: Cell::new(0),
            before: around as u8 - 2,
            key_len: key.len() as u8,
            is_numbered: false,
        })
    }

    /// The event of this number, or what stands for it as a current value.
    pub(super) fn numbered(fields: &Fields<'_>, key: Option<&str>, at: u64) -> Rc<Frame> {
        let mut frame = Frame::event(fields, key, at);
        if let Some(frame) = Rc::get_mut(&mut frame) {
            frame.is_numbered = true;
        }
        frame
    }

    /// Bytes that are the same for every stream of this framing and no event.
    pub(super) fn raw(bytes: &[u8]) -> Rc<Frame> {
        Rc::new(Frame {
            bytes: bytes.into(),
            at: 0,
            holders: Cell::new(0),
            before: 0,
            key_len: 0,
            is_numbered: false,
        })
    }

    /// What a stream gets.
    pub(super) fn bytes(&self, framing: Framing) -> &[u8] {
        let chunk = &self.bytes[..self.bytes.len() - usize::from(self.key_len)];
        match (framing, self.before) {
            (Framing::Chunked, _) | (_, 0) => chunk,
            (Framing::Plain, before) => &chunk[before.into()..chunk.len() - 2],
        }
    }

    /// Whether it is an event, and not the stream's end or a heartbeat.
    pub(super) fn is_event(&self) -> bool {
        self.before > 0
    }

    /// Where it stands among the events of the history: behind those up to this one.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Whether it was read later than the event of this number.
    pub(super) fn is_later(&self, number: u64) -> bool {
        self.at > number || self.at == number && !self.is_numbered
    }

    /// Names what only the latest event of is worth anything (contract, section 11, keep-latest).
    pub(super) fn key(&self) -> Option<&str> {
        let (_, key) = self
            .bytes
            .split_at(self.bytes.len() - usize::from(self.key_len));
        // It is where a text was put.
        std::str::from_utf8(key).ok().filter(|key| !key.is_empty())
    }

    /// Whether it waits for anybody.
    pub(super) fn is_held(&self) -> bool {
        self.holders.get() > 0
    }

    /// Bytes of memory that waiting for somebody takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Frame>() + self.bytes.len()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

/// Bytes of all frames that wait for anybody; each counts once, however many wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shared(usize);

impl Shared {
    /// How many they are.
    pub(super) fn memory(self) -> usize {
        self.0
    }

    /// One more backlog holds this frame.
    pub(super) fn hold(&mut self, frame: &Frame) {
        let holders = frame.holders.get();
        if holders == 0 {
            self.0 += frame.memory();
        }
        frame.holders.set(holders + 1);
    }

    /// One backlog fewer holds it.
    pub(super) fn release(&mut self, frame: &Frame) {
        let holders = frame.holders.get() - 1;
        if holders == 0 {
            self.0 -= frame.memory();
        }
        frame.holders.set(holders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, key: Option<&str>) -> Rc<Frame> {
        let fields = Fields {
            name,
            id: None,
            retry: None,
            data: data.into(),
        };
        Frame::event(&fields, key, 0)
    }

    #[test]
    fn each_framing_has_its_own_part() {
        let frame = event("n", "a\nb", None);
        let text = "event: n\ndata: a\ndata: b\n\n";
        assert_eq!(frame.bytes(Framing::Plain), text.as_bytes());
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        assert_eq!(frame.bytes(Framing::Chunked), chunk.as_bytes());
        let large = event("", &"x".repeat(5_000_000), None);
        assert_eq!(large.bytes(Framing::Plain).len(), 5_000_008);
        assert_eq!(Frame::raw(b"end").bytes(Framing::Plain), b"end");
    }

    #[test]
    fn the_key_is_no_part_of_what_a_stream_gets() {
        let (bare, keyed) = (event("n", "a", None), event("n", "a", Some("k\u{7e}")));
        for framing in [Framing::Plain, Framing::Chunked] {
            assert_eq!(bare.bytes(framing), keyed.bytes(framing));
        }
        assert_eq!((bare.key(), keyed.key()), (None, Some("k~")));
    }

    #[test]
    fn what_many_wait_for_counts_once() {
        let frame = event("", "x", Some("key"));
        let mut shared = Shared::default();
        for _ in 0..3 {
            shared.hold(&frame);
            assert_eq!(shared.memory(), frame.memory());
        }
        for left in [frame.memory(), frame.memory(), 0] {
            shared.release(&frame);
            assert_eq!(shared.memory(), left);
        }
    }
}
