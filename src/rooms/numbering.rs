//! A room's numbering, and the seats in it: what is shared with those who are not the broadcaster.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::protocol::{Epoch, Position, RoomName};

/// A room's numbering, shared by all who name the room: broker, sessions, broadcaster.
///
/// The broker keeps a room's numbering for as long as anyone holds its stream.
#[derive(Debug)]
pub struct RoomNumbering {
    name: RoomName,
    epoch: Epoch,
    /// The last offset the broadcaster has taken. Only its thread writes; it reads it when a member
    /// joins, also if the room had no members when the offset passed.
    delivered: AtomicU64,
    /// Seats that are taken on this node.
    seats: AtomicU32,
    /// Members on other nodes, as they last said.
    elsewhere: AtomicU32,
}

/// One member's right to be in a room, held from before it joins until after it has left; dropped, it is
/// free for another.
#[derive(Debug)]
pub struct Seat(Arc<RoomNumbering>);

impl Seat {
    /// Takes one, if fewer than `most` are taken here and on other nodes together. Those are told of a little
    /// later, so that a crowd that comes to several nodes at once may be a little more.
    pub fn take(stream: Arc<RoomNumbering>, most: Option<NonZeroU32>) -> Option<Self> {
        let most = most.map_or(u32::MAX, NonZeroU32::get);
        let most = most.saturating_sub(stream.elsewhere.load(Ordering::Relaxed));
        let one_more = |taken: u32| (taken < most).then(|| taken + 1);
        let taken = stream
            .seats
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Self(stream))
    }

    /// The room.
    pub fn stream(&self) -> &Arc<RoomNumbering> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RoomNumbering {
    /// A numbering whose last offset so far is `delivered`.
    pub fn new(name: RoomName, epoch: Epoch, delivered: u64) -> Self {
        Self {
            name,
            epoch,
            delivered: AtomicU64::new(delivered),
            seats: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
        }
    }

    /// The room's name.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// The room's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last offset the broadcaster has taken.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.delivered.load(Ordering::Acquire),
        }
    }

    pub(crate) fn set_delivered(&self, offset: u64) {
        self.delivered.store(offset, Ordering::Release);
    }

    pub(crate) fn set_elsewhere(&self, members: usize) {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        self.elsewhere.store(members, Ordering::Relaxed);
    }
}
