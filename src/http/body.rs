//! Request bodies: finding the end, taking chunked framing off (RFC 9112, sections 6 and 7.1).
//!
//! Strict: digits, CRLF and nothing else around a chunk; what a lenient reader would pass over can
//! hide a second request.

use super::head::{BodyFraming, FramingError};

/// Largest sum of the bytes that chunk extensions may take in one body, zeros before a size of
/// sixteen digits included. They carry nothing here.
const MAX_EXTENSION_BYTES: u32 = 16 * 1024;

/// Takes a body apart as its bytes arrive.
#[derive(Debug)]
pub struct Decoder {
    state: Place,
    /// Bytes of content to come, of the whole body or of the chunk; while a chunk's size is read,
    /// the number so far.
    left: u64,
    /// Content bytes that may still come before the limit is passed.
    allowance: u64,
    /// Bytes of chunk extensions that may still come.
    extensions: u32,
    /// Bytes of the trailer section that may still come.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Content to come, then the end.
    Length,
    /// In a chunk's size, which has so many digits, or sixteen and more.
    Size { digits: u8 },
    /// White space behind the size or behind an extension's value; another extension must follow.
    Blank,
    /// Behind a semicolon: white space, then an extension's name.
    ExtensionStart,
    /// In an extension's name.
    Name,
    /// White space behind an extension's name; an equals sign or another extension must follow.
    NameBlank,
    /// Behind an equals sign: white space, then a value.
    ValueStart,
    /// In a value that is a token.
    Value,
    /// In a value that is a quoted string.
    Quoted,
    /// In a quoted string, behind a backslash.
    QuotedPair,
    /// Behind a quoted string.
    QuotedEnd,
    /// The CR of the size line is read.
    SizeEnd,
    /// The chunk's content to come.
    Data,
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

const MALFORMED: FramingError = FramingError::BadRequest("malformed chunked framing");

impl Decoder {
    /// A decoder for a body of at most `max_body` content bytes whose trailer section may hold
    /// `max_trailers` bytes. A length beyond the limit is refused before any byte of the body.
    pub fn new(
        framing: BodyFraming,
        max_body: usize,
        max_trailers: usize,
    ) -> Result<Decoder, FramingError> {
        let allowance = max_body as u64;
        let (state, left) = match framing {
            BodyFraming::Length(length) if length > allowance => {
                return Err(FramingError::ContentTooLarge);
            }
            BodyFraming::Length(0) => (Place::Done, 0),
            BodyFraming::Length(length) => (Place::Length, length),
            BodyFraming::Chunked => (Place::Size { digits: 0 }, 0),
        };
        Ok(Decoder {
            state,
            left,
            allowance,
            extensions: MAX_EXTENSION_BYTES,
            trailers: max_trailers,
        })
    }

    /// Whether the body's end has been reached.
    pub fn is_done(&self) -> bool {
        self.state == Place::Done
    }

