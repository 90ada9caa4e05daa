//! Cases G and H: what it costs to keep history on disk.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::blocking_client::BlockingClient;
use crate::latency::percentile_ms;
use crate::load::Load;
use crate::measurements::{Bench, FanoutFigures};
use crate::servers::Server;

const PAYLOAD_BYTES: usize = 100;

/// Where the server keeps its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryStore {
    Memory,
    Sqlite,
    /// SQLite with a sync after each batch.
    SqliteFull,
}

/// A folder for the database of one measurement, deleted on drop.
pub(crate) struct DatabaseFolder(PathBuf);

impl DatabaseFolder {
    pub(crate) fn new() -> io::Result<DatabaseFolder> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = target.join(format!("bench-{}", std::process::id()));
        // Usually there is no folder to remove.
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path)?;
        Ok(DatabaseFolder(path))
    }

    /// Returns the server's flags for this store.
    pub(crate) fn arguments(&self, history: HistoryStore) -> Vec<String> {
        let database = self.0.join("history.db").display().to_string();
        let flags: &[&str] = match history {
            HistoryStore::Memory => &[],
            HistoryStore::Sqlite => &["--db", &database],
            HistoryStore::SqliteFull => &["--db", &database, "--durability", "full"],
        };
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }
}

impl Drop for DatabaseFolder {
    fn drop(&mut self) {
        // A folder that is left behind does no harm.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Publishers that wait for acknowledgements, each in its own room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublisherPlan {
    pub(crate) count: usize,
    /// Publishes of one publisher that may be unacknowledged.
    pub(crate) outstanding: usize,
    /// The least time between two publishes of one publisher.
    pub(crate) interval: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AckFigures {
    pub(crate) per_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
}

impl Bench {
    /// Measures case G.
    pub(crate) fn stored_fanout(
        &self,
        history: HistoryStore,
        load: Load,
    ) -> io::Result<FanoutFigures> {
        let folder = DatabaseFolder::new()?;
        self.fanout_of(self.start_wscast(&folder.arguments(history))?, load)
    }

    /// Measures case H. Each publisher is alone in its room, so the cost is that of storing.
    pub(crate) fn acknowledged(
        &self,
        history: HistoryStore,
        plan: PublisherPlan,
    ) -> io::Result<AckFigures> {
        let folder = DatabaseFolder::new()?;
        let server = self.start_wscast(&folder.arguments(history))?;
        self.acknowledged_by(&server, plan)
    }

    /// Measures acknowledged publishes on a fresh server.
    pub(crate) fn acknowledged_by(
        &self,
        server: &Server,
        plan: PublisherPlan,
    ) -> io::Result<AckFigures> {
        let duration = Duration::from_secs_f64(self.options.seconds());
        let measured = publish_all(server.address, plan, duration, || server.cpu())?;
        let (latencies, [before, after]) = measured;
        Ok(AckFigures::new(&latencies, duration, after.since(&before)))
    }
}

impl AckFigures {
    /// Computes the figures from the sorted latencies of the acknowledgements within `duration`.
    pub(crate) fn new(latencies: &[Duration], duration: Duration, cpu: Duration) -> AckFigures {
        let count = latencies.len() as f64;
        AckFigures {
            per_ms: count / duration.as_secs_f64() / 1e3,
            cpu_us: cpu.as_secs_f64() * 1e6 / count,
            latency_p50_ms: percentile_ms(latencies, 50),
            latency_p99_ms: percentile_ms(latencies, 99),
        }
    }
}

/// Publishes for `duration`. Returns the sorted latencies of the acknowledgements, and a reading of `meter` from before
/// and after.
pub(crate) fn publish_all<M>(
    address: SocketAddrV4,
    plan: PublisherPlan,
    duration: Duration,
    meter: impl Fn() -> io::Result<M>,
) -> io::Result<(Vec<Duration>, [M; 2])> {
    // Dropping the sender stops all publishers.
    let (running, stop) = bounded::<()>(0);
    thread::scope(|scope| {
        let stop = &stop;
        let workers: Vec<_> = (0..plan.count)
            .map(|n| scope.spawn(move || publish(address, n, plan, stop)))
            .collect();
        let before = meter();
        thread::park_timeout(duration);
        drop(running);
        let readings = [before?, meter()?];
        let mut latencies = Vec::new();
        for worker in workers {
            let result = worker.join();
            latencies.extend(result.map_err(|_| io::Error::other("a publisher panicked"))??);
        }
        latencies.sort_unstable();
        Ok((latencies, readings))
    })
}

/// Publishes until `stop` is closed, and returns the latency of each acknowledgement.
fn publish(
    address: SocketAddrV4,
    index: usize,
    plan: PublisherPlan,
    stop: &Receiver<()>,
) -> io::Result<Vec<Duration>> {
    let mut client = BlockingClient::connect(address, &format!("/ws?room=publisher-{index}"))?;
    let payload = "x".repeat(PAYLOAD_BYTES);
    let PublisherPlan {
        count,
        outstanding,
        interval,
    } = plan;
    // Spreads the publishers evenly over one interval.
    let mut due = Instant::now() + interval * index as u32 / count as u32;
    let (mut sent, mut latencies) = (Vec::<Instant>::new(), Vec::new());
    let waits_until = |due| stop.recv_deadline(due) == Err(RecvTimeoutError::Timeout);
    loop {
        while sent.len() - latencies.len() < outstanding && waits_until(due) {
            due = Instant::now().max(due + interval);
            let id = sent.len();
            let json = format!(r#"{{"type":"message","payload":"{payload}","id":"{id}"}}"#);
            sent.push(Instant::now());
            client.send(&json)?;
        }
        if sent.len() == latencies.len() {
            return Ok(latencies);
        }
        let frame = client.next_text()?;
        if frame.starts_with(br#"{"type":"ack""#) {
            let expected = format!(r#""id":"{}"}}"#, latencies.len());
            if !frame.ends_with(expected.as_bytes()) {
                let frame = String::from_utf8_lossy(frame).into_owned();
                return Err(io::Error::other(format!("{frame} instead of {expected}")));
            }
            latencies.push(sent[latencies.len()].elapsed());
        } else if !frame.starts_with(br#"{"type":"message""#) {
            let frame = String::from_utf8_lossy(frame).into_owned();
            return Err(io::Error::other(format!("unexpected {frame}")));
        }
    }
}
