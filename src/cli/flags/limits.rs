//! The flags for limits and time-outs of clients.

use std::time::Duration;

use super::values::{
    CountOrAuto, Limit, count, count_or_auto, duration, duration_or_zero, limit, size, size_limit,
};
use crate::config::{AddressLimits, Limits, RequestRate};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct LimitFlags {
    /// Connections at once; auto is as many as the machine's limits allow
    #[arg(long, env = "WSCAST_MAX_CONNECTIONS", default_value = "auto", value_name = "N",
          value_parser = count_or_auto)]
    max_connections: CountOrAuto,
    /// Largest WebSocket message; its fragments are added up
    #[arg(long, env = "WSCAST_MAX_MESSAGE_BYTES", default_value = "64KiB", value_name = "SIZE",
          value_parser = size)]
    max_message_bytes: usize,
    /// Rooms at once
    #[arg(long, env = "WSCAST_MAX_ROOMS", default_value = "10000", value_name = "N",
          value_parser = count)]
    max_rooms: usize,
    /// Rooms that one connection may be a member of at once
    #[arg(long, env = "WSCAST_MAX_ROOMS_PER_CONNECTION", default_value = "32", value_name = "N",
          value_parser = count)]
    max_rooms_per_connection: usize,
    /// Members of one room; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_MEMBERS_PER_ROOM", default_value = "20000", value_name = "N",
          value_parser = limit)]
    max_members_per_room: Limit,
    /// Connections at once from one client address, or from one /64 of IPv6; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_CONNECTIONS_PER_ADDRESS", default_value = "500", value_name = "N",
          value_parser = limit)]
    max_connections_per_address: Limit,
    /// New connections per second from one address, with bursts of ten seconds' worth; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_CONNECTION_RATE", default_value = "50", value_name = "N",
          value_parser = limit)]
    max_connection_rate: Limit,
    /// HTTP requests per second from one address, with bursts of ten seconds' worth; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_HTTP_RATE", default_value = "100", value_name = "N",
          value_parser = limit)]
    max_http_rate: Limit,
    /// New rooms per minute from one address, with bursts of ten minutes' worth; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_NEW_ROOMS", default_value = "60", value_name = "N",
          value_parser = limit)]
    max_new_rooms: Limit,
    /// Refused tokens per minute from one address; after that its tokens are refused without a check for a
    /// while. 0 is no limit
    #[arg(long, env = "WSCAST_MAX_AUTH_FAILURES", default_value = "60", value_name = "N",
          value_parser = limit)]
    max_auth_failures: Limit,
    /// Requests per second on one connection, with bursts of ten seconds' worth; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_REQUEST_RATE", default_value = "100", value_name = "N",
          value_parser = limit)]
    max_request_rate: Limit,
    /// Bytes per second of the requests on one connection, with bursts of ten seconds' worth; 0 is no limit
    #[arg(long, env = "WSCAST_MAX_BYTE_RATE", default_value = "1MiB", value_name = "SIZE",
          value_parser = size_limit)]
    max_byte_rate: Limit,
    /// Bytes that may be queued for one client before it is evicted as a slow consumer
    #[arg(long, env = "WSCAST_OUTBOX_BYTES", default_value = "1MiB", value_name = "SIZE",
          value_parser = size)]
    outbox_bytes: usize,
    /// How long a client may accept no data while some is queued, before it is evicted as a slow consumer
    #[arg(long, env = "WSCAST_SLOW_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = duration)]
    slow_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub(in crate::cli) struct TimeoutFlags {
    /// How long a client may be silent before it is pinged
    #[arg(long, env = "WSCAST_PING_INTERVAL", default_value = "25s", value_name = "DURATION",
          value_parser = duration)]
    ping_interval: Duration,
    /// How long a pinged client may stay silent before it is closed
    #[arg(long, env = "WSCAST_PONG_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = duration)]
    pong_timeout: Duration,
    /// Time for a TLS handshake, and for a whole request head
    #[arg(long, env = "WSCAST_HEAD_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = duration)]
    head_timeout: Duration,
    /// How long an HTTP connection may be idle between requests; must be longer than a load balancer keeps its idle
    /// connections
    #[arg(long, env = "WSCAST_KEEP_ALIVE", default_value = "75s", value_name = "DURATION",
          value_parser = duration)]
    keep_alive: Duration,
    /// At shutdown, keep serving for this time while /health returns 503, so that a balancer stops sending clients
    /// here before the port closes
    #[arg(long, env = "WSCAST_DRAIN_DELAY", default_value = "0s", value_name = "DURATION",
          value_parser = duration_or_zero)]
    pub(in crate::cli) drain_delay: Duration,
    /// At shutdown, spread the Close frames to clients over this time, so that they do not all reconnect at once
    #[arg(long, env = "WSCAST_DRAIN", default_value = "1s", value_name = "DURATION",
          value_parser = duration_or_zero)]
    pub(in crate::cli) drain: Duration,
    /// Longest time that shutdown waits for clients and the store
    #[arg(long, env = "WSCAST_SHUTDOWN_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = duration)]
    pub(in crate::cli) shutdown_timeout: Duration,
}

impl LimitFlags {
    /// Combines both groups of flags into the limits that the server runs with.
    pub(in crate::cli) fn with(self, timeouts: &TimeoutFlags) -> Limits {
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
                new_rooms_per_minute: self.max_new_rooms.0,
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
