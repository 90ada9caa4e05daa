//! Case F: the cost of clients that stop reading for the clients that continue.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use crate::args::StallPlan;
use crate::client_group::{ClientGroup, ServerProtocol};
use crate::comparison::{Comparison, Definition, Figure};
use crate::cpu::CpuTime;
use crate::latency::percentile_ms;
use crate::load::{DUPLICATE_GRACE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load};
use crate::measurements::Bench;
use crate::report::{Columns, Row};
use crate::servers::Server;
use crate::stats::Stats;

const LOAD: Load = Load::PerSecond(100);

/// The longest wait until all evicted clients are gone. Each has a second to read its Close frame.
const SETTLE_DEADLINE: Duration = Duration::from_secs(5);
const SETTLE_STEP: Duration = Duration::from_millis(250);

/// Memory that a server may need in addition to full outboxes: history, its two channels, a drain thread for each
/// lagging client, and free memory that the allocator keeps.
const RSS_MARGIN_KIB: u64 = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientMix {
    HealthyOnly,
    WithStalled,
}

#[derive(Clone, Copy, Debug)]
struct StalledFigures {
    latency_p50_ms: f64,
    latency_p99_ms: f64,
    cpu_us_per_delivery: f64,
    peak_rss_mib: f64,
    evicted: f64,
    generator_busy_percent: f64,
}

const FIGURES: [Definition<StalledFigures>; 6] = [
    ("latency p50", "ms", |stalled| stalled.latency_p50_ms),
    ("latency p99", "ms", |stalled| stalled.latency_p99_ms),
    ("CPU per delivery", "µs", |stalled| {
        stalled.cpu_us_per_delivery
    }),
    ("peak RSS", "MiB", |stalled| stalled.peak_rss_mib),
    ("evicted", "", |stalled| stalled.evicted),
    ("load generator busy", "%", |stalled| {
        stalled.generator_busy_percent
    }),
];

/// Measures the same healthy clients, first alone and then together with stalled clients.
pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let comparison = Comparison {
        title: "F  stalled".to_owned(),
        columns: Columns::WithoutAndWithStalled,
        sides: [ClientMix::HealthyOnly, ClientMix::WithStalled],
        figures: Figure::all("F  stalled", &FIGURES),
    };
    comparison.rows(bench, Bench::stalled_clients)
}

impl Bench {
    fn stalled_clients(&self, mix: ClientMix) -> io::Result<StalledFigures> {
        let plan = self.options.stall_plan();
        let mut server = self.start_wscast(&server_arguments(&plan))?;
        let protocol = ServerProtocol::WebSocket;
        let mut clients = ClientGroup::connect(server.address, plan.healthy, protocol)?;
        let mut publisher = Publisher::stamped(&clients, 1, plan.payload_bytes)?;
        let warm_up = Until::Published(WARM_UP_MESSAGES);
        run_load(&mut clients, &mut publisher, Load::Outstanding(1), warm_up)?;
        let stalled = match mix {
            ClientMix::HealthyOnly => 0,
            ClientMix::WithStalled => plan.stalled,
        };
        // These connections stay open and are never polled again.
        let _stalled = ClientGroup::connect_with_small_buffer(server.address, stalled, protocol)?;

        let rss_before = server.rss_kib()?;
        let mut figures = measure(&server, &mut clients, &mut publisher, &plan)?;
        let stats = wait_until_settled(&server, &mut clients, &plan, stalled)?;
        let peak = server.peak_rss_kib()?;
        server.check_alive()?;
        clients.check_counts(publisher.published)?;
        check_memory(peak, rss_before, &plan, stalled)?;
        figures.peak_rss_mib = peak as f64 / 1024.0;
        figures.evicted = stats.evicted as f64;
        Ok(figures)
    }
}

fn server_arguments(plan: &StallPlan) -> [String; 2] {
    [
        format!("--outbox-bytes={}", plan.outbox_bytes),
        format!("--slow-timeout={}", plan.slow_timeout.as_secs_f64()),
    ]
}

/// Runs the load. Memory and evictions are measured later, when the server has settled.
fn measure(
    server: &Server,
    clients: &mut ClientGroup,
    publisher: &mut Publisher,
    plan: &StallPlan,
) -> io::Result<StalledFigures> {
    let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
    let start = Instant::now();
    run_load(clients, publisher, LOAD, Until::Time(start + plan.duration))?;
    let elapsed = start.elapsed();
    let busy = CpuTime::of(process::id())?.since(&busy_before);
    let cpu = server.cpu()?.since(&cpu_before);

    let mut latencies = clients.latencies();
    latencies.sort_unstable();
    Ok(StalledFigures {
        latency_p50_ms: percentile_ms(&latencies, 50),
        latency_p99_ms: percentile_ms(&latencies, 99),
        // Only deliveries to healthy clients count, so the ratio shows the cost of the stalled ones.
        cpu_us_per_delivery: cpu.as_secs_f64() * 1e6 / clients.received() as f64,
        peak_rss_mib: f64::NAN,
        evicted: f64::NAN,
        generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64(),
    })
}

/// Waits until the server has evicted the stalled clients, and no others.
fn wait_until_settled(
    server: &Server,
    clients: &mut ClientGroup,
    plan: &StallPlan,
    stalled: usize,
) -> io::Result<Stats> {
    let expected = Stats {
        clients: plan.healthy as u64,
        lagging: 0,
        evicted: stalled as u64,
    };
    let deadline = Instant::now() + SETTLE_DEADLINE;
    clients.read_for(DUPLICATE_GRACE)?;
    loop {
        let stats = Stats::fetch(server.address)?;
        if stats == expected {
            return Ok(stats);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!(
                "the server settled at {stats:?} instead of {expected:?}"
            )));
        }
        clients.read_for(SETTLE_STEP)?;
    }
}

fn check_memory(peak: u64, before: u64, plan: &StallPlan, stalled: usize) -> io::Result<()> {
    let outboxes_kib = (stalled * plan.outbox_bytes / 1024) as u64;
    let max = before + outboxes_kib + RSS_MARGIN_KIB;
    if peak > max {
        return Err(io::Error::other(format!(
            "the server's RSS reached {peak} KiB; its settings allow {max} KiB"
        )));
    }
    eprintln!("   peak RSS {peak} KiB, before the load {before} KiB, allowed {max} KiB");
    Ok(())
}
