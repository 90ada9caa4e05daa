//! What things are called in Redis. Braces mark the part of a key that places it (the hash tag of Redis
//! Cluster), so that all keys of a room are in one place and every script works on one place only.

use crate::protocol::RoomName;

use super::slots::{self, Range};

/// Names tried to find one in a server's slots; a server that has one slot of 16 384 has one of them too, nearly
/// certainly.
const RUN_NAMES_MAX: u32 = 200_000;

/// A node's name: random, so that one that is started anew is another.
pub(super) type NodeName = String;

/// The names of one deployment: several may share a Redis under prefixes of their own.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    /// This node.
    pub(super) node: NodeName,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            node: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// Numbers, log, and both halves of the ids: the keys of the scripts about a room.
    pub(super) fn room(&self, room: &RoomName) -> [String; 4] {
        ["numbers", "log", "ids:0", "ids:1"].map(|what| self.of_room(room, what))
    }

    /// What is published in a room is told here.
    pub(super) fn channel(&self, room: &RoomName) -> String {
        self.of_room(room, "live")
    }

    fn of_room(&self, room: &RoomName, what: &str) -> String {
        format!("{}:{{{room}}}:{what}", self.prefix)
    }

    /// How often the server of these slots was started anew: a key that is there. No room's name has a space in
    /// it.
    pub(super) fn run(&self, slots: &[Range]) -> String {
        let is_there = |name: &String| {
            let slot = slots::slot(name.as_bytes());
            slots.iter().any(|range| range.contains(&slot))
        };
        let first = format!("{}:{{ run}}", self.prefix);
        let others = (0..RUN_NAMES_MAX).map(|n| format!("{}:{{ run {n}}}", self.prefix));
        let mut names = std::iter::once(first.clone()).chain(others);
        names.find(is_there).unwrap_or(first)
    }

    /// The nodes that live.
    pub(super) fn nodes(&self) -> String {
        format!("{}:{{ nodes}}", self.prefix)
    }

    /// The rooms of a node, and who is in them there.
    pub(super) fn rooms_of(&self, node: &str) -> String {
        format!("{}:{{ nodes}}:{node}", self.prefix)
    }

    /// Nodes tell here who is in their rooms.
    pub(super) fn presence(&self) -> String {
        format!("{}: presence", self.prefix)
    }

    /// Nodes tell each other here to close clients.
    pub(super) fn control(&self) -> String {
        format!("{}: control", self.prefix)
    }

    /// What this node tells itself, to wake the thread that listens and to see how long the way is.
    pub(super) fn echo(&self) -> String {
        format!("{}: echo:{}", self.prefix, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_room_are_in_one_place() {
        let names = Names::new("chat");
        let room = RoomName::parse("ops:1").unwrap();
        let keys = names.room(&room);
        assert_eq!(keys[0], "chat:{ops:1}:numbers");
        assert!(keys.iter().all(|key| key.contains("{ops:1}")));
        assert!(names.channel(&room).contains("{ops:1}"));
    }
}
