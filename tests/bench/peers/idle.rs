//! The memory of connections that carry nothing.

use std::io;
use std::time::Duration;

use crate::client_group::ClientGroup;
use crate::peers::peer::PeerServer;
use crate::peers::quantity::{Measured, lower};

/// Connections that are opened before the first reading. They cause allocations that happen once per process.
const WARM_UP_CONNECTIONS: usize = 32;

const QUIET_STEP: Duration = Duration::from_millis(250);
const QUIET_STEPS: usize = 4;
const QUIET_STEPS_MAX: usize = 20;

/// Measures the resident memory per connection, once it stays the same for a while.
pub(crate) fn measure(server: &mut PeerServer, count: usize) -> io::Result<Vec<Measured>> {
    let connect = |count| ClientGroup::connect_to_rooms(server.address, count, 1, server.protocol);
    let _warm_up = connect(WARM_UP_CONNECTIONS)?;
    let before = server.rss_kib()?;
    let mut clients = connect(count)?;
    let (mut last, mut unchanged) = (server.rss_kib()?, 0);
    for _ in 0..QUIET_STEPS_MAX {
        clients.read_for(QUIET_STEP)?;
        let now = server.rss_kib()?;
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        if unchanged == QUIET_STEPS {
            break;
        }
    }
    server.check_alive()?;
    let each = last.saturating_sub(before) as f64 / count as f64;
    Ok(vec![lower("memory per connection", "KiB", each)])
}
