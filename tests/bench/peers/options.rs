//! The flags of `make bench-peers`.

use std::path::PathBuf;

use clap::Parser;

/// Measures wscast beside other servers: the same job, one server at a time, in turn
#[derive(Clone, Debug, Parser)]
#[command(name = "make bench-peers")]
pub(crate) struct PeerOptions {
    /// Scenarios to run, such as handshakes,rooms-rate [default: all; --list shows them]
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    pub(crate) only: Vec<String>,
    /// Servers to measure, such as floor,wscast,bun [default: all; --list shows them]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) peers: Vec<String>,
    /// Rounds: how often each server is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds per measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Use a tenth of the clients: takes seconds, but the figures are too rough to quote
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print the scenarios and servers, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Then write the chart and the tables of the page on performance, from all results so far
    #[arg(long)]
    page: bool,
    /// Measure nothing: only write what --page writes
    #[arg(long)]
    pub(crate) no_run: bool,
    /// The wscast to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_wscast"))]
    pub(crate) server: PathBuf,
    /// A flag to pass on to wscast; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) server_arg: Vec<String>,
    /// The file of the results. A run replaces the scenarios that it measures and keeps the others
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../peers/results.json"))]
    pub(crate) json: PathBuf,
    /// The servers that the set-up has installed: a line each, with name, version and command between tabs.
    #[arg(long, hide = true, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../peers/installed"))]
    pub(crate) installed: PathBuf,
    /// `cargo bench` adds this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

impl PeerOptions {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.clamp(1, 100)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.clamp(0.1, 600.0)
    }

    /// Returns the number of clients or rooms to use instead of this one.
    pub(crate) fn scaled(&self, count: usize) -> usize {
        if self.quick {
            count.div_ceil(10)
        } else {
            count
        }
    }
}
