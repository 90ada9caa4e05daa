//! The chunked transfer coding (RFC 9112 §7.1): decoding a body as its bytes arrive.
//!
//! Strict, because a chunk that two servers could read differently hides the start of another request. Extensions and
//! trailers have no meaning here and are skipped.

use std::fmt;

use super::headers::is_token;

/// Most digits of a chunk's size: 64 bits.
const SIZE_DIGITS_MAX: u32 = 16;
/// Bytes of sizes, line ends, extensions and trailers that any body may have.
const FRAMING_BYTES_BASE: usize = 16 * 1024;
/// Further bytes of framing per byte of the body. A chunk of one byte has five.
const FRAMING_BYTES_PER_BYTE: usize = 8;

/// The reason to reject a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkedError {
    /// The rule that the body breaks.
    Malformed(&'static str),
    /// The body is larger than allowed.
    TooLarge,
}

/// A body that arrives in chunks.
pub struct ChunkedBody {
    state: ChunkedState,
    body: Vec<u8>,
    /// Most bytes of `body`.
    max: usize,
    /// Bytes received that are not part of `body`.
    framing: usize,
}

/// The next byte that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkedState {
    Size {
        digits: u32,
        size: u64,
    },
    /// White space between a size and a semicolon.
    AfterSize(u64),
    Extension(u64),
    SizeLineFeed(u64),
    /// Bytes that are missing of the chunk, at least one.
    Data(usize),
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Complete,
}

impl ChunkedBody {
    /// Expects a body of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            state: ChunkedState::Size { digits: 0, size: 0 },
            body: Vec::new(),
            max,
            framing: 0,
        }
    }

    /// Decodes bytes that arrived, up to the end of the body, and returns their number.
    ///
    /// A chunk that would make the body too large is rejected for its size, before its bytes arrive.
    pub fn decode(&mut self, input: &[u8]) -> Result<usize, ChunkedError> {
        let mut at = 0;
        while at < input.len() && self.state != ChunkedState::Complete {
            if let ChunkedState::Data(missing) = self.state {
                let taken = missing.min(input.len() - at);
                self.body.extend_from_slice(&input[at..at + taken]);
                at += taken;
                self.state = match missing - taken {
                    0 => ChunkedState::DataReturn,
                    missing => ChunkedState::Data(missing),
                };
            } else {
                self.state = self.after(input[at])?;
                at += 1;
                self.count_framing()?;
            }
        }
        Ok(at)
    }

    /// Returns the body once it is complete.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        (self.state == ChunkedState::Complete).then(|| std::mem::take(&mut self.body))
    }

    /// Returns the state after a byte of framing.
    fn after(&self, byte: u8) -> Result<ChunkedState, ChunkedError> {
        use ChunkedState::{
            AfterSize, Complete, Data, DataLineFeed, DataReturn, Extension, LastLineFeed, Size,
            SizeLineFeed, TrailerLineFeed, TrailerName, TrailerStart, TrailerValue,
        };
        let malformed = |rule| Err(ChunkedError::Malformed(rule));
        Ok(match (self.state, byte) {
            (Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return malformed("the size of a chunk has too many digits");
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Size {
                    digits: digits + 1,
                    size: size << 4 | u64::from(digit),
                }
            }
            (Size { digits: 0, .. }, _) => {
                return malformed("a chunk must start with its size in hexadecimal digits");
            }
            (Size { size, .. } | AfterSize(size), b' ' | b'\t') => AfterSize(size),
            (Size { size, .. } | AfterSize(size), b';') => Extension(size),
            (Size { size, .. } | Extension(size), b'\r') => SizeLineFeed(size),
            (Size { .. } | AfterSize(_), _) => {
                return malformed("the size of a chunk must be followed by CR LF or a semicolon");
            }
            (Extension(size), _) if is_text(byte) => Extension(size),
            (Extension(_), _) => return malformed("a control character in a chunk extension"),
            (SizeLineFeed(0), b'\n') => TrailerStart,
            (SizeLineFeed(size), b'\n') => Data(self.check_size(size)?),
            (DataReturn, b'\r') => DataLineFeed,
            (DataLineFeed, b'\n') => Size { digits: 0, size: 0 },
            (DataReturn | DataLineFeed, _) => {
                return malformed("a chunk must end with CR LF after as many bytes as its size");
            }
            (TrailerStart, b'\r') => LastLineFeed,
            (TrailerStart | TrailerName, _) if is_token(byte) => TrailerName,
            (TrailerName, b':') => TrailerValue,
            (TrailerStart | TrailerName, _) => return malformed("a trailer is not a header line"),
            (TrailerValue, b'\r') => TrailerLineFeed,
            (TrailerValue, _) if is_text(byte) => TrailerValue,
            (TrailerValue, _) => return malformed("a control character in a trailer"),
            (TrailerLineFeed, b'\n') => TrailerStart,
            (LastLineFeed, b'\n') => Complete,
            (SizeLineFeed(_) | TrailerLineFeed | LastLineFeed, _) => {
                return malformed("CR must be followed by LF");
            }
            (Data(_) | Complete, _) => self.state,
        })
    }

    fn check_size(&self, size: u64) -> Result<usize, ChunkedError> {
        let free = self.max - self.body.len();
        usize::try_from(size)
            .ok()
            .filter(|size| *size <= free)
            .ok_or(ChunkedError::TooLarge)
    }

    /// Counts a byte of framing: without a limit, the framing of an empty body could be endless.
    fn count_framing(&mut self) -> Result<(), ChunkedError> {
        self.framing += 1;
        if self.framing > FRAMING_BYTES_BASE + FRAMING_BYTES_PER_BYTE * self.body.len() {
            let rule = "the chunks have too much framing for so small a body";
            return Err(ChunkedError::Malformed(rule));
        }
        Ok(())
    }
}

