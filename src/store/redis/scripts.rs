//! The scripts of the Redis store.

use super::client::{Script, Source};

/// Returns a room's position, for the subscriber.
pub(super) static OPEN_ROOM: Script = Script::new(|| source(include_str!("scripts/open_room.lua")));
/// Numbers, stores and publishes a message.
pub(super) static PUBLISH: Script = Script::new(|| source(include_str!("scripts/publish.lua")));
/// Deletes messages of a room.
pub(super) static DELETE: Script = Script::new(|| source(include_str!("scripts/delete.lua")));
/// Reads a page of history.
pub(super) static HISTORY: Script = Script::new(|| source(include_str!("scripts/history.lua")));
/// Counts the restarts of a server that may have lost data.
pub(super) static GENERATION: Script =
    Script::new(|| source(include_str!("scripts/generation.lua")));
/// Reads the clocks.
pub(super) static CLOCK: Script = Script::new(|| source(include_str!("scripts/clock.lua")));
/// Records a node's heartbeat.
pub(super) static HEARTBEAT: Script = Script::new(|| source(include_str!("scripts/heartbeat.lua")));
/// Takes or renews the lease of the node that sends webhooks.
pub(super) static LEASE: Script = Script::new(|| source(include_str!("scripts/lease.lua")));
/// Ends that lease.
pub(super) static RELEASE: Script = Script::new(|| source(include_str!("scripts/release.lua")));

/// All scripts, which every new connection loads.
pub(super) static ALL: [&Script; 9] = [
    &OPEN_ROOM,
    &PUBLISH,
    &DELETE,
    &HISTORY,
    &GENERATION,
    &CLOCK,
    &HEARTBEAT,
    &LEASE,
    &RELEASE,
];

fn source(script: &str) -> Source {
    Source::new([include_str!("scripts/prelude.lua"), script].concat())
}
