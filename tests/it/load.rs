//! A crowd of which some do not read: the others get everything, and memory stays bounded.

use std::sync::mpsc;
use std::thread;

use crate::support::{PATIENCE, RawConnection, TestServer, allow_many_sockets, eventually, said};

const CLIENTS: usize = 300;
/// One client in so many never reads.
const STALLED_EVERY: usize = 10;
const MESSAGES: u64 = 2000;
/// Messages that are under way at once: as much as the system buffers for one client, so that those
/// who read are never behind for longer than this machine is slow.
const ROUND: u64 = 100;
/// All messages together are more than the system buffers for a client that does not read.
const TEXT_BYTES: usize = 3 * 1024;
const READER_THREADS: usize = 4;
const RSS_GROWTH_KIB_MAX: u64 = 32 * 1024;

/// Each client gets every offset in order; after each round that is reported.
fn read_rounds(clients: &mut [RawConnection], round_done: &mpsc::Sender<()>) {
    for round in 0..MESSAGES / ROUND {
        for client in &mut *clients {
            for offset in round * ROUND + 1..=(round + 1) * ROUND {
                assert_eq!(client.next_offset(), offset);
            }
        }
        let _publisher_failed = round_done.send(());
    }
}

#[test]
fn who_reads_gets_everything_whoever_else_does_not() {
    allow_many_sockets();
    let server = TestServer::start(&["--max-message-bytes", "8KiB", "--outbox-bytes", "256KiB"]);
    let mut publisher = server.raw();
    publisher.enter("/ws");
    let (mut stalled, mut healthy) = (Vec::new(), Vec::new());
    for number in 1..CLIENTS {
        let mut client = server.raw();
        client.enter("/ws");
        match number % STALLED_EVERY {
            0 => stalled.push(client),
            _ => healthy.push(client),
        }
    }
    let before = server.rss_kib();

    let words = said(&"x".repeat(TEXT_BYTES));
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
                publisher.send(&words);
            }
            for offset in round * ROUND + 1..=(round + 1) * ROUND {
                assert_eq!(publisher.next_offset(), offset);
            }
            for _ in 0..READER_THREADS {
                rounds_done.recv_timeout(PATIENCE).expect("all read along");
            }
        }
    });

    let growth = server.rss_kib().saturating_sub(before);
    assert!(growth < RSS_GROWTH_KIB_MAX, "grew by {growth} KiB");
    eventually("all that stalled are evicted, nobody else", || {
        let stats = server.stats();
        let evicted = stats["totals"]["slow_consumers_evicted"] == stalled.len();
        let left = stats["connected_clients"] == healthy.len() + 1;
        (evicted && left && stats["lagging_clients"] == 0).then_some(())
    });
    publisher.say("still here");
    for client in healthy.iter_mut().chain([&mut publisher]) {
        assert_eq!(client.next_offset(), MESSAGES + 1);
    }
}
