//! The broker thread: takes all waiting publishes as one batch, stores it, acknowledges and delivers each.
//!
//! A message is stored before it is acknowledged or delivered, and delivered in the order of its offsets. A full
//! queue makes publishers wait; nothing is dropped.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::protocol::{Page, Position, Refusal, RequestId, RoomName, ServerMessage};
use crate::rooms::{ClientSelector, RoomNumbering};
use crate::store::{Delivery, HistoryQuery, NodeStatus, Publish, Store, StoreError, Stored, Usage};
use crate::threads::{self, REPLY_TIMEOUT};

/// Publishes that may wait for the broker thread. While the queue is full, publishers wait.
const QUEUE_PUBLISHES_MAX: usize = 512;
/// Time between two maintenance runs of the store.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two probes of the store. Health checks in between share the result of the last one.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// The handle of the broker thread and of the store behind it.
#[derive(Clone)]
pub(crate) struct Broker {
    store: Arc<dyn Store>,
    queue: Sender<Work>,
}

/// The receiver of a publish's result.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A client: `ack` if the publish has an id, `error` if it is refused.
    Outbox(Arc<Outbox>),
    /// A thread that waits for the result.
    Thread(Sender<Result<Position, StoreError>>),
}

/// An item of the broker's queue.
enum Work {
    Publish(Publish, ReplyTo),
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
        let (queue, waiting) = bounded(QUEUE_PUBLISHES_MAX);
        let broker = BrokerThread {
            store: Arc::clone(&store),
            delivery,
            metrics,
        };
        let thread = threads::spawn_service("broker", move || broker.run(&waiting))?;
        Ok((Self { store, queue }, thread))
    }

    /// Queues a publish. Blocks while the queue is full, which slows publishers down to the store's speed; fails
    /// after [`REPLY_TIMEOUT`].
    pub(crate) fn publish(&self, publish: Publish, reply_to: ReplyTo) -> Result<(), StoreError> {
        self.queue
            .send_timeout(Work::Publish(publish, reply_to), REPLY_TIMEOUT)
            .map_err(|error| match error {
                SendTimeoutError::Timeout(_) => StoreError::Unavailable,
                SendTimeoutError::Disconnected(_) => StoreError::Stopped,
            })
    }

    /// Ends the broker thread once the queue is stored; later publishes are refused. Gives up at the deadline if
    /// the queue is still full then.
    pub(crate) fn stop(&self, deadline: Instant) {
        // An error means that the thread has ended or the store hangs: the caller waits for the thread in any case.
        self.queue.send_deadline(Work::Stop, deadline).ok();
    }

    /// See [`Store::open`].
    pub(crate) fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.store.open(room)
    }

    /// See [`Store::find`].
    pub(crate) fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        self.store.find(room)
    }

    /// See [`Store::history`].
    pub(crate) fn history(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
    ) -> Result<Page, StoreError> {
        self.store.history(numbering, query)
    }

    /// See [`Store::health`].
    pub(crate) fn health(&self) -> Result<(), String> {
        self.store.health()
    }

    /// Returns the health of the store once the queue so far is stored and the store was probed. Returns `None` if that
    /// takes until the deadline: the broker thread or the store is stuck.
    pub(crate) fn probe(&self, deadline: Instant) -> Option<Result<(), String>> {
        let (reply, health) = bounded(1);
        self.queue
            .send_deadline(Work::Probe(reply), deadline)
            .ok()?;
        health.recv_deadline(deadline).ok()
    }

    /// See [`Store::usage`].
    pub(crate) fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// See [`Store::close_on_other_nodes`].
    pub(crate) fn close_on_other_nodes(&self, clients: &ClientSelector) -> usize {
        self.store.close_on_other_nodes(clients)
    }

    /// See [`Store::node_status`].
    pub(crate) fn node_status(&self) -> Option<NodeStatus> {
        self.store.node_status()
    }

    /// Number of queued publishes.
    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }
}

/// The state of the broker thread.
struct BrokerThread {
    store: Arc<dyn Store>,
    delivery: Arc<dyn Delivery>,
    metrics: Arc<Metrics>,
}

impl BrokerThread {
    fn run(self, queue: &Receiver<Work>) {
        let mut batch = Vec::with_capacity(QUEUE_PUBLISHES_MAX);
        let mut replies = Vec::with_capacity(QUEUE_PUBLISHES_MAX);
        let mut probes = Vec::new();
        let mut maintain_at = Instant::now() + MAINTENANCE_INTERVAL;
        let mut probe_at = Instant::now();
        let mut stopping = false;
        while !stopping {
            match queue.recv_deadline(maintain_at) {
                Ok(first) => {
                    let rest = queue.try_iter().take(QUEUE_PUBLISHES_MAX - 1);
                    for work in std::iter::once(first).chain(rest) {
                        match work {
                            Work::Publish(publish, reply_to) => {
                                batch.push(publish);
                                replies.push(reply_to);
                            }
                            Work::Probe(reply) => probes.push(reply),
                            Work::Stop => stopping = true,
                        }
                    }
                    self.store_batch(&batch, &replies);
                    batch.clear();
                    replies.clear();
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
                self.store.maintain(now);
                maintain_at = now + MAINTENANCE_INTERVAL;
            }
        }
        self.store.close();
    }

    /// Stores a batch, then delivers and acknowledges its messages in order.
    fn store_batch(&self, batch: &[Publish], replies: &[ReplyTo]) {
        if batch.is_empty() {
            return;
        }
        let results = self.store.append(batch);
        for ((publish, reply_to), result) in batch.iter().zip(replies).zip(results) {
            match &result {
                Ok(Stored::New { .. } | Stored::Relayed(_)) => self.metrics.published.add(1),
                Ok(Stored::Duplicate(_)) => self.metrics.duplicates.add(1),
                Err(StoreError::TooManyRooms) => self.metrics.rooms_refused.add(1),
                Err(_) => self.metrics.requests_refused.add(1),
            }
            let position = result.map(|stored| match stored {
                Stored::New {
                    numbering,
                    publication,
                } => {
                    let position = Position {
                        epoch: numbering.epoch(),
                        offset: publication.offset,
                    };
                    self.delivery
                        .deliver(&numbering, publication, publish.received);
                    position
                }
                Stored::Relayed(position) | Stored::Duplicate(position) => position,
            });
            reply_to.reply(&publish.room, position, publish.id.as_ref());
        }
    }
}

impl ReplyTo {
    fn reply(&self, room: &RoomName, result: Result<Position, StoreError>, id: Option<&RequestId>) {
        match (self, result) {
            (Self::Outbox(outbox), Ok(position)) if id.is_some() => {
                outbox.push(&ServerMessage::Ack { room, position }.to_frames(id));
            }
            (Self::Outbox(_), Ok(_)) => {}
            (Self::Outbox(outbox), Err(error)) => {
                outbox.push(&ServerMessage::Error(&Refusal::from(error)).to_frames(id));
            }
            (Self::Thread(waiting), result) => {
                // An error means that the thread no longer waits.
                waiting.try_send(result).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests;
