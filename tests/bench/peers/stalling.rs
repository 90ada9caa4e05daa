//! Clients that stop reading, beside clients that continue.

use std::io;
use std::time::Duration;

use crate::client_group::ClientGroup;
use crate::load::{Load, Publisher, Until, WARM_UP_MESSAGES, run_load};
use crate::peers::peer::PeerServer;
use crate::peers::quantity::{Measured, described, lower};
use crate::peers::relaying::{self, RelayPlan};

/// Clients of one room, a part of which never reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallingPlan {
    pub(crate) clients: usize,
    pub(crate) stalled: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) load: Load,
}

/// Measures the latency of the clients that read, and the memory of the server.
pub(crate) fn measure(
    server: &mut PeerServer,
    plan: StallingPlan,
    duration: Duration,
) -> io::Result<Vec<Measured>> {
    let (address, protocol) = (server.address, server.protocol);
    let healthy = RelayPlan {
        clients: plan.clients - plan.stalled,
        rooms: 1,
        payload_bytes: plan.payload_bytes,
        load: plan.load,
    };
    let mut clients = ClientGroup::connect_to_rooms(address, healthy.clients, 1, protocol)?;
    let mut publisher = Publisher::stamped(&clients, 1, plan.payload_bytes)?;
    let warm_up = Until::Published(WARM_UP_MESSAGES);
    run_load(&mut clients, &mut publisher, Load::Outstanding(1), warm_up)?;
    // These connections stay open and are never read again.
    let _stalled = ClientGroup::connect_with_small_buffer(address, plan.stalled, protocol)?;
    let relayed = relaying::run(server, &mut clients, &mut publisher, healthy, duration)?;
    let peak_mib = server.peak_rss_kib()? as f64 / 1024.0;
    Ok(vec![
        lower("peak memory", "MiB", peak_mib),
        lower("latency p50", "ms", relayed.p50_ms),
        lower("latency p99", "ms", relayed.p99_ms),
        described("load generator busy", "%", relayed.generator_busy_percent),
    ])
}
