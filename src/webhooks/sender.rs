//! The thread that sends webhooks: holds the lease, waits for changes, sends requests and repeats failed ones.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::broadcaster::Broadcaster;
use crate::config::WebhookSettings;
use crate::metrics::Metrics;
use crate::outgoing::{OutgoingClient, OutgoingLimits, OutgoingRequest};
use crate::rooms::{PresenceChanges, TakenChanges};
use crate::store::{Lease, Store};

use super::body::{self, Serials};
use super::ledger::{EventBatch, Ledger};
use super::prepared::{PreparedWebhooks, SharedSecret};

/// Shortest lifetime of the lease. The lease also outlasts the longest request. Another node takes it when it expires.
const LEASE_LIFETIME_MIN: Duration = Duration::from_secs(10);
/// Time before the end of the lease from which on no request starts.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// Time between two renewals of the lease.
const LEASE_RENEWAL: Duration = Duration::from_secs(2);
/// Longest wait for a change if nothing else is due.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Shortest and longest wait before a retry. Each failed request doubles the wait.
const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes of a response that are read. Only its status matters.
const RESPONSE_BYTES_MAX: usize = 4096;

/// The state of the thread.
pub(super) struct WebhookSender {
    settings: WebhookSettings,
    client: OutgoingClient,
    secret: SharedSecret,
    changes: Arc<PresenceChanges>,
    broadcaster: Broadcaster,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    serials: Serials,
    /// `None` while another node sends webhooks.
    term: Option<Term>,
    renew_at: Instant,
    retry_at: Instant,
    retry_wait: Duration,
}

/// The time for which this node sends webhooks.
#[derive(Clone, Copy, Debug)]
struct Term {
    first_serial: u64,
    valid_until: Instant,
    /// When the snapshot may be taken: clients of an earlier process need a moment to reconnect.
    snapshot_at: Instant,
}

