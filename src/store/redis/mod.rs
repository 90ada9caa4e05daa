//! The store that keeps rooms in Redis, so that several nodes share them: one order, one history.
//!
//! A script call deduplicates, numbers, stores and publishes messages ([`publisher`], `scripts/publish.lua`). Every
//! node subscribes to the rooms that have members there, and delivers their messages from the subscription
//! ([`subscriber`]). Heartbeats report the members of each node ([`nodes`]). Clients' threads read history through a
//! pool of clients ([`history`]).
//!
//! Every wait for Redis is bounded. While Redis is unreachable, publishes are refused, nobody is closed, and rooms
//! that have members here can still be joined.

mod acknowledged;
mod client;
mod clock;
mod data_loss;
mod error;
mod history;
mod lag;
mod lease;
mod names;
mod node_state;
mod nodes;
mod publish_call;
mod publisher;
mod record;
mod relay;
mod scripts;
mod subscribed_rooms;
mod subscriber;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use redis::Cmd;

use crate::auth::Revocations;
use crate::config::{LiveConfig, RedisSettings};
use crate::metrics::Metrics;
use crate::protocol::{Page, Position, RoomName};
use crate::rooms::{ClientSelector, RoomNumbering};
use crate::threads;

use self::client::{ClientPool, CommandError, Endpoints, RedisClient, accepted};
use self::error::ConnectError;
use self::names::Names;
use self::node_state::NodeState;
use self::nodes::{Heartbeat, RosterEvent};
use self::publisher::Publisher;
use self::subscriber::{OpenRequest, RelaySource, Subscriber, SubscriberRequest, Subscribers};
use super::api::{Deleted, Deletion, HistoryQuery, Lease, NodeStatus, Store, Usage};
use super::delivery::Delivery;
use super::error::StoreError;
use super::publish::{Publish, Stored};

/// Reports of other nodes that may wait for the heartbeat thread.
const ROSTER_EVENTS_MAX: usize = 1024;
/// Maximum time that a join waits for the subscription to its room.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The store of one node among those that share a Redis.
pub(super) struct Redis {
    state: Arc<NodeState>,
    publisher: Mutex<Publisher>,
    clients: ClientPool,
    subscribers: Arc<Subscribers>,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Checks the addresses without connecting.
    pub(super) fn check(settings: &RedisSettings) -> Result<(), ConnectError> {
        Self::endpoints(settings).map(drop)
    }

    fn endpoints(settings: &RedisSettings) -> Result<Endpoints, ConnectError> {
        Endpoints::parse(&settings.url).map_err(ConnectError::Address)
    }

    /// Connects to Redis and starts the subscriber and heartbeat threads.
    pub(super) fn connect(
        settings: &RedisSettings,
        config: &LiveConfig,
        delivery: Arc<dyn Delivery>,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        let mut endpoints = Self::endpoints(settings)?;
        let address = endpoints.to_string();
        let failed = |why: String| ConnectError::Redis(address.clone(), why);
        endpoints
            .detect_cluster()
            .map_err(|why| failed(why.to_string()))?;
        let names = Names::new(&settings.prefix, endpoints.database());
        let state = NodeState::new(endpoints, names, config.clone(), revocations);
        let mut publisher = Publisher::new(&state);
        publisher.check(&state).map_err(failed)?;
        if state.is_cluster() {
            let mut client = state.client();
            let detected = state
                .relay
                .detect(&state.client_config, &mut client, &state.names);
            detected.map_err(|why| failed(why.to_string()))?;
        }
        nodes::read_revocations(&state, &mut state.client())
            .map_err(|why| failed(why.to_string()))?;
        let (roster_events, events) = bounded(ROSTER_EVENTS_MAX);
        let subscribers = start_subscribers(&state, &delivery, roster_events);
        subscribers
            .start_for_nodes()
            .map_err(ConnectError::Thread)?;
        let heartbeat = Heartbeat::new(Arc::clone(&state), delivery, events, echoes(&subscribers));
        threads::spawn_service("redis-heartbeat", move || heartbeat.run())
            .map_err(ConnectError::Thread)?;
        Ok(Self {
            publisher: Mutex::new(publisher),
            clients: ClientPool::new(&state.client_config),
            state,
            subscribers,
            metrics,
        })
    }

