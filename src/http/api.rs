//! The handlers that tell about the server: health, figures, rooms.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use tiny_http::ResponseBox;

use crate::app::App;
use crate::broadcaster::RoomDetail;
use crate::metrics::Metrics;
use crate::protocol::{Position, RoomName, invalid_room};
use crate::store::NodeStatus;

use super::access::may_subscribe;
use super::answer::{WithHeader, data, json, json_with_status};
use super::{Request, busy, error};

/// Rooms in one page of `/rooms`.
const ROOMS_PAGE_DEFAULT: usize = 100;
const ROOMS_PAGE_MAX: usize = 1000;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(flatten)]
    details: Option<HealthDetails>,
}

/// Not for strangers, where there are keys.
#[derive(Serialize)]
struct HealthDetails {
    message: String,
    connected_clients: u64,
    uptime_seconds: f64,
    version: &'static str,
}

/// `GET /health`: 200 while clients are welcome, 503 while the server goes away or cannot store.
pub(super) fn health(request: &Request, app: &App) -> ResponseBox {
    let (status, word, message) = if app.shutdown.is_requested() {
        (503, "draining", "the server is closing down".to_owned())
    } else if let Err(why) = app.broker.health() {
        (503, "degraded", why)
    } else {
        (200, "healthy", "WebSocket server is running".to_owned())
    };
    let details = request.identity.as_ref().map(|_| HealthDetails {
        message,
        connected_clients: app.metrics.clients.get(),
        uptime_seconds: uptime_seconds(app),
        version: env!("CARGO_PKG_VERSION"),
    });
    let health = Health {
        status: word,
        details,
    };
    json_with_status(status, &health)
}

#[derive(Serialize)]
struct Stats<'a> {
    connected_clients: u64,
    server_time: f64,
    uptime_seconds: f64,
    connections: u64,
    lagging_clients: u64,
    rooms: usize,
    totals: Totals<'a>,
    rates: RatesPerSecond,
    history: History,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterBody>,
    queues: Queues,
}

/// Every counter by its name.
struct Totals<'a>(&'a Metrics);

impl Serialize for Totals<'_> {
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
struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    messages_pruned: u64,
}

/// The database, if there is one.
#[derive(Serialize)]
struct StoreBody {
    disk_bytes: u64,
    commits: u64,
    commits_failed: u64,
    /// Average since start.
    commit_milliseconds: f64,
}

/// This node among those that share its store.
#[derive(Serialize)]
struct ClusterBody {
    nodes: usize,
    lag_milliseconds: f64,
    reconnects: u64,
    gap_fills: u64,
}

impl From<NodeStatus> for ClusterBody {
    fn from(status: NodeStatus) -> Self {
        Self {
            nodes: status.nodes,
            lag_milliseconds: status.lag.as_micros() as f64 / 1000.0,
            reconnects: status.reconnects,
            gap_fills: status.gap_fills,
        }
    }
}

/// What waits now.
#[derive(Serialize)]
struct Queues {
    broker: usize,
    broadcaster: usize,
}

/// `GET /stats`
pub(super) fn stats(_request: &Request, app: &App) -> ResponseBox {
    let metrics = &app.metrics;
    let usage = app.broker.usage();
    let rates = metrics.rates(Instant::now());
    json(&Stats {
        connected_clients: metrics.clients.get(),
        server_time: unix_seconds(),
        uptime_seconds: uptime_seconds(app),
        connections: metrics.connections.get(),
        lagging_clients: metrics.lagging.get(),
        rooms: usage.rooms,
        totals: Totals(metrics),
        rates: RatesPerSecond {
            messages_published: rates.published,
            messages_delivered: rates.deliveries,
        },
        history: History {
            messages: usage.messages,
            bytes: usage.bytes,
            messages_pruned: metrics.pruned.get(),
        },
        store: usage.disk_bytes.map(|disk_bytes| StoreBody {
            disk_bytes,
            commits: metrics.commits.get(),
            commits_failed: metrics.commits_failed.get(),
            commit_milliseconds: metrics.commit_micros.get() as f64
                / metrics.commits.get().max(1) as f64
                / 1000.0,
        }),
        cluster: app.broker.node_status().map(ClusterBody::from),
        queues: Queues {
            broker: app.broker.queue_len(),
            broadcaster: app.broadcaster.queue_len(),
        },
    })
}

/// `GET /metrics`
pub(super) fn metrics(_request: &Request, app: &App) -> ResponseBox {
    let usage = app.broker.usage();
    let mut text = app.metrics.prometheus();
    for (name, help, value) in [
        ("rooms", "Rooms that have a numbering", usage.rooms as u64),
        (
            "addresses",
            "Client addresses that are remembered",
            app.addresses_known() as u64,
        ),
        (
            "broker_queue_length",
            "Publishes waiting for the broker",
            app.broker.queue_len() as u64,
        ),
        (
            "broadcaster_queue_length",
            "Events waiting for the broadcaster",
            app.broadcaster.queue_len() as u64,
        ),
        (
            "store_up",
            "Whether messages can be stored",
            u64::from(app.broker.health().is_ok()),
        ),
    ] {
        crate::metrics::write_metric(&mut text, name, help, "gauge", value);
    }
    for (name, help, value) in [
        ("history_messages", "Messages in history", usage.messages),
        ("history_bytes", "Payload bytes in history", usage.bytes),
        (
            "store_disk_bytes",
            "Bytes of the store's files",
            usage.disk_bytes,
        ),
    ] {
        // What is not known is not there; 0 would be a lie.
        if let Some(value) = value {
            crate::metrics::write_metric(&mut text, name, help, "gauge", value);
        }
    }
    if let Some(status) = app.broker.node_status() {
        write_cluster(&mut text, status);
    }
    data(200, "text/plain; version=0.0.4; charset=utf-8", text).with("Cache-Control", "no-store")
}

