//! `DELETE /rooms/{room}/messages` and `/rooms/{room}/messages/{offset}`: an operator deletes messages of the history.

use serde::Serialize;
use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::request::{Admitted, invalid_field};
use crate::http::response::{bad_request, error, json, unavailable, unavailable_for};
use crate::protocol::{ErrorCode, Refusal};
use crate::store::{Deletion, HistoryQuery, StoreError};

#[derive(Serialize)]
struct DeletedBody {
    room: String,
    epoch: String,
    /// Number of deleted messages.
    deleted: u64,
}

/// `DELETE /rooms/{room}/messages?epoch=`: deletes all messages of a room.
pub(in crate::http) fn delete_all(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    delete(admitted, app, None)
}

/// `DELETE /rooms/{room}/messages/{offset}?epoch=`: deletes one message.
pub(in crate::http) fn delete_one(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let segments = &admitted.request.head.segments;
    let text = segments.get(3).map_or("", String::as_str);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let offset = text.parse().ok().filter(|offset| is_number && *offset > 0);
    let offset = offset
        .ok_or_else(|| bad_request(&invalid_field("offset", "a whole number from 1", text)))?;
    delete(admitted, app, Some(offset))
}

fn delete(
    admitted: &Admitted<'_>,
    app: &App,
    offset: Option<u64>,
) -> Result<ResponseBox, ResponseBox> {
    let request = admitted.request;
    let room = request.room().map_err(|why| bad_request(&why))?;
    let known = app.broker.find(&room).map_err(failed)?;
    let numbering =
        known.ok_or_else(|| error(404, "room_not_found", "that room has no history"))?;
    let epoch = numbering.epoch().to_string();
    // Offsets of another epoch may be those of other messages.
    if request
        .head
        .query
        .values("epoch")
        .any(|given| given != epoch)
    {
        return Err(not_found("the numbering of the room has restarted since"));
    }
    let deletion = match offset {
        Some(offset) => Deletion::Message(offset),
        None => {
            let query = HistoryQuery {
                since: None,
                messages_max: 1,
                bytes_max: 1,
                until: None,
            };
            let page = app.broker.history(&numbering, query).map_err(failed)?;
            Deletion::Until(page.last)
        }
    };
    let deleted = app.broker.delete(&room, deletion).map_err(failed)?;
    if deleted == 0 && offset.is_some() {
        return Err(not_found("the history has no such message"));
    }
    log::info!("an operator deleted {deleted} messages of room {room}");
    Ok(json(&DeletedBody {
        room: room.to_string(),
        epoch,
        deleted,
    }))
}

fn not_found(message: &str) -> ResponseBox {
    error(404, "message_not_found", message)
}

/// The response if messages cannot be deleted. Some may have been.
fn failed(why: StoreError) -> ResponseBox {
    match why {
        StoreError::Unavailable | StoreError::Unreachable | StoreError::Unknown => {
            let message = "the store failed, and some messages may not be deleted; send the request again later";
            unavailable(ErrorCode::StorageUnavailable.as_str(), message)
        }
        StoreError::TooManyRooms | StoreError::Stopped => unavailable_for(&Refusal::from(why)),
    }
}
