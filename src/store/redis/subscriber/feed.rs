//! The work of a subscriber on one connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::protocol::RoomName;

use super::super::client::{Backoff, slot_of_key};
use super::super::nodes::{self, RosterEvent};
use super::Subscriber;
use super::source::{NodeChannels, RelaySource};
use super::subscription::{Lost, PushMessage, Subscription};

/// Longest time between two comparisons of all rooms with Redis. A comparison also keeps their numbering from expiring.
const COMPARE_INTERVAL: Duration = Duration::from_secs(30);
/// Time until rooms whose server did not reply are compared again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The work on one connection.
pub(super) struct Feed<'a> {
    subscriber: &'a mut Subscriber,
    subscription: Subscription,
    /// The room of each channel.
    channels: HashMap<Vec<u8>, RoomName>,
    echo_channel: String,
    node_channels: NodeChannels,
    /// True if the messages to all nodes come through this connection.
    has_node_channels: bool,
    /// Rooms whose subscription is confirmed and that are to be compared with Redis.
    confirmed: Vec<RoomName>,
    /// Rooms whose channels the server has given up, though no other server is known to have them.
    dropped: Vec<RoomName>,
    /// The placement of rooms when this subscriber last sent rooms to others.
    placement: Option<(u64, bool)>,
    compare_at: Instant,
    /// True if rooms may have missed messages.
    is_behind: bool,
}

/// The reason why the work ends.
pub(super) enum FeedEnd {
    Lost(Lost),
    /// The source has no rooms any more.
    Unused,
}

impl From<Lost> for FeedEnd {
    fn from(why: Lost) -> Self {
        Self::Lost(why)
    }
}

impl<'a> Feed<'a> {
    pub(super) fn new(subscriber: &'a mut Subscriber, subscription: Subscription) -> Self {
        let names = &subscriber.state.names;
        Self {
            node_channels: subscriber.source.node_channels(names),
            subscriber,
            subscription,
            channels: HashMap::new(),
            echo_channel: String::new(),
            has_node_channels: false,
            confirmed: Vec::new(),
            dropped: Vec::new(),
            placement: None,
            compare_at: Instant::now(),
            is_behind: true,
        }
    }

    pub(super) fn run(mut self, backoff: &mut Backoff) -> FeedEnd {
        let Err(end) = self.start_and_receive(backoff);
        end
    }

