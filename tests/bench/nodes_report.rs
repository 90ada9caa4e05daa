//! The rows of case N: which measurement stands beside which.

use std::io;
use std::time::Duration;

use crate::args::{Case, NODES};
use crate::nodes::{Crowd, Shared, Site};
use crate::redis_server;
use crate::report::{Row, Sides};
use crate::scenarios::{Bench, Load};
use crate::storage::{Acknowledged, Publishers};

type Figure = (&'static str, &'static str, fn(&Shared) -> f64);

const DELIVERIES: Figure = ("deliveries per second", "k/s", |shared| {
    shared.deliveries / shared.seconds / 1e3
});
const MESSAGES: Figure = ("messages per second", "k/s", |shared| {
    shared.messages / shared.seconds / 1e3
});
const NODES_PER_DELIVERY: Figure = ("CPU of nodes per delivery", "µs", |shared| {
    shared.nodes_us() / shared.deliveries
});
const REDIS_PER_DELIVERY: Figure = ("CPU of Redis per delivery", "µs", |shared| {
    shared.spent.redis_us / shared.deliveries
});
const REDIS_PER_MESSAGE: Figure = ("CPU of Redis per message", "µs", |shared| {
    shared.spent.redis_us / shared.messages
});
const SCRIPT: Figure = ("time in the script, as Redis says", "µs", |shared| {
    shared.told.scripts_us / shared.told.scripts
});
const COMMANDS: Figure = ("Redis commands per message", "", |shared| {
    shared.told.commands / shared.messages
});
/// Threads' parts of it, each on the node where it does most.
const BROKER: Figure = ("broker thread per message", "µs", |shared| {
    shared.spent.services_us[0] / shared.messages
});
const LISTENER: Figure = ("listening thread per message", "µs", |shared| {
    shared.spent.services_us[1] / shared.messages
});
const BROADCASTER: Figure = ("broadcaster thread per message", "µs", |shared| {
    shared.spent.services_us[2] / shared.messages
});
const PUBLISHING_NODE: Figure = ("CPU of the publishing node per message", "µs", |shared| {
    shared.spent.nodes_us[0] / shared.messages
});
const RELAYING_NODE: Figure = ("CPU of a relaying node per message", "µs", |shared| {
    shared.relaying_us() / shared.messages
});
const GENERATOR: Figure = ("load generator busy", "%", |shared| {
    shared.generator_busy_percent
});
const NODES_IDLE: Figure = ("CPU of nodes per second", "ms", |shared| {
    shared.nodes_us() / shared.seconds / 1e3
});
const REDIS_IDLE: Figure = ("CPU of Redis per second", "ms", |shared| {
    shared.spent.redis_us / shared.seconds / 1e3
});

/// Measurements of the same load on two sites.
struct Comparison<'a> {
    what: String,
    sides: Sides,
    sites: [Site; 2],
    figures: &'a [Figure],
}

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    if redis_server::program().is_none() {
        let why = "N: there is no redis-server";
        if bench.options.names(Case::N) {
            return Err(io::Error::other(why));
        }
        eprintln!("{why}: skipped");
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

/// One room, a third of its members on each node.
fn one_room_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let crowd = Crowd {
        clients: bench.options.node_clients(),
        rooms: 1,
    };
    let figures = [
        DELIVERIES,
        NODES_PER_DELIVERY,
        REDIS_PER_DELIVERY,
        BROADCASTER,
        GENERATOR,
    ];
    let mut rows = Vec::new();
    for load in [Load::PerSecond(50), Load::Outstanding(4)] {
        let comparison = Comparison {
            what: format!("one room, {load}"),
            sides: Sides::AloneAndShared,
            sites: [Site::Alone, Site::Three],
            figures: &figures,
        };
        let measure = |site| bench.shared_fanout(site, crowd, load);
        rows.extend(comparison.rows(bench, measure)?);
    }
    Ok(rows)
}

