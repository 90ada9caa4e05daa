//! `GET /stats`: counters, rates and queues as JSON.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::request::Admitted;
use crate::http::response::json;
use crate::metrics::Metrics;
use crate::store::NodeStatus;

#[derive(Serialize)]
struct Stats<'a> {
    connected_clients: u64,
    server_time: f64,
    uptime_seconds: f64,
    version: &'static str,
    /// The largest message that the server accepts, so that a client can check before it sends one.
    max_message_bytes: usize,
    /// True if the program serves its documentation at `/docs/`, so that the page can link to it.
    docs: bool,
    connections: u64,
    lagging_clients: u64,
    rooms: usize,
    totals: CounterTotals<'a>,
    rates: RatesPerSecond,
    history: HistoryStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<DatabaseStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterStats>,
    queues: QueueLengths,
}

/// Every counter by its name.
struct CounterTotals<'a>(&'a Metrics);

impl Serialize for CounterTotals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let totals = self.0.counters().map(|(name, _, count)| (name, count));
        serializer.collect_map(totals)
    }
}

/// Averages over the last ten seconds.
#[derive(Serialize)]
struct RatesPerSecond {
    messages_published: f64,
    messages_delivered: f64,
}

#[derive(Serialize)]
struct HistoryStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    messages_pruned: u64,
}

/// Present if the history is in a database file.
#[derive(Serialize)]
struct DatabaseStats {
    disk_bytes: u64,
    commits: u64,
    commits_failed: u64,
    /// Average since start.
    commit_milliseconds: f64,
}

/// This node among the nodes of its store.
#[derive(Serialize)]
struct ClusterStats {
    nodes: usize,
    lag_milliseconds: f64,
    reconnects: u64,
    gap_fills: u64,
    shards: usize,
}

impl From<NodeStatus> for ClusterStats {
    fn from(status: NodeStatus) -> Self {
        Self {
            nodes: status.nodes,
            lag_milliseconds: status.lag.as_micros() as f64 / 1000.0,
            reconnects: status.reconnects,
            gap_fills: status.gap_fills,
            shards: status.shards,
        }
    }
}

#[derive(Serialize)]
struct QueueLengths {
    broker: usize,
    broadcaster: usize,
}

/// Responds with counters, rates and queue lengths as JSON.
pub(in crate::http) fn stats(
    _admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let metrics = &app.metrics;
    let usage = app.broker.usage();
    let rates = metrics.rates(Instant::now());
    Ok(json(&Stats {
        connected_clients: metrics.clients.get(),
        server_time: unix_seconds(),
        uptime_seconds: app.started.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
        max_message_bytes: app.config.get().limits.max_message_bytes,
        docs: cfg!(feature = "docs"),
        connections: metrics.connections.get(),
        lagging_clients: metrics.lagging.get(),
        rooms: usage.rooms,
        totals: CounterTotals(metrics),
        rates: RatesPerSecond {
            messages_published: rates.published,
            messages_delivered: rates.deliveries,
        },
        history: HistoryStats {
            messages: usage.messages,
            bytes: usage.bytes,
            messages_pruned: metrics.pruned.get(),
        },
        store: usage.disk_bytes.map(|disk_bytes| DatabaseStats {
            disk_bytes,
            commits: metrics.commits.get(),
            commits_failed: metrics.commits_failed.get(),
            commit_milliseconds: metrics.commit_micros.get() as f64
                / metrics.commits.get().max(1) as f64
                / 1000.0,
        }),
        cluster: app.broker.node_status().map(ClusterStats::from),
        queues: QueueLengths {
            broker: app.broker.queue_len(),
            broadcaster: app.broadcaster.queue_len(),
        },
    }))
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
