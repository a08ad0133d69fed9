//! What a client makes of a stream's bytes, strictly: one chunk is one piece.

use std::fmt;

/// An event as a browser hands it on, with the id that it carries itself.
#[derive(Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) data: String,
    pub(super) id: Option<String>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data.get(..60).unwrap_or(&self.data);
        write!(f, "{}:{data:?} {:?}", self.name, self.id)
    }
}

/// One piece of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Event(Seen),
    /// An id without data, which fires nothing.
    Position(String),
    /// How long to wait before coming again, without data as well.
    Retry(u64),
    Beat,
    End,
}

impl Piece {
    pub(super) fn is_gap(&self) -> bool {
        matches!(self, Piece::Event(seen) if seen.name == "gap")
    }
}

/// The first piece and its bytes; `None` when it is not whole.
pub(super) fn next(text: &[u8], is_old: bool) -> Option<(Piece, usize)> {
    if is_old {
        let end = text.windows(2).position(|two| two == b"\n\n")? + 2;
        return Some((piece(&text[..end]), end));
    }
    let line = text.windows(2).position(|two| two == b"\r\n")?;
    let digits = std::str::from_utf8(&text[..line]).expect("a chunk size");
    let size = usize::from_str_radix(digits, 16).expect("a chunk size");
    let end = line + 2 + size;
    let tail = text.get(end..end + 2)?;
    assert_eq!(tail, b"\r\n", "a chunk's end");
    Some((piece(&text[line + 2..end]), end + 2))
}

fn piece(content: &[u8]) -> Piece {
    let content = std::str::from_utf8(content).expect("UTF-8");
    if content.is_empty() {
        return Piece::End;
    }
    let lines = content.strip_suffix("\n\n").expect("a whole piece");
    if lines == ": heartbeat" {
        return Piece::Beat;
    }
    if let Some(millis) = lines.strip_prefix("retry: ") {
        return Piece::Retry(millis.parse().expect("a number"));
    }
    let (mut name, mut data, mut id) = (String::new(), None, None);
    for line in lines.split('\n') {
        match line.split_once(": ").expect("a field") {
            ("event", value) => name = value.to_owned(),
            ("id", value) => id = Some(value.to_owned()),
            ("data", value) => match &mut data {
                None => data = Some(value.to_owned()),
                Some(data) => *data += &format!("\n{value}"),
            },
            other => panic!("no field of ours: {other:?}"),
        }
    }
    match (data, id) {
        (Some(data), id) => Piece::Event(Seen { name, data, id }),
        (None, Some(id)) => Piece::Position(id),
        _ => panic!("nothing: {content:?}"),
    }
}
