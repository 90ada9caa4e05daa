//! Case L: what it costs to bound what clients may ask, for clients who stay within the bounds.

use std::io;
use std::time::Duration;

use crate::children::Kind;
use crate::report::{Row, Sides, Target};
use crate::scenarios::{Bench, Fanout, Load, Publisher};
use crate::storage::{Acknowledged, Publishers};

/// The most that all bounds together may cost.
const LIMITED: Target = Target::Ratio(1.05);

/// Clients that publish by turns: a server does not relay as much as they may ask together.
const PUBLISHERS_MAX: usize = 100;

/// Each below the 100 requests a second that a connection has by default.
const PACED: Publishers = Publishers {
    count: 100,
    outstanding: 1,
    interval: Duration::from_nanos(1_000_000_000 / 80),
};

const SIDES: [Kind; 2] = [Kind::Wscast, Kind::WscastLimited];

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [Load::PerSecond(50), Load::Outstanding(4)] {
        rows.extend(fanout_rows(bench, load)?);
    }
    rows.extend(publish_rows(bench)?);
    Ok(rows)
}

fn row(what: String, unit: &'static str, target: Option<Target>) -> Row {
    let mut row = Row::new(format!("L  {what}"), unit, Sides::UnlimitedAndLimited);
    row.target = target;
    row
}

fn fanout_rows(bench: &Bench, load: Load) -> io::Result<Vec<Row>> {
    let mut cpu = row(format!("{load}: CPU per delivery"), "µs", Some(LIMITED));
    let mut rate = row(format!("{load}: deliveries per second"), "k/s", None);
    for round in 1..=bench.options.rounds() {
        let [without, with] = SIDES.map(|kind| {
            eprintln!("L, round {round}: {load}, {kind:?}");
            bench.fanout_by_turns(kind, load)
        });
        let (without, with) = (without?, with?);
        cpu.pair(without.cpu_us_per_delivery, with.cpu_us_per_delivery);
        rate.pair(without.deliveries_per_ms, with.deliveries_per_ms);
    }
    Ok(match load {
        Load::PerSecond(_) => vec![cpu],
        Load::Outstanding(_) => vec![cpu, rate],
    })
}

fn publish_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let what = format!("{} publishers, paced", PACED.count);
    let mut cpu = row(format!("{what}: CPU per publish"), "µs", Some(LIMITED));
    let mut rate = row(format!("{what}: publishes per second"), "k/s", None);
    for round in 1..=bench.options.rounds() {
        let [without, with] = SIDES.map(|kind| {
            eprintln!("L, round {round}: {what}, {kind:?}");
            bench.paced(kind)
        });
        let (without, with) = (without?, with?);
        cpu.pair(without.cpu_us, with.cpu_us);
        rate.pair(without.per_ms, with.per_ms);
    }
    Ok(vec![cpu, rate])
}

impl Bench {
    /// One publisher alone would exceed what a connection may ask.
    fn fanout_by_turns(&self, kind: Kind, load: Load) -> io::Result<Fanout> {
        let mut server = self.start(kind)?;
        let fleet = self.fleet(&server, self.options.clients())?;
        let publisher = Publisher::clients(&fleet, PUBLISHERS_MAX)?;
        self.fanout_to(&mut server, fleet, publisher, load)
    }

    /// Each publisher is alone in a room.
    fn paced(&self, kind: Kind) -> io::Result<Acknowledged> {
        self.acknowledged_by(&self.start(kind)?, PACED)
    }
}
