//! The broker: takes publishes to the store, then delivers and acknowledges them.
//!
//! Publishes that wait are taken by the broker thread as one batch. While nothing waits, a single publish is not worth
//! the sleep and wake-up of one more thread, so the client's own thread does the same work, if the store does no I/O.
//!
//! A message is stored before it is acknowledged or delivered, and delivered in the order of its offsets. A full
//! queue makes publishers wait; nothing is dropped.

use std::io;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, SendTimeoutError, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};

use crate::inbox::{self, Inbox, InboxSender};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::protocol::{Page, Position, Refusal, RoomName, ServerMessage};
use crate::rooms::{ClientSelector, Exclusion, RoomNumbering};
use crate::store::{
    Acknowledgement, Deleted, Deletion, Delivery, HistoryQuery, NodeStatus, Publish, Store,
    StoreError, Stored, Usage,
};
use crate::threads::{self, REPLY_TIMEOUT};

/// Publishes that may wait for the broker thread. While the queue is full, publishers wait.
const QUEUE_PUBLISHES_MAX: usize = 512;
/// Time between two maintenance runs of the store.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two probes of the store. Health checks in between share the result of the last one.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// The handle of the broker and of the store behind it.
#[derive(Clone)]
pub(crate) struct Broker {
    publishing: Arc<Publishing>,
    inbox: InboxSender<Work>,
}

/// The receiver of a publish's result.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A client: `ack` if the publish has an id, `error` if it is refused.
    Outbox(Arc<Outbox>),
    /// A thread that waits for the result.
    Thread(Sender<Result<Position, StoreError>>),
}

/// The place of a publish in its room.
struct Placed {
    position: Position,
    /// True if the delivery acknowledges it.
    is_acknowledged: bool,
}

/// An item of the broker's queue.
enum Work {
    Publish(Publish, ReplyTo),
    /// An operator's deletion, carried out after the publishes before it.
    Delete(RoomName, Deletion, Sender<Result<Deleted, StoreError>>),
    /// A request for the health of the store, checked on the broker thread.
    Probe(Sender<Result<(), String>>),
    Stop,
}

impl Broker {
    /// Starts the broker thread. It ends after [`stop`](Self::stop), or when every handle is dropped, once the
    /// queue is stored.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        delivery: Arc<dyn Delivery>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let publishing = Arc::new(Publishing {
            store,
            delivery,
            metrics,
            turn: Mutex::default(),
            waiting: AtomicUsize::new(0),
        });
        let broker = Arc::clone(&publishing);
        let run = move |inbox: &_| broker.run(inbox);
        let (inbox, thread) = inbox::spawn_service("broker", QUEUE_PUBLISHES_MAX, run)?;
        Ok((Self { publishing, inbox }, thread))
    }

    /// Stores a publish on this thread while nothing waits and the store does no I/O; otherwise queues it. Blocks while
    /// the queue is full, which slows publishers down to the store's speed; fails after [`REPLY_TIMEOUT`].
    pub(crate) fn publish(&self, publish: Publish, reply_to: ReplyTo) -> Result<(), StoreError> {
        if let Some(turn) = self.publishing.idle_turn() {
            self.publishing.publish_now(turn, &publish, &reply_to);
            return Ok(());
        }
        self.publishing.waiting.fetch_add(1, Ordering::Relaxed);
        let work = Work::Publish(publish, reply_to);
        let sent = self.inbox.send_timeout(work, REPLY_TIMEOUT);
        sent.map_err(|error| {
            self.publishing.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                SendTimeoutError::Timeout(_) => StoreError::Unavailable,
                SendTimeoutError::Disconnected(_) => StoreError::Stopped,
            }
        })
    }

    /// Ends the broker thread once the queue is stored; later publishes are refused. Gives up at the deadline if
    /// the queue is still full then.
    pub(crate) fn stop(&self, deadline: Instant) {
        // Never subtracted: from now on every publish is queued, and refused once the thread has ended.
        self.publishing.waiting.fetch_add(1, Ordering::Relaxed);
        // An error means that the thread has ended or the store hangs: the caller waits for the thread in any case.
        self.inbox.send_deadline(Work::Stop, deadline).ok();
    }

    /// See [`Store::open`].
    pub(crate) fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.publishing.store.open(room)
    }

    /// See [`Store::find`].
    pub(crate) fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        self.publishing.store.find(room)
    }

    /// See [`Store::history`].
    pub(crate) fn history(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
    ) -> Result<Page, StoreError> {
        self.publishing.store.history(numbering, query)
    }

    /// Deletes messages of a room. Other publishes and deletions are carried out between its parts.
    pub(crate) fn delete(&self, room: &RoomName, deletion: Deletion) -> Result<u64, StoreError> {
        let mut messages = 0;
        loop {
            let (reply, replied) = bounded(1);
            let work = Work::Delete(room.clone(), deletion, reply);
            self.inbox
                .send_timeout(work, REPLY_TIMEOUT)
                .map_err(|error| match error {
                    SendTimeoutError::Timeout(_) => StoreError::Unavailable,
                    SendTimeoutError::Disconnected(_) => StoreError::Stopped,
                })?;
            let deleted = replied
                .recv_timeout(REPLY_TIMEOUT)
                .map_err(|error| match error {
                    RecvTimeoutError::Timeout => StoreError::Unknown,
                    RecvTimeoutError::Disconnected => StoreError::Stopped,
                })??;
            messages += deleted.messages;
            if deleted.is_complete {
                return Ok(messages);
            }
        }
    }

    /// See [`Store::health`].
    pub(crate) fn health(&self) -> Result<(), String> {
        self.publishing.store.health()
    }

    /// Returns the health of the store once the queue so far is stored and the store was probed. Returns `None` if that
    /// takes until the deadline: the broker thread or the store is stuck.
    pub(crate) fn probe(&self, deadline: Instant) -> Option<Result<(), String>> {
        let (reply, health) = bounded(1);
        self.inbox
            .send_deadline(Work::Probe(reply), deadline)
            .ok()?;
        health.recv_deadline(deadline).ok()
    }

    /// See [`Store::usage`].
    pub(crate) fn usage(&self) -> Usage {
        self.publishing.store.usage()
    }

    /// See [`Store::close_on_other_nodes`].
    pub(crate) fn close_on_other_nodes(&self, clients: &ClientSelector) -> usize {
        self.publishing.store.close_on_other_nodes(clients)
    }

    /// See [`Store::revoke`].
    pub(crate) fn revoke(&self, user: &str, at: Duration) -> Result<usize, StoreError> {
        self.publishing.store.revoke(user, at)
    }

    /// See [`Store::node_status`].
    pub(crate) fn node_status(&self) -> Option<NodeStatus> {
        self.publishing.store.node_status()
    }

    /// Number of queued publishes.
    pub(crate) fn queue_len(&self) -> usize {
        self.inbox.len()
    }
}

