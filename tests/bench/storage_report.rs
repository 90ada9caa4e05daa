//! The rows of cases G to I: what history on disk and resuming clients cost.

use std::io;
use std::time::Duration;

use crate::args::Case;
use crate::catch_up::{CatchUpFigures, ReturningClients};
use crate::comparison::{Comparison, Definition, Figure};
use crate::fanout_report::CPU_PER_DELIVERY;
use crate::load::Load;
use crate::measurements::Bench;
use crate::report::{Columns, Row, Target};
use crate::storage::{AckFigures, HistoryStore, PublisherPlan};

/// The most that history on disk may cost a delivery.
const STORED_FANOUT: Target = Target::RatioMax(1.10);
/// The most that resuming clients may slow down live ones.
const RETURNING: Target = Target::RatioMax(2.0);

const ACK_FIGURES: [Definition<AckFigures>; 4] = [
    ("publishes per second", "k/s", |acks| acks.per_ms),
    ("CPU per publish", "µs", |acks| acks.cpu_us),
    ("ack p50", "ms", |acks| acks.latency_p50_ms),
    ("ack p99", "ms", |acks| acks.latency_p99_ms),
];

const LIVE_P50: Definition<CatchUpFigures> = ("live p50", "ms", |live| live.latency_p50_ms);
const LIVE_P99: Definition<CatchUpFigures> = ("live p99", "ms", |live| live.latency_p99_ms);
const CATCH_UP_TIME: Definition<CatchUpFigures> = ("time to catch up", "s", |live| live.seconds);
const CAUGHT_UP: Definition<CatchUpFigures> = ("caught up", "", |live| live.caught_up);

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if bench.options.includes(Case::G) {
        for load in [Load::PerSecond(50), Load::Outstanding(4)] {
            rows.extend(fanout_rows(bench, load)?);
        }
    }
    if bench.options.includes(Case::H) {
        rows.extend(all_acknowledged_rows(bench)?);
    }
    if bench.options.includes(Case::I) {
        for history in [HistoryStore::Memory, HistoryStore::Sqlite] {
            for returning in [ReturningClients::OneASecond, ReturningClients::TenAtOnce] {
                rows.extend(catch_up_rows(bench, history, returning)?);
            }
        }
    }
    Ok(rows)
}

fn fanout_rows(bench: &Bench, load: Load) -> io::Result<Vec<Row>> {
    let title = format!("G  {load}");
    let comparison = Comparison {
        figures: vec![Figure::titled(&title, CPU_PER_DELIVERY).with_target(STORED_FANOUT)],
        title,
        columns: Columns::MemoryAndSqlite,
        sides: [HistoryStore::Memory, HistoryStore::Sqlite],
    };
    comparison.rows(bench, |bench, history| bench.stored_fanout(history, load))
}

fn all_acknowledged_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let (memory, sqlite) = (HistoryStore::Memory, HistoryStore::Sqlite);
    let mut rows = Vec::new();
    for (count, outstanding) in [(1, 1), (1, 32), (100, 1)] {
        let plan = PublisherPlan {
            count,
            outstanding,
            interval: Duration::ZERO,
        };
        let sides = [memory, sqlite];
        rows.extend(acknowledged_rows(
            bench,
            plan,
            Columns::MemoryAndSqlite,
            sides,
        )?);
    }
    let plan = PublisherPlan {
        count: 100,
        outstanding: 1,
        interval: Duration::ZERO,
    };
    let sides = [sqlite, HistoryStore::SqliteFull];
    rows.extend(acknowledged_rows(
        bench,
        plan,
        Columns::NormalAndFull,
        sides,
    )?);
    Ok(rows)
}

fn acknowledged_rows(
    bench: &Bench,
    plan: PublisherPlan,
    columns: Columns,
    sides: [HistoryStore; 2],
) -> io::Result<Vec<Row>> {
    let title = format!("H  {} × {} outstanding", plan.count, plan.outstanding);
    let comparison = Comparison {
        figures: Figure::all(&title, &ACK_FIGURES),
        title,
        columns,
        sides,
    };
    comparison.rows(bench, |bench, history| bench.acknowledged(history, plan))
}

fn catch_up_rows(
    bench: &Bench,
    history: HistoryStore,
    returning: ReturningClients,
) -> io::Result<Vec<Row>> {
    let title = format!("I  {history:?}, {returning:?}");
    let mut p99 = Figure::titled(&title, LIVE_P99);
    if returning == ReturningClients::OneASecond {
        p99 = p99.with_target(RETURNING);
    }
    let comparison = Comparison {
        figures: vec![
            Figure::titled(&title, LIVE_P50),
            p99,
            Figure::titled(&title, CATCH_UP_TIME),
            Figure::titled(&title, CAUGHT_UP),
        ],
        title,
        columns: Columns::WithoutAndWithReturning,
        sides: [ReturningClients::None, returning],
    };
    comparison.rows(bench, |bench, returning| bench.catch_up(history, returning))
}
