//! A message to be stored, and the result of storing it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::{Kind, Position, Publication, RequestId, RoomName, Scope, Ttl};
use crate::rooms::{Exclusion, RoomNumbering};

use super::dedupe::DedupeKey;

/// A message to be stored.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) room: RoomName,
    /// The publisher's user or client id, as members see it.
    pub(crate) from: Arc<str>,
    pub(crate) kind: Kind,
    /// The payload's JSON text.
    pub(crate) payload: Box<str>,
    /// The publisher's id for the message.
    pub(crate) id: Option<RequestId>,
    /// The scope within which ids are compared. Without a scope a repeated id is stored again.
    pub(crate) scope: Option<Scope>,
    /// How long the message stays in history, if that is shorter than the history's age.
    pub(crate) ttl: Option<Ttl>,
    /// The members that do not receive the message.
    pub(crate) except: Option<Exclusion>,
    /// When the server received the message.
    pub(crate) received: Instant,
}

impl Publish {
    /// The key by which a retry is recognized; `None` if the publish cannot be deduplicated.
    pub(super) fn dedupe_key(&self) -> Option<DedupeKey> {
        Some((self.room.clone(), self.scope.clone()?, self.id.clone()?))
    }

    /// Returns the ttl if it is shorter than the history's `age`; otherwise the age ends first.
    pub(super) fn ttl_within(&self, age: Duration) -> Option<Ttl> {
        self.ttl.filter(|ttl| ttl.duration() < age)
    }

    /// The publication stored for this publish.
    pub(super) fn publication(&self, offset: u64, ts: u64) -> Publication {
        Publication {
            room: self.room.clone(),
            offset,
            id: self.id.clone(),
            from: Arc::clone(&self.from),
            ts,
            kind: self.kind,
            payload: self.payload.clone(),
        }
    }
}

/// The result of storing a publish.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Stored at a new offset; the caller delivers it.
    New {
        numbering: Arc<RoomNumbering>,
        publication: Arc<Publication>,
    },
    /// Stored at a new offset; the store itself delivers it on every node.
    Relayed(Position),
    /// Its id was stored before at this position; it is not delivered again.
    Duplicate(Position),
}

/// The wall-clock time in Unix milliseconds.
pub(super) fn unix_milliseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}
