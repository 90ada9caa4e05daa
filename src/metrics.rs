//! Metrics: counters, which only grow, gauges, which change only through guards, and histograms.

mod histogram;

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use histogram::Histogram;

/// The time over which `/stats` averages its rates.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// A count of events.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the count since start.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A count of things that exist now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Adds one until the guard is dropped.
    #[must_use]
    pub(crate) fn hold(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(&self.0))
    }

    /// Returns the number of guards.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(0) as u64
    }
}

/// Counts as one in its [`Gauge`] until dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Arc<AtomicI64>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Declares [`Metrics`]: each counter with its field, its name in `/metrics` and `/stats`, and its help text.
macro_rules! metrics {
    ($($field:ident $name:literal $help:literal)+) => {
        /// All metrics of the server.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            /// Connected WebSocket clients.
            pub(crate) clients: Gauge,
            /// Open connections, HTTP and WebSocket.
            pub(crate) connections: Gauge,
            /// Clients with a full socket, whose outbox is draining.
            pub(crate) lagging: Gauge,
            /// Time spent in store commits, in microseconds.
            pub(crate) commit_micros: Counter,
            /// Time spent in requests to the webhook, in microseconds.
            pub(crate) webhook_micros: Counter,
            /// Time that clients waited for answers of the backend of `--auth-url`, in microseconds.
            pub(crate) auth_micros: Counter,
            /// Time from the receipt of each message until its fan-out starts.
            pub(crate) fan_out_delay: Histogram,
            /// Time to encode the messages that the broadcaster takes at once and to send them to all members.
            pub(crate) fan_out_time: Histogram,
            $(#[doc = $help] pub(crate) $field: Counter,)+
            rates: Mutex<VecDeque<Sample>>,
        }

        impl Metrics {
            /// Returns name, help text and value of each counter.
            pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$(($name, $help, self.$field.get())),+].into_iter()
            }
        }
    };
}

metrics! {
    connections_total "connections" "Connections accepted"
    connections_refused "connections_refused" "Connections refused because of a limit"
    over_address_limit "connections_over_address_limit" "Connections refused because their address has too many"
    over_address_rate "connections_over_address_rate" "Connections refused because their address connects too fast"
    accept_errors "accept_errors" "Failed attempts to accept a connection"
    tls_refused "tls_refused" "Connections closed because of a missing or failed TLS handshake"
    proxy_headers_refused "proxy_headers_refused" "Connections of proxies closed because of a missing or wrong PROXY header"
    handshakes "handshakes" "WebSocket handshakes completed"
    handshakes_refused "handshakes_refused" "WebSocket handshakes refused"
    http_requests "http_requests" "HTTP requests answered"
    http_rate_limited "http_requests_rate_limited" "HTTP requests refused because their address exceeded its rate"
    requests "requests" "Text frames received from clients"
    requests_refused "requests_refused" "Client requests refused with an error"
    rate_limited "requests_rate_limited" "Client requests refused because their connection exceeded its rate"
    auth_failures "auth_failures" "Tokens refused"
    auth_attempts_refused "auth_attempts_refused" "Tokens refused unchecked, because too many from their address were refused before"
    key_fetches_failed "key_fetches_failed" "Failed attempts to fetch the keys of --jwks-url"
    cookies_ignored "cookies_ignored" "Cookies ignored, because a page of another site may have made the request"
    rooms_refused "rooms_refused" "Rooms refused because the server or the client has too many"
    new_rooms_rate_limited "new_rooms_rate_limited" "New rooms refused because their address creates them too fast"
    rooms_full "rooms_full" "Joins refused because the room is full"
    published "messages_published" "Messages stored and given an offset"
    duplicates "duplicate_publishes" "Publishes recognised as duplicates by their id"
    pruned "messages_pruned" "Messages removed from the history because of its limits"
    expired "messages_expired" "Messages removed from the history because their ttl ended"
    deleted "messages_deleted" "Messages deleted by operators"
    commits "store_commits" "Batches committed to SQLite or Redis"
    commits_failed "store_commits_failed" "Batches that SQLite or Redis failed to commit"
    recovered "resumes_recovered" "Rooms resumed with every missed message"
    not_recovered "resumes_not_recovered" "Rooms resumed with a gap, because missed messages are no longer stored"
    deliveries "messages_delivered" "Messages put into members' outboxes"
    evicted "slow_consumers_evicted" "Clients evicted as slow consumers"
    auth_calls "auth_calls" "Questions to the backend of --auth-url"
    auth_calls_failed "auth_calls_failed" "Questions that the backend of --auth-url did not answer"
    auth_calls_dropped "auth_calls_dropped" "Questions that were not asked, because too many others were"
    auth_calls_refused "auth_calls_refused" "Clients refused by an answer of the backend of --auth-url"
    auth_cache_hits "auth_cache_hits" "Clients identified by an earlier answer of the backend of --auth-url"
    webhook_calls "webhook_calls" "Requests sent to the webhook"
    webhook_calls_failed "webhook_calls_failed" "Requests to the webhook that were not accepted"
    webhook_events "webhook_events" "Rooms and users reported to the webhook"
    webhook_overflows "webhook_overflows" "Times that too many changes waited for the webhook, and a snapshot replaced them"
    silent "silent_clients_closed" "Clients closed because they stayed silent after a ping"
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    published: u64,
    deliveries: u64,
}

