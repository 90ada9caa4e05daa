//! A request, and the one parser of its parameters.

use std::sync::Arc;

use crate::auth::Identity;
use crate::protocol::{
    Epoch, ErrorCode, PAGE_MESSAGES_MAX, Refusal, RoomName, STREAM_ROOMS_MAX, Scope, Since,
    invalid_room, quote,
};
use crate::socket::Peer;

use super::wire::Head;

/// A request: its head and the address of its client. The body is read later, if a route accepts it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: Head,
    /// The client, which is not the connection's peer if a trusted proxy forwards for it.
    pub(crate) peer: Peer,
}

/// A request whose client has the right to make it.
pub(crate) struct Admitted<'a> {
    pub(crate) request: &'a Request,
    pub(crate) identity: Arc<Identity>,
    /// Empty if the request has no body or the route has no use for one.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The path's second segment, which names the room, client, user or file the request is about.
    pub(crate) fn subject(&self) -> &str {
        self.head.segments.get(1).map_or("", String::as_str)
    }

    /// The room in the path `/rooms/{room}/…`.
    pub(crate) fn room(&self) -> Result<RoomName, Refusal> {
        parse_room(self.subject())
    }

    /// The rooms that the query lists, in order, duplicates included.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = Result<RoomName, Refusal>> {
        let names = self.head.query.values("room");
        names.map(parse_room)
    }

    /// Returns whether the query asks for the room of the client's own user.
    pub(crate) fn wants_own_room(&self) -> Result<bool, Refusal> {
        match self.head.query.first("me") {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(other) => Err(invalid_field("me", "1, or absent", other)),
        }
    }

    /// The rooms of one event stream: the rooms in the query, then the room of the client's user if the query asks for
    /// it. Each is there once, and they are 1 to [`STREAM_ROOMS_MAX`].
    pub(crate) fn stream_rooms(&self, identity: &Identity) -> Result<Vec<RoomName>, Refusal> {
        let own_room = self.wants_own_room()?;
        let own_room = own_room.then(|| identity.requested_own_room());
        let mut rooms: Vec<RoomName> = Vec::new();
        for room in self.rooms().chain(own_room) {
            let room = room?;
            if rooms.contains(&room) {
                continue;
            }
            if rooms.len() == STREAM_ROOMS_MAX {
                let message = format!("a stream has at most {STREAM_ROOMS_MAX} rooms");
                return Err(Refusal::new(ErrorCode::InvalidField, message));
            }
            rooms.push(room);
        }
        if rooms.is_empty() {
            let message = "name the rooms: /events?room=lobby&room=ops";
            return Err(Refusal::new(ErrorCode::MissingField, message));
        }
        Ok(rooms)
    }

    /// The offset in `since`.
    pub(crate) fn since(&self) -> Result<Option<u64>, Refusal> {
        self.head.query.first("since").map(parse_offset).transpose()
    }

    /// The values of `since` in order, each with the `epoch` at the same index.
    pub(crate) fn positions(&self) -> Result<Vec<Since>, Refusal> {
        let mut epochs = self.head.query.values("epoch");
        let positions = self.head.query.values("since").map(|offset| {
            let epoch = epochs
                .next()
                .filter(|text| !text.is_empty())
                .map(parse_epoch)
                .transpose()?;
            let offset = parse_offset(offset)?;
            Ok(Since { offset, epoch })
        });
        positions.collect()
    }

    /// The number of newest messages in `last`, which must be from 0 to [`PAGE_MESSAGES_MAX`].
    pub(crate) fn last(&self) -> Result<usize, Refusal> {
        let Some(text) = self.head.query.first("last") else {
            return Ok(0);
        };
        text.parse()
            .ok()
            .filter(|last| *last <= PAGE_MESSAGES_MAX)
            .ok_or_else(|| invalid_field("last", &format!("0 to {PAGE_MESSAGES_MAX}"), text))
    }

    /// The id in `Last-Event-ID`, else in the query, for clients that cannot send headers. The header is newer: an
    /// `EventSource` reconnects with it and with the query that it was created with.
    pub(crate) fn last_event_id(&self) -> &str {
        let header = self.head.headers.lines("Last-Event-ID");
        let mut ids = header.chain(self.head.query.last_event_ids());
        ids.find(|id| !id.is_empty()).unwrap_or_default()
    }

    /// The size of a page: `limit`, which must be from 1 to `max`.
    pub(crate) fn limit(&self, default: usize, max: usize) -> Result<usize, Refusal> {
        let Some(text) = self.head.query.first("limit") else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|limit| (1..=max).contains(limit))
            .ok_or_else(|| invalid_field("limit", &format!("1 to {max}"), text))
    }

    /// The scope of publish ids that the client chose with `session`.
    pub(crate) fn session(&self) -> Result<Option<Scope>, Refusal> {
        let Some(text) = self.head.query.first("session") else {
            return Ok(None);
        };
        // Without the text, which is a secret.
        Scope::session(text).map(Some).ok_or_else(|| {
            let given = text.len();
            let message =
                format!("`session` must be 16 to 128 bytes drawn at random, not {given} bytes");
            Refusal::new(ErrorCode::InvalidField, message)
        })
    }
}

fn parse_room(text: &str) -> Result<RoomName, Refusal> {
    RoomName::parse(text).map_err(|why| invalid_room(text, why))
}

fn parse_offset(text: &str) -> Result<u64, Refusal> {
    text.parse()
        .map_err(|_| invalid_field("since", "a whole number, 0 or more", text))
}

fn parse_epoch(text: &str) -> Result<Epoch, Refusal> {
    text.parse()
        .map_err(|()| invalid_field("epoch", "an epoch that the server sent", text))
}

/// The refusal of a parameter that is not what it must be.
pub(super) fn invalid_field(name: &str, expected: &str, given: &str) -> Refusal {
    let message = format!("`{name}` must be {expected}, not {}", quote(given));
    Refusal::new(ErrorCode::InvalidField, message)
}
