//! Limits of each client address: connections, new connections, HTTP requests, new rooms and refused tokens.
//!
//! No timer removes idle addresses: each use of the table removes a few, the least recently used first.
//! The table is therefore bounded, however many addresses clients connect from, and a full table is not slower.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use super::Address;
use super::bucket::TokenBucket;
use super::rate::{per_second, take};
use crate::config::AddressLimits;

/// Most idle addresses that are remembered. There are at most as many others as there are connections.
const IDLE_ADDRESSES_MAX: usize = 16 * 1024;
/// Time after which an idle address may be forgotten, because its buckets are full again.
const IDLE_ADDRESS_KEPT: Duration = NEW_ROOMS_BURST;
/// Window of the new-room burst: the new rooms of this time may be created at once. It is long because all clients of
/// an address rejoin their rooms at once after a restart.
const NEW_ROOMS_BURST: Duration = Duration::from_secs(600);
/// Idle addresses forgotten at each use. A use may add one, so a full table becomes smaller again.
const FORGOTTEN_AT_ONCE: usize = 2;

/// The reason why an address may not have another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressLimitError {
    /// The address has as many connections as it may have.
    Connections,
    /// The address connects too fast; it may connect again after this time.
    Rate(Duration),
}

/// All client addresses with their limits. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(Arc<AddressTable>);

#[derive(Debug)]
struct AddressTable(Mutex<AddressUsages>);

/// An address is in exactly one of the two maps.
#[derive(Debug)]
struct AddressUsages {
    limits: AddressLimits,
    connected: HashMap<Address, AddressUsage>,
    /// Addresses without connections, in the order of use.
    idle: LruCache<Address, AddressUsage>,
}

/// The connections of one address, and its token buckets.
#[derive(Debug)]
struct AddressUsage {
    connections: usize,
    last_used: Instant,
    /// Each bucket is `None` if there is no such limit.
    new_connections: Option<TokenBucket>,
    requests: Option<TokenBucket>,
    new_rooms: Option<TokenBucket>,
    refused_tokens: Option<TokenBucket>,
}

/// Permission for one connection of an address; returned when dropped.
#[derive(Debug)]
pub(crate) struct AddressPermit {
    address: Address,
    table: Arc<AddressTable>,
}

impl Addresses {
    /// Returns an empty table.
    pub(crate) fn new(limits: AddressLimits) -> Self {
        Self(Arc::new(AddressTable(Mutex::new(AddressUsages {
            limits,
            connected: HashMap::new(),
            idle: LruCache::unbounded(),
        }))))
    }

    /// Changes the limits. Each address may use its bursts again if a limit has changed.
    pub(crate) fn set_limits(&self, limits: AddressLimits, now: Instant) {
        let mut usages = self.0.0.lock();
        if usages.limits == limits {
            return;
        }
        usages.limits = limits;
        let AddressUsages {
            connected, idle, ..
        } = &mut *usages;
        let idle = idle.iter_mut().map(|(_, usage)| usage);
        for usage in connected.values_mut().chain(idle) {
            *usage = AddressUsage {
                connections: usage.connections,
                last_used: usage.last_used,
                ..AddressUsage::new(&limits, now)
            };
        }
    }

    /// Returns a permit for one more connection of this address.
    pub(crate) fn connect(
        &self,
        address: Address,
        now: Instant,
    ) -> Result<AddressPermit, AddressLimitError> {
        self.0.with_usage(address, now, |usage, limits| {
            let max = limits.connections;
            let max = max.map_or(usize::MAX, |max| max.get() as usize);
            // The rate is checked first, because a client with too many connections must not retry at full speed.
            take(&mut usage.new_connections, 1, now).map_err(AddressLimitError::Rate)?;
            if usage.connections >= max {
                return Err(AddressLimitError::Connections);
            }
            usage.connections += 1;
            Ok(())
        })?;
        Ok(AddressPermit {
            address,
            table: Arc::clone(&self.0),
        })
    }

    /// Counts one HTTP request. `Err` is the time after which a request is accepted again.
    pub(crate) fn count_request(&self, address: Address, now: Instant) -> Result<(), Duration> {
        self.0
            .with_usage(address, now, |usage, _| take(&mut usage.requests, 1, now))
    }

    /// Counts one room that the address creates. `Err` is the time after which it may create another.
    pub(crate) fn count_new_room(&self, address: Address, now: Instant) -> Result<(), Duration> {
        self.0
            .with_usage(address, now, |usage, _| take(&mut usage.new_rooms, 1, now))
    }

