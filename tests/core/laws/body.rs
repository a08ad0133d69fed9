//! Bodies: in pieces as at once, and as the whole-buffer reader has it.

use ssegateway::http::body::Decoder;
use ssegateway::http::head::{BodyFraming, FramingError};

use super::cuts;
use super::oracles::chunked::{self, Read};

/// Beyond this the bounds of extensions, zeros and trailers, which the other reader lacks, would show.
const MOST: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq)]
struct Decoded {
    content: Vec<u8>,
    is_done: bool,
    taken: usize,
}

fn decoded<'a>(
    framing: BodyFraming,
    pieces: impl Iterator<Item = &'a [u8]>,
    max: usize,
) -> Result<Decoded, FramingError> {
    let mut decoder = Decoder::new(framing, max, 2 * MOST)?;
    let (mut content, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let n = decoder.decode(piece, |part| content.extend_from_slice(part))?;
        assert!(
            n == piece.len() || decoder.is_done(),
            "bytes left in the middle"
        );
        assert!(content.len() <= max, "more content than allowed");
        taken += n;
        if n < piece.len() {
            break;
        }
    }
    let is_done = decoder.is_done();
    Ok(Decoded {
        content,
        is_done,
        taken,
    })
}

/// Checks what the steered rest of `data` comes to.
pub fn run(data: &[u8]) {
    let ([kind, max, length, seed], bytes) = cuts::steer::<4>(data);
    let bytes = &bytes[..bytes.len().min(MOST)];
    let max = usize::from(max) * 4;
    let framing = match kind % 4 {
        0 => BodyFraming::Length(u64::from(length)),
        _ => BodyFraming::Chunked,
    };
    let whole = decoded(framing, std::iter::once(bytes), max);
    assert_eq!(
        decoded(framing, bytes.chunks(1), max),
        whole,
        "byte by byte"
    );
    let cut = decoded(framing, cuts::pieces(bytes, seed).into_iter(), max);
    assert_eq!(cut, whole, "in pieces");
    match framing {
        BodyFraming::Length(length) => check_length(whole, bytes, length as usize, max),
        BodyFraming::Chunked => {
            let found = match whole {
                Err(FramingError::ContentTooLarge) => Read::TooMuch,
                Err(_) => Read::Wrong,
                Ok(decoded) if decoded.is_done => Read::Whole(decoded.content, decoded.taken),
                Ok(decoded) => Read::Partial(decoded.content),
            };
            assert_eq!(found, chunked::read(bytes, max));
        }
    }
}

fn check_length(found: Result<Decoded, FramingError>, bytes: &[u8], length: usize, max: usize) {
    if length > max {
        assert_eq!(found, Err(FramingError::ContentTooLarge));
        return;
    }
    let taken = bytes.len().min(length);
    let expected = Decoded {
        content: bytes[..taken].to_vec(),
        is_done: taken == length,
        taken,
    };
    assert_eq!(found, Ok(expected));
}
