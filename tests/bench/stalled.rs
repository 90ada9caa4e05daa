//! Case F: what clients that stopped reading cost those that did not.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use crate::args::StallPlan;
use crate::children::{Kind, Server};
use crate::cpu::CpuTime;
use crate::fleet::{Dialect, Fleet};
use crate::latency::percentile_ms;
use crate::scenarios::{
    Bench, DUPLICATE_GRACE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load,
};
use crate::stats::Stats;

const LOAD: Load = Load::PerSecond(100);

/// How long after the last message the evicted may still be on their way out: the second each has to
/// read its Close frame, and some.
const SETTLE_DEADLINE: Duration = Duration::from_secs(5);
const SETTLE_STEP: Duration = Duration::from_millis(250);

/// What a server may need beside full outboxes: history, its two channels, a drain thread for each
/// who lags, and what the allocator keeps.
const RSS_MARGIN_KIB: u64 = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    Healthy,
    WithStalled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) peak_rss_mib: f64,
    pub(crate) evicted: f64,
    pub(crate) generator_busy_percent: f64,
}

impl Bench {
    pub(crate) fn stall(&self, crowd: Crowd) -> io::Result<Stall> {
        let plan = self.options.stall_plan();
        let arguments = server_arguments(&plan);
        let mut server = Server::start(Kind::Wscast, &arguments, &self.options, &self.machine)?;
        let mut fleet = Fleet::connect(server.address, plan.healthy, Dialect::WebSocket)?;
        let mut publisher = Publisher::stamped(&fleet, plan.payload_bytes)?;
        let warm_up = Until::Published(WARM_UP_MESSAGES);
        run_load(&mut fleet, &mut publisher, Load::Outstanding(1), warm_up)?;
        let stalled = match crowd {
            Crowd::Healthy => 0,
            Crowd::WithStalled => plan.stalled,
        };
        // Open until the end, and never polled again.
        let _stalled = Fleet::connect_narrow(server.address, stalled)?;

        let rss_before = server.rss_kib()?;
        let mut figures = measure(&server, &mut fleet, &mut publisher, &plan)?;
        let stats = settle(&server, &mut fleet, &plan, stalled)?;
        let peak = server.peak_rss_kib()?;
        server.check_alive()?;
        fleet.check_counts(publisher.published)?;
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

/// The load itself. Memory and evictions are known only once all has settled.
fn measure(
    server: &Server,
    fleet: &mut Fleet,
    publisher: &mut Publisher,
    plan: &StallPlan,
) -> io::Result<Stall> {
    let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
    let begin = Instant::now();
    run_load(fleet, publisher, LOAD, Until::Time(begin + plan.duration))?;
    let elapsed = begin.elapsed();
    let busy = CpuTime::of(process::id())?.since(&busy_before);
    let cpu = server.cpu()?.since(&cpu_before);

    let mut latencies = fleet.latencies();
    latencies.sort_unstable();
    Ok(Stall {
        latency_p50_ms: percentile_ms(&latencies, 50),
        latency_p99_ms: percentile_ms(&latencies, 99),
        // Of the healthy: what the stalled take is what the ratio is to show.
        cpu_us_per_delivery: cpu.as_secs_f64() * 1e6 / fleet.received() as f64,
        peak_rss_mib: f64::NAN,
        evicted: f64::NAN,
        generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64(),
    })
}

/// Every stalled client must have been evicted, nobody else, and nothing of them must be left.
fn settle(
    server: &Server,
    fleet: &mut Fleet,
    plan: &StallPlan,
    stalled: usize,
) -> io::Result<Stats> {
    let wanted = Stats {
        clients: plan.healthy as u64,
        lagging: 0,
        evicted: stalled as u64,
    };
    let deadline = Instant::now() + SETTLE_DEADLINE;
    fleet.idle(DUPLICATE_GRACE)?;
    loop {
        let stats = Stats::of(server.address)?;
        if stats == wanted {
            return Ok(stats);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!(
                "the server settled at {stats:?} instead of {wanted:?}"
            )));
        }
        fleet.idle(SETTLE_STEP)?;
    }
}

fn check_memory(peak: u64, before: u64, plan: &StallPlan, stalled: usize) -> io::Result<()> {
    let outboxes_kib = (stalled * plan.outbox_bytes / 1024) as u64;
    let most = before + outboxes_kib + RSS_MARGIN_KIB;
    if peak > most {
        return Err(io::Error::other(format!(
            "the server's RSS reached {peak} KiB; its settings allow {most} KiB"
        )));
    }
    eprintln!("   peak RSS {peak} KiB, before the load {before} KiB, allowed {most} KiB");
    Ok(())
}
