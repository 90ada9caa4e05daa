//! Reconciles each subscribed room with Redis: in order, without a gap, and in the right epoch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redis::{Cmd, FromRedisValue, ServerErrorKind};

use crate::protocol::{Position, RoomName};
use crate::rooms::RoomNumbering;
use crate::store::api::HistoryQuery;
use crate::store::delivery::Delivery;
use crate::store::error::StoreError;

use super::super::client::{CommandError, RedisClient, Reply, server_errors};
use super::super::node_state::{NodeState, parse_position};
use super::super::{history, record, scripts};
use super::request::{OpenRequest, SubscriberRequest};
use super::room::SubscribedRoom;
use super::subscription::Lost;

/// Rooms compared in one batch of commands.
const ROOMS_AT_ONCE: usize = 200;
/// Maximum number of messages, and of their bytes, read at once to fill a gap.
const FILL_MESSAGES_MAX: usize = 1000;
const FILL_BYTES_MAX: usize = 1024 * 1024;

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

    /// Returns whether no room is subscribed or about to be.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.opening.is_empty()
    }

    /// Returns whether a room is subscribed.
    pub(super) fn has(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// Keeps only the rooms that are subscribed or about to be.
    pub(super) fn retain_wanted(&self, rooms: &mut Vec<RoomName>) {
        rooms.retain(|room| self.rooms.contains_key(room) || self.opening.contains_key(room));
    }

    /// The rooms that are subscribed.
    pub(super) fn subscribed_rooms(&self) -> Vec<RoomName> {
        self.rooms.keys().cloned().collect()
    }

    /// Handles a request. Returns a room whose channel is to be subscribed first.
    pub(super) fn handle(&mut self, request: SubscriberRequest) -> Option<RoomName> {
        match request {
            SubscriberRequest::Open(request) => self.open(request),
            SubscriberRequest::TakeOver(room) => Some(self.take_over(room)),
        }
    }

    /// Takes over a room from another subscriber.
    fn take_over(&mut self, room: SubscribedRoom) -> RoomName {
        let name = room.numbering.name().clone();
        for request in self.opening.remove(&name).into_iter().flatten() {
            request.reply_with(Ok(Arc::clone(&room.numbering)));
        }
        self.rooms.insert(name.clone(), room);
        name
    }

    /// Forgets a room and returns the requests by which another subscriber continues with it.
    pub(super) fn release(&mut self, room: &RoomName) -> Vec<SubscriberRequest> {
        let subscribed = self.rooms.remove(room).map(SubscriberRequest::TakeOver);
        let opening = self.opening.remove(room).into_iter().flatten();
        let opening = opening.map(SubscriberRequest::Open);
        subscribed.into_iter().chain(opening).collect()
    }

    /// Learns from Redis which server has which slots.
    pub(super) fn refresh_topology(&mut self) {
        self.client.refresh_topology();
    }

    /// Runs a command. A failure is for the caller to ignore or to report.
    pub(super) fn run(&mut self, command: Cmd) -> Result<(), CommandError> {
        self.client.run_one(command).map(drop)
    }

    /// Takes a request. Returns a room whose channel is to be subscribed first.
    fn open(&mut self, request: OpenRequest) -> Option<RoomName> {
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
        self.state.rooms.len() + self.opening.len() + rooms <= self.state.rooms_max()
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
                self.retry_soon |= server_errors(&reply).any(is_moving);
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

    /// Closes a room's members, so that they reconnect, and continues after this position. The position comes first,
    /// because a client may resume as soon as it is closed.
    fn restart_room(&mut self, name: &RoomName, position: Position) {
        log::warn!(
            "room {name} restarts at offset {}: its members must reconnect",
            position.offset
        );
        let ended = self.rooms.remove(name).map(|room| room.numbering);
        self.start_room(name, position);
        if let Some(ended) = ended {
            ended.end();
            self.delivery.restart(&ended);
        }
    }

    /// Delivers a message that was published in a room, and before it any messages that the subscription missed.
    pub(super) fn deliver(&mut self, name: &RoomName, payload: &[u8]) -> Result<(), Lost> {
        let Some(published) = record::split_published(payload) else {
            log::debug!("room {name}: invalid message of {} bytes", payload.len());
            return Ok(());
        };
        let position = published.position;
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
        let Some(publication) =
            record::decode(name, position.offset, published.ts, published.record)
        else {
            let offset = position.offset;
            return Err(format!(
                "room {name}: offset {offset} is not a message of wscast"
            ));
        };
        room.deliver(Arc::new(publication), published.except, &*self.delivery);
        Ok(())
    }

    /// Delivers the messages up to an offset from history. If Redis does not have all of them any more, the room
    /// restarts, so that its members learn of the gap.
    fn fill_gap(&mut self, name: &RoomName, up_to: u64) -> Result<(), Lost> {
        while let Some(room) = self.rooms.get_mut(name).filter(|room| room.seen < up_to) {
            let query = HistoryQuery {
                since: Some(room.seen),
                messages_max: FILL_MESSAGES_MAX,
                bytes_max: FILL_BYTES_MAX,
                until: None,
            };
            let page = match history::read_page(&mut self.client, &self.state, name, query) {
                Ok(page) => page,
                // The slot may be moving. The room is compared again soon.
                Err(_) if self.state.is_cluster() => {
                    self.retry_soon = true;
                    return Ok(());
                }
                Err(why) => return Err(why.to_string()),
            };
            let epoch = room.numbering.epoch();
            let Some(page) = page.filter(|page| page.epoch == epoch) else {
                // The numbering has restarted meanwhile.
                return self.compare(std::slice::from_ref(name));
            };
            // A message may have been deleted, or its ttl has ended. After `up_to` the subscription delivers it.
            let next = page.messages.into_iter().zip(room.seen + 1..);
            let next = next.take_while(|(message, expected)| message.offset == *expected);
            let before = room.seen;
            for (message, _) in next {
                room.deliver(message, None, &*self.delivery);
            }
            if room.seen == before {
                let offset = up_to;
                self.restart_room(name, Position { epoch, offset });
                return Ok(());
            }
            let filled = room.seen - before;
            self.state.gap_fills.fetch_add(filled, Ordering::Relaxed);
            room.read = room.seen;
        }
        Ok(())
    }
}

/// Returns whether a server rejects a command because the slot moves to another server.
fn is_moving(error: &redis::ServerError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    matches!(error.kind(), Some(Ask | ClusterDown | Moved | TryAgain))
}
