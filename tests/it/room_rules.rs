//! `[[rooms]]`: rules for rooms by name. History, members, publishers, presence, sizes; the first match; a reload.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, now, signed};
use crate::support::{
    HookBehaviour, HookServer, TempDir, TestClient, TestServer, USAGE, hook_response, offsets,
    program, run, wait_until,
};

/// A server with rules for rooms, and perhaps with a database.
struct Ruled {
    dir: TempDir,
    server: TestServer,
}

impl Ruled {
    fn start(rules: &str, args: &[&str]) -> Self {
        Self::start_with_secret(rules, args, "")
    }

    fn start_with_secret(rules: &str, args: &[&str], secret: &str) -> Self {
        let dir = TempDir::new();
        fs::write(dir.path("wscast.toml"), rules).expect("write");
        let config = dir.arg("wscast.toml");
        let mut command = TestServer::command(&[&["--config", &config], args].concat());
        command.env("SECRET_KEY", secret);
        let server = TestServer::start_command(command);
        Self { dir, server }
    }

    /// Runs a scenario with history in memory, then with history in a database.
    fn with_each_store(rules: &str, scenario: impl Fn(&Self)) {
        scenario(&Self::start(rules, &[]));
        let dir = TempDir::new();
        scenario(&Self::start(rules, &["--db", &dir.arg("history.db")]));
    }

    /// Writes other rules, sends SIGHUP and waits until they count.
    fn reload(&self, rules: &str) {
        let reloads = || self.server.log().matches("reloaded: settings").count();
        let before = reloads();
        fs::write(self.dir.path("wscast.toml"), rules).expect("write");
        self.server.signal(Signal::HUP);
        wait_until("the rules are reloaded", || reloads() > before);
    }

    fn history(&self, room: &str) -> Value {
        let path = format!("/rooms/{room}/messages?since=0");
        self.server.get_json(&path)
    }

    /// Publishes to a room over WebSocket and over HTTP, and checks which of them the room's rule lets through.
    fn check_publishing(&self, token: Option<&str>, room: &str, over_websocket: bool, http: u16) {
        let query = token.map_or_else(String::new, |token| format!("token={token}"));
        let mut client = self.server.client_at(&format!("/ws?room={room}&{query}"));
        client.send_json(json!({"type": "message", "room": room, "payload": 1, "id": "x"}));
        let answer = client.skip_to(if over_websocket { "ack" } else { "error" });
        if !over_websocket {
            assert_eq!(answer["payload"]["code"], "forbidden", "{room} {token:?}");
        }
        let body = json!({"type": "message", "payload": 2});
        let target = format!("/rooms/{room}/messages?{query}");
        let response = self.server.post(&target, &body);
        let text = response.text();
        assert_eq!(response.status, http, "{room} {token:?}: {text}");
    }
}

/// Publishes this many messages and awaits each.
fn publish(client: &mut TestClient, room: &str, count: u64) {
    for n in 0..count {
        client.publish_and_await_ack(
            &json!({"type": "message", "room": room, "payload": n, "id": format!("{room}{n}")}),
        );
    }
}

#[test]
fn rule_bounds_the_history_of_its_rooms_only() {
    let rules = "history-messages = 5\n\
        [[rooms]]\nmatch = 'none:*'\nhistory-messages = 0\n\
        [[rooms]]\nmatch = '*:few'\nhistory-messages = 2\n\
        [[rooms]]\nmatch = 'none:many'\nhistory-messages = 50\n\
        [[rooms]]\nmatch = 'many'\nhistory-messages = 8\n";
    Ruled::with_each_store(rules, |ruled| {
        // The first rule that matches counts.
        for (room, kept) in [
            ("none:a", 0),
            ("none:many", 0),
            ("a:few", 2),
            ("many", 8),
            ("other", 5),
        ] {
            let mut client = ruled.server.client_at(&format!("/ws?room={room}"));
            publish(&mut client, room, 10);
            let page = ruled.history(room);
            let expected: Vec<u64> = (11 - kept..=10).collect();
            assert_eq!(offsets(&page), expected, "{room}: {page}");
            assert_eq!(
                (&page["first"], &page["last"]),
                (&json!(11 - kept), &json!(10))
            );
        }
        // A client that missed messages of a room without history hears so; one that missed none does not.
        for (since, recovered) in [(9, false), (10, true)] {
            let epoch = ruled.history("none:a")["epoch"]
                .as_str()
                .expect("epoch")
                .to_owned();
            let target = format!("/ws?room=none:a&since={since}&epoch={epoch}");
            let client = ruled.server.client_at(&target);
            assert_eq!(
                client.welcome()["rooms"][0]["recovered"],
                recovered,
                "{since}"
            );
        }
    });
}

