//! The flags of the benchmark.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

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
    #[value(name = "F")]
    F,
    #[value(name = "G")]
    G,
    #[value(name = "H")]
    H,
    #[value(name = "I")]
    I,
    #[value(name = "L")]
    L,
    #[value(name = "N")]
    N,
    #[value(name = "T")]
    T,
}

/// What this binary does when it runs as its own child.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FloorMode {
    Relay,
    Idle,
    /// No floor, but a server that must not outlive the benchmark.
    Guard,
}

/// Case F, as the flags say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallPlan {
    /// Clients that read, the same number with and without the others.
    pub(crate) healthy: usize,
    pub(crate) stalled: usize,
    pub(crate) duration: Duration,
    pub(crate) payload_bytes: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) slow_timeout: Duration,
}

/// Nodes that case N compares with one; each room of its many has a client on each.
pub(crate) const NODES: usize = 3;

/// One client in this many stalls.
const STALLED_EVERY: usize = 10;

/// From what a stamp needs to what `--max-message-bytes` allows.
const STALLED_PAYLOAD_BYTES: std::ops::RangeInclusive<usize> = 64..=60_000;

/// What a delivery, an idle connection and a handshake cost, beside a floor.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Clients of cases A to C, L and T [default: 1000, quick: 200]
    #[arg(long)]
    clients: Option<usize>,
    /// Seconds each measurement of A to C, G, H, L, N and T lasts [default: 4, quick: 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// How often each pair is measured [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Connections of cases D and E, and T [default: 5000, quick: 500]
    #[arg(long)]
    idle: Option<usize>,
    /// Clients of case F, one in ten of which stalls [default: 2000, quick: 200]
    #[arg(long)]
    crowd: Option<usize>,
    /// Seconds each measurement of F lasts [default: 20, quick: 6]
    #[arg(long)]
    stalled_seconds: Option<f64>,
    /// Bytes of payload in F; a stalled client's sockets take 1.7 MB before its outbox has to
    /// [default: 2000, quick: 8000]
    #[arg(long)]
    stalled_payload: Option<usize>,
    /// The server's --outbox-bytes in F, as a number [default: 1 MiB, quick: 256 KiB]
    #[arg(long)]
    outbox_bytes: Option<usize>,
    /// The server's --slow-timeout in F [default: 10, quick: 2]
    #[arg(long)]
    slow_timeout: Option<f64>,
    /// Messages that a client of case I has missed [default: 100000, quick: 10000]
    #[arg(long)]
    missed: Option<u64>,
    /// Clients of case N, a third of them on each node [default: 3000, quick: 300]
    #[arg(long)]
    node_clients: Option<usize>,
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
    /// The command that [`FloorMode::Guard`] becomes.
    #[arg(last = true, hide = true)]
    pub(crate) guarded: Vec<OsString>,
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

    pub(crate) fn stall_plan(&self) -> StallPlan {
        let or = |quick, full| if self.quick { quick } else { full };
        let crowd = self.crowd.unwrap_or(or(200, 2000)).max(STALLED_EVERY);
        let seconds = self.stalled_seconds.unwrap_or(or(6, 20) as f64);
        let timeout = self.slow_timeout.unwrap_or(or(2, 10) as f64);
        let payload = self.stalled_payload.unwrap_or(or(8000, 2000));
        StallPlan {
            healthy: crowd - crowd / STALLED_EVERY,
            stalled: crowd / STALLED_EVERY,
            duration: Duration::from_secs_f64(seconds.clamp(0.1, 600.0)),
            payload_bytes: payload
                .clamp(*STALLED_PAYLOAD_BYTES.start(), *STALLED_PAYLOAD_BYTES.end()),
            outbox_bytes: self.outbox_bytes.unwrap_or(or(256 << 10, 1 << 20)),
            slow_timeout: Duration::from_secs_f64(timeout.clamp(0.001, 600.0)),
        }
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed
            .unwrap_or(if self.quick { 10_000 } else { 100_000 })
            .max(1)
    }

    /// As many on each node.
    pub(crate) fn node_clients(&self) -> usize {
        self.node_rooms() * NODES
    }

    /// Where case N has many rooms.
    pub(crate) fn node_rooms(&self) -> usize {
        let clients = self
            .node_clients
            .unwrap_or(if self.quick { 300 } else { 3000 });
        (clients / NODES).max(2)
    }

    /// The most sockets a case opens.
    pub(crate) fn sockets_max(&self) -> usize {
        let plan = self.stall_plan();
        let crowd = plan.healthy + plan.stalled;
        // A publisher of each room has a second handle.
        let spread = self.node_clients() + self.node_rooms();
        self.clients().max(self.idle()).max(crowd).max(spread)
    }

    /// Whether it was asked for by name.
    pub(crate) fn names(&self, case: Case) -> bool {
        self.only.contains(&case)
    }

    pub(crate) fn wants(&self, case: Case) -> bool {
        self.only.is_empty() || self.names(case)
    }
}
