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
    /// A body in chunks.
    Chunked,
}

impl BodyLength {
    /// Rejects every combination of headers that two servers could read differently.
    pub(super) fn parse(headers: &Headers, minor_version: u8) -> Result<Self, HeadError> {
        let is_coded = headers.contains("Transfer-Encoding");
        let mut lengths = headers.lines("Content-Length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(HeadError::Bad("Content-Length is present twice"));
        }
        match (is_coded, length) {
            (true, Some(_)) => Err(HeadError::Bad("both Content-Length and Transfer-Encoding")),
            (true, None) if minor_version == 0 => {
                Err(HeadError::Bad("Transfer-Encoding in an HTTP/1.0 request"))
            }
            (true, None) => Self::parse_codings(headers),
            (false, None) => Ok(Self::None),
            (false, Some(digits)) => Self::parse_digits(digits),
        }
    }

    /// Accepts `chunked` alone, on one header line. Another coding in front of it is well-formed, but not supported.
    ///
    /// Not inlined, so that other requests do not take its stack.
    #[inline(never)]
    fn parse_codings(headers: &Headers) -> Result<Self, HeadError> {
        let lines = headers.lines("Transfer-Encoding");
        let codings: Vec<&str> = lines
            .flat_map(|line| line.split(','))
            .map(|coding| coding.trim_matches([' ', '\t']))
            .collect();
        let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
        match codings.split_last() {
            Some((last, [])) if is_chunked(last) => Ok(Self::Chunked),
            Some((last, others)) if is_chunked(last) => {
                if others.iter().any(is_chunked) {
                    return Err(HeadError::Bad("`chunked` is present twice"));
                }
                if others.iter().any(|coding| coding.is_empty()) {
                    return Err(HeadError::Bad("Transfer-Encoding is not a list of codings"));
                }
                Err(HeadError::Coding)
            }
            _ => Err(HeadError::Bad("Transfer-Encoding must end with `chunked`")),
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
