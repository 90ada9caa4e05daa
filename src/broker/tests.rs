//! The broker with a store and a delivery of the test's own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::*;
use crate::protocol::{CloseCode, Epoch, Kind, Publication};
use crate::rooms::{LocalMembers, RemoteMembers, UserCount};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A store that treats each publish by its payload: `"new"`, `"slow"`, `"duplicate"`, `"too many rooms"` or
/// `"unavailable"`.
struct FakeStore {
    numbering: Arc<RoomNumbering>,
    appends_at_once: bool,
    next_offset: AtomicU64,
    /// Receives the name of the thread of each append.
    appended_on: Sender<String>,
    /// A slow publish waits for an item.
    gate: Receiver<()>,
    closed: Sender<()>,
}

impl FakeStore {
    fn store(&self, publish: &Publish) -> Result<Stored, StoreError> {
        let position = Position {
            epoch: self.numbering.epoch(),
            offset: 7,
        };
        match &*publish.payload {
            "duplicate" => Ok(Stored::Duplicate(position)),
            "too many rooms" => Err(StoreError::TooManyRooms),
            "unavailable" => Err(StoreError::Unavailable),
            payload => Ok(Stored::New {
                numbering: Arc::clone(&self.numbering),
                publication: Arc::new(Publication {
                    room: publish.room.clone(),
                    offset: self.new_offset(payload == "slow"),
                    id: None,
                    from: Arc::clone(&publish.from),
                    ts: 0,
                    kind: publish.kind,
                    payload: publish.payload.clone(),
                }),
            }),
        }
    }
}

impl FakeStore {
    fn new_offset(&self, is_slow: bool) -> u64 {
        if is_slow {
            self.gate.recv_timeout(TIMEOUT).unwrap();
        }
        self.next_offset.fetch_add(1, Ordering::Relaxed)
    }
}

impl Store for FakeStore {
    fn open(&self, _: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        Ok(Arc::clone(&self.numbering))
    }

    fn find(&self, _: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(None)
    }

    fn appends_at_once(&self) -> bool {
        self.appends_at_once
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        // An error means that the test has ended.
        self.appended_on.send(thread_name()).ok();
        batch.iter().map(|publish| self.store(publish)).collect()
    }

    fn delete(&self, _: &RoomName, _: Deletion) -> Result<Deleted, StoreError> {
        Err(StoreError::Unavailable)
    }

    fn history(&self, _: &RoomNumbering, _: HistoryQuery) -> Result<Page, StoreError> {
        Err(StoreError::Unavailable)
    }

    fn maintain(&self, _: Instant) {}

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn close(&self) {
        // An error means that the test has ended.
        self.closed.send(()).ok();
    }
}

/// Records deliveries in order.
struct FakeDelivery {
    delivered: Sender<u64>,
    is_idle: bool,
}

impl Delivery for FakeDelivery {
    fn is_idle(&self) -> bool {
        self.is_idle
    }

    fn add(
        &self,
        _: &Arc<RoomNumbering>,
        publication: Arc<Publication>,
        _: Option<Exclusion>,
        _: Instant,
    ) {
        // An error means that the test has ended.
        self.delivered.send(publication.offset).ok();
    }

    fn acknowledge(&self, _: Acknowledgement) {}

    fn start(&self) {}

    fn restart(&self, _: &Arc<RoomNumbering>) {}

    fn set_remote_members(&self, _: RoomName, _: RemoteMembers) {}

    fn changed_rooms(&self, _: bool) -> Option<Vec<LocalMembers>> {
        None
    }

    fn set_remote_user(&self, _: UserCount) {}

    fn changed_users(&self, _: bool) -> Option<Vec<UserCount>> {
        None
    }

    fn close_clients(&self, _: ClientSelector, _: CloseCode) {}
}

struct Fixture {
    broker: Broker,
    metrics: Arc<Metrics>,
    delivered: Receiver<u64>,
    appended_on: Receiver<String>,
    gate: Sender<()>,
    closed: Receiver<()>,
}

impl Fixture {
    /// A store without I/O and an idle delivery, so that publishes are stored on their publisher's thread.
    fn start() -> Self {
        Self::start_with(true, true)
    }

    fn start_with(appends_at_once: bool, is_idle: bool) -> Self {
        let (closing, closed) = bounded(1);
        let (delivering, delivered) = unbounded();
        let (appending, appended_on) = unbounded();
        let (gate, opened) = bounded(1);
        let store = FakeStore {
            numbering: Arc::new(RoomNumbering::new(RoomName::lobby(), Epoch::random(), 0)),
            appends_at_once,
            next_offset: AtomicU64::new(8),
            appended_on: appending,
            gate: opened,
            closed: closing,
        };
        let metrics = Arc::new(Metrics::default());
        let delivery = Arc::new(FakeDelivery {
            delivered: delivering,
            is_idle,
        });
        let (broker, _) = Broker::start(Arc::new(store), delivery, Arc::clone(&metrics)).unwrap();
        Self {
            broker,
            metrics,
            delivered,
            appended_on,
            gate,
            closed,
        }
    }

