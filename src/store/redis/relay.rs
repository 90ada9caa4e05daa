//! Chooses the channels through which messages reach the nodes.
//!
//! Every server of a Redis Cluster relays every message of a channel. A *sharded* channel is relayed by one server
//! only, that of its slot, so that a cluster divides the relaying as it divides the rooms. This needs Redis 7, and
//! nodes that receive sharded channels. While a node without sharded channels (an *unsharded* node) is live, every node
//! publishes on both kinds and receives the unsharded one. Each node therefore receives each message once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{FromRedisValue, Value};

use super::client::{
    ClientConfig, CommandError, OpenConnection, RedisClient, accepted, error_text, slot_of_key,
};
use super::names::Names;

/// Time for which nodes publish on both kinds of channels after the last unsharded node was live. By then every other
/// node has noticed.
const BOTH_TIME: Duration = Duration::from_secs(20);
/// Time until a node receives unsharded channels after an unsharded node has joined. By then every other node publishes
/// on both.
const SWITCH_DELAY: Duration = Duration::from_secs(3);

/// The channels on which a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Unsharded,
    Sharded,
    Both,
}

/// The kind of channels that a node uses.
#[derive(Debug)]
pub(super) struct Relay {
    /// True if Redis and this node can use sharded channels.
    is_possible: AtomicBool,
    /// True once the log has the reason why it is not possible.
    is_logged: AtomicBool,
    unsharded: Mutex<UnshardedNodes>,
}

/// The live nodes that do not receive sharded channels.
#[derive(Debug, Default)]
struct UnshardedNodes {
    /// The time from which this node receives unsharded channels; `None` while no such node is live.
    receive_from: Option<Instant>,
    /// The time until which this node publishes on both kinds of channels.
    publish_until: Option<Instant>,
}

impl Relay {
    /// The relay of a single Redis server, and of a cluster until sharded channels are found to work.
    pub(super) fn unsharded() -> Self {
        Self {
            is_possible: AtomicBool::new(false),
            is_logged: AtomicBool::new(false),
            unsharded: Mutex::default(),
        }
    }

    /// Returns whether this node can receive sharded channels.
    pub(super) fn is_possible(&self) -> bool {
        self.is_possible.load(Ordering::Relaxed)
    }

    /// Returns whether this node receives sharded channels now.
    pub(super) fn receives_sharded(&self) -> bool {
        let receive_from = self.unsharded.lock().receive_from;
        self.is_possible() && receive_from.is_none_or(|at| Instant::now() < at)
    }

    /// Returns the channels to publish on.
    pub(super) fn channels(&self) -> Channels {
        if !self.is_possible() {
            return Channels::Unsharded;
        }
        let until = self.unsharded.lock().publish_until;
        match until.is_some_and(|until| Instant::now() < until) {
            true => Channels::Both,
            false => Channels::Sharded,
        }
    }

    /// Records whether unsharded nodes are live.
    pub(super) fn observe(&self, has_unsharded: bool) {
        let (mut nodes, now) = (self.unsharded.lock(), Instant::now());
        if has_unsharded {
            nodes.receive_from.get_or_insert(now + SWITCH_DELAY);
            nodes.publish_until = Some(now + BOTH_TIME);
        } else {
            nodes.receive_from = None;
        }
    }

    /// Uses sharded channels if the cluster accepts them, and otherwise logs the reason.
    pub(super) fn detect(
        &self,
        config: &ClientConfig,
        client: &mut RedisClient,
        names: &Names,
    ) -> Result<(), CommandError> {
        match try_sharded(config, client, names)? {
            Ok(()) => {
                if has_unsharded_nodes(client, names)? {
                    self.observe(true);
                    // Nothing is subscribed yet, so nothing has to wait.
                    self.unsharded.lock().receive_from = Some(Instant::now());
                }
                self.is_possible.store(true, Ordering::Relaxed);
            }
            Err(why) => self.give_up(&why),
        }
        Ok(())
    }

