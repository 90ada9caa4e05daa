//! Redis refuses: it is full, a replica, has another password, or is down.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    FAILURE, RawConnection, TestClient, TestServer, handshake, request, run, wait_for, wait_until,
    with_durable_redis, with_redis, with_redis_args,
};

fn publish(node: &TestServer) -> (u16, Value) {
    let body = json!({"type": "message", "payload": "x".repeat(100)});
    let response = node.post("/rooms/lobby/messages", &body);
    (response.status, response.json())
}

fn wait_for_refusal(node: &TestServer, reason: &str) {
    wait_until("publishes are refused", || {
        let (status, body) = publish(node);
        assert!([201, 503].contains(&status), "{body}");
        status == 503 && body["error"]["code"] == "storage_unavailable"
    });
    wait_until("health gives the reason", || {
        let health = node.raw().get("/health");
        let body = health.json();
        let gives_reason = body["message"].as_str().expect("message").contains(reason);
        health.status == 503 && body["status"] == "degraded" && gives_reason
    });
}

fn wait_for_recovery(node: &TestServer) {
    wait_until("publishes are stored again", || publish(node).0 == 201);
    node.wait_for_health(200);
    wait_until("the log reports the end of each fault", || {
        let log = node.log();
        let count = |what: &str| log.matches(what).count();
        count("publishes are refused: ") == count("the store works again")
            && count("are not received from Redis: ") == count("received from Redis again")
    });
}

/// Asserts that clients connect, read history and get pongs.
fn assert_all_else_works(node: &TestServer) {
    let mut bob = node.client();
    bob.send_json(json!({"type": "history", "room": "lobby", "limit": 1}));
    let page = bob.next_of("history")["payload"].clone();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
    bob.send_json(json!({"type": "ping"}));
    bob.next_of("pong");
}

/// While `refuse` holds, publishes are refused with this reason and all else works; after `accept` publishes work too.
fn assert_refused_until(refuse: &[&str], reason: &str, accept: &[&str]) {
    with_redis(|redis| {
        let node = redis.node(&[]);
        let mut alice = node.client();
        alice.say("before");
        alice.expect("before");
        redis.command::<()>(refuse);
        wait_for_refusal(&node, reason);
        assert_all_else_works(&node);
        redis.command::<()>(accept);
        wait_for_recovery(&node);
        assert_eq!(alice.next_of("message")["offset"], 2);
    });
}

#[test]
fn full_redis_refuses_publishes_and_recovers() {
    let maxmemory = |bytes| ["CONFIG", "SET", "maxmemory", bytes];
    assert_refused_until(&maxmemory("1"), "OOM", &maxmemory("0"));
}

#[test]
fn node_does_not_subscribe_to_rooms_that_a_full_redis_refuses() {
    with_redis(|redis| {
        let node = redis.node(&[]);
        let mut alice = node.client();
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        for n in 0..20 {
            alice.send_json(json!({"type": "join", "room": format!("room-{n}")}));
            assert_eq!(alice.expect_error(), "storage_unavailable");
        }
        wait_until("the node is subscribed only to rooms with members", || {
            let channels: Vec<String> = redis.command(&["PUBSUB", "CHANNELS", "wscast:{*"]);
            channels == ["wscast:{lobby}:live"]
        });
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        alice.join("room-7");
        alice.say_in("room-7", "accepted");
        alice.expect("accepted");
    });
}

/// A key of another type has the name of the room's log.
#[test]
fn refused_message_is_stored_when_it_is_sent_again() {
    with_redis(|redis| {
        let node = redis.node(&[]);
        let publish = || {
            let body = json!({"type": "message", "payload": "kept", "id": "7"});
            let target = "/rooms/ops/messages?session=a-session-chosen-at-random";
            node.post(target, &body)
        };
        node.post(
            "/rooms/ops/messages",
            &json!({"type": "message", "payload": "first"}),
        );
        redis.command::<()>(&["SET", "wscast:{ops}:log", "something else"]);
        assert_eq!(publish().status, 503);
        redis.command::<()>(&["DEL", "wscast:{ops}:log"]);
        let position = publish().json();
        let page = node.get_json("/rooms/ops/messages");
        assert_eq!(page["messages"][0]["payload"], "kept", "{position} {page}");
        assert_eq!((&position["offset"], &page["last"]), (&json!(2), &json!(2)));
    });
}

