//! Public keys at a URL (`--jwks-url`): fetched on a thread of their own, and kept while the URL's server is away.
//!
//! A token that names an unknown key makes the thread fetch them again, but not more often than every ten seconds, so
//! that tokens with made-up names neither flood the URL's server nor delay clients whose keys are known.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::{Condvar, Mutex, RwLock};

use super::public_keys;
use super::verifying::VerifyingKey;
use crate::metrics::Metrics;

/// Fetches the body at the URL. The error is for the log.
pub(crate) type FetchKeys = Box<dyn Fn() -> Result<Vec<u8>, String> + Send>;

/// Time after a fetch in which no token starts another.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Time after which the keys are fetched again in any case, so that a removed key does not stay valid.
const FETCH_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Waits between failed fetches: the first one, doubled up to the last one.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest time that a client with an unknown key waits for a fetch.
const CLIENT_WAIT: Duration = Duration::from_secs(2);

/// The keys at a URL.
pub(in crate::auth) struct RemoteKeys {
    url: String,
    keys: RwLock<Arc<Vec<VerifyingKey>>>,
    progress: Mutex<FetchState>,
    finished: Condvar,
    /// Wakes the thread. A request that is there already is enough.
    requests: (Sender<()>, Receiver<()>),
}

#[derive(Debug, Default)]
struct FetchState {
    /// Number of fetches that have ended.
    fetches: u64,
    is_fetching: bool,
    last: Option<LastFetch>,
}

#[derive(Clone, Copy, Debug)]
struct LastFetch {
    ended: Instant,
    succeeded: bool,
}

/// The result of a request to fetch the keys again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Refresh {
    /// The keys were fetched.
    Fetched,
    /// The keys were fetched shortly before, so no other key exists.
    Recent,
    /// The URL's server does not answer, or not in time.
    Unavailable,
}

impl RemoteKeys {
    /// Returns no keys until [`run`](Self::run) has fetched them.
    pub(in crate::auth) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            keys: RwLock::default(),
            progress: Mutex::default(),
            finished: Condvar::new(),
            requests: bounded(1),
        }
    }

    /// Returns the keys of the last fetch that succeeded.
    pub(in crate::auth) fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        Arc::clone(&self.keys.read())
    }

    /// Fetches the keys for as long as the process runs.
    pub(in crate::auth) fn run(&self, fetch: &FetchKeys, metrics: &Metrics) {
        let mut retry = RETRY_MIN;
        loop {
            self.progress.lock().is_fetching = true;
            let fetched = fetch().and_then(|body| self.parse(&body));
            let succeeded = fetched.is_ok();
            match fetched {
                Ok(keys) => {
                    log::debug!("fetched {} keys from {}", keys.len(), self.url);
                    *self.keys.write() = Arc::new(keys);
                }
                Err(why) => {
                    metrics.key_fetches_failed.add(1);
                    log::warn!(
                        "--jwks-url {:?}: {why}; the keys that were fetched before stay in use",
                        self.url
                    );
                }
            }
            self.finish(succeeded);
            let wait = if succeeded { FETCH_INTERVAL } else { retry };
            retry = if succeeded {
                RETRY_MIN
            } else {
                (retry * 2).min(RETRY_MAX)
            };
            if self.requests.1.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn parse(&self, body: &[u8]) -> Result<Vec<VerifyingKey>, String> {
        let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
        public_keys::parse_json(text, &self.url).map_err(|why| format!("the answer {why}"))
    }

    fn finish(&self, succeeded: bool) {
        let mut progress = self.progress.lock();
        progress.fetches += 1;
        progress.is_fetching = false;
        progress.last = Some(LastFetch {
            ended: Instant::now(),
            succeeded,
        });
        drop(progress);
        self.finished.notify_all();
    }

    /// Wakes the thread to fetch the keys now.
    pub(in crate::auth) fn request(&self) {
        // An error means that the thread is about to fetch.
        self.requests.0.try_send(()).ok();
    }

    /// Fetches the keys again unless that was done shortly before, and waits a little for the result.
    pub(in crate::auth) fn refresh(&self, now: Instant) -> Refresh {
        let mut progress = self.progress.lock();
        if !progress.is_fetching {
            match progress.last {
                Some(last) if now.saturating_duration_since(last.ended) < FETCH_INTERVAL_MIN => {
                    return if last.succeeded {
                        Refresh::Recent
                    } else {
                        Refresh::Unavailable
                    };
                }
                _ => self.request(),
            }
        }
        self.wait(&mut progress, now + CLIENT_WAIT)
    }

    /// Blocks until a fetch has ended, until `deadline` at most. Returns whether the last fetch succeeded.
    pub(in crate::auth) fn wait_for_first(&self, deadline: Instant) -> bool {
        let mut progress = self.progress.lock();
        match progress.last {
            Some(last) => last.succeeded,
            None => self.wait(&mut progress, deadline) == Refresh::Fetched,
        }
    }

    fn wait(
        &self,
        progress: &mut parking_lot::MutexGuard<'_, FetchState>,
        deadline: Instant,
    ) -> Refresh {
        let fetches = progress.fetches;
        while progress.fetches == fetches {
            if self.finished.wait_until(progress, deadline).timed_out() {
                return Refresh::Unavailable;
            }
        }
        match progress.last {
            Some(last) if last.succeeded => Refresh::Fetched,
            _ => Refresh::Unavailable,
        }
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKeys({:?})", self.url)
    }
}