/// Many rooms, each with one member on each node, one of which publishes.
fn many_rooms_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let crowd = Crowd {
        clients: bench.options.node_clients(),
        rooms: bench.options.node_rooms(),
    };
    let what = format!("{} rooms", crowd.rooms);
    let figures = [
        DELIVERIES,
        NODES_PER_DELIVERY,
        REDIS_PER_DELIVERY,
        REDIS_PER_MESSAGE,
        COMMANDS,
        BROKER,
        LISTENER,
        BROADCASTER,
        GENERATOR,
    ];
    let comparison = |what, figures| Comparison {
        what,
        sides: Sides::AloneAndShared,
        sites: [Site::Alone, Site::Three],
        figures,
    };
    let idle = comparison(format!("{what}, idle"), &[NODES_IDLE, REDIS_IDLE]);
    let mut rows = idle.rows(bench, |site| bench.shared_idle(site, crowd))?;
    for load in [Load::PerSecond(1000), Load::Outstanding(64)] {
        let measure = |site| bench.shared_fanout(site, crowd, load);
        let loaded = comparison(format!("{what}, {load}"), &figures);
        rows.extend(loaded.rows(bench, measure)?);
    }
    Ok(rows)
}

/// What one message takes where hardly anyone is: one client on each node, in one room.
fn message_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let figures = [
        MESSAGES,
        REDIS_PER_MESSAGE,
        SCRIPT,
        COMMANDS,
        PUBLISHING_NODE,
        RELAYING_NODE,
        BROKER,
        LISTENER,
        BROADCASTER,
    ];
    let mut rows = Vec::new();
    for load in [Load::PerSecond(500), Load::Outstanding(64)] {
        let comparison = Comparison {
            what: format!("1 client a node, {load}"),
            sides: Sides::OneAndThreeNodes,
            sites: [Site::One, Site::Three],
            figures: &figures,
        };
        let measure = |site| {
            let clients = if site == Site::Three { NODES } else { 1 };
            bench.shared_fanout(site, Crowd { clients, rooms: 1 }, load)
        };
        rows.extend(comparison.rows(bench, measure)?);
    }
    Ok(rows)
}

impl Comparison<'_> {
    fn rows(
        &self,
        bench: &Bench,
        measure: impl Fn(Site) -> io::Result<Shared>,
    ) -> io::Result<Vec<Row>> {
        let row = |(figure, unit, _): &Figure| {
            Row::new(format!("N  {}: {figure}", self.what), unit, self.sides)
        };
        let mut rows: Vec<Row> = self.figures.iter().map(row).collect();
        for round in 1..=bench.options.rounds() {
            let [base, measured] = self.sites.map(|site| {
                eprintln!("N, round {round}: {}, {site:?}", self.what);
                measure(site)
            });
            let (base, measured) = (base?, measured?);
            for (row, (_, _, figure)) in rows.iter_mut().zip(self.figures) {
                row.pair(figure(&base), figure(&measured));
            }
        }
        Ok(rows)
    }
}

/// What the way to Redis and back adds to a publish on one node.
fn acknowledged_rows(bench: &Bench, count: usize) -> io::Result<Vec<Row>> {
    type Figure = fn(&(Acknowledged, f64)) -> f64;
    let publishers = Publishers {
        count,
        outstanding: 1,
        interval: Duration::ZERO,
    };
    let figures: [(&str, &'static str, Figure); 5] = [
        ("publishes per second", "k/s", |(acks, _)| acks.per_ms),
        ("ack p50", "ms", |(acks, _)| acks.latency_p50_ms),
        ("ack p99", "ms", |(acks, _)| acks.latency_p99_ms),
        ("CPU of the node per publish", "µs", |(acks, _)| {
            acks.cpu_us
        }),
        ("CPU of Redis per publish", "µs", |(_, redis_us)| *redis_us),
    ];
    let mut rows = figures.map(|(what, unit, _)| {
        let what = format!("N  {count} × 1 outstanding: {what}");
        Row::new(what, unit, Sides::MemoryAndRedis)
    });
    for round in 1..=bench.options.rounds() {
        let [base, measured] = [Site::Alone, Site::One].map(|site| {
            eprintln!("N, round {round}: {publishers:?}, {site:?}");
            bench.shared_acknowledged(site, publishers)
        });
        let (base, measured) = (base?, measured?);
        for (row, (_, _, figure)) in rows.iter_mut().zip(figures) {
            row.pair(figure(&base), figure(&measured));
        }
    }
    Ok(rows.into())
}
