//! A seat: a permit to be a member of a room.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::numbering::RoomNumbering;

/// A permit to be a member of a room. A session takes it before it joins and drops it after it has left.
#[derive(Debug)]
pub(crate) struct Seat(Arc<RoomNumbering>);

impl Seat {
    /// Takes a seat if the room has fewer than `members_max` members on all nodes together.
    ///
    /// Other nodes report their members about once a second, so simultaneous joins on several nodes can exceed the
    /// limit by a few.
    pub(crate) fn take(
        numbering: Arc<RoomNumbering>,
        members_max: Option<NonZeroU32>,
    ) -> Option<Self> {
        let seats_max = members_max
            .map_or(u32::MAX, NonZeroU32::get)
            .saturating_sub(numbering.remote_members.load(Ordering::Relaxed));
        let one_more = |taken: u32| (taken < seats_max).then(|| taken + 1);
        numbering
            .seats
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Self(numbering))
    }

    /// The numbering of the seat's room.
    pub(crate) fn numbering(&self) -> &Arc<RoomNumbering> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}