#[test]
fn rule_shortens_the_time_that_messages_are_kept() {
    let rules = "[[rooms]]\nmatch = 'short:*'\nhistory-age = '1s'\n\
        [[rooms]]\nmatch = 'zero'\nhistory-age = 0\n";
    Ruled::with_each_store(rules, |ruled| {
        let mut client = ruled
            .server
            .client_at("/ws?room=long&room=short:a&room=short:b&room=zero");
        for room in ["long", "short:a", "short:b", "zero"] {
            publish(&mut client, room, 3);
        }
        assert_eq!(offsets(&ruled.history("zero")), [0; 0]);
        for room in ["short:a", "short:b"] {
            wait_until("the messages have expired", || {
                offsets(&ruled.history(room)).is_empty()
            });
            assert_eq!(ruled.history(room)["last"], 3);
        }
        assert_eq!(offsets(&ruled.history("long")), [1, 2, 3]);
        publish(&mut client, "short:a", 1);
    });
}

#[test]
fn reload_prunes_existing_rooms_to_their_new_rule() {
    let rules = |kept: u32| format!("[[rooms]]\nmatch = 'a*'\nhistory-messages = {kept}\n");
    Ruled::with_each_store(&rules(20), |ruled| {
        let mut client = ruled.server.client_at("/ws?room=a1&room=b1");
        publish(&mut client, "a1", 10);
        publish(&mut client, "b1", 10);
        assert_eq!(offsets(&ruled.history("a1")).len(), 10);
        ruled.reload(&rules(3));
        wait_until("the room is pruned", || {
            offsets(&ruled.history("a1")) == [8, 9, 10]
        });
        assert_eq!(offsets(&ruled.history("b1")).len(), 10);
        ruled.reload(&rules(20));
        wait_until("the room keeps more", || {
            let target = "/rooms/a1/messages";
            ruled
                .server
                .post(target, &json!({"type": "message", "payload": 0}));
            offsets(&ruled.history("a1")).len() > 3
        });
    });
}

#[test]
fn rule_bounds_the_members_of_its_rooms() {
    let rules = "max-members-per-room = 2\n\
        [[rooms]]\nmatch = 'small*'\nmax-members = 1\n\
        [[rooms]]\nmatch = 'open'\nmax-members = 0\n";
    let ruled = Ruled::start(rules, &[]);
    let joins = |room: &str| {
        let mut client = ruled.server.client_at("/ws?room=own");
        client.send_json(json!({"type": "leave", "room": "own"}));
        client.next_of("left");
        client.send_json(json!({"type": "join", "room": room}));
        let answer = client.next();
        let code = answer["payload"]["code"].as_str().map(str::to_owned);
        (code, client)
    };
    let full = Some("room_full".to_owned());
    let members: Vec<_> = ["small1", "small2", "open", "open", "open", "a", "a"]
        .into_iter()
        .map(|room| {
            let (code, client) = joins(room);
            assert_eq!(code, None, "{room}");
            client
        })
        .collect();
    for room in ["small1", "small2", "a"] {
        assert_eq!(joins(room).0, full, "{room}");
    }
    // Members of before stay, and a seat more is granted at once.
    ruled.reload("[[rooms]]\nmatch = 'small*'\nmax-members = 2\n");
    assert_eq!(joins("small1").0, None);
    drop(members);
}

#[test]
fn rule_bounds_the_payloads_of_its_rooms() {
    let ruled = Ruled::start("[[rooms]]\nmatch = 'tiny'\nmax-message-bytes = 10\n", &[]);
    let mut client = ruled.server.client_at("/ws?room=tiny&room=other");
    // The quotes count.
    client.say_in("tiny", "12345678");
    client.expect("12345678");
    client.send_json(json!({"type": "message", "room": "tiny", "payload": "123456789", "id": "a"}));
    let error = client.next();
    assert_eq!(
        (&error["payload"]["code"], &error["id"]),
        (&json!("message_too_large"), &json!("a"))
    );
    client.say_in("other", "123456789");
    client.expect("123456789");
    let post = |room: &str, payload: &str| {
        let body = json!({"type": "message", "payload": payload});
        ruled.server.post(&format!("/rooms/{room}/messages"), &body)
    };
    assert_eq!(post("tiny", "12345678").status, 201);
    let refused = post("tiny", "123456789");
    assert_eq!(refused.status, 413);
    assert_eq!(refused.error_code(), "message_too_large");
    assert_eq!(post("other", "123456789").status, 201);
}

