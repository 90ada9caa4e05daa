//! The rows of cases A to E and T: the cost of a delivery, of an idle connection and of a handshake.

use std::io;

use crate::args::Case;
use crate::charge;
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
const CPU_PER_CONNECTION: Definition<ConnectionFigures> = ("CPU per connection", "µs", |idle| {
    idle.cpu_us_per_handshake
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
    let [rss, charged, per_gb] = idle_figures("D  idle");
    let rss = rss.with_target(Target::ValueMax(12.0));
    let cpu = Figure::titled("E  handshake", CPU_PER_CONNECTION);
    let cpu = cpu.with_target(Target::ValueMax(80.0));
    let comparison = Comparison {
        title: "D and E".to_owned(),
        columns: Columns::FloorAndWscast,
        sides: [ServerKind::FloorIdle, ServerKind::Wscast],
        figures: [
            (Case::D, rss),
            (Case::D, charged),
            (Case::D, per_gb),
            (Case::E, cpu),
        ]
        .into_iter()
        .filter(|(case, _)| bench.options.includes(*case))
        .map(|(_, figure)| figure)
        .collect(),
    };
    comparison.rows(bench, Bench::connections)
}

/// Returns the figures of the memory that idle connections take.
fn idle_figures(title: &str) -> [Figure<ConnectionFigures>; 3] {
    let charged = format!("{title}: charged per connection ({})", charge::source());
    [
        Figure::titled(
            title,
            ("RSS per connection", "KiB", |idle: &ConnectionFigures| {
                idle.rss_kib_per_connection
            }),
        ),
        Figure::new(charged, "KiB", |idle| idle.charged_kib_per_connection),
        Figure::new(format!("{title}: connections per GB"), "k", |idle| {
            1e9 / 1024.0 / idle.charged_kib_per_connection / 1e3
        }),
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
    let cpu = Figure::titled("T  handshakes", CPU_PER_CONNECTION);
    let comparison = Comparison {
        title: "T  idle".to_owned(),
        columns,
        sides,
        figures: idle_figures("T  idle").into_iter().chain([cpu]).collect(),
    };
    rows.extend(comparison.rows(bench, Bench::connections)?);
    Ok(rows)
}
