//! Members on other nodes: counting them, and reporting the local members that changed.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::support::{
    TestBroadcaster, TestRoom, by_key, listed, remote_clients, with_user, without_user,
};
use crate::broadcaster::event::Event;
use crate::protocol::RoomName;
use crate::rooms::{LocalMembers, RemoteMembers, Seat};

/// Requests the rooms whose local members changed, by name.
fn changed_rooms(
    broadcaster: &mut TestBroadcaster,
    all: bool,
) -> std::collections::HashMap<RoomName, LocalMembers> {
    let changed = broadcaster.request(|reply| Event::ChangedRooms { all, reply });
    by_key(changed, |members| members.room.clone())
}

fn has_seat(room: &TestRoom, members_max: u32) -> bool {
    Seat::take(Arc::clone(&room.numbering), NonZeroU32::new(members_max)).is_some()
}

#[test]
fn remote_members_are_counted_and_listed_with_local_ones() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let remote = remote_clients(2);
    let mut alice = broadcaster.member_of(&[&lobby]);
    broadcaster.handle([lobby.remote(&remote), alice.ask_presence(&lobby)]);

    let [presence] = &alice.messages()[..] else {
        panic!("exactly one reply");
    };
    assert_eq!(presence["id"], "presence");
    assert_eq!(presence["payload"]["members"], 3);
    let mut everyone = [alice.id(), remote[0].client, remote[1].client];
    everyone.sort_unstable();
    let everyone: Vec<_> = everyone.iter().map(ToString::to_string).collect();
    assert_eq!(listed(presence), everyone);
}

#[test]
fn remote_members_known_before_the_first_join_are_counted() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    broadcaster.handle([lobby.remote(&remote_clients(2))]);
    let mut alice = broadcaster.client();
    broadcaster.handle([alice.connect(&[&lobby])]);

    assert_eq!(alice.messages()[0]["rooms"][0]["members"], 3);
    assert!(!has_seat(&lobby, 2), "remote members have both seats");
    assert!(has_seat(&lobby, 3));
}

#[test]
fn remote_members_take_seats_until_they_leave() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let _alice = broadcaster.member_of(&[&lobby]);
    assert!(has_seat(&lobby, 2));
    broadcaster.handle([lobby.remote(&remote_clients(2))]);
    assert!(!has_seat(&lobby, 2));
    broadcaster.handle([lobby.remote(&[])]);
    assert!(has_seat(&lobby, 2));
    assert!(broadcaster.state.remote_members.is_empty());
}

#[test]
fn changed_rooms_are_reported_once() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    let alice = broadcaster.member_of(&[&ops]);
    assert!(changed_rooms(&mut broadcaster, false).is_empty());
    broadcaster.handle([alice.join(&dev)]);

    let changed = changed_rooms(&mut broadcaster, false);
    assert_eq!(changed.len(), 1);
    assert_eq!(
        changed[&dev.name()].clients,
        Some(vec![without_user(alice.id())])
    );
    assert!(changed_rooms(&mut broadcaster, false).is_empty());
    broadcaster.handle([alice.join(&dev), dev.publish()]);
    assert!(changed_rooms(&mut broadcaster, false).is_empty());
}

#[test]
fn changed_rooms_include_rooms_that_became_empty() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev, test) = (
        TestRoom::new("ops"),
        TestRoom::new("dev"),
        TestRoom::new("test"),
    );
    let alice = broadcaster.member_of(&[&ops]);
    let bob = broadcaster.member_of(&[&dev, &ops]);
    let _carol = broadcaster.member_of(&[&test]);
    changed_rooms(&mut broadcaster, false);
    broadcaster.handle([alice.leave(&ops), bob.disconnect(), test.restart()]);

    let changed = changed_rooms(&mut broadcaster, false);
    assert_eq!(changed.len(), 3);
    for room in [&ops, &dev, &test] {
        assert_eq!(changed[&room.name()].members, 0);
        assert_eq!(changed[&room.name()].clients, Some(vec![]));
    }
}

#[test]
fn changed_rooms_name_the_users_of_their_members() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    changed_rooms(&mut broadcaster, false);
    let (alice, bob) = (broadcaster.client(), broadcaster.client());
    broadcaster.handle([alice.connect_as("ann", &[&ops]), bob.connect(&[&dev])]);

    let changed = changed_rooms(&mut broadcaster, false);
    assert_eq!(
        changed[&ops.name()].clients,
        Some(vec![with_user(alice.id(), "ann")])
    );
    assert_eq!(
        changed[&dev.name()].clients,
        Some(vec![without_user(bob.id())])
    );
}

#[test]
fn request_for_all_rooms_reports_every_room_with_local_members() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev, test) = (
        TestRoom::new("ops"),
        TestRoom::new("dev"),
        TestRoom::new("test"),
    );
    let _alice = broadcaster.member_of(&[&ops, &dev]);
    let _bob = broadcaster.member_of(&[&ops]);
    broadcaster.handle([test.remote(&remote_clients(1))]);

    let all = changed_rooms(&mut broadcaster, true);
    assert_eq!(all.len(), 2);
    assert_eq!(all[&ops.name()].members, 2);
    assert_eq!(all[&dev.name()].members, 1);
    assert!(changed_rooms(&mut broadcaster, false).is_empty());
}

#[test]
fn remote_members_too_many_to_list_are_only_counted() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let remote = RemoteMembers {
        members: 250,
        clients: None,
    };
    let room = lobby.name();
    broadcaster.handle([
        Event::RemoteMembers { room, remote },
        alice.ask_presence(&lobby),
    ]);

    let presence = alice.messages().remove(0);
    assert_eq!(presence["payload"]["members"], 251);
    assert!(presence["payload"].get("clients").is_none(), "{presence}");
}