fn write_cluster(text: &mut String, status: NodeStatus) {
    let mut write = |name, help, kind, value: f64| {
        crate::metrics::write_metric(text, name, help, kind, value);
    };
    let nodes = status.nodes as f64;
    write("nodes", "Nodes that share the store", "gauge", nodes);
    let lag = status.lag.as_secs_f64();
    let help = "Time from publishing until it came back to this node";
    write("store_lag_seconds", help, "gauge", lag);
    let help = "Times the way back from the store was found again";
    let reconnects = status.reconnects as f64;
    write("store_reconnects_total", help, "counter", reconnects);
    let help = "Messages read from the store since they had not come by themselves";
    let fills = status.gap_fills as f64;
    write("store_gap_fills_total", help, "counter", fills);
}

#[derive(Serialize)]
struct RoomList {
    rooms: Vec<RoomEntry>,
    total: usize,
}

#[derive(Serialize)]
struct RoomEntry {
    room: String,
    members: usize,
}

/// `GET /rooms?after=&limit=`: rooms that have members, by name.
pub(super) fn rooms(request: &Request, app: &App) -> ResponseBox {
    let limit = match request.query_values("limit").next().map(str::parse) {
        None => ROOMS_PAGE_DEFAULT,
        Some(Ok(limit @ 1..=ROOMS_PAGE_MAX)) => limit,
        Some(_) => return error(400, "invalid_field", "`limit` must be 1 to 1000"),
    };
    let after = request.query_values("after").next().unwrap_or_default();
    let Some(mut rooms) = app.broadcaster.rooms() else {
        return no_answer();
    };
    rooms.retain(|room| may_subscribe(request, &room.name).is_ok());
    let total = rooms.len();
    rooms.retain(|room| room.name.as_str() > after);
    rooms.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    rooms.truncate(limit);
    let entry = |room: crate::broadcaster::RoomSummary| RoomEntry {
        room: room.name.to_string(),
        members: room.members,
    };
    json(&RoomList {
        rooms: rooms.into_iter().map(entry).collect(),
        total,
    })
}

#[derive(Serialize)]
struct RoomBody {
    room: String,
    members: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Vec<ClientEntry>>,
    epoch: String,
    offset: u64,
}

#[derive(Serialize)]
struct ClientEntry {
    client: String,
}

/// `GET /rooms/{room}`
pub(super) fn room(request: &Request, app: &App) -> ResponseBox {
    match describe(request, app) {
        Ok(response) | Err(response) => response,
    }
}

fn describe(request: &Request, app: &App) -> Result<ResponseBox, ResponseBox> {
    let name = request.segments.last().map_or("", String::as_str);
    let name = RoomName::parse(name).map_err(|why| {
        let refusal = invalid_room(why);
        error(400, refusal.code.as_str(), &refusal.message)
    })?;
    may_subscribe(request, &name)?;
    let detail = app.broadcaster.room(name.clone()).ok_or_else(no_answer)?;
    let Some((detail, position)) = whereabouts(detail, &name, app)? else {
        return Err(error(
            404,
            "room_not_found",
            "nobody is in that room and it has no history",
        ));
    };
    let clients = detail.clients.map(|clients| {
        clients
            .into_iter()
            .map(|id| ClientEntry {
                client: id.to_string(),
            })
            .collect()
    });
    Ok(json(&RoomBody {
        room: name.to_string(),
        members: detail.members,
        clients,
        epoch: position.epoch.to_string(),
        offset: position.offset,
    }))
}

/// Who is in a room and where its stream is. One without members still has a place in its stream while its
/// history lasts, and so has one whose members are all on other nodes.
fn whereabouts(
    detail: Option<RoomDetail>,
    name: &RoomName,
    app: &App,
) -> Result<Option<(RoomDetail, Position)>, ResponseBox> {
    let nobody = || RoomDetail {
        members: 0,
        clients: Some(Vec::new()),
        position: None,
    };
    let detail = detail.unwrap_or_else(nobody);
    if let Some(position) = detail.position {
        return Ok(Some((detail, position)));
    }
    let found = app.broker.find(name).map_err(|_| no_answer())?;
    Ok(found.map(|stream| (detail, stream.position())))
}

/// `GET /ws` without an upgrade.
pub(super) fn upgrade_required(_request: &Request, _app: &App) -> ResponseBox {
    error(
        426,
        "upgrade_required",
        "this is a WebSocket: connect with ws:// or wss://",
    )
    .with("Sec-WebSocket-Version", "13")
}

fn no_answer() -> ResponseBox {
    busy("busy", "the server is busy; try again")
}

fn uptime_seconds(app: &App) -> f64 {
    app.started.elapsed().as_secs_f64()
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
