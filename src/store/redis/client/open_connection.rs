//! An open connection to a Redis server, on which every wait is bounded.

use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, RedisError, Value};

use super::reply::{CommandError, REDIS_TIMEOUT, Reply};

/// Least time to wait for a reply after the deadline of its batch, for replies that have arrived already.
const GRACE: Duration = Duration::from_millis(50);

/// An open connection to a server.
pub(crate) struct OpenConnection(Connection);

/// Opens a connection whose reads and writes time out.
pub(crate) fn open_connection(client: &Client) -> Result<Connection, RedisError> {
    // Without Nagle's algorithm (RFC 896), small commands do not wait for each other.
    let info = client.get_connection_info().clone();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_tcp_settings(tcp))?;
    let connection = client.get_connection_with_timeout(REDIS_TIMEOUT)?;
    connection.set_read_timeout(Some(REDIS_TIMEOUT))?;
    connection.set_write_timeout(Some(REDIS_TIMEOUT))?;
    Ok(connection)
}

impl OpenConnection {
    pub(crate) fn open(client: &Client) -> Result<Self, RedisError> {
        open_connection(client).map(Self)
    }

    /// Sends commands and returns their replies, in order.
    pub(crate) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, CommandError> {
        self.send(&commands.iter().collect::<Vec<_>>())?;
        self.receive(commands.len(), Instant::now() + REDIS_TIMEOUT)
            .into_iter()
            .collect()
    }

    /// Sends all commands before the first reply is read.
    pub(crate) fn send(&mut self, commands: &[&Cmd]) -> Result<(), CommandError> {
        let mut packed = Vec::new();
        for command in commands {
            command.write_packed_command(&mut packed);
        }
        let sent = self.0.send_packed_command(&packed);
        sent.map_err(|why| CommandError::NoReply(why.to_string()))
    }

    /// Reads `count` replies. Each read and the whole batch are bounded. After the first failed read the remaining
    /// replies are errors.
    pub(crate) fn receive(&mut self, count: usize, deadline: Instant) -> Vec<Reply> {
        let no_reply = |why: RedisError| CommandError::NoReply(why.to_string());
        let time_left = deadline
            .saturating_duration_since(Instant::now())
            .max(GRACE);
        let deadline = Instant::now() + time_left;
        let mut replies = Vec::with_capacity(count);
        let mut error = self
            .0
            .set_read_timeout(Some(time_left))
            .map_err(no_reply)
            .err();
        while error.is_none() && replies.len() < count {
            match self.0.recv_response() {
                Ok(reply) => replies.push(Ok(reply)),
                Err(why) => error = Some(no_reply(why)),
            }
            if Instant::now() > deadline {
                error = error.or(Some(CommandError::NoReply("too slow".to_owned())));
            }
        }
        let error = error.unwrap_or_else(|| CommandError::NoReply("no reply".to_owned()));
        replies.resize(count, Err(error));
        replies
    }
}
