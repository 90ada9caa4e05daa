//! The figures of a load as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{LoadFigures, SearchResult};

fn milliseconds(latency: Option<Duration>) -> Value {
    latency.map_or(Value::Null, |latency| {
        // Without digits that mean nothing.
        json!((latency.as_secs_f64() * 1e6).round() / 1e3)
    })
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Returns the figures of one measurement.
pub(super) fn figures(address: &str, figures: &LoadFigures) -> Value {
    let latencies = &figures.latencies;
    json!({
        "server": address,
        "clients": figures.clients,
        "rooms": figures.rooms,
        "payload_bytes": figures.payload_bytes,
        "seconds": rounded(figures.published_for.as_secs_f64()),
        "published": figures.published,
        "published_per_second": rounded(figures.published_per_second()),
        "deliveries": figures.deliveries,
        "deliveries_per_second": rounded(figures.deliveries_per_second()),
        "lost": figures.lost,
        "doubled": figures.doubled,
        "refused": figures.refusals,
        "closed": figures.closed,
        "latency_ms": {
            "p50": milliseconds(latencies.quantile(0.5)),
            "p95": milliseconds(latencies.quantile(0.95)),
            "p99": milliseconds(latencies.quantile(0.99)),
            "longest": milliseconds(latencies.longest()),
        },
        "generator_percent": rounded(figures.busy * 100.0),
        "stopped": figures.was_stopped,
    })
}

/// Returns the figures of a step of a search.
pub(super) fn step(figures: &LoadFigures, is_held: bool) -> Value {
    let latencies = &figures.latencies;
    json!({
        "clients": figures.clients,
        "held": is_held,
        "deliveries_per_second": rounded(figures.deliveries_per_second()),
        "lost": figures.lost,
        "p95_ms": milliseconds(latencies.quantile(0.95)),
        "generator_percent": rounded(figures.busy * 100.0),
    })
}

/// Returns the outcome of a search.
pub(super) fn search(
    address: &str,
    p95_max: Duration,
    steps: Vec<Value>,
    search: &SearchResult,
) -> Value {
    let held = search.held.as_ref();
    json!({
        "server": address,
        "p95_max_ms": milliseconds(Some(p95_max)),
        "clients_held": held.map_or(0, |figures| figures.clients),
        "end": search.end,
        "held": held.map(|held| figures(address, held)),
        "steps": steps,
    })
}
