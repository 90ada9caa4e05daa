//! Requests for clients and rooms.

use std::time::Duration;

use super::support::{TestBroadcaster, TestRoom, by_key, remote_clients, with_user, without_user};
use crate::broadcaster::event::Event;
use crate::broadcaster::reply::RoomDetail;
use crate::protocol::{ClientId, RoomName};

fn room_detail(broadcaster: &mut TestBroadcaster, name: RoomName) -> Option<RoomDetail> {
    broadcaster.request(|reply| Event::Room { name, reply })
}

#[test]
fn clients_are_listed_in_pages_in_the_order_of_their_ids() {
    let mut broadcaster = TestBroadcaster::new();
    let clients = [(); 5].map(|()| broadcaster.member_of(&[]));
    let mut page = |after: Option<ClientId>| {
        let details = broadcaster.request(|reply| Event::Clients {
            after,
            limit: 2,
            reply,
        });
        details
            .iter()
            .map(|detail| detail.client)
            .collect::<Vec<_>>()
    };
    let ids = clients.each_ref().map(|client| client.id());
    assert!(ids.is_sorted());

    assert_eq!(page(None), ids[0..2]);
    assert_eq!(page(Some(ids[1])), ids[2..4]);
    assert_eq!(page(Some(ids[3])), ids[4..]);
    assert!(page(Some(ids[4])).is_empty());
}

#[test]
fn client_detail_has_user_rooms_and_time() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev, test) = (
        TestRoom::new("ops"),
        TestRoom::new("dev"),
        TestRoom::new("test"),
    );
    broadcaster.advance(Duration::from_secs(30));
    let connected = broadcaster.now;
    let alice = broadcaster.client();
    broadcaster.handle([alice.connect_as("ann", &[&ops, &test])]);
    broadcaster.advance(Duration::from_secs(30));
    broadcaster.handle([alice.leave(&ops), alice.join(&dev), alice.join(&dev)]);

    let details = broadcaster.request(|reply| Event::Clients {
        after: None,
        limit: 10,
        reply,
    });
    assert_eq!(details.len(), 1);
    assert_eq!(details[0].user.as_deref(), Some("ann"));
    assert_eq!(details[0].rooms, [test.name(), dev.name()]);
    assert_eq!(details[0].connected, connected);
}

#[test]
fn room_detail_has_members_and_the_last_delivered_position() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    assert!(room_detail(&mut broadcaster, lobby.name()).is_none());
    let (alice, bob) = (broadcaster.member_of(&[&lobby]), broadcaster.client());
    broadcaster.handle([bob.connect_as("ann", &[&lobby])]);
    broadcaster.handle(lobby.publish_many(3));

    let detail = room_detail(&mut broadcaster, lobby.name()).expect("members");
    assert_eq!(detail.members, 2);
    assert_eq!(
        detail.clients,
        Some(vec![without_user(alice.id()), with_user(bob.id(), "ann")])
    );
    let position = detail.position.expect("members on this node");
    assert_eq!(
        (position.epoch, position.offset),
        (lobby.numbering.epoch(), 3)
    );
    broadcaster.handle([alice.leave(&lobby), bob.disconnect()]);
    assert!(room_detail(&mut broadcaster, lobby.name()).is_none());
}

#[test]
fn room_with_remote_members_only_has_no_position() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let remote = remote_clients(2);
    broadcaster.handle([lobby.remote(&remote)]);

    let detail = room_detail(&mut broadcaster, lobby.name()).expect("remote members");
    assert_eq!(detail.members, 2);
    assert_eq!(detail.clients, Some(remote));
    assert_eq!(detail.position, None);
}

#[test]
fn rooms_are_listed_once_with_members_of_all_nodes() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev, test) = (
        TestRoom::new("ops"),
        TestRoom::new("dev"),
        TestRoom::new("test"),
    );
    let _alice = broadcaster.member_of(&[&ops, &dev]);
    broadcaster.handle([
        dev.remote(&remote_clients(2)),
        test.remote(&remote_clients(1)),
    ]);

    let rooms = broadcaster.request(Event::Rooms);
    let rooms = by_key(rooms, |room| room.name.clone());
    assert_eq!(rooms.len(), 3);
    assert_eq!(rooms[&ops.name()].members, 1);
    assert_eq!(rooms[&dev.name()].members, 3);
    assert_eq!(rooms[&test.name()].members, 1);
}
