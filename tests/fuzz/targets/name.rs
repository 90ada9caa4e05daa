//! Names. A valid room name is within its limits and needs no escaping anywhere, and each name has one spelling in normal
//! form C.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wscast::auth::RoomPatterns;
use wscast::http;
use wscast::protocol::{ClientId, Epoch, LastEventId, NameError, RequestId, RoomName, Scope};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let room = RoomName::of_user(text);
    if (1..=128).contains(&text.len()) && !text.contains(char::is_control) {
        assert_eq!(RoomName::parse(room.as_str()), Ok(room));
    }
    match RoomName::parse(text) {
        Ok(room) => check_room(text, &room),
        Err(NameError::Empty) => assert!(text.is_empty() || text == "@"),
        // A character may be three in normal form C.
        Err(NameError::TooLong) => assert!(text.chars().count() * 3 > 64),
        Err(NameError::Character(c)) => assert!(!is_plain(c) && (c != '@' || !text.starts_with(c))),
        Err(NameError::Mark(c) | NameError::Joiner(c)) => assert!(!c.is_ascii()),
        Err(NameError::User) => assert!(text.starts_with("@:")),
    }
    check_other_names(text);
});

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-:".contains(c)
}

fn check_room(given: &str, room: &RoomName) {
    let text = room.as_str();
    assert!(!given.is_ascii() || text == given);
    assert_eq!(room.to_string(), text);
    assert_eq!(RoomName::parse(text).as_ref(), Ok(room));
    match text.strip_prefix('@') {
        None => check_word(text),
        Some(user) => match user.strip_prefix(':') {
            None => {
                check_word(&user.replace('@', "."));
                assert_eq!(RoomName::of_user(user), *room);
            }
            Some(encoded) => {
                assert!(encoded.len() <= 171 && encoded.chars().all(|c| is_plain(c) && c != ':'))
            }
        },
    }

    // The name needs no escaping in JSON and in log lines, and is the same in paths and queries.
    let json = serde_json::to_string(text).expect("a string");
    assert_eq!(json, format!("\"{text}\""));
    assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace() || "/\\\"*%".contains(c)));
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (path, sent) in [(text, text.is_ascii()), (&*encoded, true)] {
        let head = format!("GET /rooms/{path}?room={path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let parsed = http::parse(head.as_bytes(), &mut 0);
        assert!(!sent || parsed.is_ok());
        if let Ok(Some(head)) = parsed {
            assert_eq!(head.segments, ["rooms", text]);
            assert_eq!(head.query.first("room"), Some(text));
        }
    }

    let exact = RoomPatterns::parse([text]).expect("a pattern");
    assert!(exact.allow(room));
    let prefix = format!("{text}*");
    let prefix = RoomPatterns::parse([&*prefix]).expect("a pattern");
    assert!(prefix.allow(room));
    if let Ok(longer) = RoomName::parse(&format!("{text}x")) {
        assert!(!exact.allow(&longer) && prefix.allow(&longer));
    }
}

fn check_word(text: &str) {
    assert!((1..=64).contains(&text.chars().count()) && text.len() <= 64 * 4);
    assert!(text.chars().all(|c| is_plain(c) || !c.is_ascii()));
}

fn check_other_names(text: &str) {
    match RequestId::parse(text) {
        Ok(id) => assert!(id.as_str() == text && (1..=64).contains(&text.len())),
        Err(_) => assert!(text.is_empty() || text.len() > 64),
    }
    if let Ok(client) = text.parse::<ClientId>() {
        assert_eq!(client.to_string(), text);
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert!(epoch.to_string().eq_ignore_ascii_case(text));
    }
    if let LastEventId::Position(since) = LastEventId::parse(text) {
        let epoch = since.epoch.expect("an epoch");
        let again = format!("{epoch}-{}", since.offset);
        assert_eq!(LastEventId::parse(&again), LastEventId::Position(since));
    }
    if let Some(scope) = Scope::session(text) {
        let stored = scope.to_stored().expect("a session is stored");
        assert_eq!(Scope::from_stored(&stored), Some(scope));
    }
    if let Some(scope) = Scope::from_stored(text) {
        assert_eq!(scope.to_stored().as_deref(), Some(text));
    }
}
