//! Lines to publish: one text, or the lines of a descriptor that is polled.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Longest line. No server takes longer messages by default, and memory stays bounded.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where lines come from.
#[derive(Debug)]
pub(crate) struct Input {
    /// A text that is one line.
    text: Option<String>,
    /// `None` once its end was reached.
    source: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that were taken.
    taken: usize,
    /// Bytes after `taken` in which no line ends.
    searched: usize,
}

impl Input {
    /// Returns the lines of a descriptor, to its end.
    pub(crate) fn lines(source: OwnedFd) -> Self {
        Self {
            text: None,
            source: Some(source),
            ..Self::text(String::new())
        }
    }

    /// Returns one text, which may have several lines, as one line.
    pub(crate) fn text(text: String) -> Self {
        Self {
            text: Some(text),
            source: None,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
        }
    }

    /// Returns the descriptor to poll for more; `None` at its end.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        self.source.as_ref().map(OwnedFd::as_fd)
    }

    /// Reads more. To be called when the descriptor is readable; otherwise it blocks.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let Some(source) = &self.source else {
            return Ok(());
        };
        self.buffer.drain(..std::mem::take(&mut self.taken));
        let filled = self.buffer.len();
        if filled >= LINE_BYTES_MAX {
            let why = format!("a line is longer than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::other(why));
        }
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = match rustix::io::read(source, &mut self.buffer[filled..]) {
            // Another program may have made the descriptor non-blocking.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {
                self.buffer.truncate(filled);
                return Ok(());
            }
            read => read?,
        };
        self.buffer.truncate(filled + read);
        if read == 0 {
            self.source = None;
        }
        Ok(())
    }

    /// Returns the next line without its end; `None` if there is none yet.
    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        if let Some(text) = self.text.take() {
            return Some(text.into_bytes());
        }
        let rest = &self.buffer[self.taken..];
        let end = rest[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = rest.len();
            let is_last = self.source.is_none() && !rest.is_empty();
            return is_last.then(|| {
                let line = rest.to_vec();
                self.taken = self.buffer.len();
                self.searched = 0;
                line
            });
        };
        let line = &rest[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.taken += end + 1;
        self.searched = 0;
        Some(line)
    }

    /// Returns whether nothing follows.
    pub(super) fn is_at_end(&self) -> bool {
        self.text.is_none() && self.source.is_none() && self.taken == self.buffer.len()
    }
}
