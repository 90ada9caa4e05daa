//! Every setting, default and bound of the program, validated once.
//!
//! What the user typed is [`cli`](crate::cli)'s; what the program runs on is [`Config`].

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

use crate::auth::{AllowedOrigins, AuthSettings};
use crate::proxy::TrustedProxies;

/// Everything the server runs on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Unix sockets to listen on as well, by their paths. They never speak TLS.
    pub listen: Vec<PathBuf>,
    /// Permission bits of their files: who may connect.
    pub listen_mode: u32,
    /// What the port speaks TLS with; `None` speaks plain HTTP and WebSocket.
    pub tls: Option<TlsFiles>,
    /// Proxies whose word about their clients is taken.
    pub trusted_proxies: TrustedProxies,
    /// Whether they give it by the PROXY protocol.
    pub proxy_protocol: bool,
    /// Text of the first frame of every connection.
    pub welcome: String,
    /// Origins that browsers may connect from, for CORS and WebSocket alike.
    pub allow_origin: AllowedOrigins,
    /// What tokens are checked with.
    pub auth: AuthSettings,
    /// Whether `/echo` is served.
    pub echo: bool,
    /// What clients may use.
    pub limits: Limits,
    /// What the history keeps.
    pub history: HistoryLimits,
    /// Where it is kept; `None` keeps it in memory.
    pub database: Option<SqliteSettings>,
    /// Redis that it is shared through with other nodes; then no database.
    pub redis: Option<RedisSettings>,
    /// Time over which Close frames are spread at shutdown.
    pub drain: Duration,
    /// Time after which shutdown no longer waits for anyone.
    pub shutdown_timeout: Duration,
    /// Most detailed level that is logged.
    pub log_level: LevelFilter,
    /// File that the log goes to besides stderr.
    pub log_file: Option<PathBuf>,
}

/// The files of a certificate, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, then those that lead to one that clients know.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What one client, or all of them, may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; `None` means as many as the machine allows.
    pub max_connections: Option<usize>,
    /// Largest WebSocket message, in bytes.
    pub max_message_bytes: usize,
    /// Rooms at once.
    pub max_rooms: usize,
    /// Rooms a connection may be a member of.
    pub max_rooms_per_connection: usize,
    /// What one connection may ask each second.
    pub request_rate: RequestRate,
    /// What one client address may ask.
    pub address: AddressLimits,
    /// Members a room may have; `None` is as many as come.
    pub max_members_per_room: Option<NonZeroU32>,
    /// Bytes that may wait for one client.
    pub outbox_bytes: usize,
    /// Time without progress after which a client that has bytes waiting is evicted.
    pub slow_timeout: Duration,
    /// Time without traffic after which a client is pinged.
    pub ping_interval: Duration,
    /// Time a pinged client has to be heard.
    pub pong_timeout: Duration,
    /// Time for a TLS handshake, and for a whole request head, from its first byte or the connection.
    pub head_timeout: Duration,
    /// Time an HTTP connection may idle between requests.
    pub keep_alive: Duration,
}

/// What one connection may ask each second; `None` is as much as it likes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestRate {
    /// Requests.
    pub requests: Option<NonZeroU32>,
    /// Bytes of their frames.
    pub bytes: Option<NonZeroU32>,
}

/// What one client address may ask; `None` is as much as it likes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressLimits {
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
    /// New connections each second.
    pub connection_rate: Option<NonZeroU32>,
    /// HTTP requests each second.
    pub request_rate: Option<NonZeroU32>,
    /// Tokens that are refused each minute.
    pub failures_per_minute: Option<NonZeroU32>,
}

/// What a room's history, and all of them together, may hold.
#[derive(Clone, Debug)]
pub struct HistoryLimits {
    /// Messages a room.
    pub messages: usize,
    /// Payload bytes a room.
    pub bytes: usize,
    /// Age of a message.
    pub age: Duration,
    /// Payload bytes of all rooms together.
    pub total_bytes: usize,
}

/// A database file.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The file; SQLite puts two more beside it while it is in use.
    pub path: PathBuf,
    /// What a message that was acknowledged survives.
    pub durability: Durability,
}

/// A Redis that several nodes share.
#[derive(Clone)]
pub struct RedisSettings {
    /// Its address, or several of a cluster with commas between them; may hold a password.
    pub url: String,
    /// What all names in it begin with.
    pub prefix: String,
}

/// Settings are printed for debugging; a password is not.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What a message that was acknowledged survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it comes. With the power the last messages may go; then
    /// numbering restarts, so that clients hear of it.
    Normal,
    /// The loss of power as well: every batch is synced before it is acknowledged.
    Full,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Full => "full",
        })
    }
}

impl FromStr for Durability {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "normal" => Ok(Self::Normal),
            "full" => Ok(Self::Full),
            _ => Err("write normal or full"),
        }
    }
}

/// A setting that cannot be used: says which, what it was and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting's flag, such as `--port`.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.setting, self.value, self.instead)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks what no single setting can know of itself.
    pub fn validate(self) -> Result<Self, ConfigError> {
        let limits = &self.limits;
        if limits.outbox_bytes < limits.max_message_bytes.saturating_add(1024) {
            return Err(ConfigError {
                setting: "--outbox-bytes",
                value: limits.outbox_bytes.to_string(),
                instead: format!(
                    "must hold one whole message; write at least --max-message-bytes + 1024 = {}",
                    limits.max_message_bytes.saturating_add(1024)
                ),
            });
        }
        if let (Some(database), Some(_)) = (&self.database, &self.redis) {
            return Err(ConfigError {
                setting: "--db",
                value: database.path.display().to_string(),
                instead: "history is kept in one place; write --db or --redis".to_owned(),
            });
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(ConfigError {
                setting: "--proxy-protocol",
                value: "true".to_owned(),
                instead: "is believed of trusted proxies only; write who they are in \
                          --trusted-proxies"
                    .to_owned(),
            });
        }
        if self.drain > self.shutdown_timeout {
            return Err(ConfigError {
                setting: "--drain",
                value: self.drain.as_secs_f64().to_string(),
                instead: format!(
                    "must end before shutdown does; write at most --shutdown-timeout = {}",
                    self.shutdown_timeout.as_secs_f64()
                ),
            });
        }
        Ok(self)
    }
}
