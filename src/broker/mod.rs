//! The broker: stores what is published, gives it an offset, acknowledges it, hands it on.
//!
//! Offsets grow by one per room and epoch; a message is stored before it is acknowledged or delivered,
//! and handed to the broadcaster in the order of its offsets. The broker thread takes all that waits
//! as one batch. A full channel makes publishers wait; nothing is dropped.

mod memory;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::broadcaster::{Broadcaster, Event, RoomStream};
use crate::config::BROKER_QUEUE_MAX;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, ErrorCode, Kind, Position, Publication, Refusal, RequestId, RoomName, ServerMessage,
};
use crate::threads;

pub use memory::Memory;

/// How often expired history is looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// A store of rooms and their messages: memory here; a database or Redis elsewhere.
///
/// Shared by the broker thread, which alone appends, and by clients' threads, which open rooms.
pub trait Broker: Send + Sync {
    /// The numbering of a room, begun now if the room is new. It stays for as long as it is held.
    fn open(&self, room: &RoomName) -> Result<Arc<RoomStream>, BrokerError>;

    /// The numbering of a room that is known.
    fn find(&self, room: &RoomName) -> Option<Arc<RoomStream>>;

    /// Stores messages, in order; an answer each, in order.
    fn append(&self, batch: &[Publish]) -> Vec<Result<Arc<Publication>, BrokerError>>;

    /// Drops what is past its age. Called about once a second on the broker thread.
    fn expire(&self, now: Instant);

    /// What is stored now.
    fn usage(&self) -> Usage;
}

/// What a broker holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Rooms that have a numbering.
    pub rooms: usize,
    /// Messages in history.
    pub messages: usize,
    /// Payload bytes in history.
    pub bytes: usize,
}

/// Why a broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerError {
    /// As many rooms as there may be.
    TooManyRooms,
    /// The broker has stopped.
    Stopped,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyRooms => "the server has as many rooms as it may have",
            Self::Stopped => "the server is closing down",
        })
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::TooManyRooms => Self::new(
                ErrorCode::TooManyRooms,
                "the server has as many rooms as it may have; use one that exists or try later",
            ),
            BrokerError::Stopped => {
                Self::new(ErrorCode::ShuttingDown, "the server is closing down")
            }
        }
    }
}

/// A message on its way to the broker.
#[derive(Debug)]
pub struct Publish {
    /// Its room.
    pub stream: Arc<RoomStream>,
    /// Who publishes.
    pub from: ClientId,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text.
    pub payload: Box<str>,
    /// The publisher's id for it; one that has an id is acknowledged.
    pub id: Option<RequestId>,
    /// Where the acknowledgement or refusal goes.
    pub answer: Arc<Outbox>,
}

/// Hands messages to the broker thread and opens rooms.
#[derive(Clone)]
pub struct BrokerHandle {
    engine: Arc<dyn Broker>,
    publishes: Sender<Publish>,
}

impl BrokerHandle {
    /// Starts the broker thread. It ends when every handle is dropped, after the last message.
    pub fn start(
        engine: Arc<dyn Broker>,
        broadcaster: Broadcaster,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (publishes, waiting) = bounded(BROKER_QUEUE_MAX);
        let worker = Worker {
            engine: Arc::clone(&engine),
            broadcaster,
            metrics,
        };
        let thread = threads::spawn_service("broker", move || worker.run(&waiting))?;
        Ok((Self { engine, publishes }, thread))
    }

    /// Hands over a message; waits while the channel is full, which is how publishers feel that the
    /// server is busy.
    pub fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        self.publishes
            .send(publish)
            .map_err(|_| BrokerError::Stopped)
    }

    /// See [`Broker::open`].
    pub fn open(&self, room: &RoomName) -> Result<Arc<RoomStream>, BrokerError> {
        self.engine.open(room)
    }

    /// See [`Broker::find`].
    pub fn find(&self, room: &RoomName) -> Option<Arc<RoomStream>> {
        self.engine.find(room)
    }

    /// See [`Broker::usage`].
    pub fn usage(&self) -> Usage {
        self.engine.usage()
    }

    /// Messages waiting.
    pub fn queue_len(&self) -> usize {
        self.publishes.len()
    }
}

struct Worker {
    engine: Arc<dyn Broker>,
    broadcaster: Broadcaster,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn run(self, waiting: &Receiver<Publish>) {
        let mut batch = Vec::with_capacity(BROKER_QUEUE_MAX);
        let mut expire_at = Instant::now() + EXPIRY_INTERVAL;
        loop {
            match waiting.recv_deadline(expire_at) {
                Ok(first) => {
                    batch.push(first);
                    batch.extend(waiting.try_iter().take(BROKER_QUEUE_MAX - 1));
                    self.store(&batch);
                    batch.clear();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= expire_at {
                self.engine.expire(now);
                expire_at = now + EXPIRY_INTERVAL;
            }
        }
    }

    fn store(&self, batch: &[Publish]) {
        let stored = self.engine.append(batch);
        for (publish, result) in batch.iter().zip(stored) {
            let id = publish.id.as_ref();
            match result {
                Ok(publication) => {
                    self.metrics.published.add(1);
                    let stream = Arc::clone(&publish.stream);
                    // Before the acknowledgement: what is acknowledged is on its way, shutdown or not.
                    self.broadcaster.send(Event::Deliver {
                        stream,
                        publication: Arc::clone(&publication),
                    });
                    if id.is_some() {
                        let position = Position {
                            epoch: publish.stream.epoch(),
                            offset: publication.offset,
                        };
                        let room = &publication.room;
                        let ack = ServerMessage::Ack { room, position };
                        publish.answer.push(&ack.to_frames(id));
                    }
                }
                Err(error) => {
                    self.metrics.requests_refused.add(1);
                    let refusal = Refusal::from(error);
                    publish
                        .answer
                        .push(&ServerMessage::Error(&refusal).to_frames(id));
                }
            }
        }
    }
}
