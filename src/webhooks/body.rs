//! The body of a request: the events of a batch as JSON, each with its serial.

use serde::Serialize;

use crate::rooms::PresenceSubject;

use super::ledger::EventBatch;

/// Serials grow with each event that is sent, also when a request is repeated. Over restarts they grow with the clock.
#[derive(Debug)]
pub(super) struct Serials {
    next: u64,
}

#[derive(Serialize)]
struct WebhookBody<'a> {
    events: Vec<WebhookEvent<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum WebhookEvent<'a> {
    Room {
        name: &'a str,
        present: bool,
        serial: u64,
    },
    User {
        name: &'a str,
        present: bool,
        serial: u64,
    },
    Snapshot {
        since: u64,
        serial: u64,
    },
}

impl Serials {
    pub(super) fn starting_at(next: u64) -> Self {
        Self { next }
    }

    /// Continues at `next`, unless the serials are past it already.
    pub(super) fn advance_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    pub(super) fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// Returns the body of a request, and an id that no other request has.
pub(super) fn encode(batch: &EventBatch, serials: &mut Serials) -> (Vec<u8>, String) {
    let id = format!("msg_{}", serials.next);
    let mut events: Vec<WebhookEvent<'_>> = Vec::with_capacity(batch.subjects.len() + 1);
    for (subject, present) in &batch.subjects {
        let (present, serial) = (*present, serials.take());
        events.push(match subject {
            PresenceSubject::Room(room) => WebhookEvent::Room {
                name: room.as_str(),
                present,
                serial,
            },
            PresenceSubject::User(name) => WebhookEvent::User {
                name,
                present,
                serial,
            },
        });
    }
    if let Some(since) = batch.completes {
        let serial = serials.take();
        events.push(WebhookEvent::Snapshot { since, serial });
    }
    // Structs of strings and numbers: serializing them to memory cannot fail.
    (
        serde_json::to_vec(&WebhookBody { events }).unwrap_or_default(),
        id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RoomName;

    #[test]
    fn body_has_each_subject_with_its_state_and_serial() {
        let batch = EventBatch {
            subjects: vec![
                (PresenceSubject::Room(RoomName::lobby()), true),
                (PresenceSubject::User("a\"b".into()), false),
            ],
            completes: Some(3),
        };
        let mut serials = Serials::starting_at(7);
        let (body, id) = encode(&batch, &mut serials);
        assert_eq!(id, "msg_7");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\"events\":[{\"type\":\"room\",\"name\":\"lobby\",\"present\":true,\"serial\":7},\
             {\"type\":\"user\",\"name\":\"a\\\"b\",\"present\":false,\"serial\":8},\
             {\"type\":\"snapshot\",\"since\":3,\"serial\":9}]}"
        );
        serials.advance_to(5);
        assert_eq!(serials.take(), 10);
    }
}
