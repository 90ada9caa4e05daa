//! The broadcaster's loop: waits for events, handles a batch of them, then does the work that is due.

use std::ops::ControlFlow;
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;

use crate::inbox::Inbox;

use super::drain::Drain;
use super::event::Event;
use super::membership::MembershipChoices;
use super::reply::send_reply;
use super::state::BroadcasterState;

impl BroadcasterState {
    /// Handles events until [`Event::Stop`] or until every sender is dropped.
    pub(super) fn run(mut self, events: &Inbox<Event>) {
        loop {
            match events.next_batch(self.next_due()) {
                Ok(batch) => {
                    if self.handle_batch(batch, Instant::now()).is_break() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.do_due_work(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Returns when [`do_due_work`](Self::do_due_work) must run next, if ever.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().map(Drain::next_due);
        let presence = self.presence.next_due();
        drain.into_iter().chain(presence).min()
    }

    /// Handles events that arrived together at `now`, then sends the pending batches and does the work that is due.
    /// Breaks on [`Event::Stop`].
    pub(super) fn handle_batch(
        &mut self,
        events: impl Iterator<Item = Event>,
        now: Instant,
    ) -> ControlFlow<()> {
        for event in events {
            if self.handle(event, now).is_break() {
                self.flush_pending(now);
                return ControlFlow::Break(());
            }
        }
        self.flush_pending(now);
        self.do_due_work(now);
        ControlFlow::Continue(())
    }

    /// Sends presence updates and continues the drain, as far as they are due at `now`.
    pub(super) fn do_due_work(&mut self, now: Instant) {
        self.send_due_presence(now);
        self.continue_drain(now);
    }

    fn handle(&mut self, event: Event, now: Instant) -> ControlFlow<()> {
        match event {
            Event::Deliver {
                numbering,
                publication,
                except,
                received,
            } => self.deliver(&numbering, &publication, except, received, now),
            Event::Acknowledge(acknowledgement) => self.acknowledge(acknowledgement),
            Event::AwaitAuth { outbox } => self.await_auth(outbox, now),
            Event::Connect {
                outbox,
                user,
                session,
                positions,
                rooms,
                hold,
            } => {
                self.register(outbox.clone(), user, session, now);
                let positions = positions.as_ref();
                self.connect(&outbox, positions, rooms, hold.as_ref(), now);
            }
            Event::Join {
                client,
                numbering,
                presence,
                hold,
                state,
                id,
            } => {
                let choices = MembershipChoices {
                    watches: presence,
                    held: hold.is_some(),
                    positions: None,
                    state,
                };
                self.join(client, numbering, choices, hold.as_ref(), id.as_ref(), now);
            }
            Event::State {
                client,
                room,
                state,
                id,
            } => self.set_state(client, &room, state, id.as_ref(), now),
            Event::Release {
                client,
                room,
                reached,
                reply,
            } => send_reply(&reply, self.release(client, &room, reached, now)),
            Event::Leave { client, room, id } => self.leave(client, &room, id.as_ref(), now),
            Event::Presence { client, room, id } => self.send_presence(client, &room, id.as_ref()),
            Event::Disconnect { client } => self.disconnect(client, now),
            Event::Restart { ended } => self.end_numbering(&ended),
            Event::RemoteMembers { room, remote } => self.set_remote_members(&room, remote, now),
            Event::ChangedRooms { all, reply } => send_reply(&reply, self.take_changed_rooms(all)),
            Event::RemoteUser(remote) => self.set_remote_user(&remote),
            Event::ChangedUsers { all, reply } => send_reply(&reply, self.users.take_changed(all)),
            Event::PresentSubjects(reply) => send_reply(&reply, self.present_subjects()),
            Event::Rooms(reply) => send_reply(&reply, self.list_rooms()),
            Event::Room { name, reply } => send_reply(&reply, self.room_detail(&name)),
            Event::Clients {
                after,
                limit,
                reply,
            } => send_reply(&reply, self.list_clients(after, limit)),
            Event::Close {
                selector,
                code,
                reply,
            } => send_reply(&reply, self.close(&selector, code)),
            Event::Flush(reply) => {
                self.flush_pending(now);
                send_reply(&reply, ());
            }
            Event::Drain { duration } => self.start_drain(duration, now),
            Event::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }
}