    fn start_and_receive(&mut self, backoff: &mut Backoff) -> Result<Infallible, FeedEnd> {
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
                self.subscriber
                    .subscribers
                    .succeeded(&self.subscriber.source);
            }
        }
    }

    fn start(&mut self) -> Result<(), Lost> {
        let Subscriber {
            state,
            source,
            waker,
            ..
        } = &*self.subscriber;
        let slots = match source {
            RelaySource::AnyServer => Vec::new(),
            RelaySource::Shard(address) => state.client_config.slots_of(address),
        };
        self.echo_channel = source.echo_channel(&state.names, &slots);
        waker.set_channel(self.echo_channel.clone());
        self.subscription
            .subscribe(std::slice::from_ref(&self.echo_channel))?;
        self.update_node_channels()?;
        let reconciler = &mut self.subscriber.reconciler;
        reconciler.drop_expired_requests(Instant::now());
        let wanted = reconciler.wanted_rooms();
        self.subscribe(wanted)?;
        // A wake-up published while there was no connection is lost.
        self.subscriber.waker.arrived();
        self.take_requests()
    }

    /// Subscribes to the messages to all nodes, if this is their source.
    fn update_node_channels(&mut self) -> Result<(), Lost> {
        let source = self.subscriber.subscribers.source_of_nodes();
        let is_source = source.as_ref() == Some(&self.subscriber.source);
        if is_source == self.has_node_channels {
            return Ok(());
        }
        self.has_node_channels = is_source;
        let channels = [&self.node_channels.report, &self.node_channels.close].map(String::clone);
        match is_source {
            true => self.subscription.subscribe(&channels),
            false => self.subscription.unsubscribe(&channels),
        }
    }

    fn handle(&mut self, message: PushMessage) -> Result<(), FeedEnd> {
        match message {
            PushMessage::Published { channel, payload } => self.receive(&channel, &payload),
            PushMessage::Subscribed { channel } => {
                self.confirmed.extend(self.channels.get(&channel).cloned());
                // Reports published before are lost.
                let is_report = channel == self.node_channels.report.as_bytes();
                self.subscriber.missed_reports |= is_report;
                Ok(())
            }
            PushMessage::Unsubscribed { channel } => Ok(self.give_up_channel(&channel)?),
            PushMessage::Moved { slot } => {
                let is_in_slot = |channel: &&Vec<u8>| slot_of_key(channel) == slot;
                let own = [&self.echo_channel, &self.node_channels.report];
                let own = own.map(|channel| channel.clone().into_bytes());
                let rooms = self.channels.keys();
                let moved: Vec<Vec<u8>> = rooms.chain(&own).filter(is_in_slot).cloned().collect();
                for channel in moved {
                    self.give_up_channel(&channel)?;
                }
                Ok(())
            }
            PushMessage::Refused { reason } => {
                self.subscriber.state.relay.give_up(&reason);
                Err(FeedEnd::Lost(reason))
            }
            PushMessage::Other => Ok(()),
        }
    }

    fn receive(&mut self, channel: &[u8], payload: &[u8]) -> Result<(), FeedEnd> {
        if let Some(room) = self.channels.get(channel) {
            return Ok(self.subscriber.reconciler.deliver(room, payload)?);
        }
        let Subscriber {
            state, delivery, ..
        } = &*self.subscriber;
        if channel == self.echo_channel.as_bytes() {
            state.lag.measure(payload);
            self.subscriber.waker.arrived();
            self.take_requests()?;
            if !payload.is_empty() {
                self.tick()?;
            }
        } else if channel == self.node_channels.report.as_bytes() {
            let event = RosterEvent::Report(payload.to_vec());
            let sent = self.subscriber.roster_events.try_send(event);
            self.subscriber.missed_reports |= sent.is_err();
        } else if channel == self.node_channels.close.as_bytes() {
            nodes::act_on_request(payload, state, &**delivery);
        }
        Ok(())
    }

    /// Handles the end of a subscription. If this node still wants it, the slot has moved to another server.
    fn give_up_channel(&mut self, channel: &[u8]) -> Result<(), Lost> {
        if channel == self.echo_channel.as_bytes() {
            self.subscriber.reconciler.refresh_topology();
            return Err("the slot of this node's channel has moved".to_owned());
        }
        if channel == self.node_channels.report.as_bytes() {
            // Another subscriber takes over, or this one once its server has the slot again.
            self.has_node_channels = false;
            return Ok(());
        }
        let Some(room) = self.channels.remove(channel) else {
            return Ok(());
        };
        if !self.subscriber.send_away(&room) {
            self.subscriber.reconciler.refresh_topology();
            if !self.subscriber.send_away(&room) {
                self.dropped.push(room);
            }
        }
        Ok(())
    }

    fn take_requests(&mut self) -> Result<(), Lost> {
        let waiting = self.subscriber.requests.len();
        if !self.subscriber.reconciler.has_space_for(waiting) {
            self.unsubscribe_idle()?;
        }
        let rooms = self.subscriber.take_requests();
        self.subscribe(rooms)
    }

    /// Runs about once a second, with the node's echo.
    fn tick(&mut self) -> Result<(), FeedEnd> {
        self.unsubscribe_idle()?;
        if !self.is_behind {
            // Repeated, because an earlier call may have been too soon after the last log line to log the recovery.
            self.subscriber
                .subscribers
                .succeeded(&self.subscriber.source);
        }
        self.follow_slots()?;
        if self.subscriber.missed_reports && self.has_node_channels {
            let sent = self.subscriber.roster_events.try_send(RosterEvent::Missed);
            self.subscriber.missed_reports = sent.is_err();
        }
        if Instant::now() >= self.compare_at {
            let age = self.subscriber.state.age_max();
            self.compare_at = Instant::now() + COMPARE_INTERVAL.min(age / 2);
            let rooms = self.subscriber.reconciler.subscribed_rooms();
            self.compare(&rooms)?;
        }
        if self.subscriber.ends() {
            return Err(FeedEnd::Unused);
        }
        Ok(())
    }

    /// Sends rooms to the subscribers that they belong to by now, and subscribes again to those that stay.
    fn follow_slots(&mut self) -> Result<(), Lost> {
        if !self.dropped.is_empty() {
            self.subscriber.reconciler.refresh_topology();
        }
        let placement = self.subscriber.subscribers.placement();
        if self.placement.replace(placement) != Some(placement) {
            let sent = self.subscriber.send_away_rooms();
            let channels = self.forget_channels(&sent);
            self.subscription.unsubscribe(&channels)?;
        }
        self.subscriber.send_unsent();
        let mut rooms = std::mem::take(&mut self.dropped);
        rooms.append(&mut self.subscriber.returned);
        self.subscriber.reconciler.retain_wanted(&mut rooms);
        self.subscribe(rooms)?;
        self.update_node_channels()
    }

    fn unsubscribe_idle(&mut self) -> Result<(), Lost> {
        let reconciler = &self.subscriber.reconciler;
        let is_subscribed = |room: &RoomName| reconciler.has(room);
        let idle = self.subscriber.state.rooms.take_idle(is_subscribed);
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
        for room in rooms {
            self.subscriber.reconciler.remove(room);
        }
        let channels = self.forget_channels(rooms);
        self.subscription.unsubscribe(&channels)
    }

    /// Forgets the channels of rooms and returns those that were subscribed.
    fn forget_channels(&mut self, rooms: &[RoomName]) -> Vec<String> {
        let names = &self.subscriber.state.names;
        let channels = rooms.iter().map(|room| names.room_channel(room));
        channels
            .filter(|channel| self.channels.remove(channel.as_bytes()).is_some())
            .collect()
    }
}
