//! The settings of the server, validated once.
//!
//! [`cli`](crate::cli) parses what the operator types; [`Config`] is what the server runs with.

mod hooks;
mod live;
mod room_rules;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

use crate::auth::{AllowedOrigins, Anonymous, AuthSettings};
use crate::proxy::TrustedProxies;

pub use hooks::{AuthHookSettings, WebhookEvents, WebhookSettings};
pub(crate) use live::LiveConfig;
pub use live::is_reloaded;
pub(crate) use room_rules::RoomHistory;
pub use room_rules::{Publishers, RULES_MAX, RoomGlob, RoomRule, RoomRules};

/// Bytes that an outbox needs besides the payload of the largest message.
const FRAME_OVERHEAD_BYTES: usize = 1024;

/// All settings of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on. Of several, those that the machine does not have are left out.
    pub host: Vec<IpAddr>,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Paths of Unix sockets to listen on as well, always without TLS.
    pub listen: Vec<PathBuf>,
    /// True if the sockets that systemd passes take the place of `host` and `port`.
    pub inherit_sockets: bool,
    /// Permission bits of the Unix sockets, which decide who may connect.
    pub listen_mode: u32,
    /// Certificate and key for TLS on the port; `None` serves plain HTTP and WebSocket.
    pub tls: Option<TlsFiles>,
    /// Proxies that are trusted to name their clients' addresses.
    pub trusted_proxies: TrustedProxies,
    /// True if they use the PROXY protocol for it.
    pub proxy_protocol: bool,
    /// Text of the first frame of every connection.
    pub welcome: String,
    /// Web origins that browsers may connect from, for CORS and WebSocket.
    pub allow_origin: AllowedOrigins,
    /// Keys for tokens, and the rights of clients without one.
    pub auth: AuthSettings,
    /// Threads that help the broadcaster with large rooms; `None` means one for each core but the first, up to 7.
    pub fan_out_threads: Option<usize>,
    /// True if `/echo` is served.
    pub echo: bool,
    /// Limits and time-outs of clients.
    pub limits: Limits,
    /// Limits of the history.
    pub history: HistoryLimits,
    /// Rules for rooms by name, which win over the limits.
    pub rooms: RoomRules,
    /// Database file of the history; `None` keeps it in memory or in Redis.
    pub database: Option<SqliteSettings>,
    /// Redis that nodes share; excludes a database file.
    pub redis: Option<RedisSettings>,
    /// The connect hook; `None` if there is no backend to ask.
    pub auth_hook: Option<AuthHookSettings>,
    /// Webhooks; `None` sends none.
    pub webhook: Option<WebhookSettings>,
    /// Time between the request to shut down and the closing of clients, in which balancers can notice it.
    pub drain_delay: Duration,
    /// Time over which Close frames are spread at shutdown.
    pub drain: Duration,
    /// Longest time that shutdown waits for clients and the store.
    pub shutdown_timeout: Duration,
    /// Most detailed level that is logged.
    pub log_level: LevelFilter,
    /// Format of the log's lines.
    pub log_format: LogFormat,
    /// True if each request and connection is logged.
    pub access_log: bool,
    /// File that the log is appended to, besides stderr.
    pub log_file: Option<PathBuf>,
}

/// PEM files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, followed by the intermediate certificates of its chain.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// Limits of one client and of all clients together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at once; `None` means as many as the machine allows.
    pub max_connections: Option<usize>,
    /// Largest WebSocket message, in bytes.
    pub max_message_bytes: usize,
    /// Most rooms at once.
    pub max_rooms: usize,
    /// Most rooms that one connection may be a member of.
    pub max_rooms_per_connection: usize,
    /// Rates of one connection.
    pub request_rate: RequestRate,
    /// Limits of one client address.
    pub address: AddressLimits,
    /// Most members of a room; `None` is no limit.
    pub max_members_per_room: Option<NonZeroU32>,
    /// Most bytes in the outbox of one client.
    pub outbox_bytes: usize,
    /// Time after which a client that takes none of its queued bytes is evicted.
    pub slow_timeout: Duration,
    /// Silence of a client before it is pinged.
    pub ping_interval: Duration,
    /// Time for a pinged client to send anything.
    pub pong_timeout: Duration,
    /// Time for a TLS handshake, and for a whole request head, from its first byte or from the connection.
    pub head_timeout: Duration,
    /// Time that an HTTP connection may be idle between requests.
    pub keep_alive: Duration,
}

