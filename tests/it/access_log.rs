//! `--access-log` and `--log-format json`: one line for each request, valid JSON, and no secret in it.

use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{TestServer, USAGE, program, request, run, wait_for, wait_until};

/// Returns the access lines of a JSON log so far. Every line of the log must be a JSON object.
fn accesses(server: &TestServer) -> Vec<Value> {
    let log = server.log();
    let whole = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    let lines = whole.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        for field in ["time", "level", "thread", "message"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
        line
    });
    lines.filter(|line| line["message"] == "access").collect()
}

/// Waits for the access line of a path.
fn access_of(server: &TestServer, path: &str) -> Value {
    wait_for(&format!("{path} is logged"), || {
        accesses(server)
            .into_iter()
            .find(|line| line["path"] == path)
    })
}

#[test]
fn each_request_is_one_line_of_json() {
    let server = TestServer::start(&["--log-format=json", "--access-log", "--log-level=info"]);
    let agent = "User-Agent: curl/8.5.0";
    server.raw().request("GET", "/rooms?token=SECRET", &[agent]);
    let line = access_of(&server, "/rooms");
    assert_eq!(
        (&line["level"], &line["address"], &line["method"]),
        (&json!("info"), &json!("127.0.0.1"), &json!("GET"))
    );
    assert_eq!(
        (&line["status"], &line["agent"]),
        (&json!(200), &json!("curl/8.5.0"))
    );
    assert!(line["bytes"].as_u64() > Some(100), "{line}");
    assert!(line["duration_ms"].as_f64() >= Some(0.0), "{line}");
    assert_eq!(line.get("user"), None, "{line}");
    server.raw().request("GET", "/none/a%2Fb%20c%22", &[]);
    assert_eq!(access_of(&server, "/none/a%2Fb%20c%22")["status"], 404);
    for path in ["/none/a;token=SECRET", "/none/a%3Ftoken=SECRET/b"] {
        server.raw().request("GET", path, &[]);
    }
    wait_until("both are logged", || {
        let mut lines = accesses(&server);
        lines.retain(|line| line["path"] == "/none/a");
        lines.len() == 2
    });
    server.raw().request("DELETE", "/health", &[]);
    let line = access_of(&server, "/health");
    assert_eq!(
        (&line["status"], &line["method"]),
        (&json!(405), &json!("DELETE"))
    );
    assert_eq!(accesses(&server).len(), 5);
    assert!(!server.log().contains("SECRET"));
}

#[test]
fn end_of_a_stream_is_one_line() {
    let server = TestServer::start(&["--log-format=json", "--access-log"]);
    let client = server.client_at("/ws?room=ops&token=SECRET");
    let mut events = server.raw();
    events.send(request("GET", "/rooms/ops/events", &[]));
    wait_until("both are members", || server.members("ops") == 2);
    assert!(accesses(&server).iter().all(|line| line["path"] != "/ws"));
    client.close();
    let line = access_of(&server, "/ws");
    assert_eq!(line["status"], 101);
    assert!(line["duration_ms"].as_f64() > Some(0.0), "{line}");
    drop(events);
    assert_eq!(access_of(&server, "/rooms/ops/events")["status"], 200);
}

#[test]
fn line_names_the_user_of_a_token() {
    let server = TestServer::with_tokens(&["--log-format=json", "--access-log"]);
    let granted = json!({"sub": "alice", "subscribe": ["*"], "publish": ["*"]});
    let token = signed(SECRET, &claims(granted));
    let bearer = format!("Authorization: Bearer {token}");
    server
        .raw()
        .request("GET", "/rooms/ops/messages", &[&bearer]);
    assert_eq!(access_of(&server, "/rooms/ops/messages")["user"], "alice");
    server.client_at(&format!("/ws?token={token}")).close();
    assert_eq!(access_of(&server, "/ws")["user"], "alice");
    server.raw().request(
        "GET",
        "/rooms/x/messages",
        &["Authorization: Bearer SECRET"],
    );
    let line = access_of(&server, "/rooms/x/messages");
    assert_eq!((&line["status"], line.get("user")), (&json!(401), None));
    assert!(!server.log().contains(&token));
    assert!(!server.log().contains("SECRET"));
}

// Clients put quotes, control characters, other alphabets and very long texts into paths and headers.
// Invariant: each line of the log is JSON of bounded length.
#[test]
fn hostile_requests_are_lines_of_json_of_bounded_length() {
    let server = TestServer::start(&["--log-format=json", "--access-log", "--log-level=trace"]);
    let long = "x".repeat(9000);
    let targets = [
        "/%22%0a%0d%00%7f",
        "/%E6%88%BF%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80",
        "/%ff%fe",
        "//..//.",
        "/\\\"}{",
        &format!("/{long}"),
    ];
    for target in targets {
        for agent in ["\"}, {\"", "a\tb", "caf\u{e9} \u{202e}x", &long] {
            let mut raw = server.raw();
            raw.send(request("GET", target, &[&format!("User-Agent: {agent}")]));
            raw.response();
        }
    }
    let mut garbage = server.raw();
    garbage.send("SECRET\r\n\r\n");
    assert_eq!(garbage.response().status, 400);
    let lines = wait_for("all are logged", || {
        let lines = accesses(&server);
        (lines.len() > targets.len() * 4).then_some(lines)
    });
    assert!(lines.iter().all(|line| line.to_string().len() < 2000));
    assert!(
        lines
            .iter()
            .any(|line| line["path"] == "-" && line["status"] == 400)
    );
    assert!(!server.log().contains("SECRET"));
}

#[test]
fn text_log_has_a_line_for_each_request_only_if_asked() {
    let server = TestServer::start(&["--access-log", "--log-level=info"]);
    let agent = "User-Agent: a \"quoted\" agent";
    server.raw().request("GET", "/rooms?token=SECRET", &[agent]);
    wait_until("the request is logged", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("GET /rooms 200 "));
        line.is_some_and(|line| {
            line.contains("[INFO]")
                && line.contains(" 127.0.0.1 GET /rooms 200 ")
                && line.contains(" bytes ")
                && line.ends_with(" ms user - agent \"a \\\"quoted\\\" agent\"")
        })
    });
    assert!(!server.log().contains("SECRET"));
    let server = TestServer::start(&["--log-level=trace"]);
    server.raw().get("/rooms");
    server.client().close();
    server.wait_for_clients(0);
    assert!(!server.log().contains("GET /rooms"), "{}", server.log());
}

#[test]
fn unknown_format_is_refused() {
    let ended = run(program().arg("--log-format=xml"));
    let line = ended.only_line();
    assert_eq!(ended.code, USAGE, "{line}");
    assert!(
        line.contains("--log-format \"xml\": write text or json"),
        "{line}"
    );
}
