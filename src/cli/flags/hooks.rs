//! The flags for requests that this server sends to a backend.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use log::Level;

use super::values::{duration, duration_or_zero};
use crate::cli::environment::Sources;
use crate::cli::notice::Notice;
use crate::config::{AuthHookSettings, ConfigError, WebhookEvents, WebhookSettings};
use crate::target_url::TargetUrl;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Hooks")]
pub(in crate::cli) struct HookFlags {
    /// Report to the backend at this URL, http or https, which rooms are occupied and which users are connected
    #[arg(
        long,
        env = "WSCAST_WEBHOOK",
        value_name = "URL",
        hide_env_values = true
    )]
    webhook: Option<String>,
    /// Sign webhooks with the secret in this file; SIGHUP reloads it
    #[arg(long, env = "WSCAST_WEBHOOK_SECRET_FILE", value_name = "PATH")]
    webhook_secret_file: Option<PathBuf>,
    /// Sign webhooks with this secret. Every user of this machine can read arguments, so better set the variable
    #[arg(
        long,
        env = "WSCAST_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    webhook_secret: Option<String>,
    /// The subjects of webhooks: rooms, users or rooms,users
    #[arg(
        long,
        env = "WSCAST_WEBHOOK_EVENTS",
        default_value = "rooms,users",
        value_name = "WHAT"
    )]
    webhook_events: WebhookEvents,
    /// How long a room must be empty, or a user without a client, before a webhook is sent. A page reloaded within this
    /// time causes none
    #[arg(
        long,
        env = "WSCAST_WEBHOOK_SETTLE",
        default_value = "3s",
        value_name = "DURATION",
        value_parser = duration_or_zero
    )]
    webhook_settle: Duration,
    /// Time for one request to the webhook
    #[arg(
        long,
        env = "WSCAST_WEBHOOK_TIMEOUT",
        default_value = "5s",
        value_name = "DURATION",
        value_parser = duration
    )]
    webhook_timeout: Duration,
    /// Ask the backend at this URL, http or https, who a client without a token is, and what it may do
    #[arg(
        long,
        env = "WSCAST_AUTH_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    auth_url: Option<String>,
    /// Time for one question to the backend. A client that has no answer by then is refused
    #[arg(
        long,
        env = "WSCAST_AUTH_TIMEOUT",
        default_value = "3s",
        value_name = "DURATION",
        value_parser = duration
    )]
    auth_timeout: Duration,
    /// How long an answer is used again for the same credentials, if the backend sends no Cache-Control; 0 asks each time
    #[arg(
        long,
        env = "WSCAST_AUTH_CACHE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_or_zero
    )]
    auth_cache: Duration,
    /// Most questions to the backend at the same time. One address may have a quarter of them
    #[arg(
        long,
        env = "WSCAST_AUTH_CALLS",
        default_value = "32",
        value_name = "N"
    )]
    auth_calls: NonZeroU32,
}

impl HookFlags {
    /// Returns the settings of the webhooks, if there are any.
    pub(in crate::cli) fn webhook(&self) -> Result<Option<WebhookSettings>, ConfigError> {
        let Some(url) = url("--webhook", self.webhook.as_deref())? else {
            return Ok(None);
        };
        Ok(Some(WebhookSettings {
            url,
            secret: self.webhook_secret.clone(),
            secret_file: self.webhook_secret_file.clone(),
            events: self.webhook_events,
            settle: self.webhook_settle,
            timeout: self.webhook_timeout,
        }))
    }

    /// Returns a warning about a secret that signs nothing.
    pub(in crate::cli) fn warning(&self, sources: &Sources) -> Option<Notice> {
        let flag = match (&self.webhook_secret_file, &self.webhook_secret) {
            (Some(_), _) => "--webhook-secret-file",
            (None, Some(_)) => "--webhook-secret",
            (None, None) => return None,
        };
        let text = format!("{flag} is not used, because --webhook is not set");
        let is_unused = self.webhook.is_none();
        is_unused.then(|| Notice::new(Level::Warn, sources.rename_flag(text)))
    }

    /// Returns whether a backend decides about clients without a token.
    pub(in crate::cli) fn asks_backend(&self) -> bool {
        self.auth_url.is_some()
    }

    /// Returns the settings of the connect hook, if there is one.
    pub(in crate::cli) fn auth(&self) -> Result<Option<AuthHookSettings>, ConfigError> {
        let url = url("--auth-url", self.auth_url.as_deref())?;
        Ok(url.map(|url| AuthHookSettings {
            url,
            timeout: self.auth_timeout,
            cache: self.auth_cache,
            calls: self.auth_calls,
        }))
    }
}

/// Parses a URL. The error leaves out a URL that may hold a secret.
fn url(setting: &'static str, text: Option<&str>) -> Result<Option<TargetUrl>, ConfigError> {
    let parse = |text: &str| {
        text.parse().map_err(|instead: &str| ConfigError {
            setting,
            value: match text.contains(['@', '?']) {
                true => "(set)".to_owned(),
                false => text.to_owned(),
            },
            instead: instead.to_owned(),
        })
    };
    text.map(parse).transpose()
}
