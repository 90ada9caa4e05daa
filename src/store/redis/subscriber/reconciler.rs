//! Reconciles each subscribed room with Redis: in order, without a gap, and in the right epoch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Sender;
use redis::FromRedisValue;

use crate::protocol::{Position, RoomName};
use crate::rooms::RoomNumbering;
use crate::store::api::HistoryQuery;
use crate::store::delivery::Delivery;
use crate::store::error::StoreError;

use super::super::client::{RedisClient, Reply};
use super::super::node_state::{NodeState, parse_position};
use super::super::{history, record, scripts};
use super::room::SubscribedRoom;
use super::subscription::Lost;

/// Rooms compared in one batch of commands.
const ROOMS_AT_ONCE: usize = 200;
/// Maximum number of messages, and of their bytes, read at once to fill a gap.
const FILL_MESSAGES_MAX: usize = 1000;
const FILL_BYTES_MAX: usize = 1024 * 1024;

/// A request of a client's thread to subscribe to a room.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) room: RoomName,
    pub(crate) reply: Sender<Result<Arc<RoomNumbering>, StoreError>>,
    /// The time at which the client's thread gives up.
    pub(crate) deadline: Instant,
}

impl OpenRequest {
    fn reply_with(self, result: Result<Arc<RoomNumbering>, StoreError>) {
        // An error means that the client's thread has given up.
        self.reply.try_send(result).ok();
    }
}

/// The rooms that are subscribed or about to be. They outlast a connection.
pub(super) struct Reconciler {
    state: Arc<NodeState>,
    delivery: Arc<dyn Delivery>,
    client: RedisClient,
    rooms: HashMap<RoomName, SubscribedRoom>,
    /// Requests for rooms that are not subscribed yet.
    opening: HashMap<RoomName, Vec<OpenRequest>>,
    /// Rooms that cannot be opened and whose channels are to be unsubscribed.
    rejected: Vec<RoomName>,
    /// True if a server of the cluster did not reply, so that its rooms are to be compared again soon.
    retry_soon: bool,
}

impl Reconciler {
    pub(super) fn new(state: Arc<NodeState>, delivery: Arc<dyn Delivery>) -> Self {
        Self {
            client: state.client(),
            state,
            delivery,
            rooms: HashMap::new(),
            opening: HashMap::new(),
            rejected: Vec::new(),
            retry_soon: false,
        }
    }

    /// The rooms to subscribe to on a new connection.
    pub(super) fn wanted_rooms(&self) -> Vec<RoomName> {
        let wanted = self.rooms.keys().chain(self.opening.keys());
        wanted.cloned().collect()
    }

    /// The rooms that are subscribed.
    pub(super) fn subscribed_rooms(&self) -> Vec<RoomName> {
        self.rooms.keys().cloned().collect()
    }

    /// Takes a request. Returns a room whose channel is to be subscribed first.
    pub(super) fn open(&mut self, request: OpenRequest) -> Option<RoomName> {
        if let Some(room) = self.rooms.get(&request.room) {
            request.reply_with(Ok(Arc::clone(&room.numbering)));
            None
        } else if let Some(waiting) = self.opening.get_mut(&request.room) {
            waiting.push(request);
            None
        } else if !self.has_space_for(1) {
            request.reply_with(Err(StoreError::TooManyRooms));
            None
        } else {
            let room = request.room.clone();
            self.opening.insert(room.clone(), vec![request]);
            Some(room)
        }
    }

    /// Returns whether this many more rooms can be opened.
    pub(super) fn has_space_for(&self, rooms: usize) -> bool {
        self.rooms.len() + self.opening.len() + rooms <= self.state.rooms_max
    }

    /// Drops the requests whose threads have given up.
    pub(super) fn drop_expired_requests(&mut self, now: Instant) {
        self.opening.retain(|_, waiting| {
            waiting.retain(|request| now < request.deadline);
            !waiting.is_empty()
        });
    }

    /// Forgets a room that is not subscribed any more.
    pub(super) fn remove(&mut self, room: &RoomName) {
        self.rooms.remove(room);
    }

    /// Takes the rooms whose channels are to be unsubscribed because they cannot be opened.
    pub(super) fn take_rejected(&mut self) -> Vec<RoomName> {
        std::mem::take(&mut self.rejected)
    }

    /// Returns whether rooms are to be compared again soon, and clears that.
    pub(super) fn take_retry_soon(&mut self) -> bool {
        std::mem::take(&mut self.retry_soon)
    }

    /// Compares rooms with Redis: opens new rooms, fills gaps, and restarts rooms whose numbering has restarted.
    pub(super) fn compare(&mut self, rooms: &[RoomName]) -> Result<(), Lost> {
        self.client.connect().map_err(|why| why.to_string())?;
        for rooms in rooms.chunks(ROOMS_AT_ONCE) {
            let calls: Vec<_> = rooms.iter().map(|room| self.open_room_call(room)).collect();
            let replies = self.client.run_connected(&calls);
            for (room, reply) in rooms.iter().zip(replies) {
                match self.position_in(reply)? {
                    Some(position) => self.reconcile(room, position)?,
                    None => self.reject_requests(room),
                }
            }
        }
        Ok(())
    }

