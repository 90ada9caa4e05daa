//! The broker that keeps rooms in Redis, so that several nodes share them: one order, one history.
//!
//! Publishing is a script ([`publisher`], `scripts/publish.lua`): it compares ids, numbers, stores and tells all
//! nodes in one step. What comes back goes to the broadcaster ([`listener`], a thread): a node listens to the
//! rooms that have members there, and reads from the log what did not come by itself. Another thread tells who is
//! in which room ([`presence`]). Clients' threads read history through a few links ([`pool`]).
//!
//! A [`link`] knows what to ask where: of one server, or of each of a cluster what concerns the keys it has
//! ([`slots`]). Each has a connection that fails and comes back by itself ([`way`]).
//!
//! Everything that waits for Redis has an end. While Redis is away, publishes are refused, nobody is closed, and
//! rooms that have members here can be joined.

mod answer;
mod backoff;
mod control;
mod history;
mod link;
mod listener;
mod member_list;
mod names;
mod pool;
mod presence;
mod publisher;
mod record;
mod rooms;
mod scripts;
mod shared;
mod slots;
mod view;
mod wake;
mod way;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Mutex, MutexGuard};
use redis::Cmd;

use crate::config::{HistoryLimits, RedisSettings};
use crate::metrics::Metrics;
use crate::protocol::{Page, RoomName};
use crate::rooms::{ClientSelector, RoomNumbering};
use crate::threads;

use self::answer::LinkError;
use self::link::{Link, Target};
use self::listener::{Listener, Open};
use self::names::Names;
use self::pool::Pool;
use self::presence::Presence;
use self::publisher::Publisher;
use self::shared::{Shared, aside};
use self::wake::Wake;
use super::api::{HistoryQuery, NodeStatus, Store, Usage};
use super::delivery::Delivery;
use super::error::StoreError;
use super::publish::{Publish, Stored};

/// Rooms that wait to be listened to.
const OPEN_QUEUE_MAX: usize = 1024;
/// What nodes have said and has yet to be taken in.
const TOLD_QUEUE_MAX: usize = 1024;
/// Time that one who joins waits until the room is listened to.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A node's way to the Redis that it shares with others.
pub(super) struct Redis {
    shared: Arc<Shared>,
    publisher: Mutex<Publisher>,
    pool: Pool,
    opens: Sender<Open>,
    wake: Arc<Wake>,
    metrics: Arc<Metrics>,
}

/// Why a node cannot begin; its `Display` is one line for the operator.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The address is none.
    Address(String),
    /// Redis is not there, or refuses; where it was looked for, and why.
    Redis(String, String),
    /// A thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => write!(
                f,
                "--redis: {why}; write redis://host:6379, rediss://user:password@host:6379 or \
                 unix:///run/redis.sock"
            ),
            Self::Redis(address, why) => write!(f, "--redis {address}: {why}"),
            Self::Thread(why) => write!(f, "cannot start a thread: {why}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl Redis {
    /// Connects and begins to listen. What comes back is handed to the broadcaster.
    pub(super) fn connect(
        settings: &RedisSettings,
        limits: HistoryLimits,
        rooms_max: usize,
        delivery: Arc<dyn Delivery>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        let target = Target::parse(&settings.url);
        let target = target.map_err(|why| ConnectError::Address(why.to_string()))?;
        let address = target.to_string();
        let shared = Shared::new(target, Names::new(&settings.prefix), limits, rooms_max);
        let mut publisher = Publisher::new(&shared);
        publisher
            .check(&shared)
            .map_err(|why| ConnectError::Redis(address, why))?;
        let (opens, requests) = bounded(OPEN_QUEUE_MAX);
        let (told, hears) = bounded(TOLD_QUEUE_MAX);
        let wake = Arc::new(Wake::default());
        let listener = Listener {
            shared: Arc::clone(&shared),
            delivery: Arc::clone(&delivery),
            requests,
            told,
            wake: Arc::clone(&wake),
            owes_told: false,
            link: shared.link(),
        };
        let (link, theirs) = (shared.link(), Arc::clone(&shared));
        let presence = Presence::new(theirs, delivery, hears, link);
        threads::spawn_service("redis-listen", move || listener.run())
            .map_err(ConnectError::Thread)?;
        threads::spawn_service("redis-presence", move || presence.run())
            .map_err(ConnectError::Thread)?;
        Ok(Self {
            publisher: Mutex::new(publisher),
            pool: Pool::new(&shared),
            shared,
            opens,
            wake,
            metrics,
        })
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock()
    }

    /// Has the room listened to, and waits for it.
    fn listen_to(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        let (answer, answered) = bounded(1);
        let open = Open {
            room: room.clone(),
            answer,
            until: Instant::now() + OPEN_TIMEOUT,
        };
        let full = |_| StoreError::Unreachable;
        self.opens.try_send(open).map_err(full)?;
        let call = |command: Cmd| {
            let ask = |link: &mut Link| link.run_one(command.clone()).map(drop);
            self.pool.with(ask)
        };
        let called = self.wake.call(&self.shared.names, call);
        called.map_err(|_| StoreError::Unreachable)?;
        let answer = answered.recv_timeout(OPEN_TIMEOUT);
        answer.unwrap_or(Err(StoreError::Unreachable))
    }
}

