//! The broker: stores what is published, gives it an offset, acknowledges it, hands it on.
//!
//! Offsets grow by one per room and epoch; a message is stored before it is acknowledged or delivered,
//! and handed to the broadcaster in the order of its offsets. The broker thread takes all that waits
//! as one batch. A full channel makes publishers wait; nothing is dropped.

mod dedupe;
mod directory;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod health;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;

use crate::broadcaster::ClientSelector;
use crate::outbox::Outbox;
use crate::protocol::{
    ErrorCode, Kind, Page, Position, Publication, Refusal, RequestId, RoomName, Scope,
};
use crate::rooms::RoomNumbering;

pub use dedupe::RoomPosition;
pub use memory::Memory;
#[cfg(feature = "redis")]
pub use redis::{ConnectError, Redis};
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, Sqlite};

/// A store of rooms and their messages: memory here; a database or Redis elsewhere.
///
/// Shared by the broker thread, which alone appends, and by clients' threads, which open rooms.
pub trait Store: Send + Sync {
    /// The numbering of a room, begun now if the room is new, for one who becomes a member: from now on
    /// what is published there is delivered. It stays for as long as it is held.
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError>;

    /// The same for one who only publishes.
    fn open_to_publish(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.open(room)
    }

    /// The numbering of a room, if it is known. Called on clients' own threads.
    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError>;

    /// Stores messages, in order; an answer each, in order. What it answers `New` or `Relayed` is stored.
    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>>;

    /// Messages of a room's past, in the order of their offsets. Called on clients' own threads.
    fn history(&self, stream: &RoomNumbering, slice: Slice) -> Result<Page, StoreError>;

    /// Drops what is past its age, and tries whether a store that failed works again. Called about
    /// once a second on the broker thread.
    fn maintain(&self, now: Instant);

    /// What is stored now.
    fn usage(&self) -> Usage;

    /// Whether it stores; if not, why, in words for the operator.
    fn health(&self) -> Result<(), String>;

    /// Tells the other nodes, if there are any, to close these clients too; says how many it told. Called on
    /// clients' own threads.
    fn close_elsewhere(&self, _who: &ClientSelector) -> usize {
        0
    }

    /// How this node stands among others; `None` if there can be no others.
    fn cluster(&self) -> Option<Cluster> {
        None
    }

    /// Makes all that is stored safe. Called once, after the last message, on the broker thread.
    fn close(&self);
}

/// Which part of a room's history is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// What follows this offset; without it the newest messages.
    pub since: Option<u64>,
    /// Most messages.
    pub messages_max: usize,
    /// Most bytes of payload, but always one message.
    pub bytes_max: usize,
}

/// What became of a publish.
#[derive(Debug)]
pub enum Stored {
    /// It has an offset of its own and is to be delivered.
    New(Arc<Publication>),
    /// It has an offset of its own, and the store itself delivers it to every node.
    Relayed(RoomPosition),
    /// Its id was stored before, here; it is not delivered again.
    Duplicate(RoomPosition),
}

/// What a broker holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Rooms that have a numbering.
    pub rooms: usize,
    /// Messages in history, where that is known.
    pub messages: Option<u64>,
    /// Payload bytes in history, where that is known.
    pub bytes: Option<u64>,
    /// Bytes of the store's files, if it has any.
    pub disk_bytes: Option<u64>,
}

/// A node among those that share a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cluster {
    /// Nodes that are alive, this one included.
    pub nodes: usize,
    /// How long what is published now takes to come back to this node.
    pub lag: Duration,
    /// How often the way back was lost and found again.
    pub reconnects: u64,
    /// Messages that came by reading them from the store, since they did not come by themselves.
    pub gap_fills: u64,
}

/// Why a broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// As many rooms as there may be.
    TooManyRooms,
    /// The store cannot be written or read now.
    Unavailable,
    /// The store is elsewhere and cannot be asked now.
    Unreachable,
    /// The store did not say in time what became of it.
    Unknown,
    /// The broker has stopped.
    Stopped,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the store cannot be used now",
            Self::Unreachable => "the store cannot be reached now",
            Self::Unknown => "the store did not answer in time",
            Self::TooManyRooms => "the server has as many rooms as it may have",
            Self::Stopped => "the server is closing down",
        })
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyRooms => Self::new(
                ErrorCode::TooManyRooms,
                "the server has as many rooms as it may have; use one that exists or try later",
            ),
            StoreError::Unavailable => Self::new(
                ErrorCode::StorageUnavailable,
                "the store cannot be used now and nothing was published; try again later",
            ),
            StoreError::Unreachable => Self::new(
                ErrorCode::StorageUnavailable,
                "the store cannot be reached now; try again later",
            ),
            StoreError::Unknown => Self::new(
                ErrorCode::StorageUnavailable,
                "the store did not answer in time; the message may have been published: send it again \
                 with the same id",
            ),
            StoreError::Stopped => Self::new(ErrorCode::ShuttingDown, "the server is closing down"),
        }
    }
}

/// A message on its way to the broker.
#[derive(Debug)]
pub struct Publish {
    /// Its room.
    pub stream: Arc<RoomNumbering>,
    /// Who publishes, as members are told.
    pub from: Arc<str>,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text.
    pub payload: Box<str>,
    /// The publisher's id for it; one that has an id is acknowledged.
    pub id: Option<RequestId>,
    /// Within what the id is compared; without it a repeated id is stored again.
    pub scope: Option<Scope>,
    /// Where the acknowledgement or refusal goes.
    pub answer: ReplyTo,
}

impl Publish {
    fn key(&self) -> Option<dedupe::Key> {
        let room = self.stream.name().clone();
        Some((room, self.scope.clone()?, self.id.clone()?))
    }

    /// The message as it is stored.
    fn publication(&self, offset: u64, ts: u64) -> Publication {
        Publication {
            room: self.stream.name().clone(),
            offset,
            id: self.id.clone(),
            from: Arc::clone(&self.from),
            ts,
            kind: self.kind,
            payload: self.payload.clone(),
        }
    }

    pub(crate) fn place(&self, offset: u64) -> RoomPosition {
        RoomPosition {
            room: self.stream.name().clone(),
            position: Position {
                epoch: self.stream.epoch(),
                offset,
            },
        }
    }
}

/// Who waits for what becomes of a publish.
#[derive(Debug)]
pub enum ReplyTo {
    /// A client: `ack` if the publish has an id, `error` if it is refused.
    Outbox(Arc<Outbox>),
    /// A thread that waits for it.
    Thread(Sender<Result<RoomPosition, StoreError>>),
}

fn unix_milliseconds() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since_epoch.as_millis() as u64
}
