//! Measures what a delivery, an idle connection and a handshake cost, beside a minimal server in the same run.
//!
//! `cargo bench --bench fanout -- --quick` gives rough figures in seconds. Without `--quick` the figures are good
//! enough to quote.
//!
//! | case | load | figure |
//! |---|---|---|
//! | A | 1 000 clients, 100-byte messages, 50 a second | server CPU per delivery |
//! | B | the same clients, 4 messages outstanding | server CPU per delivery, deliveries per second |
//! | C | the same clients, 64 messages outstanding | the same |
//! | D | 5 000 idle connections | RSS and all memory that a container is charged per connection, connections per GB |
//! | E | 5 000 handshakes, 32 at a time, until the welcome | server CPU per handshake |
//! | K | 64 clients at a time connect, read the welcome, close and connect again | server CPU per connection, connections per second; without TLS, with it, and with resumed sessions |
//! | L | load A; load B with up to 100 publishers in turn; 100 publishers at 80 messages a second each | CPU per delivery and per publish, without rate limits and with the default ones |
//! | T | A, B, D and E over TLS | the same, without TLS and with it |
//! | F | 1 800 clients, 100 messages a second, without and with 200 clients that never read | latency, CPU per delivery, peak RSS |
//! | G | as A and as B | server CPU per delivery, history in memory and in SQLite |
//! | H | 1 publisher, with 1 or 32 outstanding; 100 publishers | acknowledged publishes, in memory and in SQLite, and with a sync per batch |
//! | I | 200 clients, 50 messages a second, while one client a second, then ten at once, resume from 100 000 missed messages | latency of the 200 |
//! | R | 1 000 rooms of three clients, one of which publishes; 1 000 messages a second, and 64 outstanding | server CPU per message, messages per second |
//! | M | one message, then load B, to 5 000 and 10 000 members | time from the first to the last delivery, CPU per delivery, deliveries per second, with one core and with two for the server |
//! | N | 3 000 clients on three nodes with one Redis: as A, as B, and in 1 000 rooms; one client per node; publishes as H | CPU of the nodes and of Redis per delivery, message and publish |
//! | S | 3 000 clients on three nodes in 1 000 rooms, with a Redis Cluster of one master and of three: 1000 messages a second, and 64 outstanding | messages and deliveries per second, CPU of the busiest master and of all per message |
//! | W | A and B, by this load generator and by `wscast bench` | deliveries per second, which must agree |
//!
//! The floor is a minimal server for the same job, without batching (see `floor`). It is this binary, started again
//! with a hidden flag. Absolute figures from a shared machine mean little, so cases A to E and R show the floor's figure
//! from the same minute, and most targets are ratios. The other cases compare two setups of wscast. With `--against`,
//! every case compares two wscast binaries instead.
//!
//! Each measurement starts a fresh server on a core of its own. The load generator is one thread on another core. In
//! cases N and S, all nodes and redis-servers, which must be installed, are on the one server core: rates are of all of them
//! together, and CPU time is counted per process.
//!
//! A run is invalid (exit code 1) when a client misses, repeats or reorders a message, or when a server exits. Case F
//! is also invalid when the evicted clients are not exactly the stalled ones, or when memory exceeds what the settings
//! allow. A missed target is only reported, because a busy machine can cause it.

mod args;
mod bench_command;
mod blocking_client;
mod catch_up;
mod charge;
mod client;
mod client_group;
mod client_socket;
mod comparison;
mod connecting;
mod cpu;
mod fanout_report;
mod floor;
mod frames;
mod latency;
mod load;
mod machine;
mod many_members;
mod measurements;
mod nodes;
mod nodes_report;
mod peers;
mod rate_limits;
mod redis_cluster;
mod redis_server;
mod report;
mod servers;
mod small_rooms;
mod stalled;
mod stats;
mod storage;
mod storage_report;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::{Case, ChildRole, Options};
use load::Load;
use machine::Machine;
use measurements::Bench;
use report::Report;

fn main() -> ExitCode {
    if let Some(arguments) = peers::arguments() {
        return exit_code(peers::run(arguments));
    }
    let options = Options::parse();
    let outcome = match options.child {
        Some(ChildRole::FloorRelay) => floor::relay(),
        Some(ChildRole::FloorIdle) => floor::idle(),
        Some(ChildRole::FloorHub) => peers::floor_hub(&options.guarded_command),
        Some(ChildRole::Guard) => servers::become_guarded(&options.guarded_command),
        None => run(options),
    };
    exit_code(outcome)
}

fn exit_code(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("invalid run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    let machine = Machine::prepare(options.sockets_max())?;
    let mut report = Report::new(&machine, &options);
    let bench = Bench::new(options, machine)?;
    let includes = |case| bench.options.includes(case);

    for (case, load) in [
        (Case::A, Load::PerSecond(50)),
        (Case::B, Load::Outstanding(4)),
        (Case::C, Load::Outstanding(64)),
    ] {
        if includes(case) {
            report.extend(fanout_report::fanout_rows(&bench, case, load)?);
        }
    }
    if includes(Case::D) || includes(Case::E) {
        report.extend(fanout_report::connection_rows(&bench)?);
    }
    if includes(Case::F) {
        report.extend(stalled::rows(&bench)?);
    }
    if includes(Case::R) {
        report.extend(small_rooms::rows(&bench)?);
    }
    report.extend(storage_report::rows(&bench)?);
    if includes(Case::K) {
        report.extend(connecting::rows(&bench)?);
    }
    if includes(Case::L) {
        report.extend(rate_limits::rows(&bench)?);
    }
    if includes(Case::M) {
        report.extend(many_members::rows(&bench)?);
    }
    if includes(Case::N) {
        report.extend(nodes_report::rows(&bench)?);
    }
    if includes(Case::S) {
        report.extend(nodes_report::master_rows(&bench)?);
    }
    if includes(Case::T) {
        report.extend(fanout_report::tls_rows(&bench)?);
    }
    if includes(Case::W) {
        report.extend(bench_command::rows(&bench)?);
    }

    print!("{}", report.table());
    match &bench.options.json {
        Some(path) => std::fs::write(path, report.json()),
        None => Ok(()),
    }
}
