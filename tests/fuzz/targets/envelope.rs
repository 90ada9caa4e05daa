//! Messages of clients. An accepted message has the content that any JSON parser reads in it, and its payload is relayed
//! byte for byte. Parsing the relayed message gives the same message.

#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;
use wscast::protocol::{
    ClientMessage, ClientRequest, DEPTH_MAX, ErrorCode, MemberState, ParseError, Position,
    Publication, PublishRequest, RoomName, StateChange, write_event,
};

/// The longest text of an error. It is far shorter than a message may be, so it does not quote the message.
const REFUSAL_BYTES_MAX: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let parsed = ClientMessage::parse(text);
    // Other parsers do not skip a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match parsed {
        Ok(request) => check_accepted(text, &request),
        Err(error) => check_refused(text, &error),
    }
});

fn check_accepted(text: &str, request: &ClientRequest<'_>) {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(text).expect("an object");
    assert_eq!(count_keys(text), fields.len(), "no key is repeated");
    // Some valid JSON has no value in Rust, such as a huge number or a lone surrogate.
    if let Ok(value) = serde_json::from_str(text) {
        assert!(depth(&value) <= DEPTH_MAX);
    }
    let id = request.id.as_ref().map(|id| id.as_str().to_owned());
    assert!(id.as_ref().is_none_or(|id| (1..=64).contains(&id.len())));
    assert_eq!(id, field(&fields, "id"));
    assert_eq!(
        field(&fields, "type"),
        Some(kind(&request.message).to_owned())
    );
    match &request.message {
        ClientMessage::Publish(publish) => {
            assert_eq!(publish.payload, fields["payload"].get(), "verbatim");
            assert_eq!(publish.room.as_ref().map(to_text), room_field(&fields));
            assert_eq!(publish.echo, field(&fields, "echo").unwrap_or(true));
            check_relayed(publish, request);
        }
        ClientMessage::Join {
            room,
            presence,
            backlog,
            state,
        } => {
            assert_eq!(Some(to_text(room)), room_field(&fields));
            assert_eq!(*presence, field(&fields, "presence").unwrap_or(false));
            let since = backlog.since.map(|since| since.offset);
            assert_eq!(since, field(&fields, "since"));
            assert_eq!(backlog.last, field(&fields, "last").unwrap_or(0));
            match state {
                StateChange::Keep => assert!(!fields.contains_key("state")),
                StateChange::Set(state) => check_state(state.as_ref(), &fields),
            }
        }
        ClientMessage::State { room, state } => {
            assert_eq!(Some(to_text(room)), room_field(&fields));
            check_state(state.as_ref(), &fields);
        }
        ClientMessage::History { room, since, limit } => {
            assert_eq!(Some(to_text(room)), room_field(&fields));
            assert_eq!(*since, field(&fields, "since"));
            assert_eq!(*limit, field(&fields, "limit"));
        }
        ClientMessage::Leave { room } | ClientMessage::Presence { room } => {
            assert_eq!(Some(to_text(room)), room_field(&fields));
        }
        ClientMessage::Auth { token } => {
            assert_eq!(Some(token.clone().into_owned()), field(&fields, "token"));
        }
        ClientMessage::Ping => {}
    }
}

fn check_state(state: Option<&MemberState>, fields: &HashMap<String, &RawValue>) {
    let text = fields["state"].get();
    match state {
        Some(state) => assert!(state.as_str() == text && text.len() <= 256, "verbatim"),
        None => assert_eq!(text, "null"),
    }
}

/// Returns a field as another parser reads it.
fn field<T: DeserializeOwned>(fields: &HashMap<String, &RawValue>, name: &str) -> Option<T> {
    let text = fields.get(name)?.get();
    serde_json::from_str::<Option<T>>(text).expect("of this type")
}

/// Returns the room in NFC, as names of rooms are compared.
fn room_field(fields: &HashMap<String, &RawValue>) -> Option<String> {
    let name: String = field(fields, "room")?;
    Some(to_text(&RoomName::parse(&name).expect("a name")))
}