// Clients with every kind of identity publish to rooms with every rule, over WebSocket and over HTTP.
#[test]
fn rule_decides_who_publishes() {
    let rules = "anonymous = 'both'\n\
        [[rooms]]\nmatch = 'token'\npublish = 'token'\n\
        [[rooms]]\nmatch = 'server'\npublish = 'server'\n";
    let ruled = Ruled::start_with_secret(rules, &[], SECRET);
    let token = |publish: &[&str]| {
        signed(
            SECRET,
            &claims(json!({"subscribe": ["*"], "publish": publish})),
        )
    };
    let (all, none) = (token(&["*"]), token(&[]));
    for (token, room, over_websocket, over_http) in [
        (None, "free", true, 201),
        (None, "token", false, 403),
        (None, "server", false, 403),
        (Some(&*all), "free", true, 201),
        (Some(&*all), "token", true, 201),
        (Some(&*all), "server", false, 201),
        (Some(&*none), "token", false, 403),
        (Some(&*none), "server", false, 403),
    ] {
        ruled.check_publishing(token, room, over_websocket, over_http);
    }
}

// Actors: clients with claims of a backend that end or do not end, and one that the backend lets in without claims.
#[test]
fn claims_of_a_backend_count_as_a_token_with_and_without_exp() {
    let hook = HookServer::start(HookBehaviour::decide(|asked| {
        let mut rights = json!({"subscribe": "*", "publish": "*"});
        match asked.header("Authorization").unwrap_or_default() {
            "Bearer lasting" => {}
            "Bearer ending" => rights["exp"] = json!(now() + 600),
            _ => return hook_response(204, "", ""),
        }
        hook_response(200, "", &rights.to_string())
    }));
    let rules = "[[rooms]]\nmatch = 'token'\npublish = 'token'\n\
        [[rooms]]\nmatch = 'server'\npublish = 'server'\n";
    for secret in ["", SECRET] {
        let ruled = Ruled::start_with_secret(rules, &["--auth-url", &hook.url()], secret);
        for token in ["lasting", "ending"] {
            ruled.check_publishing(Some(token), "free", true, 201);
            ruled.check_publishing(Some(token), "token", true, 201);
            ruled.check_publishing(Some(token), "server", false, 201);
        }
        ruled.check_publishing(None, "free", true, 201);
        ruled.check_publishing(None, "token", false, 403);
        ruled.check_publishing(None, "server", false, 403);
    }
}

#[test]
fn rule_for_the_rooms_of_users_stands_before_a_rule_for_all_rooms() {
    let rules = "[[rooms]]\nmatch = '@*@example.com'\nhistory-messages = 1\n\
        [[rooms]]\nmatch = '@*'\nhistory-messages = 2\npublish = 'server'\n\
        [[rooms]]\nmatch = '*'\nhistory-messages = 3\n";
    let ruled = Ruled::start_with_secret(rules, &[], SECRET);
    let all = json!({"subscribe": ["*", "@*"], "publish": ["*", "@*"]});
    let token = signed(SECRET, &claims(all));
    for (room, over_websocket, kept) in [
        ("@bob@example.com", true, vec![5]),
        ("@alice", false, vec![3, 4]),
        ("@:Lw", false, vec![3, 4]),
        ("ops", true, vec![3, 4, 5]),
    ] {
        let target = format!("/rooms/{room}/messages?since=0&token={token}");
        for n in 0..3 {
            let body = json!({"type": "message", "payload": n});
            assert_eq!(ruled.server.post(&target, &body).status, 201, "{room}");
        }
        ruled.check_publishing(Some(&token), room, over_websocket, 201);
        let page = ruled.server.get_json(&target);
        assert_eq!(offsets(&page), kept, "{room}: {page}");
    }
}

