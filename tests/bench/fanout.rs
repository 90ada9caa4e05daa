//! What a delivery, an idle connection and a handshake cost, beside a floor measured in the same run.
//!
//! `cargo bench --bench fanout -- --quick` for a look, without `--quick` for figures to quote.
//!
//! | case | load | figure |
//! |---|---|---|
//! | A | 1 000 clients, 100-byte messages, 50 a second | server CPU per delivery |
//! | B | the same clients, 4 messages outstanding | server CPU per delivery, deliveries per second |
//! | C | the same clients, 64 messages outstanding | the same |
//! | D | 5 000 idle connections | RSS per connection |
//! | E | 5 000 handshakes, 32 at a time, until the welcome | server CPU per handshake |
//! | L | as A, as B by turns of up to 100 publishers, and 100 publishers at 80 a second each | CPU per delivery and per publish, with the default bounds of rates and without |
//! | T | A, B, D and E over TLS | the same, beside plain wscast |
//! | F | 1 800 clients, 100 messages a second, without and with 200 that never read | latency, CPU per delivery, peak RSS |
//! | G | as A and as B | server CPU per delivery, history in memory and in SQLite |
//! | H | 1 publisher, 32 outstanding or 1; 100 publishers | acknowledged publishes, in memory and in SQLite, and synced |
//! | I | 200 clients, 50 messages a second, while one client a second, then ten at once, come back to 100 000 missed messages | latency of the 200 |
//! | N | 3 000 clients on three nodes with one Redis: as A, as B, and in 1 000 rooms; one client a node; publishes as H | CPU of nodes and of Redis per delivery, message and publish |
//!
//! The floor is this same binary, run again with a hidden argument (see `floor`): the least a server
//! could do for the job without batching. Absolute figures of a shared machine mean little, so every
//! figure of wscast stands beside the floor's of the same minute, and targets are ratios where they can be.
//! Cases F to I, L, N and T need no floor: wscast stands beside itself.
//!
//! Each measurement starts a fresh server on a core of its own; the load generator is one thread on
//! another. In N all nodes and a redis-server, which must be installed, are on that one core: rates are
//! then of all of them together, and CPU is counted by process. A run is invalid (exit code 1) when a client
//! misses, repeats or reorders a message or a server ends, and in F also when anyone but the stalled, or not
//! all of them, are evicted, or memory exceeds what the settings allow; a missed target is only reported,
//! because a noisy neighbour can cause it.

mod args;
mod catch_up;
mod children;
mod client;
mod cpu;
mod fleet;
mod floor;
mod frames;
mod latency;
mod limits;
mod link;
mod machine;
mod nodes;
mod nodes_report;
mod redis_server;
mod report;
mod scenarios;
mod stalled;
mod stats;
mod storage;
mod storage_report;
mod talk;

use std::io;
use std::process::ExitCode;

use args::{Case, FloorMode, Options};
use children::Kind;
use machine::Machine;
use report::{Report, Row, Sides, Target};
use scenarios::{Bench, Load};
use stalled::{Crowd, Stall};