fn to_text(room: &RoomName) -> String {
    room.as_str().to_owned()
}

fn kind(message: &ClientMessage<'_>) -> &'static str {
    match message {
        ClientMessage::Publish(publish) => publish.kind.as_str(),
        ClientMessage::Join { .. } => "join",
        ClientMessage::History { .. } => "history",
        ClientMessage::Leave { .. } => "leave",
        ClientMessage::Presence { .. } => "presence",
        ClientMessage::State { .. } => "state",
        ClientMessage::Auth { .. } => "auth",
        ClientMessage::Ping => "ping",
    }
}

/// Checks the relayed message, as a WebSocket frame and as an event of an event stream.
fn check_relayed(publish: &PublishRequest<'_>, request: &ClientRequest<'_>) {
    let publication = Publication {
        room: publish.room.clone().unwrap_or_else(RoomName::lobby),
        offset: 7,
        id: request.id.clone(),
        from: "O\"Brien \\".into(),
        ts: 1_700_000_000_000,
        kind: publish.kind,
        payload: publish.payload.into(),
    };
    let mut json = Vec::new();
    publication.write_json(&mut json);
    let text = std::str::from_utf8(&json).expect("UTF-8");
    let fields: HashMap<&str, &RawValue> = serde_json::from_str(text).expect("JSON");
    assert_eq!(fields["payload"].get(), publish.payload, "verbatim");
    assert_eq!(count_keys(text), fields.len());
    assert_eq!(fields.len(), if request.id.is_some() { 7 } else { 6 });

    // A client that sends a relayed message back publishes the same message.
    let again = ClientMessage::parse(text).expect("a relayed message is valid");
    let same = ClientMessage::Publish(PublishRequest {
        room: Some(publication.room.clone()),
        kind: publication.kind,
        payload: publish.payload,
        ttl: None,
        echo: true,
    });
    assert_eq!((again.id, again.message), (request.id.clone(), same));

    let mut event = Vec::new();
    let epoch = "00000000000000ff".parse().expect("an epoch");
    write_event(&mut event, Position { epoch, offset: 7 }, &json);
    let event = std::str::from_utf8(&event).expect("UTF-8");
    let lines = event.strip_suffix("\n\n").expect("an end").split('\n');
    let data: Vec<_> = lines
        .skip(1)
        .map(|line| line.strip_prefix("data: ").expect("one event only"))
        .collect();
    assert!(data.iter().all(|line| !line.contains('\r')));
    // JSON has line breaks only between tokens, where all kinds mean the same.
    let joined = data.join("\n");
    assert!(serde_json::from_str::<IgnoredAny>(&joined).is_ok());
    let breaks = ['\n', '\r'];
    assert_eq!(joined.replace(breaks, ""), text.replace(breaks, ""));
}

fn check_refused(text: &str, ParseError { id, refusal }: &ParseError) {
    let bytes = refusal.message.len();
    assert!(bytes <= REFUSAL_BYTES_MAX, "{bytes} bytes of refusal");
    let object = serde_json::from_str::<HashMap<String, &RawValue>>(text);
    match refusal.code {
        ErrorCode::InvalidJson | ErrorCode::NotAnObject => assert!(object.is_err()),
        // The depth is checked before the JSON is parsed.
        ErrorCode::TooDeep => {}
        _ => assert!(object.is_ok(), "{refusal:?}"),
    }
    assert!(id.is_none() || object.is_ok());
}

/// Returns the number of keys in the object. A repeated key counts each time.
fn count_keys(text: &str) -> usize {
    struct Count(usize);
    impl<'de> serde::Deserialize<'de> for Count {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Count;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Count, A::Error> {
                    let mut count = 0;
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                        count += 1;
                    }
                    Ok(Count(count))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Count>(text).expect("an object").0
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
