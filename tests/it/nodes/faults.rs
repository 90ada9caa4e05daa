//! A Redis that refuses: full, only a replica, with another password, or not there at the start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{RawConnection, TestRedis, TestServer, eventually, handshake};

fn publish(node: &TestServer) -> (u16, Value) {
    let body = json!({"type": "message", "payload": "x".repeat(100)});
    let response = node.post("/rooms/lobby/messages", &body);
    (response.status, response.json())
}

fn await_refusal(node: &TestServer, reason: &str) {
    eventually("publishes are refused", || {
        let (status, body) = publish(node);
        assert!([201, 503].contains(&status), "{body}");
        (status == 503 && body["error"]["code"] == "storage_unavailable").then_some(())
    });
    eventually("health says why", || {
        let health = node.raw().get("/health");
        let body = health.json();
        let says = body["message"].as_str().expect("message").contains(reason);
        (health.status == 503 && body["status"] == "degraded" && says).then_some(())
    });
}

fn await_recovery(node: &TestServer) {
    eventually("publishes are stored again", || {
        (publish(node).0 == 201).then_some(())
    });
    node.await_health(200);
    eventually("the log says that each fault is over", || {
        let log = node.log();
        let told = |what: &str| log.matches(what).count();
        let all = told("publishes are refused: ") == told("the store works again")
            && told("where they stay stored: ") == told("come back from Redis again");
        all.then_some(())
    });
}

/// Who is there stays, reads history and joins rooms that are known here.
fn assert_others_go_on(node: &TestServer) {
    let mut bob = node.client();
    bob.send(json!({"type": "history", "room": "lobby", "limit": 1}));
    let page = bob.next_of("history")["payload"].clone();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
    bob.send(json!({"type": "ping"}));
    bob.next_of("pong");
}

/// While Redis refuses, for this reason, publishes are refused and all else goes on; then as well.
fn refuses_until(refuses: &[&str], reason: &str, takes: &[&str]) {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let node = redis.node(&[]);
    let mut alice = node.client();
    alice.say("before");
    alice.expect("before");
    redis.ask::<()>(refuses);
    await_refusal(&node, reason);
    assert_others_go_on(&node);
    redis.ask::<()>(takes);
    await_recovery(&node);
    assert_eq!(alice.next_of("message")["offset"], 2);
}

#[test]
fn a_full_redis_refuses_publishes_and_recovers() {
    let maxmemory = |bytes| ["CONFIG", "SET", "maxmemory", bytes];
    refuses_until(&maxmemory("1"), "OOM", &maxmemory("0"));
}

#[test]
fn rooms_that_a_full_redis_refuses_are_not_listened_to() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let node = redis.node(&[]);
    let mut alice = node.client();
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    for n in 0..20 {
        alice.send(json!({"type": "join", "room": format!("room-{n}")}));
        assert_eq!(alice.expect_error(), "storage_unavailable");
    }
    eventually("only what has members is listened to", || {
        let channels: Vec<String> = redis.ask(&["PUBSUB", "CHANNELS", "wscast:{*"]);
        (channels == ["wscast:{lobby}:live"]).then_some(())
    });
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    alice.join("room-7");
    alice.say_in("room-7", "taken");
    alice.expect("taken");
}

/// Something else has the name of a room's log.
#[test]
fn a_message_that_could_not_be_stored_is_not_acknowledged_when_it_is_sent_again() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
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
    redis.ask::<()>(&["SET", "wscast:{ops}:log", "something else"]);
    assert_eq!(publish().status, 503);
    redis.ask::<()>(&["DEL", "wscast:{ops}:log"]);
    let place = publish().json();
    let page = node.get_json("/rooms/ops/messages");
    assert_eq!(page["messages"][0]["payload"], "kept", "{place} {page}");
    assert_eq!((&place["offset"], &page["last"]), (&json!(2), &json!(2)));
}

/// Links for reading are used by turns, and none of them knows that Redis was away.
#[test]
fn a_redis_that_is_back_answers_every_question_at_once() {
    let Some(mut redis) = TestRedis::start_durable() else {
        return;
    };
    let node = redis.node(&[]);
    assert_eq!(publish(&node).0, 201);
    let ask = || node.raw().get("/rooms/lobby/messages").status;
    (0..8).for_each(|_| assert_eq!(ask(), 200));
    redis.kill();
    node.await_health(503);
    // They wait longer from try to try.
    eventually("nobody is answered", || {
        let refused = (0..50).filter(|_| ask() == 503).count();
        (refused == 50).then_some(())
    });
    redis.start_again();
    await_recovery(&node);
    (0..20).for_each(|n| assert_eq!(ask(), 200, "question {n}"));
    // Nor do they know when their connections are cut.
    redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    (0..20).for_each(|n| assert_eq!(ask(), 200, "question {n} after the cut"));
}

