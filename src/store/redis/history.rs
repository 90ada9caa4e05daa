//! Reads a room's history and position.

use std::sync::Arc;

use redis::{FromRedisValue, Value};

use crate::protocol::{Page, Position, Publication, RoomName};
use crate::store::api::HistoryQuery;

use super::client::{CommandError, RedisClient};
use super::names::Names;
use super::node_state::{NodeState, parse_position};
use super::{record, scripts};

/// Reads a page, as one snapshot. `None` if the room has no numbering.
pub(super) fn read_page(
    client: &mut RedisClient,
    state: &NodeState,
    room: &RoomName,
    query: HistoryQuery,
) -> Result<Option<Page>, CommandError> {
    let mut command = scripts::HISTORY.call(&state.names.room_keys(room));
    match query.since {
        Some(since) => command.arg(since),
        None => command.arg(""),
    };
    command
        .arg(query.messages_max)
        .arg(query.bytes_max)
        .arg(state.steady_now())
        .arg(state.limits.age.as_millis() as u64);
    let reply = client.run_one(command)?;
    let foreign =
        || CommandError::NotExecuted(format!("the data of room {room} was not written by wscast"));
    match &reply {
        Value::Array(fields) if fields.is_empty() => Ok(None),
        _ => parse_page(reply, room, query).map(Some).ok_or_else(foreign),
    }
}

fn parse_page(reply: Value, room: &RoomName, query: HistoryQuery) -> Option<Page> {
    let Value::Array(fields) = reply else {
        return None;
    };
    let mut fields = fields.into_iter();
    let epoch = String::from_redis_value(fields.next()?).ok()?;
    let mut number = || u64::from_redis_value(fields.next()?).ok();
    let (first, last) = (number()?, number()?);
    let messages: Option<Vec<Arc<Publication>>> =
        fields.map(|field| parse_message(field, room)).collect();
    let messages = messages?;
    // A page of the newest messages starts right after the offset before its first message.
    let before_first = messages
        .first()
        .map_or(last, |message| message.offset.saturating_sub(1));
    let since = query.since.unwrap_or(before_first);
    Some(Page {
        room: room.clone(),
        epoch: epoch.parse().ok()?,
        first,
        last,
        contiguous: since >= first.saturating_sub(1) && since <= last,
        messages,
    })
}

fn parse_message(field: Value, room: &RoomName) -> Option<Arc<Publication>> {
    let (offset, ts, record) = <(u64, u64, Vec<u8>)>::from_redis_value(field).ok()?;
    record::decode(room, offset, ts, &record).map(Arc::new)
}

/// Reads a room's last position. `None` if the room has no numbering.
pub(super) fn read_position(
    client: &mut RedisClient,
    names: &Names,
    room: &RoomName,
) -> Result<Option<Position>, CommandError> {
    let [numbering_key, ..] = names.room_keys(room);
    let mut command = redis::cmd("HMGET");
    command.arg(numbering_key).arg(&["epoch", "offset"]);
    let reply = client.run_one(command)?;
    let known = <(Option<String>, Option<u64>)>::from_redis_value(reply).ok();
    Ok(known.and_then(|(epoch, offset)| parse_position(&epoch?, offset?)))
}