/// Average rates over the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// Messages published per second.
    pub(crate) published: f64,
    /// Deliveries per second.
    pub(crate) deliveries: f64,
}

impl Metrics {
    /// Takes a sample for the rates. The caller does so about once a second.
    pub(crate) fn sample(&self, now: Instant) {
        let mut samples = self.rates.lock();
        samples.push_back(self.totals(now));
        while samples.len() > 1 && now.duration_since(samples[0].at) > RATE_WINDOW {
            samples.pop_front();
        }
    }

    /// Returns the rates from the oldest sample in the window until now.
    pub(crate) fn rates(&self, now: Instant) -> Rates {
        let samples = self.rates.lock();
        let Some(then) = samples.front() else {
            return Rates::default();
        };
        let seconds = now.saturating_duration_since(then.at).as_secs_f64();
        if seconds < 0.5 {
            return Rates::default();
        }
        let totals = self.totals(now);
        Rates {
            published: (totals.published - then.published) as f64 / seconds,
            deliveries: (totals.deliveries - then.deliveries) as f64 / seconds,
        }
    }

    fn totals(&self, at: Instant) -> Sample {
        Sample {
            at,
            published: self.published.get(),
            deliveries: self.deliveries.get(),
        }
    }

    /// Returns all metrics in the Prometheus text format, version 0.0.4.
    pub(crate) fn prometheus(&self) -> String {
        let gauges = [
            ("clients", "WebSocket clients connected", self.clients.get()),
            (
                "connections",
                "Connections open, HTTP and WebSocket",
                self.connections.get(),
            ),
            (
                "lagging_clients",
                "Clients that do not take their messages at once; their outbox is draining",
                self.lagging.get(),
            ),
        ];
        let mut out = String::with_capacity(8192);
        for (name, help, value) in gauges {
            write_metric(&mut out, name, help, "gauge", value);
        }
        for (name, help, count) in self.counters() {
            write_metric(&mut out, &format!("{name}_total"), help, "counter", count);
        }
        let seconds = self.commit_micros.get() as f64 / 1e6;
        write_metric(
            &mut out,
            "store_commit_seconds_total",
            "Time spent committing batches to SQLite or Redis",
            "counter",
            seconds,
        );
        let seconds = self.webhook_micros.get() as f64 / 1e6;
        write_metric(
            &mut out,
            "webhook_seconds_total",
            "Time spent in requests to the webhook",
            "counter",
            seconds,
        );
        let seconds = self.auth_micros.get() as f64 / 1e6;
        write_metric(
            &mut out,
            "auth_seconds_total",
            "Time that clients waited for answers of the backend of --auth-url",
            "counter",
            seconds,
        );
        self.fan_out_delay.write(
            &mut out,
            "fan_out_delay_seconds",
            "Time from receiving a message, from its publisher or from Redis, until it is sent to the first member",
        );
        self.fan_out_time.write(
            &mut out,
            "fan_out_seconds",
            "Time to send the messages that waited together to all members of their rooms",
        );
        out
    }
}

/// Appends one metric with its help and type lines.
pub(crate) fn write_metric(
    out: &mut String,
    name: &str,
    help: &str,
    kind: &str,
    value: impl Display,
) {
    // Writing to a string cannot fail.
    write!(
        out,
        "# HELP wscast_{name} {help}\n# TYPE wscast_{name} {kind}\nwscast_{name} {value}\n"
    )
    .ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_window_only() {
        let (metrics, start) = (Metrics::default(), Instant::now());
        for second in 0..30 {
            metrics.sample(start + Duration::from_secs(second));
            metrics.published.add(7);
        }
        let rates = metrics.rates(start + Duration::from_secs(30));
        assert!((6.9..7.8).contains(&rates.published), "{rates:?}");
    }

    #[test]
    fn gauge_returns_to_zero_with_its_guards() {
        let gauge = Gauge::default();
        let guards = [gauge.hold(), gauge.hold()];
        assert_eq!(gauge.get(), 2);
        drop(guards);
        assert_eq!(gauge.get(), 0);
    }
}
