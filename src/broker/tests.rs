//! The broker with a store and a delivery of the test's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::*;
use crate::protocol::{Epoch, Kind, Publication};
use crate::rooms::{LocalMembers, RemoteMembers};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A store that treats each publish by its payload: `"new"`, `"duplicate"`, `"too many rooms"` or `"unavailable"`.
struct FakeStore {
    numbering: Arc<RoomNumbering>,
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
            _ => Ok(Stored::New {
                numbering: Arc::clone(&self.numbering),
                publication: Arc::new(Publication {
                    room: publish.room.clone(),
                    offset: 8,
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

impl Store for FakeStore {
    fn open(&self, _: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        Ok(Arc::clone(&self.numbering))
    }

    fn find(&self, _: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(None)
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        batch.iter().map(|publish| self.store(publish)).collect()
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
struct FakeDelivery(Sender<u64>);

impl Delivery for FakeDelivery {
    fn deliver(&self, _: &Arc<RoomNumbering>, publication: Arc<Publication>, _: Instant) {
        // An error means that the test has ended.
        self.0.send(publication.offset).ok();
    }

    fn restart(&self, _: &RoomName) {}

    fn set_remote_members(&self, _: RoomName, _: RemoteMembers) {}

    fn changed_rooms(&self, _: bool) -> Option<Vec<LocalMembers>> {
        None
    }

    fn close_clients(&self, _: ClientSelector) {}
}

struct Fixture {
    broker: Broker,
    metrics: Arc<Metrics>,
    delivered: Receiver<u64>,
    closed: Receiver<()>,
}

impl Fixture {
    fn start() -> Self {
        let (closing, closed) = bounded(1);
        let (delivering, delivered) = unbounded();
        let store = FakeStore {
            numbering: Arc::new(RoomNumbering::new(RoomName::lobby(), Epoch::random(), 0)),
            closed: closing,
        };
        let metrics = Arc::new(Metrics::default());
        let delivery = Arc::new(FakeDelivery(delivering));
        let (broker, _) = Broker::start(Arc::new(store), delivery, Arc::clone(&metrics)).unwrap();
        Self {
            broker,
            metrics,
            delivered,
            closed,
        }
    }

    fn publish(&self, payload: &str) -> Receiver<Result<Position, StoreError>> {
        let publish = Publish {
            room: RoomName::lobby(),
            from: "alice".into(),
            kind: Kind::Message,
            payload: payload.into(),
            id: None,
            scope: None,
            received: Instant::now(),
        };
        let (reply, replied) = bounded(1);
        let reply_to = ReplyTo::Thread(reply);
        self.broker.publish(publish, reply_to).unwrap();
        replied
    }

    fn result_of(&self, payload: &str) -> Result<u64, StoreError> {
        let result = self.publish(payload).recv_timeout(TIMEOUT).unwrap();
        result.map(|position| position.offset)
    }
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
