//! Reads a room's history and position, and deletes from the history.

use std::sync::Arc;

use redis::{FromRedisValue, Value};

use crate::protocol::{Page, Position, Publication, RoomName};
use crate::store::api::{Deletion, HistoryQuery};

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
        .arg(state.stored(room).age.as_millis() as u64);
    match query.until {
        Some(until) => command.arg(until),
        None => command.arg(""),
    };
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
    let (first, last, reached, is_complete) = (number()?, number()?, number()?, number()?);
    let messages: Option<Vec<Arc<Publication>>> =
        fields.map(|field| parse_message(field, room)).collect();
    let messages = messages?;
    let mut contiguous = Page::has_all(&messages, query.since, reached);
    if query.until.is_some() {
        contiguous &= is_complete == 1;
    }
    Some(Page {
        room: room.clone(),
        epoch: epoch.parse().ok()?,
        first,
        last,
        contiguous,
        messages,
    })
}

fn parse_message(field: Value, room: &RoomName) -> Option<Arc<Publication>> {
    let (offset, ts, record) = <(u64, u64, Vec<u8>)>::from_redis_value(field).ok()?;
    record::decode(room, offset, ts, &record).map(Arc::new)
}

/// Deletes messages and returns their number.
pub(super) fn delete(
    client: &mut RedisClient,
    state: &NodeState,
    room: &RoomName,
    deletion: Deletion,
) -> Result<u64, CommandError> {
    let mut command = scripts::DELETE.call(&state.names.room_keys(room));
    match deletion {
        // All messages, also those that were published since: the script takes no time to speak of.
        Deletion::Until(_) => command.arg(""),
        Deletion::Message(offset) => command.arg(offset),
    };
    command.arg(state.steady_now());
    let reply = client.run_one(command)?;
    u64::from_redis_value(reply).map_err(|why| CommandError::NoReply(why.to_string()))
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
