//! The broadcaster's loop: waits for events, handles a batch of them, then does the work that is due.

use std::ops::ControlFlow;
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;

use crate::inbox::Inbox;

use super::drain::Drain;
use super::event::Event;
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
                received,
            } => self.deliver(&numbering, &publication, received, now),
            Event::AwaitAuth { outbox } => self.await_auth(outbox, now),
            Event::Connect {
                outbox,
                user,
                rooms,
                hold,
            } => self.connect(outbox, user, rooms, hold.as_ref(), now),
            Event::Join {
                client,
                numbering,
                presence,
                hold,
                id,
            } => self.join(client, numbering, presence, hold.as_ref(), id.as_ref(), now),
            Event::Release {
                client,
                room,
                reached,
                reply,
            } => send_reply(&reply, self.release(client, &room, reached)),
            Event::Leave { client, room, id } => self.leave(client, &room, id.as_ref(), now),
            Event::Presence { client, room, id } => self.send_presence(client, &room, id.as_ref()),
            Event::Disconnect { client } => self.disconnect(client, now),
            Event::Restart { room } => self.restart(&room),
            Event::RemoteMembers { room, remote } => self.set_remote_members(&room, remote, now),
            Event::ChangedRooms { all, reply } => send_reply(&reply, self.take_changed_rooms(all)),
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
            Event::Drain { duration } => self.start_drain(duration, now),
            Event::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }
}
