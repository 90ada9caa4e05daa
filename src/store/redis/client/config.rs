//! The settings of all clients of one Redis: its servers, the scripts, and the set-up of new connections.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Client, Cmd, RedisError};

use super::open_connection::OpenConnection;
use super::reply::CommandError;
use super::script::Script;
use super::slots::SlotRange;

/// The configured servers: one (or a proxy in front of a Redis), or some of a Redis Cluster.
#[derive(Clone)]
pub(crate) struct Endpoints(Vec<Client>);

impl Endpoints {
    /// Parses one URL, or several URLs of a cluster separated by commas.
    pub(crate) fn parse(urls: &str) -> Result<Self, RedisError> {
        let clients = urls.split(',').map(|url| Client::open(url.trim()));
        clients.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.0.len() > 1
    }

    pub(crate) fn servers(&self) -> &[Client] {
        &self.0
    }
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
            opened: AtomicU64::new(0),
        }
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
        let cluster = Endpoints::parse("redis://127.0.0.1:1,redis://127.0.0.1:2");
        assert!(cluster.unwrap().is_cluster());
        assert!(Endpoints::parse("http://127.0.0.1/").is_err());
    }
}
