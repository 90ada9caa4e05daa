//! A room's messages over HTTP: pages of history, and publishing.

use std::sync::Arc;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde::Serialize;
use tiny_http::ResponseBox;

use crate::app::App;
use crate::broker::ReplyTo;
use crate::protocol::{
    ClientMessage, ClientRequest, ErrorCode, PAGE_BYTES_MAX, PAGE_MESSAGES_DEFAULT,
    PAGE_MESSAGES_MAX, Position, PublishRequest, Refusal, RequestId, RoomName, Scope, invalid_room,
};
use crate::store::{HistoryQuery, Publish, StoreError};
use crate::threads::REPLY_TIMEOUT;

use super::access::{may_publish, may_subscribe};
use super::answer::{WithHeader, data, json, json_with_status};
use super::{Request, busy, error};

/// `GET /rooms/{room}/messages?since=&limit=&epoch=`
pub(super) fn list(request: &Request, app: &App) -> ResponseBox {
    match page(request, app) {
        Ok(response) | Err(response) => response,
    }
}

fn page(request: &Request, app: &App) -> Result<ResponseBox, ResponseBox> {
    let room = room_of(request)?;
    may_subscribe(request, &room)?;
    let since = number(request, "since")?;
    let limit = number(request, "limit")?.unwrap_or(PAGE_MESSAGES_DEFAULT as u64);
    if !(1..=PAGE_MESSAGES_MAX as u64).contains(&limit) {
        return Err(error(400, "invalid_field", "`limit` must be 1 to 1000"));
    }
    let Some(stream) = app.broker.find(&room).map_err(unavailable)? else {
        return Err(error(404, "room_not_found", "that room has no history"));
    };
    let slice = HistoryQuery {
        since,
        messages_max: limit as usize,
        bytes_max: PAGE_BYTES_MAX,
    };
    let mut page = app.broker.history(&stream, slice).map_err(unavailable)?;
    // Offsets of another epoch say nothing about this one: the page then starts at the beginning.
    if request
        .query_values("epoch")
        .any(|epoch| epoch != page.epoch.to_string())
    {
        let slice = HistoryQuery {
            since: Some(page.first - 1),
            ..slice
        };
        page = app.broker.history(&stream, slice).map_err(unavailable)?;
        page.contiguous = false;
    }
    Ok(json(&page))
}

/// `POST /rooms/{room}/messages?session=` with `{"type","payload","id"?}` → 201.
pub(super) fn publish(request: &Request, app: &App) -> ResponseBox {
    match published(request, app) {
        Ok(response) | Err(response) => response,
    }
}

#[derive(Serialize)]
struct PlaceBody<'a> {
    room: &'a str,
    epoch: String,
    offset: u64,
}

fn published(request: &Request, app: &App) -> Result<ResponseBox, ResponseBox> {
    let room = room_of(request)?;
    may_publish(request, &room)?;
    let text = json_text(request, app)?;
    let (publish, id) = understand(text, &room)?;
    let user = request.identity.as_ref().and_then(|who| who.user.clone());
    let client = || Arc::from(app.name_client().to_string());
    let (answer, answered) = bounded(1);
    let message = Publish {
        room: room.clone(),
        from: user.clone().unwrap_or_else(client),
        kind: publish.kind,
        payload: publish.payload.into(),
        id,
        scope: user.map(Scope::User).or(scope(request)?),
    };
    app.broker
        .publish(message, ReplyTo::Thread(answer))
        .map_err(unavailable)?;
    match answered.recv_timeout(REPLY_TIMEOUT) {
        Ok(Ok(place)) => Ok(created(&room, place)),
        Ok(Err(why)) => Err(unavailable(why)),
        Err(RecvTimeoutError::Disconnected) => Err(unavailable(StoreError::Stopped)),
        Err(RecvTimeoutError::Timeout) => {
            let message = "the store did not answer in time; the message may have been published";
            Err(busy(ErrorCode::StorageUnavailable.as_str(), message))
        }
    }
}

fn created(room: &RoomName, position: Position) -> ResponseBox {
    let body = PlaceBody {
        room: room.as_str(),
        epoch: position.epoch.to_string(),
        offset: position.offset,
    };
    json_with_status(201, &body)
}

/// `HEAD /rooms/{room}/events`
pub(super) fn events_head(request: &Request, _app: &App) -> ResponseBox {
    let permitted = room_of(request).and_then(|room| may_subscribe(request, &room));
    if let Err(response) = permitted {
        return response;
    }
    data(200, "text/event-stream", Vec::new()).with("Cache-Control", "no-store")
}

fn room_of(request: &Request) -> Result<RoomName, ResponseBox> {
    let name = request.segments.get(1).map_or("", String::as_str);
    RoomName::parse(name).map_err(|why| refused(400, &invalid_room(why)))
}

fn json_text<'a>(request: &'a Request, app: &App) -> Result<&'a str, ResponseBox> {
    let content_type = request.header("Content-Type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(error(
            415,
            "unsupported_media_type",
            "send Content-Type: application/json",
        ));
    }
    if request.header_lines("Content-Length").next().is_none() {
        return Err(error(
            411,
            "length_required",
            "send a body with Content-Length",
        ));
    }
    let most = app.config.limits.max_message_bytes;
    if request.body.len() > most {
        let message = format!("a message may have at most {most} bytes");
        return Err(error(413, ErrorCode::MessageTooLarge.as_str(), &message));
    }
    let text = std::str::from_utf8(&request.body);
    text.map_err(|_| {
        error(
            400,
            ErrorCode::InvalidJson.as_str(),
            "the body is not UTF-8",
        )
    })
}

fn understand<'a>(
    text: &'a str,
    room: &RoomName,
) -> Result<(PublishRequest<'a>, Option<RequestId>), ResponseBox> {
    let ClientRequest { id, message } =
        ClientMessage::parse(text).map_err(|why| refused(400, &why.refusal))?;
    match message {
        ClientMessage::Publish(publish) if publish.room.as_ref().is_none_or(|r| r == room) => {
            Ok((publish, id))
        }
        ClientMessage::Publish(_) => Err(error(
            400,
            "invalid_field",
            "`room` must be that of the path, or not given",
        )),
        _ => Err(error(
            400,
            "unknown_type",
            "`type` must be message or custom_event",
        )),
    }
}

/// An id protects against publishing twice only within a session that the client names: two clients
/// that both count 1, 2, 3 must not swallow each other's messages.
fn scope(request: &Request) -> Result<Option<Scope>, ResponseBox> {
    let Some(text) = request.query_values("session").next() else {
        return Ok(None);
    };
    let refused = || error(400, "invalid_field", "`session` must be 16 to 128 bytes");
    Scope::session(text).map(Some).ok_or_else(refused)
}

fn number(request: &Request, name: &str) -> Result<Option<u64>, ResponseBox> {
    let Some(text) = request.query_values(name).next() else {
        return Ok(None);
    };
    let message = format!("`{name}` must be a whole number, 0 or more");
    text.parse()
        .map(Some)
        .map_err(|_| error(400, "invalid_field", &message))
}

fn refused(status: u16, refusal: &Refusal) -> ResponseBox {
    error(status, refusal.code.as_str(), &refusal.message)
}

fn unavailable(why: StoreError) -> ResponseBox {
    let refusal = Refusal::from(why);
    busy(refusal.code.as_str(), &refusal.message)
}
