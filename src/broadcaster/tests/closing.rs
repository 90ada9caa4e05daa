//! Closing clients: by selection, and all of them at shutdown.

use std::sync::Arc;
use std::time::Duration;

use super::support::{ReceivedFrame, TestBroadcaster, TestClient, TestRoom};
use crate::broadcaster::event::Event;
use crate::protocol::CloseCode;
use crate::rooms::ClientSelector;
use crate::socket::LINGER;

fn close(broadcaster: &mut TestBroadcaster, selector: ClientSelector) -> usize {
    broadcaster.request(|reply| Event::Close {
        selector,
        code: CloseCode::Forbidden,
        reply,
    })
}

/// Reads the Close frames that have arrived and returns the number of clients that received one.
fn count_closed(clients: &mut [TestClient]) -> usize {
    let codes = clients.iter_mut().filter_map(TestClient::close_code);
    codes.inspect(|code| assert_eq!(*code, 1001)).count()
}

#[test]
fn close_by_client_closes_that_client_only() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[&lobby]);
    let closed = close(&mut broadcaster, ClientSelector::Client(alice.id()));

    assert_eq!(closed, 1);
    assert_eq!(alice.close_code(), Some(4003));
    assert_eq!(bob.close_code(), None);
    broadcaster.handle([alice.disconnect()]);
    let closed = close(&mut broadcaster, ClientSelector::Client(alice.id()));
    assert_eq!(closed, 0);
}

#[test]
fn close_by_user_closes_every_client_of_that_user() {
    let mut broadcaster = TestBroadcaster::new();
    let users = [Some("ann"), Some("ben"), Some("ann"), None];
    let mut clients = users.map(|user| {
        let mut client = broadcaster.client();
        broadcaster.handle([match user {
            Some(user) => client.connect_as(user, &[]),
            None => client.connect(&[]),
        }]);
        client.frames();
        client
    });
    let closed = close(&mut broadcaster, ClientSelector::User("ann".into()));

    assert_eq!(closed, 2);
    let codes = clients.each_mut().map(TestClient::close_code);
    assert_eq!(codes, [Some(4003), None, Some(4003), None]);
}

#[test]
fn client_that_awaits_authentication_can_be_closed() {
    let mut broadcaster = TestBroadcaster::new();
    let mut alice = broadcaster.client();
    let outbox = Arc::clone(&alice.outbox);
    broadcaster.handle([Event::AwaitAuth { outbox }]);
    assert!(alice.frames().is_empty());

    let closed = close(&mut broadcaster, ClientSelector::Client(alice.id()));
    assert_eq!(closed, 1);
    assert_eq!(alice.close_code(), Some(4003));
}

#[test]
fn drain_closes_every_client_once_and_spreads_them_over_its_duration() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut clients = Vec::from([(); 40].map(|()| broadcaster.member_of(&[&lobby])));
    let duration = Duration::from_secs(1);
    broadcaster.handle([Event::Drain { duration }]);
    assert!(count_closed(&mut clients) <= 1);

    let mut closed_at_half_time = 0;
    let mut closed = 0;
    let mut largest_step = 0;
    let start = broadcaster.now;
    while let Some(due) = broadcaster
        .state
        .next_due()
        .filter(|due| *due <= start + duration)
    {
        broadcaster.advance(due - broadcaster.now);
        let step = count_closed(&mut clients);
        (closed, largest_step) = (closed + step, largest_step.max(step));
        if broadcaster.now <= start + duration / 2 {
            closed_at_half_time = closed;
        }
    }
    assert!((38..=40).contains(&closed), "{closed}");
    assert!(
        (18..=22).contains(&closed_at_half_time),
        "{closed_at_half_time}"
    );
    assert!(largest_step <= 2, "{largest_step}");
    broadcaster.advance(duration);
    assert_eq!(count_closed(&mut clients), 0, "nobody is closed twice");
}

#[test]
fn second_drain_does_not_postpone_the_first() {
    let mut broadcaster = TestBroadcaster::new();
    let mut clients = vec![broadcaster.member_of(&[]), broadcaster.member_of(&[])];
    let second = Duration::from_secs(1);
    broadcaster.handle([Event::Drain { duration: second }]);
    broadcaster.handle([Event::Drain {
        duration: second * 100,
    }]);
    broadcaster.advance(second);

    assert_eq!(count_closed(&mut clients), 2);
}

#[test]
fn client_that_connects_during_the_drain_is_closed_after_its_welcome() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.client();
    let mut bob = broadcaster.client();
    let outbox = Arc::clone(&bob.outbox);
    broadcaster.handle([
        Event::Drain {
            duration: Duration::from_secs(60),
        },
        alice.connect(&[&lobby]),
        Event::AwaitAuth { outbox },
    ]);

    let received = alice.frames();
    assert_eq!(received.len(), 2, "{received:?}");
    assert!(matches!(&received[0], ReceivedFrame::Text(welcome) if welcome["from"] == "server"));
    assert_eq!(received[1], ReceivedFrame::Close(1001));
    assert_eq!(bob.close_code(), Some(1001));
}

#[test]
fn drain_aborts_closed_clients_that_keep_their_connections_open() {
    let mut broadcaster = TestBroadcaster::new();
    let mut alice = broadcaster.member_of(&[]);
    broadcaster.handle([Event::Drain {
        duration: Duration::ZERO,
    }]);
    assert_eq!(alice.close_code(), Some(1001));
    broadcaster.advance(LINGER - Duration::from_millis(1));
    assert!(alice.can_send());
    assert_eq!(
        broadcaster.state.next_due(),
        Some(broadcaster.now + Duration::from_millis(1))
    );
    broadcaster.advance(Duration::from_millis(1));
    assert!(!alice.can_send());
    let next_abort = broadcaster.now + LINGER;
    assert_eq!(broadcaster.state.next_due(), Some(next_abort));
}

#[test]
fn member_receives_nothing_after_its_close_frame() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    close(&mut broadcaster, ClientSelector::Client(alice.id()));
    broadcaster.handle([lobby.publish(), lobby.restart()]);

    assert_eq!(alice.close_code(), Some(4003));
}
