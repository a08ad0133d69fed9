//! One event's bytes: encoded once, however many streams it goes to.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::sse::{self, Fields, Framing};

/// What goes to a stream in one piece; shared by all for whom it waits.
pub(super) struct Frame {
    /// As a stream of HTTP/1.1 has it, in one chunk (RFC 9112, section 7.1).
    chunk: Box<[u8]>,
    /// Bytes before and behind what a stream of HTTP/1.0 has of it.
    around: (u8, u8),
    /// An event that comes later with the same key takes this one out where it waits.
    key: Option<Rc<str>>,
    /// Backlogs that it waits in.
    holders: Cell<u32>,
}

impl Frame {
    /// An event; `key` as in [`Frame::key`].
    pub(super) fn event(fields: &Fields<'_>, key: Option<&str>) -> Rc<Frame> {
        let length = sse::event_len(fields);
        let mut chunk = Vec::with_capacity(length + sse::CHUNK_OVERHEAD);
        sse::write_event(&mut chunk, Framing::Chunked, fields);
        let around = chunk.len() - length;
        Rc::new(Frame {
            chunk: chunk.into_boxed_slice(),
            around: (around as u8 - 2, 2),
            key: key.map(Rc::from),
            holders: Cell::new(0),
        })
    }

    /// Bytes that are the same for every stream of this framing and no event.
    pub(super) fn raw(bytes: &[u8]) -> Rc<Frame> {
        Rc::new(Frame {
            chunk: bytes.into(),
            around: (0, 0),
            key: None,
            holders: Cell::new(0),
        })
    }

    /// What a stream gets.
    pub(super) fn bytes(&self, framing: Framing) -> &[u8] {
        let (before, behind) = self.around;
        match framing {
            Framing::Chunked => &self.chunk,
            Framing::Plain => &self.chunk[before.into()..self.chunk.len() - usize::from(behind)],
        }
    }

    /// Names what only the latest event of is worth anything (contract, section 11, keep-latest).
    pub(super) fn key(&self) -> Option<&Rc<str>> {
        self.key.as_ref()
    }

    /// Whether it waits for anybody.
    pub(super) fn is_held(&self) -> bool {
        self.holders.get() > 0
    }

    /// Bytes of memory that waiting for somebody takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Frame>() + self.chunk.len() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.chunk))
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
        Frame::event(&fields, key)
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
