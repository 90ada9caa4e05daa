//! The broadcaster's implementation of [`Delivery`], through which a store reaches it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::bounded;

use crate::protocol::{CloseCode, Publication, RoomName};
use crate::rooms::{ClientSelector, LocalMembers, RemoteMembers, RoomNumbering};
use crate::store::Delivery;

use super::{Broadcaster, Event};

impl Delivery for Broadcaster {
    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    fn add(
        &self,
        numbering: &Arc<RoomNumbering>,
        publication: Arc<Publication>,
        received: Instant,
    ) {
        let event = Event::Deliver {
            numbering: Arc::clone(numbering),
            publication,
            received,
        };
        // An error means that the server is shutting down and has no clients left.
        self.0.add(event).ok();
    }

    fn start(&self) {
        self.0.wake();
    }

    fn restart(&self, room: &RoomName) {
        self.send(Event::Restart { room: room.clone() });
    }

    fn set_remote_members(&self, room: RoomName, members: RemoteMembers) {
        self.send(Event::RemoteMembers {
            room,
            remote: members,
        });
    }

    fn changed_rooms(&self, all: bool) -> Option<Vec<LocalMembers>> {
        self.request(|reply| Event::ChangedRooms { all, reply })
    }

    fn close_clients(&self, clients: ClientSelector) {
        // The other node does not wait for the number of closed clients, so nobody receives it.
        let (reply, _) = bounded(1);
        self.send(Event::Close {
            selector: clients,
            code: CloseCode::Forbidden,
            reply,
        });
    }
}
