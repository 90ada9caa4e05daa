//! Reading requests off a socket, each under a deadline.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::http::{self, Body, Head, HeadError, Request};
use crate::socket::Socket;

use super::send_all;

/// Largest HTTP request body, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes asked of the socket at a time while a head or a body is read.
const READ_BYTES: usize = 2048;

/// Why reading a request ended the connection.
pub(super) enum ReadError {
    /// The client closed, or idled past the keep-alive: nothing to answer.
    Closed,
    /// The deadline passed in the middle of a request: 408.
    TimedOut,
    /// The head was refused.
    Refused(HeadError),
    /// The body is longer than we take: 413.
    BodyTooLarge,
    /// The body comes in chunks: 411.
    LengthRequired,
}

/// Reads requests off a socket; what follows one stays in the buffer for the next.
pub(super) struct RequestReader<'a> {
    pub(super) socket: &'a Socket,
    buffer: Vec<u8>,
    /// Requests that were refused one after the other as too many.
    pub(super) refused_in_a_row: u32,
    app: &'a App,
}

impl<'a> RequestReader<'a> {
    pub(super) fn new(socket: &'a Socket, app: &'a App) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            refused_in_a_row: 0,
            app,
        }
    }

    /// What follows the last request, as far as it has come.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits up to `wait` for a request to begin and up to the head's deadline for it to be complete.
    pub(super) fn next(
        &mut self,
        wait: Duration,
        first: bool,
    ) -> Result<(Request, Body), ReadError> {
        let mut scanned = 0;
        let head_timeout = self.app.config.limits.head_timeout;
        let begun = Instant::now();
        let mut deadline = begun
            + if self.buffer.is_empty() {
                wait
            } else {
                head_timeout
            };
        loop {
            match http::parse(&self.buffer, &mut scanned).map_err(ReadError::Refused)? {
                Some(Head { request, body, len }) => {
                    self.buffer.drain(..len);
                    return Ok((request, body));
                }
                None => {
                    let was_empty = self.buffer.is_empty();
                    self.fill(deadline).map_err(|error| match error {
                        ReadError::TimedOut if was_empty => ReadError::Closed,
                        other => other,
                    })?;
                    if was_empty && !first {
                        deadline = Instant::now() + head_timeout;
                    }
                }
            }
        }
    }

    pub(super) fn read_body(
        &mut self,
        request: &Request,
        body: Body,
    ) -> Result<Vec<u8>, ReadError> {
        let length = match body {
            Body::None => return Ok(Vec::new()),
            Body::Chunked => return Err(ReadError::LengthRequired),
            Body::Length(length) if length > BODY_BYTES_MAX as u64 => {
                return Err(ReadError::BodyTooLarge);
            }
            Body::Length(length) => length as usize,
        };
        if self.buffer.len() < length
            && request.minor_version > 0
            && request.header_lists("Expect", "100-continue")
        {
            send_all(self.socket, http::continue_100()).map_err(|_| ReadError::Closed)?;
        }
        let deadline = Instant::now() + self.app.config.limits.head_timeout;
        while self.buffer.len() < length {
            self.fill(deadline)?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), ReadError> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = self
            .socket
            .read_before(&mut self.buffer[filled..], deadline);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(ReadError::TimedOut),
            Err(_) => Err(ReadError::Closed),
        }
    }
}
