//! The broadcaster: one thread that owns rooms and members, and nobody else touches them.
//!
//! It does no I/O but the outbox's non-blocking send. Events are taken in the order in which they
//! were sent; each room's waiting messages are encoded once, together, and a room's pending batch is
//! flushed before a join or leave of that room takes effect. So a member receives a room's offsets in
//! order, each at most once, from its join position on.

mod drain;
mod events;
mod presence;
mod room;
mod rooms;

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use crate::config::{ANSWER_TIMEOUT, BROADCASTER_QUEUE_MAX};
use crate::metrics::Metrics;
use crate::protocol::{ClientId, CloseCode, RoomName, RoomState};
use crate::rooms::LocalMembers;
use crate::threads;

pub use events::{ClientDetail, ClientSelector, Event, Released, RoomDetail, RoomSummary};
use rooms::Rooms;

/// Sends events to the broadcaster thread; a full channel makes the sender wait.
#[derive(Clone, Debug)]
pub struct Broadcaster(Sender<Event>);

impl Broadcaster {
    /// Starts the thread. It ends when every handle is dropped or on [`Event::Stop`].
    pub fn start(
        welcome: String,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = bounded(BROADCASTER_QUEUE_MAX);
        let thread = threads::spawn_service("broadcaster", move || {
            Rooms::new(welcome, metrics).run(&receiver);
        })?;
        Ok((Self(sender), thread))
    }

    /// Hands over one event. After the thread's end this does nothing: nobody is left to care.
    pub fn send(&self, event: Event) {
        let _stopped = self.0.send(event);
    }

    /// Rooms whose members on this node have changed since this was last asked, or all that have any. Being
    /// asked is what makes the broadcaster remember which have.
    pub fn moved(&self, all: bool) -> Option<Vec<LocalMembers>> {
        self.ask(|answer| Event::ChangedRooms { all, answer })
    }

    /// Rooms that have members now, in no order.
    pub fn rooms(&self) -> Option<Vec<RoomSummary>> {
        self.ask(Event::Rooms)
    }

    /// One room's members now; `Some(None)` if it has none.
    pub fn room(&self, name: RoomName) -> Option<Option<RoomDetail>> {
        self.ask(|answer| Event::Room { name, answer })
    }

    /// Clients by name, at most `limit`, after this one.
    pub fn clients(&self, after: Option<ClientId>, limit: usize) -> Option<Vec<ClientDetail>> {
        self.ask(|answer| Event::Clients {
            after,
            limit,
            answer,
        })
    }

    /// Closes clients; says how many.
    pub fn close(&self, who: ClientSelector, code: CloseCode) -> Option<usize> {
        self.ask(|answer| Event::Close { who, code, answer })
    }

    /// Makes a client a held member of rooms, or of one more; gives their states in the order asked.
    pub fn hold(
        &self,
        event: impl FnOnce(Option<Sender<Vec<RoomState>>>) -> Event,
    ) -> Option<Vec<RoomState>> {
        self.ask(|answer| event(Some(answer)))
    }

    /// Says that a held member has what it missed; see [`Event::Release`].
    pub fn release(&self, client: ClientId, room: RoomName, reached: u64) -> Option<Released> {
        self.ask(|answer| Event::Release {
            client,
            room,
            reached,
            answer,
        })
    }

    /// Events waiting.
    pub fn queue_len(&self) -> usize {
        self.0.len()
    }

    fn ask<T>(&self, event: impl FnOnce(Sender<T>) -> Event) -> Option<T> {
        let (answer, answered) = bounded(1);
        self.0.send_timeout(event(answer), ANSWER_TIMEOUT).ok()?;
        answered.recv_timeout(ANSWER_TIMEOUT).ok()
    }
}