/// The way of a publish through the store, shared by the broker thread and by clients' threads while nothing waits.
struct Publishing {
    store: Arc<dyn Store>,
    delivery: Arc<dyn Delivery>,
    metrics: Arc<Metrics>,
    /// Held while a batch is stored and handed to the delivery, so that both have the same order.
    turn: Mutex<()>,
    /// Publishes that were queued and whose result was not sent yet. While there are any, all others are queued too,
    /// which keeps the order of each publisher.
    waiting: AtomicUsize,
}

impl Publishing {
    /// Runs the broker thread.
    fn run(&self, inbox: &Inbox<Work>) {
        let mut batch = Vec::with_capacity(QUEUE_PUBLISHES_MAX);
        let mut replies = Vec::with_capacity(QUEUE_PUBLISHES_MAX);
        let (mut probes, mut deletions) = (Vec::new(), Vec::new());
        let mut maintain_at = Instant::now() + MAINTENANCE_INTERVAL;
        let mut probe_at = Instant::now();
        let mut stopping = false;
        while !stopping {
            match inbox.next_batch(Some(maintain_at)) {
                Ok(work) => {
                    for work in work {
                        match work {
                            Work::Publish(publish, reply_to) => {
                                batch.push(publish);
                                replies.push(reply_to);
                            }
                            Work::Delete(room, deletion, reply) => {
                                deletions.push((room, deletion, reply));
                            }
                            Work::Probe(reply) => probes.push(reply),
                            Work::Stop => stopping = true,
                        }
                    }
                    self.publish_batch(self.turn.lock(), &batch, &replies);
                    self.waiting.fetch_sub(batch.len(), Ordering::Release);
                    batch.clear();
                    replies.clear();
                    for (room, deletion, reply) in deletions.drain(..) {
                        let _turn = self.turn.lock();
                        // An error means that the thread no longer waits.
                        reply.try_send(self.store.delete(&room, deletion)).ok();
                    }
                    if !probes.is_empty() && Instant::now() >= probe_at {
                        self.store.probe();
                        probe_at = Instant::now() + PROBE_INTERVAL;
                    }
                    for probe in probes.drain(..) {
                        // An error means that the thread no longer waits.
                        probe.try_send(self.store.health()).ok();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stopping = true,
            }
            let now = Instant::now();
            if now >= maintain_at {
                // With the turn, publishes are queued meanwhile and block no client's thread.
                let _turn = self.turn.lock();
                self.store.maintain(now);
                maintain_at = now + MAINTENANCE_INTERVAL;
            }
        }
        self.store.close();
    }

    /// Takes the turn if a client's thread may store a publish itself: it waits for no I/O, and nothing else waits that
    /// could be stored or delivered together with it.
    fn idle_turn(&self) -> Option<MutexGuard<'_, ()>> {
        let is_idle = self.store.appends_at_once()
            && self.waiting.load(Ordering::Acquire) == 0
            && self.delivery.is_idle();
        is_idle.then(|| self.turn.try_lock()).flatten()
    }

    /// Publishes on a client's thread.
    fn publish_now(&self, turn: MutexGuard<'_, ()>, publish: &Publish, reply_to: &ReplyTo) {
        threads::exit_on_panic("publish", || {
            self.publish_batch(turn, slice::from_ref(publish), slice::from_ref(reply_to));
        });
    }

    /// Stores a batch, then delivers and acknowledges its messages in order.
    fn publish_batch(&self, turn: MutexGuard<'_, ()>, batch: &[Publish], replies: &[ReplyTo]) {
        let results = self.store_batch(batch);
        drop(turn);
        // Several messages are delivered as one batch while their acknowledgements are sent. A single publisher waits for
        // the acknowledgement, and a broadcaster that wakes before it is sent would delay it.
        let is_single = batch.len() == 1;
        if !is_single {
            self.delivery.start();
        }
        for ((publish, reply_to), result) in batch.iter().zip(replies).zip(results) {
            reply_to.reply(publish, result);
        }
        if is_single {
            self.delivery.start();
        }
    }

    /// Stores a batch and adds its messages to the delivery. Returns the result of each publish. The caller has the
    /// turn.
    fn store_batch(&self, batch: &[Publish]) -> Vec<Result<Placed, StoreError>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let stored = self.store.append(batch);
        let publishes = batch.iter().zip(stored);
        publishes
            .map(|(publish, result)| self.add_to_delivery(publish, result))
            .collect()
    }

