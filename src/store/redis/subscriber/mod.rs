//! The subscriber threads: receive the messages of all rooms with members on this node, from any node, and deliver them
//! in order and without a gap.
//!
//! A subscriber alone decides which of its rooms are subscribed. [`registry`] has all subscribers, [`feed`] is the work
//! on one connection, [`subscription`] the connection, [`reconciler`] compares each room with Redis, and [`waker`] lets
//! other threads request a room.
//!
//! With sharded channels there is one subscriber for each server of the cluster. When a slot moves to another server,
//! the subscriber that loses a room sends it to the one that gains it, which subscribes and then compares.

mod feed;
mod reconciler;
mod registry;
mod request;
mod room;
mod source;
mod subscription;
mod waker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::protocol::RoomName;
use crate::store::delivery::Delivery;

use super::client::Backoff;
use super::node_state::NodeState;
use super::nodes::RosterEvent;

use self::feed::{Feed, FeedEnd};
use self::reconciler::Reconciler;
use self::subscription::Subscription;
use self::waker::SubscriberWaker;

pub(super) use self::registry::Subscribers;
pub(super) use self::request::{OpenRequest, SubscriberRequest};
pub(super) use self::source::RelaySource;

/// The state of a subscriber thread.
pub(super) struct Subscriber {
    state: Arc<NodeState>,
    delivery: Arc<dyn Delivery>,
    subscribers: Arc<Subscribers>,
    source: RelaySource,
    requests: Receiver<SubscriberRequest>,
    waker: Arc<SubscriberWaker>,
    roster_events: Sender<RosterEvent>,
    /// True if reports of other nodes may have been missed and the heartbeat thread does not know yet.
    missed_reports: bool,
    reconciler: Reconciler,
    /// Requests that other subscribers had no space for.
    unsent: Vec<SubscriberRequest>,
    /// Rooms whose unsent requests this subscriber took back, because they are its own again. Their channels are to be
    /// subscribed.
    returned: Vec<RoomName>,
}

impl Subscriber {
    pub(super) fn new(
        state: Arc<NodeState>,
        delivery: Arc<dyn Delivery>,
        subscribers: Arc<Subscribers>,
        source: RelaySource,
        waker: Arc<SubscriberWaker>,
        requests: Receiver<SubscriberRequest>,
        roster_events: Sender<RosterEvent>,
    ) -> Self {
        Self {
            reconciler: Reconciler::new(Arc::clone(&state), Arc::clone(&delivery)),
            state,
            delivery,
            subscribers,
            source,
            requests,
            waker,
            roster_events,
            missed_reports: false,
            unsent: Vec::new(),
            returned: Vec::new(),
        }
    }

    /// Subscribes, and reconnects with backoff, until the process ends or the source has no rooms any more.
    pub(super) fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut was_connected = false;
        for attempt in 0.. {
            match self.connect(attempt) {
                Ok(subscription) => {
                    if was_connected {
                        self.state.reconnects.fetch_add(1, Ordering::Relaxed);
                    }
                    was_connected = true;
                    match Feed::new(&mut self, subscription).run(&mut backoff) {
                        FeedEnd::Unused => return,
                        FeedEnd::Lost(why) => backoff.failed(why, Instant::now()),
                    }
                }
                Err(why) => backoff.failed(why, Instant::now()),
            }
            self.subscribers.failed(&self.source, backoff.reason());
            std::thread::park_timeout(backoff.remaining(Instant::now()));
            if self.source != RelaySource::AnyServer {
                // Another server may have the slots now.
                self.reconciler.refresh_topology();
            }
            self.take_requests();
            self.send_away_rooms();
            if self.ends() {
                return;
            }
        }
    }

    fn connect(&self, attempt: usize) -> Result<Subscription, String> {
        let config = &self.state.client_config;
        let client = match &self.source {
            RelaySource::AnyServer => {
                let servers = config.servers();
                servers.get(attempt % servers.len().max(1)).cloned()
            }
            RelaySource::Shard(address) => config.server(address),
        };
        let client = client.ok_or_else(|| "the address is not valid".to_owned())?;
        Subscription::open(&client, &self.source)
    }

    /// Takes the waiting requests. Returns the rooms whose channels are to be subscribed first.
    fn take_requests(&mut self) -> Vec<RoomName> {
        let now = Instant::now();
        let is_valid = |request: &SubscriberRequest| match request {
            SubscriberRequest::Open(request) => now < request.deadline,
            SubscriberRequest::TakeOver(_) => true,
        };
        let Self {
            requests,
            reconciler,
            ..
        } = self;
        requests
            .try_iter()
            .filter(is_valid)
            .filter_map(|request| reconciler.handle(request))
            .collect()
    }

    /// Sends the rooms that belong to other subscribers to them, and returns their names.
    fn send_away_rooms(&mut self) -> Vec<RoomName> {
        let rooms = self.reconciler.wanted_rooms();
        let sent = rooms.into_iter().filter(|room| self.send_away(room));
        sent.collect()
    }

    /// Sends a room to its subscriber, unless that is this one or unknown.
    fn send_away(&mut self, room: &RoomName) -> bool {
        let Some(source) = self.subscribers.source_of(room) else {
            return false;
        };
        if source == self.source {
            return false;
        }
        let requests = self.reconciler.release(room);
        self.unsent.extend(requests);
        self.send_unsent();
        true
    }

    /// Sends requests to other subscribers. Requests for which there is no space are sent later.
    fn send_unsent(&mut self) {
        for request in std::mem::take(&mut self.unsent) {
            match self.subscribers.source_of(request.room()) {
                Some(source) if source == self.source => {
                    self.returned.extend(self.reconciler.handle(request));
                }
                Some(source) => match self.subscribers.send(&source, request) {
                    Ok(waker) => {
                        // A subscriber that is not woken takes the request with its next echo or connection.
                        waker.wake(|command| self.reconciler.run(command)).ok();
                    }
                    Err(request) => self.unsent.push(request),
                },
                None => self.unsent.push(request),
            }
        }
    }

    /// Returns whether the thread ends, because its source has no rooms any more.
    fn ends(&mut self) -> bool {
        let is_unused = self.reconciler.is_empty()
            && self.unsent.is_empty()
            && !self.subscribers.is_current(&self.source);
        is_unused && self.subscribers.end(&self.source, &self.requests)
    }
}
