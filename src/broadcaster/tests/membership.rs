//! Connecting, joining, leaving and disconnecting.

use std::sync::Arc;

use serde_json::json;

use super::support::{TestBroadcaster, TestRoom, WELCOME};

#[test]
fn welcome_names_the_client_and_its_rooms_in_the_order_requested() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    let _bob = broadcaster.member_of(&[&dev]);
    broadcaster.handle(ops.publish_many(2));
    let mut alice = broadcaster.client();
    broadcaster.handle([alice.connect(&[&ops, &dev])]);

    let [welcome] = &alice.messages()[..] else {
        panic!("exactly one welcome");
    };
    assert_eq!(welcome["payload"], WELCOME);
    assert_eq!(welcome["client"], alice.id().to_string());
    let rooms = json!([
        {"room": "ops", "epoch": ops.epoch(), "offset": 2, "recovered": false, "members": 1},
        {"room": "dev", "epoch": dev.epoch(), "offset": 0, "recovered": false, "members": 2},
    ]);
    assert_eq!(welcome["rooms"], rooms);
}

#[test]
fn joined_reply_has_the_request_id_and_the_state_of_the_room() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[]);
    broadcaster.handle([alice.join(&lobby)]);

    let [joined] = &alice.messages()[..] else {
        panic!("exactly one reply");
    };
    assert_eq!(joined["type"], "joined");
    assert_eq!(joined["id"], "join");
    assert_eq!(joined["room"], "lobby");
    assert_eq!(joined["payload"]["epoch"], lobby.epoch());
}

#[test]
fn second_join_keeps_one_membership() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    broadcaster.handle([alice.join(&lobby)]);
    assert_eq!(alice.messages()[0]["payload"]["members"], 1);

    broadcaster.handle([lobby.publish()]);
    assert_eq!(alice.offsets(), [1]);
    broadcaster.handle([alice.leave(&lobby)]);
    assert_eq!(alice.messages().len(), 1);
    broadcaster.handle([lobby.publish()]);
    assert!(alice.frames().is_empty());
}

#[test]
fn disconnect_frees_the_client_and_its_rooms() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    let alice = broadcaster.member_of(&[&ops, &dev]);
    let mut bob = broadcaster.member_of(&[&dev]);
    broadcaster.handle([ops.publish(), dev.publish(), alice.disconnect()]);

    assert_eq!(Arc::strong_count(&alice.outbox), 1);
    assert_eq!(Arc::strong_count(&ops.numbering), 1);
    assert_eq!(Arc::strong_count(&dev.numbering), 2, "bob's room");
    assert_eq!(bob.offsets(), [1]);
    broadcaster.handle([bob.disconnect()]);
    let state = &broadcaster.state;
    assert!(state.clients.is_empty() && state.rooms.is_empty() && state.pending.is_empty());
}

#[test]
fn disconnect_frees_what_was_held() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    broadcaster.handle([lobby.publish(), alice.disconnect()]);

    assert!(alice.frames().is_empty());
    assert!(broadcaster.state.rooms.is_empty());
    assert_eq!(Arc::strong_count(&alice.outbox), 1);
}

#[test]
fn join_of_a_disconnected_client_opens_no_room() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[]);
    broadcaster.handle([alice.disconnect(), alice.join(&lobby)]);

    assert!(broadcaster.state.rooms.is_empty());
    assert!(alice.frames().is_empty());
}
