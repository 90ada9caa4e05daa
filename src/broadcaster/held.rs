//! The batches that wait for a held member while its thread reads the missed publications from the store.

use crate::outbox::Outbox;
use crate::protocol::Frames;

/// Bytes that are kept for a held member. Beyond them its thread reads the publications from the store again, so
/// that a slow reader costs no memory.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The batches that a held member is sent on its release, unless they became too many to keep.
pub(super) struct HeldBatches {
    /// The last offset before the first batch.
    after: u64,
    batches: Vec<Frames>,
    bytes: usize,
    /// True if the batches were dropped because they exceeded the limit. The store still has their publications.
    overflowed: bool,
}

impl HeldBatches {
    pub(super) fn after(offset: u64) -> Self {
        Self {
            after: offset,
            batches: Vec::new(),
            bytes: 0,
            overflowed: false,
        }
    }

    /// Keeps a batch. All batches are sent in one burst on release, so together they must fit the outbox's burst.
    pub(super) fn add(&mut self, batch: &Frames, outbox: &Outbox) {
        self.bytes += batch.bytes().len();
        if self.bytes > HELD_BYTES_MAX.min(outbox.burst_bytes()) {
            self.overflowed = true;
            self.batches = Vec::new();
        }
        if !self.overflowed {
            self.batches.push(batch.clone());
        }
    }

    /// Returns the batches that follow the offset `reached`. Returns `None` if they were dropped or if they start at
    /// another offset.
    pub(super) fn following(&self, reached: u64) -> Option<&[Frames]> {
        (self.after == reached && !self.overflowed).then_some(&self.batches[..])
    }
}
