//! The response of another server (RFC 9112), parsed from the bytes that have arrived.

use std::mem;

use super::error::OutgoingError;

/// Largest head of a response.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most headers of a response.
const HEADERS_MAX: usize = 128;
/// Bytes of the longest line before a chunk. Longer ones only have extensions, which mean nothing here.
const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Most interim responses, such as 103, before the final one.
const INTERIM_MAX: usize = 8;

/// A complete response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutgoingResponse {
    pub(crate) status: u16,
    /// The body, or its start if it is longer than the limit of the request.
    pub(crate) body: Vec<u8>,
    /// True if the body is longer than the limit of the request.
    pub(crate) is_truncated: bool,
    /// True if the body ended with the connection, so that it may have been cut off (RFC 9112 §8).
    pub(crate) may_be_cut: bool,
    pub(crate) headers: Vec<(String, String)>,
}

impl OutgoingResponse {
    /// Returns whether the status is 200 to 299.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the values of a header, one for each line.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let headers = self.headers.iter();
        let found = headers.filter(move |(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Assembles a response from bytes as they arrive.
pub(super) struct ResponseReader {
    /// Bytes that are not parsed yet.
    buffer: Vec<u8>,
    response: OutgoingResponse,
    state: ReaderState,
    interim: usize,
    body_bytes_max: usize,
}

/// The part of the response that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReaderState {
    Head,
    /// A body with this many bytes left.
    Counted(u64),
    /// A body that lasts until the connection closes.
    UntilClose,
    ChunkLine,
    /// A chunk with this many bytes left.
    Chunk(u64),
    ChunkEnd,
    Complete,
}

impl ResponseReader {
    pub(super) fn new(body_bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            response: OutgoingResponse::default(),
            state: ReaderState::Head,
            interim: 0,
            body_bytes_max,
        }
    }

    /// Takes bytes that have arrived. Returns the response once it is complete, or longer than its limit.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<OutgoingResponse>, OutgoingError> {
        self.buffer.extend_from_slice(bytes);
        while self.step()? {}
        let is_done = self.state == ReaderState::Complete || self.response.is_truncated;
        Ok(is_done.then(|| mem::take(&mut self.response)))
    }

    /// Returns the response at the end of the connection.
    pub(super) fn finish(mut self) -> Result<OutgoingResponse, OutgoingError> {
        match self.state {
            ReaderState::Complete => Ok(mem::take(&mut self.response)),
            ReaderState::UntilClose => {
                self.response.may_be_cut = true;
                Ok(mem::take(&mut self.response))
            }
            _ => Err(OutgoingError::BrokenOff),
        }
    }

    /// Parses the next part. Returns false if it has not arrived, or if nothing more is needed.
    fn step(&mut self) -> Result<bool, OutgoingError> {
        match self.state {
            ReaderState::Head => self.parse_head(),
            ReaderState::Counted(left) => {
                let left = self.take_body(left);
                self.state = match left {
                    0 => ReaderState::Complete,
                    left => ReaderState::Counted(left),
                };
                Ok(false)
            }
            ReaderState::UntilClose => {
                self.take_body(u64::MAX);
                Ok(false)
            }
            ReaderState::ChunkLine => self.parse_chunk_line(),
            ReaderState::Chunk(left) => {
                let left = self.take_body(left);
                self.state = match left {
                    0 => ReaderState::ChunkEnd,
                    left => ReaderState::Chunk(left),
                };
                Ok(left == 0 && !self.response.is_truncated)
            }
            ReaderState::ChunkEnd => {
                if self.buffer.len() < 2 {
                    return Ok(false);
                }
                if !self.buffer.starts_with(b"\r\n") {
                    return Err(OutgoingError::NotHttp("a chunk has another length"));
                }
                self.buffer.drain(..2);
                self.state = ReaderState::ChunkLine;
                Ok(true)
            }
            ReaderState::Complete => Ok(false),
        }
    }