    /// Uses unsharded channels from now on, because a server rejects the others.
    pub(super) fn give_up(&self, why: &str) {
        self.is_possible.store(false, Ordering::Relaxed);
        if self.is_logged.swap(true, Ordering::Relaxed) {
            return;
        }
        log::warn!(
            "every server of the cluster relays every message, because sharded channels are refused ({why}); \
             they need Redis 7 and a user with +ssubscribe +sunsubscribe +spublish"
        );
    }
}

impl Channels {
    /// The word of the scripts.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unsharded => "unsharded",
            Self::Sharded => "sharded",
            Self::Both => "both",
        }
    }

    pub(super) fn has_sharded(self) -> bool {
        self != Self::Unsharded
    }

    pub(super) fn has_unsharded(self) -> bool {
        self != Self::Sharded
    }
}

/// Publishes and subscribes to a sharded channel. Returns the reason if the server refuses.
fn try_sharded(
    config: &ClientConfig,
    client: &mut RedisClient,
    names: &Names,
) -> Result<Result<(), String>, CommandError> {
    let channel = names.sharded_echo_channel(&[slot_of_nodes(names)..=slot_of_nodes(names)]);
    let mut publish = redis::cmd("SPUBLISH");
    publish.arg(&channel).arg("");
    if let Value::ServerError(error) = client.run(&[publish])?.pop().unwrap_or_default() {
        return Ok(Err(error_text(&error)));
    }
    let owner = config.owner_of(slot_of_key(channel.as_bytes()));
    let Some(server) = owner.and_then(|address| config.server(&address)) else {
        return Ok(Err("no server has the slot".to_owned()));
    };
    let not_executed = |why: redis::RedisError| CommandError::NotExecuted(why.to_string());
    let mut connection = OpenConnection::open(&server).map_err(not_executed)?;
    let mut subscribe = redis::cmd("SSUBSCRIBE");
    subscribe.arg(&channel);
    match connection.run(&[subscribe])?.pop() {
        Some(Value::ServerError(error)) => Ok(Err(error_text(&error))),
        _ => Ok(Ok(())),
    }
}

fn slot_of_nodes(names: &Names) -> u16 {
    slot_of_key(names.nodes_key().as_bytes())
}

/// Returns whether nodes are known that do not receive sharded channels.
fn has_unsharded_nodes(client: &mut RedisClient, names: &Names) -> Result<bool, CommandError> {
    let members = |key: String| {
        let mut command = redis::cmd("ZRANGE");
        command.arg(key).arg(0).arg(-1);
        command
    };
    let commands = [names.nodes_key(), names.sharded_nodes_key()].map(members);
    let replies = client.run(&commands)?;
    let [nodes, sharded] = <[Value; 2]>::try_from(replies).unwrap_or_default();
    let parse =
        |reply: Value| Ok(Vec::<String>::from_redis_value(accepted(reply)?).unwrap_or_default());
    let (nodes, sharded) = (parse(nodes)?, parse(sharded)?);
    Ok(nodes.iter().any(|node| !sharded.contains(node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_channels_are_used_while_an_unsharded_node_is_live_and_some_time_after() {
        let relay = Relay::unsharded();
        assert_eq!(relay.channels(), Channels::Unsharded);
        assert!(!relay.receives_sharded());
        relay.is_possible.store(true, Ordering::Relaxed);
        assert_eq!(relay.channels(), Channels::Sharded);
        assert!(relay.receives_sharded());
        relay.observe(true);
        assert_eq!(relay.channels(), Channels::Both);
        assert!(relay.receives_sharded(), "other nodes do not know yet");
        relay.unsharded.lock().receive_from = Some(Instant::now());
        assert!(!relay.receives_sharded());
        relay.observe(false);
        assert!(relay.receives_sharded());
        assert_eq!(
            relay.channels(),
            Channels::Both,
            "other nodes do not know yet"
        );
        relay.unsharded.lock().publish_until = Some(Instant::now());
        assert_eq!(relay.channels(), Channels::Sharded);
    }
}
