//! Case I: the cost of clients that resume after a long gap for the clients that stayed connected.

use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocking_client::BlockingClient;
use crate::client_group::{ClientGroup, ServerProtocol};
use crate::latency::percentile_ms;
use crate::load::{Load, Publisher, Until, run_load};
use crate::measurements::Bench;
use crate::storage::{DatabaseFolder, HistoryStore};

/// Live messages while other clients catch up.
const LIVE: Load = Load::PerSecond(50);
const LIVE_CLIENTS: usize = 200;
const PAYLOAD_BYTES: usize = 100;

/// Publishes that may be unacknowledged while the history is filled.
const FILL_WINDOW: u64 = 200;

const LOWEST_PRIORITY: i32 = 19;

/// The clients that resume from a room's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturningClients {
    None,
    /// A single client, once a second.
    OneASecond,
    /// Ten clients. Each resumes again as soon as it has caught up.
    TenAtOnce,
}

impl ReturningClients {
    fn count(self) -> usize {
        match self {
            ReturningClients::None => 0,
            ReturningClients::OneASecond => 1,
            ReturningClients::TenAtOnce => 10,
        }
    }

    /// Returns the least time between two resumes of one client.
    fn interval(self) -> Duration {
        match self {
            ReturningClients::OneASecond => Duration::from_secs(1),
            ReturningClients::None | ReturningClients::TenAtOnce => Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUpFigures {
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    /// The median time in which a client received all that it had missed. NaN if no client resumed.
    pub(crate) seconds: f64,
    /// How often clients caught up during the measurement.
    pub(crate) caught_up: f64,
}

impl Bench {
    /// Measures live clients while others resume from the room's first message again and again.
    pub(crate) fn catch_up(
        &self,
        history: HistoryStore,
        returning: ReturningClients,
    ) -> io::Result<CatchUpFigures> {
        let folder = DatabaseFolder::new()?;
        let mut arguments = folder.arguments(history);
        let limits = [
            "--history-messages=10000000",
            "--history-bytes=1GiB",
            "--history-total-bytes=1GiB",
        ];
        arguments.extend(limits.map(str::to_owned));
        let mut server = self.start_wscast(&arguments)?;
        let missed = self.options.missed();
        publish_history(server.address, missed)?;

        let protocol = ServerProtocol::WebSocket;
        let mut live = ClientGroup::connect(server.address, LIVE_CLIENTS, protocol)?;
        let mut publisher = Publisher::stamped(&live, 1, PAYLOAD_BYTES)?;
        let (stop, address) = (AtomicBool::new(false), server.address);
        let duration = Duration::from_secs_f64(2.0 * self.options.seconds());
        let mut times = thread::scope(|scope| {
            let stop = &stop;
            let clients: Vec<_> = (0..returning.count())
                .map(|_| scope.spawn(move || resume_repeatedly(address, missed, returning, stop)))
                .collect();
            let until = Until::Time(Instant::now() + duration);
            let live_result = run_load(&mut live, &mut publisher, LIVE, until);
            stop.store(true, Ordering::Relaxed);
            let mut times = Vec::new();
            for client in clients {
                let result = client.join();
                times.extend(result.map_err(|_| io::Error::other("a client panicked"))??);
            }
            live_result.map(|()| times)
        })?;
        server.check_alive()?;
        live.check_counts(publisher.published)?;
        times.sort_unstable();
        let mut latencies = live.latencies();
        latencies.sort_unstable();
        Ok(CatchUpFigures {
            latency_p50_ms: percentile_ms(&latencies, 50),
            latency_p99_ms: percentile_ms(&latencies, 99),
            seconds: percentile_ms(&times, 50) / 1e3,
            caught_up: times.len() as f64,
        })
    }
}

fn publish_history(address: SocketAddrV4, messages: u64) -> io::Result<()> {
    let mut client = BlockingClient::connect(address, "/ws")?;
    let json = format!(
        r#"{{"type":"message","payload":"{}"}}"#,
        "x".repeat(PAYLOAD_BYTES)
    );
    let (mut sent, mut received) = (0, 0);
    while received < messages {
        while sent < messages && sent - received < FILL_WINDOW {
            client.send(&json)?;
            sent += 1;
        }
        client.next_text()?;
        received += 1;
    }
    Ok(())
}

/// Resumes from the first message until `stop` is set, and returns how long each resume took. Offsets must count up
/// from 1.
fn resume_repeatedly(
    address: SocketAddrV4,
    missed: u64,
    returning: ReturningClients,
    stop: &AtomicBool,
) -> io::Result<Vec<Duration>> {
    // Live clients share a core with this thread, and their delay must be the server's.
    rustix::process::nice(LOWEST_PRIORITY)?;
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut client = BlockingClient::connect(address, "/ws?since=0")?;
        for offset in 1..=missed {
            let frame = client.next_text()?;
            let expected = format!(r#","offset":{offset},"#);
            let has_offset = frame
                .windows(expected.len())
                .any(|part| part == expected.as_bytes());
            if !has_offset {
                let frame = String::from_utf8_lossy(frame).into_owned();
                return Err(io::Error::other(format!("no {expected} in {frame}")));
            }
        }
        times.push(start.elapsed());
        thread::park_timeout(returning.interval().saturating_sub(start.elapsed()));
    }
    Ok(times)
}
