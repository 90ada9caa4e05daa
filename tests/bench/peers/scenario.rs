//! The scenarios: the same job for every server.

use std::io;
use std::time::Duration;

use crate::load::Load;
use crate::machine::Machine;
use crate::peers::options::PeerOptions;
use crate::peers::peer::Peer;
use crate::peers::quantity::Measured;
use crate::peers::relaying::{self, RelayPlan};
use crate::peers::{handshakes, idle};

/// One job, and the figures that it gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// The name in `--only` and in the results.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    job: Job,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Handshakes { at_once: usize },
    Rooms(RelayPlan),
    Fanout(RelayPlan),
    Bandwidth(RelayPlan),
    Idle { clients: usize },
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

pub(crate) const SCENARIOS: [Scenario; 10] = [
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
];

impl Scenario {
    /// Returns about how long one measurement takes.
    pub(crate) fn seconds(&self, options: &PeerOptions) -> f64 {
        // Start, connections and warm-up.
        let setup = 2.0;
        match self.job {
            Job::Idle { .. } => setup + 3.0,
            _ => setup + options.seconds(),
        }
    }

    /// Starts the server and returns its figures.
    pub(crate) fn measure(
        &self,
        peer: &Peer,
        options: &PeerOptions,
        machine: &Machine,
    ) -> io::Result<Vec<Measured>> {
        let duration = Duration::from_secs_f64(options.seconds());
        let mut server = peer.start(machine)?;
        let mut relay =
            |plan: RelayPlan| relaying::measure(&mut server, plan.scaled(options), duration);
        Ok(match self.job {
            Job::Rooms(plan) => relay(plan)?.per_message(),
            Job::Fanout(plan) => relay(plan)?.per_delivery(),
            Job::Bandwidth(plan) => relay(plan)?.bandwidth(),
            Job::Handshakes { at_once } => handshakes::measure(&mut server, at_once, duration)?,
            Job::Idle { clients } => idle::measure(&mut server, options.scaled(clients))?,
        })
    }
}
