//! Webhooks before their thread starts: the client, the secret and the record of changes.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::WebhookSettings;
use crate::outgoing::OutgoingClient;
use crate::reload::Reloads;
use crate::rooms::{PresenceChanges, PresenceKinds};

use super::secret::WebhookSecret;

/// The secret in use, which a reload replaces.
pub(super) type SharedSecret = Arc<RwLock<Option<WebhookSecret>>>;

/// Webhooks before their thread starts.
pub(crate) struct PreparedWebhooks {
    pub(super) settings: WebhookSettings,
    pub(super) client: OutgoingClient,
    pub(super) secret: SharedSecret,
    pub(super) changes: Arc<PresenceChanges>,
}

impl PreparedWebhooks {
    /// Reads the secret and the authorities that the receiver's certificate may have. An `Err` is one line.
    pub(crate) fn load(settings: &WebhookSettings, reloads: &Reloads) -> Result<Self, String> {
        let client = OutgoingClient::new(settings.url.clone());
        let client = client.map_err(|why| format!("--webhook {why}"))?;
        let secret = WebhookSecret::load(settings)?;
        if secret.is_none() {
            log::warn!(
                "webhooks are not signed, so the receiver cannot tell them from forged ones; set --webhook-secret-file"
            );
        }
        let secret = Arc::new(RwLock::new(secret));
        if settings.secret_file.is_some() {
            let (settings, secret) = (settings.clone(), Arc::clone(&secret));
            reloads.add(move || {
                *secret.write() = WebhookSecret::load(&settings)?;
                Ok("secret of the webhooks".to_owned())
            });
        }
        let kinds = PresenceKinds {
            rooms: settings.events.rooms,
            users: settings.events.users,
        };
        Ok(Self {
            settings: settings.clone(),
            client,
            secret,
            changes: Arc::new(PresenceChanges::new(kinds)),
        })
    }

    /// Returns the record that the broadcaster writes to.
    pub(crate) fn changes(&self) -> Arc<PresenceChanges> {
        Arc::clone(&self.changes)
    }
}
