//! The broker thread: takes all publishes that wait as one batch, stores it, acknowledges each and hands it on.
//!
//! A message is stored before it is acknowledged or delivered, and handed to the broadcaster in the order of its
//! offsets. A full channel makes publishers wait; nothing is dropped.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use crate::broadcaster::{Broadcaster, ClientSelector, Event};
use crate::metrics::Metrics;
use crate::protocol::{Page, Refusal, RoomName, ServerMessage};
use crate::rooms::RoomNumbering;
use crate::store::{
    Cluster, Publish, ReplyTo, RoomPosition, Slice, Store, StoreError, Stored, Usage,
};
use crate::threads::{self, REPLY_TIMEOUT};

/// Publishes that may wait for the broker thread. While the queue is full, publishers wait.
const QUEUE_PUBLISHES_MAX: usize = 512;
/// How often a store is looked after.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Hands messages to the broker thread and opens rooms.
#[derive(Clone)]
pub struct Broker {
    engine: Arc<dyn Store>,
    work: Sender<Work>,
}

/// What the broker thread is told.
enum Work {
    Publish(Publish),
    Stop,
}

impl Broker {
    /// Starts the broker thread. It ends when it is told to [stop](Self::stop) or every handle is
    /// dropped, after the last message.
    pub fn start(
        engine: Arc<dyn Store>,
        broadcaster: Broadcaster,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (work, waiting) = bounded(QUEUE_PUBLISHES_MAX);
        let worker = Worker {
            engine: Arc::clone(&engine),
            broadcaster,
            metrics,
        };
        let thread = threads::spawn_service("broker", move || worker.run(&waiting))?;
        Ok((Self { engine, work }, thread))
    }

    /// Hands over a message; waits while the channel is full, which is how publishers feel that the
    /// server is busy. A store that takes nothing for too long cannot be used.
    pub fn publish(&self, publish: Publish) -> Result<(), StoreError> {
        let sent = self
            .work
            .send_timeout(Work::Publish(publish), REPLY_TIMEOUT);
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => StoreError::Unavailable,
            SendTimeoutError::Disconnected(_) => StoreError::Stopped,
        })
    }

    /// Ends the broker thread once it has stored what waits; later publishes are refused. Gives up
    /// at the deadline, if even this cannot be said to it.
    pub fn stop(&self, deadline: Instant) {
        let _ended = self.work.send_deadline(Work::Stop, deadline);
    }

    /// See [`Store::open`].
    pub fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.engine.open(room)
    }

    /// See [`Store::open_to_publish`].
    pub fn open_to_publish(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.engine.open_to_publish(room)
    }

    /// See [`Store::find`].
    pub fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        self.engine.find(room)
    }

    /// See [`Store::history`].
    pub fn history(&self, stream: &RoomNumbering, slice: Slice) -> Result<Page, StoreError> {
        self.engine.history(stream, slice)
    }

    /// See [`Store::health`].
    pub fn health(&self) -> Result<(), String> {
        self.engine.health()
    }

    /// See [`Store::usage`].
    pub fn usage(&self) -> Usage {
        self.engine.usage()
    }

    /// See [`Store::close_elsewhere`].
    pub fn close_elsewhere(&self, who: &ClientSelector) -> usize {
        self.engine.close_elsewhere(who)
    }

    /// See [`Store::cluster`].
    pub fn cluster(&self) -> Option<Cluster> {
        self.engine.cluster()
    }

    /// Messages waiting.
    pub fn queue_len(&self) -> usize {
        self.work.len()
    }
}

struct Worker {
    engine: Arc<dyn Store>,
    broadcaster: Broadcaster,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn run(self, waiting: &Receiver<Work>) {
        let mut batch = Vec::with_capacity(QUEUE_PUBLISHES_MAX);
        let mut maintain_at = Instant::now() + MAINTENANCE_INTERVAL;
        let mut stopping = false;
        while !stopping {
            match waiting.recv_deadline(maintain_at) {
                Ok(first) => {
                    let rest = waiting.try_iter().take(QUEUE_PUBLISHES_MAX - 1);
                    for work in std::iter::once(first).chain(rest) {
                        match work {
                            Work::Publish(publish) => batch.push(publish),
                            Work::Stop => stopping = true,
                        }
                    }
                    self.store(&batch);
                    batch.clear();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stopping = true,
            }
            let now = Instant::now();
            if now >= maintain_at {
                self.engine.maintain(now);
                maintain_at = now + MAINTENANCE_INTERVAL;
            }
        }
        self.engine.close();
    }

    /// Stores a batch, then answers and delivers it in its order.
    fn store(&self, batch: &[Publish]) {
        if batch.is_empty() {
            return;
        }
        let stored = self.engine.append(batch);
        for (publish, result) in batch.iter().zip(stored) {
            let place = match result {
                Ok(Stored::New(publication)) => {
                    self.metrics.published.add(1);
                    let place = publish.place(publication.offset);
                    let stream = Arc::clone(&publish.stream);
                    self.broadcaster.send(Event::Deliver {
                        numbering: stream,
                        publication,
                    });
                    Ok(place)
                }
                Ok(Stored::Relayed(place)) => {
                    self.metrics.published.add(1);
                    Ok(place)
                }
                Ok(Stored::Duplicate(place)) => {
                    self.metrics.duplicates.add(1);
                    Ok(place)
                }
                Err(error) => {
                    self.metrics.requests_refused.add(1);
                    Err(error)
                }
            };
            answer(publish, place);
        }
    }
}

fn answer(publish: &Publish, place: Result<RoomPosition, StoreError>) {
    let id = publish.id.as_ref();
    match (&publish.answer, place) {
        (ReplyTo::Outbox(outbox), Ok(RoomPosition { room, position })) if id.is_some() => {
            let ack = ServerMessage::Ack {
                room: &room,
                position,
            };
            outbox.push(&ack.to_frames(id));
        }
        (ReplyTo::Outbox(_), Ok(_)) => {}
        (ReplyTo::Outbox(outbox), Err(error)) => {
            outbox.push(&ServerMessage::Error(&Refusal::from(error)).to_frames(id));
        }
        (ReplyTo::Thread(waiting), place) => {
            let _gave_up = waiting.try_send(place);
        }
    }
}
