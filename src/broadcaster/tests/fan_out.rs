//! The message path: which member receives which publication, in which order and encoding.

use serde_json::json;

use super::support::{TestBroadcaster, TestRoom};
use crate::outbox::Wire;

#[test]
fn member_receives_each_offset_once_in_order_from_its_join_position() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    broadcaster.handle(lobby.publish_many(2));
    let mut bob = broadcaster.member_of(&[&lobby]);
    broadcaster.handle(lobby.publish_many(3));
    broadcaster.handle([lobby.publish()]);

    assert_eq!(alice.offsets(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(bob.offsets(), [3, 4, 5, 6]);
}

#[test]
fn publication_reaches_members_as_it_was_stored() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    broadcaster.handle([lobby.publish_json(r#"{"n": 1.50}"#)]);

    let expected = json!({
        "type": "message", "payload": {"n": 1.5}, "room": "lobby", "offset": 1, "from": "publisher", "ts": 1,
    });
    assert_eq!(alice.messages(), [expected]);
}

#[test]
fn join_takes_effect_after_the_publications_before_it() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[]);
    let batch = [lobby.publish(), bob.join(&lobby), lobby.publish()];
    broadcaster.handle(batch);

    assert_eq!(alice.offsets(), [1, 2]);
    let received = bob.messages();
    assert_eq!(received.len(), 2, "{received:?}");
    assert_eq!(received[0]["type"], "joined");
    assert_eq!(received[0]["payload"]["offset"], 1);
    assert_eq!(received[1]["offset"], 2);
}

#[test]
fn leave_takes_effect_after_the_publications_before_it() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let mut bob = broadcaster.member_of(&[&lobby]);
    broadcaster.handle([lobby.publish(), alice.leave(&lobby), lobby.publish()]);

    let received = alice.messages();
    assert_eq!(received.len(), 2, "{received:?}");
    assert_eq!(received[0]["offset"], 1);
    assert_eq!(received[1]["type"], "left");
    assert_eq!(received[1]["id"], "leave");
    assert_eq!(bob.offsets(), [1, 2]);
}

#[test]
fn publications_stay_in_their_rooms() {
    let mut broadcaster = TestBroadcaster::new();
    let (ops, dev) = (TestRoom::new("ops"), TestRoom::new("dev"));
    let mut alice = broadcaster.member_of(&[&ops]);
    let mut bob = broadcaster.member_of(&[&ops, &dev]);
    broadcaster.handle([ops.publish(), dev.publish(), ops.publish()]);

    assert_eq!(alice.offsets(), [1, 2]);
    let mut received: Vec<_> = bob.messages();
    received.sort_by_key(|message| message["room"].to_string());
    let places: Vec<_> = received
        .iter()
        .map(|message| (message["room"].as_str(), message["offset"].as_u64()))
        .collect();
    assert_eq!(
        places,
        [
            (Some("dev"), Some(1)),
            (Some("ops"), Some(1)),
            (Some("ops"), Some(2))
        ]
    );
}

#[test]
fn publication_moves_the_position_of_a_room_without_members() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    broadcaster.handle(lobby.publish_many(3));
    let mut alice = broadcaster.client();
    broadcaster.handle([alice.connect(&[&lobby]), lobby.publish()]);

    let received = alice.messages();
    assert_eq!(received[0]["rooms"][0]["offset"], 3);
    assert_eq!(received[1]["offset"], 4);
}

#[test]
fn full_batch_is_sent_before_more_is_added() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let large = format!("\"{}\"", "x".repeat(64 * 1024));
    let events = vec![lobby.publish(), lobby.publish_json(&large), lobby.publish()];
    let mut received_before = Vec::new();
    // The loop takes an event from this iterator after it has handled the one before.
    let events = events.into_iter().inspect(|_| {
        received_before.push(alice.offsets());
    });
    broadcaster.handle(events);

    assert_eq!(received_before, [vec![], vec![], vec![1, 2]]);
    assert_eq!(alice.offsets(), [3]);
}

#[test]
fn event_stream_reader_receives_events_and_others_receive_frames() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let mut readers = [Wire::Events, Wire::ChunkedEvents].map(|wire| {
        let reader = broadcaster.client_with(wire);
        let states = broadcaster.request(|hold| reader.connect_held(&[&lobby], hold));
        broadcaster.release(&reader, &lobby, states[0].position.offset);
        reader
    });
    broadcaster.handle([lobby.publish(), lobby.publish()]);

    assert_eq!(alice.offsets(), [1, 2]);
    let [text, chunk] = readers
        .each_mut()
        .map(|reader| String::from_utf8(reader.bytes()).expect("text"));
    assert_eq!(chunk, format!("{:x}\r\n{text}\r\n", text.len()));
    let ids: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    assert_eq!(
        ids,
        [
            format!("{}-1", lobby.epoch()),
            format!("{}-2", lobby.epoch())
        ]
    );
    assert_eq!(text.matches("\ndata: {\"type\":\"message\"").count(), 2);
    assert!(text.ends_with("}\n\n"), "{text}");
}

#[test]
fn batch_after_the_last_event_stream_reader_left_has_no_old_events() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    for expected in ["-1\n", "-4\n"] {
        let mut reader = broadcaster.client_with(Wire::Events);
        broadcaster.handle([reader.connect(&[&lobby])]);
        reader.bytes();
        broadcaster.handle([lobby.publish(), reader.disconnect()]);
        let text = String::from_utf8(reader.bytes()).expect("text");
        assert_eq!(text.matches("id: ").count(), 1, "{text}");
        assert!(text.contains(expected), "{text}");
        broadcaster.handle(lobby.publish_many(2));
        assert!(reader.bytes().is_empty());
    }
    assert_eq!(alice.offsets(), [1, 2, 3, 4, 5, 6]);
}

/// Enough members for three threads.
const LARGE_ROOM: usize = 800;

#[test]
fn helpers_send_to_a_large_room_in_order_and_keep_batches_of_held_members() {
    crate::limits::raise_and_measure();
    let mut broadcaster = TestBroadcaster::with_helpers(3);
    let lobby = TestRoom::new("lobby");
    let mut members: Vec<_> = (0..LARGE_ROOM)
        .map(|_| broadcaster.member_of(&[&lobby]))
        .collect();
    let (mut held, state) = broadcaster.held_member_of(&lobby);
    broadcaster.handle([lobby.publish()]);
    broadcaster.handle(lobby.publish_many(2));
    // A member that leaves after a fan-out, and one that leaves within a batch.
    let mut left = members.remove(LARGE_ROOM / 2);
    assert_eq!(left.offsets(), [1, 2, 3]);
    broadcaster.handle([left.disconnect(), lobby.publish()]);
    let mut leaving = members.remove(1);
    broadcaster.handle([lobby.publish(), leaving.disconnect(), lobby.publish()]);

    assert!(left.offsets().is_empty());
    assert_eq!(leaving.offsets(), [1, 2, 3, 4, 5]);
    for member in &mut members {
        assert_eq!(member.offsets(), [1, 2, 3, 4, 5, 6]);
    }
    assert!(held.offsets().is_empty());
    broadcaster.release(&held, &lobby, state.position.offset);
    assert_eq!(held.offsets(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn deliveries_are_counted_once_per_member() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let _members = [(); 3].map(|()| broadcaster.member_of(&[&lobby]));
    broadcaster.handle(lobby.publish_many(2));
    assert_eq!(broadcaster.metrics.deliveries.get(), 6);
    broadcaster.handle([lobby.publish(), lobby.restart()]);
    assert_eq!(broadcaster.metrics.deliveries.get(), 9);
}
