//! The settings in effect, some of which a reload changes while the server runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::Config;
use crate::protocol::RoomName;

/// The flags of the settings that [`LiveConfig::reload`] changes. All others need a restart.
const RELOADED: [&str; 28] = [
    "--access-log",
    "--allow-origin",
    "--drain",
    "--drain-delay",
    "--head-timeout",
    "--history-age",
    "--history-bytes",
    "--history-messages",
    "--history-total-bytes",
    "--keep-alive",
    "--log-level",
    "--max-auth-failures",
    "--max-byte-rate",
    "--max-connection-rate",
    "--max-connections",
    "--max-connections-per-address",
    "--max-http-rate",
    "--max-members-per-room",
    "--max-message-bytes",
    "--max-new-rooms",
    "--max-request-rate",
    "--max-rooms",
    "--max-rooms-per-connection",
    "--outbox-bytes",
    "--ping-interval",
    "--pong-timeout",
    "--shutdown-timeout",
    "--slow-timeout",
];

/// Returns whether a reload changes the setting of this flag.
pub fn is_reloaded(flag: &str) -> bool {
    RELOADED.contains(&flag)
}

/// The settings in effect. Cheap to clone; all clones share them.
#[derive(Clone)]
pub(crate) struct LiveConfig(Arc<Shared>);

struct Shared {
    config: RwLock<Arc<Config>>,
    /// True if there are rules for rooms. Without any, a publish does not touch the lock.
    has_room_rules: AtomicBool,
}

impl LiveConfig {
    pub(crate) fn new(config: Config) -> Self {
        Self(Arc::new(Shared {
            has_room_rules: AtomicBool::new(!config.rooms.is_empty()),
            config: RwLock::new(Arc::new(config)),
        }))
    }

    /// Returns the settings of this moment. A connection keeps the limits that it started with.
    pub(crate) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.config.read())
    }

    /// Returns whether there are rules for rooms.
    pub(crate) fn has_room_rules(&self) -> bool {
        self.0.has_room_rules.load(Ordering::Relaxed)
    }

    /// Returns whether the members of a room hear who else is in it.
    pub(crate) fn shows_presence(&self, room: &RoomName) -> bool {
        let is_shown = || self.get().rooms.find(room).is_none_or(|rule| rule.presence);
        !self.has_room_rules() || is_shown()
    }

    /// Takes over the [reloaded](is_reloaded) settings of `new`.
    pub(crate) fn reload(&self, new: Config) {
        let has_room_rules = !new.rooms.is_empty();
        let mut config = self.0.config.write();
        *config = Arc::new(config.reloaded(new));
        self.0
            .has_room_rules
            .store(has_room_rules, Ordering::Relaxed);
    }
}

impl fmt::Debug for LiveConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Config {
    /// Returns these settings with the [reloaded](is_reloaded) ones of `new`.
    fn reloaded(&self, new: Self) -> Self {
        Self {
            access_log: new.access_log,
            allow_origin: new.allow_origin,
            limits: new.limits,
            history: new.history,
            rooms: new.rooms,
            drain_delay: new.drain_delay,
            drain: new.drain,
            shutdown_timeout: new.shutdown_timeout,
            log_level: new.log_level,
            ..self.clone()
        }
    }
}