impl Store for Redis {
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        match self.shared.rooms.get(room) {
            Some(stream) => Ok(stream),
            None => self.listen_to(room),
        }
    }

    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        if let Some(stream) = self.shared.rooms.get(room) {
            return Ok(Some(stream));
        }
        let found = self
            .pool
            .with(|link| history::find(link, &self.shared, room));
        let found = found.map_err(|_| StoreError::Unreachable)?;
        Ok(found.map(|position| aside(room, position)))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        let started = Instant::now();
        let appended = self.publisher().append(batch, &self.shared);
        match appended.failure {
            None => {
                self.metrics.commits.add(1);
                let micros = started.elapsed().as_micros();
                self.metrics.commit_micros.add(micros as u64);
                self.shared.storing.succeeded();
            }
            Some(why) => {
                self.metrics.commits_failed.add(1);
                self.shared.storing.failed(why);
            }
        }
        appended.stored
    }

    fn history(&self, stream: &RoomNumbering, slice: HistoryQuery) -> Result<Page, StoreError> {
        let room = stream.name();
        let page = self
            .pool
            .with(|link| history::read(link, &self.shared, room, slice));
        let page = page.map_err(|_: LinkError| StoreError::Unreachable)?;
        Ok(page.unwrap_or_else(|| Page::empty(room, stream.position(), slice.since)))
    }

    fn maintain(&self, _now: Instant) {
        match self.publisher().check(&self.shared) {
            Ok(()) => self.shared.storing.succeeded(),
            Err(why) => self.shared.storing.failed(why),
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            rooms: self.shared.rooms.len(),
            messages: None,
            bytes: None,
            disk_bytes: None,
        }
    }

    fn health(&self) -> Result<(), String> {
        self.shared.storing.check()?;
        self.shared.listening.check()
    }

    fn close_on_other_nodes(&self, who: &ClientSelector) -> usize {
        let names = &self.shared.names;
        let mut command = redis::cmd("PUBLISH");
        command
            .arg(names.control())
            .arg(control::close(who, &names.node));
        let tell = |link: &mut Link| link.run_one(command.clone()).map(drop);
        if let Err(why) = self.pool.with(tell) {
            log::warn!("other nodes were not told to close clients: {why}");
            return 0;
        }
        self.shared.nodes.load(Ordering::Relaxed).saturating_sub(1)
    }

    fn node_status(&self) -> Option<NodeStatus> {
        let shared = &self.shared;
        Some(NodeStatus {
            nodes: shared.nodes.load(Ordering::Relaxed),
            lag: Duration::from_micros(shared.lag_micros.load(Ordering::Relaxed)),
            reconnects: shared.reconnects.load(Ordering::Relaxed),
            gap_fills: shared.gap_fills.load(Ordering::Relaxed),
        })
    }

    fn close(&self) {
        self.shared.leave();
        if let Err(why) = self.publisher().say(&presence::farewell(&self.shared)) {
            log::debug!("other nodes were not told that this one leaves: {why}");
        }
    }
}
