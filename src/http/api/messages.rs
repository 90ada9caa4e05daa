//! `/rooms/{room}/messages`: pages of history, and publishing.

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde::Serialize;
use tiny_http::ResponseBox;

use super::body::{self, BodyKind};
use super::publishing::HttpPublisher;
use crate::admission::PublishedOver;
use crate::app::App;
use crate::broker::ReplyTo;
use crate::http::Parameters;
use crate::http::request::{Admitted, Request, invalid_field};
use crate::http::response::{
    bad_request, error, forbidden, json, json_with_status, refused, unavailable, unavailable_for,
};
use crate::protocol::{
    ErrorCode, Kind, PAGE_BYTES_MAX, PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX, Position,
    PublishRequest, Refusal, RequestId, RoomName, TTL_SECONDS_MAX, Ttl,
};
use crate::store::{HistoryQuery, StoreError};
use crate::threads::REPLY_TIMEOUT;

/// `GET /rooms/{room}/messages?since=&limit=&epoch=`: a page of history.
pub(in crate::http) fn list(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let request = admitted.request;
    PAGE_PARAMETERS
        .check_names(&request.head.query)
        .map_err(|why| bad_request(&why))?;
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

/// The parameters of a page of history. Without these refusals, a misnamed one would lead to the newest messages.
const PAGE_PARAMETERS: Parameters = Parameters {
    used: &["since", "limit", "epoch"],
    unused: &[
        ("last", "write `limit`"),
        ("offset", "write `since`"),
        ("after", "write `since`"),
        ("before", "write `since` and `limit`"),
    ],
};

/// The parameters beside a message in JSON, which has the others as fields.
const JSON_PARAMETERS: Parameters = Parameters {
    used: &["session", "token"],
    unused: &[
        ("id", "write `id` in the body"),
        ("ttl", "write `ttl` in the body"),
        ("echo", "write `echo` in the body"),
        ("type", "write `type` in the body"),
        ("payload", "write `payload` in the body"),
        ("room", ROOM_IN_PATH),
        ("rooms", ROOM_IN_PATH),
    ],
};
/// The parameters beside a text.
const TEXT_PARAMETERS: Parameters = Parameters {
    used: &["id", "ttl", "echo", "session", "token"],
    unused: &[
        (
            "type",
            "a text is always a `message`; send JSON for another `type`",
        ),
        ("payload", "the body is the payload"),
        ("room", ROOM_IN_PATH),
        ("rooms", ROOM_IN_PATH),
    ],
};
const ROOM_IN_PATH: &str = "the room is that of the path; POST /messages takes several";

#[derive(Serialize)]
struct PublishedBody<'a> {
    room: &'a str,
    epoch: String,
    offset: u64,
}

/// `POST /rooms/{room}/messages?session=` with `{"type","payload","id"?,"ttl"?}`, or with text, `?id=`, `?ttl=` and
/// `?echo=`: 201 once the message is stored.
pub(in crate::http) fn publish(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let room = admitted.request.room().map_err(|why| bad_request(&why))?;
    let kind = BodyKind::of(admitted.request);
    let text = match kind {
        BodyKind::Json | BodyKind::Text | BodyKind::Form => body::text(admitted)?,
        BodyKind::JsonLines | BodyKind::Other => {
            let message = "send Content-Type: application/json, or text/plain for a text";
            return Err(body::unsupported(message));
        }
    };
    body::check_origin(kind, admitted, app)?;
    let parameters = match kind {
        BodyKind::Json => &JSON_PARAMETERS,
        _ => &TEXT_PARAMETERS,
    };
    let names = parameters.check(&admitted.request.head.query);
    names.map_err(|why| bad_request(&why))?;
    let payload;
    let (message, id) = match kind {
        BodyKind::Json => parse_message(text, &room)?,
        _ => {
            payload = text_payload(kind, body::without_mark(text), app)?;
            text_message(admitted.request, &payload)?
        }
    };
    app.admission
        .check_publish(
            &room,
            &admitted.identity,
            PublishedOver::Http,
            message.payload.len(),
        )
        .map_err(|why| match why.code {
            ErrorCode::MessageTooLarge => refused(413, &why),
            _ => forbidden(&why),
        })?;
    app.admission
        .count_new_room(&room, admitted.request.peer)
        .map_err(|why| unavailable_for(&why))?;
    let publisher = HttpPublisher::of(admitted, app)?;
    let (reply, replied) = bounded(1);
    let publish = publisher.publish(&room, &message, id);
    let publish = publish.map_err(|why| bad_request(&why))?;
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

/// Returns a text as a JSON string.
fn text_payload(kind: BodyKind, text: &str, app: &App) -> Result<String, ResponseBox> {
    if kind == BodyKind::Form && text.trim_start().starts_with(['{', '[']) {
        let message = "this may be JSON: name its Content-Type, by curl -H; application/json, or text/plain for a text";
        return Err(body::unsupported(message));
    }
    // A string can always be serialized to memory.
    let payload = serde_json::to_string(text).unwrap_or_default();
    let bytes_max = app.config.get().limits.max_message_bytes;
    if payload.len() > bytes_max {
        let message = format!("the text exceeds {bytes_max} bytes as JSON");
        let code = ErrorCode::MessageTooLarge;
        return Err(refused(413, &Refusal::new(code, message)));
    }
    Ok(payload)
}

/// Returns the message with a text's payload. Its other fields are in the query.
fn text_message<'a>(
    request: &Request,
    payload: &'a str,
) -> Result<(PublishRequest<'a>, Option<RequestId>), ResponseBox> {
    let query = &request.head.query;
    let id = query.first("id").map(|text| {
        let refuse = |_| bad_request(&invalid_field("id", "1 to 64 bytes of text", text));
        RequestId::parse(text).map_err(refuse)
    });
    let ttl = query.first("ttl").map(|text| {
        let ttl = text.parse().ok().and_then(Ttl::from_seconds);
        let expected = format!("a whole number of seconds, 1 to {TTL_SECONDS_MAX}");
        ttl.ok_or_else(|| bad_request(&invalid_field("ttl", &expected, text)))
    });
    let echo = match query.first("echo") {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            let refusal = invalid_field("echo", "true or false", other);
            return Err(bad_request(&refusal));
        }
    };
    let message = PublishRequest {
        room: None,
        kind: Kind::Message,
        payload,
        ttl: ttl.transpose()?,
        echo,
    };
    Ok((message, id.transpose()?))
}

fn created(room: &RoomName, position: Position) -> ResponseBox {
    let body = PublishedBody {
        room: room.as_str(),
        epoch: position.epoch.to_string(),
        offset: position.offset,
    };
    json_with_status(201, &body)
}

fn parse_message<'a>(
    text: &'a str,
    room: &RoomName,
) -> Result<(PublishRequest<'a>, Option<RequestId>), ResponseBox> {
    let (message, id) = PublishRequest::parse(text).map_err(|why| bad_request(&why))?;
    if message.room.as_ref().is_some_and(|named| named != room) {
        let why = "`room` must be that of the path, or left out";
        return Err(bad_request(&Refusal::new(ErrorCode::InvalidField, why)));
    }
    Ok((message, id))
}

fn store_failed(why: StoreError) -> ResponseBox {
    unavailable_for(&Refusal::from(why))
}