#[test]
fn rule_hides_who_is_in_a_room() {
    let rules = "[[rooms]]\nmatch = 'hidden'\npresence = false\n";
    let ruled = Ruled::start(rules, &[]);
    let mut alice = ruled.server.client_at("/ws?room=hidden&room=shown");
    alice.send_json(json!({"type": "presence", "room": "hidden", "id": "p"}));
    assert_eq!(alice.expect_error(), "forbidden");
    alice.send_json(json!({"type": "presence", "room": "shown"}));
    assert_eq!(alice.next_of("presence")["payload"]["members"], 1);
    let mut bob = ruled.server.client();
    for room in ["hidden", "shown"] {
        bob.send_json(json!({"type": "join", "room": room, "presence": true}));
        bob.next_of("joined");
    }
    let room = ruled.server.get_json("/rooms/hidden");
    assert_eq!(
        (&room["members"], room.get("clients")),
        (&json!(2), None),
        "{room}"
    );
    assert!(ruled.server.get_json("/rooms/shown")["clients"].is_array());
    // A member that watches already hears no more once the rule has changed.
    let update = bob.next_of("presence");
    assert_eq!(update["room"], "shown");
    ruled.reload("[[rooms]]\nmatch = '*'\npresence = false\n");
    drop(alice);
    ruled.server.wait_for_clients(1);
    bob.send_json(json!({"type": "message", "room": "shown", "payload": "end"}));
    bob.expect("end");
    assert!(
        ruled
            .server
            .get_json("/rooms/shown")
            .get("clients")
            .is_none()
    );
}

#[test]
fn wrong_rule_fails_with_one_line() {
    for (rules, expected) in [
        (
            "[[rooms]]\nhistory-messages = 1",
            "FILE:1: rooms: a rule needs match",
        ),
        (
            "[[rooms]]\nmatch = 'a b'",
            "FILE:2: match \"a b\": no room has such a name: it contains ' ' U+0020; write the name of a room",
        ),
        (
            "[[rooms]]\nmatch = 'a*@example.com'",
            "FILE:2: match \"a*@example.com\": no room has such a name: it contains '@' U+0040; write",
        ),
        ("[[rooms]]\nmatch = ''", "FILE:2: match"),
        (
            "[[rooms]]\nmatch = 'a'\nmach = 'b'",
            "FILE:3: mach: no such key of [[rooms]]; did you mean match?",
        ),
        (
            "[[rooms]]\nmatch = 'a'\nport = 1",
            "stand above the first [[rooms]]",
        ),
        (
            "[[rooms]]\nmatch = 'a'\nhistory-messages = -1",
            "FILE:3: history-messages \"-1\": ",
        ),
        (
            "[[rooms]]\nmatch = 'a'\nhistory_messages = 1\nhistory-messages = 2",
            "is set twice",
        ),
        (
            "[[rooms]]\nmatch = 'a'\npublish = 'nobody'",
            "write anyone, token or server",
        ),
        ("[[rooms]]\nmatch = 'a'\npublish = 'token'", "needs a key"),
        (
            "[[rooms]]\nmatch = 'a'\npresence = 'maybe'",
            "write true or false",
        ),
        (
            "[[rooms]]\nmatch = 'a'\nmax-message-bytes = '1GiB'",
            "write at most 65536",
        ),
        (
            "[[rooms]]\nmatch = 'a'\nhistory-age = '2h'",
            "write at most 3600 seconds",
        ),
        (
            "[[rooms]]\nmatch = 'a'\nmax-members = [1]",
            "FILE:3: max-members: write a text",
        ),
        (
            "rooms = 'a'",
            "FILE:1: rooms: write [[rooms]] above each rule",
        ),
        ("rooms = ['a']", "FILE:1: rooms: write [[rooms]]"),
        ("[rooms]\nmatch = 'a'", "FILE:1: rooms: write [[rooms]]"),
        (
            &"[[rooms]]\nmatch = 'a'\n".repeat(101),
            "write at most 100 rules",
        ),
    ] {
        let dir = TempDir::new();
        fs::write(dir.path("wscast.toml"), rules).expect("write");
        let path = dir.arg("wscast.toml");
        let ended = run(program().args(["--config", &path]));
        let line = ended.only_line().replace(&path, "FILE");
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(expected), "{rules}: {line}");
    }
}

#[test]
fn check_config_prints_the_rules() {
    let dir = TempDir::new();
    let rules = "[[rooms]]\nmatch = 'a*'\nhistory-messages = 0\nmax-members = 3\n\
        [[rooms]]\nmatch = \"\\u0645\\u064A\\u200C*\"\npresence = false\n\
        [[rooms]]\nmatch = '*'\nhistory-bytes = '1KiB'\nhistory-age = 60\npresence = false\n";
    fs::write(dir.path("wscast.toml"), rules).expect("write");
    let ended = run(program().args(["--config", &dir.arg("wscast.toml"), "--check-config"]));
    for line in [
        "[[rooms]] a*: history-messages 0 max-members 3\n",
        "[[rooms]] \u{645}\u{64a}\u{200c}*: presence off\n",
        "[[rooms]] *: history-bytes 1024 history-age 60s presence off\n",
    ] {
        assert!(ended.stdout.contains(line), "{}", ended.stdout);
    }
}