    fn lobby_publish(payload: &str) -> Publish {
        Publish {
            room: RoomName::lobby(),
            from: "alice".into(),
            kind: Kind::Message,
            payload: payload.into(),
            id: None,
            scope: None,
            ttl: None,
            except: None,
            received: Instant::now(),
        }
    }

    fn publish(&self, payload: &str) -> Receiver<Result<Position, StoreError>> {
        let (reply, replied) = bounded(1);
        let reply_to = ReplyTo::Thread(reply);
        let publish = Self::lobby_publish(payload);
        self.broker.publish(publish, reply_to).unwrap();
        replied
    }

    fn result_of(&self, payload: &str) -> Result<u64, StoreError> {
        let result = self.publish(payload).recv_timeout(TIMEOUT).unwrap();
        result.map(|position| position.offset)
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

#[test]
fn only_a_new_publication_is_delivered_and_each_publish_gets_its_result() {
    let fixture = Fixture::start();
    assert_eq!(fixture.result_of("duplicate"), Ok(7));
    assert_eq!(
        fixture.result_of("too many rooms"),
        Err(StoreError::TooManyRooms)
    );
    assert_eq!(
        fixture.result_of("unavailable"),
        Err(StoreError::Unavailable)
    );
    assert!(fixture.delivered.is_empty());
    assert_eq!(fixture.result_of("new"), Ok(8));
    // A publication is delivered before its publisher gets the result.
    assert_eq!(fixture.delivered.try_recv(), Ok(8));
    let metrics = &fixture.metrics;
    let counts = [
        &metrics.published,
        &metrics.duplicates,
        &metrics.rooms_refused,
        &metrics.requests_refused,
    ];
    assert_eq!(counts.map(|counter| counter.get()), [1, 1, 1, 1]);
}

#[test]
fn stop_stores_the_queue_before_it_closes_the_store() {
    let fixture = Fixture::start();
    let replies: Vec<_> = (0..100).map(|_| fixture.publish("new")).collect();
    fixture.broker.stop(Instant::now() + TIMEOUT);
    fixture.closed.recv_timeout(TIMEOUT).unwrap();
    assert!(replies.iter().all(|reply| reply.try_recv().is_ok()));
    assert_eq!(fixture.delivered.len(), 100);
}

#[test]
fn publishers_thread_stores_only_in_a_store_without_io_while_nothing_waits() {
    for (appends_at_once, is_idle, expected) in [
        (true, true, thread_name()),
        (false, true, "broker".to_owned()),
        (true, false, "broker".to_owned()),
    ] {
        let fixture = Fixture::start_with(appends_at_once, is_idle);
        assert_eq!(fixture.result_of("new"), Ok(8));
        assert_eq!(fixture.appended_on.try_recv(), Ok(expected));
    }
}

#[test]
fn publish_queues_behind_one_that_a_publishers_thread_is_storing() {
    let fixture = Fixture::start();
    thread::scope(|scope| {
        let first = scope.spawn(|| fixture.result_of("slow"));
        fixture.appended_on.recv_timeout(TIMEOUT).unwrap();
        // None of these waits for the first one.
        let others: Vec<_> = (0..100).map(|_| fixture.publish("new")).collect();
        assert!(fixture.delivered.is_empty());
        fixture.gate.send(()).unwrap();
        assert_eq!(first.join().unwrap(), Ok(8));
        for (offset, reply) in (9..).zip(others) {
            let position = reply.recv_timeout(TIMEOUT).unwrap().unwrap();
            assert_eq!(position.offset, offset);
        }
    });
    assert!(fixture.appended_on.try_iter().all(|name| name == "broker"));
    assert!(fixture.delivered.try_iter().eq(8..109));
}

#[test]
fn publish_after_stop_is_refused() {
    let fixture = Fixture::start();
    assert_eq!(fixture.result_of("new"), Ok(8));
    fixture.broker.stop(Instant::now() + TIMEOUT);
    fixture.closed.recv_timeout(TIMEOUT).unwrap();
    // The thread may still own the inbox; then it drops the publish unanswered.
    let (reply, replied) = bounded(1);
    let publish = Fixture::lobby_publish("new");
    let sent = fixture.broker.publish(publish, ReplyTo::Thread(reply));
    let is_refused = sent == Err(StoreError::Stopped) || replied.recv_timeout(TIMEOUT).is_err();
    assert!(is_refused);
    assert_eq!(fixture.delivered.len(), 1);
}
