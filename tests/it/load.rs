//! A crowd in which some clients never read: the others get everything, and memory stays bounded.

use std::sync::mpsc;
use std::thread;

use crate::support::{
    TIMEOUT, TestClient, TestServer, allow_many_sockets, message_frame, wait_until,
};

const CLIENTS: usize = 300;
/// The share of clients that never read: one in this many.
const STALLED_EVERY: usize = 10;
const MESSAGES: u64 = 2000;
/// Messages in flight at once. The kernel can buffer them all for one client, so that clients that read never lag for
/// longer than this machine is slow.
const ROUND: u64 = 100;
/// All messages together exceed the kernel's buffers of a client that does not read.
const TEXT_BYTES: usize = 3 * 1024;
const READER_THREADS: usize = 4;
const RSS_GROWTH_KIB_MAX: u64 = 32 * 1024;

/// Reads every offset in order at each client, and reports each round.
fn read_rounds(clients: &mut [TestClient], round_done: &mpsc::Sender<()>) {
    for round in 0..MESSAGES / ROUND {
        for client in &mut *clients {
            for offset in round * ROUND + 1..=(round + 1) * ROUND {
                assert_eq!(client.next_offset(), offset);
            }
        }
        let _publisher_failed = round_done.send(());
    }
}

// Actors: 300 clients, of which every tenth never reads, and one publisher.
// Invariants: clients that read get every offset in order; the others are evicted; memory growth is bounded.
#[test]
fn clients_that_read_get_everything_while_others_stall() {
    allow_many_sockets();
    let server = TestServer::start(&["--max-message-bytes", "8KiB", "--outbox-bytes", "256KiB"]);
    let mut publisher = server.passive_client("/ws");
    let (mut stalled, mut healthy) = (Vec::new(), Vec::new());
    for number in 1..CLIENTS {
        let client = server.passive_client("/ws");
        match number % STALLED_EVERY {
            0 => stalled.push(client),
            _ => healthy.push(client),
        }
    }
    let before = server.rss_kib();

    let message = message_frame(&"x".repeat(TEXT_BYTES));
    let (round_done, rounds_done) = mpsc::channel();
    thread::scope(|scope| {
        let share = healthy.len().div_ceil(READER_THREADS);
        for clients in healthy.chunks_mut(share) {
            let round_done = round_done.clone();
            scope.spawn(move || read_rounds(clients, &round_done));
        }
        drop(round_done);
        for round in 0..MESSAGES / ROUND {
            for _ in 0..ROUND {
                publisher.send(&message);
            }
            for offset in round * ROUND + 1..=(round + 1) * ROUND {
                assert_eq!(publisher.next_offset(), offset);
            }
            for _ in 0..READER_THREADS {
                rounds_done
                    .recv_timeout(TIMEOUT)
                    .expect("all clients read the round");
            }
        }
    });

    let growth = server.rss_kib().saturating_sub(before);
    assert!(growth < RSS_GROWTH_KIB_MAX, "grew by {growth} KiB");
    wait_until("all stalled clients are evicted and no others", || {
        let stats = server.stats();
        let evicted = stats["totals"]["slow_consumers_evicted"] == stalled.len();
        let left = stats["connected_clients"] == healthy.len() + 1;
        evicted && left && stats["lagging_clients"] == 0
    });
    publisher.say("still here");
    for client in healthy.iter_mut().chain([&mut publisher]) {
        assert_eq!(client.next_offset(), MESSAGES + 1);
    }
}
