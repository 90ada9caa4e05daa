//! Figures: `/health`, `/stats` and `/metrics`.

use serde_json::json;

use crate::support::{TestServer, wait_for, wait_until};

// Two clients are connected, one of them in a room of its own.
// All documented fields are present, and the counts of clients and rooms are right.
#[test]
fn health_and_stats_have_every_documented_field() {
    let server = TestServer::start(&[]);
    let (_alice, _bob) = (server.client(), server.client_at("/ws?room=ops"));
    let health = server.get_json("/health");
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["connected_clients"], 2);
    assert!(health["message"].is_string(), "{health}");
    assert!(health["uptime_seconds"].as_f64() > Some(0.0), "{health}");
    assert!(health["version"].is_string(), "{health}");

    let stats = server.stats();
    assert_eq!(stats["connected_clients"], 2);
    assert!(stats["server_time"].as_f64() > Some(1.7e9), "{stats}");
    assert!(stats["uptime_seconds"].as_f64() > Some(0.0), "{stats}");
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["max_message_bytes"], 64 * 1024);
    // The page links to the documentation if this is true.
    assert_eq!(stats["docs"], cfg!(feature = "docs"));
    assert_eq!(
        (&stats["rooms"], &stats["lagging_clients"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(stats["totals"]["handshakes"], 2);
    for (group, field) in [
        ("totals", "connections"),
        ("totals", "connections_refused"),
        ("totals", "handshakes_refused"),
        ("totals", "http_requests"),
        ("totals", "requests"),
        ("totals", "requests_refused"),
        ("totals", "messages_published"),
        ("totals", "messages_delivered"),
        ("totals", "slow_consumers_evicted"),
        ("totals", "silent_clients_closed"),
        ("rates", "messages_published"),
        ("rates", "messages_delivered"),
        ("history", "messages"),
        ("history", "bytes"),
        ("queues", "broker"),
        ("queues", "broadcaster"),
    ] {
        assert!(
            stats[group][field].is_number(),
            "{group}.{field} in {stats}"
        );
    }
}

// Every metric has the lines HELP and TYPE, then a value, or the values of a histogram. Names are unique; counters end in
// `_total`. Seven values are compared with what one client did.
#[test]
fn metrics_are_valid_prometheus_text() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.say("hi");
    alice.expect("hi");
    // Deliveries are counted after the whole batch was sent, and timed after that.
    let text = wait_for("the delivery is counted", || {
        let text = server.raw().get("/metrics").text();
        text.contains("wscast_fan_out_seconds_count 1\n")
            .then_some(text)
    });
    assert!(text.ends_with('\n'), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = Vec::new();
    for metric in lines.chunk_by(|_, next| !next.starts_with("# HELP ")) {
        let (name, help) = metric[0]
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
            .expect("help");
        assert!(name.starts_with("wscast_"), "{name}");
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "{name}"
        );
        assert!(!help.is_empty(), "{name}");
        let kind = match metric {
            [_, kind, _value] => {
                let value = metric[2].strip_prefix(name).expect("the name");
                assert!(number(value) >= 0.0, "{name} {value}");
                let is_counter = name.ends_with("_total");
                assert_eq!(kind.ends_with(" counter"), is_counter, "{name}");
                if is_counter { "counter" } else { "gauge" }
            }
            [_, _, values @ ..] => {
                assert_histogram(name, values);
                "histogram"
            }
            _ => panic!("{name} has no value"),
        };
        assert_eq!(metric[1], format!("# TYPE {name} {kind}"));
        assert!(!seen.contains(&name), "{name} appears twice");
        seen.push(name);
    }
    for (name, value) in [
        ("wscast_clients", 1),
        ("wscast_handshakes_total", 1),
        ("wscast_messages_published_total", 1),
        ("wscast_messages_delivered_total", 1),
        ("wscast_history_messages", 1),
        ("wscast_fan_out_delay_seconds_count", 1),
        ("wscast_fan_out_seconds_count", 1),
    ] {
        assert!(
            lines.contains(&format!("{name} {value}").as_str()),
            "{name} in {text}"
        );
    }
}

fn number(text: &str) -> f64 {
    text.trim().parse().expect("a number")
}

/// Checks the buckets of a histogram, each with its bound, then the sum and the count.
fn assert_histogram(name: &str, lines: &[&str]) {
    let [buckets @ .., sum, count] = lines else {
        panic!("{name} has too few lines");
    };
    let (mut bound, mut up_to_bound) = (0.0, 0.0);
    for bucket in buckets {
        let prefix = format!("{name}_bucket{{le=\"");
        let rest = bucket.strip_prefix(&prefix).expect("a bucket");
        let (le, value) = rest.split_once("\"} ").expect("a value");
        assert!(number(le) > bound, "{bucket}");
        assert!(number(value) >= up_to_bound, "{bucket}");
        (bound, up_to_bound) = (number(le), number(value));
    }
    assert_eq!(bound, f64::INFINITY, "{name}");
    let value =
        |line: &str, part| number(line.strip_prefix(&format!("{name}_{part} ")).expect(part));
    assert!(value(sum, "sum") >= 0.0, "{sum}");
    assert_eq!(value(count, "count"), up_to_bound, "{name}");
}

#[test]
fn gauges_return_to_zero_when_clients_leave() {
    let server = TestServer::start(&[]);
    let clients: Vec<_> = (0..5)
        .map(|n| server.client_at(&format!("/ws?room=r{n}")))
        .collect();
    let idle: Vec<_> = (0..3).map(|_| server.raw()).collect();
    let full = wait_for("all are counted", || {
        let stats = server.stats();
        (stats["connections"] == 9).then_some(stats)
    });
    assert_eq!(full["connected_clients"], 5);
    for (n, client) in clients.into_iter().enumerate() {
        match n % 2 {
            0 => client.close(),
            _ => drop(client),
        }
    }
    drop(idle);
    wait_until("only the connection that asks is left", || {
        let text = server.raw().get("/metrics").text();
        let is = |line: &str| text.lines().any(|l| l == line);
        is("wscast_clients 0") && is("wscast_connections 1") && is("wscast_lagging_clients 0")
    });
    assert_eq!(server.get_json("/rooms"), json!({"rooms": [], "total": 0}));
}
