//! The subscriber threads of this node, and the one that each room belongs to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use redis::Cmd;

use crate::protocol::RoomName;

use super::super::client::slot_of_key;
use super::super::node_state::NodeState;
use super::request::SubscriberRequest;
use super::source::RelaySource;
use super::waker::SubscriberWaker;

/// Requests that may wait for one subscriber thread.
const REQUESTS_MAX: usize = 1024;
/// Maximum number of subscriber threads. A Redis Cluster has at most about as many servers.
const SUBSCRIBERS_MAX: usize = 1000;

/// Starts the thread of a subscriber.
type Start = Box<
    dyn Fn(
            &Arc<Subscribers>,
            RelaySource,
            Arc<SubscriberWaker>,
            Receiver<SubscriberRequest>,
        ) -> io::Result<()>
        + Send
        + Sync,
>;

/// The subscriber threads. There is one for all rooms, or with sharded channels one for each server of the cluster.
pub(crate) struct Subscribers {
    state: Arc<NodeState>,
    start: Start,
    running: Mutex<BTreeMap<RelaySource, Running>>,
    /// The reasons of the subscribers that are not connected.
    failures: Mutex<BTreeMap<RelaySource, String>>,
}

struct Running {
    waker: Arc<SubscriberWaker>,
    requests: Sender<SubscriberRequest>,
}

impl Subscribers {
    /// `start` starts a thread, which the other threads reach through the waker and the queue.
    pub(crate) fn new(state: Arc<NodeState>, start: Start) -> Self {
        Self {
            state,
            start,
            running: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Returns the source of a room's messages. `None` while no server is known to have its slot.
    pub(crate) fn source_of(&self, room: &RoomName) -> Option<RelaySource> {
        let [numbering_key, ..] = self.state.names.room_keys(room);
        self.source_of_key(&numbering_key)
    }

    /// A value that changes when rooms may belong to other sources.
    pub(super) fn placement(&self) -> (u64, bool) {
        let changes = self.state.client_config.topology_changes();
        (changes, self.state.relay.receives_sharded())
    }

    /// Returns the source of the messages to all nodes.
    pub(super) fn source_of_nodes(&self) -> Option<RelaySource> {
        self.source_of_key(&self.state.names.nodes_key())
    }

    fn source_of_key(&self, key: &str) -> Option<RelaySource> {
        if !self.state.relay.receives_sharded() {
            return Some(RelaySource::AnyServer);
        }
        let owner = self
            .state
            .client_config
            .owner_of(slot_of_key(key.as_bytes()));
        owner.map(RelaySource::Shard)
    }

    /// Returns whether a source may have rooms.
    pub(super) fn is_current(&self, source: &RelaySource) -> bool {
        let is_sharded = self.state.relay.receives_sharded();
        match source {
            RelaySource::AnyServer => !is_sharded,
            RelaySource::Shard(address) => {
                is_sharded && !self.state.client_config.slots_of(address).is_empty()
            }
        }
    }

    /// Starts the subscriber of the messages to all nodes, unless it runs.
    pub(crate) fn start_for_nodes(self: &Arc<Self>) -> io::Result<()> {
        let Some(source) = self.source_of_nodes() else {
            return Ok(());
        };
        let mut running = self.running.lock();
        self.running(&mut running, &source).map(drop)
    }

    /// Queues a request for a source and starts its subscriber if needed. Returns the request if that fails. The
    /// caller wakes the subscriber.
    pub(crate) fn send(
        self: &Arc<Self>,
        source: &RelaySource,
        request: SubscriberRequest,
    ) -> Result<Arc<SubscriberWaker>, SubscriberRequest> {
        let mut running = self.running.lock();
        let Ok(subscriber) = self.running(&mut running, source) else {
            return Err(request);
        };
        match subscriber.requests.try_send(request) {
            Ok(()) => Ok(Arc::clone(&subscriber.waker)),
            Err(why) => Err(why.into_inner()),
        }
    }

    fn running<'a>(
        self: &Arc<Self>,
        running: &'a mut BTreeMap<RelaySource, Running>,
        source: &RelaySource,
    ) -> io::Result<&'a Running> {
        if !running.contains_key(source) {
            if running.len() >= SUBSCRIBERS_MAX {
                return Err(io::Error::other("too many subscribers"));
            }
            let waker = SubscriberWaker::new(source);
            let (waker, (requests, waiting)) = (Arc::new(waker), bounded(REQUESTS_MAX));
            (self.start)(self, source.clone(), Arc::clone(&waker), waiting)?;
            running.insert(source.clone(), Running { waker, requests });
        }
        let started = running.get(source);
        started.ok_or_else(|| io::Error::other("no subscriber"))
    }

    /// Forgets a subscriber whose thread is about to end. Returns false if requests wait for it.
    pub(super) fn end(&self, source: &RelaySource, requests: &Receiver<SubscriberRequest>) -> bool {
        let mut running = self.running.lock();
        let is_unused = requests.is_empty();
        if is_unused {
            running.remove(source);
            self.succeeded(source);
        }
        is_unused
    }

    /// The commands that publish this node's clock to each subscriber.
    pub(crate) fn echoes(&self) -> Vec<Cmd> {
        let echo = self.state.lag.echo();
        let running = self.running.lock();
        running
            .values()
            .filter_map(|subscriber| subscriber.waker.publish(echo))
            .collect()
    }

    /// The number of servers of a cluster whose sharded channels this node receives.
    pub(crate) fn shards(&self) -> usize {
        let running = self.running.lock();
        running
            .keys()
            .filter(|source| **source != RelaySource::AnyServer)
            .count()
    }

    /// Records that a subscriber receives messages.
    pub(super) fn succeeded(&self, source: &RelaySource) {
        let mut failures = self.failures.lock();
        failures.remove(source);
        match failures.values().next() {
            None => self.state.subscription.succeeded(),
            Some(reason) => self.state.subscription.failed(reason.clone()),
        }
    }

    /// Records that a subscriber is not connected.
    pub(super) fn failed(&self, source: &RelaySource, reason: &str) {
        let reason = match source {
            RelaySource::AnyServer => reason.to_owned(),
            RelaySource::Shard((host, port)) => format!("{host}:{port}: {reason}"),
        };
        self.state.subscription.failed(reason.clone());
        self.failures.lock().insert(source.clone(), reason);
    }
}