    /// Requests the subscription to a room and waits for it.
    fn subscribe_to(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        let (reply, replied) = bounded(1);
        let request = OpenRequest {
            room: room.clone(),
            reply,
            deadline: Instant::now() + OPEN_TIMEOUT,
        };
        let source = self.subscribers.source_of(room);
        let source = source.ok_or(StoreError::Unreachable)?;
        let waker = self
            .subscribers
            .send(&source, SubscriberRequest::Open(request))
            .map_err(|_| StoreError::Unreachable)?;
        let run = |command: Cmd| {
            let run = |client: &mut RedisClient| client.run_one(command.clone()).map(drop);
            self.clients.with(run)
        };
        waker.wake(run).map_err(|_| StoreError::Unreachable)?;
        let reply = replied.recv_timeout(OPEN_TIMEOUT);
        reply.unwrap_or(Err(StoreError::Unreachable))
    }
}

/// Returns the function by which the heartbeat thread keeps the subscribers awake.
fn echoes(subscribers: &Arc<Subscribers>) -> Box<dyn Fn() -> Vec<Cmd> + Send> {
    let subscribers = Arc::clone(subscribers);
    Box::new(move || {
        if let Err(why) = subscribers.start_for_nodes() {
            log::warn!("cannot start a thread that subscribes to Redis: {why}");
        }
        subscribers.echoes()
    })
}

/// Prepares the subscriber threads, each of which starts when a room needs it.
fn start_subscribers(
    state: &Arc<NodeState>,
    delivery: &Arc<dyn Delivery>,
    roster_events: Sender<RosterEvent>,
) -> Arc<Subscribers> {
    let (shared, delivery) = (Arc::clone(state), Arc::clone(delivery));
    let start = move |subscribers: &Arc<Subscribers>, source: RelaySource, waker, requests| {
        let subscriber = Subscriber::new(
            Arc::clone(&shared),
            Arc::clone(&delivery),
            Arc::clone(subscribers),
            source,
            waker,
            requests,
            roster_events.clone(),
        );
        threads::spawn_service("redis-subscribe", move || subscriber.run()).map(drop)
    };
    Arc::new(Subscribers::new(Arc::clone(state), Box::new(start)))
}

