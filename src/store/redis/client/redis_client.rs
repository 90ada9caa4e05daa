//! Runs commands on one Redis server, or on the servers of a Redis Cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Client, Cmd, ServerErrorKind, Value};

use super::backoff::Backoff;
use super::cluster::{self, Address, Topology};
use super::config::ClientConfig;
use super::connection::ServerConnection;
use super::open_connection::OpenConnection;
use super::reply::{CommandError, REDIS_TIMEOUT, Reply, accepted, server_errors};
use super::slots::{SLOTS, SlotRange, slot_of_command};

/// Least time between two requests for the cluster's topology.
const TOPOLOGY_INTERVAL: Duration = Duration::from_millis(200);

/// A connection to each server, opened on demand.
pub(crate) struct RedisClient {
    config: Arc<ClientConfig>,
    servers: BTreeMap<Address, SlotServer>,
    /// True if slots may have moved to other servers since the topology was learned.
    is_stale: bool,
    topology_at: Option<Instant>,
    topology_backoff: Backoff,
    /// The count of connections opened by all clients when this client last checked.
    opened_seen: u64,
}

struct SlotServer {
    connection: ServerConnection,
    slots: Vec<SlotRange>,
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisClient({})", self.config.endpoints)
    }
}

impl RedisClient {
    /// Creates a client that is not connected yet.
    pub(crate) fn new(config: Arc<ClientConfig>) -> Self {
        let servers = match config.endpoints.servers() {
            [only] if !config.endpoints.is_cluster() => {
                let server = SlotServer {
                    connection: ServerConnection::new(only.clone(), Arc::clone(&config)),
                    slots: vec![0..=SLOTS - 1],
                };
                BTreeMap::from([(Address::default(), server)])
            }
            // The topology of a cluster is learned when the client connects.
            _ => BTreeMap::new(),
        };
        Self {
            is_stale: servers.is_empty(),
            config,
            servers,
            topology_at: None,
            topology_backoff: Backoff::default(),
            opened_seen: 0,
        }
    }

    /// Opens the connections that are closed. Fails if none is open then.
    ///
    /// Opening a connection runs the set-up, which sets arguments of later commands. Build those commands after this
    /// call.
    pub(crate) fn connect(&mut self) -> Result<(), CommandError> {
        if self.is_stale {
            self.learn_topology();
        }
        let opened = self.config.opened();
        let others_opened = std::mem::replace(&mut self.opened_seen, opened) != opened;
        let reason = self.topology_backoff.reason().to_owned();
        let mut result = Err(CommandError::NotExecuted(reason));
        for SlotServer { connection, slots } in self.servers.values_mut() {
            if connection.is_open() {
                result = Ok(());
                continue;
            }
            if others_opened {
                connection.reset_backoff();
            }
            match connection.open(slots) {
                Ok(()) => {
                    self.config.count_opened();
                    result = Ok(());
                }
                Err(why) => {
                    self.is_stale = self.config.endpoints.is_cluster();
                    result = result.or(Err(why));
                }
            }
        }
        result
    }

    /// Sends commands on the open connections and returns one reply per command, in order. All commands are sent
    /// before the first reply is read. Commands for one server reach it in order.
    pub(crate) fn run_connected(&mut self, commands: &[Cmd]) -> Vec<Reply> {
        let no_server = || {
            Err(CommandError::NotExecuted(
                "no server has this slot".to_owned(),
            ))
        };
        let mut replies: Vec<Reply> = commands.iter().map(|_| no_server()).collect();
        let mut waiting = Vec::new();
        for (address, indexes) in self.commands_by_server(commands) {
            let batch: Vec<&Cmd> = indexes.iter().map(|index| &commands[*index]).collect();
            let Some(server) = self.servers.get_mut(&address) else {
                continue;
            };
            match server.connection.send(&batch) {
                Ok(()) => waiting.push((address, indexes, batch)),
                Err(why) => indexes
                    .into_iter()
                    .for_each(|index| replies[index] = Err(why.clone())),
            }
        }
        let deadline = Instant::now() + REDIS_TIMEOUT;
        for (address, indexes, batch) in waiting {
            let Some(server) = self.servers.get_mut(&address) else {
                continue;
            };
            let received = server.connection.receive(&batch, deadline);
            for (index, reply) in indexes.into_iter().zip(received) {
                replies[index] = reply;
            }
        }
        if self.config.endpoints.is_cluster() && replies.iter().any(is_topology_change) {
            self.is_stale = true;
        }
        replies
    }

