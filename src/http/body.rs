//! Request bodies: finding the end, taking chunked framing off (RFC 9112, sections 6 and 7.1).
//!
//! Strict: digits, CRLF and nothing else around a chunk; what a lenient reader would pass over can
//! hide a second request.

use super::head::{BodyFraming, FramingError};

/// Largest sum of the bytes that chunk extensions may take in one body. They carry nothing here.
const MAX_EXTENSION_BYTES: u32 = 16 * 1024;

/// Takes a body apart as its bytes arrive.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Content bytes that may still come before the limit is passed.
    allowance: u64,
    /// Bytes of chunk extensions that may still come.
    extensions: u32,
    /// Bytes of the trailer section that may still come.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of content to come, then the end.
    Length(u64),
    /// In a chunk's size; the number so far and how many digits it has.
    Size { size: u64, digits: u8 },
    /// White space behind the size; only an extension may follow.
    SizeSpace { size: u64 },
    /// In a chunk extension, which ends with the line.
    Extension { size: u64 },
    /// The CR of the size line is read.
    SizeEnd { size: u64 },
    /// So many bytes of the chunk's content to come.
    Data(u64),
    /// Behind the content: CR.
    DataCr,
    /// Behind the content: LF.
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// In a trailer field's name.
    TrailerName,
    /// In a trailer field's value.
    TrailerValue,
    /// The CR of a trailer line is read.
    TrailerEnd,
    /// The CR of the last, empty line is read.
    LastEnd,
    /// The body is whole.
    Done,
}

impl Decoder {
    /// A decoder for a body of at most `max_body` content bytes whose trailer section may hold
    /// `max_trailers` bytes. A length beyond the limit is refused before any byte of the body.
    pub fn new(
        framing: BodyFraming,
        max_body: usize,
        max_trailers: usize,
    ) -> Result<Decoder, FramingError> {
        let allowance = max_body as u64;
        let state = match framing {
            BodyFraming::Length(length) if length > allowance => {
                return Err(FramingError::ContentTooLarge);
            }
            BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size { size: 0, digits: 0 },
        };
        Ok(Decoder {
            state,
            allowance,
            extensions: MAX_EXTENSION_BYTES,
            trailers: max_trailers,
        })
    }

