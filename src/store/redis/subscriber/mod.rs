//! The subscriber thread: receives the messages of all rooms with members on this node, from any node, and delivers
//! them in order and without a gap.
//!
//! This thread alone decides which rooms are subscribed. [`subscription`] is one connection, [`reconciler`] compares
//! each room with Redis, and [`waker`] lets other threads request a room.

mod reconciler;
mod room;
mod subscription;
mod waker;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::protocol::RoomName;
use crate::store::delivery::Delivery;

use super::client::Backoff;
use super::node_state::NodeState;
use super::nodes::{self, RosterEvent};

use self::reconciler::Reconciler;
use self::subscription::{Lost, PushMessage, Subscription};

pub(super) use self::reconciler::OpenRequest;
pub(super) use self::waker::SubscriberWaker;

/// Longest time between two comparisons of all rooms with Redis. A comparison also keeps their numbering from expiring.
const COMPARE_INTERVAL: Duration = Duration::from_secs(30);
/// Time until rooms whose server did not reply are compared again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the subscriber thread.
pub(super) struct Subscriber {
    state: Arc<NodeState>,
    delivery: Arc<dyn Delivery>,
    requests: Receiver<OpenRequest>,
    waker: Arc<SubscriberWaker>,
    roster_events: Sender<RosterEvent>,
    /// True if reports of other nodes may have been missed and the heartbeat thread does not know yet.
    missed_reports: bool,
    reconciler: Reconciler,
}

impl Subscriber {
    pub(super) fn new(
        state: Arc<NodeState>,
        delivery: Arc<dyn Delivery>,
        requests: Receiver<OpenRequest>,
        waker: Arc<SubscriberWaker>,
        roster_events: Sender<RosterEvent>,
    ) -> Self {
        Self {
            reconciler: Reconciler::new(Arc::clone(&state), Arc::clone(&delivery)),
            state,
            delivery,
            requests,
            waker,
            roster_events,
            missed_reports: false,
        }
    }

    /// Subscribes, and reconnects with backoff, until the process ends.
    pub(super) fn run(mut self) {
        let config = Arc::clone(&self.state.client_config);
        let mut backoff = Backoff::default();
        let mut was_connected = false;
        for attempt in 0.. {
            let servers = config.servers();
            let client = &servers[attempt % servers.len()];
            match Subscription::open(client) {
                Ok(subscription) => {
                    if was_connected {
                        self.state.reconnects.fetch_add(1, Ordering::Relaxed);
                    }
                    was_connected = true;
                    let Err(why) = Feed::new(&mut self, subscription).run(&mut backoff);
                    backoff.failed(why, Instant::now());
                }
                Err(why) => backoff.failed(why, Instant::now()),
            }
            self.state.subscription.failed(backoff.reason().to_owned());
            std::thread::park_timeout(backoff.remaining(Instant::now()));
        }
    }
}

/// The subscriber's work on one connection.
struct Feed<'a> {
    subscriber: &'a mut Subscriber,
    subscription: Subscription,
    /// The room of each channel.
    channels: HashMap<Vec<u8>, RoomName>,
    /// Rooms whose subscription is confirmed and that are to be compared with Redis.
    confirmed: Vec<RoomName>,
    compare_at: Instant,
    /// True if rooms may have missed messages.
    is_behind: bool,
}

impl<'a> Feed<'a> {
    fn new(subscriber: &'a mut Subscriber, subscription: Subscription) -> Self {
        Self {
            subscriber,
            subscription,
            channels: HashMap::new(),
            confirmed: Vec::new(),
            compare_at: Instant::now(),
            is_behind: true,
        }
    }

    fn run(mut self, backoff: &mut Backoff) -> Result<Infallible, Lost> {
        self.start()?;
        loop {
            let message = self.subscription.receive()?;
            self.handle(message)?;
            self.unsubscribe_rejected()?;
            if !self.subscription.is_confirmed() {
                continue;
            }
            // A room is compared once it is subscribed: from then on no message is missed.
            if !self.confirmed.is_empty() {
                let confirmed = std::mem::take(&mut self.confirmed);
                self.compare(&confirmed)?;
            }
            if self.is_behind {
                self.is_behind = false;
                backoff.succeeded();
                self.subscriber.state.subscription.succeeded();
                self.subscriber.missed_reports = true;
            }
        }
    }

