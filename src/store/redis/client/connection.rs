//! A connection to one Redis server that is opened on demand and reopened with backoff.

use std::sync::Arc;
use std::time::Instant;

use redis::{Client, Cmd, ServerError, ServerErrorKind, Value};

use super::backoff::Backoff;
use super::cluster::{self, Topology};
use super::config::ClientConfig;
use super::open_connection::OpenConnection;
use super::reply::{CommandError, REDIS_TIMEOUT, Reply, server_errors};
use super::slots::SlotRange;

/// A server and the connection to it, which is opened on demand.
pub(crate) struct ServerConnection {
    client: Client,
    config: Arc<ClientConfig>,
    connection: Option<OpenConnection>,
    backoff: Backoff,
}

impl ServerConnection {
    pub(crate) fn new(client: Client, config: Arc<ClientConfig>) -> Self {
        Self {
            client,
            config,
            connection: None,
            backoff: Backoff::default(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Lets the next [`open`](Self::open) retry at once.
    pub(crate) fn reset_backoff(&mut self) {
        self.backoff.succeeded();
    }

    /// Opens and sets up the connection if it is closed and the backoff is over. `slots` are the server's slots.
    pub(crate) fn open(&mut self, slots: &[SlotRange]) -> Result<(), CommandError> {
        if self.is_open() {
            return Ok(());
        }
        if let Some(reason) = self.backoff.blocks(Instant::now()) {
            return Err(CommandError::NotExecuted(reason.to_owned()));
        }
        match self.open_and_set_up(slots) {
            Ok(connection) => {
                self.backoff.succeeded();
                self.connection = Some(connection);
                Ok(())
            }
            Err(reason) => {
                self.backoff.failed(reason.clone(), Instant::now());
                Err(CommandError::NotExecuted(reason))
            }
        }
    }

    fn open_and_set_up(&self, slots: &[SlotRange]) -> Result<OpenConnection, String> {
        let mut connection = OpenConnection::open(&self.client).map_err(|why| why.to_string())?;
        self.config
            .set_up(&mut connection, slots)
            .map_err(|why| why.to_string())?;
        Ok(connection)
    }

    /// Sends commands on the open connection. Their replies must be [received](Self::receive).
    pub(crate) fn send(&mut self, commands: &[&Cmd]) -> Result<(), CommandError> {
        let Some(connection) = &mut self.connection else {
            let reason = match self.backoff.reason() {
                "" => "not connected",
                reason => reason,
            };
            return Err(CommandError::NotExecuted(reason.to_owned()));
        };
        let sent = connection.send(commands);
        sent.inspect_err(|_| self.connection = None)
    }

    /// Receives the replies to the commands sent, in order. A connection that cannot be used any more is closed.
    pub(crate) fn receive(&mut self, commands: &[&Cmd], deadline: Instant) -> Vec<Reply> {
        let Some(connection) = &mut self.connection else {
            let error = CommandError::NoReply("not connected".to_owned());
            return vec![Err(error); commands.len()];
        };
        let mut replies = connection.receive(commands.len(), deadline);
        if let Err(why) = self.retry_unknown_scripts(commands, &mut replies) {
            log::debug!("cannot load scripts into Redis: {why}");
            self.connection = None;
        }
        if replies.iter().any(Result::is_err) {
            self.connection = None;
        }
        if replies
            .iter()
            .flatten()
            .flat_map(server_errors)
            .any(is_read_only)
        {
            self.connection = None;
            let reason = "this server is a replica and does not accept writes";
            self.backoff.failed(reason.to_owned(), Instant::now());
        }
        replies
    }

    /// Requests the cluster's topology from this server. `None` if the connection is closed or fails.
    pub(crate) fn request_topology(&mut self) -> Option<Topology> {
        let topology = cluster::request_topology(self.connection.as_mut()?, &self.client);
        if topology.is_err() {
            self.connection = None;
        }
        topology.ok()?
    }

    /// Loads the scripts and calls them again if the server did not know them. Such a server has restarted and has not
    /// executed those calls.
    fn retry_unknown_scripts(
        &mut self,
        commands: &[&Cmd],
        replies: &mut [Reply],
    ) -> Result<(), CommandError> {
        let is_unknown = |reply: &Reply| {
            matches!(reply, Ok(Value::ServerError(error))
                if error.kind() == Some(ServerErrorKind::NoScript))
        };
        let unknown: Vec<usize> = (0..replies.len())
            .filter(|index| is_unknown(&replies[*index]))
            .collect();
        if unknown.is_empty() || replies.iter().any(Result::is_err) {
            return Ok(());
        }
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        connection.run(&self.config.load_scripts())?;
        let retried: Vec<&Cmd> = unknown.iter().map(|index| commands[*index]).collect();
        connection.send(&retried)?;
        let retried = connection.receive(retried.len(), Instant::now() + REDIS_TIMEOUT);
        for (index, reply) in unknown.into_iter().zip(retried) {
            replies[index] = reply;
        }
        Ok(())
    }
}

/// Returns whether the server has become a replica, so that writes must go to another server.
fn is_read_only(error: &ServerError) -> bool {
    use ServerErrorKind::{MasterDown, ReadOnly};
    matches!(error.kind(), Some(MasterDown | ReadOnly))
}
