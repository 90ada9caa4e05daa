//! The broadcaster's implementation of [`Delivery`], through which a store reaches it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::bounded;

use crate::protocol::{CloseCode, Publication, RoomName};
use crate::rooms::{
    ClientSelector, Exclusion, LocalMembers, RemoteMembers, RoomNumbering, UserCount,
};
use crate::store::{Acknowledgement, Delivery};

use super::{Broadcaster, Event};

impl Delivery for Broadcaster {
    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    fn add(
        &self,
        numbering: &Arc<RoomNumbering>,
        publication: Arc<Publication>,
        except: Option<Exclusion>,
        received: Instant,
    ) {
        let event = Event::Deliver {
            numbering: Arc::clone(numbering),
            publication,
            except,
            received,
        };
        // An error means that the server is shutting down and has no clients left.
        self.0.add(event).ok();
    }

    fn acknowledge(&self, acknowledgement: Acknowledgement) {
        // As above.
        self.0.add(Event::Acknowledge(acknowledgement)).ok();
    }

    fn start(&self) {
        self.0.wake();
    }

    fn restart(&self, ended: &Arc<RoomNumbering>) {
        let ended = Arc::clone(ended);
        self.send(Event::Restart { ended });
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

    fn set_remote_user(&self, remote: UserCount) {
        self.send(Event::RemoteUser(remote));
    }

    fn changed_users(&self, all: bool) -> Option<Vec<UserCount>> {
        self.request(|reply| Event::ChangedUsers { all, reply })
    }

    fn close_clients(&self, clients: ClientSelector, code: CloseCode) {
        // The other node does not wait for the number of closed clients, so nobody receives it.
        let (reply, _) = bounded(1);
        self.send(Event::Close {
            selector: clients,
            code,
            reply,
        });
    }
}
