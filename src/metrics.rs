//! Counters that only grow and gauges that return to zero, because only guards move them.

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time over which `/stats` averages its rates.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Counts something that happened.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count since start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts something that is there now.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// One more, for as long as the guard lives.
    #[must_use]
    pub fn hold(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(&self.0))
    }

    /// How many guards live.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(0) as u64
    }
}

/// One of what a [`Gauge`] counts.
#[derive(Debug)]
pub struct GaugeGuard(Arc<AtomicI64>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Declares [`Metrics`]: each counter once, with its name in `/metrics` and `/stats` and what it counts.
macro_rules! metrics {
    ($($field:ident $name:literal $help:literal)+) => {
        /// Everything the server counts.
        #[derive(Debug, Default)]
        pub struct Metrics {
            /// WebSocket clients now.
            pub clients: Gauge,
            /// Sockets now, HTTP and WebSocket.
            pub connections: Gauge,
            /// Clients whose socket does not take what is sent, now.
            pub lagging: Gauge,
            /// Time that commits to the store took, in microseconds.
            pub commit_micros: Counter,
            $(#[doc = $help] pub $field: Counter,)+
            rates: Mutex<VecDeque<Sample>>,
        }

        impl Metrics {
            /// Name, help and value of each counter.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$(($name, $help, self.$field.get())),+].into_iter()
            }
        }
    };
}

metrics! {
    connections_total "connections" "Sockets accepted"
    connections_refused "connections_refused" "Sockets turned away by a limit"
    crowded "connections_over_address_limit" "Connections refused because their address has too many"
    hurried "connections_over_address_rate" "Connections refused because their address made too many in a time"
    accept_errors "accept_errors" "Accepts that failed"
    tls_refused "tls_refused" "Connections without the TLS handshake they need"
    proxy_headers_refused "proxy_headers_refused" "Connections of proxies without the PROXY header they need"
    handshakes "handshakes" "WebSocket handshakes completed"
    handshakes_refused "handshakes_refused" "WebSocket handshakes refused"
    http_requests "http_requests" "HTTP requests answered"
    http_rate_limited "http_requests_rate_limited" "HTTP requests refused because their address asked too much"
    requests "requests" "Text frames received from clients"
    requests_refused "requests_refused" "Requests refused with an error"
    rate_limited "requests_rate_limited" "Requests refused because their connection asked too much"
    auth_failures "auth_failures" "Tokens that were refused"
    auth_shut_out "auth_attempts_refused" "Tokens not looked at, after too many refused of their address"
    rooms_refused "rooms_refused" "Rooms refused because there are too many, or too many for the client"
    rooms_full "rooms_full" "Members refused because the room has too many"
    published "messages_published" "Messages stored and given an offset"
    duplicates "duplicate_publishes" "Publishes whose id had been stored before"
    pruned "messages_pruned" "Messages dropped from history to keep its bounds"
    commits "store_commits" "Batches that a store outside the process has taken"
    commits_failed "store_commits_failed" "Batches that it has refused"
    recovered "resumes_recovered" "Rooms resumed with all that was missed"
    not_recovered "resumes_not_recovered" "Rooms whose missed messages were gone"
    deliveries "messages_delivered" "Messages handed to a member's outbox"
    evicted "slow_consumers_evicted" "Clients evicted as slow consumers"
    silent "silent_clients_closed" "Clients closed as silent after a ping"
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    published: u64,
    deliveries: u64,
}

/// Averages over the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Messages published a second.
    pub published: f64,
    /// Deliveries a second.
    pub deliveries: f64,
}

impl Metrics {
    /// Notes the totals for the rates; to be called about once a second.
    pub fn sample(&self, now: Instant) {
        let mut samples = self.rates.lock();
        samples.push_back(self.totals(now));
        while samples.len() > 1 && now.duration_since(samples[0].at) > RATE_WINDOW {
            samples.pop_front();
        }
    }

    /// Rates from the oldest sample inside the window until now.
    pub fn rates(&self, now: Instant) -> Rates {
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

    /// Prometheus text exposition format, version 0.0.4.
    pub fn prometheus(&self) -> String {
        let gauges = [
            ("clients", "WebSocket clients connected", self.clients.get()),
            (
                "connections",
                "Sockets open, HTTP and WebSocket",
                self.connections.get(),
            ),
            (
                "lagging_clients",
                "Clients whose outbox is draining",
                self.lagging.get(),
            ),
        ];
        let mut out = String::with_capacity(4096);
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
            "Time that commits to it took",
            "counter",
            seconds,
        );
        out
    }
}

/// Appends one metric with its help and type lines.
pub fn write_metric(out: &mut String, name: &str, help: &str, kind: &str, value: impl Display) {
    let _infallible = write!(
        out,
        "# HELP wscast_{name} {help}\n# TYPE wscast_{name} {kind}\nwscast_{name} {value}\n"
    );
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
    fn a_gauge_returns_to_zero_with_its_guards() {
        let gauge = Gauge::default();
        let guards = [gauge.hold(), gauge.hold()];
        assert_eq!(gauge.get(), 2);
        drop(guards);
        assert_eq!(gauge.get(), 0);
    }
}
