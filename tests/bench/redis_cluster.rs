//! A Redis Cluster on the servers' core: masters without replicas that divide the slots.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::redis_server::RedisServer;
use crate::servers::START_DEADLINE;

const SLOTS: usize = 16_384;
const STEP: Duration = Duration::from_millis(50);

/// Starts the masters and waits until each knows of all slots.
pub(crate) fn start(masters: usize, machine: &Machine) -> io::Result<Vec<RedisServer>> {
    let start = |_| RedisServer::start_with(&["--cluster-enabled", "yes"], machine);
    let servers: Vec<RedisServer> = (0..masters).map(start).collect::<io::Result<_>>()?;
    let first = servers.first().map_or(0, RedisServer::port).to_string();
    for (n, server) in servers.iter().enumerate() {
        let (from, after) = (SLOTS * n / masters, SLOTS * (n + 1) / masters);
        let range = [from.to_string(), (after - 1).to_string()];
        server.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
        if n > 0 {
            server.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first])?;
        }
    }
    let deadline = Instant::now() + START_DEADLINE;
    for server in &servers {
        while !server.knows_all_slots()? {
            if Instant::now() > deadline {
                return Err(io::Error::other("the Redis Cluster does not form"));
            }
            thread::park_timeout(STEP);
        }
    }
    Ok(servers)
}

impl RedisServer {
    fn knows_all_slots(&self) -> io::Result<bool> {
        let info: String = self.run(&["CLUSTER", "INFO"])?;
        Ok(info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384"))
    }
}
