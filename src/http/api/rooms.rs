//! `GET /rooms` and `GET /rooms/{room}`: rooms, their members and positions.

use serde::Serialize;
use tiny_http::ResponseBox;

use crate::app::App;
use crate::broadcaster::{RoomDetail, RoomSummary};
use crate::http::request::Admitted;
use crate::http::response::{bad_request, busy, error, json};
use crate::protocol::{Position, PresentClient, RoomName};

const ROOMS_PAGE_DEFAULT: usize = 100;
const ROOMS_PAGE_MAX: usize = 1000;

#[derive(Serialize)]
struct RoomList {
    rooms: Vec<RoomEntry>,
    /// Rooms on all pages together.
    total: usize,
}

#[derive(Serialize)]
struct RoomEntry {
    room: String,
    members: usize,
}

/// `GET /rooms?after=&limit=`: the rooms with members that the client may read, by name.
pub(in crate::http) fn list(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let request = admitted.request;
    let limit = request
        .limit(ROOMS_PAGE_DEFAULT, ROOMS_PAGE_MAX)
        .map_err(|why| bad_request(&why))?;
    let after = request.head.query.first("after").unwrap_or_default();
    let mut rooms = app.broadcaster.rooms().ok_or_else(busy)?;
    rooms.retain(|room| admitted.identity.may_subscribe(&room.name).is_ok());
    let total = rooms.len();
    rooms.retain(|room| room.name.as_str() > after);
    rooms.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    rooms.truncate(limit);
    let rooms = rooms.into_iter().map(RoomEntry::from).collect();
    Ok(json(&RoomList { rooms, total }))
}

impl From<RoomSummary> for RoomEntry {
    fn from(room: RoomSummary) -> Self {
        Self {
            room: room.name.to_string(),
            members: room.members,
        }
    }
}

#[derive(Serialize)]
struct RoomDescription {
    room: String,
    members: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Vec<PresentClient>>,
    epoch: String,
    offset: u64,
}

/// `GET /rooms/{room}`: one room's members and position.
pub(in crate::http) fn describe(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let room = admitted.request.room().map_err(|why| bad_request(&why))?;
    let (detail, position) = find(&room, app)?.ok_or_else(|| {
        let message = "nobody is in that room and it has no history";
        error(404, "room_not_found", message)
    })?;
    Ok(json(&RoomDescription {
        room: room.to_string(),
        members: detail.members,
        clients: detail.clients.filter(|_| app.config.shows_presence(&room)),
        epoch: position.epoch.to_string(),
        offset: position.offset,
    }))
}

/// Returns a room's members and position. The broadcaster knows no position of a room without members on this
/// node; the store does while the room has history.
fn find(room: &RoomName, app: &App) -> Result<Option<(RoomDetail, Position)>, ResponseBox> {
    let empty = || RoomDetail {
        members: 0,
        clients: Some(Vec::new()),
        position: None,
    };
    let detail = app.broadcaster.room(room.clone()).ok_or_else(busy)?;
    let detail = detail.unwrap_or_else(empty);
    if let Some(position) = detail.position {
        return Ok(Some((detail, position)));
    }
    let numbering = app.broker.find(room).map_err(|_| busy())?;
    Ok(numbering.map(|numbering| (detail, numbering.position())))
}
