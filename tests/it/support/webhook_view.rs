//! The knowledge of a receiver of webhooks after the requests that it has accepted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{HookRequest, HookServer, wait_for};

/// The state of each room and user, by the rules that the documentation gives to receivers.
#[derive(Clone, Debug, Default)]
pub struct WebhookView {
    /// The last serial of each subject, and whether it is present.
    known: BTreeMap<(String, String), (u64, bool)>,
    /// How often each subject changed its state.
    pub changes: BTreeMap<String, u32>,
    /// The snapshots that were completed.
    pub snapshots: u32,
}

impl WebhookView {
    /// Applies the accepted requests of a receiver.
    pub fn of(server: &HookServer) -> Self {
        let mut view = Self::default();
        for request in server.requests() {
            view.apply(&request);
        }
        view
    }

    pub fn apply(&mut self, request: &HookRequest) {
        let body = request.json();
        let events = body["events"].as_array().expect("events");
        assert!((1..=101).contains(&events.len()), "{body}");
        for event in events.iter().filter(|_| request.accepted) {
            self.apply_event(event);
        }
    }

    fn apply_event(&mut self, event: &Value) {
        let serial = event["serial"].as_u64().expect("a serial");
        if event["type"] == "snapshot" {
            let since = event["since"].as_u64().expect("since");
            self.known.retain(|_, (known, _)| *known >= since);
            self.snapshots += 1;
            return;
        }
        let text = |field: &str| event[field].as_str().expect("text").to_owned();
        let is_present = event["present"].as_bool().expect("present");
        let subject = (text("type"), text("name"));
        let before = self.known.get(&subject).copied();
        if before.is_some_and(|(known, _)| known >= serial) {
            return;
        }
        if before.is_some_and(|(_, present)| present) != is_present {
            *self.changes.entry(subject.1.clone()).or_default() += 1;
        }
        self.known.insert(subject, (serial, is_present));
    }

    /// The names of the present subjects of this type, in order.
    pub fn present(&self, kind: &str) -> Vec<&str> {
        let present = self.known.iter().filter(|(_, (_, present))| *present);
        let of_kind = present.filter(|((of, _), _)| of == kind);
        of_kind.map(|((_, name), _)| name.as_str()).collect()
    }
}

/// Waits until the receiver knows these rooms and users as present, and no others.
pub fn wait_for_view(server: &HookServer, rooms: &[&str], users: &[&str]) -> WebhookView {
    let what = format!("the receiver knows {rooms:?} and {users:?}");
    wait_for(&what, || {
        let view = WebhookView::of(server);
        let is_right = view.present("room") == rooms && view.present("user") == users;
        (is_right && view.snapshots > 0).then_some(view)
    })
}
