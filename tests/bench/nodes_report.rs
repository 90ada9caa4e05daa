//! The rows of cases N and S: what nodes with one Redis cost, and how the masters of a Redis Cluster share the load.

use std::io;
use std::time::Duration;

use crate::args::{Case, NODES};
use crate::comparison::{Comparison, Definition, Figure};
use crate::load::Load;
use crate::measurements::Bench;
use crate::nodes::{ClientLayout, NodeAckFigures, NodeFigures, NodeSetup};
use crate::redis_server;
use crate::report::{Columns, Row};
use crate::storage::PublisherPlan;

type NodeDefinition = Definition<NodeFigures>;

const DELIVERIES: NodeDefinition = ("deliveries per second", "k/s", |nodes| {
    nodes.deliveries / nodes.seconds / 1e3
});
const MESSAGES: NodeDefinition = ("messages per second", "k/s", |nodes| {
    nodes.messages / nodes.seconds / 1e3
});
const NODES_PER_DELIVERY: NodeDefinition = ("CPU of nodes per delivery", "µs", |nodes| {
    nodes.nodes_us() / nodes.deliveries
});
const REDIS_PER_DELIVERY: NodeDefinition = ("CPU of Redis per delivery", "µs", |nodes| {
    nodes.cpu.redis_us / nodes.deliveries
});
const REDIS_PER_MESSAGE: NodeDefinition = ("CPU of Redis per message", "µs", |nodes| {
    nodes.cpu.redis_us / nodes.messages
});
const BUSIEST_REDIS_PER_MESSAGE: NodeDefinition =
    ("CPU of the busiest master per message", "µs", |nodes| {
        nodes.cpu.busiest_redis_us / nodes.messages
    });
const SCRIPT: NodeDefinition = ("time in the script, measured by Redis", "µs", |nodes| {
    nodes.redis.scripts_us / nodes.redis.scripts
});
const COMMANDS: NodeDefinition = ("Redis commands per message", "", |nodes| {
    nodes.redis.commands / nodes.messages
});
// The CPU time of one thread, on the node where it uses most.
const BROKER: NodeDefinition = ("broker thread per message", "µs", |nodes| {
    nodes.cpu.broker_us / nodes.messages
});
const SUBSCRIBER: NodeDefinition = ("subscriber thread per message", "µs", |nodes| {
    nodes.cpu.subscriber_us / nodes.messages
});
const BROADCASTER: NodeDefinition = ("broadcaster thread per message", "µs", |nodes| {
    nodes.cpu.broadcaster_us / nodes.messages
});
const PUBLISHING_NODE: NodeDefinition = ("CPU of the publishing node per message", "µs", |nodes| {
    nodes.cpu.nodes_us[0] / nodes.messages
});
const RELAYING_NODE: NodeDefinition = ("CPU of a relaying node per message", "µs", |nodes| {
    nodes.relaying_us() / nodes.messages
});
const GENERATOR_BUSY: NodeDefinition = ("load generator busy", "%", |nodes| {
    nodes.generator_busy_percent
});
const NODES_IDLE: NodeDefinition = ("CPU of nodes per second", "ms", |nodes| {
    nodes.nodes_us() / nodes.seconds / 1e3
});
const REDIS_IDLE: NodeDefinition = ("CPU of Redis per second", "ms", |nodes| {
    nodes.cpu.redis_us / nodes.seconds / 1e3
});

const ACK_FIGURES: [Definition<NodeAckFigures>; 5] = [
    ("publishes per second", "k/s", |publish| publish.acks.per_ms),
    ("ack p50", "ms", |publish| publish.acks.latency_p50_ms),
    ("ack p99", "ms", |publish| publish.acks.latency_p99_ms),
    ("CPU of the node per publish", "µs", |publish| {
        publish.acks.cpu_us
    }),
    ("CPU of Redis per publish", "µs", |publish| {
        publish.redis_us
    }),
];

/// Returns whether there is a Redis for this case. A case that `--only` names fails without one.
fn has_redis(bench: &Bench, case: Case) -> io::Result<bool> {
    let is_here = redis_server::find_program().is_some();
    if !is_here {
        let reason = format!("{case:?}: there is no redis-server");
        if bench.options.is_named(case) {
            return Err(io::Error::other(reason));
        }
        eprintln!("{reason}: skipped");
    }
    Ok(is_here)
}

