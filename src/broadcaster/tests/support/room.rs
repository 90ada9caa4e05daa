//! A room that assigns offsets as a store would.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::broadcaster::event::Event;
use crate::protocol::{
    ClientId, Epoch, Kind, Position, PresentClient, Publication, RequestId, RoomName,
};
use crate::rooms::{Exclusion, RemoteMembers, RoomNumbering};
use crate::store::Acknowledgement;

/// A room's numbering, with the last assigned offset, which a store would keep.
pub(in crate::broadcaster::tests) struct TestRoom {
    pub(in crate::broadcaster::tests) numbering: Arc<RoomNumbering>,
    last: Cell<u64>,
}

impl TestRoom {
    pub(in crate::broadcaster::tests) fn new(name: &str) -> Self {
        let name = RoomName::parse(name).expect("a room name");
        Self {
            numbering: Arc::new(RoomNumbering::new(name, Epoch::random(), 0)),
            last: Cell::new(0),
        }
    }

    /// The same room with a new epoch.
    pub(in crate::broadcaster::tests) fn renumbered(&self) -> Self {
        Self::new(self.name().as_str())
    }

    pub(in crate::broadcaster::tests) fn name(&self) -> RoomName {
        self.numbering.name().clone()
    }

    pub(in crate::broadcaster::tests) fn epoch(&self) -> String {
        self.numbering.epoch().to_string()
    }

    /// The delivery of the next publication, whose payload is its offset.
    pub(in crate::broadcaster::tests) fn publish(&self) -> Event {
        self.publish_json(&(self.last.get() + 1).to_string())
    }

    pub(in crate::broadcaster::tests) fn publish_json(&self, payload: &str) -> Event {
        self.publish_except(payload, None)
    }

    /// The delivery of the next publication, whose publisher is not to receive it.
    pub(in crate::broadcaster::tests) fn publish_quietly(&self, except: Exclusion) -> Event {
        self.publish_except("\"quiet\"", Some(except))
    }

    /// The broker's report of the last publication.
    pub(in crate::broadcaster::tests) fn report(&self, client: ClientId) -> Event {
        Event::Acknowledge(Acknowledgement {
            client,
            room: self.name(),
            position: Position {
                epoch: self.numbering.epoch(),
                offset: self.last.get(),
            },
            id: RequestId::parse("q").ok(),
        })
    }

    fn publish_except(&self, payload: &str, except: Option<Exclusion>) -> Event {
        let offset = self.last.get() + 1;
        self.last.set(offset);
        Event::Deliver {
            numbering: Arc::clone(&self.numbering),
            publication: Arc::new(Publication {
                room: self.name(),
                offset,
                id: except.and_then(|_| RequestId::parse("q").ok()),
                from: "publisher".into(),
                ts: 1,
                kind: Kind::Message,
                payload: payload.into(),
            }),
            except,
            received: Instant::now(),
        }
    }

    /// The deliveries of the next `count` publications.
    pub(in crate::broadcaster::tests) fn publish_many(&self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.publish()).collect()
    }

    pub(in crate::broadcaster::tests) fn restart(&self) -> Event {
        self.numbering.end();
        Event::Restart {
            ended: Arc::clone(&self.numbering),
        }
    }

    /// These members on other nodes.
    pub(in crate::broadcaster::tests) fn remote(&self, clients: &[PresentClient]) -> Event {
        let remote = RemoteMembers {
            members: clients.len(),
            clients: Some(clients.to_vec()),
        };
        Event::RemoteMembers {
            room: self.name(),
            remote,
        }
    }
}
