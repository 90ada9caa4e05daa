//! Clients that go from node to node, with Redis and nodes failing under them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::random;

use crate::resume::{StopOnDrop, come_and_go};
use crate::support::{TestRedis, eventually};

/// Where every node that listens, listens.
const PRESENCE: &str = "wscast: presence";
const WIDE: [&str; 4] = ["--history-messages", "100000", "--log-level", "info"];

#[test]
fn readers_that_go_from_node_to_node_miss_nothing_and_get_nothing_twice() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let seed = random();
    let nodes = redis.nodes(3, &WIDE);
    come_and_go(&nodes.iter().collect::<Vec<_>>(), seed);
}

/// What Redis tells one node is cut off again and again: what was missed is read from the log.
#[test]
fn a_way_back_that_breaks_costs_nobody_a_message() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let nodes = redis.nodes(2, &WIDE);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopOnDrop(&done);
        let cutter = scope.spawn(|| {
            let mut cut = 0;
            while !done.load(Ordering::Relaxed) {
                // All of them, each time that all have found their way back.
                let listen = || {
                    redis
                        .ask::<(String, usize)>(&["PUBSUB", "NUMSUB", PRESENCE])
                        .1
                };
                eventually("all nodes listen", || {
                    (listen() == nodes.len()).then_some(())
                });
                cut += redis.ask::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            }
            cut
        });
        come_and_go(&nodes.iter().collect::<Vec<_>>(), 20);
        drop(stop);
        assert!(cutter.join().expect("cutter") > 10);
    });
    let clusters = nodes
        .iter()
        .map(|node| node.get_json("/stats")["cluster"].clone());
    let clusters: Vec<_> = clusters.collect();
    assert!(
        clusters.iter().all(|c| c["reconnects"].as_u64() > Some(3)),
        "{clusters:?}"
    );
    assert!(
        clusters.iter().any(|c| c["gap_fills"].as_u64() > Some(0)),
        "{clusters:?}"
    );
}
