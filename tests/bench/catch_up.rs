//! Case I: what clients that come back after a long gap cost those that never left.

use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::children::{Kind, Server};
use crate::fleet::{Dialect, Fleet};
use crate::latency::percentile_ms;
use crate::scenarios::{Bench, Load, Publisher, Until, run_load};
use crate::storage::{Disk, History};
use crate::talk::Talk;

/// Live messages a second while others catch up.
const LIVE: Load = Load::PerSecond(50);
const LIVE_CLIENTS: usize = 200;
const PAYLOAD_BYTES: usize = 100;

const LAST_IN_LINE: i32 = 19;

/// Who comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returning {
    Nobody,
    /// One client, once a second.
    OneASecond,
    /// Ten clients, each again as soon as it has everything.
    TenAtOnce,
}

impl Returning {
    /// How many, and how far apart.
    fn plan(self) -> (usize, Duration) {
        match self {
            Returning::Nobody => (0, Duration::ZERO),
            Returning::OneASecond => (1, Duration::from_secs(1)),
            Returning::TenAtOnce => (10, Duration::ZERO),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    /// How long one client took for all that it had missed; not a number without one.
    pub(crate) seconds: f64,
    /// Clients that have caught up while the live ones were watched.
    pub(crate) caught_up: f64,
}

impl Bench {
    /// Live clients beside others, which come back from the room's first message for as long as the
    /// live ones are watched.
    pub(crate) fn catch_up(&self, history: History, returning: Returning) -> io::Result<CatchUp> {
        let disk = Disk::new()?;
        let mut arguments = disk.arguments(history);
        let wide = ["--history-messages=10000000", "--history-bytes=1GiB"];
        arguments.extend(wide.iter().map(|flag| (*flag).to_owned()));
        arguments.push("--history-total-bytes=1GiB".to_owned());
        let mut server = Server::start(Kind::Wscast, &arguments, &self.options, &self.machine)?;
        let missed = self.options.missed();
        fill(server.address, missed)?;

        let mut fleet = Fleet::connect(server.address, LIVE_CLIENTS, Dialect::WebSocket)?;
        let mut publisher = Publisher::stamped(&fleet, PAYLOAD_BYTES)?;
        let (stop, address) = (AtomicBool::new(false), server.address);
        let duration = Duration::from_secs_f64(2.0 * self.options.seconds());
        let mut times = thread::scope(|scope| {
            let stop = &stop;
            let (clients, pause) = returning.plan();
            let clients: Vec<_> = (0..clients)
                .map(|_| scope.spawn(move || come_back(address, missed, pause, stop)))
                .collect();
            let until = Until::Time(Instant::now() + duration);
            let watched = run_load(&mut fleet, &mut publisher, LIVE, until);
            stop.store(true, Ordering::Relaxed);
            let mut times = Vec::new();
            for client in clients {
                let result = client.join();
                times.extend(result.map_err(|_| io::Error::other("a client failed"))??);
            }
            watched.map(|()| times)
        })?;
        server.check_alive()?;
        fleet.check_counts(publisher.published)?;
        times.sort_unstable();
        let mut latencies = fleet.latencies();
        latencies.sort_unstable();
        Ok(CatchUp {
            latency_p50_ms: percentile_ms(&latencies, 50),
            latency_p99_ms: percentile_ms(&latencies, 99),
            seconds: percentile_ms(&times, 50) / 1e3,
            caught_up: times.len() as f64,
        })
    }
}

fn fill(address: SocketAddrV4, messages: u64) -> io::Result<()> {
    const WINDOW: u64 = 200;
    let mut talk = Talk::connect(address, "/ws")?;
    let json = format!(
        r#"{{"type":"message","payload":"{}"}}"#,
        "x".repeat(PAYLOAD_BYTES)
    );
    let (mut sent, mut received) = (0, 0);
    while received < messages {
        while sent < messages && sent - received < WINDOW {
            talk.send(&json)?;
            sent += 1;
        }
        talk.next_text()?;
        received += 1;
    }
    Ok(())
}

/// Comes back from the first message until told to stop; gives the time each return took. Offsets must
/// follow each other from 1 on.
fn come_back(
    address: SocketAddrV4,
    missed: u64,
    pause: Duration,
    stop: &AtomicBool,
) -> io::Result<Vec<Duration>> {
    // What is measured is the server's delay, not that of this process, which has one core as well.
    rustix::process::nice(LAST_IN_LINE)?;
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let mut talk = Talk::connect(address, "/ws?since=0")?;
        for offset in 1..=missed {
            let frame = talk.next_text()?;
            let expected = format!(r#","offset":{offset},"#);
            let has = frame
                .windows(expected.len())
                .any(|part| part == expected.as_bytes());
            if !has {
                let frame = String::from_utf8_lossy(frame).into_owned();
                return Err(io::Error::other(format!("no {expected} in {frame}")));
            }
        }
        times.push(begin.elapsed());
        thread::park_timeout(pause.saturating_sub(begin.elapsed()));
    }
    Ok(times)
}
