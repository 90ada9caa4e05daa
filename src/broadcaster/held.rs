//! The batches that wait for a held member while its thread reads the missed publications from the store.

use std::sync::Arc;

use crate::outbox::Outbox;
use crate::protocol::{EventBodies, Frames};

/// Bytes that are kept for a held member. Beyond them its thread reads the publications from the store again, so
/// that a slow reader costs no memory.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The batches that a held member is sent on its release, unless they became too many to keep.
pub(super) struct HeldBatches {
    /// The last offset before the first batch.
    after: u64,
    batches: Vec<HeldBatch>,
    bytes: usize,
    /// True if the batches were dropped because they exceeded the limit. The store still has their publications.
    overflowed: bool,
    /// The acknowledgements in the batches, which the member needs even if it does not get the batches. Its own thread
    /// reads from the store meanwhile, so they are those of the publishes that it sent before.
    acks: Vec<Frames>,
}

/// A batch of a held member.
pub(super) enum HeldBatch {
    Frames(Frames),
    /// The publications for a member that reads several rooms as one stream. Their ids are written when it is released.
    Events {
        bodies: Arc<EventBodies>,
        /// The offsets of the publications that it does not receive.
        skipped: Vec<u64>,
    },
}

impl HeldBatches {
    pub(super) fn after(offset: u64) -> Self {
        Self {
            after: offset,
            batches: Vec::new(),
            bytes: 0,
            overflowed: false,
            acks: Vec::new(),
        }
    }

    /// Keeps a batch that is sent as this many bytes. All batches are sent in one burst on release, so together they must
    /// fit the outbox's burst.
    pub(super) fn add(&mut self, batch: HeldBatch, bytes: usize, outbox: &Outbox) {
        self.bytes += bytes;
        if self.bytes > HELD_BYTES_MAX.min(outbox.burst_bytes()) {
            self.overflowed = true;
            self.batches = Vec::new();
        }
        if !self.overflowed {
            self.batches.push(batch);
        }
    }

    /// Keeps the acknowledgement of a publish whose message is in none of the batches.
    pub(super) fn add_ack(&mut self, ack: Frames) {
        self.acks.push(ack);
    }

    /// Returns the acknowledgements, for a member that does not get the batches.
    pub(super) fn acks(&self) -> &[Frames] {
        &self.acks
    }

    /// Returns the batches that follow the offset `reached`. Returns `None` if they were dropped or if they start at
    /// another offset.
    pub(super) fn following(&self, reached: u64) -> Option<&[HeldBatch]> {
        (self.after == reached && !self.overflowed).then_some(&self.batches[..])
    }
}
