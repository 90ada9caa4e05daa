//! `/rooms/{room}/messages`: pages of history, and publishing.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde::Serialize;
use tiny_http::ResponseBox;

use crate::app::App;
use crate::broker::ReplyTo;
use crate::http::request::Admitted;
use crate::http::response::{
    bad_request, error, json, json_with_status, unavailable, unavailable_for,
};
use crate::protocol::{
    ClientMessage, ClientRequest, ErrorCode, PAGE_BYTES_MAX, PAGE_MESSAGES_DEFAULT,
    PAGE_MESSAGES_MAX, Position, PublishRequest, Refusal, RequestId, RoomName, SERVER, Scope,
};
use crate::store::{HistoryQuery, Publish, StoreError};
use crate::threads::REPLY_TIMEOUT;

/// `GET /rooms/{room}/messages?since=&limit=&epoch=`: a page of history.
pub(in crate::http) fn list(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let request = admitted.request;
    let room = request.room().map_err(|why| bad_request(&why))?;
    let query = HistoryQuery {
        since: request.since().map_err(|why| bad_request(&why))?,
        messages_max: request
            .limit(PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX)
            .map_err(|why| bad_request(&why))?,
        bytes_max: PAGE_BYTES_MAX,
        until: None,
    };
    let numbering = app
        .broker
        .find(&room)
        .map_err(store_failed)?
        .ok_or_else(|| error(404, "room_not_found", "that room has no history"))?;
    let mut page = app
        .broker
        .history(&numbering, query)
        .map_err(store_failed)?;
    let epoch = page.epoch.to_string();
    // Offsets of another epoch mean nothing in this epoch, so the page starts at the oldest message.
    if request.head.query.values("epoch").any(|e| e != epoch) {
        let query = HistoryQuery {
            since: Some(page.first - 1),
            ..query
        };
        page = app
            .broker
            .history(&numbering, query)
            .map_err(store_failed)?;
        page.contiguous = false;
    }
    Ok(json(&page))
}

#[derive(Serialize)]
struct PublishedBody<'a> {
    room: &'a str,
    epoch: String,
    offset: u64,
}

/// `POST /rooms/{room}/messages?session=` with `{"type","payload","id"?}`: 201 once the message is stored.
pub(in crate::http) fn publish(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let room = admitted.request.room().map_err(|why| bad_request(&why))?;
    let (message, id) = parse_message(json_text(admitted)?, &room)?;
    app.admission
        .count_new_room(&room, admitted.request.peer)
        .map_err(|why| unavailable_for(&why))?;
    // A publish id is compared within a scope, so that two clients that both count 1, 2, 3 do not lose messages.
    let session = admitted
        .request
        .session()
        .map_err(|why| bad_request(&why))?;
    let user = admitted.identity.user.clone();
    let (reply, replied) = bounded(1);
    let publish = Publish {
        room: room.clone(),
        from: publisher(admitted, app),
        kind: message.kind,
        payload: message.payload.into(),
        id,
        scope: user.map(Scope::User).or(session),
        received: Instant::now(),
    };
    app.broker
        .publish(publish, ReplyTo::Thread(reply))
        .map_err(store_failed)?;
    match replied.recv_timeout(REPLY_TIMEOUT) {
        Ok(Ok(position)) => Ok(created(&room, position)),
        Ok(Err(why)) => Err(store_failed(why)),
        Err(RecvTimeoutError::Disconnected) => Err(store_failed(StoreError::Stopped)),
        Err(RecvTimeoutError::Timeout) => {
            let message = "the store did not reply in time and the message may have been published; \
                           send it again with the same id";
            Err(unavailable(ErrorCode::StorageUnavailable.as_str(), message))
        }
    }
}

/// The `from` of a message: the token's user, the server for an operator without one, else a client id of its own.
fn publisher(admitted: &Admitted<'_>, app: &App) -> Arc<str> {
    let identity = &admitted.identity;
    match &identity.user {
        Some(user) => user.clone(),
        None if identity.admin => SERVER.into(),
        None => app.admission.next_client_id().to_string().into(),
    }
}

fn created(room: &RoomName, position: Position) -> ResponseBox {
    let body = PublishedBody {
        room: room.as_str(),
        epoch: position.epoch.to_string(),
        offset: position.offset,
    };
    json_with_status(201, &body)
}

fn json_text<'a>(admitted: &'a Admitted<'_>) -> Result<&'a str, ResponseBox> {
    let headers = &admitted.request.head.headers;
    if !is_json(headers.get("Content-Type").unwrap_or_default()) {
        let message = "send Content-Type: application/json";
        return Err(error(415, "unsupported_media_type", message));
    }
    if headers
        .lines("Content-Encoding")
        .any(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        let message = "send the body without Content-Encoding";
        return Err(error(415, "unsupported_media_type", message));
    }
    if !headers.contains("Content-Length") && !headers.contains("Transfer-Encoding") {
        let message = "send a body with Content-Length, or in chunks";
        return Err(error(411, "length_required", message));
    }
    std::str::from_utf8(&admitted.body).map_err(|_| {
        let refusal = Refusal::new(
            ErrorCode::InvalidJson,
            "the body is not UTF-8; send JSON in UTF-8",
        );
        bad_request(&refusal)
    })
}

/// Returns whether a `Content-Type` is one of JSON: `application/json`, `text/json` or `application/…+json`, with any
/// parameters. A page of another origin can send none of them without a preflight.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    match media_type.split_once('/') {
        Some(("application", "json") | ("text", "json")) => true,
        Some(("application", subtype)) => {
            let name = subtype.strip_suffix("+json");
            name.is_some_and(|name| !name.is_empty() && !name.contains([' ', ',', '/']))
        }
        _ => false,
    }
}

fn parse_message<'a>(
    text: &'a str,
    room: &RoomName,
) -> Result<(PublishRequest<'a>, Option<RequestId>), ResponseBox> {
    let ClientRequest { id, message } =
        ClientMessage::parse(text).map_err(|why| bad_request(&why.refusal))?;
    let (code, why) = match message {
        ClientMessage::Publish(publish) if publish.room.as_ref().is_none_or(|r| r == room) => {
            return Ok((publish, id));
        }
        ClientMessage::Publish(_) => (
            ErrorCode::InvalidField,
            "`room` must be that of the path, or left out",
        ),
        _ => (
            ErrorCode::UnknownType,
            "`type` must be message or custom_event",
        ),
    };
    Err(bad_request(&Refusal::new(code, why)))
}

fn store_failed(why: StoreError) -> ResponseBox {
    unavailable_for(&Refusal::from(why))
}
