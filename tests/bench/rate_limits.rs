//! Case L: what the rate limits cost clients that stay within them.

use std::io;
use std::time::Duration;

use crate::comparison::{Comparison, Definition, Figure};
use crate::fanout_report::{CPU_PER_DELIVERY, DELIVERIES};
use crate::load::{Load, Publisher};
use crate::measurements::{Bench, FanoutFigures};
use crate::report::{Columns, Row, Target};
use crate::servers::ServerKind;
use crate::storage::{AckFigures, PublisherPlan};

/// The most that all limits together may cost.
const COST: Target = Target::RatioMax(1.05);

/// Clients that publish in turn. One alone would exceed the limit of a connection.
const PUBLISHERS_MAX: usize = 100;

/// Each publisher stays below 100 requests a second, the default limit of a connection.
const PACED: PublisherPlan = PublisherPlan {
    count: 100,
    outstanding: 1,
    interval: Duration::from_nanos(1_000_000_000 / 80),
};

const CPU_PER_PUBLISH: Definition<AckFigures> = ("CPU per publish", "µs", |acks| acks.cpu_us);
const PUBLISHES: Definition<AckFigures> = ("publishes per second", "k/s", |acks| acks.per_ms);

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [Load::PerSecond(50), Load::Outstanding(4)] {
        let rate: &[_] = match load {
            Load::PerSecond(_) => &[],
            Load::Outstanding(_) => &[DELIVERIES],
        };
        let comparison = comparison(format!("L  {load}"), CPU_PER_DELIVERY, rate);
        rows.extend(comparison.rows(bench, |bench, kind| bench.fanout_in_turn(kind, load))?);
    }
    let title = format!("L  {} publishers, paced", PACED.count);
    let comparison = comparison(title, CPU_PER_PUBLISH, &[PUBLISHES]);
    rows.extend(comparison.rows(bench, |bench, kind| {
        // Each publisher is alone in its room.
        bench.acknowledged_by(&bench.start(kind)?, PACED)
    })?);
    Ok(rows)
}

fn comparison<M>(
    title: String,
    cpu: Definition<M>,
    others: &[Definition<M>],
) -> Comparison<ServerKind, M> {
    let mut figures = vec![Figure::titled(&title, cpu).with_target(COST)];
    figures.extend(Figure::all(&title, others));
    Comparison {
        title,
        columns: Columns::UnlimitedAndLimited,
        sides: [ServerKind::Wscast, ServerKind::WscastLimited],
        figures,
    }
}

impl Bench {
    fn fanout_in_turn(&self, kind: ServerKind, load: Load) -> io::Result<FanoutFigures> {
        let mut server = self.start(kind)?;
        let clients = self.clients(&server, self.options.clients())?;
        let publisher = Publisher::new(&clients, PUBLISHERS_MAX)?;
        self.fanout_to(&mut server, clients, publisher, load)
    }
}
