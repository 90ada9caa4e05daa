//! Presence: requests for a room's members, and the updates that watchers are sent.

use std::time::Duration;

use serde_json::json;

use super::support::{
    TestBroadcaster, TestClient, TestRoom, UNIX_TIME, listed, remote_clients, with_user,
};
use crate::broadcaster::presence::PRESENCE_INTERVAL;
use crate::protocol::{ClientId, MemberState, PresentClient};
use crate::rooms::PRESENCE_LIST_MAX;

/// A member that watches the room and has read everything, in a room whose interval is over.
fn quiet_watcher(broadcaster: &mut TestBroadcaster, room: &TestRoom) -> TestClient {
    let mut watcher = broadcaster.member_of(&[]);
    broadcaster.handle([watcher.join_and_watch(room)]);
    broadcaster.advance(PRESENCE_INTERVAL);
    assert_eq!(watcher.messages().len(), 2, "joined and the first update");
    watcher
}

/// Reads the member counts of the presence updates that have arrived; nothing else may have.
fn updates(watcher: &mut TestClient) -> Vec<u64> {
    let members = |message: serde_json::Value| {
        assert_eq!(message["type"], "presence", "{message}");
        message["payload"]["members"].as_u64().expect("a count")
    };
    watcher.messages().into_iter().map(members).collect()
}

#[test]
fn watcher_is_sent_the_first_change_at_once_and_later_ones_together() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    let bob = broadcaster.member_of(&[&lobby]);
    assert_eq!(updates(&mut watcher), [2]);

    let _carol = broadcaster.member_of(&[&lobby]);
    let _dave = broadcaster.member_of(&[&lobby]);
    broadcaster.handle([bob.leave(&lobby)]);
    broadcaster.advance(PRESENCE_INTERVAL - Duration::from_millis(1));
    assert!(updates(&mut watcher).is_empty());
    broadcaster.advance(Duration::from_millis(1));
    assert_eq!(updates(&mut watcher), [3]);
}

#[test]
fn watcher_is_sent_a_change_at_once_after_a_quiet_interval() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    for members in [2, 3] {
        let joined = broadcaster.client();
        broadcaster.handle([joined.connect(&[&lobby])]);
        assert_eq!(updates(&mut watcher), [members]);
        broadcaster.advance(PRESENCE_INTERVAL);
        assert!(updates(&mut watcher).is_empty());
    }
}

#[test]
fn changes_within_one_batch_are_one_update() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    let (bob, carol) = (broadcaster.client(), broadcaster.client());
    broadcaster.handle([bob.connect(&[&lobby]), carol.connect(&[&lobby])]);

    assert_eq!(updates(&mut watcher), [3]);
}

#[test]
fn quiet_room_is_never_due() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let watcher = broadcaster.member_of(&[]);
    broadcaster.handle([watcher.join_and_watch(&lobby)]);
    assert_eq!(
        broadcaster.state.next_due(),
        Some(broadcaster.now + PRESENCE_INTERVAL)
    );
    broadcaster.advance(PRESENCE_INTERVAL);
    assert_eq!(broadcaster.state.next_due(), None);
}

#[test]
fn member_that_does_not_watch_is_sent_no_update() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    let mut bob = broadcaster.member_of(&[&lobby]);
    let _carol = broadcaster.member_of(&[&lobby]);
    broadcaster.advance(PRESENCE_INTERVAL);

    assert_eq!(updates(&mut watcher), [2, 3]);
    assert!(bob.frames().is_empty());
}

#[test]
fn second_join_without_presence_ends_the_updates() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    broadcaster.handle([watcher.join(&lobby)]);
    assert_eq!(watcher.messages().len(), 1);
    let _bob = broadcaster.member_of(&[&lobby]);
    broadcaster.advance(PRESENCE_INTERVAL);

    assert!(watcher.frames().is_empty());
    assert_eq!(broadcaster.state.next_due(), None);
}

#[test]
fn watcher_is_sent_an_update_only_if_remote_members_changed() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    let remote = remote_clients(2);
    broadcaster.handle([lobby.remote(&remote)]);
    assert_eq!(updates(&mut watcher), [3]);
    broadcaster.advance(PRESENCE_INTERVAL);
    broadcaster.handle([lobby.remote(&remote)]);
    broadcaster.advance(PRESENCE_INTERVAL);

    assert!(updates(&mut watcher).is_empty());
}

#[test]
fn presence_lists_members_up_to_the_maximum_and_then_only_counts() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let most = PRESENCE_LIST_MAX as u64;
    broadcaster.handle([
        lobby.remote(&remote_clients(most - 1)),
        alice.ask_presence(&lobby),
        lobby.remote(&remote_clients(most)),
        alice.ask_presence(&lobby),
    ]);

    let replies = alice.messages();
    assert_eq!(listed(&replies[0]).len(), PRESENCE_LIST_MAX);
    assert_eq!(replies[1]["payload"]["members"], most + 1);
    assert!(replies[1]["payload"].get("clients").is_none());
}

