//! The length of a request's body (RFC 9112 §6.3).

use super::error::HeadError;
use super::headers::Headers;

/// The interim response to `Expect: 100-continue` (RFC 9110 §10.1.1).
pub(crate) const CONTINUE_100: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The framing of the body that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    None,
    /// A body of this many bytes, at least one.
    Bytes(u64),
    /// A body in chunks, which no route accepts: the response is 411.
    Chunked,
}

impl BodyLength {
    /// Rejects every combination of headers that two servers could read differently.
    pub(super) fn parse(headers: &Headers, minor_version: u8) -> Result<Self, HeadError> {
        let is_chunked = headers.contains("Transfer-Encoding");
        let mut lengths = headers.lines("Content-Length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(HeadError::Bad("Content-Length stands twice"));
        }
        match (is_chunked, length) {
            (true, Some(_)) => Err(HeadError::Bad("both Content-Length and Transfer-Encoding")),
            (true, None) if minor_version == 0 => {
                Err(HeadError::Bad("Transfer-Encoding in an HTTP/1.0 request"))
            }
            (true, None) => Ok(Self::Chunked),
            (false, None) => Ok(Self::None),
            (false, Some(digits)) => Self::parse_digits(digits),
        }
    }

    fn parse_digits(digits: &str) -> Result<Self, HeadError> {
        // `u64::parse` alone would accept a leading plus sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(0) if is_number => Ok(Self::None),
            Ok(length) if is_number => Ok(Self::Bytes(length)),
            _ => Err(HeadError::Bad("Content-Length is not a length")),
        }
    }
}
