//! A real Redis Cluster, and nodes that use it.

use super::redis::{DURABLE, is_redis_here, wait_for_roster};
use super::{TestRedis, TestServer, wait_until};

/// Three redis-servers in one Redis Cluster: masters without replicas, each with a third of the slots.
pub struct TestRedisCluster {
    pub servers: Vec<TestRedis>,
}

const SLOTS: usize = 16_384;

/// Runs the scenario with a Redis Cluster. Skips the test where there is no redis-server.
pub fn with_redis_cluster(scenario: impl FnOnce(TestRedisCluster)) {
    if is_redis_here() {
        scenario(TestRedisCluster::start(&[]));
    }
}

/// Runs the scenario with a Redis Cluster whose servers keep all their data over a restart.
pub fn with_durable_redis_cluster(scenario: impl FnOnce(TestRedisCluster)) {
    if is_redis_here() {
        scenario(TestRedisCluster::start(&DURABLE));
    }
}

impl TestRedisCluster {
    /// While one server is down, its slots are refused and those of the others work.
    fn start(args: &[&str]) -> Self {
        let flags = [
            "--cluster-enabled",
            "yes",
            "--cluster-require-full-coverage",
            "no",
            "--cluster-node-timeout",
            "2000",
        ];
        let flags = [&flags[..], args].concat();
        let servers = (0..3).map(|_| TestRedis::start(&flags)).collect();
        let cluster = Self { servers };
        let first = cluster.servers[0].port().to_string();
        for (n, server) in cluster.servers.iter().enumerate() {
            let (from, to) = (cluster.first_slot(n), cluster.first_slot(n + 1) - 1);
            let range = [from.to_string(), to.to_string()];
            server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            server.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first]);
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Blocks until every server knows of all slots.
    pub fn wait_until_whole(&self) {
        for server in &self.servers {
            wait_until("the cluster is whole", || {
                let info: String = server.command(&["CLUSTER", "INFO"]);
                let has = |line: &str| info.contains(line);
                has("cluster_state:ok") && has("cluster_slots_ok:16384")
            });
        }
    }

    fn first_slot(&self, server: usize) -> usize {
        SLOTS * server / self.servers.len()
    }

    /// Returns the index of the server that has this room.
    pub fn server_of(&self, room: &str) -> usize {
        let slot: usize = self.servers[0].command(&["CLUSTER", "KEYSLOT", room]);
        let servers = 0..self.servers.len();
        let mut candidates = servers.filter(|n| slot >= self.first_slot(*n));
        candidates.next_back().expect("a server")
    }

    pub fn url(&self) -> String {
        let urls: Vec<String> = self.servers.iter().map(TestRedis::url).collect();
        urls.join(",")
    }

    /// Starts `count` nodes and waits until each knows of all.
    pub fn nodes(&self, count: usize, args: &[&str]) -> Vec<TestServer> {
        let url = self.url();
        let start = |_| TestServer::start(&[&["--redis", &url], args].concat());
        let nodes: Vec<TestServer> = (0..count).map(start).collect();
        wait_for_roster(&nodes);
        nodes
    }
}