/// Shows no content, because a body may be private.
impl fmt::Debug for ChunkedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, bytes) = (self.state, self.body.len());
        write!(f, "ChunkedBody({state:?}, {bytes} bytes)")
    }
}

/// A character of a header's value (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &str) -> Result<(Option<Vec<u8>>, usize), ChunkedError> {
        let mut chunked = ChunkedBody::new(1000);
        let read = chunked.decode(input.as_bytes())?;
        Ok((chunked.take(), read))
    }

    #[test]
    fn body_ends_at_its_last_chunk_and_its_trailers() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("1\r\na\r\n00A\r\n0123456789\r\n000\r\n\r\n", "a0123456789"),
            (
                "2;a=b;c=\"d;e\"\r\n\r\n\r\n0;last\r\nA: b\r\nC:\r\n\r\n",
                "\r\n",
            ),
            ("1 ;a\r\nx\r\n0\t; b\r\n\r\n", "x"),
        ] {
            let stolen = format!("{input}GET / HTTP/1.1\r\n");
            let decoded = decode(&stolen).expect(input);
            assert_eq!(decoded, (Some(body.into()), input.len()), "{input:?}");
        }
    }

    #[test]
    fn bodies_with_two_readings_are_rejected() {
        for bad in [
            "\r\n0\r\n\r\n",
            " 0\r\n\r\n",
            "+0\r\n\r\n",
            "-1\r\n\r\n",
            "0x0\r\n\r\n",
            "1_0\r\n",
            "5 \r\nhello",
            "5\nhello",
            "5\r\rhello",
            "5;a\nb\r\nhello",
            "5;a\rb\r\nhello",
            "5;\0\r\nhello",
            "5,5\r\nhello",
            "5\r\nhelloo",
            "5\r\nhell\r\n0",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "00000000000000005\r\n",
            "10000000000000005\r\n",
            "0\r\nGET / HTTP/1.1\r\n",
            "0\r\n a: b\r\n\r\n",
            "0\r\na : b\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na: b\r\n\n",
            "0\r\n\n",
            "0\r\n: b\r\n\r\n",
        ] {
            let decoded = decode(bad);
            assert!(
                matches!(decoded, Err(ChunkedError::Malformed(_))),
                "{bad:?}: {decoded:?}"
            );
        }
    }

    #[test]
    fn body_and_framing_are_bounded() {
        for large in ["3E9\r\n", "FFFFFFFFFFFFFFFF\r\n", "8000000000000000;a\r\n"] {
            assert_eq!(decode(large), Err(ChunkedError::TooLarge), "{large}");
        }
        let two = format!("3e8\r\n{}\r\n1\r\n", "x".repeat(1000));
        assert_eq!(decode(&two), Err(ChunkedError::TooLarge));
        let small = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(1000));
        let (body, read) = decode(&small).expect("many small chunks");
        assert_eq!(
            (body.map(|body| body.len()), read),
            (Some(1000), small.len())
        );
        let fill = "x".repeat(FRAMING_BYTES_BASE);
        for endless in [
            format!("0;{fill}"),
            format!("0\r\na: {fill}"),
            format!("0\r\n{fill}"),
        ] {
            assert!(matches!(decode(&endless), Err(ChunkedError::Malformed(_))));
        }
    }
}
