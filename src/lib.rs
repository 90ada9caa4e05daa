//! wscast: a WebSocket broadcast server. One binary, one port, no async runtime.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | room, member | a group of clients; a client in it. `lobby` is the room of clients that name none |
//! | publication | a stored message; a `Publish` is a message on its way to the store |
//! | numbering | a room's epoch and its last offset, shared by all parts that use the room |
//! | epoch, offset | offsets grow by one within an epoch; a new epoch means that numbering restarted |
//! | store | numbers publications and keeps history: memory, SQLite or Redis |
//! | broker | takes publishes to the store: its thread those that wait, in batches; a client's thread a single one |
//! | inbox | the queue of the broker's or broadcaster's thread, which takes what waits as one batch |
//! | broadcaster | the thread that alone owns rooms and members, and fans publications out |
//! | helper | a thread that sends a part of the broadcaster's batch to a room with hundreds of members |
//! | delivery | one publication handed to one member |
//! | outbox | one client's outbound queue, with a limit in bytes |
//! | slow consumer | a client whose outbox overflows or stalls; it is evicted: closed with 4100 |
//! | resume | continuing a room after a gap; `recovered` is true if no message is missing |
//! | hold, release | a held member's messages wait until its missed messages are sent |
//! | client, user | a connected program; the person or service that a token names |
//! | identity | a client's user and rights, taken from its token |
//! | permit, seat | a counted permission to connect; a permit to be a member of a room |
//! | admission | grants and refuses permits, seats, rates and identities |
//! | connection | an accepted socket, from its first byte to its close |
//! | session | one client's conversation over a WebSocket or an event stream |
//! | node | one of several processes that share a Redis |
//! | heartbeat, roster | a node's periodic sign of life; what a node knows of the other nodes |
//! | remote members | a room's members on other nodes |
//! | subscription | the Redis channels of the rooms that have members on this node |
//! | subscriber | a thread that receives a subscription: of all rooms, or of those of one server of a Redis Cluster |
//! | sharded channel | a Redis channel that only one server of a cluster relays: the one that has the room |
//! | refusal | an error code and its message, sent to a client |
//! | webhook | a request that reports to a backend which rooms and users are present |
//! | connect hook | a question to a backend: who is this client, and what may it do? |
//! | lease | the time for which one of several nodes sends webhooks |
//!
//! # The path of a message
//!
//! ```text
//!             one thread per client, which waits in accept for its first and later ones
//! socket ──► listener ──► connection: PROXY header, TLS, request head, route
//!                            ├─ HTTP ──► http: handler -> tiny_http response, keep-alive
//!                            └─ WebSocket ──► session::websocket: handshake, requests
//!                                                        │ parse, rate, rights
//!                      inbox, if anything waits          ▼
//!   broker thread  ◄──────────────────────────────── Publish
//!   (one batch of all waiting publishes:                 │ history in memory, and nothing waits:
//!    store, assign offsets, acknowledge)                 │ the same on the client's thread
//!        │ inbox                                         │
//!        ▼                                               │
//!   broadcaster thread (owns rooms and members)  ◄───────┘ inbox
//!   (one batch of all waiting events: encode each room's messages once)
//!        │ a large room: chunks of its members also by helper threads
//!        ▼
//!   outbox of each member: sends at once without blocking; only what the socket
//!   refuses is queued, and a drain thread runs for as long as that one client lags
//! ```
//!
//! With `--redis` a script in Redis assigns the offset, stores the message and publishes it. The message then returns to
//! every node that has members in the room. The parts below the broadcaster are the same.
//!
//! ```text
//!   broker thread ── script: assign offset, store, publish ──► Redis ◄── broker threads of other nodes
//!                                                                │ one channel per room with members here
//!                                                                ▼
//!                            redis-subscribe (in order; reads missed messages from history;
//!                                             one thread, or one for each server of a cluster)
//!                                │                       │ member lists of other nodes
//!                                ▼                       ▼
//!                          broadcaster thread  ◄──  redis-heartbeat (once a second)
//! ```
//!
//! # The path of a request
//!
//! `POST /rooms/x/messages` passes these files once each, downward:
//!
//! 1. `listener/mod.rs` accepts the socket on a waiting thread, `admission.rs` grants its permits.
//! 2. `connection/preface.rs` reads the PROXY header and completes the TLS handshake, where they are set.
//! 3. `connection/reader.rs` reads the head; `http/wire/head.rs` parses it.
//! 4. `http/client_address.rs` finds the client's address; head and address are the `Request`.
//! 5. `http/route.rs` finds the route in the one table of all paths.
//! 6. `admission.rs` counts the request against the rate of its address.
//! 7. `http/authorize.rs` turns the token into an identity and checks its rights.
//! 8. `connection/reader.rs` reads the body, at most as long as the route allows.
//! 9. `http/api/messages.rs` handles it: `broker.rs` takes the publish to the store, which assigns its offset.
//! 10. `http/render.rs` renders the response; `connection/io.rs` sends it.
//!
//! # Invariants
//!
//! - At any time a thread waits in `accept`: the last one that leaves it with a client first starts another.
//! - A thread serves one client after another. All that belongs to a client is in values that end with its connection;
//!   nothing is kept in thread-locals.
//! - A delivery to a healthy client wakes no thread of its own, and no message is encoded twice for one kind of stream.
//! - A batch for a small room wakes no helper. The broadcaster waits for a helper only while that sends to a few members.
//! - A batch takes only items that are queued already; no thread waits for a batch to grow.
//! - A push to an outbox never blocks: a slow client costs no other client time.
//! - One thread at a time stores and hands to the broadcaster, so both have one order. A publish is queued as long as
//!   one before it waits. Only a store without I/O is ever called by the publishing client's thread.
//! - No thread is woken while its waker holds a lock that it needs, and no idle thread yields before it sleeps.
//! - Only the broadcaster changes rooms; its only I/O, and that of its helpers, is a non-blocking send.
//! - Helpers share one batch of one room, and the next batch starts after they are done: a member's order cannot change.
//! - A panic while a member is sent a batch closes this member's connection, so that it resumes; no other member notices.
//! - A full queue blocks the publisher; no message is dropped between two threads.
//! - No thread waits for a socket while it holds a lock.
//! - A message is stored before it is acknowledged or delivered. A slow or failing disk or Redis delays only clients
//!   that publish, read history or join a room without members on this node.
//! - Every wait for Redis has a deadline, and only the threads `redis-subscribe` change subscriptions. A room belongs to
//!   one of them at a time, so its messages stay in order.
//!
//! # Layers
//!
//! `main` → `cli` → `server` (composition) → `listener` → `connection` → `session` → `http` → `app` (handles) →
//! `admission` → `auth_hook` → `broker` → `webhooks` → `broadcaster` → `store` → `outbox` → `rooms` → `outgoing` → `socket` → `limits` and `logging` → `config` →
//! `auth` → `proxy` → `protocol`. Below these are `metrics`, `reload`, `shutdown`, `systemd`, `inbox`, `target_url`,
//! `threads` and `os_error`. A module uses only modules to its right. The store reports to the broadcaster through the trait `Delivery`, which keeps it
//! free of the broadcaster.
//!
//! The commands `sub`, `pub` and `bench` are clients of a server: `cli` → `client` → `socket` → `limits` → `protocol`.
//!
//! # Where to look
//!
//! | question | file |
//! |---|---|
//! | Where do several threads send to one room? | `broadcaster/fan_out/helpers.rs` |
//! | Where is a slow client evicted? | `outbox.rs`, `evict` |
//! | Where is an offset assigned? | `store/memory.rs`, `store/sqlite/writer/`, with Redis `store/redis/scripts/publish.lua` |
//! | Where are a token's rights checked? | `auth/rights.rs`; for HTTP by `http/authorize.rs`, for sessions by `rooms.rs` and `requests.rs` in `session/websocket/` |
//! | Where does a start decide whether SQLite's numbering continues? | `store/sqlite/continuity/` |
//! | Where is a WebSocket handshake checked? | `session/websocket/handshake/` |
//! | Where are keys read and weak ones refused? | `auth/keys/` |
//! | Where is the settings file read? | `cli/settings_file/`; `config/live.rs` lists the settings that a reload changes |
//! | Where are the rules for rooms? | `config/room_rules.rs`; the stores, `admission.rs` and `admission/room_rules.rs` ask them |
//! | Where is a new HTTP route added? | one row in `http/route.rs`, a handler in `http/api/`, an entry in `assets/openapi.json` |
//! | Where is a new page of the documentation added? | one row in `http/docs/files.rs` |
//! | Where is it decided what a webhook reports? | `webhooks/ledger.rs` |
//! | Where is a backend asked who a client is? | `auth_hook/mod.rs`, `ask`; the question of a request is made in `http/auth_question.rs` |
//! | Where is a delivery of `wscast bench` counted? | `client/load/client.rs`, `parse` |

// A build without a feature contains values and methods that only this feature uses.
#![cfg_attr(
    not(all(feature = "redis", feature = "sqlite", feature = "tls")),
    allow(dead_code, unused_imports)
)]

pub(crate) mod admission;
pub(crate) mod app;
pub mod auth;
pub(crate) mod auth_hook;
pub(crate) mod broadcaster;
pub(crate) mod broker;
pub mod cli;
pub(crate) mod client;
pub mod config;
pub(crate) mod connection;
pub mod http;
pub(crate) mod inbox;
pub(crate) mod jwks;
pub(crate) mod limits;
pub(crate) mod listener;
pub mod logging;
pub(crate) mod metrics;
pub mod os_error;
pub(crate) mod outbox;
pub(crate) mod outgoing;
pub mod protocol;
pub mod proxy;
pub mod reload;
pub(crate) mod rooms;
pub mod server;
pub(crate) mod session;
pub mod shutdown;
pub(crate) mod socket;
pub(crate) mod store;
mod systemd;
pub mod target_url;
pub mod threads;
pub(crate) mod webhooks;
