//! The addresses of a host, looked up by the system's resolver, which has no deadline of its own.
//!
//! A look-up runs on a thread of its own, at most one for each host at a time. Each caller waits until its own
//! deadline; the thread ends when the resolver does.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::threads;

use super::error::OutgoingError;

/// How long the addresses of a name are used.
const ADDRESSES_LIFETIME: Duration = Duration::from_secs(30);
/// How long a failed look-up is not repeated.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The look-up of one host.
#[derive(Debug)]
pub(super) struct NameLookup {
    host: String,
    port: u16,
    shared: Arc<SharedLookup>,
}

#[derive(Debug, Default)]
struct SharedLookup {
    state: Mutex<LookupState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LookupState {
    is_running: bool,
    last: Option<LookupResult>,
}

#[derive(Debug)]
struct LookupResult {
    addresses: Result<Vec<SocketAddr>, OutgoingError>,
    expires: Instant,
}

impl NameLookup {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            shared: Arc::default(),
        }
    }

    /// Returns the host's addresses. Waits for the resolver until the deadline at most.
    pub(super) fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, OutgoingError> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let mut state = self.shared.state.lock();
        loop {
            let now = Instant::now();
            if let Some(last) = state.last.as_ref().filter(|last| last.expires > now) {
                return last.addresses.clone();
            }
            if now >= deadline {
                return Err(OutgoingError::TimedOut);
            }
            if !state.is_running {
                self.start()?;
                state.is_running = true;
            }
            self.shared.changed.wait_until(&mut state, deadline);
        }
    }

    fn start(&self) -> Result<(), OutgoingError> {
        let (host, port, shared) = (self.host.clone(), self.port, Arc::clone(&self.shared));
        let look_up = move || shared.finish(resolve(&host, port));
        threads::spawn_service("name-lookup", look_up)
            .map(drop)
            .map_err(|why| OutgoingError::Name(format!("cannot start a thread: {why}")))
    }
}

impl SharedLookup {
    fn finish(&self, addresses: Result<Vec<SocketAddr>, OutgoingError>) {
        let lifetime = match addresses {
            Ok(_) => ADDRESSES_LIFETIME,
            Err(_) => FAILURE_LIFETIME,
        };
        *self.state.lock() = LookupState {
            is_running: false,
            last: Some(LookupResult {
                addresses,
                expires: Instant::now() + lifetime,
            }),
        };
        self.changed.notify_all();
    }
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, OutgoingError> {
    let found = (host, port).to_socket_addrs();
    let found =
        found.map_err(|why| OutgoingError::Name(format!("cannot look up {host}: {why}")))?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver_and_names_are_looked_up() {
        let now = Instant::now();
        let v6 = NameLookup::new("::1", 7);
        assert_eq!(v6.addresses(now), Ok(vec!["[::1]:7".parse().unwrap()]));
        let soon = now + Duration::from_secs(10);
        let localhost = NameLookup::new("localhost", 7);
        let found = localhost.addresses(soon).expect("addresses");
        assert!(found.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(
            localhost.addresses(now),
            Ok(found),
            "the next call waits for nothing"
        );
    }
}
