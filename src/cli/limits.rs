//! The flags of what clients may use, and for how long.

use std::time::Duration;

use super::values::{
    CountOrAuto, Rate, byte_rate, bytes, count, count_or_auto, rate, seconds, seconds_or_zero,
};
use crate::config::{AddressLimits, Limits, RequestRate};

/// What clients may use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitFlags {
    /// Connections at once; auto is what the machine's limits allow
    #[arg(long, env = "WSCAST_MAX_CONNECTIONS", default_value = "auto", value_name = "N",
          value_parser = count_or_auto)]
    max_connections: CountOrAuto,
    /// Largest WebSocket message, in bytes, fragments summed
    #[arg(long, env = "WSCAST_MAX_MESSAGE_BYTES", default_value = "64KiB", value_name = "BYTES",
          value_parser = bytes)]
    max_message_bytes: usize,
    /// Rooms at once
    #[arg(long, env = "WSCAST_MAX_ROOMS", default_value = "10000", value_name = "N",
          value_parser = count)]
    max_rooms: usize,
    /// Rooms a connection may be a member of at once
    #[arg(long, env = "WSCAST_MAX_ROOMS_PER_CONNECTION", default_value = "32", value_name = "N",
          value_parser = count)]
    max_rooms_per_connection: usize,
    /// Members of one room; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_MEMBERS_PER_ROOM", default_value = "20000", value_name = "N",
          value_parser = rate)]
    max_members_per_room: Rate,
    /// Connections at once of one client address, or of one /64 of IPv6; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_CONNECTIONS_PER_ADDRESS", default_value = "500", value_name = "N",
          value_parser = rate)]
    max_connections_per_address: Rate,
    /// New connections a second of one address, ten seconds' worth of them at once; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_CONNECTION_RATE", default_value = "50", value_name = "N",
          value_parser = rate)]
    max_connection_rate: Rate,
    /// HTTP requests a second of one address, ten seconds' worth of them at once; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_HTTP_RATE", default_value = "100", value_name = "N",
          value_parser = rate)]
    max_http_rate: Rate,
    /// Refused tokens a minute of one address, after which its tokens are not looked at; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_AUTH_FAILURES", default_value = "60", value_name = "N",
          value_parser = rate)]
    max_auth_failures: Rate,
    /// Requests a second of one connection, ten seconds' worth of them at once; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_REQUEST_RATE", default_value = "100", value_name = "N",
          value_parser = rate)]
    max_request_rate: Rate,
    /// Bytes a second of one connection's requests, ten seconds' worth of them at once; 0 is no bound
    #[arg(long, env = "WSCAST_MAX_BYTE_RATE", default_value = "1MiB", value_name = "BYTES",
          value_parser = byte_rate)]
    max_byte_rate: Rate,
    /// Bytes that may wait for one client before it is evicted as a slow consumer
    #[arg(long, env = "WSCAST_OUTBOX_BYTES", default_value = "1MiB", value_name = "BYTES",
          value_parser = bytes)]
    outbox_bytes: usize,
    /// Seconds without progress after which a client with bytes waiting is evicted
    #[arg(long, env = "WSCAST_SLOW_TIMEOUT", default_value = "10", value_name = "SECONDS",
          value_parser = seconds)]
    slow_timeout: Duration,
}

/// How long anything may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub(super) struct TimeoutFlags {
    /// Seconds without traffic after which a client is pinged
    #[arg(long, env = "WSCAST_PING_INTERVAL", default_value = "25", value_name = "SECONDS",
          value_parser = seconds)]
    ping_interval: Duration,
    /// Seconds a pinged client has to be heard
    #[arg(long, env = "WSCAST_PONG_TIMEOUT", default_value = "10", value_name = "SECONDS",
          value_parser = seconds)]
    pong_timeout: Duration,
    /// Seconds for a TLS handshake, and for a whole request head
    #[arg(long, env = "WSCAST_HEAD_TIMEOUT", default_value = "10", value_name = "SECONDS",
          value_parser = seconds)]
    head_timeout: Duration,
    /// Seconds an HTTP connection may idle between requests
    #[arg(long, env = "WSCAST_KEEP_ALIVE", default_value = "15", value_name = "SECONDS",
          value_parser = seconds)]
    keep_alive: Duration,
    /// Seconds over which Close frames are spread at shutdown
    #[arg(long, env = "WSCAST_DRAIN", default_value = "1", value_name = "SECONDS",
          value_parser = seconds_or_zero)]
    pub(super) drain: Duration,
    /// Seconds after which shutdown waits for no one
    #[arg(long, env = "WSCAST_SHUTDOWN_TIMEOUT", default_value = "10", value_name = "SECONDS",
          value_parser = seconds)]
    pub(super) shutdown_timeout: Duration,
}

impl LimitFlags {
    /// Both together are what the server runs on.
    pub(super) fn with(self, timeouts: &TimeoutFlags) -> Limits {
        Limits {
            max_connections: self.max_connections.0,
            max_message_bytes: self.max_message_bytes,
            max_rooms: self.max_rooms,
            max_rooms_per_connection: self.max_rooms_per_connection,
            request_rate: RequestRate {
                requests: self.max_request_rate.0,
                bytes: self.max_byte_rate.0,
            },
            address: AddressLimits {
                connections: self.max_connections_per_address.0,
                connection_rate: self.max_connection_rate.0,
                request_rate: self.max_http_rate.0,
                failures_per_minute: self.max_auth_failures.0,
            },
            max_members_per_room: self.max_members_per_room.0,
            outbox_bytes: self.outbox_bytes,
            slow_timeout: self.slow_timeout,
            ping_interval: timeouts.ping_interval,
            pong_timeout: timeouts.pong_timeout,
            head_timeout: timeouts.head_timeout,
            keep_alive: timeouts.keep_alive,
        }
    }
}
