//! Cases G and H: what it costs that messages outlive the server.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::children::{Kind, Server};
use crate::latency::percentile_ms;
use crate::scenarios::{Bench, Fanout, Load};
use crate::talk::Talk;

const PAYLOAD_BYTES: usize = 100;

/// Where the server keeps its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    Memory,
    Sqlite,
    /// SQLite that syncs every batch.
    SqliteFull,
}

/// A directory for one measurement, gone with it.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn new() -> io::Result<Disk> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = target.join(format!("bench-{}", std::process::id()));
        let _left_behind = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Disk(path))
    }

    /// The server's flags.
    pub(crate) fn arguments(&self, history: History) -> Vec<String> {
        let database = self.0.join("history.db").display().to_string();
        let flags: &[&str] = match history {
            History::Memory => &[],
            History::Sqlite => &["--db", &database],
            History::SqliteFull => &["--db", &database, "--durability", "full"],
        };
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// Publishers that each wait for acknowledgements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publishers {
    pub(crate) count: usize,
    /// Publishes of each that may be unacknowledged.
    pub(crate) outstanding: usize,
    /// The least time between two publishes of one.
    pub(crate) interval: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) per_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
}

impl Bench {
    /// Case G.
    pub(crate) fn stored_fanout(&self, history: History, load: Load) -> io::Result<Fanout> {
        let disk = Disk::new()?;
        let arguments = disk.arguments(history);
        let server = Server::start(Kind::Wscast, &arguments, &self.options, &self.machine)?;
        self.fanout_of(server, load)
    }

    /// Case H: each publisher is alone in a room, so that storing is what is measured.
    pub(crate) fn acknowledged(
        &self,
        history: History,
        publishers: Publishers,
    ) -> io::Result<Acknowledged> {
        let disk = Disk::new()?;
        let arguments = disk.arguments(history);
        let server = Server::start(Kind::Wscast, &arguments, &self.options, &self.machine)?;
        self.acknowledged_by(&server, publishers)
    }

    /// By a server that was started for it.
    pub(crate) fn acknowledged_by(
        &self,
        server: &Server,
        publishers: Publishers,
    ) -> io::Result<Acknowledged> {
        let duration = Duration::from_secs_f64(self.options.seconds());
        let measured = publish_all(server.address, publishers, duration, || server.cpu())?;
        let (latencies, [before, after]) = measured;
        Ok(Acknowledged::new(
            &latencies,
            duration,
            after.since(&before),
        ))
    }
}

impl Acknowledged {
    /// From how long each acknowledgement took, sorted, within this time.
    pub(crate) fn new(latencies: &[Duration], duration: Duration, cpu: Duration) -> Acknowledged {
        let count = latencies.len() as f64;
        Acknowledged {
            per_ms: count / duration.as_secs_f64() / 1e3,
            cpu_us: cpu.as_secs_f64() * 1e6 / count,
            latency_p50_ms: percentile_ms(latencies, 50),
            latency_p99_ms: percentile_ms(latencies, 99),
        }
    }
}

/// Has all of them publish for as long as `duration`. Gives how long each acknowledgement took, sorted, and
/// what the meter showed at the begin and at the end.
pub(crate) fn publish_all<M>(
    address: SocketAddrV4,
    publishers: Publishers,
    duration: Duration,
    meter: impl Fn() -> io::Result<M>,
) -> io::Result<(Vec<Duration>, [M; 2])> {
    // Dropped, it tells all of them to stop.
    let (working, stop) = bounded::<()>(0);
    thread::scope(|scope| {
        let stop = &stop;
        let workers: Vec<_> = (0..publishers.count)
            .map(|n| scope.spawn(move || publish(address, n, publishers, stop)))
            .collect();
        let before = meter();
        thread::park_timeout(duration);
        drop(working);
        let readings = [before?, meter()?];
        let mut latencies = Vec::new();
        for worker in workers {
            let result = worker.join();
            latencies.extend(result.map_err(|_| io::Error::other("a publisher failed"))??);
        }
        latencies.sort_unstable();
        Ok((latencies, readings))
    })
}

/// Publishes until told to stop; gives the time that each acknowledgement took.
fn publish(
    address: SocketAddrV4,
    name: usize,
    publishers: Publishers,
    stop: &Receiver<()>,
) -> io::Result<Vec<Duration>> {
    let mut talk = Talk::connect(address, &format!("/ws?room=publisher-{name}"))?;
    let payload = "x".repeat(PAYLOAD_BYTES);
    let Publishers {
        count,
        outstanding,
        interval,
    } = publishers;
    // Those who take their time do not all take it at once.
    let mut due = Instant::now() + interval * name as u32 / count as u32;
    let (mut sent, mut latencies) = (Vec::<Instant>::new(), Vec::new());
    let goes_on = |due| stop.recv_deadline(due) == Err(RecvTimeoutError::Timeout);
    loop {
        while sent.len() - latencies.len() < outstanding && goes_on(due) {
            due = Instant::now().max(due + interval);
            let id = sent.len();
            let json = format!(r#"{{"type":"message","payload":"{payload}","id":"{id}"}}"#);
            sent.push(Instant::now());
            talk.send(&json)?;
        }
        if sent.len() == latencies.len() {
            return Ok(latencies);
        }
        let frame = talk.next_text()?;
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
