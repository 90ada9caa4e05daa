//! The settings of the hooks: requests that this server sends to a backend.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::target_url::TargetUrl;

/// The webhooks, which report to a backend which rooms are occupied and which users are connected.
#[derive(Clone)]
pub struct WebhookSettings {
    /// The URL that events are sent to.
    pub url: TargetUrl,
    /// The secret that requests are signed with.
    pub secret: Option<String>,
    /// A file with the secret; it wins over `secret`.
    pub secret_file: Option<PathBuf>,
    /// The subjects that are reported.
    pub events: WebhookEvents,
    /// How long a room must be empty, or a user without a client, before that is reported.
    pub settle: Duration,
    /// Time for one request.
    pub timeout: Duration,
}

/// Leaves out the secret.
impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("url", &self.url)
            .field("has_secret", &self.secret.is_some())
            .field("secret_file", &self.secret_file)
            .field("events", &self.events)
            .field("settle", &self.settle)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The connect hook, which asks a backend who a client is.
#[derive(Clone, Debug)]
pub struct AuthHookSettings {
    /// The URL that is asked.
    pub url: TargetUrl,
    /// Time for one question, with the wait for its turn.
    pub timeout: Duration,
    /// How long an answer is used again, if the backend does not say.
    pub cache: Duration,
    /// Most questions at the same time.
    pub calls: NonZeroU32,
}

/// The subjects that webhooks report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookEvents {
    /// True to report rooms that become occupied or vacant.
    pub rooms: bool,
    /// True to report users who connect and disconnect.
    pub users: bool,
}

impl fmt::Display for WebhookEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.rooms, self.users) {
            (true, false) => "rooms",
            (false, true) => "users",
            _ => "rooms,users",
        })
    }
}

impl FromStr for WebhookEvents {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut events = Self {
            rooms: false,
            users: false,
        };
        for word in text.split(',').map(str::trim) {
            match word {
                "rooms" => events.rooms = true,
                "users" => events.users = true,
                _ => return Err("write rooms, users or rooms,users"),
            }
        }
        Ok(events)
    }
}
