//! The settings of all clients of one Redis: its servers, the scripts, and the set-up of new connections.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::{Client, Cmd, FromRedisValue, RedisError};

use super::address;
use super::cluster::{Address, Topology, client_for};
use super::open_connection::OpenConnection;
use super::reply::CommandError;
use super::script::Script;
use super::slots::SlotRange;

/// The configured servers: one (or a proxy in front of a Redis), or some of a Redis Cluster.
#[derive(Clone)]
pub(crate) struct Endpoints {
    servers: Vec<Client>,
    is_cluster: bool,
}

impl Endpoints {
    /// Parses one URL, or several URLs of a cluster separated by commas. An error does not repeat them.
    pub(crate) fn parse(urls: &str) -> Result<Self, &'static str> {
        let open =
            |url: &str| Client::open(address::parse(url)?).map_err(|_| "not a valid address");
        let urls = address::split_list(urls);
        let servers: Vec<Client> = urls.into_iter().map(open).collect::<Result<_, _>>()?;
        let mut databases = servers.iter().map(database);
        let first = databases.next();
        if databases.any(|database| Some(database) != first) {
            return Err("all addresses in a list have the same database");
        }
        Ok(Self {
            is_cluster: servers.len() > 1,
            servers,
        })
    }

    /// Asks a single server whether it belongs to a Redis Cluster. The configuration endpoint of a managed cluster is
    /// one address for all of its servers.
    pub(crate) fn detect_cluster(&mut self) -> Result<(), RedisError> {
        let [only] = &*self.servers else {
            return Ok(());
        };
        let mut command = redis::cmd("INFO");
        command.arg("cluster");
        // A proxy that does not know the command counts as a single server.
        let reply = OpenConnection::open(only)?.run(&[command]).ok();
        let info = reply.and_then(|mut replies| String::from_redis_value(replies.pop()?).ok());
        self.is_cluster = info.is_some_and(|info| {
            info.lines()
                .any(|line| line.trim_end() == "cluster_enabled:1")
        });
        Ok(())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    pub(crate) fn servers(&self) -> &[Client] {
        &self.servers
    }

    /// The number of the database that all connections use.
    pub(crate) fn database(&self) -> i64 {
        self.servers.first().map_or(0, database)
    }
}

fn database(client: &Client) -> i64 {
    client.get_connection_info().redis_settings().db()
}

/// The addresses without users and passwords.
impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |client: &Client| client.get_connection_info().addr().to_string();
        let addresses: Vec<String> = self.servers().iter().map(address).collect();
        f.write_str(&addresses.join(","))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoints({self})")
    }
}

/// Runs on every new connection, with the slots of its server, before the first command.
type OnConnect =
    Box<dyn Fn(&mut OpenConnection, &[SlotRange]) -> Result<(), CommandError> + Send + Sync>;

/// The settings of all clients of one Redis.
pub(crate) struct ClientConfig {
    pub(crate) endpoints: Endpoints,
    scripts: &'static [&'static Script],
    on_connect: OnConnect,
    /// The cluster's last known topology.
    topology: Mutex<Topology>,
    /// Changes of the topology.
    topology_changes: AtomicU64,
    /// Connections opened by all clients. A client whose server is in backoff retries at once after another client
    /// has succeeded.
    opened: AtomicU64,
}

impl ClientConfig {
    pub(crate) fn new(
        endpoints: Endpoints,
        scripts: &'static [&'static Script],
        on_connect: OnConnect,
    ) -> Self {
        Self {
            endpoints,
            scripts,
            on_connect,
            topology: Mutex::default(),
            topology_changes: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// Returns the servers to connect to: the configured ones, and those of the cluster's last known topology.
    pub(crate) fn servers(&self) -> Vec<Client> {
        let topology = self.topology.lock();
        let learned = topology.keys().filter_map(|address| self.server(address));
        let configured = self.endpoints.servers().iter().cloned();
        configured.chain(learned).collect()
    }

    /// Returns how to connect to a server of the cluster.
    pub(crate) fn server(&self, address: &Address) -> Option<Client> {
        client_for(self.endpoints.servers().first()?, address)
    }

    /// Records the topology that a client has learned.
    pub(crate) fn set_topology(&self, topology: &Topology) {
        let mut known = self.topology.lock();
        if *known != *topology {
            known.clone_from(topology);
            self.topology_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of changes of the topology so far.
    pub(crate) fn topology_changes(&self) -> u64 {
        self.topology_changes.load(Ordering::Relaxed)
    }

    /// Returns the server that has this slot. `None` if no client has learned it yet.
    pub(crate) fn owner_of(&self, slot: u16) -> Option<Address> {
        let topology = self.topology.lock();
        let has_slot = |ranges: &Vec<SlotRange>| ranges.iter().any(|range| range.contains(&slot));
        let mut servers = topology.iter();
        let owner = servers.find(|(_, ranges)| has_slot(ranges));
        owner.map(|(address, _)| address.clone())
    }

    /// Returns the slots of a server; none if it is not in the topology.
    pub(crate) fn slots_of(&self, address: &Address) -> Vec<SlotRange> {
        self.topology
            .lock()
            .get(address)
            .cloned()
            .unwrap_or_default()
    }

    /// Prepares a new connection for commands.
    pub(crate) fn set_up(
        &self,
        connection: &mut OpenConnection,
        slots: &[SlotRange],
    ) -> Result<(), CommandError> {
        connection.run(&self.load_scripts())?;
        (self.on_connect)(connection, slots)
    }

    pub(crate) fn load_scripts(&self) -> Vec<Cmd> {
        self.scripts.iter().map(|script| script.load()).collect()
    }

    pub(crate) fn count_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shown_without_its_password() {
        let endpoints = Endpoints::parse("redis://user:secret@127.0.0.1:7000/2").unwrap();
        assert_eq!(endpoints.to_string(), "127.0.0.1:7000");
        assert!(!format!("{endpoints:?}").contains("secret"));
        assert_eq!(endpoints.database(), 2);
        let cluster = Endpoints::parse("redis://127.0.0.1:1,redis://127.0.0.1:2");
        assert!(cluster.unwrap().is_cluster());
        assert!(Endpoints::parse("http://127.0.0.1/").is_err());
        assert!(Endpoints::parse("redis://127.0.0.1:1/1,redis://127.0.0.1:2/2").is_err());
    }
}