#[test]
fn a_redis_that_becomes_a_replica_refuses_publishes_until_it_is_none() {
    // Of a server that is not there, so that it keeps what it has.
    let replica_of = |host, port| ["REPLICAOF", host, port];
    refuses_until(
        &replica_of("127.0.0.1", "1"),
        "READONLY",
        &replica_of("NO", "ONE"),
    );
}

#[test]
fn a_password_that_is_changed_shuts_out_until_it_is_the_same_again() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let node = redis.node(&[]);
    let mut alice = node.client();
    redis.ask::<()>(&["CONFIG", "SET", "requirepass", "another"]);
    let url = format!("redis://:another@127.0.0.1:{}", redis.port());
    let mut connection = redis::Client::open(url)
        .expect("url")
        .get_connection()
        .expect("redis");
    redis::cmd("CLIENT")
        .arg(&["KILL", "SKIPME", "yes"])
        .exec(&mut connection)
        .expect("kill");
    await_refusal(&node, "NOAUTH");
    alice.send(json!({"type": "ping"}));
    alice.next_of("pong");
    redis::cmd("CONFIG")
        .arg(&["SET", "requirepass", ""])
        .exec(&mut connection)
        .expect("set");
    await_recovery(&node);
    while alice.next()["type"] != "message" {}
}

#[test]
fn who_joins_while_redis_is_away_is_in_rooms_that_are_known_here_and_told_of_others() {
    let Some(mut redis) = TestRedis::start_durable() else {
        return;
    };
    let node = redis.node(&[]);
    let mut alice = node.client();
    let epoch = alice.welcome()["rooms"][0]["epoch"]
        .as_str()
        .expect("epoch")
        .to_owned();
    alice.say("before");
    alice.expect("before");
    redis.kill();
    node.await_health(503);
    // A room with members here needs no Redis; where nothing was missed, that is certain.
    let bob = node.client_at(&format!("/ws?since=1&epoch={epoch}"));
    assert_eq!(bob.welcome()["rooms"][0]["recovered"], true);
    // A room that nobody here is in does.
    let mut raw = node.raw();
    raw.send(handshake("/ws?room=unknown"));
    let refused = raw.response();
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (503, "storage_unavailable")
    );
    alice.send(json!({"type": "join", "room": "unknown", "id": "j"}));
    assert_eq!(
        alice.next_of("error")["payload"]["code"],
        "storage_unavailable"
    );
    // What was missed cannot be known: that is not the same as lost.
    let mut carol = RawConnection::connect(node.address());
    carol.upgrade(&format!("/ws?since=0&epoch={epoch}"));
    assert_eq!(carol.close_code(), 1013);
    redis.start_again();
    await_recovery(&node);
    let target = format!("/ws?since=0&epoch={epoch}");
    let welcome = eventually("history can be read again", || {
        let mut carol = RawConnection::connect(node.address());
        carol.upgrade(&target);
        let first = carol.frame()?;
        (first.opcode == 1).then(|| serde_json::from_slice::<Value>(&first.payload).expect("JSON"))
    });
    assert_eq!(welcome["rooms"][0]["recovered"], true, "{welcome}");
}

/// Its token is good; it is to come again, not to stay away.
#[test]
fn who_sends_its_token_while_redis_is_away_is_told_to_come_again() {
    let Some(mut redis) = TestRedis::start() else {
        return;
    };
    let mut command = TestServer::command(&["--redis", &redis.url()]);
    command.env("SECRET_KEY", SECRET);
    let node = TestServer::start_command(command);
    redis.kill();
    node.await_health(503);
    let mut raw = RawConnection::connect(node.address());
    raw.upgrade("/ws?room=ops");
    let auth = json!({"type": "auth", "token": signed(SECRET, &claims(json!({})))});
    raw.send_frame(true, 1, auth.to_string().as_bytes());
    let error = raw.frame().expect("an error");
    let error: Value = serde_json::from_slice(&error.payload).expect("JSON");
    assert_eq!(error["payload"]["code"], "storage_unavailable", "{error}");
    assert_eq!(raw.close_code(), 1013);
}

fn start_that_fails(url: &str) -> String {
    let mut command: Command = TestServer::command(&["--redis", url]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let ended = catch_unwind(AssertUnwindSafe(|| {
        eventually("the start fails", || child.try_wait().expect("wait"))
    }));
    let _ended_already = child.kill();
    let stderr = child.wait_with_output().expect("output").stderr;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let status = ended.unwrap_or_else(|_| panic!("{url}: started: {stderr}"));
    assert_eq!(status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("wscast: --redis"), "{stderr}");
    assert!(!stderr.contains("sesame"), "{stderr}");
    last.to_owned()
}

#[test]
fn a_start_without_redis_is_one_line() {
    let Some(redis) = TestRedis::start_with(&["--requirepass", "open-sesame"]) else {
        return;
    };
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
}