impl WebhookSender {
    pub(super) fn new(
        prepared: PreparedWebhooks,
        broadcaster: Broadcaster,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Self {
        let PreparedWebhooks {
            settings,
            client,
            secret,
            changes,
        } = prepared;
        Self {
            ledger: Ledger::new(settings.settle),
            settings,
            client,
            secret,
            changes,
            broadcaster,
            store,
            metrics,
            serials: Serials::starting_at(0),
            term: None,
            renew_at: now,
            retry_at: now,
            retry_wait: RETRY_WAIT_MIN,
        }
    }

    /// Runs until the changes end.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            if now >= self.renew_at {
                self.renew_lease();
            }
            match self.changes.take(self.next_wake(now)) {
                TakenChanges::Closed => break,
                TakenChanges::Overflowed => self.drop_changes(),
                TakenChanges::Changed(changes) => {
                    let now = Instant::now();
                    for (subject, is_present) in changes {
                        if !self.ledger.record(subject, is_present, now) {
                            self.metrics.webhook_overflows.add(1);
                        }
                    }
                }
            }
            self.send_due(Instant::now());
        }
        if self.term.is_some() {
            self.store.release_webhook_lease();
        }
    }

    fn drop_changes(&mut self) {
        self.metrics.webhook_overflows.add(1);
        self.ledger.drop_changes();
    }

    /// Takes or renews the lease. While Redis does not reply, the term goes on until the lease ends.
    fn renew_lease(&mut self) {
        let asked_at = Instant::now();
        let lifetime = LEASE_LIFETIME_MIN.max(self.settings.timeout + 2 * LEASE_RENEWAL);
        self.renew_at = asked_at + LEASE_RENEWAL;
        match self.store.hold_webhook_lease(lifetime) {
            Ok(Lease::Held { first_serial }) => {
                let mut valid_until = asked_at + lifetime - LEASE_MARGIN;
                if first_serial == 0 {
                    // Serial 0: the store has no other nodes, so the lease needs no renewal.
                    (self.renew_at, valid_until) = (asked_at + WAIT_MAX, asked_at + 2 * WAIT_MAX);
                }
                match &mut self.term {
                    Some(term) if term.first_serial == first_serial => {
                        term.valid_until = valid_until;
                    }
                    _ => self.start_term(first_serial, valid_until),
                }
            }
            Ok(Lease::OfOtherNode) if self.term.is_some() => {
                log::info!("webhooks: another node sends them now");
                self.term = None;
                self.ledger.drop_changes();
            }
            Ok(Lease::OfOtherNode) => {}
            Err(why) => log::debug!("webhooks: cannot renew the lease: {why}"),
        }
    }

    fn start_term(&mut self, first_serial: u64, valid_until: Instant) {
        log::info!("webhooks: this server sends them to {}", self.client.url());
        self.serials.advance_to(match first_serial {
            0 => unix_micros(),
            serial => serial,
        });
        self.ledger.drop_changes();
        self.term = Some(Term {
            first_serial,
            valid_until,
            snapshot_at: Instant::now() + self.settings.settle,
        });
    }

    /// Returns when the thread has work without a change.
    fn next_wake(&self, now: Instant) -> Instant {
        let next_request = self.term.and_then(|term| {
            let due = if self.ledger.needs_snapshot() {
                Some(term.snapshot_at)
            } else {
                self.ledger.next_due(now)
            };
            Some(due?.max(self.retry_at)).filter(|due| *due < term.valid_until)
        });
        next_request.map_or(self.renew_at, |due| due.min(self.renew_at))
    }

    /// Sends one request, if something is due and this node has the lease.
    fn send_due(&mut self, now: Instant) {
        let Some(term) = self.term else {
            return;
        };
        if now >= term.valid_until || now < self.retry_at {
            return;
        }
        if self.ledger.needs_snapshot() {
            if now < term.snapshot_at {
                return;
            }
            if !self.start_snapshot() {
                self.retry_at = now + RETRY_WAIT_MIN;
                return;
            }
        }
        if let Some(batch) = self.ledger.batch(now) {
            self.send(batch);
        }
    }

    /// Reads all present rooms and users. Fails if the broadcaster does not reply in time.
    fn start_snapshot(&mut self) -> bool {
        // Changes until now are part of the snapshot. Changes recorded while the broadcaster replies agree with
        // the reply or are newer.
        if self.changes.take(Instant::now()) == TakenChanges::Closed {
            return false;
        }
        let present = self.broadcaster.present_subjects();
        let is_read = present.is_some();
        if let Some(present) = present {
            self.ledger.start_snapshot(present, self.serials.take());
        }
        is_read
    }

    fn send(&mut self, batch: EventBatch) {
        let started = Instant::now();
        let outcome = self.request(&batch);
        let now = Instant::now();
        self.metrics.webhook_calls.add(1);
        let micros = now.duration_since(started).as_micros();
        self.metrics.webhook_micros.add(micros as u64);
        match outcome {
            Ok(()) => {
                self.metrics.webhook_events.add(batch.subjects.len() as u64);
                self.ledger.succeeded(batch);
                self.retry_at = now;
                if self.retry_wait > RETRY_WAIT_MIN {
                    log::info!("webhooks: {} accepts events again", self.client.url());
                }
                self.retry_wait = RETRY_WAIT_MIN;
            }
            Err(why) => {
                self.metrics.webhook_calls_failed.add(1);
                self.ledger.failed(batch, now);
                self.log_failure(&why);
                self.retry_at = now + self.retry_wait.mul_f64(rand::random_range(0.75..1.25));
                self.retry_wait = (2 * self.retry_wait).min(RETRY_WAIT_MAX);
            }
        }
    }

    fn log_failure(&self, why: &str) {
        let (url, waiting) = (self.client.url(), self.ledger.waiting());
        if self.retry_wait == RETRY_WAIT_MIN {
            log::warn!("webhooks: {url}: {why}; the state is sent again until it is accepted");
        } else {
            log::debug!("webhooks: {url}: {why}; {waiting} rooms and users are pending");
        }
    }

    fn request(&mut self, batch: &EventBatch) -> Result<(), String> {
        let (body, id) = body::encode(batch, &mut self.serials);
        let timestamp = unix_micros() / 1_000_000;
        let (timestamp_text, signature) = (timestamp.to_string(), {
            let secret = self.secret.read();
            secret
                .as_ref()
                .map(|secret| secret.sign(&id, timestamp, &body))
        });
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("webhook-id", &id),
            ("webhook-timestamp", &timestamp_text),
        ];
        if let Some(signature) = &signature {
            headers.push(("webhook-signature", signature));
        }
        let request = OutgoingRequest {
            method: "POST",
            headers: &headers,
            body: &body,
        };
        let limits = OutgoingLimits {
            connect_timeout: self.settings.timeout,
            total_timeout: self.settings.timeout,
            body_bytes_max: RESPONSE_BYTES_MAX,
        };
        let response = self.client.send(request, limits);
        let response = response.map_err(|why| why.to_string())?;
        if response.is_success() {
            Ok(())
        } else {
            Err(format!("it responds with {}", response.status))
        }
    }
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 counts as 1970.
    since.unwrap_or_default().as_micros() as u64
}