    /// Returns `Err` with the time to wait if too many tokens from this address were refused, so that
    /// its tokens are not checked now.
    pub(crate) fn check_refused_tokens(
        &self,
        address: Address,
        now: Instant,
    ) -> Result<(), Duration> {
        let usages = self.0.0.lock();
        let usage = usages
            .connected
            .get(&address)
            .or(usages.idle.peek(&address));
        let bucket = usage.and_then(|usage| usage.refused_tokens.as_ref());
        match bucket.map_or(Duration::ZERO, |bucket| bucket.wait_for(1, now)) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Counts a token that was refused.
    pub(crate) fn count_refused_token(&self, address: Address, now: Instant) {
        self.0.with_usage(address, now, |usage, _| {
            // Fails if several tokens were checked at the same moment and the bucket is empty; it stays empty.
            take(&mut usage.refused_tokens, 1, now).ok();
        });
    }

    /// Returns how many addresses are remembered.
    pub(crate) fn count(&self) -> usize {
        let usages = self.0.0.lock();
        usages.connected.len() + usages.idle.len()
    }
}

impl AddressTable {
    /// Calls `act` with the usage of an address, which becomes the most recently used.
    fn with_usage<R>(
        &self,
        address: Address,
        now: Instant,
        act: impl FnOnce(&mut AddressUsage, &AddressLimits) -> R,
    ) -> R {
        let mut usages = self.0.lock();
        let limits = usages.limits;
        let known = usages.connected.remove(&address);
        let known = known.or_else(|| usages.idle.pop(&address));
        let mut usage = known.unwrap_or_else(|| AddressUsage::new(&limits, now));
        usage.last_used = usage.last_used.max(now);
        let result = act(&mut usage, &limits);
        if usage.connections > 0 {
            usages.connected.insert(address, usage);
        } else {
            usages.idle.put(address, usage);
        }
        usages.forget_idle(now);
        result
    }
}

impl AddressUsages {
    /// Forgets the least recently used idle addresses that are old or too many.
    fn forget_idle(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let is_crowded = self.idle.len() > IDLE_ADDRESSES_MAX;
            let oldest = self.idle.peek_lru();
            let is_old =
                oldest.is_some_and(|(_, usage)| now >= usage.last_used + IDLE_ADDRESS_KEPT);
            if !is_crowded && !is_old {
                return;
            }
            self.idle.pop_lru();
        }
    }
}

