//! Calls of the script that publishes. A call takes many messages, because the cost of a call is larger than that of a
//! message.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};

use crate::protocol::RoomName;
use crate::store::dedupe::{DEDUPE_IDS_MAX, DEDUPE_WINDOW};
use crate::store::publish::{Publish, Stored};

use super::acknowledged::AcknowledgedPositions;
use super::client::{CommandError, REDIS_TIMEOUT, Reply};
use super::node_state::{NodeState, parse_position};
use super::{clock, record, scripts};

/// Maximum number of messages in a call. Redis serves nobody else during a call, so a call takes about a millisecond.
const MESSAGES_MAX: usize = 64;
/// Payload bytes in a call, not counting the last message's.
const PAYLOAD_BYTES: usize = 256 * 1024;

/// A call, and the messages that it stores.
#[derive(Debug, Default)]
pub(super) struct PublishCall {
    /// The rooms, each with the indexes of its messages in the batch, in order.
    rooms: Vec<(RoomName, Vec<usize>)>,
    messages: usize,
    payload_bytes: usize,
}

/// Which rooms a call may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallRooms {
    /// Any rooms.
    Many,
    /// A single room, because the server requires all keys of a call to be in one slot.
    One,
}

/// Divides the messages at these indexes of a batch into calls.
pub(super) fn divide(
    batch: &[Publish],
    indexes: impl IntoIterator<Item = usize>,
    call_rooms: CallRooms,
) -> Vec<PublishCall> {
    let mut calls = Vec::<PublishCall>::new();
    // The last call of each room, or of all rooms.
    let mut open = HashMap::<Option<&RoomName>, usize>::new();
    // The index in `rooms` of each room in its last call.
    let mut places = HashMap::<&RoomName, (usize, usize)>::new();
    for index in indexes {
        let publish = &batch[index];
        let key = (call_rooms == CallRooms::One).then_some(&publish.room);
        let known = open.get(&key).copied();
        let at = known
            .filter(|at| calls[*at].has_space())
            .unwrap_or_else(|| {
                calls.push(PublishCall::default());
                calls.len() - 1
            });
        open.insert(key, at);
        let call = &mut calls[at];
        let place = places.get(&publish.room).filter(|(call, _)| *call == at);
        let place = place.map_or(call.rooms.len(), |(_, place)| *place);
        if place == call.rooms.len() {
            call.rooms.push((publish.room.clone(), Vec::new()));
            places.insert(&publish.room, (at, place));
        }
        call.rooms[place].1.push(index);
        call.messages += 1;
        call.payload_bytes += publish.payload.len();
    }
    calls
}

impl PublishCall {
    fn has_space(&self) -> bool {
        self.messages < MESSAGES_MAX && self.payload_bytes < PAYLOAD_BYTES
    }

    /// The indexes of the call's messages in the batch, in the order of the script's results.
    pub(super) fn indexes(&self) -> impl Iterator<Item = usize> {
        self.rooms.iter().flat_map(|(_, indexes)| indexes).copied()
    }

    /// Returns the command, for the arguments see `scripts/publish.lua`.
    pub(super) fn command(
        &self,
        batch: &[Publish],
        state: &NodeState,
        acknowledged: &AcknowledgedPositions,
    ) -> Cmd {
        let rooms = self.rooms.iter().map(|(room, _)| room);
        let keys: Vec<String> = rooms.flat_map(|room| state.names.room_keys(room)).collect();
        let mut command = state.call_numbering_script(&scripts::PUBLISH, &keys);
        command
            .arg(state.deadline(REDIS_TIMEOUT))
            .arg(state.numbering_kept_ms())
            .arg(DEDUPE_WINDOW.as_millis() as u64)
            .arg(DEDUPE_IDS_MAX / 2)
            .arg(state.steady_now())
            .arg(clock::JUMP_MAX.as_millis() as u64)
            .arg(state.relay.channels().word());
        for (room, indexes) in &self.rooms {
            let received = state.rooms.get(room).map(|numbering| numbering.position());
            let seen = acknowledged.last_known(room, received);
            command.arg(state.names.room_channel(room));
            state.add_seen(&mut command, seen);
            let limits = state.stored(room);
            command
                .arg(limits.messages)
                .arg(limits.bytes)
                .arg(limits.age.as_millis() as u64)
                .arg(indexes.len());
            for index in indexes {
                let publish = &batch[*index];
                let except = publish.except.map(|except| except.to_string());
                command
                    .arg(record::encode(publish))
                    .arg(dedupe_id(publish))
                    .arg(ttl_ms(publish, limits.age))
                    .arg(except.unwrap_or_default());
            }
        }
        command
    }

