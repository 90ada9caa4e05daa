//! The broker: stores what is published, gives it an offset, acknowledges it, hands it on.
//!
//! Offsets grow by one per room and epoch; a message is stored before it is acknowledged or delivered,
//! and handed to the broadcaster in the order of its offsets. The broker thread takes all that waits
//! as one batch. A full channel makes publishers wait; nothing is dropped.

mod dedupe;
mod directory;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod health;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use crate::broadcaster::{Broadcaster, Event, RoomStream, Who};
use crate::config::{ANSWER_TIMEOUT, BROKER_QUEUE_MAX};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::protocol::{
    ErrorCode, Kind, Page, Position, Publication, Refusal, RequestId, RoomName, Scope,
    ServerMessage,
};
use crate::threads;

pub use dedupe::Place;
pub use memory::Memory;
#[cfg(feature = "redis")]
pub use redis::{ConnectError, Redis};
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, Sqlite};

/// How often a store is looked after.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// A store of rooms and their messages: memory here; a database or Redis elsewhere.
///
/// Shared by the broker thread, which alone appends, and by clients' threads, which open rooms.
pub trait Broker: Send + Sync {
    /// The numbering of a room, begun now if the room is new, for one who becomes a member: from now on
    /// what is published there is delivered. It stays for as long as it is held.
    fn open(&self, room: &RoomName) -> Result<Arc<RoomStream>, BrokerError>;

    /// The same for one who only publishes.
    fn open_to_publish(&self, room: &RoomName) -> Result<Arc<RoomStream>, BrokerError> {
        self.open(room)
    }

    /// The numbering of a room, if it is known. Called on clients' own threads.
    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomStream>>, BrokerError>;

    /// Stores messages, in order; an answer each, in order. What it answers `New` or `Relayed` is stored.
    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, BrokerError>>;

    /// Messages of a room's past, in the order of their offsets. Called on clients' own threads.
    fn history(&self, stream: &RoomStream, slice: Slice) -> Result<Page, BrokerError>;

    /// Drops what is past its age, and tries whether a store that failed works again. Called about
    /// once a second on the broker thread.
    fn maintain(&self, now: Instant);

    /// What is stored now.
    fn usage(&self) -> Usage;

    /// Whether it stores; if not, why, in words for the operator.
    fn health(&self) -> Result<(), String>;

    /// Tells the other nodes, if there are any, to close these clients too; says how many it told. Called on
    /// clients' own threads.
    fn close_elsewhere(&self, _who: &Who) -> usize {
        0
    }

    /// How this node stands among others; `None` if there can be no others.
    fn cluster(&self) -> Option<Cluster> {
        None
    }

    /// Makes all that is stored safe. Called once, after the last message, on the broker thread.
    fn close(&self);
}

/// Which part of a room's history is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// What follows this offset; without it the newest messages.
    pub since: Option<u64>,
    /// Most messages.
    pub messages_max: usize,
    /// Most bytes of payload, but always one message.
    pub bytes_max: usize,
}

/// What became of a publish.
#[derive(Debug)]
pub enum Stored {
    /// It has an offset of its own and is to be delivered.
    New(Arc<Publication>),
    /// It has an offset of its own, and the store itself delivers it to every node.
    Relayed(Place),
    /// Its id was stored before, here; it is not delivered again.
    Duplicate(Place),
}

/// What a broker holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Rooms that have a numbering.
    pub rooms: usize,
    /// Messages in history, where that is known.
    pub messages: Option<u64>,
    /// Payload bytes in history, where that is known.
    pub bytes: Option<u64>,
    /// Bytes of the store's files, if it has any.
    pub disk_bytes: Option<u64>,
}

/// A node among those that share a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cluster {
    /// Nodes that are alive, this one included.
    pub nodes: usize,
    /// How long what is published now takes to come back to this node.
    pub lag: Duration,
    /// How often the way back was lost and found again.
    pub reconnects: u64,
    /// Messages that came by reading them from the store, since they did not come by themselves.
    pub gap_fills: u64,
}

/// Why a broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerError {
    /// As many rooms as there may be.
    TooManyRooms,
    /// The store cannot be written or read now.
    Unavailable,
    /// The store is elsewhere and cannot be asked now.
    Unreachable,
    /// The store did not say in time what became of it.
    Unknown,
    /// The broker has stopped.
    Stopped,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the store cannot be used now",
            Self::Unreachable => "the store cannot be reached now",
            Self::Unknown => "the store did not answer in time",
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
            BrokerError::Unavailable => Self::new(
                ErrorCode::StorageUnavailable,
                "the store cannot be used now and nothing was published; try again later",
            ),
            BrokerError::Unreachable => Self::new(
                ErrorCode::StorageUnavailable,
                "the store cannot be reached now; try again later",
            ),
            BrokerError::Unknown => Self::new(
                ErrorCode::StorageUnavailable,
                "the store did not answer in time; the message may have been published: send it again \
                 with the same id",
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
    /// Who publishes, as members are told.
    pub from: Arc<str>,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text.
    pub payload: Box<str>,
    /// The publisher's id for it; one that has an id is acknowledged.
    pub id: Option<RequestId>,
    /// Within what the id is compared; without it a repeated id is stored again.
    pub scope: Option<Scope>,
    /// Where the acknowledgement or refusal goes.
    pub answer: Answer,
}

