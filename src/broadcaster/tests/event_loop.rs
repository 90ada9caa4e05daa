//! The loop itself: waiting for events and due work, and ending.

use std::thread;
use std::time::Duration;

use super::support::{ReceivedFrame, TestBroadcaster, TestRoom};
use crate::broadcaster::event::Event;
use crate::inbox;

#[test]
fn loop_sends_pending_batches_before_it_stops_and_handles_nothing_after() {
    let mut broadcaster = TestBroadcaster::new();
    let lobby = TestRoom::new("lobby");
    let mut alice = broadcaster.member_of(&[&lobby]);
    let (events, waiting) = inbox::of_this_thread(4);
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
    let (events, waiting) = inbox::of_this_thread(8);
    // More than one batch, so that the loop has to continue after the first.
    let published = 3000;
    let mut sent = lobby.publish_many(published);
    sent.extend([alice.join(&lobby), lobby.publish()]);
    let sender = thread::spawn(move || {
        for event in sent {
            events.send(event).expect("the receiver is alive");
        }
    });
    broadcaster.state.run(&waiting);
    sender.join().expect("every event is taken");

    let received = alice.messages();
    assert_eq!(received[0]["payload"]["offset"], published);
    assert_eq!(received[1]["offset"], published + 1);
}

#[test]
fn loop_does_due_work_while_no_event_arrives() {
    let mut broadcaster = TestBroadcaster::new();
    let mut clients = [(); 3].map(|()| broadcaster.member_of(&[]));
    let duration = Duration::from_millis(50);
    let run = move |events: &_| broadcaster.state.run(events);
    let (events, thread) = inbox::spawn_service("test", 1, run).expect("a thread");
    events
        .send(Event::Drain { duration })
        .expect("the receiver is alive");
    for client in &mut clients {
        assert_eq!(client.frames_until_end(), [ReceivedFrame::Close(1001)]);
    }
    drop(events);
    thread.join().expect("the loop ends");
}