    /// Splits the reply to the call into one reply per message.
    pub(super) fn replies(&self, reply: Reply) -> Vec<Reply> {
        match reply {
            Ok(Value::Array(results)) if results.len() == self.messages => {
                results.into_iter().map(Ok).collect()
            }
            Ok(error @ Value::ServerError(_)) => vec![Ok(error); self.messages],
            Ok(_) => {
                let error = CommandError::NoReply("the script returned something else".to_owned());
                vec![Err(error); self.messages]
            }
            Err(why) => vec![Err(why); self.messages],
        }
    }
}

/// Parses the result of a message that was stored.
pub(super) fn parse_stored(result: Value) -> Option<Stored> {
    let text = String::from_redis_value(result).ok()?;
    let mut words = text.split(' ');
    let (epoch, offset, duplicate) = (words.next()?, words.next()?, words.next()?);
    let position = parse_position(epoch, offset.parse().ok()?)?;
    Some(if duplicate == "1" {
        Stored::Duplicate(position)
    } else {
        Stored::Relayed(position)
    })
}

/// Joins scope and id into one text; empty if the publish cannot be deduplicated. Both may contain any character, so
/// the scope is preceded by its length.
fn dedupe_id(publish: &Publish) -> String {
    match (&publish.scope, &publish.id) {
        (Some(scope), Some(id)) => {
            let scope = scope.to_text();
            format!("{}:{scope}{}", scope.len(), id.as_str())
        }
        _ => String::new(),
    }
}

/// The milliseconds of a publish's ttl as a text; empty without a ttl.
fn ttl_ms(publish: &Publish, age: Duration) -> String {
    let ttl = publish.ttl_within(age);
    ttl.map_or(String::new(), |ttl| ttl.duration().as_millis().to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use crate::protocol::Kind;

    use super::*;

    fn publish(room: usize, payload_bytes: usize) -> Publish {
        Publish {
            room: RoomName::parse(&format!("ops:{room}")).unwrap(),
            from: Arc::from("alice"),
            kind: Kind::Message,
            payload: "x".repeat(payload_bytes).into(),
            id: None,
            scope: None,
            ttl: None,
            except: None,
            received: Instant::now(),
        }
    }

    /// The indexes in each call.
    fn calls(batch: &[Publish], call_rooms: CallRooms) -> Vec<Vec<usize>> {
        let calls = divide(batch, 0..batch.len(), call_rooms);
        calls.iter().map(|call| call.indexes().collect()).collect()
    }

    #[test]
    fn call_has_messages_of_many_rooms_or_of_one() {
        let batch = [1, 2, 1, 3, 2].map(|room| publish(room, 1));
        assert_eq!(calls(&batch, CallRooms::Many), [[0, 2, 1, 4, 3]]);
        assert_eq!(
            calls(&batch, CallRooms::One),
            [vec![0, 2], vec![1, 4], vec![3]]
        );
    }

    #[test]
    fn full_call_is_followed_by_another_that_keeps_the_order_of_each_room() {
        let count = 2 * MESSAGES_MAX + 1;
        let batch: Vec<Publish> = (0..count).map(|n| publish(n % 2, 1)).collect();
        for call_rooms in [CallRooms::Many, CallRooms::One] {
            let calls = calls(&batch, call_rooms);
            assert_eq!(calls.len(), 3);
            assert!(calls.iter().all(|call| call.len() <= MESSAGES_MAX));
            let mut all = calls.concat();
            for room in 0..2 {
                let of_room = all.iter().filter(|index| *index % 2 == room);
                assert!(of_room.is_sorted(), "{calls:?}");
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count));
        }
        let large = [1, 1, 2].map(|room| publish(room, PAYLOAD_BYTES));
        assert_eq!(calls(&large, CallRooms::Many), [[0], [1], [2]]);
    }
}