/// Pooled connections are used in turn, and none of them has noticed that Redis was down.
#[test]
fn every_read_succeeds_once_redis_is_back() {
    with_durable_redis(|mut redis| {
        let node = redis.node(&[]);
        assert_eq!(publish(&node).0, 201);
        let ask = || node.raw().get("/rooms/lobby/messages").status;
        (0..8).for_each(|_| assert_eq!(ask(), 200));
        redis.kill();
        node.wait_for_health(503);
        // The delay before each retry grows.
        wait_until("every read is refused", || {
            let refused = (0..50).filter(|_| ask() == 503).count();
            refused == 50
        });
        redis.restart();
        wait_for_recovery(&node);
        (0..20).for_each(|n| assert_eq!(ask(), 200, "read {n}"));
        // The pooled connections do not notice that they were killed, either.
        redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal"]);
        (0..20).for_each(|n| assert_eq!(ask(), 200, "read {n} after the kill"));
    });
}

#[test]
fn redis_that_becomes_a_replica_refuses_publishes_until_promoted() {
    // The named master does not exist, so the replica keeps its data.
    let replica_of = |host, port| ["REPLICAOF", host, port];
    assert_refused_until(
        &replica_of("127.0.0.1", "1"),
        "READONLY",
        &replica_of("NO", "ONE"),
    );
}

#[test]
fn changed_password_refuses_publishes_until_it_is_reset() {
    with_redis(|redis| {
        let node = redis.node(&[]);
        let mut alice = node.client();
        redis.command::<()>(&["CONFIG", "SET", "requirepass", "another"]);
        let url = format!("redis://:another@127.0.0.1:{}", redis.port());
        let mut connection = redis::Client::open(url)
            .expect("url")
            .get_connection()
            .expect("redis");
        redis::cmd("CLIENT")
            .arg(&["KILL", "SKIPME", "yes"])
            .exec(&mut connection)
            .expect("kill");
        wait_for_refusal(&node, "NOAUTH");
        alice.send_json(json!({"type": "ping"}));
        alice.next_of("pong");
        redis::cmd("CONFIG")
            .arg(&["SET", "requirepass", ""])
            .exec(&mut connection)
            .expect("set");
        wait_for_recovery(&node);
        alice.skip_to("message");
    });
}

// Actors: Alice, who is in the lobby; new clients that connect, join and resume.
// Faults: Redis is killed and started again.
// Invariants: rooms with members on the node can be joined; others are refused; a gap that cannot be read is 1013.
#[test]
fn client_joins_known_rooms_while_redis_is_down_and_is_refused_others() {
    with_durable_redis(|mut redis| {
        let node = redis.node(&[]);
        let mut alice = node.client();
        let epoch = alice.welcome().room("lobby").epoch;
        alice.say("before");
        alice.expect("before");
        redis.kill();
        node.wait_for_health(503);
        // A room with members on this node needs no Redis, and the node knows that nothing was missed.
        let bob = node.client_at(&format!("/ws?since=1&epoch={epoch}"));
        assert_eq!(bob.welcome().room("lobby").recovered, Some(true));
        // A room without members on this node needs Redis.
        let mut raw = node.raw();
        raw.send(handshake("/ws?room=unknown"));
        let refused = raw.response();
        assert_eq!(
            (refused.status, refused.error_code().as_str()),
            (503, "storage_unavailable")
        );
        alice.send_json(json!({"type": "join", "room": "unknown", "id": "j"}));
        assert_eq!(
            alice.next_of("error")["payload"]["code"],
            "storage_unavailable"
        );
        // The missed messages cannot be read now, which is not the same as lost: close code 1013, not `recovered: false`.
        let mut carol = RawConnection::connect(node.address());
        carol.upgrade(&format!("/ws?since=0&epoch={epoch}"));
        assert_eq!(carol.close_code(), 1013);
        // An event stream ends after an error for both reasons, so that an `EventSource` comes back.
        let refused = node.raw().get("/rooms/unknown/events");
        assert_eq!(refused.refused_stream()["code"], "storage_unavailable");
        for id in ["0".to_owned(), format!("{epoch}-0")] {
            let mut stream = RawConnection::connect(node.address());
            stream.send(request(
                "GET",
                &format!("/rooms/lobby/events?lastEventId={id}"),
                &[],
            ));
            let text = stream.read_to_end();
            assert!(
                text.contains("event: error") && text.contains("storage_unavailable"),
                "{text}"
            );
            assert!(!text.contains("event: joined"), "{text}");
        }
        redis.restart();
        wait_for_recovery(&node);
        let target = format!("/ws?since=0&epoch={epoch}");
        let carol = wait_for("history can be read again", || {
            TestClient::try_connect(node.address(), &target)
        });
        assert_eq!(carol.welcome().room("lobby").recovered, Some(true));
    });
}

