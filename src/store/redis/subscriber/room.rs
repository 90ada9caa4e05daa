//! A subscribed room, and the last message of it that this node has seen.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::{Position, Publication};
use crate::rooms::{Exclusion, RoomNumbering};
use crate::store::delivery::Delivery;

/// A subscribed room.
pub(crate) struct SubscribedRoom {
    pub(super) numbering: Arc<RoomNumbering>,
    /// The last offset delivered, or the room's last offset when this node subscribed.
    pub(super) seen: u64,
    /// The time at which the message at `seen` was stored; `None` if it was not delivered here. Another message
    /// with the same offset has another time.
    pub(super) seen_ts: Option<u64>,
    /// The last offset that was read from history. Up to it the subscription repeats messages delivered already.
    pub(super) read: u64,
}

impl SubscribedRoom {
    /// A room whose next message is the one after the numbering's position.
    pub(super) fn new(numbering: Arc<RoomNumbering>) -> Self {
        let seen = numbering.position().offset;
        Self {
            numbering,
            seen,
            seen_ts: None,
            read: seen,
        }
    }

    /// The position of the last message seen.
    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.numbering.epoch(),
            offset: self.seen,
        }
    }

    /// Delivers the message after the last one seen.
    pub(super) fn deliver(
        &mut self,
        publication: Arc<Publication>,
        except: Option<Exclusion>,
        delivery: &dyn Delivery,
    ) {
        self.seen = publication.offset;
        self.seen_ts = Some(publication.ts);
        delivery.deliver(&self.numbering, publication, except, Instant::now());
    }
}
