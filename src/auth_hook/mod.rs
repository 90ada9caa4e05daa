//! The connect hook: asks a backend who a client without a token of this server is, and what it may do.
//!
//! A client is let in only by an answer. While there is none, because the backend is down, slow or confused, clients are
//! refused for now.

mod answer;
mod cache;
mod question;
mod slots;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{Identity, unix_time};
use crate::config::AuthHookSettings;
use crate::limits::Address;
use crate::logging::ThrottledLog;
use crate::metrics::Metrics;
use crate::outgoing::{OutgoingClient, OutgoingLimits, OutgoingRequest, OutgoingResponse};
use crate::threads;

pub(crate) use self::answer::AuthAnswer;
pub(crate) use self::question::AuthQuestion;

use self::cache::AnswerCache;
use self::slots::CallSlots;

/// Asks the backend.
pub(crate) struct AuthHook {
    settings: AuthHookSettings,
    client: OutgoingClient,
    cache: AnswerCache,
    slots: CallSlots,
    log: ThrottledLog,
    metrics: Arc<Metrics>,
}

impl AuthHook {
    /// Reads the authorities that the backend's certificate may have. An `Err` is one line.
    pub(crate) fn load(settings: &AuthHookSettings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let client = OutgoingClient::new(settings.url.clone());
        Ok(Self {
            client: client.map_err(|why| format!("--auth-url {why}"))?,
            cache: AnswerCache::new(),
            slots: CallSlots::new(settings.calls.get() as usize),
            log: ThrottledLog::default(),
            settings: settings.clone(),
            metrics,
        })
    }

    /// Returns the answer to a question, from the cache or from the backend. Blocks for the time-out at most. `None`
    /// means that there is no answer. `address` is the client's, if it has limits. An answer from before a user was revoked
    /// is not used again.
    pub(crate) fn ask(
        &self,
        question: &AuthQuestion,
        address: Option<Address>,
        is_revoked: impl Fn(&Identity) -> bool,
    ) -> Option<AuthAnswer> {
        let (key, started) = (question.digest(), Instant::now());
        let is_current = |answer: &AuthAnswer| match answer {
            AuthAnswer::Granted(identity) => !is_revoked(identity),
            AuthAnswer::Unknown | AuthAnswer::Forbidden => true,
        };
        if let Some(answer) = self.cache.get(&key, started).filter(is_current) {
            self.metrics.auth_cache_hits.add(1);
            return Some(answer);
        }
        let deadline = started + self.settings.timeout;
        let Some(_slot) = self.slots.take(address, deadline) else {
            self.metrics.auth_calls_dropped.add(1);
            self.log.warn(format_args!(
                "--auth-url: too many questions at once; --auth-calls sets the limit, and the backend must be fast enough"
            ));
            return None;
        };
        // Another client may have asked the same meanwhile.
        let cached = self.cache.get(&key, Instant::now());
        if let Some(answer) = cached.filter(is_current) {
            self.metrics.auth_cache_hits.add(1);
            return Some(answer);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // TLS needs a deeper stack than the thread of a client has.
        let outcome = threads::run_on_deep_stack(|| self.call(question, left));
        self.metrics.auth_calls.add(1);
        let micros = started.elapsed().as_micros();
        self.metrics.auth_micros.add(micros as u64);
        match outcome {
            Ok((response, answer)) => {
                let lifetime = answer::lifetime(&response, &answer, self.settings.cache);
                if !lifetime.is_zero() {
                    let expires = Instant::now() + lifetime;
                    self.cache.put(key, answer.clone(), expires);
                }
                Some(answer)
            }
            Err(why) => {
                self.metrics.auth_calls_failed.add(1);
                let url = self.client.url();
                self.log.warn(format_args!(
                    "--auth-url {url}: {why}; clients are refused for now"
                ));
                None
            }
        }
    }

    fn call(
        &self,
        question: &AuthQuestion,
        timeout: Duration,
    ) -> Result<(OutgoingResponse, AuthAnswer), String> {
        let headers = question.headers();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = OutgoingRequest {
            method: "GET",
            headers: &headers,
            body: b"",
        };
        let limits = OutgoingLimits {
            connect_timeout: timeout,
            total_timeout: timeout,
            body_bytes_max: answer::BODY_BYTES_MAX,
        };
        let asked = unix_time();
        let response = self.client.send(request, limits);
        let response = response.map_err(|why| why.to_string())?;
        let answer = answer::parse(&response, asked)?;
        Ok((response, answer))
    }
}
