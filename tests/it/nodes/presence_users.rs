//! Lists of members name the users of clients on other nodes, and earlier nodes, which report none, can be among them.

use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, ops_with_claims, signed};
use crate::support::{TestRedis, TestServer, wait_for, with_redis};

fn node(redis: &TestRedis) -> TestServer {
    TestServer::with_tokens(&["--redis", &redis.url()])
}

fn token_of(user: Value) -> String {
    signed(SECRET, &claims(json!({"sub": user})))
}

fn target_of(user: Value) -> String {
    ops_with_claims(json!({"sub": user}))
}

/// Returns the members of `ops` as `(client, user)`, sorted by client, once there are `members`.
fn listed(node: &TestServer, members: usize) -> Vec<(String, Value)> {
    let path = format!("/rooms/ops?token={}", token_of(json!("alice")));
    let clients = wait_for("all members are known", || {
        let detail = node.get_json(&path);
        (detail["members"] == members).then(|| detail["clients"].clone())
    });
    let client = |client: &Value| {
        let id = client["client"].as_str().expect("an id").to_owned();
        (id, client["user"].clone())
    };
    let mut listed: Vec<_> = clients
        .as_array()
        .expect("a list")
        .iter()
        .map(client)
        .collect();
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    listed
}

#[test]
fn users_are_named_across_nodes() {
    with_redis(|redis| {
        let nodes = [node(&redis), node(&redis)];
        // The user of the fourth client reads like another client's id.
        let here = [json!("alice"), json!("alice"), json!(null)];
        let there = [
            json!("c00000001-1"),
            json!("user:\"王\""),
            json!("u".repeat(128)),
        ];
        let mut expected = Vec::new();
        let mut clients = Vec::new();
        for (node, users) in nodes.iter().zip([here, there]) {
            for user in users {
                let client = node.client_at(&target_of(user.clone()));
                expected.push((client.id(), user));
                clients.push(client);
            }
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        for node in &nodes {
            assert_eq!(listed(node, expected.len()), expected);
        }
        // A node that starts later reads the same from Redis.
        assert_eq!(listed(&node(&redis), expected.len()), expected);
    });
}

// Actors: a node, and an older node that is played by writing to Redis by hand.
// Invariants: members of the older node are listed without users; its format of reports still parses ours.
#[test]
fn node_that_reports_ids_only_understands_and_is_understood() {
    with_redis(|redis| {
        let new = node(&redis);
        let alice = new.client_at(&target_of(json!("alice")));
        let alices_tab = new.client_at(&target_of(json!("alice")));
        // An old node reports plain ids: one that is known from Redis, and then one more by a message.
        let old = "00000000000000aa";
        let far_future = "99999999999999";
        redis.command::<u64>(&["ZADD", "wscast:{ nodes}", far_future, old]);
        let key = format!("wscast:{{ nodes}}:{old}");
        redis.command::<u64>(&["HSET", &key, "ops", r#"[1,["c000000aa-1"]]"#]);
        let mut expected = vec![
            (alice.id(), json!("alice")),
            (alices_tab.id(), json!("alice")),
            ("c000000aa-1".to_owned(), Value::Null),
        ];
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(listed(&new, 3), expected);
        let report = json!({"node": old, "rooms": {"ops": [2, ["c000000aa-1", "c000000aa-2"]]}});
        redis.command::<u64>(&["PUBLISH", "wscast: presence", &report.to_string()]);
        expected.push(("c000000aa-2".to_owned(), Value::Null));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(listed(&new, 4), expected);

        // The old node parses `[count, [text, …]]` and ignores texts that are not client ids.
        let report = wait_for("the new node reports both", || {
            let keys: Vec<String> = redis.command(&["KEYS", "wscast:{ nodes}:*"]);
            let new_key = keys.iter().find(|name| **name != key)?;
            let text: Option<String> = redis.command(&["HGET", new_key, "ops"]);
            let report: (u64, Option<Vec<String>>) =
                serde_json::from_str(&text?).expect("a count and texts");
            (report.0 == 2).then_some(report)
        });
        let mut ids = report.1.expect("a list");
        ids.retain(|text| text.starts_with('c'));
        ids.sort();
        let mut own = [alice.id(), alices_tab.id()];
        own.sort();
        assert_eq!(ids, own);
    });
}
