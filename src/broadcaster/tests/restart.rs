//! Restarted rooms: members of the old numbering are closed and never receive an offset of the new one.

use super::support::{ReceivedFrame, TestBroadcaster, TestRoom};
use crate::broadcaster::event::Event;
use crate::broadcaster::reply::ReleaseOutcome;

#[test]
fn restart_closes_members_after_what_was_published_before_it() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    let mut alice = broadcaster.member_of(&[&ops]);
    let mut bob = broadcaster.member_of(&[&dev]);
    broadcaster.handle([ops.publish(), ops.restart(), dev.publish()]);

    let received = alice.frames();
    assert_eq!(received.len(), 2, "{received:?}");
    assert!(matches!(&received[0], ReceivedFrame::Text(message) if message["offset"] == 1));
    assert_eq!(received[1], ReceivedFrame::Close(4200));
    assert_eq!(bob.offsets(), [1]);
    let name = ops.name();
    let detail = broadcaster.request(|reply| Event::Room { name, reply });
    assert!(detail.is_none());
}

#[test]
fn restart_closes_held_members_and_their_release_returns_live() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    broadcaster.handle([lobby.publish(), lobby.restart()]);

    assert_eq!(alice.close_code(), Some(4200));
    assert_eq!(broadcaster.release(&alice, &lobby, 0), ReleaseOutcome::Live);
}

#[test]
fn publication_of_a_new_epoch_closes_the_members_of_the_old_one() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let renumbered = lobby.renumbered();
    broadcaster.handle([renumbered.publish(), renumbered.publish()]);

    assert_eq!(alice.close_code(), Some(4200));
}

#[test]
fn join_of_a_new_epoch_closes_the_members_of_the_old_one() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let renumbered = lobby.renumbered();
    let mut bob = broadcaster.member_of(&[]);
    broadcaster.handle([bob.join(&renumbered), renumbered.publish()]);

    assert_eq!(alice.close_code(), Some(4200));
    let received = bob.messages();
    assert_eq!(received[0]["payload"]["epoch"], renumbered.epoch());
    assert_eq!(received[0]["payload"]["members"], 1);
    assert_eq!(received[1]["offset"], 1);
}

#[test]
fn disconnect_of_a_restarted_member_leaves_the_new_members_alone() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let alice = broadcaster.member_of(&[&lobby]);
    let renumbered = lobby.renumbered();
    let mut bob = broadcaster.member_of(&[&renumbered]);
    broadcaster.handle([alice.disconnect(), renumbered.publish()]);

    assert_eq!(bob.offsets(), [1]);
}

/// A client that was closed resumes before the broadcaster has closed the others.
#[test]
fn restart_keeps_members_that_have_joined_the_new_epoch_already() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let renumbered = lobby.renumbered();
    let mut bob = broadcaster.member_of(&[&renumbered]);
    broadcaster.handle([lobby.restart(), renumbered.publish()]);

    assert_eq!(alice.close_code(), Some(4200));
    assert_eq!(bob.offsets(), [1]);
}

/// Its thread opened the room before the restart, but its join comes after it.
#[test]
fn join_of_an_ended_epoch_closes_only_the_client_that_joins() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let renumbered = lobby.renumbered();
    broadcaster.handle([lobby.restart()]);
    let mut alice = broadcaster.member_of(&[&renumbered]);
    let (mut bob, mut carol) = (broadcaster.client(), broadcaster.member_of(&[]));
    broadcaster.handle([bob.connect(&[&lobby]), carol.join(&lobby)]);
    let (dave, mut states) = (broadcaster.client(), Vec::new());
    states.extend(broadcaster.request(|hold| dave.connect_held(&[&lobby], hold)));
    broadcaster.handle([renumbered.publish()]);

    assert_eq!(bob.close_code(), Some(4200));
    assert_eq!(carol.close_code(), Some(4200));
    assert!(states.is_empty());
    assert_eq!(alice.offsets(), [1]);
}
