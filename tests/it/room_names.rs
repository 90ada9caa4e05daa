//! Names of rooms in any script, in addresses, messages, tokens and databases.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{TempDir, TestServer, handshake, payloads};

const COMPOSED: &str = "caf\u{e9}";
const DECOMPOSED: &str = "cafe\u{301}";
const SESSION: &str = "alice-and-nobody-else";

/// The name as it is written in an address.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn room_of_any_script_is_joined_published_to_and_read() {
    let server = TestServer::start(&[]);
    for name in [
        "ห้อง",
        "दिल्ली",
        "می\u{200c}خواهم",
        "ක්\u{200d}රීඩා",
        "שָׁלוֹם",
        "བོད་ཡིག",
        "مُدَرِّس",
        "房间",
    ] {
        let mut alice = server.client_at(&format!("/ws?room={}", encoded(name)));
        assert_eq!(alice.welcome().room(name).members, 1, "{name}");
        let mut bob = server.client();
        assert_eq!(bob.join(name)["room"], name);
        bob.say_in(name, "hi");
        assert_eq!(alice.expect("hi")["room"], name);
        // Programs send the bytes of a path in either way.
        for target in [encoded(name), name.to_owned()] {
            let page = server.get_json(&format!("/rooms/{target}/messages"));
            assert_eq!(payloads(&page), ["hi"], "{target}");
        }
    }
}

#[test]
fn both_normal_forms_of_a_name_are_one_room() {
    let server = TestServer::start(&[]);
    for (name, normal) in [
        (DECOMPOSED, COMPOSED),
        ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
        ("\u{212b}", "\u{c5}"),
        ("Vie\u{302}\u{323}t", "Vi\u{1ec7}t"),
    ] {
        let mut alice = server.client_at(&format!("/ws?room={}", encoded(name)));
        alice.welcome().room(normal);
        let mut bob = server.client();
        assert_eq!(bob.join(normal)["members"], 2, "{name}");
        alice.say_in(name, "over the socket");
        assert_eq!(bob.expect("over the socket")["room"], normal);
        server.publish(&encoded(name), SESSION, normal, "over HTTP");
        bob.expect("over HTTP");
        alice.expect("over the socket");
        alice.expect("over HTTP");
        for spelling in [name, normal] {
            let page = server.get_json(&format!("/rooms/{}/messages", encoded(spelling)));
            assert_eq!(payloads(&page), ["over the socket", "over HTTP"]);
        }
        alice.send_json(json!({"type": "leave", "room": name}));
        assert_eq!(alice.next_of("left")["payload"]["room"], normal);
        assert_eq!(bob.join(normal)["members"], 1, "{name}");
    }
}

#[test]
fn patterns_of_a_token_are_normalized_like_names() {
    let server = TestServer::with_tokens(&[]);
    for (pattern, room) in [
        (DECOMPOSED, COMPOSED),
        (COMPOSED, DECOMPOSED),
        ("cafe\u{301}-*", "caf\u{e9}-1"),
        ("दिल्ली*", "दिल्ली"),
        ("\u{212b}:*", "\u{c5}:north"),
    ] {
        let token = signed(
            SECRET,
            &claims(json!({"subscribe": [pattern], "publish": []})),
        );
        let target = format!("/ws?room={}&token={token}", encoded(room));
        server.client_at(&target);
        let other = format!("/ws?room=other&token={token}");
        assert_eq!(server.refused_handshake(handshake(&other)).status, 403);
    }
    // The mark makes another letter of the last one of the prefix.
    let token = signed(SECRET, &claims(json!({"subscribe": ["cafe*"]})));
    let target = format!("/ws?room={}&token={token}", encoded(DECOMPOSED));
    assert_eq!(server.refused_handshake(handshake(&target)).status, 403);
}

#[test]
fn refusal_names_the_character_that_cannot_be_seen() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    for (name, named) in [
        ("o\u{200b}ps", "U+200B"),
        ("\u{202e}ops", "U+202E"),
        ("o\u{200d}ps", "U+200D"),
        ("\u{301}ops", "U+0301"),
        ("ops\u{fe0f}", "U+FE0F"),
        ("\u{3164}", "U+3164"),
        ("a\u{a0}b", "U+00A0"),
        ("a\u{378}", "U+0378"),
        ("a/b", "'/' U+002F"),
        ("👍", "'👍' U+1F44D"),
    ] {
        let handshake = handshake(&format!("/ws?room={}", encoded(name)));
        let refused = server.refused_handshake(handshake);
        assert_eq!(refused.status, 400, "{named}");
        let refused = refused.json();
        client.send_json(json!({"type": "join", "room": name}));
        for error in [&refused["error"], &client.next_of("error")["payload"]] {
            assert_eq!(error["code"], "invalid_room", "{named}");
            let message = error["message"].as_str().expect("a message");
            assert!(message.contains(named), "{message}");
        }
    }
}

/// Earlier versions stored each spelling as a room of its own.
#[test]
fn rooms_that_an_earlier_version_stored_are_found_again() {
    let disk = TempDir::new();
    let (jamo, hangul) = ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}");
    let (split, vowel) = ("\u{995}\u{9c7}\u{9be}", "\u{995}\u{9cb}");
    let server = disk.serve(&[]);
    for (name, payload) in [("one", "jamo"), (vowel, "composed"), ("two", "split")] {
        server.publish(&encoded(name), SESSION, payload, payload);
    }
    drop(server);
    let database = Connection::open(disk.path("history.db")).expect("open");
    for (old, name) in [("one", jamo), ("two", split)] {
        for rename in [
            "UPDATE rooms SET name = ?2 WHERE name = ?1",
            "UPDATE ids SET room = ?2 WHERE room = ?1",
        ] {
            database.execute(rename, [old, name]).expect("rename");
        }
    }
    // No client can give this name now.
    let invisible = "INSERT INTO rooms SELECT 99, '\u{3164}', epoch, 1, 0, 0 FROM rooms LIMIT 1";
    database.execute(invisible, []).expect("insert");
    drop(database);

    for _ in 0..2 {
        let server = disk.serve(&[]);
        let stored = |name: &str| -> Vec<Value> {
            payloads(&server.get_json(&format!("/rooms/{}/messages", encoded(name))))
        };
        assert_eq!(stored(hangul), ["jamo"]);
        assert_eq!(stored(jamo), ["jamo"]);
        assert_eq!(stored(vowel), ["composed"], "the name was taken");
        // The id is still known in the renamed room.
        let again = server.publish(&encoded(jamo), SESSION, "jamo", "again");
        assert_eq!(
            (&again["room"], &again["offset"]),
            (&json!(hangul), &json!(1))
        );
    }
}