impl Publish {
    fn key(&self) -> Option<dedupe::Key> {
        let room = self.stream.name().clone();
        Some((room, self.scope.clone()?, self.id.clone()?))
    }

    /// The message as it is stored.
    fn publication(&self, offset: u64, ts: u64) -> Publication {
        Publication {
            room: self.stream.name().clone(),
            offset,
            id: self.id.clone(),
            from: Arc::clone(&self.from),
            ts,
            kind: self.kind,
            payload: self.payload.clone(),
        }
    }

    fn place(&self, offset: u64) -> Place {
        Place {
            room: self.stream.name().clone(),
            position: Position {
                epoch: self.stream.epoch(),
                offset,
            },
        }
    }
}

/// Who waits for what becomes of a publish.
#[derive(Debug)]
pub enum Answer {
    /// A client: `ack` if the publish has an id, `error` if it is refused.
    Outbox(Arc<Outbox>),
    /// A thread that waits for it.
    Thread(Sender<Result<Place, BrokerError>>),
}

/// Hands messages to the broker thread and opens rooms.
#[derive(Clone)]
pub struct BrokerHandle {
    engine: Arc<dyn Broker>,
    work: Sender<Work>,
}

/// What the broker thread is told.
enum Work {
    Publish(Publish),
    Stop,
}

impl BrokerHandle {
    /// Starts the broker thread. It ends when it is told to [stop](Self::stop) or every handle is
    /// dropped, after the last message.
    pub fn start(
        engine: Arc<dyn Broker>,
        broadcaster: Broadcaster,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (work, waiting) = bounded(BROKER_QUEUE_MAX);
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
    pub fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        let sent = self
            .work
            .send_timeout(Work::Publish(publish), ANSWER_TIMEOUT);
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => BrokerError::Unavailable,
            SendTimeoutError::Disconnected(_) => BrokerError::Stopped,
        })
    }

    /// Ends the broker thread once it has stored what waits; later publishes are refused. Gives up
    /// at the deadline, if even this cannot be said to it.
    pub fn stop(&self, deadline: Instant) {
        let _ended = self.work.send_deadline(Work::Stop, deadline);
    }

    /// See [`Broker::open`].
    pub fn open(&self, room: &RoomName) -> Result<Arc<RoomStream>, BrokerError> {
        self.engine.open(room)
    }

    /// See [`Broker::open_to_publish`].
    pub fn open_to_publish(&self, room: &RoomName) -> Result<Arc<RoomStream>, BrokerError> {
        self.engine.open_to_publish(room)
    }

    /// See [`Broker::find`].
    pub fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomStream>>, BrokerError> {
        self.engine.find(room)
    }

    /// See [`Broker::history`].
    pub fn history(&self, stream: &RoomStream, slice: Slice) -> Result<Page, BrokerError> {
        self.engine.history(stream, slice)
    }

    /// See [`Broker::health`].
    pub fn health(&self) -> Result<(), String> {
        self.engine.health()
    }

    /// See [`Broker::usage`].
    pub fn usage(&self) -> Usage {
        self.engine.usage()
    }

    /// See [`Broker::close_elsewhere`].
    pub fn close_elsewhere(&self, who: &Who) -> usize {
        self.engine.close_elsewhere(who)
    }

    /// See [`Broker::cluster`].
    pub fn cluster(&self) -> Option<Cluster> {
        self.engine.cluster()
    }

    /// Messages waiting.
    pub fn queue_len(&self) -> usize {
        self.work.len()
    }
}

struct Worker {
    engine: Arc<dyn Broker>,
    broadcaster: Broadcaster,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn run(self, waiting: &Receiver<Work>) {
        let mut batch = Vec::with_capacity(BROKER_QUEUE_MAX);
        let mut maintain_at = Instant::now() + MAINTENANCE_INTERVAL;
        let mut stopping = false;
        while !stopping {
            match waiting.recv_deadline(maintain_at) {
                Ok(first) => {
                    let rest = waiting.try_iter().take(BROKER_QUEUE_MAX - 1);
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
                        stream,
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

fn answer(publish: &Publish, place: Result<Place, BrokerError>) {
    let id = publish.id.as_ref();
    match (&publish.answer, place) {
        (Answer::Outbox(outbox), Ok(Place { room, position })) if id.is_some() => {
            let ack = ServerMessage::Ack {
                room: &room,
                position,
            };
            outbox.push(&ack.to_frames(id));
        }
        (Answer::Outbox(_), Ok(_)) => {}
        (Answer::Outbox(outbox), Err(error)) => {
            outbox.push(&ServerMessage::Error(&Refusal::from(error)).to_frames(id));
        }
        (Answer::Thread(waiting), place) => {
            let _gave_up = waiting.try_send(place);
        }
    }
}

fn unix_milliseconds() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since_epoch.as_millis() as u64
}