/// The rows of case S: three nodes in many rooms, with one master and with three.
pub(crate) fn master_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    if !has_redis(bench, Case::S)? {
        return Ok(Vec::new());
    }
    let layout = ClientLayout {
        clients: bench.options.node_clients(),
        rooms: bench.options.node_rooms(),
    };
    let figures = [
        MESSAGES,
        DELIVERIES,
        BUSIEST_REDIS_PER_MESSAGE,
        REDIS_PER_MESSAGE,
        COMMANDS,
        NODES_PER_DELIVERY,
        SUBSCRIBER,
        GENERATOR_BUSY,
    ];
    let mut rows = Vec::new();
    for load in [Load::PerSecond(1000), Load::Outstanding(64)] {
        let title = format!("S  {} rooms, {load}", layout.rooms);
        let comparison = Comparison {
            figures: Figure::all(&title, &figures),
            title,
            columns: Columns::OneMasterAndThree,
            sides: [
                NodeSetup::ThreeWithMasters(1),
                NodeSetup::ThreeWithMasters(3),
            ],
        };
        let measure = |bench: &Bench, setup| bench.node_fanout(setup, layout, load);
        rows.extend(comparison.rows(bench, measure)?);
    }
    Ok(rows)
}

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    if !has_redis(bench, Case::N)? {
        return Ok(Vec::new());
    }
    let mut rows = one_room_rows(bench)?;
    rows.extend(many_rooms_rows(bench)?);
    for count in [1, 100] {
        rows.extend(acknowledged_rows(bench, count)?);
    }
    rows.extend(message_rows(bench)?);
    Ok(rows)
}

fn comparison(
    title: String,
    columns: Columns,
    figures: &[NodeDefinition],
) -> Comparison<NodeSetup, NodeFigures> {
    let first = match columns {
        Columns::OneRedisNodeAndThreeNodes => NodeSetup::OneWithRedis,
        _ => NodeSetup::OneWithMemory,
    };
    Comparison {
        figures: Figure::all(&title, figures),
        title,
        columns,
        sides: [first, NodeSetup::ThreeWithRedis],
    }
}

/// Measures one room with a third of its members on each node.
fn one_room_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let layout = ClientLayout {
        clients: bench.options.node_clients(),
        rooms: 1,
    };
    let figures = [
        DELIVERIES,
        NODES_PER_DELIVERY,
        REDIS_PER_DELIVERY,
        BROADCASTER,
        GENERATOR_BUSY,
    ];
    let columns = Columns::OneMemoryNodeAndThreeNodes;
    let mut rows = Vec::new();
    for load in [Load::PerSecond(50), Load::Outstanding(4)] {
        let comparison = comparison(format!("N  one room, {load}"), columns, &figures);
        let measure = |bench: &Bench, setup| bench.node_fanout(setup, layout, load);
        rows.extend(comparison.rows(bench, measure)?);
    }
    Ok(rows)
}

/// Measures many rooms with one member on each node, one of which publishes.
fn many_rooms_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let layout = ClientLayout {
        clients: bench.options.node_clients(),
        rooms: bench.options.node_rooms(),
    };
    let title = format!("N  {} rooms", layout.rooms);
    let figures = [
        DELIVERIES,
        NODES_PER_DELIVERY,
        REDIS_PER_DELIVERY,
        REDIS_PER_MESSAGE,
        COMMANDS,
        BROKER,
        SUBSCRIBER,
        BROADCASTER,
        GENERATOR_BUSY,
    ];
    let columns = Columns::OneMemoryNodeAndThreeNodes;
    let idle = comparison(format!("{title}, idle"), columns, &[NODES_IDLE, REDIS_IDLE]);
    let mut rows = idle.rows(bench, |bench, setup| bench.idle_nodes(setup, layout))?;
    for load in [Load::PerSecond(1000), Load::Outstanding(64)] {
        let comparison = comparison(format!("{title}, {load}"), columns, &figures);
        let measure = |bench: &Bench, setup| bench.node_fanout(setup, layout, load);
        rows.extend(comparison.rows(bench, measure)?);
    }
    Ok(rows)
}

/// Measures the cost of one message with few receivers: one client on each node, all in one room.
fn message_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let figures = [
        MESSAGES,
        REDIS_PER_MESSAGE,
        SCRIPT,
        COMMANDS,
        PUBLISHING_NODE,
        RELAYING_NODE,
        BROKER,
        SUBSCRIBER,
        BROADCASTER,
    ];
    let columns = Columns::OneRedisNodeAndThreeNodes;
    let mut rows = Vec::new();
    for load in [Load::PerSecond(500), Load::Outstanding(64)] {
        let comparison = comparison(format!("N  1 client per node, {load}"), columns, &figures);
        let measure = |bench: &Bench, setup| {
            let clients = match setup {
                NodeSetup::ThreeWithRedis | NodeSetup::ThreeWithMasters(_) => NODES,
                NodeSetup::OneWithMemory | NodeSetup::OneWithRedis => 1,
            };
            bench.node_fanout(setup, ClientLayout { clients, rooms: 1 }, load)
        };
        rows.extend(comparison.rows(bench, measure)?);
    }
    Ok(rows)
}

/// Measures what the round trip to Redis adds to a publish on one node.
fn acknowledged_rows(bench: &Bench, count: usize) -> io::Result<Vec<Row>> {
    let plan = PublisherPlan {
        count,
        outstanding: 1,
        interval: Duration::ZERO,
    };
    let title = format!("N  {count} × 1 outstanding");
    let comparison = Comparison {
        figures: Figure::all(&title, &ACK_FIGURES),
        title,
        columns: Columns::MemoryAndRedis,
        sides: [NodeSetup::OneWithMemory, NodeSetup::OneWithRedis],
    };
    comparison.rows(bench, |bench, setup| bench.node_acknowledged(setup, plan))
}
