//! The scenarios: the same job for every server.

use std::io;
use std::time::Duration;

use crate::load::Load;
use crate::machine::Machine;
use crate::peers::drops::{self, ServerFault};
use crate::peers::options::PeerOptions;
use crate::peers::peer::Peer;
use crate::peers::quantity::Measured;
use crate::peers::relaying::{self, RelayPlan};
use crate::peers::stalling::{self, StallingPlan};
use crate::peers::{avalanche, handshakes, idle, steps};

/// A job, and the figures that it gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// The name in `--only` and in the results.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    job: Job,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Handshakes {
        at_once: usize,
    },
    /// The cost of a message.
    Rooms(RelayPlan),
    /// The cost of a delivery.
    Fanout(RelayPlan),
    Bandwidth(RelayPlan),
    Idle {
        clients: usize,
    },
    Stalling(StallingPlan),
    ClientLadder,
    RoomLadder,
    Held,
    Drops(ServerFault),
    Avalanche {
        clients: usize,
    },
}

const fn one_room(clients: usize, payload_bytes: usize, load: Load) -> RelayPlan {
    RelayPlan {
        clients,
        rooms: 1,
        payload_bytes,
        load,
    }
}

const fn small_rooms(load: Load) -> RelayPlan {
    RelayPlan {
        clients: 3000,
        rooms: 1000,
        payload_bytes: 100,
        load,
    }
}

pub(crate) const SCENARIOS: [Scenario; 17] = [
    Scenario {
        name: "handshakes",
        title: "connect, welcome and close, 64 at a time",
        job: Job::Handshakes { at_once: 64 },
    },
    Scenario {
        name: "rooms-rate",
        title: "1000 rooms of 3 clients, 1000 messages/s",
        job: Job::Rooms(small_rooms(Load::PerSecond(1000))),
    },
    Scenario {
        name: "rooms-closed",
        title: "1000 rooms of 3 clients, 64 messages outstanding",
        job: Job::Rooms(small_rooms(Load::Outstanding(64))),
    },
    Scenario {
        name: "fanout-rate",
        title: "1000 clients of one room, 50 messages/s",
        job: Job::Fanout(one_room(1000, 100, Load::PerSecond(50))),
    },
    Scenario {
        name: "fanout-4",
        title: "1000 clients of one room, 4 messages outstanding",
        job: Job::Fanout(one_room(1000, 100, Load::Outstanding(4))),
    },
    Scenario {
        name: "fanout-16",
        title: "100 clients of one room, 16 messages outstanding",
        job: Job::Fanout(one_room(100, 100, Load::Outstanding(16))),
    },
    Scenario {
        name: "large",
        title: "200 clients of one room, 16 KiB, 4 messages outstanding",
        job: Job::Fanout(one_room(200, 16 << 10, Load::Outstanding(4))),
    },
    Scenario {
        name: "bandwidth-512",
        title: "100 clients of one room, 512 bytes, 300 messages/s",
        job: Job::Bandwidth(one_room(100, 512, Load::PerSecond(300))),
    },
    Scenario {
        name: "bandwidth-4k",
        title: "100 clients of one room, 4 KiB, 4 messages outstanding",
        job: Job::Bandwidth(one_room(100, 4 << 10, Load::Outstanding(4))),
    },
    Scenario {
        name: "idle",
        title: "5000 idle connections",
        job: Job::Idle { clients: 5000 },
    },
    Scenario {
        name: "stalled",
        title: "200 clients of one room, of which 10 never read, 16 KiB, 100 messages/s",
        job: Job::Stalling(StallingPlan {
            clients: 200,
            stalled: 10,
            payload_bytes: 16 << 10,
            load: Load::PerSecond(100),
        }),
    },
    Scenario {
        name: "ladder-clients",
        title: "10 to 10 000 clients of one room, 20 000 deliveries/s",
        job: Job::ClientLadder,
    },
    Scenario {
        name: "ladder-rooms",
        title: "1 to 1000 rooms of 10 clients, 1000 messages/s",
        job: Job::RoomLadder,
    },
    Scenario {
        name: "held",
        title: "clients of one room that get 95 % of 50 messages/s within 500 ms",
        job: Job::Held,
    },
    Scenario {
        name: "drops",
        title: "50 subscribers, each cut every 2 s and away for 0.25 s, 100 messages/s",
        job: Job::Drops(ServerFault::None),
    },
    Scenario {
        name: "drops-crash",
        title: "the same, and the server is killed (SIGKILL) and started again; wscast with --db",
        job: Job::Drops(ServerFault::Crash),
    },
    Scenario {
        name: "avalanche",
        title: "8000 clients that come back at once after a crash, while 10 messages are published; wscast with --db",
        job: Job::Avalanche { clients: 8000 },
    },
];

impl Scenario {
    /// Returns about how long one measurement takes.
    pub(crate) fn seconds(&self, options: &PeerOptions) -> f64 {
        // Start, connections and warm-up.
        let setup = 2.0;
        match self.job {
            Job::Idle { .. } => setup + 3.0,
            Job::ClientLadder | Job::RoomLadder => 4.0 * (setup + options.seconds()),
            Job::Held => 6.0 * (setup + options.seconds()),
            Job::Drops(_) => setup + 10.0,
            Job::Avalanche { .. } => setup + 8.0,
            _ => setup + options.seconds(),
        }
    }

    /// Starts the server, once or more often, and returns its figures.
    pub(crate) fn measure(
        &self,
        peer: &Peer,
        options: &PeerOptions,
        machine: &Machine,
    ) -> io::Result<Vec<Measured>> {
        let duration = Duration::from_secs_f64(options.seconds());
        let relay = |plan: RelayPlan| {
            relaying::measure(&mut peer.start(machine)?, plan.scaled(options), duration)
        };
        match self.job {
            Job::Handshakes { at_once } => {
                handshakes::measure(&mut peer.start(machine)?, at_once, duration)
            }
            Job::Rooms(plan) => Ok(relay(plan)?.per_message()),
            Job::Fanout(plan) => Ok(relay(plan)?.per_delivery()),
            Job::Bandwidth(plan) => Ok(relay(plan)?.bandwidth()),
            Job::Idle { clients } => {
                idle::measure(&mut peer.start(machine)?, options.scaled(clients))
            }
            Job::Stalling(plan) => stalling::measure(&mut peer.start(machine)?, plan, duration),
            Job::ClientLadder => steps::client_ladder(peer, options, machine),
            Job::RoomLadder => steps::room_ladder(peer, options, machine),
            Job::Held => steps::held(peer, options, machine),
            Job::Drops(fault) => drops::measure(peer, fault, options, machine),
            Job::Avalanche { clients } => {
                avalanche::measure(peer, options.scaled(clients), machine)
            }
        }
    }
}
