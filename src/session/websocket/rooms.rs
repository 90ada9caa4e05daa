//! The rooms that a session starts in: requested in the query, reserved once the client has an identity.

use std::sync::Arc;

use crate::app::App;
use crate::auth::Identity;
use crate::http::Request;
use crate::protocol::{Backlog, Refusal, RoomName};
use crate::rooms::Seat;
use crate::socket::Peer;

/// The start of a session.
pub(super) enum SessionStart {
    /// The client is welcomed in these rooms.
    Admitted {
        identity: Arc<Identity>,
        rooms: Vec<ReservedRoom>,
    },
    /// The client joins these rooms after it has sent a token.
    AwaitsToken { rooms: Vec<RequestedRoom> },
}

impl SessionStart {
    /// Returns whether the client gets its welcome without sending a token or reading what it missed.
    pub(super) fn is_welcomed_at_once(&self) -> bool {
        match self {
            Self::Admitted { rooms, .. } => rooms.iter().all(|room| room.backlog.is_none()),
            Self::AwaitsToken { .. } => false,
        }
    }
}

/// A room that a client wants to start in.
pub(super) struct RequestedRoom {
    /// `None` for the room of the client's user, which is known once the client has an identity.
    pub(super) name: Option<RoomName>,
    backlog: Backlog,
}

/// A room with a seat for the client.
pub(super) struct ReservedRoom {
    pub(super) seat: Seat,
    pub(super) backlog: Backlog,
}

/// Returns the rooms in the query, each once, then the room of the client's user if the query asks for it. Without any
/// room, returns the lobby.
#[inline(never)]
pub(super) fn requested_rooms(request: &Request, app: &App) -> Result<Vec<RequestedRoom>, Refusal> {
    let mut rooms: Vec<RequestedRoom> = Vec::new();
    let mut positions = request.positions()?.into_iter();
    let last = request.last()?;
    let mut next_backlog = || Backlog {
        since: positions.next(),
        last,
    };
    for name in request.rooms() {
        let name = Some(name?);
        let backlog = next_backlog();
        if rooms.iter().all(|known| known.name != name) {
            rooms.push(RequestedRoom { name, backlog });
        }
        app.admission.check_room_count(rooms.len())?;
    }
    if request.wants_own_room()? {
        let is_of_user =
            |room: &RequestedRoom| room.name.as_ref().is_some_and(RoomName::is_of_user);
        let is_counted = rooms.iter().any(is_of_user);
        rooms.push(RequestedRoom {
            name: None,
            backlog: next_backlog(),
        });
        // A client that resumes also names the room.
        app.admission
            .check_room_count(rooms.len() - usize::from(is_counted))?;
    }
    if rooms.is_empty() {
        rooms.push(RequestedRoom {
            name: Some(RoomName::lobby()),
            backlog: next_backlog(),
        });
    }
    Ok(rooms)
}

/// Takes a seat in each room, or in none if one is refused.
pub(super) fn reserve_rooms(
    rooms: Vec<RequestedRoom>,
    identity: &Identity,
    peer: Peer,
    app: &App,
) -> Result<Vec<ReservedRoom>, Refusal> {
    let mut reserved: Vec<ReservedRoom> = Vec::with_capacity(rooms.len());
    for RequestedRoom { name, backlog } in rooms {
        let name = match name {
            Some(name) => name,
            None => identity.requested_own_room()?,
        };
        identity.may_subscribe(&name)?;
        // The query may also name the user's room.
        let is_reserved = |room: &ReservedRoom| *room.seat.numbering().name() == name;
        if !reserved.iter().any(is_reserved) {
            let seat = app.admission.take_seat(&name, peer)?;
            reserved.push(ReservedRoom { seat, backlog });
        }
    }
    Ok(reserved)
}