    /// Whether the body's end has been reached.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes body bytes from the front of `input`, hands the content to `content` in order, and
    /// gives the number of bytes taken: all of them unless the body ended before.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut content: impl FnMut(&[u8]),
    ) -> Result<usize, FramingError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Length(left) | State::Data(left) = self.state {
                let take = left.min((input.len() - at) as u64) as usize;
                content(&input[at..at + take]);
                at += take;
                let left = left - take as u64;
                self.state = match (self.state, left) {
                    (State::Length(_), 0) => State::Done,
                    (State::Length(_), left) => State::Length(left),
                    (_, 0) => State::DataCr,
                    (_, left) => State::Data(left),
                };
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// One byte of chunked framing.
    fn step(&mut self, byte: u8) -> Result<State, FramingError> {
        const MALFORMED: FramingError = FramingError::BadRequest("malformed chunked framing");
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
                // Sixteen digits hold every size; more are padding or an overflow, and so is a size
                // that a signed integer cannot hold.
                if digits == 16 || size >= 1 << 59 {
                    return Err(FramingError::BadRequest("a chunk size that overflows"));
                }
                State::Size {
                    size: size << 4 | digit,
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(MALFORMED),
            (State::Size { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, .. } | State::SizeSpace { size }, b';') => {
                State::Extension { size }
            }
            (State::Size { size, .. } | State::SizeSpace { size }, b' ' | b'\t') => {
                self.extension_byte()?;
                State::SizeSpace { size }
            }
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension_byte()?;
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeEnd { size }, b'\n') => {
                if size > self.allowance {
                    return Err(FramingError::ContentTooLarge);
                }
                self.allowance -= size;
                State::Data(size)
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::LastEnd, b'\n') => State::Done,
            (
                State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerEnd,
                _,
            ) => return self.trailer(byte),
            _ => return Err(MALFORMED),
        })
    }

    /// One byte of the trailer section, which is checked and dropped.
    fn trailer(&mut self, byte: u8) -> Result<State, FramingError> {
        if self.trailers == 0 {
            return Err(FramingError::HeadTooLarge);
        }
        self.trailers -= 1;
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastEnd),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerValue),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            _ => Err(FramingError::BadRequest("a malformed trailer section")),
        }
    }

    fn extension_byte(&mut self) -> Result<(), FramingError> {
        self.extensions = self
            .extensions
            .checked_sub(1)
            .ok_or(FramingError::BadRequest("too long chunk extensions"))?;
        Ok(())
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    /// The verdict over `input` in pieces of `piece` bytes: content and rest, or the error.
    fn decode(
        framing: BodyFraming,
        input: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, bool, usize), FramingError> {
        let mut decoder = Decoder::new(framing, LIMIT, 60)?;
        let (mut content, mut taken) = (Vec::new(), 0);
        for bytes in input.chunks(piece) {
            let n = decoder.decode(bytes, |part| content.extend_from_slice(part))?;
            taken += n;
            if n < bytes.len() {
                break;
            }
        }
        Ok((content, decoder.is_done(), taken))
    }

    fn at_every_cut(
        framing: BodyFraming,
        input: &[u8],
    ) -> Result<(Vec<u8>, bool, usize), FramingError> {
        let whole = decode(framing, input, input.len().max(1));
        for piece in 1..input.len() {
            assert_eq!(decode(framing, input, piece), whole, "pieces of {piece}");
        }
        whole
    }

    #[test]
    fn well_framed_bodies() {
        let chunked = BodyFraming::Chunked;
        let table: [(BodyFraming, &str, &str, &str); 10] = [
            (BodyFraming::Length(3), "abc", "abc", ""),
            (BodyFraming::Length(3), "abcGET /", "abc", "GET /"),
            (chunked, "0\r\n\r\n", "", ""),
            (chunked, "3\r\nabc\r\n0\r\n\r\nGET", "abc", "GET"),
            (chunked, "1\r\na\r\n0002\r\nbc\r\n00\r\n\r\n", "abc", ""),
            (chunked, "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
            (chunked, "3;a=b;c\r\nabc\r\n0;x\r\n\r\n", "abc", ""),
            (chunked, "3 \t;a=\"b\"\r\nabc\r\n0\r\n\r\n", "abc", ""),
            (chunked, "0\r\nA: b\r\nC:\r\n\r\nrest", "", "rest"),
            (chunked, "2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
        ];
        for (framing, input, content, rest) in table {
            let (got, is_done, taken) = at_every_cut(framing, input.as_bytes()).expect(input);
            assert_eq!(got, content.as_bytes(), "{input:?}");
            assert!(is_done, "{input:?}");
            assert_eq!(&input[taken..], rest, "{input:?}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused_at_every_cut() {
        let table = [
            "\r\n",
            ";\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\na",
            "0x1\r\na",
            " 1\r\na",
            "1 \r\na",
            "1\na",
            "1\r\rna",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\r\r",
            "1\r\naX",
            "1;\x01\r\n",
            "1;a\n",
            "0\r\n \r\n",
            "0\r\nA\r\n",
            "0\r\nA b: c\r\n",
            "0\r\nA: b\n",
            "0\r\nA: b\r\n c\r\n",
            "0\r\n: b\r\n",
            "0\r\n\n",
            "0\r\n\rX",
            "0\r\nA: \0\r\n",
            "00000000000000001\r\n",
            "fffffffffffffffff\r\n",
            "ffffffffffffffff\r\n",
            "8000000000000000\r\n",
        ];
        for input in table {
            let error = at_every_cut(BodyFraming::Chunked, input.as_bytes()).expect_err(input);
            assert!(
                matches!(error, FramingError::BadRequest(_)),
                "{input:?}: {error:?}"
            );
        }
    }

    #[test]
    fn limits() {
        let too_large = Err(FramingError::ContentTooLarge);
        assert_eq!(decode(BodyFraming::Length(101), b"", 1), too_large);
        assert_eq!(decode(BodyFraming::Length(u64::MAX), b"", 1), too_large);
        assert!(decode(BodyFraming::Length(100), &[b'x'; 100], 9).is_ok());
        assert_eq!(at_every_cut(BodyFraming::Chunked, b"65\r\n"), too_large);
        assert_eq!(
            at_every_cut(BodyFraming::Chunked, b"7fffffffffffffff\r\n"),
            too_large
        );
        let mut two = b"60\r\n".to_vec();
        two.extend([b'x'; 96]);
        two.extend(b"\r\n5\r\n");
        assert_eq!(at_every_cut(BodyFraming::Chunked, &two), too_large);
        let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(60));
        assert_eq!(
            at_every_cut(BodyFraming::Chunked, trailers.as_bytes()),
            Err(FramingError::HeadTooLarge)
        );
        let extension = format!("1;{}\r\n", "x".repeat(MAX_EXTENSION_BYTES as usize + 1));
        assert!(matches!(
            decode(BodyFraming::Chunked, extension.as_bytes(), 1000),
            Err(FramingError::BadRequest(_))
        ));
    }

    #[test]
    fn what_is_incomplete_is_not_done() {
        for input in ["", "3", "3\r\nab", "3\r\nabc\r\n0\r\n", "0\r\n\r"] {
            let (_, is_done, taken) = at_every_cut(BodyFraming::Chunked, input.as_bytes()).unwrap();
            assert!(!is_done && taken == input.len(), "{input:?}");
        }
    }
}
