//! A real Redis Cluster, and nodes that use it.

use super::redis::{DURABLE, is_redis_here, wait_for_roster};
use super::{TestRedis, TestServer, wait_until};

/// Three redis-servers in one Redis Cluster: masters without replicas, each with a third of the slots.
pub struct TestRedisCluster {
    pub servers: Vec<TestRedis>,
}

const SLOTS: usize = 16_384;
/// While one server is down, its slots are refused and those of the others work.
const CLUSTER_FLAGS: [&str; 6] = [
    "--cluster-enabled",
    "yes",
    "--cluster-require-full-coverage",
    "no",
    "--cluster-node-timeout",
    "2000",
];

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
    fn start(args: &[&str]) -> Self {
        let flags = [&CLUSTER_FLAGS[..], args].concat();
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

    /// Moves the slot of a room from one server to another, with its keys, as `redis-cli --cluster reshard` does.
    pub fn move_slot_of(&self, room: &str, from: usize, to: usize) {
        let slot: u16 = self.servers[0].command(&["CLUSTER", "KEYSLOT", room]);
        let slot = slot.to_string();
        let ids = [from, to].map(|server: usize| self.id_of(server));
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let set = |server: &TestRedis, state: &str, id: &str| {
            server.command::<()>(&["CLUSTER", "SETSLOT", &slot, state, id]);
        };
        set(target, "IMPORTING", &ids[0]);
        set(source, "MIGRATING", &ids[1]);
        let port = target.port().to_string();
        loop {
            let keys: Vec<String> = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            if keys.is_empty() {
                break;
            }
            let start = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            source.command::<()>(&[&start[..], &keys].concat());
        }
        for server in [to, from] {
            set(&self.servers[server], "NODE", &ids[1]);
        }
        for server in &self.servers {
            wait_until("every server knows who has the slot", || {
                let nodes: String = server.command(&["CLUSTER", "NODES"]);
                let owner = nodes.lines().find(|line| line.starts_with(&ids[1]));
                let slots = owner.expect("the server").split(' ').skip(8);
                let number: usize = slot.parse().expect("a slot");
                slots.into_iter().any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let bounds = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
                    bounds.is_some_and(|(first, last)| (first..=last).contains(&number))
                })
            });
        }
    }

    /// Starts a replica of a server and waits until it could take over.
    pub fn start_replica_of(&self, server: usize) -> TestRedis {
        let replica = TestRedis::start(&CLUSTER_FLAGS);
        let port = self.servers[server].port().to_string();
        replica.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port]);
        let id = self.id_of(server);
        wait_until("the replica knows the server", || {
            let nodes: String = replica.command(&["CLUSTER", "NODES"]);
            nodes.contains(&id) && nodes.lines().count() == self.servers.len() + 1
        });
        replica.command::<()>(&["CLUSTER", "REPLICATE", &id]);
        wait_until("the replica has all data", || {
            let info: String = replica.command(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
        for server in &self.servers {
            wait_until("every server knows the replica", || {
                let nodes: String = server.command(&["CLUSTER", "NODES"]);
                nodes.contains(" slave ") || nodes.contains(",slave ")
            });
        }
        replica
    }

    fn id_of(&self, server: usize) -> String {
        self.servers[server].command(&["CLUSTER", "MYID"])
    }

    /// Starts a node.
    pub fn node(&self, args: &[&str]) -> TestServer {
        let url = self.url();
        TestServer::start(&[&["--redis", &url], args].concat())
    }

    pub fn url(&self) -> String {
        let urls: Vec<String> = self.servers.iter().map(TestRedis::url).collect();
        urls.join(",")
    }

    /// Starts `count` nodes and waits until each knows of all.
    pub fn nodes(&self, count: usize, args: &[&str]) -> Vec<TestServer> {
        let nodes: Vec<TestServer> = (0..count).map(|_| self.node(args)).collect();
        wait_for_roster(&nodes);
        nodes
    }
}
