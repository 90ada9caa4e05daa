//! The broadcaster: the thread that alone owns rooms and members, and fans publications out to them.
//!
//! The thread does no I/O except the outbox's non-blocking send, which helper threads share if a room is large. It takes
//! events in the order in which they were sent. A room's waiting publications are encoded once and sent as one batch, and
//! that batch is sent before a join, leave or release in the room takes effect. A member therefore receives a room's
//! offsets in order, each at most once, from its join position on.

mod closing;
mod connected_clients;
mod delivery;
mod drain;
mod echo;
mod event;
mod event_loop;
mod fan_out;
mod held;
mod members;
mod membership;
mod presence;
mod queries;
mod remote_members;
mod reply;
mod room;
mod state;
#[cfg(test)]
mod tests;
mod users;
mod webhook_presence;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};

use crate::inbox::{self, InboxSender};
use crate::metrics::Metrics;
use crate::protocol::{ClientId, CloseCode, RoomName, RoomState};
use crate::rooms::{ClientSelector, PresenceChanges, PresenceSubject};
use crate::threads::REPLY_TIMEOUT;

use fan_out::Helpers;
use state::{BroadcasterState, ShowsPresence};

pub(crate) use event::Event;
pub(crate) use fan_out::auto_helpers;
pub(crate) use reply::{ClientDetail, ReleaseOutcome, RoomDetail, RoomSummary};

/// Events that may wait for the broadcaster thread. While the queue is full, the broker waits.
const QUEUE_EVENTS_MAX: usize = 1024;

/// A handle that sends events to the broadcaster thread.
///
/// A method that returns an `Option` waits for the thread's reply. It returns `None` if the thread has ended or did
/// not reply in time.
#[derive(Clone, Debug)]
pub(crate) struct Broadcaster(InboxSender<Event>);

impl Broadcaster {
    /// Starts the thread and its helpers. It ends on [`Event::Stop`] or when every handle is dropped, and ends them.
    /// Rooms and users that become present or absent are recorded in `presence_changes`.
    pub(crate) fn start(
        welcome: String,
        shows_presence: ShowsPresence,
        metrics: Arc<Metrics>,
        helpers: usize,
        presence_changes: Option<Arc<PresenceChanges>>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let helpers = Helpers::start(helpers)?;
        let run = move |events: &_| {
            let state = BroadcasterState::new(welcome, shows_presence, metrics, helpers);
            state.recording(presence_changes).run(events);
        };
        let (sender, thread) = inbox::spawn_service("broadcaster", QUEUE_EVENTS_MAX, run)?;
        Ok((Self(sender), thread))
    }

    /// Sends an event and blocks while the queue is full. Does nothing after the thread has ended.
    pub(crate) fn send(&self, event: Event) {
        // An error means that the server is shutting down and has no clients left.
        self.0.send(event).ok();
    }

    /// Returns the rooms that have members on any node, in no particular order.
    pub(crate) fn rooms(&self) -> Option<Vec<RoomSummary>> {
        self.request(Event::Rooms)
    }

    /// Returns a room's members, or `Some(None)` if the room has no members on any node.
    pub(crate) fn room(&self, name: RoomName) -> Option<Option<RoomDetail>> {
        self.request(|reply| Event::Room { name, reply })
    }

    /// Returns at most `limit` connected clients in the order of their ids, starting after `after`.
    pub(crate) fn clients(
        &self,
        after: Option<ClientId>,
        limit: usize,
    ) -> Option<Vec<ClientDetail>> {
        self.request(|reply| Event::Clients {
            after,
            limit,
            reply,
        })
    }

    /// Returns whether the thread replies until the deadline.
    pub(crate) fn is_responsive(&self, deadline: Instant) -> bool {
        let event = |reply| Event::Clients {
            after: None,
            limit: 0,
            reply,
        };
        self.request_until(deadline, event).is_some()
    }

    /// Waits until the messages that were added to the delivery before were pushed to their members.
    pub(crate) fn flush(&self) {
        // No reply means that the server is shutting down.
        self.request(Event::Flush);
    }

    /// Closes the selected clients of this node and returns their number.
    pub(crate) fn close(&self, selector: ClientSelector, code: CloseCode) -> Option<usize> {
        self.request(|reply| Event::Close {
            selector,
            code,
            reply,
        })
    }

    /// Makes a client a held member and returns the states of the rooms it joined, in the order requested.
    ///
    /// `event` receives the reply channel and returns an [`Event::Connect`] or [`Event::Join`] with it.
    pub(crate) fn hold(
        &self,
        event: impl FnOnce(Option<Sender<Vec<RoomState>>>) -> Event,
    ) -> Option<Vec<RoomState>> {
        self.request(|reply| event(Some(reply)))
    }

    /// Releases a held member that has everything up to the offset `reached`; see [`Event::Release`].
    pub(crate) fn release(
        &self,
        client: ClientId,
        room: RoomName,
        reached: u64,
    ) -> Option<ReleaseOutcome> {
        self.request(|reply| Event::Release {
            client,
            room,
            reached,
            reply,
        })
    }

    /// Returns the rooms and users that are present on any node, as far as their changes are recorded.
    pub(crate) fn present_subjects(&self) -> Option<Vec<PresenceSubject>> {
        self.request(Event::PresentSubjects)
    }

    /// Returns the number of events that wait for the thread.
    pub(crate) fn queue_len(&self) -> usize {
        self.0.len()
    }

    fn request<T>(&self, event: impl FnOnce(Sender<T>) -> Event) -> Option<T> {
        self.request_until(Instant::now() + REPLY_TIMEOUT, event)
    }

    fn request_until<T>(
        &self,
        deadline: Instant,
        event: impl FnOnce(Sender<T>) -> Event,
    ) -> Option<T> {
        let (reply, receiver) = bounded(1);
        self.0.send_deadline(event(reply), deadline).ok()?;
        receiver.recv_deadline(deadline).ok()
    }
}
