//! Where the bytes of kept events lie: in large pieces that go back to the system one by one, as the
//! oldest event of each is forgotten.

use std::collections::VecDeque;
use std::rc::Rc;

use super::super::frame::Frame;
use crate::sse::Framing;

/// Bytes of a block, unless what is kept is less than some of them.
const MOST_BYTES: usize = 256 * 1024;
const FEWEST_BYTES: usize = 16 * 1024;

/// Blocks of a history at the least: one of them may hold little that is still kept.
const BLOCKS: usize = 16;

/// A block takes no event of more than this part of its bytes, so that little is left over at its end.
const PART: usize = 8;

/// Bytes of events, first in, first out.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: VecDeque<Block>,
    /// The number of the first of them.
    first: u32,
    /// Bytes of one.
    size: usize,
}

#[derive(Debug)]
enum Block {
    /// Events, one behind the other.
    Events(Vec<u8>),
    /// One event that is too large to be copied, and its further channels.
    Frame(Rc<Frame>, Box<[u32]>),
}

/// Bytes of a channel.
const CHANNEL: usize = size_of::<u32>();

/// Where an event lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    block: u32,
    start: u32,
    /// Bytes of the chunk.
    length: u32,
    /// Bytes of the key behind it.
    key_len: u8,
    /// Channels behind that.
    further: u8,
}

impl Place {
    /// Bytes of the event that lies there, as a stream gets them.
    pub(super) fn length(self) -> u64 {
        self.length.into()
    }
}

/// What lies there.
pub(in super::super) enum Kept<'a> {
    /// A chunk of HTTP/1.1.
    Chunk(&'a [u8]),
    /// What is better shared than copied.
    Frame(&'a Rc<Frame>),
}

impl Blocks {
    /// For events of so many bytes together.
    pub(super) fn new(all: usize) -> Blocks {
        Blocks {
            blocks: VecDeque::new(),
            first: 0,
            size: (all / BLOCKS).clamp(FEWEST_BYTES, MOST_BYTES),
        }
    }

    /// Puts an event behind the others, with the channels that it has beside its first: far fewer
    /// than 256.
    pub(super) fn push(&mut self, frame: &Rc<Frame>, further: &[u32]) -> Place {
        let chunk = frame.bytes(Framing::Chunked);
        let key = frame.key().unwrap_or_default();
        let bytes = chunk.len() + key.len() + further.len() * CHANNEL;
        let mut place = Place {
            block: 0,
            start: 0,
            length: chunk.len() as u32,
            key_len: key.len() as u8,
            further: further.len() as u8,
        };
        if bytes > self.size / PART {
            let block = Block::Frame(Rc::clone(frame), further.into());
            self.blocks.push_back(block);
        } else {
            let block = self.room_for(bytes);
            place.start = block.len() as u32;
            block.extend_from_slice(chunk);
            block.extend_from_slice(key.as_bytes());
            block.extend(further.iter().flat_map(|id| id.to_ne_bytes()));
        }
        let last = self.blocks.len() as u32 - 1;
        place.block = self.first.wrapping_add(last);
        place
    }

    fn room_for(&mut self, bytes: usize) -> &mut Vec<u8> {
        let has_room = match self.blocks.back() {
            Some(Block::Events(block)) => block.capacity() - block.len() >= bytes,
            _ => false,
        };
        if !has_room {
            let block = Vec::with_capacity(self.size);
            self.blocks.push_back(Block::Events(block));
        }
        match self.blocks.back_mut() {
            Some(Block::Events(block)) => block,
            _ => unreachable!("a block of events was put there"),
        }
    }

    /// Forgets all that lies before this place, or everything.
    pub(super) fn forget_before(&mut self, place: Option<Place>) {
        let Some(place) = place else {
            self.first = self.first.wrapping_add(self.blocks.len() as u32);
            return self.blocks.clear();
        };
        while self.first != place.block {
            self.blocks.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// What lies at a place that is not forgotten.
    pub(super) fn at(&self, place: Place) -> Kept<'_> {
        match self.block(place) {
            Block::Events(bytes) => {
                let start = place.start as usize;
                Kept::Chunk(&bytes[start..start + place.length as usize])
            }
            Block::Frame(frame, _) => Kept::Frame(frame),
        }
    }

    /// The key of the event that lies there.
    pub(super) fn key(&self, place: Place) -> &str {
        match self.block(place) {
            Block::Events(bytes) => {
                let start = (place.start + place.length) as usize;
                // It was put there as a text.
                std::str::from_utf8(&bytes[start..start + usize::from(place.key_len)])
                    .unwrap_or_default()
            }
            Block::Frame(frame, _) => frame.key().unwrap_or_default(),
        }
    }

    /// The further channels of the event that lies there.
    pub(super) fn further(&self, place: Place) -> impl Iterator<Item = u32> {
        let (bytes, list) = match self.block(place) {
            _ if place.further == 0 => (&[][..], &[][..]),
            Block::Events(bytes) => {
                let start = (place.start + place.length) as usize + usize::from(place.key_len);
                let length = usize::from(place.further) * CHANNEL;
                (&bytes[start..start + length], &[][..])
            }
            Block::Frame(_, list) => (&[][..], &**list),
        };
        let (ids, _) = bytes.as_chunks();
        let ids = ids.iter().copied().map(u32::from_ne_bytes);
        ids.chain(list.iter().copied())
    }

    /// Bytes of memory of the blocks.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| match block {
            Block::Events(bytes) => bytes.capacity(),
            Block::Frame(frame, _) => frame.memory(),
        });
        blocks.sum()
    }

    fn block(&self, place: Place) -> &Block {
        &self.blocks[place.block.wrapping_sub(self.first) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Fields;

    fn frame(data: &str, key: Option<&str>) -> Rc<Frame> {
        let fields = Fields {
            name: "",
            id: None,
            retry: None,
            data: data.into(),
        };
        Frame::event(&fields, key, 0)
    }

    fn chunk(blocks: &Blocks, place: Place) -> Vec<u8> {
        match blocks.at(place) {
            Kept::Chunk(bytes) => bytes.to_vec(),
            Kept::Frame(frame) => frame.bytes(Framing::Chunked).to_vec(),
        }
    }

    #[test]
    fn what_was_put_is_found_until_it_is_forgotten() {
        let mut blocks = Blocks::new(0);
        blocks.first = u32::MAX - 3;
        let sizes = [1, 2000, 2100, 40_000, 700, 2000, 1];
        let mut places = VecDeque::new();
        for round in 0..300 {
            let data = "x".repeat(sizes[round % sizes.len()] + round);
            let key = (round % 3 == 0).then(|| format!("key{round}"));
            let frame = frame(&data, key.as_deref());
            let further: Vec<u32> = (0..round % 4).map(|at| (round + at) as u32).collect();
            places.push_back((blocks.push(&frame, &further), frame, further));
            if round % 2 == 0 {
                places.pop_front();
                blocks.forget_before(places.front().map(|(place, ..)| *place));
            }
            for (place, frame, further) in &places {
                assert_eq!(chunk(&blocks, *place), frame.bytes(Framing::Chunked));
                assert_eq!(blocks.key(*place), frame.key().unwrap_or_default());
                assert!(blocks.further(*place).eq(further.iter().copied()));
            }
            let events = places.len();
            assert!(blocks.blocks.len() <= events.max(1), "{events}");
        }
        blocks.forget_before(None);
        assert!(blocks.blocks.is_empty());
        let place = blocks.push(&frame("x", None), &[]);
        assert!(matches!(blocks.at(place), Kept::Chunk(_)));
    }
}
