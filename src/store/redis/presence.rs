//! Nodes tell each other that they live and who is in their rooms: a thread that does it once a second, with
//! whatever has changed since.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, FromRedisValue, Value};

use crate::rooms::LocalMembers;

use super::super::delivery::Delivery;
use super::answer::{LinkError, accepted};
use super::link::Link;
use super::member_list;
use super::names::NodeName;
use super::scripts;
use super::shared::Shared;
use super::view::{self, View};

/// How often a node says that it lives.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which it is taken for dead, and its members with it.
const NODE_LIFETIME: Duration = Duration::from_secs(10);
/// Rooms told of in one message.
const ROOMS_TOLD_AT_ONCE: usize = 200;
/// Bytes of member lists in one message, the last room's list not counted. Redis disconnects a subscriber whose
/// messages it must buffer for long.
const LIST_BYTES_TOLD_AT_ONCE: usize = 256 * 1024;

/// What the thread that listens passes on.
#[derive(Debug)]
pub(super) enum Told {
    /// A node says something of its rooms.
    Presence(Vec<u8>),
    /// Nodes may have said something that did not come.
    Lost,
}

/// What the thread owns.
pub(super) struct Presence {
    pub(super) shared: Arc<Shared>,
    pub(super) delivery: Arc<dyn Delivery>,
    pub(super) told: Receiver<Told>,
    pub(super) link: Link,
    view: View,
    /// Whether what the others have told is to be read anew: some of it may not have come.
    look_again: bool,
    /// Whether all rooms are to be told of: the others may not have what was told before.
    anew: bool,
    /// Until when silence of other nodes says nothing: this one could not hear them.
    patient_until: Instant,
}

impl Presence {
    pub(super) fn new(
        shared: Arc<Shared>,
        delivery: Arc<dyn Delivery>,
        told: Receiver<Told>,
        link: Link,
    ) -> Self {
        Self {
            shared,
            delivery,
            told,
            link,
            view: View::default(),
            look_again: false,
            anew: true,
            patient_until: Instant::now(),
        }
    }

    /// Goes on until the process ends or this node leaves.
    pub(super) fn run(mut self) {
        let mut beat_at = Instant::now();
        while !self.shared.is_leaving() {
            match self.told.recv_deadline(beat_at) {
                Ok(Told::Presence(told)) => self.hear(&told),
                Ok(Told::Lost) => self.look_again = true,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if self.beat().is_err() {
                        self.anew = true;
                        self.patient_until = Instant::now() + NODE_LIFETIME;
                    }
                    beat_at = Instant::now() + BEAT_INTERVAL;
                }
            }
            for (room, elsewhere) in self.view.take_changed() {
                self.delivery.set_remote_members(room, elsewhere);
            }
        }
    }

    fn hear(&mut self, told: &[u8]) {
        let Ok(told) = serde_json::from_slice::<view::Told>(told) else {
            log::debug!("not understood: {} bytes", told.len());
            return;
        };
        if told.node == self.shared.names.node {
            return;
        }
        // What it said before this node was there, is in Redis; if that cannot be read now, with the next beat.
        let is_part = !self.view.knows(&told.node) && !told.leaves && !told.anew;
        if !is_part || self.look_at(&told.node).is_ok() {
            self.view.take(told);
        }
    }

    /// Says that this node lives and what has changed, and hears which others live.
    fn beat(&mut self) -> Result<(), LinkError> {
        let Some(moved) = self.delivery.changed_rooms(self.anew) else {
            return Err(LinkError::NotSent("the broadcaster is busy".to_owned()));
        };
        let mut commands = vec![self.shared.echo()];
        if self.anew {
            let mut void = redis::cmd("DEL");
            void.arg(self.shared.names.rooms_of(&self.shared.names.node));
            commands.push(void);
        }
        commands.extend(beats(&self.shared, &moved, self.anew));
        let answers = self.link.run(&commands)?;
        let accepted: Result<Vec<Value>, LinkError> = answers.into_iter().map(accepted).collect();
        let answer = accepted?.pop().unwrap_or_default();
        let (added, alive) = <(u8, Vec<NodeName>)>::from_redis_value(answer)
            .map_err(|why| LinkError::NotSent(why.to_string()))?;
        // Redis has lost what this node said, and perhaps what all said.
        let lost = added == 1 && !self.anew;
        self.anew = lost;
        if lost {
            self.patient_until = Instant::now() + NODE_LIFETIME;
        }
        self.shared.nodes.store(alive.len(), Ordering::Relaxed);
        for node in &alive {
            let is_known = self.view.knows(node) && !self.look_again;
            if *node != self.shared.names.node && !is_known {
                self.look_at(node)?;
            }
        }
        self.look_again = false;
        if Instant::now() >= self.patient_until {
            self.view.keep_only(&alive);
        }
        Ok(())
    }

    /// Reads what a node has said of all its rooms.
    fn look_at(&mut self, node: &str) -> Result<(), LinkError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.shared.names.rooms_of(node));
        let answer: Value = self.link.run_one(command)?;
        let rooms = HashMap::<String, String>::from_redis_value(answer).unwrap_or_default();
        let members = |(room, text): (String, String)| {
            let members = serde_json::from_str(&text).ok()?;
            Some((room, members))
        };
        self.view.take(view::Told {
            node: node.to_owned(),
            anew: true,
            leaves: false,
            rooms: rooms.into_iter().filter_map(members).collect(),
        });
        Ok(())
    }
}

