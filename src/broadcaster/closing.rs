//! Closes clients: one or one user's at an operator's request, and all of them at shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::outbox::Outbox;
use crate::protocol::CloseCode;
use crate::rooms::ClientSelector;

use super::drain::Drain;
use super::state::BroadcasterState;

impl BroadcasterState {
    /// Closes the selected clients and returns their number.
    pub(super) fn close(&self, selector: &ClientSelector, code: CloseCode) -> usize {
        let selected = self.clients.iter().filter(|(id, client)| match selector {
            ClientSelector::Client(wanted) => *id == wanted,
            ClientSelector::User(user) => client.user.as_ref() == Some(user),
        });
        selected
            .map(|(_, client)| client.outbox.close(code))
            .count()
    }

    /// Starts the drain. A second request does not change the first one.
    pub(super) fn start_drain(&mut self, duration: Duration, now: Instant) {
        self.drain.get_or_insert_with(|| {
            let clients = self.clients.keys().copied().collect();
            Drain::new(clients, now, duration)
        });
    }

    /// Closes the clients that are due. Aborts closed clients that keep their connections open.
    pub(super) fn continue_drain(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        for client in drain.take_due(now) {
            if let Some(client) = self.clients.get(&client) {
                client.outbox.close(CloseCode::GoingAway);
            }
        }
        if drain.take_abort_due(now) {
            self.abort_finished();
        }
    }

    /// Closes a client that connected after the drain started.
    pub(super) fn close_if_draining(&self, outbox: &Arc<Outbox>) {
        if self.drain.is_some() {
            outbox.close(CloseCode::GoingAway);
        }
    }

    /// Aborts clients that were sent everything, the Close frame included, but keep their connections open.
    fn abort_finished(&self) {
        let outboxes = self.clients.values().map(|client| &client.outbox);
        outboxes
            .filter(|outbox| outbox.is_finished())
            .for_each(|outbox| outbox.abort());
    }
}
