//! Held members: the frames they are sent until they are live.

use crossbeam_channel::bounded;

use super::support::{TOO_MANY_TO_HOLD, TestBroadcaster, TestRoom};
use crate::broadcaster::reply::ReleaseOutcome;

#[test]
fn held_client_is_sent_no_welcome_and_its_thread_receives_the_states() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    broadcaster.handle(dev.publish_many(2));
    let mut alice = broadcaster.client();
    let states = broadcaster.request(|hold| alice.connect_held(&[&ops, &dev], hold));

    let states: Vec<_> = states
        .iter()
        .map(|state| (state.room.as_str(), state.position.offset, state.members))
        .collect();
    assert_eq!(states, [("ops", 0, 1), ("dev", 2, 1)]);
    assert!(alice.frames().is_empty());
}

#[test]
fn held_member_is_sent_the_held_batches_on_release_and_later_ones_at_once() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    broadcaster.handle(lobby.publish_many(4));
    let (mut alice, state) = broadcaster.held_member_of(&lobby);
    assert_eq!(state.position.offset, 4);
    broadcaster.handle(lobby.publish_many(2));
    broadcaster.handle([lobby.publish()]);
    assert!(alice.frames().is_empty());

    let outcome = broadcaster.release(&alice, &lobby, 4);
    assert_eq!(outcome, ReleaseOutcome::Live);
    assert_eq!(alice.offsets(), [5, 6, 7]);
    broadcaster.handle([lobby.publish()]);
    assert_eq!(alice.offsets(), [8]);
}

#[test]
fn join_can_hold_a_member_in_one_room_while_it_is_live_in_another() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    let mut alice = broadcaster.member_of(&[&ops]);
    let states = broadcaster.request(|hold| alice.join_held(&dev, hold));
    assert_eq!(states[0].room, dev.name());
    broadcaster.handle([dev.publish(), ops.publish()]);

    let received = alice.messages();
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(received[0]["room"], "ops");
    broadcaster.release(&alice, &dev, 0);
    assert_eq!(alice.messages()[0]["room"], "dev");
}

#[test]
fn pending_batch_is_held_before_a_release_in_the_same_batch() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    let (reply, outcome) = bounded(1);
    let release = alice.release(&lobby, 0, reply);
    broadcaster.handle([lobby.publish(), release, lobby.publish()]);

    assert_eq!(outcome.try_recv(), Ok(ReleaseOutcome::Live));
    assert_eq!(alice.offsets(), [1, 2]);
}

#[test]
fn publication_that_was_read_from_the_store_while_pending_is_not_sent_again() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    let (reply, outcome) = bounded(1);
    broadcaster.handle([lobby.publish(), alice.release(&lobby, 1, reply)]);

    assert_eq!(outcome.try_recv(), Ok(ReleaseOutcome::Live));
    broadcaster.handle([lobby.publish()]);
    assert_eq!(alice.offsets(), [2]);
}

#[test]
fn member_reads_on_after_its_held_batches_overflowed() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    for _ in 0..TOO_MANY_TO_HOLD {
        broadcaster.handle([lobby.publish()]);
    }
    let overflowed_at = TOO_MANY_TO_HOLD as u64;
    let outcome = broadcaster.release(&alice, &lobby, 0);
    assert_eq!(outcome, ReleaseOutcome::ReadOn(overflowed_at));
    broadcaster.handle([lobby.publish()]);
    assert!(alice.frames().is_empty(), "the member is held anew");

    let outcome = broadcaster.release(&alice, &lobby, overflowed_at);
    assert_eq!(outcome, ReleaseOutcome::Live);
    assert_eq!(alice.offsets(), [overflowed_at + 1]);
}

#[test]
fn member_reads_on_if_it_released_itself_too_early() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    broadcaster.handle(lobby.publish_many(5));
    let (mut alice, _) = broadcaster.held_member_of(&lobby);

    let outcome = broadcaster.release(&alice, &lobby, 3);
    assert_eq!(outcome, ReleaseOutcome::ReadOn(5));
    broadcaster.handle([lobby.publish()]);
    assert!(alice.frames().is_empty());
    assert_eq!(broadcaster.release(&alice, &lobby, 5), ReleaseOutcome::Live);
    assert_eq!(alice.offsets(), [6]);
}

#[test]
fn member_that_read_the_held_publications_from_the_store_is_not_sent_them_again() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    broadcaster.handle(lobby.publish_many(3));

    assert_eq!(broadcaster.release(&alice, &lobby, 3), ReleaseOutcome::Live);
    assert!(alice.frames().is_empty());
    broadcaster.handle([lobby.publish()]);
    assert_eq!(alice.offsets(), [4]);
}

#[test]
fn member_from_a_faster_node_is_held_until_this_node_catches_up() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    broadcaster.handle(lobby.publish_many(2));
    let (mut alice, _) = broadcaster.held_member_of(&lobby);

    assert_eq!(
        broadcaster.release(&alice, &lobby, 4),
        ReleaseOutcome::Behind
    );
    broadcaster.handle([lobby.publish()]);
    assert_eq!(
        broadcaster.release(&alice, &lobby, 4),
        ReleaseOutcome::Behind
    );
    broadcaster.handle([lobby.publish()]);
    assert_eq!(broadcaster.release(&alice, &lobby, 4), ReleaseOutcome::Live);
    broadcaster.handle([lobby.publish()]);
    assert_eq!(alice.offsets(), [5], "3 and 4 are duplicates");
}

#[test]
fn second_release_sends_nothing_again() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    broadcaster.handle([lobby.publish()]);
    broadcaster.release(&alice, &lobby, 0);
    assert_eq!(broadcaster.release(&alice, &lobby, 0), ReleaseOutcome::Live);
    assert_eq!(alice.offsets(), [1]);
}

#[test]
fn release_of_a_client_that_is_no_member_returns_live_and_sends_nothing() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let _member = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[]);
    assert_eq!(broadcaster.release(&bob, &lobby, 7), ReleaseOutcome::Live);
    broadcaster.handle([lobby.publish()]);
    assert!(bob.frames().is_empty());
}