fn main() -> ExitCode {
    let options = Options::read();
    let outcome = match options.floor {
        Some(FloorMode::Relay) => floor::relay(),
        Some(FloorMode::Idle) => floor::idle(),
        Some(FloorMode::Guard) => children::guard(&options.guarded),
        None => run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("invalid run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    let machine = Machine::prepare(&options)?;
    let mut report = Report::new(&machine, &options);
    let bench = Bench::new(options, machine)?;

    for (case, load) in [
        (Case::A, Load::PerSecond(50)),
        (Case::B, Load::Outstanding(4)),
        (Case::C, Load::Outstanding(64)),
    ] {
        if bench.options.wants(case) {
            report.extend(fanout_rows(&bench, case, load)?);
        }
    }
    if bench.options.wants(Case::D) || bench.options.wants(Case::E) {
        report.extend(arrival_rows(&bench)?);
    }
    if bench.options.wants(Case::F) {
        report.extend(stall_rows(&bench)?);
    }

    report.extend(storage_report::rows(&bench)?);
    if bench.options.wants(Case::L) {
        report.extend(limits::rows(&bench)?);
    }
    if bench.options.wants(Case::N) {
        report.extend(nodes_report::rows(&bench)?);
    }
    if bench.options.wants(Case::T) {
        report.extend(tls_rows(&bench)?);
    }

    print!("{}", report.table());
    match &bench.options.json {
        Some(path) => std::fs::write(path, report.json()),
        None => Ok(()),
    }
}

/// Cases A to C: floor and wscast in turn, so that both figures of a pair saw the same machine.
fn fanout_rows(bench: &Bench, case: Case, load: Load) -> io::Result<Vec<Row>> {
    let mut cpu = Row::new(
        format!("{case:?}  {load}: CPU per delivery"),
        "µs",
        Sides::FloorAndWscast,
    );
    let mut rate = Row::new(
        format!("{case:?}  {load}: deliveries per second"),
        "k/s",
        Sides::FloorAndWscast,
    );
    let mut busy = Row::new(
        format!("{case:?}  {load}: load generator busy"),
        "%",
        Sides::FloorAndWscast,
    );
    cpu.target = Some(Target::Ratio(match case {
        Case::A => 1.20,
        Case::B => 0.30,
        _ => 0.05,
    }));
    for round in 1..=bench.options.rounds() {
        let [floor, wscast] = [Kind::FloorRelay, Kind::Wscast].map(|kind| {
            eprintln!("{case:?}, round {round}: {kind:?}");
            bench.fanout(kind, load)
        });
        let (floor, wscast) = (floor?, wscast?);
        cpu.pair(floor.cpu_us_per_delivery, wscast.cpu_us_per_delivery);
        rate.pair(floor.deliveries_per_ms, wscast.deliveries_per_ms);
        busy.pair(floor.generator_busy_percent, wscast.generator_busy_percent);
    }
    Ok(match load {
        Load::PerSecond(_) => vec![cpu, busy],
        Load::Outstanding(_) => vec![cpu, rate, busy],
    })
}

/// Cases D and E: the connections that arrived for E are the idle ones of D.
fn arrival_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rss = Row::new(
        "D  idle: RSS per connection".to_owned(),
        "KiB",
        Sides::FloorAndWscast,
    );
    let mut cpu = Row::new(
        "E  handshake: CPU per connection".to_owned(),
        "µs",
        Sides::FloorAndWscast,
    );
    rss.target = Some(Target::Value(16.0));
    cpu.target = Some(Target::Value(80.0));
    for round in 1..=bench.options.rounds() {
        let [floor, wscast] = [Kind::FloorIdle, Kind::Wscast].map(|kind| {
            eprintln!("D and E, round {round}: {kind:?}");
            bench.arrivals(kind)
        });
        let (floor, wscast) = (floor?, wscast?);
        rss.pair(floor.rss_kib_per_connection, wscast.rss_kib_per_connection);
        cpu.pair(floor.cpu_us_per_handshake, wscast.cpu_us_per_handshake);
    }
    let wanted = [(Case::D, rss), (Case::E, cpu)].into_iter();
    Ok(wanted
        .filter(|(case, _)| bench.options.wants(*case))
        .map(|(_, row)| row)
        .collect())
}

/// Case T: the same server, without a certificate and with one.
fn tls_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let row = |what: &str, unit| Row::new(format!("T  {what}"), unit, Sides::PlainAndTls);
    let loads = [Load::PerSecond(50), Load::Outstanding(4)];
    let mut rows = Vec::new();
    for load in loads {
        let mut cpu = row(&format!("{load}: CPU per delivery"), "µs");
        let mut rate = row(&format!("{load}: deliveries per second"), "k/s");
        let mut busy = row(&format!("{load}: load generator busy"), "%");
        for round in 1..=bench.options.rounds() {
            let [plain, tls] = [Kind::Wscast, Kind::WscastTls].map(|kind| {
                eprintln!("T, round {round}: {kind:?}");
                bench.fanout(kind, load)
            });
            let (plain, tls) = (plain?, tls?);
            cpu.pair(plain.cpu_us_per_delivery, tls.cpu_us_per_delivery);
            rate.pair(plain.deliveries_per_ms, tls.deliveries_per_ms);
            busy.pair(plain.generator_busy_percent, tls.generator_busy_percent);
        }
        rows.extend([cpu, rate, busy]);
    }
    let mut rss = row("idle: RSS per connection", "KiB");
    let mut cpu = row("handshakes: CPU per connection", "µs");
    for round in 1..=bench.options.rounds() {
        let [plain, tls] = [Kind::Wscast, Kind::WscastTls].map(|kind| {
            eprintln!("T, round {round}: {kind:?}, idle");
            bench.arrivals(kind)
        });
        let (plain, tls) = (plain?, tls?);
        rss.pair(plain.rss_kib_per_connection, tls.rss_kib_per_connection);
        cpu.pair(plain.cpu_us_per_handshake, tls.cpu_us_per_handshake);
    }
    rows.extend([rss, cpu]);
    Ok(rows)
}

/// Case F: the same healthy clients, first alone, then among those that stall.
fn stall_rows(bench: &Bench) -> io::Result<Vec<Row>> {
    type Figure = fn(&Stall) -> f64;
    let figures: [(&str, &'static str, Figure); 6] = [
        ("latency p50", "ms", |stall| stall.latency_p50_ms),
        ("latency p99", "ms", |stall| stall.latency_p99_ms),
        ("CPU per delivery", "µs", |stall| stall.cpu_us_per_delivery),
        ("peak RSS", "MiB", |stall| stall.peak_rss_mib),
        ("evicted", "", |stall| stall.evicted),
        ("load generator busy", "%", |stall| {
            stall.generator_busy_percent
        }),
    ];
    let mut rows = figures.map(|(what, unit, _)| {
        Row::new(
            format!("F  stalled: {what}"),
            unit,
            Sides::WithoutAndWithStalled,
        )
    });
    for round in 1..=bench.options.rounds() {
        let [without, with] = [Crowd::Healthy, Crowd::WithStalled].map(|crowd| {
            eprintln!("F, round {round}: {crowd:?}");
            bench.stall(crowd)
        });
        let (without, with) = (without?, with?);
        for (row, (_, _, figure)) in rows.iter_mut().zip(figures) {
            row.pair(figure(&without), figure(&with));
        }
    }
    Ok(rows.into())
}
