//! Publishes whose clients do not receive the message.

use super::support::{TOO_MANY_TO_HOLD, TestBroadcaster, TestClient, TestRoom};
use crate::broadcaster::reply::ReleaseOutcome;
use crate::rooms::Exclusion;

/// A frame in short: the offset of a message, or that of an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
enum Short {
    Message(u64),
    /// It comes in place of the message, and answers the request.
    InPlace(u64),
    /// It comes in place of the message.
    Marker(u64),
    /// It answers the request.
    Answer(u64),
}

fn read(client: &mut TestClient) -> Vec<Short> {
    let short = |frame: serde_json::Value| {
        let offset = |value: &serde_json::Value| value["offset"].as_u64().expect("an offset");
        if frame["type"] == "message" {
            return Short::Message(offset(&frame));
        }
        assert_eq!(frame["type"], "ack", "{frame}");
        let offset = offset(&frame["payload"]);
        match (frame["payload"]["echo"] == false, frame["id"] == "q") {
            (true, true) => Short::InPlace(offset),
            (true, false) => Short::Marker(offset),
            (false, true) => Short::Answer(offset),
            (false, false) => panic!("an acknowledgement without a purpose: {frame}"),
        }
    };
    client.messages().into_iter().map(short).collect()
}

fn by(client: &TestClient) -> Exclusion {
    Exclusion::Client(client.id())
}

#[test]
fn acknowledgement_takes_the_place_of_the_message_in_a_batch() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[&lobby]);
    let mut carol = broadcaster.member_of(&[&lobby]);
    let mut events = Vec::new();
    for publisher in [&alice, &bob, &alice] {
        events.push(lobby.publish());
        events.push(lobby.publish_quietly(by(publisher)));
        events.push(lobby.report(publisher.id()));
    }
    broadcaster.handle(events);

    let expected = |own: &[u64]| {
        let frame = |offset| match own.contains(&offset) {
            true => Short::InPlace(offset),
            false => Short::Message(offset),
        };
        (1..=6).map(frame).collect::<Vec<_>>()
    };
    assert_eq!(read(&mut alice), expected(&[2, 6]));
    assert_eq!(read(&mut bob), expected(&[4]));
    assert_eq!(read(&mut carol), expected(&[]));
    assert_eq!(broadcaster.metrics.deliveries.get(), 3 * 6 - 3);
}

#[test]
fn large_room_gets_the_message_from_helpers_and_the_publisher_does_not() {
    let mut broadcaster = TestBroadcaster::with_helpers(2);
    let lobby = TestRoom::new("lobby");
    let mut members: Vec<_> = (0..1000)
        .map(|_| broadcaster.member_of(&[&lobby]))
        .collect();
    let publish = lobby.publish_quietly(by(&members[700]));
    broadcaster.handle([publish, lobby.report(members[700].id())]);
    for (n, member) in members.iter_mut().enumerate() {
        let expected = if n == 700 {
            Short::InPlace(1)
        } else {
            Short::Message(1)
        };
        assert_eq!(read(member), [expected], "{n}");
    }
}

#[test]
fn publish_is_answered_once_whichever_of_message_and_report_comes_first() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let message = lobby.publish_quietly(by(&alice));
    broadcaster.handle([lobby.report(alice.id())]);
    assert_eq!(read(&mut alice), []);
    broadcaster.handle([message]);
    assert_eq!(read(&mut alice), [Short::InPlace(1)]);
    broadcaster.handle([lobby.publish_quietly(by(&alice))]);
    assert_eq!(read(&mut alice), [Short::InPlace(2)]);
    broadcaster.handle([lobby.report(alice.id()), lobby.publish()]);
    assert_eq!(read(&mut alice), [Short::Message(3)]);
    assert!(broadcaster.state.own_publishes.is_empty());
}

#[test]
fn publish_is_answered_if_its_message_was_read_from_history() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    // The report comes first.
    let message = lobby.publish();
    broadcaster.handle([lobby.report(alice.id())]);
    broadcaster.handle([message]);
    let mut frames = read(&mut alice);
    frames.sort_by_key(|frame| matches!(frame, Short::Answer(_)));
    assert_eq!(frames, [Short::Message(1), Short::Answer(1)]);
    // The message comes first.
    broadcaster.handle([lobby.publish()]);
    broadcaster.handle([lobby.report(alice.id())]);
    assert_eq!(read(&mut alice), [Short::Message(2), Short::Answer(2)]);
    assert!(broadcaster.state.own_publishes.is_empty());
}

