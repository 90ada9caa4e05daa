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
        // Fails if the server cannot reply yet, because it is full or its cluster is not ready. Nothing may be written
        // to this server before a loss of data is ruled out.
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
    /// Reads the facts. `None` if the server does not report them. Fails while it loads its data.
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
        Self::parse(&sections)
    }

    /// Parses the replies to `INFO`. Fails while Redis loads its data, because it reports `aof_enabled:0`
    /// meanwhile even if it has an append-only file.
    fn parse(sections: &[String]) -> Result<Option<Self>, CommandError> {
        let field = |name: &str| {
            let mut lines = sections.iter().flat_map(|section| section.lines());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        if field("loading") == Some("1") {
            let why = "Redis is loading its data";
            return Err(CommandError::NotExecuted(why.to_owned()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a server's info says about its data, or `None` if it is not known yet.
    fn restores_data(loading: u8, aof_enabled: u8, master_replid2: &str) -> Option<bool> {
        let sections = [
            "# Server\r\nrun_id:1f\r\n".to_owned(),
            format!("# Persistence\r\nloading:{loading}\r\naof_enabled:{aof_enabled}\r\n"),
            format!("# Replication\r\nmaster_replid2:{master_replid2}\r\n"),
        ];
        let info = ServerInfo::parse(&sections).ok()?;
        Some(info.expect("it has a run id").restores_data)
    }

    #[test]
    fn only_a_server_with_an_append_only_file_restores_its_data() {
        assert_eq!(restores_data(0, 1, "0000"), Some(true));
        assert_eq!(restores_data(0, 0, "0000"), Some(false));
        assert_eq!(
            restores_data(0, 1, "00a0"),
            Some(false),
            "a promoted replica"
        );
    }

    /// Redis turns its append-only file off while it reads it.
    #[test]
    fn server_that_loads_its_data_does_not_say_yet_whether_it_restores_all() {
        assert_eq!(restores_data(1, 0, "0000"), None);
        assert_eq!(restores_data(1, 1, "0000"), None);
    }
}
