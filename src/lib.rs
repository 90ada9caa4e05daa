//! wscast: a native-WebSocket broadcast server. One binary, one port, no async runtime.
//!
//! # One message through the program
//!
//! ```text
//!             accept thread                        one thread per client
//! socket ──► listener ──► connection: (shake hands over TLS,) read the head, route
//!                            ├─ HTTP ──► http: handler(&Request, &App) -> ResponseBox, keep-alive
//!                            └─ WebSocket ──► websocket: handshake, session
//!                                                        │ understand, check
//!                      bounded channel                   ▼
//!   broker thread  ◄──────────────────────────────── Publish
//!   (one batch of all that waits: store, number, acknowledge)
//!        │ bounded channel
//!        ▼
//!   broadcaster thread (owns rooms and members)
//!   (one batch of all that waits: encode each room's messages once)
//!        │
//!        ▼
//!   outbox of each member: sent now without blocking; what the socket refuses is queued,
//!   bounded, and a drain thread lives for as long as that one client lags
//! ```
//!
//! With `--redis` what is stored does not go straight on: it comes back from Redis, to this node and to all others
//! that have members in the room. Nothing below the broadcaster differs.
//!
//! ```text
//!   broker thread ── a script: number, store, tell ──► Redis ◄── broker threads of other nodes
//!                                                        │ a channel of each room that has members here
//!                                                        ▼
//!                            redis-subscribe (in order; reads from history what it missed)
//!                                │                       │ what other nodes say of their members
//!                                ▼                       ▼
//!                          broadcaster thread  ◄──  redis-heartbeat (once a second)
//! ```
//!
//! # What never happens
//!
//! - A healthy client's delivery never wakes a thread, and nothing is encoded twice.
//! - Nothing waits so that a batch may grow; a batch is what was waiting already.
//! - A slow client costs nobody else time: a push never blocks.
//! - Nobody but the broadcaster touches rooms; it does no I/O but a non-blocking send.
//! - A full channel makes the publisher wait; nothing is dropped between two threads.
//! - No lock is held while anyone waits for a socket: over TLS each record is sealed and opened under its
//!   client's own lock, and bytes move without blocking.
//! - Nothing is acknowledged or delivered that is not stored; a slow or failing disk or Redis holds up nobody
//!   but those who publish, read history or enter a room that has no members here.
//! - Nothing waits for Redis without an end, and only redis-subscribe decides which rooms are subscribed.
//!
//! # The rooms of the house, top to bottom
//!
//! [`cli`] → [`config`] → [`logging`] → [`server`] (composition) → [`listener`] → [`connection`] →
//! [`http`] and [`session`] → [`app`] (what they all reach) → [`broker`] → [`store`] → [`broadcaster`] →
//! [`outbox`] → [`socket`] (one client's, with TLS or without) → [`protocol`]; [`auth`], [`limits`], [`proxy`],
//! [`metrics`], [`reload`], [`shutdown`] and [`threads`] stand on the ground floor. Arrows point down only.

// A build without a feature contains values and methods that only this feature uses.
#![cfg_attr(
    not(all(feature = "redis", feature = "sqlite", feature = "tls")),
    allow(dead_code, unused_imports)
)]

pub(crate) mod admission;
pub(crate) mod app;
pub mod auth;
pub(crate) mod broadcaster;
pub(crate) mod broker;
pub mod cli;
pub mod config;
pub(crate) mod connection;
pub mod http;
pub(crate) mod limits;
pub(crate) mod listener;
pub mod logging;
pub(crate) mod metrics;
pub(crate) mod outbox;
pub mod protocol;
pub mod proxy;
pub mod reload;
pub(crate) mod rooms;
pub mod server;
pub(crate) mod session;
pub mod shutdown;
pub(crate) mod socket;
pub(crate) mod store;
pub mod threads;
