//! The flags of the benchmark.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The cases that `--only` selects. The table at the top of `fanout.rs` says what each one measures.
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
    #[value(name = "K")]
    K,
    #[value(name = "L")]
    L,
    #[value(name = "M")]
    M,
    #[value(name = "N")]
    N,
    #[value(name = "R")]
    R,
    #[value(name = "S")]
    S,
    #[value(name = "T")]
    T,
    #[value(name = "W")]
    W,
}

/// The job of this binary when it runs as a child process of itself.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ChildRole {
    FloorRelay,
    FloorIdle,
    /// The floor of `make bench-peers`. The port follows `--`.
    FloorHub,
    /// Replaces itself with a server that is killed when the benchmark ends.
    Guard,
}

/// The settings of case F.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallPlan {
    /// Clients that read. Their number is the same with and without stalled clients.
    pub(crate) healthy: usize,
    pub(crate) stalled: usize,
    pub(crate) duration: Duration,
    pub(crate) payload_bytes: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) slow_timeout: Duration,
}

/// The number of nodes that case N compares with a single one, and that case S has.
pub(crate) const NODES: usize = 3;

/// The clients of each room in case R.
pub(crate) const SMALL_ROOM_CLIENTS: usize = 3;

/// In case F, one client of this many stalls.
const STALLED_EVERY: usize = 10;

/// From the size of a stamp to the largest payload that `--max-message-bytes` allows.
const STALLED_PAYLOAD_BYTES: std::ops::RangeInclusive<usize> = 64..=60_000;

/// Measures what a delivery, an idle connection and a handshake cost.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Clients in cases A to C, L, T and W [default: 1000, quick: 200]
    #[arg(long)]
    clients: Option<usize>,
    /// Seconds per measurement in cases A to C, G, H, K, L, N, R, S, T and W [default: 4, quick: 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// Rounds: how often each pair of figures is measured [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Connections in cases D, E and T [default: 5000, quick: 500]
    #[arg(long)]
    idle: Option<usize>,
    /// Clients in case F, of which one in ten stalls [default: 2000, quick: 200]
    #[arg(long)]
    stalled_clients: Option<usize>,
    /// Seconds per measurement in case F [default: 20, quick: 6]
    #[arg(long)]
    stalled_seconds: Option<f64>,
    /// Payload bytes in case F; about 1.7 MB fill a stalled client's sockets, the rest its outbox
    /// [default: 2000, quick: 8000]
    #[arg(long)]
    stalled_payload: Option<usize>,
    /// The server's --outbox-bytes in case F, as a number [default: 1 MiB, quick: 256 KiB]
    #[arg(long)]
    outbox_bytes: Option<usize>,
    /// The server's --slow-timeout in case F, in seconds [default: 10, quick: 2]
    #[arg(long)]
    slow_timeout: Option<f64>,
    /// Messages that a client of case I has missed [default: 100000, quick: 10000]
    #[arg(long)]
    missed: Option<u64>,
    /// Members of the room in case M [default: 5000,10000, quick: 1000]
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    members: Vec<usize>,
    /// Clients in cases N and S, a third of them on each node [default: 3000, quick: 300]
    #[arg(long)]
    node_clients: Option<usize>,
    /// Rooms in case R, of three clients each [default: 1000, quick: 100]
    #[arg(long)]
    rooms: Option<usize>,
    /// Use smaller defaults: takes seconds, but the figures are too rough to quote
    #[arg(long)]
    quick: bool,
    /// Cases to run, such as A,C [default: all]
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    only: Vec<Case>,
    /// The server to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_wscast"))]
    pub(crate) server: PathBuf,
    /// Compare --server with this older server: both are measured in each round, and the ratio is new/old
    #[arg(long, value_name = "OLD_SERVER")]
    pub(crate) against: Option<PathBuf>,
    /// A flag to pass on to the servers; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) server_arg: Vec<String>,
    /// Also write all figures of all rounds to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(crate) child: Option<ChildRole>,
    /// The command that [`ChildRole::Guard`] replaces itself with.
    #[arg(last = true, hide = true)]
    pub(crate) guarded_command: Vec<OsString>,
    /// `cargo bench` adds this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn clients(&self) -> usize {
        self.clients.unwrap_or(self.pick(200, 1000)).max(1)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
            .unwrap_or(self.pick(1.0, 4.0))
            .clamp(0.1, 600.0)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(self.pick(1, 5)).clamp(1, 1000)
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.unwrap_or(self.pick(500, 5000)).max(1)
    }

    pub(crate) fn stall_plan(&self) -> StallPlan {
        let clients = self.stalled_clients.unwrap_or(self.pick(200, 2000));
        let clients = clients.max(STALLED_EVERY);
        let seconds = self.stalled_seconds.unwrap_or(self.pick(6.0, 20.0));
        let timeout = self.slow_timeout.unwrap_or(self.pick(2.0, 10.0));
        let payload = self.stalled_payload.unwrap_or(self.pick(8000, 2000));
        let outbox = self.outbox_bytes.unwrap_or(self.pick(256 << 10, 1 << 20));
        StallPlan {
            healthy: clients - clients / STALLED_EVERY,
            stalled: clients / STALLED_EVERY,
            duration: Duration::from_secs_f64(seconds.clamp(0.1, 600.0)),
            payload_bytes: payload
                .clamp(*STALLED_PAYLOAD_BYTES.start(), *STALLED_PAYLOAD_BYTES.end()),
            outbox_bytes: outbox,
            slow_timeout: Duration::from_secs_f64(timeout.clamp(0.001, 600.0)),
        }
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed.unwrap_or(self.pick(10_000, 100_000)).max(1)
    }

    /// Returns the numbers of members that case M measures.
    pub(crate) fn members(&self) -> Vec<usize> {
        if !self.members.is_empty() {
            return self.members.clone();
        }
        self.pick(vec![1000], vec![5000, 10_000])
    }

    /// Returns the clients of cases N and S: the same number on each node.
    pub(crate) fn node_clients(&self) -> usize {
        self.node_rooms() * NODES
    }

    /// Returns the rooms of cases N and S where they have many. Each has one client per node.
    pub(crate) fn node_rooms(&self) -> usize {
        let clients = self.node_clients.unwrap_or(self.pick(300, 3000));
        (clients / NODES).max(2)
    }

    /// Returns the rooms of case R.
    pub(crate) fn small_rooms(&self) -> usize {
        self.rooms.unwrap_or(self.pick(100, 1000)).max(1)
    }

    /// Returns the largest number of sockets that a case opens.
    pub(crate) fn sockets_max(&self) -> usize {
        let plan = self.stall_plan();
        let stall_case = plan.healthy + plan.stalled;
        // The publisher of each room has a second handle to its socket.
        let nodes_case = self.node_clients() + self.node_rooms();
        let rooms_case = self.small_rooms() * (SMALL_ROOM_CLIENTS + 1);
        let members_case = self.members().into_iter().fold(0, usize::max);
        [
            self.clients(),
            self.idle(),
            stall_case,
            nodes_case,
            rooms_case,
            members_case,
        ]
        .into_iter()
        .fold(0, usize::max)
    }

    /// Returns whether `--only` names this case.
    pub(crate) fn is_named(&self, case: Case) -> bool {
        self.only.contains(&case)
    }

    pub(crate) fn includes(&self, case: Case) -> bool {
        self.only.is_empty() || self.is_named(case)
    }

    fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}