/// The token is valid, so the close code must make the client reconnect.
#[test]
fn client_that_sends_its_token_while_redis_is_down_is_closed_with_1013() {
    with_redis(|mut redis| {
        let mut command = TestServer::command(&["--redis", &redis.url()]);
        command.env("SECRET_KEY", SECRET);
        let node = TestServer::start_command(command);
        redis.kill();
        node.wait_for_health(503);
        let mut raw = RawConnection::connect(node.address());
        raw.upgrade("/ws?room=ops");
        let auth = json!({"type": "auth", "token": signed(SECRET, &claims(json!({})))});
        raw.send_frame(true, 1, auth.to_string().as_bytes());
        let error = raw.frame().expect("an error");
        let error: Value = serde_json::from_slice(&error.payload).expect("JSON");
        assert_eq!(error["payload"]["code"], "storage_unavailable", "{error}");
        assert_eq!(raw.close_code(), 1013);
    });
}

/// Starts a node that must not start, and returns the last line of its log.
fn start_that_fails(url: &str) -> String {
    let ended = run(&mut TestServer::command(&["--redis", url]));
    let stderr = &ended.stderr;
    assert_eq!(
        (ended.code, &*ended.stdout),
        (FAILURE, ""),
        "{url}: {stderr}"
    );
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("wscast: --redis"), "{stderr}");
    assert!(!stderr.contains("sesame"), "{stderr}");
    last.to_owned()
}

#[test]
fn start_without_redis_fails_with_one_line() {
    with_redis_args(&["--requirepass", "open-sesame"], |redis| {
        let refused = start_that_fails("redis://127.0.0.1:1");
        assert!(
            refused.contains("127.0.0.1:1") && refused.contains("refused"),
            "{refused}"
        );
        let port = redis.port();
        let wrong = start_that_fails(&format!("redis://:sesame@127.0.0.1:{port}"));
        assert!(wrong.contains("assword"), "{wrong}");
        let none = start_that_fails(&format!("redis://127.0.0.1:{port}"));
        assert!(none.contains("NOAUTH"), "{none}");
        let nonsense = start_that_fails("http://127.0.0.1:6379");
        assert!(nonsense.contains("redis://host:6379"), "{nonsense}");
    });
}

// Faults: Redis hangs, and nothing is published meanwhile.
#[test]
fn node_whose_redis_hangs_is_live_but_not_ready() {
    with_redis(|redis| {
        let node = redis.node(&[]);
        let probe = |path: &str| {
            let response = node.raw().get(path);
            (response.status, response.json())
        };
        assert_eq!(probe("/health/ready").0, 200);
        redis.signal(Signal::STOP);
        let body = wait_for("not ready", || {
            let (status, body) = probe("/health/ready");
            (status == 503).then_some(body)
        });
        assert_eq!(body["status"], "not_ready");
        assert_eq!(body["parts"]["broadcaster"], true, "{body}");
        assert_eq!(body["parts"]["store"], false, "{body}");
        assert_eq!(probe("/health/live").0, 200);
        redis.signal(Signal::CONT);
        wait_until("ready again", || probe("/health/ready").0 == 200);
    });
}
