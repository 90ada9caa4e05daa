//! The rows of cases A to E and T: the cost of a delivery, of an idle connection and of a handshake.

use std::io;

use crate::args::Case;
use crate::comparison::{Comparison, Definition, Figure};
use crate::load::Load;
use crate::measurements::{Bench, ConnectionFigures, FanoutFigures};
use crate::report::{Columns, Row, Target};
use crate::servers::ServerKind;

pub(crate) const CPU_PER_DELIVERY: Definition<FanoutFigures> =
    ("CPU per delivery", "µs", |fanout| {
        fanout.cpu_us_per_delivery
    });
pub(crate) const DELIVERIES: Definition<FanoutFigures> =
    ("deliveries per second", "k/s", |fanout| {
        fanout.deliveries_per_ms
    });
const GENERATOR_BUSY: Definition<FanoutFigures> = ("load generator busy", "%", |fanout| {
    fanout.generator_busy_percent
});

/// Runs cases A to C.
pub(crate) fn fanout_rows(bench: &Bench, case: Case, load: Load) -> io::Result<Vec<Row>> {
    let ratio_max = match case {
        Case::A => 1.20,
        Case::B => 0.30,
        _ => 0.05,
    };
    let title = format!("{case:?}  {load}");
    let target = Target::RatioMax(ratio_max);
    let mut figures = vec![Figure::titled(&title, CPU_PER_DELIVERY).with_target(target)];
    if let Load::Outstanding(_) = load {
        figures.push(Figure::titled(&title, DELIVERIES));
    }
    figures.push(Figure::titled(&title, GENERATOR_BUSY));
    let comparison = Comparison {
        title,
        columns: Columns::FloorAndWscast,
        sides: [ServerKind::FloorRelay, ServerKind::Wscast],
        figures,
    };
    comparison.rows(bench, |bench, kind| bench.fanout(kind, load))
}

/// Runs cases D and E: the connections that case E opens are the idle ones of case D.
pub(crate) fn connection_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let [rss, cpu] = connection_figures([
        "D  idle: RSS per connection",
        "E  handshake: CPU per connection",
    ]);
    let rss = rss.with_target(Target::ValueMax(16.0));
    let cpu = cpu.with_target(Target::ValueMax(80.0));
    let comparison = Comparison {
        title: "D and E".to_owned(),
        columns: Columns::FloorAndWscast,
        sides: [ServerKind::FloorIdle, ServerKind::Wscast],
        figures: [(Case::D, rss), (Case::E, cpu)]
            .into_iter()
            .filter(|(case, _)| bench.options.includes(*case))
            .map(|(_, figure)| figure)
            .collect(),
    };
    comparison.rows(bench, Bench::connections)
}

fn connection_figures([rss, cpu]: [&str; 2]) -> [Figure<ConnectionFigures>; 2] {
    [
        Figure::new(rss.to_owned(), "KiB", |idle| idle.rss_kib_per_connection),
        Figure::new(cpu.to_owned(), "µs", |idle| idle.cpu_us_per_handshake),
    ]
}

/// Runs case T: the same server, without a certificate and with one.
pub(crate) fn tls_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let sides = [ServerKind::Wscast, ServerKind::WscastTls];
    let columns = Columns::PlainAndTls;
    let mut rows = Vec::new();
    for load in [Load::PerSecond(50), Load::Outstanding(4)] {
        let title = format!("T  {load}");
        let figures = Figure::all(&title, &[CPU_PER_DELIVERY, DELIVERIES, GENERATOR_BUSY]);
        let comparison = Comparison {
            title,
            columns,
            sides,
            figures,
        };
        rows.extend(comparison.rows(bench, |bench, kind| bench.fanout(kind, load))?);
    }
    let labels = [
        "T  idle: RSS per connection",
        "T  handshakes: CPU per connection",
    ];
    let comparison = Comparison {
        title: "T  idle".to_owned(),
        columns,
        sides,
        figures: connection_figures(labels).into(),
    };
    rows.extend(comparison.rows(bench, Bench::connections)?);
    Ok(rows)
}
