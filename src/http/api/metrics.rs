//! `GET /metrics`: counters and gauges in the Prometheus text format.

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::request::Admitted;
use crate::http::response::{WithHeader, data};
use crate::metrics::write_metric;
use crate::store::NodeStatus;

/// Responds with the process's counters, then the gauges of rooms, queues and the store.
pub(in crate::http) fn metrics(
    _admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let usage = app.broker.usage();
    let mut text = app.metrics.prometheus();
    let known = [
        ("rooms", "Rooms that have a numbering", usage.rooms as u64),
        (
            "connections_max",
            "Connections that are accepted at most",
            app.admission.connections_max() as u64,
        ),
        (
            "addresses",
            "Client addresses that are remembered",
            app.admission.known_addresses() as u64,
        ),
        (
            "revoked_users",
            "Users whose earlier tokens are refused",
            app.admission.revoked_users() as u64,
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
    ];
    for (name, help, value) in known {
        write_metric(&mut text, name, help, "gauge", value);
    }
    // A figure that the store does not know is left out, because 0 would be wrong.
    let of_the_store = [
        ("history_messages", "Messages in history", usage.messages),
        ("history_bytes", "Payload bytes in history", usage.bytes),
        (
            "store_disk_bytes",
            "Bytes of the store's files",
            usage.disk_bytes,
        ),
    ];
    for (name, help, value) in of_the_store {
        if let Some(value) = value {
            write_metric(&mut text, name, help, "gauge", value);
        }
    }
    if let Some(status) = app.broker.node_status() {
        write_cluster(&mut text, status);
    }
    let response = data(200, "text/plain; version=0.0.4; charset=utf-8", text);
    Ok(response.with("Cache-Control", "no-store"))
}

fn write_cluster(text: &mut String, status: NodeStatus) {
    let mut write = |name, help, kind, value: f64| write_metric(text, name, help, kind, value);
    let nodes = status.nodes as f64;
    write("nodes", "Nodes that use the same Redis", "gauge", nodes);
    write(
        "store_shards",
        "Servers of a Redis Cluster whose sharded channels this node receives",
        "gauge",
        status.shards as f64,
    );
    write(
        "store_lag_seconds",
        "Time from publishing to Redis until the message returned to this node",
        "gauge",
        status.lag.as_secs_f64(),
    );
    write(
        "store_reconnects_total",
        "Redis subscription reconnects",
        "counter",
        status.reconnects as f64,
    );
    write(
        "store_gap_fills_total",
        "Messages read from Redis because the subscription had not delivered them",
        "counter",
        status.gap_fills as f64,
    );
}
