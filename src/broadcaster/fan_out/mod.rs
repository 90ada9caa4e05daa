//! The message path: adds publications to their rooms' batches and sends the batches, to a large room with the help of
//! other threads.

mod batch;
mod helpers;

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::Publication;
use crate::rooms::RoomNumbering;

use super::state::BroadcasterState;

pub(crate) use helpers::auto_helpers;

pub(super) use batch::{Batch, FanOut};
pub(super) use helpers::Helpers;

impl BroadcasterState {
    /// Adds a publication to its room's batch. A numbering that the members do not know restarts the room.
    pub(super) fn deliver(
        &mut self,
        numbering: &Arc<RoomNumbering>,
        publication: &Publication,
        received: Instant,
        now: Instant,
    ) {
        numbering.set_delivered(publication.offset);
        let Some(room) = self.rooms.get_mut(&publication.room) else {
            return;
        };
        if !room.has_numbering(numbering) {
            return self.restart(&publication.room);
        }
        let delay = now.saturating_duration_since(received);
        self.metrics.fan_out_delay.observe(delay);
        if !room.has_pending() {
            self.pending.push(publication.room.clone());
        }
        room.add_pending(publication);
        if room.pending_is_full() {
            self.metrics.deliveries.add(room.flush(&self.helpers));
        }
    }

    /// Sends every pending batch of the events that were taken at `started`.
    pub(super) fn flush_pending(&mut self, started: Instant) {
        if self.pending.is_empty() {
            return;
        }
        let mut delivered = 0;
        for name in self.pending.drain(..) {
            if let Some(room) = self.rooms.get_mut(&name) {
                delivered += room.flush(&self.helpers);
            }
        }
        self.metrics.deliveries.add(delivered);
        self.metrics.fan_out_time.observe(started.elapsed());
    }
}
