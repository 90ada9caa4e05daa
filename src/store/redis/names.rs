//! The names of keys and channels in Redis.
//!
//! Braces mark a key's hash tag: Redis Cluster keeps keys of one hash tag on one server. All keys of a script must
//! therefore have the same hash tag. A room's name has no space, so names with a space never clash with a room's.

use crate::protocol::RoomName;

use super::client::{SlotRange, slot_of_key};

/// Maximum number of names tried to find one in a server's slots. It is large enough even for a server that has a
/// single slot of 16 384.
const NUMBERED_NAMES_MAX: u32 = 200_000;

/// A node's name: random, so that a node that restarts has a new name.
pub(super) type NodeName = String;

/// The names of one deployment. Deployments that share a Redis have different prefixes or different databases.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    /// The prefix of all channels. Redis shares channels between its databases, so databases other than 0 add their
    /// number.
    channel_prefix: String,
    /// The name of this node.
    pub(super) node: NodeName,
}

impl Names {
    pub(super) fn new(prefix: &str, database: i64) -> Self {
        let channel_prefix = match database {
            0 => prefix.to_owned(),
            database => format!("{prefix}: db {database}"),
        };
        Self {
            prefix: prefix.to_owned(),
            channel_prefix,
            node: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// The keys of every script about a room: its numbering, its log, both halves of its recent ids, and the times at
    /// which the ttl of its messages ends.
    pub(super) fn room_keys(&self, room: &RoomName) -> [String; 5] {
        ["numbers", "log", "ids:0", "ids:1", "expiring"]
            .map(|suffix| format!("{}:{{{room}}}:{suffix}", self.prefix))
    }

    /// The channel of a room's messages.
    pub(super) fn room_channel(&self, room: &RoomName) -> String {
        format!("{}:{{{room}}}:live", self.channel_prefix)
    }

    /// The key of a server's generation, chosen so that it is in one of the server's own slots.
    pub(super) fn generation_key(&self, slots: &[SlotRange]) -> String {
        find_in_slots(slots, " run", |tag| format!("{}:{{{tag}}}", self.prefix))
    }

    /// The key of the steady clock.
    pub(super) fn clock_key(&self) -> String {
        format!("{}:{{ clock}}", self.prefix)
    }

    /// The key of the live nodes that receive messages on sharded channels.
    pub(super) fn sharded_nodes_key(&self) -> String {
        format!("{}:{{ nodes}}: sharded", self.prefix)
    }

    /// The key of the live nodes.
    pub(super) fn nodes_key(&self) -> String {
        format!("{}:{{ nodes}}", self.prefix)
    }

    /// The key of a node's rooms and their members there.
    pub(super) fn node_rooms_key(&self, node: &str) -> String {
        format!("{}:{{ nodes}}:{node}", self.prefix)
    }

    /// The key of the revoked users.
    pub(super) fn revocations_key(&self) -> String {
        format!("{}:{{ nodes}}: revoked", self.prefix)
    }

    /// The key of the lease of the node that sends webhooks.
    pub(super) fn lease_key(&self) -> String {
        format!("{}:{{ nodes}}: webhook", self.prefix)
    }

    /// The key of the first serial of the last node that took the lease.
    pub(super) fn lease_serial_key(&self) -> String {
        format!("{}:{{ nodes}}: webhook serial", self.prefix)
    }

    /// The channel on which nodes report the members of their rooms.
    pub(super) fn report_channel(&self) -> String {
        format!("{}: presence", self.channel_prefix)
    }

    /// The channel on which nodes ask each other to close clients.
    pub(super) fn close_channel(&self) -> String {
        format!("{}: control", self.channel_prefix)
    }

    /// The sharded channel on which nodes report the members of their rooms.
    pub(super) fn sharded_report_channel(&self) -> String {
        format!("{}:{{ nodes}}: presence", self.channel_prefix)
    }

    /// The sharded channel on which nodes ask each other to close clients.
    pub(super) fn sharded_close_channel(&self) -> String {
        format!("{}:{{ nodes}}: control", self.channel_prefix)
    }

    /// The sharded channel on which this node publishes to itself through a server that has these slots.
    pub(super) fn sharded_echo_channel(&self, slots: &[SlotRange]) -> String {
        let channel =
            |tag: String| format!("{}:{{{tag}}}: echo:{}", self.channel_prefix, self.node);
        find_in_slots(slots, " echo", channel)
    }

    /// The channel on which this node publishes to itself, to measure the lag and to wake its subscriber.
    pub(super) fn echo_channel(&self) -> String {
        format!("{}: echo:{}", self.channel_prefix, self.node)
    }
}

/// Returns the first name in these slots among those that `name` makes of numbered hash tags.
fn find_in_slots(slots: &[SlotRange], tag: &str, name: impl Fn(String) -> String) -> String {
    let is_in_slots = |name: &String| {
        let slot = slot_of_key(name.as_bytes());
        slots.iter().any(|range| range.contains(&slot))
    };
    let first = name(tag.to_owned());
    let others = (0..NUMBERED_NAMES_MAX).map(|n| name(format!("{tag} {n}")));
    std::iter::once(first.clone())
        .chain(others)
        .find(is_in_slots)
        .unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_room_are_in_one_slot() {
        let names = Names::new("chat", 0);
        let room = RoomName::parse("ops:1").unwrap();
        let keys = names.room_keys(&room);
        assert_eq!(keys[0], "chat:{ops:1}:numbers");
        assert!(keys.iter().all(|key| key.contains("{ops:1}")));
        assert!(names.room_channel(&room).contains("{ops:1}"));
    }

    #[test]
    fn channels_have_the_number_of_the_database() {
        let room = RoomName::lobby();
        let channels = |database| {
            let mut names = Names::new("chat", database);
            names.node = "n".to_owned();
            [
                names.room_channel(&room),
                names.report_channel(),
                names.close_channel(),
                names.echo_channel(),
            ]
        };
        let of_earlier_versions = [
            "chat:{lobby}:live",
            "chat: presence",
            "chat: control",
            "chat: echo:n",
        ];
        assert_eq!(channels(0), of_earlier_versions);
        assert_eq!(
            channels(12)[..2],
            ["chat: db 12:{lobby}:live", "chat: db 12: presence"]
        );
        assert!(
            channels(1)
                .iter()
                .all(|channel| !channels(12).contains(channel))
        );
    }
}