    /// Connects, sends commands and returns their replies, in order. Fails if one of them has no reply.
    pub(crate) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, CommandError> {
        self.connect()?;
        self.run_connected(commands).into_iter().collect()
    }

    /// Connects and runs one command. An error that Redis returns is an error.
    pub(crate) fn run_one(&mut self, command: Cmd) -> Reply {
        let reply = self.run(&[command])?.pop();
        accepted(reply.ok_or_else(|| CommandError::NoReply("no reply".to_owned()))?)
    }

    /// Connects and pings every server. Fails if one of them does not reply.
    pub(crate) fn ping_all(&mut self) -> Result<(), CommandError> {
        self.connect()?;
        let ping = redis::cmd("PING");
        let ping = [&ping];
        for server in self.servers.values_mut() {
            server.connection.send(&ping)?;
            let deadline = Instant::now() + REDIS_TIMEOUT;
            for reply in server.connection.receive(&ping, deadline) {
                accepted(reply?)?;
            }
        }
        Ok(())
    }

    /// Groups the indexes of commands by the server that has their keys. A command without a server is left out.
    fn commands_by_server(&self, commands: &[Cmd]) -> BTreeMap<Address, Vec<usize>> {
        let mut groups = BTreeMap::<Address, Vec<usize>>::new();
        for (index, command) in commands.iter().enumerate() {
            let slot = slot_of_command(command);
            let can_run = |server: &SlotServer| match slot {
                Some(slot) => server.slots.iter().any(|range| range.contains(&slot)),
                None => server.connection.is_open(),
            };
            let mut servers = self.servers.iter();
            if let Some((address, _)) = servers.find(|(_, server)| can_run(server)) {
                groups.entry(address.clone()).or_default().push(index);
            }
        }
        groups
    }

    /// Learns the cluster's topology again, unless it did so just now.
    pub(crate) fn refresh_topology(&mut self) {
        self.is_stale = true;
        self.learn_topology();
    }

    fn learn_topology(&mut self) {
        let now = Instant::now();
        let is_recent = |at| now.saturating_duration_since(at) < TOPOLOGY_INTERVAL;
        if self.topology_at.is_some_and(is_recent) || self.topology_backoff.blocks(now).is_some() {
            return;
        }
        match self.request_topology() {
            Ok(topology) => self.apply_topology(topology),
            Err(reason) => self.topology_backoff.failed(reason, Instant::now()),
        }
    }

    /// Requests the topology: from connected servers first, because they reply sooner.
    fn request_topology(&mut self) -> Result<Topology, String> {
        for server in self.servers.values_mut() {
            if let Some(topology) = server.connection.request_topology() {
                return Ok(topology);
            }
        }
        let mut reason = "no server knows the cluster's topology".to_owned();
        for client in self.config.servers() {
            match request_from_new_connection(&client) {
                Ok(Some(topology)) => return Ok(topology),
                Ok(None) => {}
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    /// Replaces the servers and keeps the connections of those whose slots are unchanged. A server with other slots
    /// gets a new connection, because the set-up of a connection depends on the slots.
    fn apply_topology(&mut self, topology: Topology) {
        self.config.set_topology(&topology);
        let mut before = std::mem::take(&mut self.servers);
        for (address, slots) in topology {
            let unchanged = before
                .remove(&address)
                .filter(|server| server.slots == slots)
                .map(|server| server.connection);
            if let Some(connection) = unchanged.or_else(|| self.new_connection(&address)) {
                self.servers
                    .insert(address, SlotServer { connection, slots });
            }
        }
        self.is_stale = false;
        self.topology_at = Some(Instant::now());
        self.topology_backoff.succeeded();
    }

    fn new_connection(&self, address: &Address) -> Option<ServerConnection> {
        let client = self.config.server(address)?;
        Some(ServerConnection::new(client, Arc::clone(&self.config)))
    }
}

fn request_from_new_connection(client: &Client) -> Result<Option<Topology>, String> {
    let mut connection = OpenConnection::open(client).map_err(|why| why.to_string())?;
    cluster::request_topology(&mut connection, client).map_err(|why| why.to_string())
}

/// Returns whether a reply means that a slot may have moved to another server.
fn is_topology_change(reply: &Reply) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ReadOnly};
    let Ok(reply) = reply else {
        return true;
    };
    server_errors(reply).any(|error| {
        matches!(
            error.kind(),
            Some(Ask | ClusterDown | MasterDown | Moved | ReadOnly)
        )
    })
}
