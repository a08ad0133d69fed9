//! The bytes of what a history keeps: sends to numbered channels, and events that carry an id.
//!
//! Streams are in classes, by their numbers, and so are channels: a stream is in all channels of its
//! class, and in no other. Events go to the channels in turn, so that each stream's are numbered
//! without a gap, however many channels they come by.

use std::iter;

use memchr::memchr;

use crate::many::{self, EVERYONE};
use crate::wire::{self, DATA_BYTES, Mark};

/// Digits of a channel's number.
const CHANNEL_DIGITS: usize = 4;

/// What stands before a channel's number in its name.
const CHANNEL_FRONT: &str = "c.";

/// Longest first line of a chunk that is looked for.
const SIZE_BYTES: usize = 10;

/// The channels that streams are in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Joins {
    Nothing,
    One(&'static str),
    Class(Classes),
}

impl Joins {
    /// The body of the answer to a stream's connect callback, if there is any.
    pub(crate) fn body(self, number: u32) -> Option<String> {
        let list = match self {
            Joins::Nothing => return None,
            Joins::One(name) => format!("\"{name}\""),
            Joins::Class(classes) => {
                let names = classes.channels_of(number % classes.count).map(quoted);
                names.collect::<Vec<_>>().join(",")
            }
        };
        Some(format!("{{\"channels\":[{list}]}}"))
    }
}

/// How many classes there are, and channels in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Classes {
    pub(crate) count: u32,
    pub(crate) channels_each: u32,
}

impl Classes {
    pub(crate) fn channels(self) -> u32 {
        self.count * self.channels_each
    }

    fn channels_of(self, class: u32) -> impl Iterator<Item = u32> {
        (0..self.channels_each).map(move |at| class + at * self.count)
    }

    /// The number in the marks of events that the streams of a class get.
    fn mark_number(self, class: u32) -> u32 {
        EVERYONE - 1 - class
    }

    /// The same for one of its streams.
    pub(crate) fn shared_number(self, number: u32) -> u32 {
        self.mark_number(number % self.count)
    }

    /// How many of the first so many events each class gets; a whole number of turns.
    pub(crate) fn each(self, events: u64) -> u64 {
        events / u64::from(self.count)
    }
}

fn quoted(channel: u32) -> String {
    format!("\"{CHANNEL_FRONT}{channel:0CHANNEL_DIGITS$}\"")
}

/// A send to channels without its facts, and where they go.
pub(crate) struct NumberedRequest {
    bytes: Vec<u8>,
    channels_at: Vec<usize>,
    data_at: usize,
}

impl NumberedRequest {
    /// To so many channels, with so many bytes of data.
    pub(crate) fn new(port: u16, channels: usize, data_bytes: usize) -> NumberedRequest {
        let names = iter::repeat_with(|| quoted(0)).take(channels);
        let names = names.collect::<Vec<_>>().join(",");
        let target = match channels {
            1 => format!("\"channel\":{names}"),
            _ => format!("\"channels\":[{names}]"),
        };
        let data = "x".repeat(data_bytes);
        let body = format!("{{{target},\"event\":{{\"data\":\"{data}\"}}}}");
        let text = wire::post(port, &body);
        let first = text.find(CHANNEL_FRONT).unwrap_or_default() + CHANNEL_FRONT.len();
        let step = quoted(0).len() + ",".len();
        NumberedRequest {
            channels_at: (0..channels).map(|at| first + at * step).collect(),
            data_at: text.len() - "\"}}".len() - data_bytes,
            bytes: text.into_bytes(),
        }
    }

    /// The request for the event of this number, to the channel whose turn it is and to others that
    /// stand evenly among all.
    pub(crate) fn numbered(&mut self, event: u64, classes: Classes) -> &[u8] {
        let all = classes.channels();
        let first = (event % u64::from(all)) as u32;
        let step = all / self.channels_at.len() as u32;
        for (place, at) in (0..).zip(&self.channels_at) {
            let channel = (first + place * step) % all;
            let digits = &mut self.bytes[*at..*at + CHANNEL_DIGITS];
            wire::put_decimal(digits, u64::from(channel));
        }
        let mark = Mark {
            number: classes.mark_number(first % classes.count),
            sequence: classes.each(event),
            due: 0,
        };
        mark.write(&mut self.bytes[self.data_at..self.data_at + DATA_BYTES]);
        &self.bytes
    }
}

/// The bytes of an event's chunk on a stream, if its id is that long.
pub(crate) fn chunk_bytes(id: usize, data: usize) -> usize {
    let event = "id: \ndata: \n\n".len() + id + data;
    format!("{event:x}").len() + "\r\n".len() + event + "\r\n".len()
}

/// The id in an answer's body.
pub(crate) fn id(body: &[u8]) -> Option<&[u8]> {
    let digits = many::behind(body, b"\"id\":\"")?;
    digits.split(|byte| *byte == b'"').next()
}

/// What a stream's next bytes are, and what is behind it.
pub(crate) enum Piece<'a> {
    Event { data: &'a [u8], behind: &'a [u8] },
    Position { behind: &'a [u8] },
    Part,
    Foreign,
}

/// Looks for a chunk that carries an id.
pub(crate) fn piece(bytes: &[u8]) -> Piece<'_> {
    let Some(line) = memchr(b'\n', &bytes[..bytes.len().min(SIZE_BYTES)]) else {
        return match bytes.len() < SIZE_BYTES {
            true => Piece::Part,
            false => Piece::Foreign,
        };
    };
    let digits = std::str::from_utf8(&bytes[..line]).unwrap_or_default();
    let Ok(size) = usize::from_str_radix(digits.trim_end(), 16) else {
        return Piece::Foreign;
    };
    let rest = &bytes[line + 1..];
    let Some((event, behind)) = rest.split_at_checked(size) else {
        return Piece::Part;
    };
    if behind.len() < 2 {
        return Piece::Part;
    }
    let whole = event.strip_prefix(b"id: ").and_then(|text| {
        let end = memchr(b'\n', text)?;
        behind.strip_prefix(b"\r\n").zip(text.get(end + 1..))
    });
    match whole {
        None => Piece::Foreign,
        Some((behind, b"\n")) => Piece::Position { behind },
        Some((behind, fields)) => {
            let data = fields.strip_prefix(b"data: ");
            match data.and_then(|data| data.strip_suffix(b"\n\n")) {
                Some(data) if data.len() >= DATA_BYTES => Piece::Event { data, behind },
                _ => Piece::Foreign,
            }
        }
    }
}
