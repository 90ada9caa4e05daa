//! The rooms that a session starts in: requested in the query, reserved once the client has an identity.

use std::sync::Arc;

use crate::app::App;
use crate::auth::Identity;
use crate::http::Request;
use crate::protocol::{Refusal, RoomName, Since};
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
            Self::Admitted { rooms, .. } => rooms.iter().all(|room| room.since.is_none()),
            Self::AwaitsToken { .. } => false,
        }
    }
}

/// A room that a client wants to start in.
pub(super) struct RequestedRoom {
    name: RoomName,
    /// The last offset that the client has, if it resumes.
    since: Option<Since>,
}

/// A room with a seat for the client.
pub(super) struct ReservedRoom {
    pub(super) seat: Seat,
    /// The last offset that the client has, if it resumes.
    pub(super) since: Option<Since>,
}

/// Returns the rooms in the query, each once, or the lobby if there are none.
#[inline(never)]
pub(super) fn requested_rooms(request: &Request, app: &App) -> Result<Vec<RequestedRoom>, Refusal> {
    let mut rooms: Vec<RequestedRoom> = Vec::new();
    let mut positions = request.positions()?.into_iter();
    for name in request.rooms() {
        let name = name?;
        let since = positions.next();
        if rooms.iter().all(|known| known.name != name) {
            rooms.push(RequestedRoom { name, since });
        }
        app.admission.check_room_count(rooms.len())?;
    }
    if rooms.is_empty() {
        rooms.push(RequestedRoom {
            name: RoomName::lobby(),
            since: positions.next(),
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
    let reserved = rooms.into_iter().map(|RequestedRoom { name, since }| {
        identity.may_subscribe(&name)?;
        let seat = app.admission.take_seat(&name, peer)?;
        Ok(ReservedRoom { seat, since })
    });
    reserved.collect()
}
