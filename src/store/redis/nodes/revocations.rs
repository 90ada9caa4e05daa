//! Revoked users, in a sorted set by the time of the revocation, so that all nodes refuse their tokens.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue};

use crate::auth::{REVOCATIONS_MAX, oldest_kept, unix_time};

use super::super::client::{CommandError, RedisClient};
use super::super::node_state::NodeState;
use super::close::revoke_message;

/// Users that one command reads.
const PAGE_USERS: usize = 1000;

/// Returns the commands that keep the revocation of a user and notify the other nodes.
pub(crate) fn revoke_commands(state: &NodeState, user: &str, at: Duration) -> Vec<Cmd> {
    let names = &state.names;
    let mut forget = redis::cmd("ZREMRANGEBYSCORE");
    let oldest = oldest_kept(unix_time()).as_millis() as u64;
    forget.arg(names.revocations_key()).arg("-inf").arg(oldest);
    let mut add = redis::cmd("ZADD");
    add.arg(names.revocations_key())
        .arg(at.as_millis() as u64)
        .arg(user);
    let mut commands = vec![forget, add];
    commands.extend(state.publish_to_nodes(
        names.close_channel(),
        names.sharded_close_channel(),
        &revoke_message(user, at, &names.node),
    ));
    commands
}

/// Adds the revocations in Redis to those of this node. Returns the users whose revocation is new here.
pub(crate) fn read_revocations(
    state: &NodeState,
    client: &mut RedisClient,
) -> Result<Vec<Arc<str>>, CommandError> {
    let mut new = Vec::new();
    for start in (0..REVOCATIONS_MAX).step_by(PAGE_USERS) {
        let mut command = redis::cmd("ZRANGE");
        command
            .arg(state.names.revocations_key())
            .arg(start)
            .arg(start + PAGE_USERS - 1)
            .arg("WITHSCORES");
        let reply = client.run_one(command)?;
        let page = Vec::<(String, f64)>::from_redis_value(reply)
            .map_err(|why| CommandError::NotExecuted(why.to_string()))?;
        let is_last = page.len() < PAGE_USERS;
        for (user, at) in page {
            let at = Duration::from_millis(at as u64);
            if state.revocations.add(&user, at) == Ok(true) {
                new.push(user.into());
            }
        }
        if is_last {
            break;
        }
    }
    Ok(new)
}
