//! The lease of the node that sends webhooks: one node at a time has it.

use std::time::Duration;

use redis::{Cmd, FromRedisValue};

use crate::store::api::Lease;

use super::client::{CommandError, RedisClient, accepted};
use super::names::Names;
use super::scripts;

/// More serials than one node uses while it has the lease. If the clock of Redis was set back, the next node starts after
/// them.
const SERIALS_MAX: u64 = 1 << 32;

/// Takes the lease, or renews it for the next `lifetime`.
pub(super) fn hold(
    client: &mut RedisClient,
    names: &Names,
    lifetime: Duration,
) -> Result<Lease, CommandError> {
    let mut call = scripts::LEASE.call(&[names.lease_key(), names.lease_serial_key()]);
    call.arg(&names.node)
        .arg(lifetime.as_millis() as u64)
        .arg(SERIALS_MAX);
    let reply = accepted(client.run_one(call)?)?;
    let (is_held, first_serial) = <(u8, u64)>::from_redis_value(reply)
        .map_err(|why| CommandError::NotExecuted(why.to_string()))?;
    Ok(match is_held {
        1 => Lease::Held { first_serial },
        _ => Lease::OfOtherNode,
    })
}

/// Returns the command that ends the lease, if this node has it.
pub(super) fn release_command(names: &Names) -> Cmd {
    let mut call = scripts::RELEASE.call(&[names.lease_key()]);
    call.arg(&names.node);
    call
}
