//! The flags of the benchmark.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The cases that `--only` can pick; what each measures stands at the top of `fanout.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    #[value(name = "A")]
    A,
    #[value(name = "B")]
    B,
    #[value(name = "C")]
    C,
    #[value(name = "D")]
    D,
    #[value(name = "E")]
    E,
}

/// What this binary does when it runs as its own child.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FloorMode {
    Relay,
    Idle,
}

/// What a delivery, an idle connection and a handshake cost, beside a floor.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Clients of cases A to C [default: 1000, quick: 200]
    #[arg(long)]
    clients: Option<usize>,
    /// Seconds each measurement of A to C lasts [default: 4, quick: 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// How often each pair is measured [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Connections of cases D and E [default: 5000, quick: 500]
    #[arg(long)]
    idle: Option<usize>,
    /// Smaller defaults: a look in a few seconds, not figures to quote
    #[arg(long)]
    quick: bool,
    /// Cases to run, such as A,C [default: all]
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    only: Vec<Case>,
    /// The server to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_wscast"))]
    pub(crate) server: PathBuf,
    /// Passed on to the server, to compare settings; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) server_arg: Vec<String>,
    /// Also write every single figure to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(crate) floor: Option<FloorMode>,
    /// `cargo bench` adds this one.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn read() -> Options {
        Options::parse()
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients
            .unwrap_or(if self.quick { 200 } else { 1000 })
            .max(1)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
            .unwrap_or(if self.quick { 1.0 } else { 4.0 })
            .clamp(0.1, 600.0)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds
            .unwrap_or(if self.quick { 1 } else { 5 })
            .clamp(1, 1000)
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle
            .unwrap_or(if self.quick { 500 } else { 5000 })
            .max(1)
    }

    pub(crate) fn wants(&self, case: Case) -> bool {
        self.only.is_empty() || self.only.contains(&case)
    }
}