    /// Takes body bytes from the front of `input`, hands the content to `content` in order, and
    /// gives the number of bytes taken: all of them unless the body ended before.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut content: impl FnMut(&[u8]),
    ) -> Result<usize, FramingError> {
        let mut at = 0;
        while at < input.len() && self.state != Place::Done {
            if let Place::Length | Place::Data = self.state {
                let take = self.left.min((input.len() - at) as u64) as usize;
                content(&input[at..at + take]);
                at += take;
                self.left -= take as u64;
                self.state = match (self.state, self.left) {
                    (Place::Length, 0) => Place::Done,
                    (_, 0) => Place::DataCr,
                    (state, _) => state,
                };
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// One byte of chunked framing.
    fn step(&mut self, byte: u8) -> Result<Place, FramingError> {
        Ok(match (self.state, byte) {
            (Place::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                return self.digit(digits, byte);
            }
            (Place::Size { digits: 0 }, _) => return Err(MALFORMED),
            (Place::SizeEnd, b'\n') if self.left == 0 => Place::TrailerStart,
            (Place::SizeEnd, b'\n') => {
                if self.left > self.allowance {
                    return Err(FramingError::ContentTooLarge);
                }
                self.allowance -= self.left;
                Place::Data
            }
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size { digits: 0 },
            (Place::LastEnd, b'\n') => Place::Done,
            (
                Place::TrailerStart | Place::TrailerName | Place::TrailerValue | Place::TrailerEnd,
                _,
            ) => return self.trailer(byte),
            _ => return self.extension(byte),
        })
    }

    /// One more digit of a chunk's size.
    fn digit(&mut self, digits: u8, byte: u8) -> Result<Place, FramingError> {
        if self.left >> 60 != 0 {
            return Err(FramingError::BadRequest("a chunk size that overflows"));
        }
        // Sixteen digits hold every size; more have zeros before them, of which there is no end.
        if digits == 16 {
            self.extension_byte()?;
        }
        self.left = self.left << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
        Ok(Place::Size {
            digits: (digits + 1).min(16),
        })
    }

    /// One byte of a size line behind the size (RFC 9112, section 7.1.1).
    fn extension(&mut self, byte: u8) -> Result<Place, FramingError> {
        use Place::{Blank, ExtensionStart, Name, NameBlank, Quoted, QuotedEnd, QuotedPair};
        use Place::{Size, SizeEnd, Value, ValueStart};
        if byte != b'\r' {
            self.extension_byte()?;
        }
        Ok(match (self.state, byte) {
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => QuotedPair,
            (Quoted | QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (ValueStart, b'"') => Quoted,
            (ExtensionStart | Name, _) if is_token(byte) => Name,
            (ValueStart | Value, _) if is_token(byte) => Value,
            (Size { .. } | Name | Value | QuotedEnd, b'\r') => SizeEnd,
            (Size { .. } | Blank | Name | NameBlank | Value | QuotedEnd, b';') => ExtensionStart,
            (Name | NameBlank, b'=') => ValueStart,
            (Name, b' ' | b'\t') => NameBlank,
            (Size { .. } | Value | QuotedEnd, b' ' | b'\t') => Blank,
            (Blank | ExtensionStart | NameBlank | ValueStart, b' ' | b'\t') => self.state,
            _ => return Err(MALFORMED),
        })
    }

    /// One byte of the trailer section, which is checked and dropped.
    fn trailer(&mut self, byte: u8) -> Result<Place, FramingError> {
        if self.trailers == 0 {
            return Err(FramingError::HeadTooLarge);
        }
        self.trailers -= 1;
        match (self.state, byte) {
            (Place::TrailerStart, b'\r') => Ok(Place::LastEnd),
            (Place::TrailerName, b':') => Ok(Place::TrailerValue),
            (Place::TrailerStart | Place::TrailerName, _) if is_token(byte) => {
                Ok(Place::TrailerName)
            }
            (Place::TrailerValue, b'\r') => Ok(Place::TrailerEnd),
            (Place::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(Place::TrailerValue),
            (Place::TrailerEnd, b'\n') => Ok(Place::TrailerStart),
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
pub fn is_token(byte: u8) -> bool {
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
        let table: [(BodyFraming, &str, &str, &str); 18] = [
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
            // More digits than a size needs.
            (chunked, "00000000000000003\r\nabc\r\n0\r\n\r\n", "abc", ""),
            (chunked, "00000000000000000000;a\r\n\r\nG", "", "G"),
            // Every part of an extension.
            (
                chunked,
                "1;a=b;c=\"\";!#$%&'*+-.^_`|~\r\na\r\n0\r\n\r\n",
                "a",
                "",
            ),
            (
                chunked,
                "1 ;\ta\t = \t\"b\" ;c =d\t;e ;f\r\na\r\n0\r\n\r\n",
                "a",
                "",
            ),
            (chunked, "0;a=\"b \t;=,!#[]~é\"\r\n\r\n", "", ""),
            (chunked, "0;a=\"\\\"\\\\\\\t\\a\\é\";b\r\n\r\n", "", ""),
            (chunked, "0;a=\"b\";c=0\r\n\r\n", "", ""),
            (chunked, "0\t;0\r\n\r\n", "", ""),
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
            "00000000000000001g\r\n",
            "fffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "010000000000000000;a\r\n",
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
    fn malformed_extensions_are_refused_at_every_cut() {
        let table: [&[u8]; 33] = [
            b";",
            b";;",
            b";;a",
            b";a;",
            b";=",
            b";=b",
            b"; ",
            b";\t;a",
            b" ",
            b"\t",
            b" a",
            b"=a",
            b";a ",
            b";a b",
            b";a=",
            b";a= ",
            b";a=;b",
            b";a=b ",
            b";a=b c",
            b";a=b=c",
            b";a@b",
            b";\"a\"",
            b";a=b\"c\"",
            b";a=\"b\"c",
            b";a=\"b\" ",
            b";a=\"b\"\"c\"",
            b";a=\"b",
            b";a=\"b\\",
            b";a=\"b\\\"",
            b";a=\"\x01\"",
            b";a=\"\\\x7f\"",
            b";\xe9",
            b";a=\xe9",
        ];
        for extension in table {
            let input = [b"1", extension, b"\r\na\r\n0\r\n\r\n"].concat();
            let error = at_every_cut(BodyFraming::Chunked, &input);
            assert_eq!(error, Err(MALFORMED), "{}", String::from_utf8_lossy(&input));
        }
    }

    #[test]
    fn a_size_line_is_bounded() {
        let too_long = FramingError::BadRequest("too long chunk extensions");
        let most = MAX_EXTENSION_BYTES as usize;
        let of = |before: &str, filler: &str, n: usize, behind: &str| {
            let line = format!("{before}{}{behind}\r\n\r\n", filler.repeat(n));
            decode(BodyFraming::Chunked, line.as_bytes(), 1000).map(|(_, is_done, _)| is_done)
        };
        let table = [
            ("", "0", most + 16, ""),
            ("0;", "a", most - 1, ""),
            ("0", " ", most - 2, ";a"),
            ("0;a=\"", "é", (most - 5) / 2, "\""),
        ];
        for (before, filler, n, behind) in table {
            assert_eq!(of(before, filler, n, behind), Ok(true), "{filler:?}");
            let error = of(before, filler, n + 1, behind);
            assert_eq!(error, Err(too_long), "{filler:?}");
        }
        // The bound is that of the body, not of a line.
        let chunk = format!("1;{}\r\na\r\n", "a".repeat(most / 2));
        assert!(decode(BodyFraming::Chunked, chunk.as_bytes(), 99).is_ok());
        assert_eq!(
            decode(BodyFraming::Chunked, chunk.repeat(2).as_bytes(), 99),
            Err(too_long)
        );
    }

    #[test]
    fn limits() {
        let too_large = Err(FramingError::ContentTooLarge);
        assert_eq!(decode(BodyFraming::Length(101), b"", 1), too_large);
        assert_eq!(decode(BodyFraming::Length(u64::MAX), b"", 1), too_large);
        assert!(decode(BodyFraming::Length(100), &[b'x'; 100], 9).is_ok());
        assert_eq!(at_every_cut(BodyFraming::Chunked, b"65\r\n"), too_large);
        for size in [
            "7fffffffffffffff",
            "8000000000000000",
            "FFFFFFFFFFFFFFFF",
            "00FFFFFFFFFFFFFFFF",
        ] {
            let line = format!("{size}\r\n");
            assert_eq!(
                at_every_cut(BodyFraming::Chunked, line.as_bytes()),
                too_large
            );
        }
        let mut two = b"60\r\n".to_vec();
        two.extend([b'x'; 96]);
        two.extend(b"\r\n5\r\n");
        assert_eq!(at_every_cut(BodyFraming::Chunked, &two), too_large);
        let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(60));
        assert_eq!(
            at_every_cut(BodyFraming::Chunked, trailers.as_bytes()),
            Err(FramingError::HeadTooLarge)
        );
    }

    #[test]
    fn what_is_incomplete_is_not_done() {
        for input in ["", "3", "3\r\nab", "3\r\nabc\r\n0\r\n", "0\r\n\r"] {
            let (_, is_done, taken) = at_every_cut(BodyFraming::Chunked, input.as_bytes()).unwrap();
            assert!(!is_done && taken == input.len(), "{input:?}");
        }
    }
}
