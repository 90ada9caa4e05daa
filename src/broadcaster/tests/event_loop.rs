//! The loop itself: waiting for events and due work, and ending.

use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;

use super::support::{ReceivedFrame, TestBroadcaster, TestRoom};
use crate::broadcaster::event::Event;

#[test]
fn loop_sends_pending_batches_before_it_stops_and_handles_nothing_after() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let (events, waiting) = unbounded();
    for event in [
        lobby.publish(),
        lobby.publish(),
        Event::Stop,
        lobby.publish(),
    ] {
        events.send(event).expect("the receiver is alive");
    }
    broadcaster.state.run(&waiting);

    assert_eq!(alice.offsets(), [1, 2]);
}

#[test]
fn loop_handles_every_waiting_event_before_it_ends_with_the_last_sender() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[]);
    let (events, waiting) = unbounded();
    // More than one batch, so that the loop has to continue after the first.
    let published = 3000;
    for event in lobby.publish_many(published) {
        events.send(event).expect("the receiver is alive");
    }
    let last = [alice.join(&lobby), lobby.publish()];
    for event in last {
        events.send(event).expect("the receiver is alive");
    }
    drop(events);
    broadcaster.state.run(&waiting);

    let received = alice.messages();
    assert_eq!(received[0]["payload"]["offset"], published);
    assert_eq!(received[1]["offset"], published + 1);
}

#[test]
fn loop_does_due_work_while_no_event_arrives() {
    let mut broadcaster = TestBroadcaster::new();
    let mut clients = [(); 3].map(|()| broadcaster.member_of(&[]));
    let (events, waiting) = unbounded();
    let duration = Duration::from_millis(50);
    events
        .send(Event::Drain { duration })
        .expect("the receiver is alive");
    let thread = thread::spawn(move || broadcaster.state.run(&waiting));
    for client in &mut clients {
        assert_eq!(client.frames_until_end(), [ReceivedFrame::Close(1001)]);
    }
    drop(events);
    thread.join().expect("the loop ends");
}
