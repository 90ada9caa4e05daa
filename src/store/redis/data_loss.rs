//! Data loss in Redis: counts the restarts of each Redis server after which data may be missing.
//!
//! Every start of a Redis server has a run id. A server whose run id has changed, and that does not restore all its
//! data after a restart, gets a new *generation*: a number kept in Redis itself (`scripts/generation.lua`). The
//! scripts that number messages compare it with the generation of the room: if the server's is higher, offsets that
//! clients have seen may be lost, and numbering restarts in a new epoch.

use std::collections::HashMap;

use parking_lot::Mutex;
use redis::FromRedisValue;

use super::client::{CommandError, OpenConnection, SlotMap, SlotRange, accepted};
use super::names::Names;
use super::scripts;

/// Number of servers whose run ids are remembered. A forgotten server counts as one that may have lost data.
const RUN_IDS_MAX: usize = 1024;

/// The generations of the Redis servers, as far as this node knows.
#[derive(Default)]
pub(super) struct DataLoss {
    /// By slot, because each server of a cluster restarts on its own.
    generations: Mutex<SlotMap>,
    /// The last run id of each server. The map's key is the Redis key of the server's generation.
    run_ids: Mutex<HashMap<String, String>>,
}

/// The facts that a server reports about itself.
struct ServerInfo {
    run_id: String,
    /// True if the server restores all its data after a restart.
    ///
    /// Only an append-only file promises that. A server that was a replica before may have less than the server it
    /// replaced.
    restores_data: bool,
}

impl DataLoss {
    /// The generation of the server that has this slot.
    pub(super) fn generation(&self, slot: u16) -> u64 {
        self.generations.lock().get(slot)
    }

    /// Learns the generation of a server from a new connection to it. `slots` are the server's slots.
    ///
    /// A server that does not report its run id is assumed to keep its data. Scripts compare offsets with those that
    /// nodes have seen in any case.
    pub(super) fn learn(
        &self,
        connection: &mut OpenConnection,
        names: &Names,
        slots: &[SlotRange],
    ) -> Result<(), CommandError> {
        let Some(info) = ServerInfo::read(connection)? else {
            return Ok(());
        };
        let key = names.generation_key(slots);
        let known_generation = self.generations.lock().max(slots);
        let known_run_id = self.run_ids.lock().get(&key).cloned();
        let mut command = scripts::GENERATION.call(std::slice::from_ref(&key));
        command
            .arg(&info.run_id)
            .arg(u8::from(info.restores_data))
            .arg(known_generation)
            .arg(known_run_id.unwrap_or_default());
        // Fails if the server cannot reply yet, because it is full or its cluster is not ready. It must not be
        // written to before a loss of data is ruled out.
        let reply = accepted(connection.run(&[command])?.pop().unwrap_or_default())?;
        if let Ok(generation) = u64::from_redis_value(reply) {
            self.generations.lock().set(slots, generation);
            let mut run_ids = self.run_ids.lock();
            if run_ids.len() >= RUN_IDS_MAX {
                run_ids.clear();
            }
            run_ids.insert(key, info.run_id);
        }
        Ok(())
    }
}

impl ServerInfo {
    /// Reads the facts. `None` if the server does not report them.
    fn read(connection: &mut OpenConnection) -> Result<Option<Self>, CommandError> {
        let command = |section| {
            let mut command = redis::cmd("INFO");
            command.arg(section);
            command
        };
        let sections: Vec<String> = connection
            .run(&["server", "persistence", "replication"].map(command))?
            .into_iter()
            .filter_map(|reply| String::from_redis_value(reply).ok())
            .collect();
        let field = |name: &str| {
            let mut lines = sections.iter().flat_map(|section| section.lines());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let (Some(run_id), Some(aof_enabled)) = (field("run_id"), field("aof_enabled")) else {
            return Ok(None);
        };
        // A promoted replica keeps the id of the replication that it followed before.
        let was_replica = field("master_replid2").is_some_and(|id| id.contains(|c| c != '0'));
        Ok(Some(Self {
            run_id: run_id.to_owned(),
            restores_data: aof_enabled == "1" && !was_replica,
        }))
    }
}
