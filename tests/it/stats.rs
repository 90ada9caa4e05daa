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

// Every metric has three lines: HELP, TYPE and a value. Names are unique; counters end in `_total`.
// Five values are compared with what one client did.
#[test]
fn metrics_are_valid_prometheus_text() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.say("hi");
    alice.expect("hi");
    // Deliveries are counted after the whole batch was sent.
    let text = wait_for("the delivery is counted", || {
        let text = server.raw().get("/metrics").text();
        text.contains("wscast_messages_delivered_total 1\n")
            .then_some(text)
    });
    assert!(text.ends_with('\n'), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = Vec::new();
    assert_eq!(lines.len() % 3, 0, "{text}");
    for metric in lines.chunks(3) {
        let (name, value) = metric[2].split_once(' ').expect("name and value");
        assert!(name.starts_with("wscast_"), "{name}");
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "{name}"
        );
        assert!(
            value.parse::<f64>().is_ok_and(|value| value >= 0.0),
            "{name} {value}"
        );
        let help = metric[0]
            .strip_prefix(&format!("# HELP {name} "))
            .expect("help");
        assert!(!help.is_empty(), "{name}");
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
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
    ] {
        assert!(
            lines.contains(&format!("{name} {value}").as_str()),
            "{name} in {text}"
        );
    }
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
