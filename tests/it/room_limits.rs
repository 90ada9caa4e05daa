//! Limits of members per room and of rooms per server.

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{TestServer, handshake, handshake_with, wait_for, wait_until};

// Two of two seats are taken. A join, a handshake, a page's handshake and an event stream are refused; a member that
// leaves frees its seat.
#[test]
fn full_room_refuses_more_members_on_every_route() {
    let server = TestServer::start(&["--max-members-per-room=2"]);
    let mut one = server.client_at("/ws?room=ops");
    let two = server.client_at("/ws?room=ops");
    let mut three = server.client();
    three.send_json(json!({"type": "join", "room": "ops", "id": "j"}));
    assert_eq!(three.expect_error(), "room_full");
    three.send_json(json!({"type": "message", "room": "ops", "payload": "not in"}));
    assert_eq!(three.expect_error(), "not_in_room");
    // A member may join again.
    one.join("ops");

    let mut raw = server.raw();
    raw.send(handshake("/ws?room=b&room=ops"));
    let refused = raw.response();
    assert_eq!((refused.status, refused.retry_after()), (503, 1));
    assert_eq!(refused.error_code(), "room_full");
    let mut page = server.raw();
    page.send(handshake_with(
        "/ws?room=ops",
        &["Origin: https://a.example"],
    ));
    assert_eq!(page.response().status, 101);
    assert_eq!(page.close_code(), 4103);
    let events = server.raw().get("/rooms/ops/events");
    assert_eq!(events.refused_stream()["code"], "room_full");
    assert_eq!(server.total("rooms_full"), 4);
    assert_eq!(server.members("ops"), 2);

    one.leave("ops");
    wait_until("the seat is free", || {
        three.send_json(json!({"type": "join", "room": "ops"}));
        three.next()["type"] == "joined"
    });
    one.send_json(json!({"type": "join", "room": "ops"}));
    assert_eq!(one.expect_error(), "room_full");
    drop(two);
    wait_until("a seat is free", || {
        one.send_json(json!({"type": "join", "room": "ops"}));
        one.next()["type"] == "joined"
    });
    assert_eq!(server.members("ops"), 2);
}

/// Two clients take turns in a room for one. No `joined` ever counts two members.
#[test]
fn seat_is_free_only_after_its_member_has_left() {
    let server = TestServer::start(&["--max-members-per-room=1"]);
    let mut pair = ["a", "b"].map(|room| server.client_at(&format!("/ws?room={room}")));
    pair[0].join("room");
    for round in 0..100 {
        let [member, waiting] = &mut pair;
        member.send_json(json!({"type": "leave", "room": "room"}));
        let joined = wait_for("the seat is free", || {
            waiting.send_json(json!({"type": "join", "room": "room"}));
            let reply = waiting.next();
            (reply["type"] == "joined").then_some(reply)
        });
        assert_eq!(joined["payload"]["members"], 1, "round {round}");
        member.next_of("left");
        pair.swap(0, 1);
    }
}

#[test]
fn full_room_refuses_clients_that_send_their_token_later() {
    let server = TestServer::with_tokens(&["--max-members-per-room=1"]);
    let good = signed(SECRET, &claims(json!({})));
    let _one = server.client_at(&format!("/ws?room=ops&token={good}"));
    let mut two = server.raw();
    two.upgrade("/ws?room=ops");
    let auth = json!({"type": "auth", "token": good}).to_string();
    two.send_frame(true, 1, auth.as_bytes());
    assert_eq!(two.next_json()["payload"]["code"], "room_full");
    assert_eq!(two.close_code(), 4103);
}

#[test]
fn rooms_over_the_limit_are_refused_and_counted() {
    let server = TestServer::start(&["--max-rooms=2", "--max-rooms-per-connection=1"]);
    let mut alice = server.client();
    alice.send_json(json!({"type": "join", "room": "b"}));
    assert_eq!(alice.expect_error(), "too_many_rooms");
    let _bob = server.client_at("/ws?room=b");
    for target in ["/ws?room=c", "/ws?room=b&room=lobby"] {
        let mut raw = server.raw();
        raw.send(handshake(target));
        assert_eq!(raw.response().error_code(), "too_many_rooms", "{target}");
    }
    let published = server.post(
        "/rooms/c/messages",
        &json!({"type": "message", "payload": 1}),
    );
    assert_eq!(published.error_code(), "too_many_rooms");
    assert_eq!(server.total("rooms_refused"), 4);
}