#[test]
fn presence_names_the_user_of_each_client() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    let [tab, other_tab, bob] = [(); 3].map(|()| broadcaster.client());
    let remote = with_user(ClientId::new(9, 1), "王\"");
    broadcaster.handle([
        tab.connect_as("ann", &[&lobby]),
        other_tab.connect_as("ann", &[&lobby]),
        bob.connect_as("bob", &[&lobby]),
        lobby.remote(std::slice::from_ref(&remote)),
        watcher.ask_presence(&lobby),
    ]);

    let since = UNIX_TIME.as_millis() as u64;
    let expected = json!([
        {"client": watcher.id(), "since": since},
        {"client": tab.id(), "user": "ann", "since": since},
        {"client": other_tab.id(), "user": "ann", "since": since},
        {"client": bob.id(), "user": "bob", "since": since},
        {"client": remote.client, "user": "王\"", "since": since},
    ]);
    let [reply, update] = &watcher.messages()[..] else {
        panic!("a reply and an update");
    };
    assert_eq!(reply["id"], "presence");
    assert_eq!(reply["payload"]["clients"], expected);
    assert_eq!(update["payload"]["clients"], expected);
}

#[test]
fn longest_list_with_the_longest_users_is_bounded() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    // Every character needs an escape.
    let user = "\"".repeat(128);
    let id = |n| ClientId::new(u32::MAX, u64::MAX - n);
    let remote: Vec<_> = (1..PRESENCE_LIST_MAX as u64)
        .map(|n| PresentClient {
            state: state(&format!("\"{}\"", "s".repeat(254))),
            ..with_user(id(n), &user)
        })
        .collect();
    broadcaster.handle([lobby.remote(&remote), alice.ask_presence(&lobby)]);

    let bytes = alice.bytes();
    assert!(bytes.len() < 64 * 1024, "{} bytes", bytes.len());
    let ends = bytes.ends_with(b"}]},\"room\":\"lobby\",\"id\":\"presence\"}");
    assert!(ends, "the list is there");
}

#[test]
fn presence_of_a_room_without_members_is_refused() {
    let mut broadcaster = TestBroadcaster::new();
    let mut alice = broadcaster.member_of(&[]);
    broadcaster.handle([alice.ask_presence(&TestRoom::new("lobby"))]);

    let [refusal] = &alice.messages()[..] else {
        panic!("exactly one reply");
    };
    assert_eq!(refusal["type"], "error");
    assert_eq!(refusal["id"], "presence");
    assert_eq!(refusal["payload"]["code"], "not_in_room");
}

fn state(json: &str) -> Option<MemberState> {
    MemberState::parse(json)
}

/// Reads the states in the only update that has arrived, by client in the order of the list.
fn states(watcher: &mut TestClient) -> Vec<serde_json::Value> {
    let [update] = &watcher.messages()[..] else {
        panic!("exactly one update");
    };
    assert_eq!(update["type"], "presence", "{update}");
    let clients = update["payload"]["clients"].as_array().expect("a list");
    clients.iter().map(|c| c["state"].clone()).collect()
}

#[test]
fn state_of_a_member_is_shown_to_watchers_once_an_interval() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    let mut bob = broadcaster.member_of(&[&lobby]);
    broadcaster.advance(PRESENCE_INTERVAL);
    updates(&mut watcher);
    broadcaster.advance(PRESENCE_INTERVAL);

    broadcaster.handle([bob.show(&lobby, state(r#"{"typing":true}"#))]);
    assert_eq!(states(&mut watcher), [json!(null), json!({"typing": true})]);
    let replies = bob.messages();
    assert_eq!(replies[0]["type"], "state", "{replies:?}");
    assert_eq!(replies[0]["id"], "state");
    for shown in ["1", "2", "3"] {
        broadcaster.handle([bob.show(&lobby, state(shown))]);
    }
    assert!(updates(&mut watcher).is_empty());
    broadcaster.advance(PRESENCE_INTERVAL);
    assert_eq!(states(&mut watcher), [json!(null), json!(3)]);
    // The same state again is no change.
    broadcaster.advance(PRESENCE_INTERVAL);
    broadcaster.handle([bob.show(&lobby, state("3"))]);
    broadcaster.advance(PRESENCE_INTERVAL);
    assert!(updates(&mut watcher).is_empty());
    // It ends with the membership, and stays when the member joins again.
    broadcaster.handle([bob.join(&lobby), bob.show(&lobby, None)]);
    assert_eq!(states(&mut watcher), [json!(null), json!(null)]);
}

#[test]
fn state_of_a_client_that_is_not_there_is_refused() {
    let mut broadcaster = TestBroadcaster::new();
    let (lobby, ops) = (TestRoom::new("lobby"), TestRoom::new("ops"));
    let mut alice = broadcaster.member_of(&[&lobby]);
    let _bob = broadcaster.member_of(&[&ops]);
    broadcaster.handle([alice.show(&ops, state("1")), alice.leave(&lobby)]);
    broadcaster.handle([alice.show(&lobby, state("1"))]);
    let codes: Vec<_> = alice
        .messages()
        .iter()
        .map(|reply| reply["payload"]["code"].as_str().map(str::to_owned))
        .collect();
    let refused = || Some("not_in_room".to_owned());
    assert_eq!(codes, [refused(), None, refused()]);
}

#[test]
fn states_in_a_room_that_is_not_listed_send_no_updates() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut watcher = quiet_watcher(&mut broadcaster, &lobby);
    broadcaster.handle([lobby.remote(&remote_clients(PRESENCE_LIST_MAX as u64))]);
    broadcaster.advance(PRESENCE_INTERVAL);
    updates(&mut watcher);
    broadcaster.advance(PRESENCE_INTERVAL);
    broadcaster.handle([watcher.show(&lobby, state("1"))]);
    broadcaster.advance(PRESENCE_INTERVAL);
    let [reply] = &watcher.messages()[..] else {
        panic!("only the reply");
    };
    assert_eq!(reply["type"], "state");
}
