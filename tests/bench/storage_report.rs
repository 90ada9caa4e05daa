//! The rows of cases G to I: which measurement stands beside which.

use std::io;
use std::time::Duration;

use crate::args::Case;
use crate::catch_up::{CatchUp, Returning};
use crate::report::{Row, Sides, Target};
use crate::scenarios::{Bench, Load};
use crate::storage::{Acknowledged, History, Publishers};

/// The most that keeping history on disk may cost a delivery.
const STORED_FANOUT: Target = Target::Ratio(1.10);
/// The most that returning clients may slow down those that never left.
const RETURNING: Target = Target::Ratio(2.0);

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if bench.options.wants(Case::G) {
        for load in [Load::PerSecond(50), Load::Outstanding(4)] {
            rows.push(fanout_row(bench, load)?);
        }
    }
    if bench.options.wants(Case::H) {
        let beside_memory = (Sides::MemoryAndSqlite, [History::Memory, History::Sqlite]);
        for (count, outstanding) in [(1, 1), (1, 32), (100, 1)] {
            let publishers = Publishers {
                count,
                outstanding,
                interval: Duration::ZERO,
            };
            rows.extend(acknowledged_rows(bench, publishers, beside_memory)?);
        }
        let synced = (Sides::NormalAndFull, [History::Sqlite, History::SqliteFull]);
        let publishers = Publishers {
            count: 100,
            outstanding: 1,
            interval: Duration::ZERO,
        };
        rows.extend(acknowledged_rows(bench, publishers, synced)?);
    }
    if bench.options.wants(Case::I) {
        for history in [History::Memory, History::Sqlite] {
            for returning in [Returning::OneASecond, Returning::TenAtOnce] {
                rows.extend(catch_up_rows(bench, history, returning)?);
            }
        }
    }
    Ok(rows)
}

fn fanout_row(bench: &Bench, load: Load) -> io::Result<Row> {
    let what = format!("G  {load}: CPU per delivery");
    let mut row = Row::new(what, "µs", Sides::MemoryAndSqlite);
    row.target = Some(STORED_FANOUT);
    for round in 1..=bench.options.rounds() {
        let [memory, sqlite] = [History::Memory, History::Sqlite].map(|history| {
            eprintln!("G, round {round}: {load}, {history:?}");
            bench.stored_fanout(history, load)
        });
        row.pair(memory?.cpu_us_per_delivery, sqlite?.cpu_us_per_delivery);
    }
    Ok(row)
}

fn acknowledged_rows(
    bench: &Bench,
    publishers: Publishers,
    (sides, histories): (Sides, [History; 2]),
) -> io::Result<Vec<Row>> {
    type Figure = fn(&Acknowledged) -> f64;
    let figures: [(&str, &'static str, Figure); 4] = [
        ("publishes per second", "k/s", |acks| acks.per_ms),
        ("CPU per publish", "µs", |acks| acks.cpu_us),
        ("ack p50", "ms", |acks| acks.latency_p50_ms),
        ("ack p99", "ms", |acks| acks.latency_p99_ms),
    ];
    let Publishers {
        count, outstanding, ..
    } = publishers;
    let mut rows = figures.map(|(what, unit, _)| {
        let what = format!("H  {count} × {outstanding} outstanding: {what}");
        Row::new(what, unit, sides)
    });
    for round in 1..=bench.options.rounds() {
        let [base, measured] = histories.map(|history| {
            eprintln!("H, round {round}: {publishers:?}, {history:?}");
            bench.acknowledged(history, publishers)
        });
        let (base, measured) = (base?, measured?);
        for (row, (_, _, figure)) in rows.iter_mut().zip(figures) {
            row.pair(figure(&base), figure(&measured));
        }
    }
    Ok(rows.into())
}

fn catch_up_rows(bench: &Bench, history: History, returning: Returning) -> io::Result<Vec<Row>> {
    type Figure = fn(&CatchUp) -> f64;
    let figures: [(&str, &'static str, Figure, Option<Target>); 4] = [
        ("live p50", "ms", |live| live.latency_p50_ms, None),
        (
            "live p99",
            "ms",
            |live| live.latency_p99_ms,
            Some(RETURNING),
        ),
        ("time to catch up", "s", |live| live.seconds, None),
        ("caught up", "", |live| live.caught_up, None),
    ];
    let mut rows = figures.map(|(what, unit, _, target)| {
        let what = format!("I  {history:?}, {returning:?}: {what}");
        let mut row = Row::new(what, unit, Sides::WithoutAndWithReturning);
        row.target = target.filter(|_| returning == Returning::OneASecond);
        row
    });
    for round in 1..=bench.options.rounds() {
        let [without, with] = [Returning::Nobody, returning].map(|returning| {
            eprintln!("I, round {round}: {history:?}, {returning:?}");
            bench.catch_up(history, returning)
        });
        let (without, with) = (without?, with?);
        for (row, (_, _, figure, _)) in rows.iter_mut().zip(figures) {
            row.pair(figure(&without), figure(&with));
        }
    }
    Ok(rows.into())
}
