//! Readers reconnect to other nodes, while the nodes lose their subscriptions too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{
    Seed, StopOnDrop, read_streams_while_reconnecting, read_while_reconnecting, wait_until,
    with_redis,
};

/// The channel that every subscribed node is subscribed to.
const PRESENCE: &str = "wscast: presence";
/// History long enough that every gap can be recovered.
const FLAGS: [&str; 4] = ["--history-messages", "100000", "--log-level", "info"];

#[test]
fn readers_that_reconnect_to_random_nodes_get_everything_once() {
    with_redis(|redis| {
        let nodes = redis.nodes(3, &FLAGS);
        read_while_reconnecting(&nodes.iter().collect::<Vec<_>>(), &Seed::new());
    });
}

#[test]
fn streams_of_several_rooms_resume_at_random_nodes() {
    with_redis(|redis| {
        let nodes = redis.nodes(3, &FLAGS);
        read_streams_while_reconnecting(&nodes.iter().collect::<Vec<_>>(), &Seed::new());
    });
}

// Actors: two nodes, publishers, and readers that reconnect.
// Faults: the subscription connections of all nodes are killed each time that all are subscribed.
// Invariants: each reader gets every offset in order; nodes fill the gaps from the log in Redis.
#[test]
fn readers_lose_nothing_when_subscriptions_are_killed_repeatedly() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &FLAGS);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let stop = StopOnDrop(&done);
            let killer = scope.spawn(|| {
                let mut killed = 0;
                while !done.load(Ordering::Relaxed) {
                    wait_until("all nodes are subscribed", || {
                        let count = ["PUBSUB", "NUMSUB", PRESENCE];
                        redis.command::<(String, usize)>(&count).1 == nodes.len()
                    });
                    killed += redis.command::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
                killed
            });
            read_while_reconnecting(&nodes.iter().collect::<Vec<_>>(), &Seed::fixed(20));
            drop(stop);
            assert!(killer.join().expect("the killer failed") > 10);
        });
        let clusters = nodes.iter().map(|node| node.stats()["cluster"].clone());
        let clusters: Vec<_> = clusters.collect();
        assert!(
            clusters.iter().all(|c| c["reconnects"].as_u64() > Some(3)),
            "{clusters:?}"
        );
        assert!(
            clusters.iter().any(|c| c["gap_fills"].as_u64() > Some(0)),
            "{clusters:?}"
        );
    });
}