/// Rates of one connection, per second; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestRate {
    /// Requests per second.
    pub requests: Option<NonZeroU32>,
    /// Bytes per second of the requests' frames.
    pub bytes: Option<NonZeroU32>,
}

/// Limits of one client address; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
    /// New connections per second.
    pub connection_rate: Option<NonZeroU32>,
    /// HTTP requests per second.
    pub request_rate: Option<NonZeroU32>,
    /// New rooms per minute.
    pub new_rooms_per_minute: Option<NonZeroU32>,
    /// Refused tokens per minute, after which tokens are refused without a check.
    pub failures_per_minute: Option<NonZeroU32>,
}

/// Limits of the history of one room, and of all rooms together.
#[derive(Clone, Debug)]
pub struct HistoryLimits {
    /// Messages per room.
    pub messages: usize,
    /// Payload bytes per room.
    pub bytes: usize,
    /// Time that a message is kept.
    pub age: Duration,
    /// Payload bytes of all rooms together.
    pub total_bytes: usize,
}

/// A database file.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// Path of the file; SQLite creates two more beside it while it is in use.
    pub path: PathBuf,
    /// The events that acknowledged messages survive.
    pub durability: Durability,
}

/// A Redis that several nodes share.
#[derive(Clone)]
pub struct RedisSettings {
    /// URL, or comma-separated URLs of a Redis Cluster; may contain a password.
    pub url: String,
    /// Prefix of all keys.
    pub prefix: String,
}

/// Omits the URL, which may contain a password.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The failures that acknowledged messages survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They survive the end of the process, including a crash. A power loss may lose the last messages; then
    /// numbering restarts with a new epoch, so that clients notice.
    Normal,
    /// They also survive a power loss: every batch is synced to disk before it is acknowledged.
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

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, thread and message, for people.
    #[default]
    Text,
    /// A JSON object, for programs.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write text or json"),
        }
    }
}

/// A setting with a wrong value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Flag of the setting, such as `--port`.
    pub setting: &'static str,
    /// The wrong value.
    pub value: String,
    /// The value or form to write instead.
    pub instead: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.setting, self.value, self.instead)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks the settings that depend on each other.
    pub fn validate(self) -> Result<Self, ConfigError> {
        let limits = &self.limits;
        let outbox_bytes_min = limits
            .max_message_bytes
            .saturating_add(FRAME_OVERHEAD_BYTES);
        if limits.outbox_bytes < outbox_bytes_min {
            return Err(ConfigError {
                setting: "--outbox-bytes",
                value: limits.outbox_bytes.to_string(),
                instead: format!(
                    "must hold one whole message; write at least --max-message-bytes + \
                     {FRAME_OVERHEAD_BYTES} = {outbox_bytes_min}"
                ),
            });
        }
        if let (Some(database), Some(_)) = (&self.database, &self.redis) {
            return Err(ConfigError {
                setting: "--db",
                value: database.path.display().to_string(),
                instead: "the history has one store only; write --db or --redis".to_owned(),
            });
        }
        if self.auth_hook.is_some() && self.auth.anonymous != Anonymous::None {
            return Err(ConfigError {
                setting: "--anonymous",
                value: self.auth.anonymous.to_string(),
                instead: "with --auth-url the backend decides about clients without a token; leave one of both out"
                    .to_owned(),
            });
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(ConfigError {
                setting: "--proxy-protocol",
                value: "true".to_owned(),
                instead: "needs trusted proxies; write their addresses in --trusted-proxies"
                    .to_owned(),
            });
        }
        if let (Some(cookie), AllowedOrigins::Any) = (&self.auth.token_cookie, &self.allow_origin) {
            return Err(ConfigError {
                setting: "--token-cookie",
                value: cookie.clone(),
                instead: "needs a list in --allow-origin, because pages of every other site send their visitors' \
                          cookies too; write the origins of your pages, such as https://example.com"
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
        self.rooms.validate(&self)?;
        Ok(self)
    }
}
