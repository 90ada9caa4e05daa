//! The broadcaster's state, driven by a test that chooses the time and the events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::broadcaster::event::Event;
use crate::broadcaster::fan_out::Helpers;
use crate::broadcaster::reply::ReleaseOutcome;
use crate::broadcaster::state::BroadcasterState;
use crate::metrics::Metrics;
use crate::outbox::Wire;
use crate::protocol::{ClientId, RoomState};

use super::client::TestClient;
use super::presence::UNIX_TIME;
use super::room::TestRoom;

/// The text of the welcome.
pub(in crate::broadcaster::tests) const WELCOME: &str = "hello";

/// The broadcaster's state, stepped by the test.
pub(in crate::broadcaster::tests) struct TestBroadcaster {
    pub(in crate::broadcaster::tests) state: BroadcasterState,
    pub(in crate::broadcaster::tests) metrics: Arc<Metrics>,
    pub(in crate::broadcaster::tests) now: Instant,
    clients_started: u64,
}

impl TestBroadcaster {
    pub(in crate::broadcaster::tests) fn new() -> Self {
        Self::with_helpers(0)
    }

    pub(in crate::broadcaster::tests) fn with_helpers(count: usize) -> Self {
        let metrics = Arc::new(Metrics::default());
        let helpers = Helpers::start(count).expect("threads");
        let mut state = BroadcasterState::new(
            WELCOME.to_owned(),
            Box::new(|_| true),
            Arc::clone(&metrics),
            helpers,
        );
        state.unix_time = || UNIX_TIME;
        Self {
            state,
            metrics,
            now: Instant::now(),
            clients_started: 0,
        }
    }

    /// Handles events that arrive together, as the loop does.
    pub(in crate::broadcaster::tests) fn handle(
        &mut self,
        events: impl IntoIterator<Item = Event>,
    ) {
        let flow = self.state.handle_batch(events.into_iter(), self.now);
        assert!(flow.is_continue(), "only Stop ends the loop");
    }

    /// Lets time pass, then does the work that is due, as the loop does when no event arrives.
    pub(in crate::broadcaster::tests) fn advance(&mut self, time: Duration) {
        self.now += time;
        self.state.do_due_work(self.now);
    }

    /// Handles a request and returns the reply.
    pub(in crate::broadcaster::tests) fn request<T>(
        &mut self,
        event: impl FnOnce(Sender<T>) -> Event,
    ) -> T {
        let (reply, receiver) = bounded(1);
        self.handle([event(reply)]);
        receiver.try_recv().expect("the request has a reply")
    }

    /// A client that has a socket but was not yet made known to the broadcaster.
    pub(in crate::broadcaster::tests) fn client(&mut self) -> TestClient {
        self.client_with(Wire::WebSocket)
    }

    pub(in crate::broadcaster::tests) fn client_with(&mut self, wire: Wire) -> TestClient {
        self.clients_started += 1;
        let id = ClientId::new(7, self.clients_started);
        TestClient::new(id, Arc::clone(&self.metrics), wire)
    }

    /// A client that is a live member of these rooms and has read its welcome.
    pub(in crate::broadcaster::tests) fn member_of(&mut self, rooms: &[&TestRoom]) -> TestClient {
        let mut client = self.client();
        self.handle([client.connect(rooms)]);
        assert_eq!(client.frames().len(), 1, "the welcome");
        client
    }

    /// A client that is a held member of a room, with the state that its thread received.
    pub(in crate::broadcaster::tests) fn held_member_of(
        &mut self,
        room: &TestRoom,
    ) -> (TestClient, RoomState) {
        let client = self.client();
        let mut states = self.request(|hold| client.connect_held(&[room], hold));
        (client, states.pop().expect("the state of the room"))
    }

    pub(in crate::broadcaster::tests) fn release(
        &mut self,
        client: &TestClient,
        room: &TestRoom,
        reached: u64,
    ) -> ReleaseOutcome {
        self.request(|reply| client.release(room, reached, reply))
    }
}