#[test]
fn publisher_that_leaves_before_delivery_gets_one_ack() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[&lobby]);
    let message = lobby.publish_quietly(by(&alice));
    broadcaster.handle([lobby.report(alice.id()), alice.leave(&lobby)]);
    let frames = alice.messages();
    assert_eq!(
        (&frames[0]["type"], &frames[0]["id"]),
        (&"ack".into(), &"q".into())
    );
    assert_eq!(frames[1]["type"], "left");
    // It returns before the message comes, which must not be a gap.
    broadcaster.handle([alice.join(&lobby)]);
    alice.messages();
    broadcaster.handle([message]);
    assert_eq!(read(&mut alice), [Short::Marker(1)]);
    assert_eq!(read(&mut bob), [Short::Message(1)]);
    // The report comes after it has left.
    let message = lobby.publish_quietly(by(&alice));
    broadcaster.handle([alice.leave(&lobby), message, lobby.report(alice.id())]);
    assert_eq!(alice.messages().len(), 2, "`left` and `ack`");
    assert!(broadcaster.state.own_publishes.is_empty());
}

#[test]
fn publisher_that_leaves_before_the_report_and_returns_gets_one_ack() {
    for others in [0, 1] {
        let mut broadcaster = TestBroadcaster::new();
        let lobby = TestRoom::new("lobby");
        let _others: Vec<_> = (0..others)
            .map(|_| broadcaster.member_of(&[&lobby]))
            .collect();
        let mut alice = broadcaster.member_of(&[&lobby]);
        let message = lobby.publish_quietly(by(&alice));
        broadcaster.handle([
            alice.leave(&lobby),
            lobby.report(alice.id()),
            alice.join(&lobby),
        ]);
        let frames = alice.messages();
        let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].clone()).collect();
        assert_eq!(kinds, ["left", "ack", "joined"]);
        broadcaster.handle([message]);
        assert_eq!(read(&mut alice), [Short::Marker(1)], "{others}");
        assert!(broadcaster.state.own_publishes.is_empty());
    }
}

#[test]
fn publishes_of_a_client_that_disconnects_are_forgotten() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let alice = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[&lobby]);
    let message = lobby.publish_quietly(by(&alice));
    broadcaster.handle([lobby.report(alice.id()), alice.disconnect(), message]);
    assert_eq!(read(&mut bob), [Short::Message(1)]);
    let message = lobby.publish_quietly(by(&alice));
    broadcaster.handle([message, lobby.report(alice.id())]);
    assert!(broadcaster.state.own_publishes.is_empty());
}

#[test]
fn held_publisher_gets_its_acknowledgement_in_place_or_after_an_overflow() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let (mut alice, _) = broadcaster.held_member_of(&lobby);
    let message = lobby.publish_quietly(by(&alice));
    broadcaster.handle([message, lobby.report(alice.id()), lobby.publish()]);
    assert_eq!(broadcaster.release(&alice, &lobby, 0), ReleaseOutcome::Live);
    assert_eq!(read(&mut alice), [Short::InPlace(1), Short::Message(2)]);

    let (mut bob, _) = broadcaster.held_member_of(&lobby);
    let message = lobby.publish_quietly(by(&bob));
    broadcaster.handle([message, lobby.report(bob.id())]);
    for _ in 0..TOO_MANY_TO_HOLD {
        broadcaster.handle([lobby.publish()]);
    }
    let last = 3 + TOO_MANY_TO_HOLD as u64;
    let outcome = broadcaster.release(&bob, &lobby, 2);
    assert_eq!(outcome, ReleaseOutcome::ReadOn(last));
    // The message itself comes from history.
    assert_eq!(read(&mut bob), [Short::Answer(3)]);
    assert_eq!(
        broadcaster.release(&bob, &lobby, last),
        ReleaseOutcome::Live
    );
    assert_eq!(read(&mut bob), []);
}
