//! The vocabulary of scenarios: servers on free ports, clients, raw connections, faults, waiting.

mod acknowledged_history;
mod attack;
mod certificate;
mod client;
mod client_program;
mod connection;
pub mod database_files;
mod disks;
mod event_source;
mod fake_clock;
mod history;
mod hook_server;
mod http;
mod lasting_disk;
mod network;
mod operator;
mod present_clients;
mod program;
mod proxy;
mod quiet_publishers;
mod readers;
mod redis;
mod redis_cluster;
mod redis_proxy;
mod removals;
mod seed;
mod server;
mod skip;
mod socket;
mod stats;
mod stop;
mod stream_readers;
mod temp_dir;
mod terminal;
pub mod token;
mod wait;
mod webhook_view;
mod welcome;

pub use self::redis::{
    TestRedis, free_port, with_durable_redis, with_redis, with_redis_args, with_redis_at,
};
pub use acknowledged_history::AcknowledgedHistory;
pub use attack::AttackedServer;
pub use certificate::Certificate;
pub use client::{ClientOptions, TestClient, message_frame};
pub use client_program::ClientProgram;
pub use connection::{
    ACCEPT, BINARY, CLOSE, CONTINUATION, PING, PONG, RawConnection, TEXT, frame, handshake,
    handshake_with,
};
pub use disks::{read_only_disk_command, with_loop_disk, with_small_disk};
pub use event_source::EventSource;
pub use fake_clock::{FakeClock, with_fake_clock};
pub use history::{offsets, payloads, read_whole_history};
pub use hook_server::{HookBehaviour, HookRequest, HookServer, hook_response};
pub use http::{READ_METHODS, Response, request};
pub use lasting_disk::{LastingDisk, with_lasting_disk};
pub use network::{start_in_namespace, with_remote_network};
pub use present_clients::without_since;
pub use program::{Ended, FAILURE, NOBODY, USAGE, command_without_settings, program, run};
pub use proxy::{forwarded_for, proxy_header, proxy_header_for};
pub use quiet_publishers::publish_without_echo;
pub use readers::read_while_reconnecting;
pub use redis_cluster::{TestRedisCluster, with_durable_redis_cluster, with_redis_cluster};
pub use redis_proxy::RedisProxy;
pub use removals::read_over_removals;
pub use seed::{Seed, random_bytes};
pub use server::TestServer;
pub use skip::skip;
pub use socket::Socket;
pub use stats::allow_many_sockets;
pub use stop::StopOnDrop;
pub use stream_readers::read_streams_while_reconnecting;
pub use temp_dir::TempDir;
pub use terminal::{open_terminal, read_terminal_until};
pub use wait::{TIMEOUT, wait_for, wait_until};
pub use webhook_view::{WebhookView, wait_for_view};
pub use welcome::Welcome;
