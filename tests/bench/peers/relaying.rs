//! Messages to the members of rooms: what each costs the server, how many it relays and how late they are.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use crate::client_group::ClientGroup;
use crate::cpu::CpuTime;
use crate::latency::percentile_ms;
use crate::load::{DUPLICATE_GRACE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load};
use crate::peers::options::PeerOptions;
use crate::peers::peer::PeerServer;
use crate::peers::quantity::{Measured, described, higher, lower};

/// The load before the clock starts. There may be many rooms.
const WARM_UP_LOAD: Load = Load::Outstanding(4);

/// Clients in rooms, and the messages that they get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayPlan {
    /// A multiple of `rooms`.
    pub(crate) clients: usize,
    pub(crate) rooms: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) load: Load,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayFigures {
    pub(crate) cpu_us_per_message: f64,
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) messages_per_second: f64,
    pub(crate) deliveries_per_second: f64,
    /// Payloads delivered per second of CPU time.
    pub(crate) gbit_per_core: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) generator_busy_percent: f64,
}

/// Connects the clients and measures for `duration`. One client of each room publishes, with the rooms in turn.
pub(crate) fn measure(
    server: &mut PeerServer,
    plan: RelayPlan,
    duration: Duration,
) -> io::Result<RelayFigures> {
    let (address, protocol) = (server.address, server.protocol);
    let mut clients = ClientGroup::connect_to_rooms(address, plan.clients, plan.rooms, protocol)?;
    let mut publisher = Publisher::stamped(&clients, plan.rooms, plan.payload_bytes)?;
    let warm_up = Until::Published(WARM_UP_MESSAGES.max(plan.rooms as u64));
    run_load(&mut clients, &mut publisher, WARM_UP_LOAD, warm_up)?;
    run(server, &mut clients, &mut publisher, plan, duration)
}

/// Measures clients that are connected already.
pub(crate) fn run(
    server: &mut PeerServer,
    clients: &mut ClientGroup,
    publisher: &mut Publisher,
    plan: RelayPlan,
    duration: Duration,
) -> io::Result<RelayFigures> {
    let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
    let start = Instant::now();
    run_load(clients, publisher, plan.load, Until::Time(start + duration))?;
    let elapsed = start.elapsed().as_secs_f64();
    let busy = CpuTime::of(process::id())?.since(&busy_before);
    clients.read_for(DUPLICATE_GRACE)?;
    let cpu = server.cpu()?.since(&cpu_before).as_secs_f64();

    server.check_alive()?;
    clients.check_counts(publisher.published)?;
    let (messages, deliveries) = (publisher.published as f64, clients.received() as f64);
    let mut latencies = clients.latencies();
    latencies.sort_unstable();
    Ok(RelayFigures {
        cpu_us_per_message: cpu * 1e6 / messages,
        cpu_us_per_delivery: cpu * 1e6 / deliveries,
        messages_per_second: messages / elapsed,
        deliveries_per_second: deliveries / elapsed,
        gbit_per_core: deliveries * plan.payload_bytes as f64 * 8.0 / cpu / 1e9,
        p50_ms: percentile_ms(&latencies, 50),
        p95_ms: percentile_ms(&latencies, 95),
        p99_ms: percentile_ms(&latencies, 99),
        generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed,
    })
}

impl RelayPlan {
    /// Returns the plan with as many clients and rooms as the options want.
    pub(crate) fn scaled(self, options: &PeerOptions) -> RelayPlan {
        // A single room stays one.
        let rooms = options.scaled(self.rooms);
        let members = if self.rooms == 1 {
            options.scaled(self.clients)
        } else {
            self.clients / self.rooms
        };
        RelayPlan {
            clients: rooms * members,
            rooms,
            ..self
        }
    }
}

impl RelayFigures {
    pub(crate) fn per_message(&self) -> Vec<Measured> {
        let mut figures = vec![
            lower("CPU per message", "µs", self.cpu_us_per_message),
            higher("messages per second", "/s", self.messages_per_second),
        ];
        figures.extend(self.latency());
        figures
    }

    pub(crate) fn per_delivery(&self) -> Vec<Measured> {
        let mut figures = vec![
            lower("CPU per delivery", "µs", self.cpu_us_per_delivery),
            higher("deliveries per second", "/s", self.deliveries_per_second),
        ];
        figures.extend(self.latency());
        figures
    }

    pub(crate) fn bandwidth(&self) -> Vec<Measured> {
        vec![
            higher("payload per core", "Gbit/s", self.gbit_per_core),
            higher("deliveries per second", "/s", self.deliveries_per_second),
            self.busy(),
        ]
    }

    fn latency(&self) -> [Measured; 3] {
        [
            lower("latency p50", "ms", self.p50_ms),
            lower("latency p99", "ms", self.p99_ms),
            self.busy(),
        ]
    }

    fn busy(&self) -> Measured {
        described("load generator busy", "%", self.generator_busy_percent)
    }
}
