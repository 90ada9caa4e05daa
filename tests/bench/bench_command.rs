//! Case W: the same work measured by this load generator and by `wscast bench`, which must agree.

use std::io;
use std::process::Command;

use serde_json::Value;

use crate::comparison::{Comparison, Figure};
use crate::fanout_report::{CPU_PER_DELIVERY, DELIVERIES};
use crate::load::Load;
use crate::measurements::{Bench, FanoutFigures};
use crate::report::{Columns, Row, Target};
use crate::servers::{Server, ServerKind};

#[derive(Clone, Copy, Debug)]
enum Generator {
    Own,
    BenchCommand,
}

/// The figures of both must be within a tenth of each other.
const AGREEMENT: Target = Target::RatioWithin(0.1);

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [Load::PerSecond(50), Load::Outstanding(4)] {
        let title = format!("W  {load}");
        let comparison = Comparison {
            columns: Columns::OwnAndBenchCommand,
            sides: [Generator::Own, Generator::BenchCommand],
            figures: vec![
                Figure::titled(&title, DELIVERIES).with_target(AGREEMENT),
                Figure::titled(&title, CPU_PER_DELIVERY),
            ],
            title,
        };
        rows.extend(comparison.rows(bench, |bench, generator| {
            let server = bench.start(ServerKind::Wscast)?;
            match generator {
                Generator::Own => bench.fanout_of(server, load),
                Generator::BenchCommand => bench.fanout_by_command(server, load),
            }
        })?);
    }
    Ok(rows)
}

impl Bench {
    /// Measures the fan-out with `wscast bench`, on the core of this process.
    fn fanout_by_command(&self, server: Server, load: Load) -> io::Result<FanoutFigures> {
        let url = format!("ws://{}", server.address);
        let (pacing, number) = match load {
            Load::PerSecond(rate) => ("--rate", u64::from(rate)),
            Load::Outstanding(count) => ("--outstanding", count),
        };
        let mut command = Command::new(&self.options.server);
        command.args(["bench", "--json", &url, pacing, &number.to_string()]);
        command.args(["--clients", &self.options.clients().to_string()]);
        command.args(["--duration", &self.options.seconds().to_string()]);
        let cpu_before = server.cpu()?;
        let output = command.output()?;
        let cpu = server.cpu()?.since(&cpu_before);
        let failed = || io::Error::other(format!("{command:?}: {output:?}"));
        let figures: Value = serde_json::from_slice(&output.stdout).map_err(|_| failed())?;
        let number = |name: &str| figures[name].as_f64().ok_or_else(failed);
        if !output.status.success() {
            return Err(failed());
        }
        Ok(FanoutFigures {
            // Includes the handshakes and the warm-up, which cost little beside the deliveries.
            cpu_us_per_delivery: cpu.as_secs_f64() * 1e6 / number("deliveries")?,
            deliveries_per_ms: number("deliveries_per_second")? / 1e3,
            generator_busy_percent: number("generator_percent")?,
        })
    }
}
