//! Scenarios that repeat a measurement with ever more clients or rooms.

use std::io;
use std::time::Duration;

use crate::load::Load;
use crate::machine::Machine;
use crate::peers::options::PeerOptions;
use crate::peers::peer::Peer;
use crate::peers::quantity::{Measured, higher, lower};
use crate::peers::relaying::{self, RelayFigures, RelayPlan};

/// Deliveries per second at each step of the clients' ladder.
const LADDER_DELIVERIES: u32 = 20_000;
const LADDER_CLIENTS: [usize; 4] = [10, 100, 1000, 10_000];

/// Messages per second at each step of the rooms' ladder.
const LADDER_MESSAGES: u32 = 1000;
const LADDER_ROOMS: [usize; 4] = [1, 10, 100, 1000];
const LADDER_ROOM_CLIENTS: usize = 10;

const PAYLOAD_BYTES: usize = 100;

const HELD_CLIENTS: [usize; 9] = [250, 500, 1000, 2000, 3000, 4000, 6000, 8000, 10_000];
const HELD_LOAD: Load = Load::PerSecond(50);
/// Clients whose messages are later than this are not held.
const HELD_P95_MS_MAX: f64 = 500.0;

/// Measures the same deliveries per second with ever more clients in one room.
pub(crate) fn client_ladder(
    peer: &Peer,
    options: &PeerOptions,
    machine: &Machine,
) -> io::Result<Vec<Measured>> {
    let steps = LADDER_CLIENTS.map(|clients| {
        let plan = RelayPlan {
            clients,
            rooms: 1,
            payload_bytes: PAYLOAD_BYTES,
            load: Load::PerSecond(LADDER_DELIVERIES / clients as u32),
        };
        (format!("{clients} clients"), plan)
    });
    ladder(&steps, peer, options, machine)
}

/// Measures the same messages per second in ever more rooms of the same size.
pub(crate) fn room_ladder(
    peer: &Peer,
    options: &PeerOptions,
    machine: &Machine,
) -> io::Result<Vec<Measured>> {
    let steps = LADDER_ROOMS.map(|rooms| {
        let plan = RelayPlan {
            clients: rooms * LADDER_ROOM_CLIENTS,
            rooms,
            payload_bytes: PAYLOAD_BYTES,
            load: Load::PerSecond(LADDER_MESSAGES),
        };
        (format!("{rooms} rooms"), plan)
    });
    ladder(&steps, peer, options, machine)
}

/// Measures all steps on fresh servers. A server that fails a step has no figures from there on.
fn ladder(
    steps: &[(String, RelayPlan)],
    peer: &Peer,
    options: &PeerOptions,
    machine: &Machine,
) -> io::Result<Vec<Measured>> {
    let (mut costs, mut failed) = (Vec::new(), None);
    for (_, plan) in steps {
        let cost = match failed {
            None => measure_step(peer, plan.scaled(options), options, machine),
            Some(_) => break,
        };
        match cost {
            Ok(figures) => costs.push(figures.cpu_us_per_delivery),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed
        && (peer.is_wscast() || costs.is_empty())
    {
        return Err(error);
    }
    let (min, max) = costs.iter().fold((f64::MAX, 0.0_f64), |(min, max), cost| {
        (min.min(*cost), max.max(*cost))
    });
    let spread = if costs.len() == steps.len() {
        max / min
    } else {
        f64::NAN
    };
    costs.resize(steps.len(), f64::NAN);
    let figures = steps.iter().zip(costs);
    let mut measured: Vec<Measured> = figures
        .map(|((name, _), cost)| lower(format!("CPU per delivery, {name}"), "µs", cost))
        .collect();
    measured.push(lower("dearest step / cheapest step", "", spread));
    Ok(measured)
}

/// Measures how many clients of one room a server holds: how many get 95 % of their messages in time.
pub(crate) fn held(
    peer: &Peer,
    options: &PeerOptions,
    machine: &Machine,
) -> io::Result<Vec<Measured>> {
    let mut held = (0, f64::NAN);
    for clients in HELD_CLIENTS {
        let plan = RelayPlan {
            clients: options.scaled(clients),
            rooms: 1,
            payload_bytes: PAYLOAD_BYTES,
            load: HELD_LOAD,
        };
        match measure_step(peer, plan, options, machine) {
            Ok(figures) if figures.p95_ms <= HELD_P95_MS_MAX => {
                held = (plan.clients, figures.p95_ms);
            }
            // A server that loses clients or messages under too many has not held them.
            Ok(_) | Err(_) => break,
        }
    }
    Ok(vec![
        higher("clients held", "", held.0 as f64),
        lower("latency p95 with these", "ms", held.1),
    ])
}

fn measure_step(
    peer: &Peer,
    plan: RelayPlan,
    options: &PeerOptions,
    machine: &Machine,
) -> io::Result<RelayFigures> {
    let mut server = peer.start(machine)?;
    let duration = Duration::from_secs_f64(options.seconds());
    relaying::measure(&mut server, plan, duration)
}