    fn add_to_delivery(
        &self,
        publish: &Publish,
        result: Result<Stored, StoreError>,
    ) -> Result<Placed, StoreError> {
        match &result {
            Ok(Stored::New { .. } | Stored::Relayed(_)) => self.metrics.published.add(1),
            Ok(Stored::Duplicate(_)) => self.metrics.duplicates.add(1),
            Err(StoreError::TooManyRooms) => self.metrics.rooms_refused.add(1),
            Err(_) => self.metrics.requests_refused.add(1),
        }
        let position = match result? {
            Stored::New {
                numbering,
                publication,
            } => {
                let position = Position {
                    epoch: numbering.epoch(),
                    offset: publication.offset,
                };
                let (except, received) = (publish.except, publish.received);
                self.delivery.add(&numbering, publication, except, received);
                position
            }
            Stored::Relayed(position) => position,
            Stored::Duplicate(position) => {
                return Ok(Placed {
                    position,
                    is_acknowledged: false,
                });
            }
        };
        let publisher = match publish.except {
            Some(Exclusion::Client(client)) => Some(client),
            Some(Exclusion::Session(..)) | None => None,
        };
        if let Some(client) = publisher {
            self.delivery.acknowledge(Acknowledgement {
                client,
                room: publish.room.clone(),
                position,
                id: publish.id.clone(),
            });
        }
        Ok(Placed {
            position,
            is_acknowledged: publisher.is_some(),
        })
    }
}

impl ReplyTo {
    fn reply(&self, publish: &Publish, result: Result<Placed, StoreError>) {
        let id = publish.id.as_ref();
        match (self, result) {
            (Self::Outbox(outbox), Ok(placed)) if id.is_some() && !placed.is_acknowledged => {
                let ack = ServerMessage::Ack {
                    room: &publish.room,
                    position: placed.position,
                    in_place: false,
                };
                outbox.push(&ack.to_frames(id));
            }
            (Self::Outbox(_), Ok(_)) => {}
            (Self::Outbox(outbox), Err(error)) => {
                outbox.push(&ServerMessage::Error(&Refusal::from(error)).to_frames(id));
            }
            (Self::Thread(waiting), result) => {
                // An error means that the thread no longer waits.
                waiting.try_send(result.map(|placed| placed.position)).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests;