    fn start(&mut self) -> Result<(), Lost> {
        let names = &self.subscriber.state.names;
        let own_channels = [
            names.echo_channel(),
            names.report_channel(),
            names.close_channel(),
        ];
        self.subscription.subscribe(&own_channels)?;
        let reconciler = &mut self.subscriber.reconciler;
        reconciler.drop_expired_requests(Instant::now());
        let wanted = reconciler.wanted_rooms();
        self.subscribe(wanted)?;
        // A wake-up published while there was no connection is lost.
        self.subscriber.waker.arrived();
        self.take_requests()
    }

    fn handle(&mut self, message: PushMessage) -> Result<(), Lost> {
        match message {
            PushMessage::Published { channel, payload } => self.receive(&channel, &payload),
            PushMessage::Subscribed { channel } => {
                self.confirmed.extend(self.channels.get(&channel).cloned());
                Ok(())
            }
            PushMessage::Other => Ok(()),
        }
    }

    fn receive(&mut self, channel: &[u8], payload: &[u8]) -> Result<(), Lost> {
        if let Some(room) = self.channels.get(channel) {
            return self.subscriber.reconciler.deliver(room, payload);
        }
        let Subscriber {
            state, delivery, ..
        } = &*self.subscriber;
        if channel == state.names.echo_channel().as_bytes() {
            state.lag.measure(payload);
            self.subscriber.waker.arrived();
            self.take_requests()?;
            self.tick()
        } else if channel == state.names.report_channel().as_bytes() {
            let event = RosterEvent::Report(payload.to_vec());
            let sent = self.subscriber.roster_events.try_send(event);
            self.subscriber.missed_reports |= sent.is_err();
            Ok(())
        } else {
            nodes::close_requested_clients(payload, &state.names.node, &**delivery);
            Ok(())
        }
    }

    fn take_requests(&mut self) -> Result<(), Lost> {
        let waiting = self.subscriber.requests.len();
        if !self.subscriber.reconciler.has_space_for(waiting) {
            self.unsubscribe_idle()?;
        }
        let now = Instant::now();
        let Subscriber {
            requests,
            reconciler,
            ..
        } = &mut *self.subscriber;
        let new_rooms = requests
            .try_iter()
            .filter(|request| now < request.deadline)
            .filter_map(|request| reconciler.open(request))
            .collect();
        self.subscribe(new_rooms)
    }

    /// Runs about once a second, with the node's echo.
    fn tick(&mut self) -> Result<(), Lost> {
        self.unsubscribe_idle()?;
        if !self.is_behind {
            // Repeated, because an earlier call may have been too soon after the last log line to log the recovery.
            self.subscriber.state.subscription.succeeded();
        }
        if self.subscriber.missed_reports {
            let sent = self.subscriber.roster_events.try_send(RosterEvent::Missed);
            self.subscriber.missed_reports = sent.is_err();
        }
        if Instant::now() >= self.compare_at {
            let age = self.subscriber.state.limits.age;
            self.compare_at = Instant::now() + COMPARE_INTERVAL.min(age / 2);
            let rooms = self.subscriber.reconciler.subscribed_rooms();
            self.compare(&rooms)?;
        }
        Ok(())
    }

    fn unsubscribe_idle(&mut self) -> Result<(), Lost> {
        let idle = self.subscriber.state.rooms.take_idle();
        self.unsubscribe(&idle)
    }

    fn compare(&mut self, rooms: &[RoomName]) -> Result<(), Lost> {
        self.subscriber.reconciler.compare(rooms)?;
        self.unsubscribe_rejected()
    }

    fn unsubscribe_rejected(&mut self) -> Result<(), Lost> {
        let reconciler = &mut self.subscriber.reconciler;
        if reconciler.take_retry_soon() {
            self.compare_at = self.compare_at.min(Instant::now() + RETRY_INTERVAL);
        }
        let rejected = reconciler.take_rejected();
        self.unsubscribe(&rejected)
    }

    fn subscribe(&mut self, rooms: Vec<RoomName>) -> Result<(), Lost> {
        let names = &self.subscriber.state.names;
        let channels: Vec<String> = rooms.iter().map(|room| names.room_channel(room)).collect();
        for (room, channel) in rooms.into_iter().zip(&channels) {
            self.channels.insert(channel.clone().into_bytes(), room);
        }
        self.subscription.subscribe(&channels)
    }

    fn unsubscribe(&mut self, rooms: &[RoomName]) -> Result<(), Lost> {
        let names = &self.subscriber.state.names;
        let channels: Vec<String> = rooms.iter().map(|room| names.room_channel(room)).collect();
        for (room, channel) in rooms.iter().zip(&channels) {
            self.subscriber.reconciler.remove(room);
            self.channels.remove(channel.as_bytes());
        }
        self.subscription.unsubscribe(&channels)
    }
}
