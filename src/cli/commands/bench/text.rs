//! The figures of a load as text.

use std::time::Duration;

use crate::client::{LoadFigures, SearchResult};

/// Share of a core above which the load generator itself may be the limit.
const BUSY: f64 = 0.9;

/// Returns a number without fractions, or with one if it is small.
pub(super) fn count(number: f64) -> String {
    match number {
        small if small < 100.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    }
}

/// Returns a latency in milliseconds.
pub(super) fn milliseconds(latency: Option<Duration>) -> String {
    match latency.map(|latency| latency.as_secs_f64() * 1e3) {
        None => "-".to_owned(),
        Some(short) if short < 10.0 => format!("{short:.2} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// Returns the lines of one measurement.
pub(super) fn figures(address: &str, figures: &LoadFigures) -> String {
    let LoadFigures {
        clients,
        rooms,
        payload_bytes,
        published,
        deliveries,
        latencies,
        ..
    } = figures;
    let room = if *rooms == 1 { "room" } else { "rooms" };
    let quantile = |share| milliseconds(latencies.quantile(share));
    let mut out = format!(
        "server      {address}\n\
         clients     {clients}, in {rooms} {room}{}\n\
         published   {published}, {} per second, {payload_bytes} bytes each\n\
         deliveries  {deliveries}, {} per second\n\
         lost        {}\n\
         latency     p50 {}, p95 {}, p99 {}, longest {}\n\
         generator   {:.0} % of a core\n",
        if figures.was_stopped {
            "; stopped early"
        } else {
            ""
        },
        count(figures.published_per_second()),
        count(figures.deliveries_per_second()),
        figures.lost,
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        milliseconds(latencies.longest()),
        figures.busy * 100.0
    );
    for (name, reasons, cure) in [
        ("refused", &figures.refusals, refused_cure(figures)),
        ("closed", &figures.closed, ""),
    ] {
        for (reason, number) in reasons {
            out += &format!("{name:11} {number}: {reason}{cure}\n");
        }
    }
    if figures.doubled > 0 {
        out += &format!("doubled     {}\n", figures.doubled);
    }
    out + busy_note(figures)
}

fn refused_cure(figures: &LoadFigures) -> &'static str {
    match figures.refusals.contains_key("rate_limited") {
        true => "; start the server with --max-request-rate 0, or use more --publishers",
        false => "",
    }
}

fn busy_note(figures: &LoadFigures) -> &'static str {
    match figures.busy > BUSY {
        true => {
            "note        this program had no time left: the server may be faster than these figures\n"
        }
        false => "",
    }
}

/// Returns the heading of the steps of a search.
pub(super) fn search_heading(address: &str) -> String {
    format!(
        "server  {address}\nclients  deliveries/s       p50       p95       p99      lost  generator\n"
    )
}

/// Returns the line of a step of a search.
pub(super) fn step(figures: &LoadFigures, is_held: bool) -> String {
    let quantile = |share| milliseconds(figures.latencies.quantile(share));
    format!(
        "{:7}  {:>12}  {:>8}  {:>8}  {:>8}  {:8}  {:>7.0} %{}\n",
        figures.clients,
        count(figures.deliveries_per_second()),
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        figures.lost,
        figures.busy * 100.0,
        if is_held { "" } else { "  too many" }
    )
}

/// Returns the last lines of a search.
pub(super) fn search_end(p95_max: Duration, search: &SearchResult) -> String {
    let p95_max = p95_max.as_secs_f64() * 1e3;
    let held = match &search.held {
        None => "held    none\n".to_owned(),
        Some(figures) => format!(
            "held    {} clients with p95 of at most {p95_max:.0} ms\n{}",
            figures.clients,
            busy_note(figures)
        ),
    };
    format!("{held}end     {}\n", search.end)
}