/// The calls that tell of these rooms; one even if there are none.
fn beats(shared: &Shared, moved: &[LocalMembers], anew: bool) -> Vec<Cmd> {
    let parts = split(moved);
    let firsts = std::iter::once(anew).chain(std::iter::repeat(false));
    let beats = parts.into_iter().zip(firsts);
    beats
        .map(|(rooms, anew)| beat(shared, rooms, anew))
        .collect()
}

/// Splits the rooms into parts for one message each; one part even if there are no rooms.
fn split(moved: &[LocalMembers]) -> Vec<&[LocalMembers]> {
    let mut parts = Vec::new();
    let mut rest = moved;
    let mut list_bytes = 0;
    let mut rooms = 0;
    for local in moved {
        rooms += 1;
        list_bytes += local.clients.as_deref().map_or(0, member_list::byte_len);
        if rooms == ROOMS_TOLD_AT_ONCE || list_bytes >= LIST_BYTES_TOLD_AT_ONCE {
            let (part, later) = rest.split_at(rooms);
            parts.push(part);
            rest = later;
            (rooms, list_bytes) = (0, 0);
        }
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

fn beat(shared: &Shared, moved: &[LocalMembers], anew: bool) -> Cmd {
    let names = &shared.names;
    let told = view::Told {
        node: names.node.clone(),
        leaves: false,
        anew,
        rooms: moved
            .iter()
            .map(|local| (local.room.to_string(), view::members(local)))
            .collect(),
    };
    // Strings and numbers serialised into memory cannot fail.
    let text = match told.rooms.is_empty() && !anew {
        true => String::new(),
        false => serde_json::to_string(&told).unwrap_or_default(),
    };
    let mut command = scripts::BEAT.call(&[names.nodes(), names.rooms_of(&names.node)]);
    command
        .arg(&names.node)
        .arg(NODE_LIFETIME.as_millis() as u64)
        .arg(names.presence())
        .arg(text);
    for (room, members) in &told.rooms {
        let members = match members.0 {
            0 => String::new(),
            _ => serde_json::to_string(members).unwrap_or_default(),
        };
        command.arg(room).arg(members);
    }
    command
}

/// What this node says when it leaves: nobody waits until it is taken for dead.
pub(super) fn farewell(shared: &Shared) -> [Cmd; 3] {
    let names = &shared.names;
    let told = view::Told {
        node: names.node.clone(),
        leaves: true,
        ..view::Told::default()
    };
    let command = |name| redis::cmd(name);
    let (mut void, mut leave, mut tell) = (command("DEL"), command("ZREM"), command("PUBLISH"));
    void.arg(names.rooms_of(&names.node));
    leave.arg(names.nodes()).arg(&names.node);
    tell.arg(names.presence())
        .arg(serde_json::to_string(&told).unwrap_or_default());
    [void, leave, tell]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ClientId, PresentClient, RoomName};

    fn rooms(count: usize, user: Option<&str>) -> Vec<LocalMembers> {
        let client = |n: u64| PresentClient {
            client: ClientId::new(1, n),
            user: user.map(Into::into),
        };
        let room = |n: usize| LocalMembers {
            room: RoomName::parse(&format!("ops:{n}")).unwrap(),
            members: 100,
            clients: Some((0..100).map(client).collect()),
        };
        (0..count).map(room).collect()
    }

    #[test]
    fn heartbeats_are_split_by_rooms_and_by_bytes() {
        let part_sizes = |rooms: &[LocalMembers]| -> Vec<usize> {
            split(rooms).iter().map(|part| part.len()).collect()
        };
        assert_eq!(part_sizes(&[]), [0]);
        let mut empty = rooms(401, None);
        empty.iter_mut().for_each(|room| room.clients = None);
        assert_eq!(part_sizes(&empty), [200, 200, 1]);
        assert_eq!(part_sizes(&empty[..200]), [200]);

        let named = rooms(100, Some(&"u".repeat(128)));
        let parts = split(&named);
        assert!(parts.concat() == named, "every room once, in order");
        for part in parts {
            let lists: Vec<_> = part.iter().map(view::members).collect();
            let bytes = serde_json::to_string(&lists).unwrap().len();
            assert!(bytes < 512 * 1024, "{bytes} bytes");
        }
    }
}