impl Store for Redis {
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        match self.state.rooms.get(room) {
            Some(numbering) => Ok(numbering),
            None => self.subscribe_to(room),
        }
    }

    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        if let Some(numbering) = self.state.rooms.get(room) {
            return Ok(Some(numbering));
        }
        let names = &self.state.names;
        let position = self
            .clients
            .with(|client| history::read_position(client, names, room))
            .map_err(|_| StoreError::Unreachable)?;
        // The room has no members here, so this numbering is for this request only.
        let numbering =
            |at: Position| Arc::new(RoomNumbering::new(room.clone(), at.epoch, at.offset));
        Ok(position.map(numbering))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        let started = Instant::now();
        let appended = self.publisher.lock().append(batch, &self.state);
        match appended.failure {
            None => {
                self.metrics.commits.add(1);
                let micros = started.elapsed().as_micros();
                self.metrics.commit_micros.add(micros as u64);
                self.state.publishing.succeeded();
            }
            Some(why) => {
                self.metrics.commits_failed.add(1);
                self.state.publishing.failed(why);
            }
        }
        appended.results
    }

    fn delete(&self, room: &RoomName, deletion: Deletion) -> Result<Deleted, StoreError> {
        let state = &*self.state;
        let messages = self
            .clients
            .with(|client| history::delete(client, state, room, deletion));
        match messages {
            Ok(messages) => {
                self.metrics.deleted.add(messages);
                Ok(Deleted {
                    messages,
                    is_complete: true,
                })
            }
            Err(why) => {
                log::warn!("cannot delete messages of room {room}: {why}");
                Err(match why {
                    CommandError::NotExecuted(_) => StoreError::Unavailable,
                    CommandError::NoReply(_) => StoreError::Unknown,
                })
            }
        }
    }

    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError> {
        let (state, room) = (&*self.state, numbering.name());
        if !state.keeps_history(room) {
            // The newest message is stored for the nodes only.
            return Ok(Page::empty(room, numbering.position(), query.since));
        }
        let page = self
            .clients
            .with(|client| history::read_page(client, state, room, query))
            .map_err(|_| StoreError::Unreachable)?;
        Ok(page.unwrap_or_else(|| Page::empty(room, numbering.position(), query.since)))
    }

    fn maintain(&self, _now: Instant) {
        self.probe();
    }

    fn probe(&self) {
        match self.publisher.lock().check(&self.state) {
            Ok(()) => self.state.publishing.succeeded(),
            Err(why) => self.state.publishing.failed(why),
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            rooms: self.state.rooms.len(),
            messages: None,
            bytes: None,
            disk_bytes: None,
        }
    }

    fn health(&self) -> Result<(), String> {
        self.state.publishing.check()?;
        self.state.subscription.check()
    }

    fn close_on_other_nodes(&self, clients: &ClientSelector) -> usize {
        let names = &self.state.names;
        let commands = self.state.publish_to_nodes(
            names.close_channel(),
            names.sharded_close_channel(),
            &nodes::close_message(clients, &names.node),
        );
        let run = |client: &mut RedisClient| client.run(&commands).map(drop);
        if let Err(why) = self.clients.with(run) {
            log::warn!("cannot ask other nodes to close clients: {why}");
            return 0;
        }
        self.state.nodes.load(Ordering::Relaxed).saturating_sub(1)
    }

    fn revoke(&self, user: &str, at: Duration) -> Result<usize, StoreError> {
        let commands = nodes::revoke_commands(&self.state, user, at);
        let run = |client: &mut RedisClient| {
            let replies = client.run(&commands)?;
            replies
                .into_iter()
                .try_for_each(|reply| accepted(reply).map(drop))
        };
        self.clients.with(run).map_err(|why| {
            log::error!("cannot store a revocation in Redis: {why}");
            StoreError::Unreachable
        })?;
        Ok(self.state.nodes.load(Ordering::Relaxed).saturating_sub(1))
    }

    fn node_status(&self) -> Option<NodeStatus> {
        let state = &self.state;
        Some(NodeStatus {
            nodes: state.nodes.load(Ordering::Relaxed),
            lag: state.lag.get(),
            reconnects: state.reconnects.load(Ordering::Relaxed),
            gap_fills: state.gap_fills.load(Ordering::Relaxed),
            shards: self.subscribers.shards(),
        })
    }

    fn hold_webhook_lease(&self, lifetime: Duration) -> Result<Lease, StoreError> {
        let names = &self.state.names;
        let held = self
            .clients
            .with(|client| lease::hold(client, names, lifetime));
        held.map_err(|_| StoreError::Unreachable)
    }

    fn release_webhook_lease(&self) {
        let release = || lease::release_command(&self.state.names);
        let released = self.clients.with(|client| client.run_one(release()));
        if let Err(why) = released {
            log::debug!("cannot end the lease of the webhooks: {why}");
        }
    }

    fn close(&self) {
        self.state.leave();
        let commands = nodes::leave_commands(&self.state);
        if let Err(why) = self.publisher.lock().run(&commands) {
            log::debug!("cannot report to other nodes that this node leaves: {why}");
        }
    }
}
