//! Requests of other threads to a subscriber.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::protocol::RoomName;
use crate::rooms::RoomNumbering;
use crate::store::error::StoreError;

use super::room::SubscribedRoom;

/// A request to a subscriber thread.
pub(crate) enum SubscriberRequest {
    Open(OpenRequest),
    /// Takes over a room from another subscriber, which has delivered its messages so far.
    TakeOver(SubscribedRoom),
}

/// A request of a client's thread to subscribe to a room.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) room: RoomName,
    pub(crate) reply: Sender<Result<Arc<RoomNumbering>, StoreError>>,
    /// The time at which the client's thread gives up.
    pub(crate) deadline: Instant,
}

impl OpenRequest {
    pub(super) fn reply_with(self, result: Result<Arc<RoomNumbering>, StoreError>) {
        // An error means that the client's thread has given up.
        self.reply.try_send(result).ok();
    }
}

impl SubscriberRequest {
    /// The room that the request is about.
    pub(super) fn room(&self) -> &RoomName {
        match self {
            Self::Open(request) => &request.room,
            Self::TakeOver(room) => room.numbering.name(),
        }
    }
}