    fn open_room_call(&self, room: &RoomName) -> redis::Cmd {
        let known = self.rooms.get(room);
        let seen = known.map(SubscribedRoom::position);
        let seen_ts = known.and_then(|room| room.seen_ts);
        let state = &self.state;
        let mut call =
            state.call_numbering_script(&scripts::OPEN_ROOM, &state.names.room_keys(room));
        state.add_seen(&mut call, seen);
        call.arg(seen_ts.map_or(String::new(), |ts| ts.to_string()))
            .arg(state.numbering_kept_ms());
        call
    }

    /// Returns the position that Redis reports, or `None` if Redis rejects the call. A server of a cluster that does
    /// not reply must not interrupt the rooms of the other servers, so its rooms are only compared again soon.
    fn position_in(&mut self, reply: Reply) -> Result<Option<Position>, Lost> {
        match reply {
            Ok(reply) => {
                let position = <(String, u64)>::from_redis_value(reply).ok();
                Ok(position.and_then(|(epoch, offset)| parse_position(&epoch, offset)))
            }
            Err(_) if self.state.is_cluster() => {
                self.retry_soon = true;
                Ok(None)
            }
            Err(why) => Err(why.to_string()),
        }
    }

    /// Refuses the requests for a room whose position is unknown, because Redis is full or read-only. Members that
    /// are in the room already stay.
    fn reject_requests(&mut self, room: &RoomName) {
        for request in self.opening.remove(room).into_iter().flatten() {
            request.reply_with(Err(StoreError::Unavailable));
        }
        if !self.rooms.contains_key(room) {
            self.rejected.push(room.clone());
        }
    }

    fn reconcile(&mut self, name: &RoomName, position: Position) -> Result<(), Lost> {
        match self.rooms.get(name).map(SubscribedRoom::position) {
            // The last member left while the room was compared.
            None if !self.opening.contains_key(name) => {}
            None => self.start_room(name, position),
            Some(seen) if seen.epoch != position.epoch => self.restart_room(name, position),
            Some(seen) if seen.offset < position.offset => {
                return self.fill_gap(name, position.offset);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Starts to deliver a room after this position, and replies to the requests for it.
    fn start_room(&mut self, name: &RoomName, position: Position) {
        let Position { epoch, offset } = position;
        let numbering = Arc::new(RoomNumbering::new(name.clone(), epoch, offset));
        self.state.rooms.set(Arc::clone(&numbering));
        for request in self.opening.remove(name).into_iter().flatten() {
            request.reply_with(Ok(Arc::clone(&numbering)));
        }
        self.rooms
            .insert(name.clone(), SubscribedRoom::new(numbering));
    }

    /// Closes a room's members, so that they reconnect, and continues after this position.
    fn restart_room(&mut self, name: &RoomName, position: Position) {
        log::warn!(
            "room {name} restarts at offset {}: its members must reconnect",
            position.offset
        );
        self.delivery.restart(name);
        self.start_room(name, position);
    }

    /// Delivers a message that was published in a room, and before it any messages that the subscription missed.
    pub(super) fn deliver(&mut self, name: &RoomName, payload: &[u8]) -> Result<(), Lost> {
        let Some((position, ts, record)) = record::split_published(payload) else {
            log::debug!("room {name}: invalid message of {} bytes", payload.len());
            return Ok(());
        };
        let Some(room) = self.rooms.get(name) else {
            return Ok(());
        };
        let is_repeated = position.offset <= room.read;
        let is_seen = position.offset <= room.seen;
        if position.epoch != room.numbering.epoch() || (is_seen && !is_repeated) {
            // The message or this node's numbering is out of date, or Redis has used an offset twice.
            return self.compare(std::slice::from_ref(name));
        }
        if position.offset > room.seen + 1 {
            self.fill_gap(name, position.offset - 1)?;
        }
        let Some(room) = self.rooms.get_mut(name) else {
            return Ok(());
        };
        if position.epoch != room.numbering.epoch() || position.offset != room.seen + 1 {
            // The message was read from history already.
            return Ok(());
        }
        let Some(publication) = record::decode(name, position.offset, ts, record) else {
            let offset = position.offset;
            return Err(format!(
                "room {name}: offset {offset} is not a message of wscast"
            ));
        };
        room.deliver(Arc::new(publication), &*self.delivery);
        Ok(())
    }

    /// Delivers the messages up to an offset from history. If Redis does not have them any more, the room restarts,
    /// so that its members learn of the gap.
    fn fill_gap(&mut self, name: &RoomName, up_to: u64) -> Result<(), Lost> {
        while let Some(room) = self.rooms.get_mut(name).filter(|room| room.seen < up_to) {
            let query = HistoryQuery {
                since: Some(room.seen),
                messages_max: FILL_MESSAGES_MAX,
                bytes_max: FILL_BYTES_MAX,
                until: None,
            };
            let page = history::read_page(&mut self.client, &self.state, name, query)
                .map_err(|why| why.to_string())?;
            let epoch = room.numbering.epoch();
            let Some(page) = page.filter(|page| page.epoch == epoch) else {
                // The numbering has restarted meanwhile.
                return self.compare(std::slice::from_ref(name));
            };
            if !page.contiguous || page.messages.is_empty() {
                let offset = up_to;
                self.restart_room(name, Position { epoch, offset });
                return Ok(());
            }
            let filled = page.messages.len() as u64;
            self.state.gap_fills.fetch_add(filled, Ordering::Relaxed);
            for message in page.messages {
                room.deliver(message, &*self.delivery);
            }
            room.read = room.seen;
        }
        Ok(())
    }
}
