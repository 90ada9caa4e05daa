//! Reading requests off a socket, each part under a deadline.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tiny_http::ResponseBox;

use crate::http::{self, BodyLength, CONTINUE_100, ChunkedBody, ChunkedError, Head, HeadError};
use crate::socket::Socket;

use super::io::send_all;

/// Bytes requested of the socket at a time.
const READ_BYTES: usize = 2048;

/// The reason why a request could not be read. Each reason ends the connection.
pub(super) enum ReadError {
    /// The client closed, or was idle longer than the keep-alive time: no response.
    Closed,
    /// The deadline passed in the middle of a request: 408.
    TimedOut,
    /// The head was rejected.
    Head(HeadError),
    /// The body is over the limit of its route, in bytes: 413.
    BodyTooLarge(usize),
    /// The body's chunks are malformed: 400, with the rule that they break.
    BadChunks(&'static str),
}

impl ReadError {
    /// Maps a time-out before the first byte of a request to [`Self::Closed`], which gets no response.
    fn while_idle(self) -> Self {
        match self {
            Self::TimedOut => Self::Closed,
            other => other,
        }
    }

    /// The response, unless the client is gone.
    pub(super) fn into_response(self) -> Option<ResponseBox> {
        Some(match self {
            Self::Closed => return None,
            Self::Head(why) => why.into(),
            Self::TimedOut => http::error(408, "request_timeout", "the request took too long"),
            Self::BodyTooLarge(max) => {
                let message = format!("this path accepts a body of at most {max} bytes");
                http::error(413, "message_too_large", &message)
            }
            Self::BadChunks(rule) => http::error(400, "bad_request", rule),
        })
    }
}

/// Reads requests off a socket; bytes that follow one stay in the buffer for the next.
pub(super) struct RequestReader<'a> {
    socket: &'a Socket,
    buffer: Vec<u8>,
    /// Time for a head, and for a body.
    timeout: Duration,
    /// The body that follows the last head, until it is read.
    unread_body: BodyLength,
}

impl<'a> RequestReader<'a> {
    pub(super) fn new(socket: &'a Socket, timeout: Duration) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            timeout,
            unread_body: BodyLength::None,
        }
    }

    /// The bytes received after the last request.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns whether a body follows the last head that was not read. Its bytes must not be taken for a request, so
    /// the connection must close.
    pub(super) fn has_unread_body(&self) -> bool {
        self.unread_body != BodyLength::None
    }

    /// Reads the first head of a connection, whose time starts now.
    pub(super) fn first_head(&mut self) -> Result<Head, ReadError> {
        self.read_head(Instant::now() + self.timeout)
    }

    /// Waits up to `keep_alive` for the first byte of another head; the time for the head starts with that byte.
    pub(super) fn next_head(&mut self, keep_alive: Duration) -> Result<Head, ReadError> {
        if self.buffer.is_empty() {
            self.fill(Instant::now() + keep_alive)
                .map_err(ReadError::while_idle)?;
        }
        self.read_head(Instant::now() + self.timeout)
    }

    #[inline(never)]
    fn read_head(&mut self, deadline: Instant) -> Result<Head, ReadError> {
        let mut scanned = 0;
        loop {
            if let Some(head) = http::parse(&self.buffer, &mut scanned).map_err(ReadError::Head)? {
                self.buffer.drain(..head.len);
                self.unread_body = head.body;
                return Ok(head);
            }
            let is_idle = self.buffer.is_empty();
            self.fill(deadline)
                .map_err(|error| if is_idle { error.while_idle() } else { error })?;
        }
    }

    /// Reads the body of a request that was accepted, after granting `100 Continue` to a client that waits for it.
    pub(super) fn read_body(&mut self, head: &Head, max: usize) -> Result<Vec<u8>, ReadError> {
        let length = match self.unread_body {
            BodyLength::None => return Ok(Vec::new()),
            BodyLength::Chunked => return self.read_chunks(head, max),
            BodyLength::Bytes(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= max)
                .ok_or(ReadError::BodyTooLarge(max))?,
        };
        if self.buffer.len() < length && head.expects_continue() {
            send_all(self.socket, CONTINUE_100).map_err(|_| ReadError::Closed)?;
        }
        let deadline = Instant::now() + self.timeout;
        while self.buffer.len() < length {
            self.fill(deadline)?;
        }
        self.unread_body = BodyLength::None;
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads a body in chunks, which has as much time as any other body.
    #[inline(never)]
    fn read_chunks(&mut self, head: &Head, max: usize) -> Result<Vec<u8>, ReadError> {
        // A client that has sent a part of its body does not wait for the permission to send it.
        if self.buffer.is_empty() && head.expects_continue() {
            send_all(self.socket, CONTINUE_100).map_err(|_| ReadError::Closed)?;
        }
        let deadline = Instant::now() + self.timeout;
        let mut chunked = ChunkedBody::new(max);
        loop {
            let decoded = chunked.decode(&self.buffer).map_err(|why| match why {
                ChunkedError::Malformed(rule) => ReadError::BadChunks(rule),
                ChunkedError::TooLarge => ReadError::BodyTooLarge(max),
            })?;
            self.buffer.drain(..decoded);
            if let Some(body) = chunked.take() {
                self.unread_body = BodyLength::None;
                return Ok(body);
            }
            self.fill(deadline)?;
        }
    }

    /// Waits for bytes and appends them to the buffer.
    fn fill(&mut self, deadline: Instant) -> Result<(), ReadError> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = self
            .socket
            .read_before(&mut self.buffer[filled..], deadline);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(1..) => Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(ReadError::TimedOut),
            Ok(0) | Err(_) => Err(ReadError::Closed),
        }
    }
}