    fn parse_head(&mut self) -> Result<bool, OutgoingError> {
        let mut headers = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut raw = httparse::Response::new(&mut headers);
        let parsed = raw.parse(&self.buffer);
        let parsed = parsed.map_err(|_| OutgoingError::NotHttp("the head cannot be parsed"))?;
        let httparse::Status::Complete(length) = parsed else {
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(OutgoingError::NotHttp("the head is too long"));
            }
            return Ok(false);
        };
        let status = raw.code.unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let headers = raw.headers.iter();
        let headers = headers.map(|header| (header.name.to_owned(), text(header.value)));
        self.response.headers = headers.collect();
        self.response.status = status;
        self.buffer.drain(..length);
        if (100..200).contains(&status) {
            self.interim += 1;
            if status == 101 || self.interim > INTERIM_MAX {
                return Err(OutgoingError::NotHttp(
                    "the status is not one of a response",
                ));
            }
            return Ok(true);
        }
        self.state = self.body_state()?;
        Ok(true)
    }

    /// Returns how the body is delimited (RFC 9112 §6.3).
    fn body_state(&self) -> Result<ReaderState, OutgoingError> {
        if matches!(self.response.status, 204 | 304) {
            return Ok(ReaderState::Complete);
        }
        if let Some(coding) = self.response.header("Transfer-Encoding") {
            return match coding.eq_ignore_ascii_case("chunked") {
                true => Ok(ReaderState::ChunkLine),
                false => Err(OutgoingError::NotHttp("the transfer coding is unknown")),
            };
        }
        let Some(length) = self.response.header("Content-Length") else {
            return Ok(ReaderState::UntilClose);
        };
        let invalid = OutgoingError::NotHttp("Content-Length is not a number");
        match length.parse().map_err(|_| invalid)? {
            0 => Ok(ReaderState::Complete),
            length => Ok(ReaderState::Counted(length)),
        }
    }

    fn parse_chunk_line(&mut self) -> Result<bool, OutgoingError> {
        match httparse::parse_chunk_size(&self.buffer) {
            Ok(httparse::Status::Complete((length, size))) => {
                self.buffer.drain(..length);
                self.state = match size {
                    // Trailers are not read; the connection closes after them.
                    0 => ReaderState::Complete,
                    size => ReaderState::Chunk(size),
                };
                Ok(size > 0)
            }
            Ok(httparse::Status::Partial) if self.buffer.len() <= CHUNK_LINE_BYTES_MAX => Ok(false),
            Ok(httparse::Status::Partial) | Err(_) => Err(OutgoingError::NotHttp(
                "the size of a chunk cannot be parsed",
            )),
        }
    }

    /// Moves at most `left` bytes to the body, and returns how many of them have not arrived.
    fn take_body(&mut self, left: u64) -> u64 {
        let arrived = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        let fitting = arrived.min(self.body_bytes_max - self.response.body.len());
        self.response
            .body
            .extend_from_slice(&self.buffer[..fitting]);
        self.response.is_truncated |= fitting < arrived;
        self.buffer.drain(..arrived);
        left - arrived as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a response in pieces of `step` bytes; its connection then closes.
    fn parse(
        text: &str,
        step: usize,
        body_bytes_max: usize,
    ) -> Result<OutgoingResponse, OutgoingError> {
        let mut reader = ResponseReader::new(body_bytes_max);
        for piece in text.as_bytes().chunks(step) {
            if let Some(response) = reader.push(piece)? {
                return Ok(response);
            }
        }
        reader.finish()
    }

    #[test]
    fn body_is_found_by_each_framing_and_in_pieces() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
        ] {
            for step in [1, 7, 1000] {
                let response = parse(head, step, 100).expect(head);
                assert_eq!(response.status, 200, "{head}");
                assert_eq!(response.body, b"hello", "{head} by {step}");
                assert!(!response.is_truncated && response.is_success(), "{head}");
            }
        }
        let empty = parse("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", 3, 0).expect("a response");
        assert_eq!((empty.status, empty.header("x-a")), (204, Some("1")));
    }

    #[test]
    fn long_body_is_cut_at_the_limit() {
        let long = "x".repeat(1000);
        for head in [
            format!("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{long}"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n{long}"),
            format!("HTTP/1.1 200 OK\r\n\r\n{long}"),
        ] {
            for step in [1, 300, 10_000] {
                let response = parse(&head, step, 64).expect("a response");
                assert_eq!((response.body.len(), response.is_truncated), (64, true));
            }
        }
        let exact =
            parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1, 2).expect("a response");
        assert!(!exact.is_truncated);
    }

    #[test]
    fn broken_responses_are_errors() {
        for broken in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ] {
            assert_eq!(
                parse(broken, 4, 100),
                Err(OutgoingError::BrokenOff),
                "{broken}"
            );
        }
        let long_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        let hints = "HTTP/1.1 103 x\r\n\r\n".repeat(20);
        let line = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}",
            "x".repeat(2000)
        );
        for broken in [
            "SSH-2.0-OpenSSH_9\r\n",
            "\x15\x03\x03\0\x02\x02\x50",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            &long_head,
            &hints,
            &line,
        ] {
            let outcome = parse(broken, 50, 100);
            assert!(
                matches!(outcome, Err(OutgoingError::NotHttp(_))),
                "{broken}: {outcome:?}"
            );
        }
    }
}
