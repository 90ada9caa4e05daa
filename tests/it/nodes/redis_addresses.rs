//! Addresses in `--redis`: users, passwords and databases.

use serde_json::json;

use crate::support::token::{SECRET, admin_bearer, claims, signed};
use crate::support::{
    FAILURE, TempDir, TestRedis, TestServer, run, wait_until, with_redis, with_redis_args,
};

const RIDDLE: &str = "a#b/c@d%e?f:g,h+i j";

fn publish(node: &TestServer, text: &str) -> u16 {
    let body = json!({"type": "message", "payload": text});
    node.post("/rooms/lobby/messages", &body).status
}

/// Adds a user with all rights.
fn add_user(redis: &TestRedis, user: &str, password: &str) {
    let secret = format!(">{password}");
    redis.command::<()>(&["ACL", "SETUSER", user, "on", &secret, "~*", "&*", "+@all"]);
}

#[test]
fn user_and_password_may_have_any_characters() {
    let dir = TempDir::new();
    let socket = dir.arg("redis.sock");
    with_redis_args(&["--unixsocket", &socket], |redis| {
        let port = redis.port();
        let password = RIDDLE.replace(' ', "_");
        add_user(&redis, "op#s/1", &password);
        add_user(&redis, "default", &password);
        let encoded = "a%23b%2Fc%40d%25e%3Ff%3Ag%2Ch%2bi_j";
        for url in [
            format!("redis://op#s/1:{password}@127.0.0.1:{port}"),
            format!("redis://:{password}@127.0.0.1:{port}/3/"),
            format!("redis://op%23s%2F1:{encoded}@127.0.0.1:{port}/"),
            format!("unix://{socket}?user=op%23s/1&pass={encoded}&db=3"),
            format!("unix:{socket}?pass={}", password.replace('#', "%23")),
        ] {
            let node = TestServer::start(&["--redis", &url]);
            assert_eq!(publish(&node, "stored"), 201, "{url}");
        }
    });
}

#[test]
fn user_of_the_example_has_the_permissions_that_a_node_needs() {
    let example = include_str!("../../../assets/deploy/redis.conf");
    let line = example
        .lines()
        .find(|line| line.starts_with("# user wscast "));
    let rules: Vec<&str> = line.expect("a user").split(' ').skip(2).collect();
    for database in ["", "/4"] {
        with_redis(|redis| {
            redis.command::<()>(&[&["ACL", "SETUSER"][..], &rules].concat());
            if !database.is_empty() {
                redis.command::<()>(&["ACL", "SETUSER", "wscast", "+select"]);
            }
            let url = format!(
                "redis://wscast:PASSWORD@127.0.0.1:{}{database}",
                redis.port()
            );
            let nodes = [0, 1].map(|_| TestServer::start(&["--redis", &url]));
            let mut alice = nodes[0].client();
            assert_eq!(publish(&nodes[1], "received"), 201);
            alice.expect("received");
            wait_until("members are counted", || nodes[1].members("lobby") == 1);
            assert_eq!(nodes[1].get_json("/rooms/lobby/messages")["last"], 1);
            let denied: Vec<redis::Value> = redis.command(&["ACL", "LOG"]);
            assert!(denied.is_empty(), "{denied:?}");
        });
    }
}

#[test]
fn empty_password_is_no_password() {
    with_redis(|redis| {
        let url = format!("redis://:@127.0.0.1:{}/", redis.port());
        assert_eq!(
            publish(&TestServer::start(&["--redis", &url]), "stored"),
            201
        );
    });
}

/// The line names the mistake and shows no part of the password, whichever part of the address is wrong.
#[test]
fn invalid_address_fails_with_one_line_without_the_password() {
    with_redis(|redis| {
        let port = redis.port();
        add_user(&redis, "ops", "right");
        for (url, part) in [
            (
                format!("redis://ops:SECRET@127.0.0.1:{port}"),
                "% is written as %25",
            ),
            (
                format!("redis://ops:SECRET%41@127.0.0.1:{port}"),
                "% is written as %25",
            ),
            (
                format!("redis://ops:SECRET#/@127.0.0.1:{port}/x"),
                "database",
            ),
            (format!("redis://ops:SECRET%ff@127.0.0.1:{port}"), "%25"),
            ("redis://:123#SECRET@127.0.0.1:1x".to_owned(), "port"),
            ("redis://SECRET@".to_owned(), "host is missing"),
            ("redi://:SECRET@127.0.0.1".to_owned(), "redis://"),
            (
                "unix:///tmp/redis.sock?pass=SECRET#SECRET".to_owned(),
                "%23",
            ),
        ] {
            let mut command = TestServer::command(&[]);
            let ended = run(command.env("WSCAST_REDIS", &url));
            assert_eq!(ended.code, FAILURE, "{url}: {}", ended.stderr);
            let line = ended.stderr.lines().last().expect("a line");
            assert!(line.contains(part), "{url}: {line}");
            assert!(!ended.stderr.contains("SECRET"), "{line}");
            // The port of Redis may have the same digits.
            let has_digits = url.contains("123#") && ended.stderr.contains("123");
            assert!(!has_digits, "{line}");
        }
    });
}

// Actors: Alice and an administrator on each of two nodes in different databases of one Redis, first 0 and 1, then
// 2 and 12, 5 and 7, some over a Unix socket; a third node in the first database.
// Invariants: members, messages, history and closed clients cross from node to node within a database only.
#[test]
fn databases_of_one_redis_share_nothing() {
    let dir = TempDir::new();
    let socket = dir.arg("redis.sock");
    with_redis_args(&["--unixsocket", &socket], |redis| {
        let tcp = |database: u8| format!("{}/{database}", redis.url());
        let unix = |database: u8| format!("unix://{socket}?db={database}");
        for (production, staging) in [(tcp(0), tcp(1)), (unix(2), unix(12)), (tcp(5), unix(7))] {
            let start = |url: &str| TestServer::with_tokens(&["--redis", url]);
            let (one, other, second) = (start(&production), start(&staging), start(&production));
            let token = signed(SECRET, &claims(json!({"subscribe": "*", "publish": "*"})));
            let connect = |node: &TestServer| node.client_at(&format!("/ws?token={token}"));
            let (mut here, mut there) = (connect(&one), connect(&other));
            let mut with_here = connect(&second);
            here.say("for production");
            here.expect("for production");
            with_here.expect("for production");
            there.say("for staging");
            assert_eq!(there.expect("for staging")["offset"], 1);
            let bearer = format!("Authorization: Bearer {token}");
            let members = |node: &TestServer| {
                let room = node.raw().request("GET", "/rooms/lobby", &[&bearer]);
                room.json()["members"].as_u64()
            };
            wait_until("members are counted over a database", || {
                members(&one) == Some(2) && members(&second) == Some(2)
            });
            assert_eq!(members(&other), Some(1));
            let nodes = |node: &TestServer| node.raw().request("GET", "/stats", &[&bearer]).json();
            assert_eq!(nodes(&other)["cluster"]["nodes"], 1);

            let close = |node: &TestServer| {
                let target = "/users/alice/clients";
                node.raw()
                    .request("DELETE", target, &[&admin_bearer()])
                    .json()
            };
            assert_eq!(close(&other), json!({"closed": 1}));
            assert_eq!(there.close_code(), 4003);
            here.say("still here");
            here.expect("still here");
            with_here.expect("still here");
            assert_eq!(close(&second), json!({"closed": 1, "nodes_notified": 1}));
            assert_eq!((here.close_code(), with_here.close_code()), (4003, 4003));
        }
    });
}
