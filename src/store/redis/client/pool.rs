//! A few clients that many threads share.

use std::sync::Arc;
use std::time::Instant;

use crate::store::pool::Pool;

use super::config::ClientConfig;
use super::redis_client::RedisClient;
use super::reply::{CommandError, REDIS_TIMEOUT};

/// Number of clients. A reply takes well below a millisecond, so few clients serve many threads.
const CLIENTS: usize = 4;

/// Clients for commands that may be repeated, such as reads.
#[derive(Debug)]
pub(crate) struct ClientPool(Pool<RedisClient>);

impl ClientPool {
    /// Creates clients that connect on first use.
    pub(crate) fn new(config: &Arc<ClientConfig>) -> Self {
        let clients = (0..CLIENTS).map(|_| RedisClient::new(Arc::clone(config)));
        Self(Pool::new(clients.collect()))
    }

    /// Calls `run` with a free client. Calls it again if the connection broke, because an idle client does not
    /// notice that until its next command.
    pub(crate) fn with<T>(
        &self,
        run: impl Fn(&mut RedisClient) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let result = self.0.with(|client| {
            let started = Instant::now();
            let result = run(client);
            // After a time-out a retry would time out, too.
            let is_retriable = started.elapsed() < REDIS_TIMEOUT / 2;
            match result {
                Err(CommandError::NoReply(_)) if is_retriable => run(client),
                result => result,
            }
        });
        let busy = || CommandError::NotExecuted("too many requests at once".to_owned());
        result.unwrap_or_else(|| Err(busy()))
    }
}
