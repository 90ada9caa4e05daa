//! The message path: adds publications to their rooms' batches and sends the batches, to a large room with the help of
//! other threads.

mod batch;
mod helpers;

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::{ClientId, Publication};
use crate::rooms::{Exclusion, RoomNumbering};

use super::echo::{InPlace, Replacement};
use super::state::BroadcasterState;

pub(crate) use helpers::auto_helpers;

pub(super) use batch::{Batch, FanOut, abort_on_panic};
pub(super) use helpers::Helpers;

impl BroadcasterState {
    /// Adds a publication to its room's batch. A numbering that the members do not know restarts the room.
    pub(super) fn deliver(
        &mut self,
        numbering: &Arc<RoomNumbering>,
        publication: &Publication,
        except: Option<Exclusion>,
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
        let pending = room.add_pending(publication);
        let position = pending.position;
        match except {
            Some(Exclusion::Client(client)) if room.has_member(client) => {
                let own = &mut self.own_publishes;
                room.replace(Replacement {
                    client,
                    in_place: own.in_place(client, position, publication),
                    publication: pending,
                });
            }
            Some(Exclusion::Client(_)) | None => {}
            Some(Exclusion::Session(session, excluded)) => {
                let first = (session, ClientId::new(0, 0));
                let clients = self.sessions.range(first..);
                let clients = clients.take_while(|(other, _)| *other == session);
                for (_, client) in clients {
                    let known = self.clients.get(client);
                    let is_excluded = known.is_some_and(|c| excluded.includes(c.user.as_deref()));
                    if is_excluded && room.has_member(*client) {
                        room.replace(Replacement {
                            client: *client,
                            in_place: InPlace::Marker,
                            publication: pending.clone(),
                        });
                    }
                }
            }
        }
        if room.pending_is_full() {
            self.metrics.deliveries.add(room.flush(&self.helpers));
        }
        if except.is_none() {
            self.acknowledge_delivered(position, publication);
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
