//! Reading a room's past.

use std::sync::Arc;

use redis::{FromRedisValue, Value};

use crate::protocol::{Page, Position, Publication, RoomName};

use super::super::api::HistoryQuery;
use super::answer::LinkError;
use super::link::Link;
use super::shared::{Shared, position};
use super::{record, scripts};

/// What follows an offset, as one moment has it; `None` if the room has no numbering.
pub(super) fn read(
    link: &mut Link,
    shared: &Shared,
    room: &RoomName,
    slice: HistoryQuery,
) -> Result<Option<Page>, LinkError> {
    let mut command = scripts::HISTORY.call(&shared.names.room(room));
    match slice.since {
        Some(since) => command.arg(since),
        None => command.arg(""),
    };
    command.arg(slice.messages_max).arg(slice.bytes_max);
    let answer = link.run_one(command)?;
    let foreign = || LinkError::NotSent(format!("what is stored of {room} was not written by us"));
    match &answer {
        Value::Array(parts) if parts.is_empty() => Ok(None),
        _ => page(answer, room, slice).map(Some).ok_or_else(foreign),
    }
}

fn page(answer: Value, room: &RoomName, slice: HistoryQuery) -> Option<Page> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let epoch = String::from_redis_value(parts.next()?).ok()?;
    let mut number = || u64::from_redis_value(parts.next()?).ok();
    let (first, last) = (number()?, number()?);
    let messages: Option<Vec<Arc<Publication>>> = parts.map(|one| message(one, room)).collect();
    let messages = messages?;
    // The newest follow what is right before them.
    let begins = messages
        .first()
        .map_or(last, |message| message.offset.saturating_sub(1));
    let since = slice.since.unwrap_or(begins);
    Some(Page {
        room: room.clone(),
        epoch: epoch.parse().ok()?,
        first,
        last,
        contiguous: since >= first.saturating_sub(1) && since <= last,
        messages,
    })
}

fn message(answer: Value, room: &RoomName) -> Option<Arc<Publication>> {
    let (offset, ts, record) = <(u64, u64, Vec<u8>)>::from_redis_value(answer).ok()?;
    record::decode(room, offset, ts, &record).map(Arc::new)
}

/// Where a room's stream is; `None` if it has no numbering.
pub(super) fn find(
    link: &mut Link,
    shared: &Shared,
    room: &RoomName,
) -> Result<Option<Position>, LinkError> {
    let [numbers, ..] = shared.names.room(room);
    let mut command = redis::cmd("HMGET");
    command.arg(numbers).arg(&["epoch", "offset"]);
    let answer = link.run_one(command)?;
    let known = <(Option<String>, Option<u64>)>::from_redis_value(answer).ok();
    Ok(known.and_then(|(epoch, offset)| position(&epoch?, offset?)))
}