impl AddressUsage {
    fn new(limits: &AddressLimits, now: Instant) -> Self {
        let bucket = |rate| per_second(rate, 1, now);
        Self {
            connections: 0,
            last_used: now,
            new_connections: limits.connection_rate.map(bucket),
            requests: limits.request_rate.map(bucket),
            new_rooms: limits.new_rooms_per_minute.map(|per_minute| {
                let interval = Duration::from_secs(60) / per_minute.get();
                let minutes = (NEW_ROOMS_BURST.as_secs() / 60) as u32;
                TokenBucket::new(per_minute.get().saturating_mul(minutes), interval, now)
            }),
            refused_tokens: limits.failures_per_minute.map(|per_minute| {
                let interval = Duration::from_secs(60) / per_minute.get();
                TokenBucket::new(per_minute.get(), interval, now)
            }),
        }
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        self.table
            .with_usage(self.address, Instant::now(), |usage, _| {
                usage.connections -= 1
            });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(connections: u32, rate: u32, failures: u32) -> (Addresses, Instant) {
        let limits = AddressLimits {
            connections: NonZeroU32::new(connections),
            connection_rate: NonZeroU32::new(rate),
            request_rate: NonZeroU32::new(rate),
            new_rooms_per_minute: NonZeroU32::new(rate),
            failures_per_minute: NonZeroU32::new(failures),
        };
        (Addresses::new(limits), Instant::now())
    }

    fn address(n: u32) -> Address {
        Address::of(std::net::IpAddr::V4((0x0b00_0000 + n).into())).unwrap()
    }

    #[test]
    fn connections_are_limited_and_permits_are_returned() {
        let (addresses, now) = addresses(2, 0, 0);
        let connect = |n| addresses.connect(address(n), now);
        let first = connect(1).unwrap();
        let _second = connect(1).unwrap();
        assert_eq!(connect(1).unwrap_err(), AddressLimitError::Connections);
        let _other = connect(2).unwrap();
        drop(first);
        let _third = connect(1).unwrap();
        assert_eq!(connect(1).unwrap_err(), AddressLimitError::Connections);
    }

    #[test]
    fn refused_connection_counts_against_the_rate() {
        let (addresses, now) = addresses(1, 1, 0);
        let connect = |now| addresses.connect(address(1), now).map(drop).unwrap_err();
        let _first = addresses.connect(address(1), now).unwrap();
        for _ in 1..10 {
            assert_eq!(connect(now), AddressLimitError::Connections);
        }
        assert_eq!(connect(now), AddressLimitError::Rate(SECOND));
        assert_eq!(connect(now + SECOND), AddressLimitError::Connections);
    }

    #[test]
    fn burst_of_ten_seconds_of_connections_and_requests_is_accepted() {
        let (addresses, now) = addresses(0, 2, 0);
        for _ in 0..20 {
            drop(addresses.connect(address(1), now).unwrap());
            addresses.count_request(address(1), now).unwrap();
        }
        let half = SECOND / 2;
        let refused = addresses.connect(address(1), now).unwrap_err();
        assert_eq!(refused, AddressLimitError::Rate(half));
        assert_eq!(addresses.count_request(address(1), now), Err(half));
        assert_eq!(addresses.count_request(address(2), now), Ok(()));
        let later = now + half;
        drop(addresses.connect(address(1), later).unwrap());
        assert_eq!(addresses.count_request(address(1), later), Ok(()));
        assert_eq!(addresses.count_request(address(1), later), Err(half));
    }

    #[test]
    fn tokens_are_not_checked_after_too_many_were_refused() {
        let (addresses, now) = addresses(0, 0, 6);
        let check = |n, seconds| addresses.check_refused_tokens(address(n), now + seconds * SECOND);
        for _ in 0..6 {
            assert_eq!(check(1, 0), Ok(()));
            addresses.count_refused_token(address(1), now);
        }
        assert_eq!(check(1, 0), Err(10 * SECOND));
        assert_eq!(check(2, 0), Ok(()));
        assert_eq!(check(1, 10), Ok(()));
        addresses.count_refused_token(address(1), now + 10 * SECOND);
        assert_eq!(check(1, 10), Err(10 * SECOND));
        assert_eq!(check(1, 70), Ok(()));
    }

    #[test]
    fn burst_of_ten_minutes_of_new_rooms_is_accepted() {
        let (addresses, now) = addresses(0, 6, 0);
        let create = |n, at| addresses.count_new_room(address(n), at);
        assert!((0..60).all(|_| create(1, now).is_ok()));
        assert_eq!(create(1, now), Err(10 * SECOND));
        assert_eq!(create(2, now), Ok(()));
        assert_eq!(create(1, now + 10 * SECOND), Ok(()));
        assert_eq!(create(1, now + 15 * SECOND), Err(5 * SECOND));
        // Neither a pause nor other addresses remove the address before its bucket is full.
        for n in 10..20 {
            create(n, now + 590 * SECOND).unwrap();
        }
        let allowed = (0..60).filter(|_| create(1, now + 590 * SECOND).is_ok());
        assert_eq!(allowed.count(), 58);
    }

    #[test]
    fn zero_means_no_limit() {
        let (addresses, now) = addresses(0, 0, 0);
        let permits: Vec<_> = (0..10_000)
            .map(|_| addresses.connect(address(1), now))
            .collect();
        assert!(permits.iter().all(Result::is_ok));
        assert!((0..10_000).all(|_| addresses.count_request(address(1), now).is_ok()));
        assert!((0..10_000).all(|_| addresses.count_new_room(address(1), now).is_ok()));
        (0..10_000).for_each(|_| addresses.count_refused_token(address(1), now));
        assert_eq!(addresses.check_refused_tokens(address(1), now), Ok(()));
    }

    /// A client that uses ever more addresses fills the table, and it grows no further. Connected
    /// addresses stay in it.
    #[test]
    fn full_table_forgets_the_least_recently_used_idle_address() {
        let (addresses, now) = addresses(1, 1, 1);
        let refuse = |n| addresses.count_refused_token(address(n), now);
        let is_known = |n| addresses.check_refused_tokens(address(n), now).is_err();
        let permit = addresses.connect(address(0), now).unwrap();
        let many = IDLE_ADDRESSES_MAX as u32;
        for n in 1..=2 * many {
            refuse(n);
            assert!(addresses.count() <= IDLE_ADDRESSES_MAX + 1);
        }
        assert_eq!(addresses.count(), IDLE_ADDRESSES_MAX + 1);
        let again = addresses.connect(address(0), now).unwrap_err();
        assert_eq!(again, AddressLimitError::Connections);
        assert!(is_known(2 * many), "the newest");
        assert!(is_known(many + 1), "the oldest left");
        assert!(!is_known(many), "forgotten");
        // An address that is used again is kept.
        refuse(many + 1);
        refuse(2 * many + 1);
        assert!(is_known(many + 1));
        assert!(!is_known(many + 2));
        drop(permit);
        assert_eq!(addresses.count(), IDLE_ADDRESSES_MAX);
    }

    #[test]
    fn table_shrinks_once_idle_addresses_are_old() {
        let (addresses, now) = addresses(1, 1, 1);
        for n in 0..1000 {
            addresses.count_request(address(n), now).unwrap();
        }
        assert_eq!(addresses.count(), 1000);
        let later = now + IDLE_ADDRESS_KEPT;
        for _ in 0..1001 {
            drop(addresses.connect(address(5000), later));
        }
        assert_eq!(addresses.count(), 1);
    }
}
