//! The state of this node that all threads of the Redis store share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Cmd;

use crate::auth::Revocations;
use crate::config::{LiveConfig, RoomHistory};
use crate::protocol::{Epoch, Position, RoomName};
use crate::store::health::Health;

use super::client::{
    ClientConfig, CommandError, Endpoints, OpenConnection, RedisClient, Script, SlotRange,
    slot_of_key,
};
use super::clock::{self, RedisClock};
use super::data_loss::DataLoss;
use super::lag::LagMeter;
use super::names::Names;
use super::relay::Relay;
use super::scripts;
use super::subscribed_rooms::SubscribedRooms;

/// Time that the newest message of a room without history is stored, for nodes that have missed it.
const UNREADABLE_AGE: Duration = Duration::from_secs(60);

/// The state of this node.
pub(super) struct NodeState {
    pub(super) client_config: Arc<ClientConfig>,
    pub(super) names: Names,
    config: LiveConfig,
    pub(super) rooms: SubscribedRooms,
    pub(super) revocations: Arc<Revocations>,
    /// True if messages can be stored.
    pub(super) publishing: Health,
    /// True if stored messages return through the subscription.
    pub(super) subscription: Health,
    pub(super) relay: Relay,
    pub(super) lag: LagMeter,
    /// Number of live nodes.
    pub(super) nodes: AtomicUsize,
    /// Reconnects of the subscription.
    pub(super) reconnects: AtomicU64,
    /// Messages read from history because the subscription missed them.
    pub(super) gap_fills: AtomicU64,
    data_loss: DataLoss,
    clock: RedisClock,
    is_leaving: AtomicBool,
}

impl NodeState {
    pub(super) fn new(
        endpoints: Endpoints,
        names: Names,
        config: LiveConfig,
        revocations: Arc<Revocations>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|state: &Weak<Self>| {
            let state = state.clone();
            let on_connect =
                move |connection: &mut OpenConnection, slots: &[SlotRange]| match state.upgrade() {
                    Some(state) => state.learn_server(connection, slots),
                    None => Ok(()),
                };
            let client_config = ClientConfig::new(endpoints, &scripts::ALL, Box::new(on_connect));
            Self {
                client_config: Arc::new(client_config),
                names,
                config: config.clone(),
                rooms: SubscribedRooms::default(),
                revocations,
                publishing: Health::of_publishing(),
                subscription: Health::new(
                    "published messages are not received from Redis",
                    "published messages are received from Redis again",
                ),
                relay: Relay::unsharded(),
                lag: LagMeter::new(),
                nodes: AtomicUsize::new(1),
                reconnects: AtomicU64::new(0),
                gap_fills: AtomicU64::new(0),
                data_loss: DataLoss::default(),
                clock: RedisClock::default(),
                is_leaving: AtomicBool::new(false),
            }
        })
    }

    /// Creates a client that is not connected yet.
    pub(super) fn client(&self) -> RedisClient {
        RedisClient::new(Arc::clone(&self.client_config))
    }

    /// Returns whether Redis is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.client_config.endpoints.is_cluster()
    }

    /// Learns the server's generation and clock from a new connection, because both may have changed.
    fn learn_server(
        &self,
        connection: &mut OpenConnection,
        slots: &[SlotRange],
    ) -> Result<(), CommandError> {
        self.data_loss.learn(connection, &self.names, slots)?;
        if !self.is_cluster() {
            self.clock
                .synchronize(&self.names, |commands| connection.run(commands))?;
        }
        Ok(())
    }

    /// Checks that Redis replies, and synchronizes the clocks.
    pub(super) fn check(&self, client: &mut RedisClient) -> Result<(), CommandError> {
        if self.is_cluster() {
            client.ping_all()?;
        }
        self.clock
            .synchronize(&self.names, |commands| client.run(commands))
    }

    /// Returns a time from now by the clock of Redis, in Unix milliseconds. In a cluster each server has a clock of
    /// its own, so there the deadline is never reached.
    pub(super) fn deadline(&self, from_now: Duration) -> i64 {
        if self.is_cluster() {
            i64::MAX
        } else {
            self.clock.after(from_now)
        }
    }

    /// Returns the time by which ages of messages and ids are measured, in milliseconds.
    pub(super) fn steady_now(&self) -> i64 {
        self.clock.steady_now()
    }

    /// Returns a call of a script that numbers rooms of one slot, or of one server that has all slots. Its first
    /// arguments are those of `numbering` in `scripts/prelude.lua`: the epoch if numbering restarts, and the server's
    /// generation. The position that this node has [seen](Self::add_seen) follows later.
    pub(super) fn call_numbering_script(&self, script: &Script, keys: &[String]) -> Cmd {
        let slot = keys.first().map_or(0, |key| slot_of_key(key.as_bytes()));
        let mut command = script.call(keys);
        command
            .arg(Epoch::random().to_string())
            .arg(self.data_loss.generation(slot));
        command
    }

    /// Adds the position that this node has seen or acknowledged to a call of a script that numbers rooms.
    pub(super) fn add_seen(&self, command: &mut Cmd, seen: Option<Position>) {
        match seen {
            Some(seen) => command.arg(seen.epoch.to_string()).arg(seen.offset),
            None => command.arg("").arg(0),
        };
    }

    /// Returns the commands that publish a message to all nodes.
    pub(super) fn publish_to_nodes(
        &self,
        channel: String,
        sharded_channel: String,
        message: &str,
    ) -> Vec<Cmd> {
        let publish = |name: &str, channel: String| {
            let mut command = redis::cmd(name);
            command.arg(channel).arg(message);
            command
        };
        let channels = self.relay.channels();
        let sharded = channels
            .has_sharded()
            .then(|| publish("SPUBLISH", sharded_channel));
        let unsharded = channels
            .has_unsharded()
            .then(|| publish("PUBLISH", channel));
        sharded.into_iter().chain(unsharded).collect()
    }

    /// Ends the heartbeats, before the node reports that it leaves.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// The most rooms that this node may subscribe to.
    pub(super) fn rooms_max(&self) -> usize {
        self.config.get().limits.max_rooms
    }

    /// Returns whether clients may read a room's history.
    pub(super) fn keeps_history(&self, room: &RoomName) -> bool {
        self.config.get().room_history(room).messages > 0
    }

    /// Returns the bounds of a room's messages in Redis. A room without history keeps its newest message for a while,
    /// because a node whose subscription has missed messages finds out from it.
    pub(super) fn stored(&self, room: &RoomName) -> RoomHistory {
        let config = self.config.get();
        let history = config.room_history(room);
        if history.messages > 0 {
            return history;
        }
        RoomHistory {
            messages: 1,
            age: UNREADABLE_AGE.min(config.history.age),
            ..history
        }
    }

    /// Returns the time that a message is kept in rooms without a rule; no rule may exceed it.
    pub(super) fn age_max(&self) -> Duration {
        self.config.get().history.age
    }

    /// Milliseconds for which a room's numbering outlasts its last message.
    pub(super) fn numbering_kept_ms(&self) -> u64 {
        (2 * self.age_max() + clock::JUMP_MAX).as_millis() as u64
    }
}

/// Parses a position from a script's reply.
pub(super) fn parse_position(epoch: &str, offset: u64) -> Option<Position> {
    let epoch = epoch.parse().ok()?;
    Some(Position { epoch, offset })
}
