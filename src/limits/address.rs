//! How much one address may ask: connections at once and in a time, HTTP requests, tokens that are refused.
//!
//! What is remembered of an address has no timer: it is forgotten when others come, the one first that
//! has been idle for longest. So the table's size is bounded, whoever comes from however many addresses,
//! and no step takes longer for its being full.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};

use crate::config::AddressLimits;

use super::rate::{BURST_SECONDS, Monotonic};

/// Addresses without connections that are remembered. One with connections always is; their number is
/// bounded by that of connections.
pub const IDLE_ADDRESSES_MAX: usize = 16 * 1024;
/// Time after which an idle address may be forgotten: then its buckets are full again.
const IDLE_ADDRESS_KEPT: Duration = Duration::from_secs(120);
/// Idle addresses that are forgotten when one is looked up: more than the one it may add.
const FORGOTTEN_AT_ONCE: usize = 2;
/// Bits of an IPv6 address that tell clients apart: the rest is for each to choose (RFC 4291 §2.5.4).
const IPV6_NETWORK_BITS: u32 = 64;

/// What counts as one client: an IPv4 address, or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(IpAddr);

impl Address {
    /// The address that this one counts as; `None` for this machine's own, which has no bounds.
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(v4) => Some(Self(v4.into())),
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - IPV6_NETWORK_BITS);
                Some(Self(Ipv6Addr::from_bits(v6.to_bits() & mask).into()))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/{IPV6_NETWORK_BITS}"),
        }
    }
}

/// A connection that is too much for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressLimitError {
    /// It has as many as it may have.
    Connections,
    /// They came too fast; when one may come again.
    Rate(Duration),
}

/// What tells the time here: how long it is since some moment.
pub trait Time: Clock<Instant = Duration> + Clone {}

impl<C: Clock<Instant = Duration> + Clone> Time for C {}

/// The addresses there are.
#[derive(Debug)]
pub struct Addresses<C: Time = Monotonic>(Arc<Inner<C>>);

#[derive(Debug)]
struct Inner<C: Time> {
    limits: AddressLimits,
    clock: C,
    table: Mutex<Table<C>>,
}

#[derive(Debug, Default)]
struct Table<C: Time> {
    entries: HashMap<Address, Entry<C>>,
    /// Those without connections, by when they were used last.
    idle: BTreeMap<u64, Address>,
    /// How often any was used.
    uses: u64,
}

/// What is remembered of an address.
#[derive(Debug)]
struct Entry<C: Time> {
    connections: usize,
    /// Its place in the order of use.
    last_use: u64,
    last_used_at: Duration,
    connecting: Option<Bucket<C>>,
    requesting: Option<Bucket<C>>,
    failing: Option<RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>>,
    /// Until when its tokens are not looked at.
    shut_out_until: Duration,
}

type Bucket<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<Duration>>;

/// A connection's place at its address; free again when dropped.
#[derive(Debug)]
pub struct AddressPermit<C: Time = Monotonic> {
    address: Address,
    addresses: Arc<Inner<C>>,
}

impl Addresses {
    /// An empty table.
    pub fn new(limits: AddressLimits) -> Self {
        Self::with_clock(limits, Monotonic)
    }
}

impl<C: Time> Addresses<C> {
    fn with_clock(limits: AddressLimits, clock: C) -> Self {
        let table = Mutex::new(Table {
            entries: HashMap::new(),
            idle: BTreeMap::new(),
            uses: 0,
        });
        Self(Arc::new(Inner {
            limits,
            clock,
            table,
        }))
    }

    /// A place for one more connection of this address.
    pub fn connect(&self, address: Address) -> Result<AddressPermit<C>, AddressLimitError> {
        let most = self.0.limits.connections;
        let most = most.map_or(usize::MAX, |most| most.get() as usize);
        self.0.with_entry(address, |entry, now| {
            // First, so that who has too many cannot go on knocking as fast as it likes.
            take_one(&entry.connecting, now).map_err(AddressLimitError::Rate)?;
            if entry.connections >= most {
                return Err(AddressLimitError::Connections);
            }
            entry.connections += 1;
            Ok(())
        })?;
        Ok(AddressPermit {
            address,
            addresses: Arc::clone(&self.0),
        })
    }

    /// Counts one HTTP request; `Err` says how long to wait with it.
    pub fn request(&self, address: Address) -> Result<(), Duration> {
        let count = |entry: &mut Entry<C>, now| take_one(&entry.requesting, now);
        self.0.with_entry(address, count)
    }

    /// Whether a token from this address is looked at now; `Err` says how long to wait with it.
    pub fn may_try(&self, address: Address) -> Result<(), Duration> {
        let now = self.0.clock.now();
        let table = self.0.lock();
        let entry = table.entries.get(&address);
        let wait = entry.map(|entry| entry.shut_out_until.saturating_sub(now));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => Ok(()),
        }
    }

    /// Counts a token that was refused. The last that there may be shuts the address out until there may
    /// be another.
    pub fn failed(&self, address: Address) {
        self.0.with_entry(address, |entry, now| {
            let Some(bucket) = &entry.failing else { return };
            let wait = match bucket.check() {
                Ok(left) if left.remaining_burst_capacity() > 0 => return,
                Ok(left) => left.quota().replenish_interval(),
                // Several were looked at together.
                Err(until) => until.wait_time_from(now),
            };
            entry.shut_out_until = now + wait;
        });
    }

    /// How many addresses are remembered.
    pub fn count(&self) -> usize {
        self.0.lock().entries.len()
    }
}

impl<C: Time> Inner<C> {
    fn lock(&self) -> MutexGuard<'_, Table<C>> {
        self.table.lock()
    }

    /// Does something with what is known of an address, and notes that it was used.
    fn with_entry<R>(&self, address: Address, act: impl FnOnce(&mut Entry<C>, Duration) -> R) -> R {
        let now = self.clock.now();
        let mut table = self.lock();
        let Table {
            entries,
            idle,
            uses,
        } = &mut *table;
        let entry = entries.entry(address).or_insert_with(|| self.entry());
        idle.remove(&entry.last_use);
        *uses += 1;
        (entry.last_use, entry.last_used_at) = (*uses, now);
        let result = act(entry, now);
        if entry.connections == 0 {
            idle.insert(*uses, address);
        }
        table.forget_idle(now);
        result
    }

    fn entry(&self) -> Entry<C> {
        let clock = || self.clock.clone();
        let bucket = |rate| RateLimiter::direct_with_clock(per_second(rate), clock());
        let limits = &self.limits;
        let failing = limits.failures_per_minute.map(|most| {
            let bucket = RateLimiter::direct_with_clock(Quota::per_minute(most), clock());
            bucket.with_middleware()
        });
        Entry {
            connections: 0,
            last_use: 0,
            last_used_at: Duration::ZERO,
            connecting: limits.connection_rate.map(bucket),
            requesting: limits.request_rate.map(bucket),
            failing,
            shut_out_until: Duration::ZERO,
        }
    }
}

impl<C: Time> Table<C> {
    /// Forgets the address that is idle for longest, if that is long or too many are; and one more, so
    /// that a table that was full grows small again.
    fn forget_idle(&mut self, now: Duration) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let crowded = self.idle.len() > IDLE_ADDRESSES_MAX;
            let Some(oldest) = self.idle.first_entry() else {
                return;
            };
            let entry = self.entries.get(oldest.get());
            let is_old = entry.is_none_or(|entry| now >= entry.last_used_at + IDLE_ADDRESS_KEPT);
            if !crowded && !is_old {
                return;
            }
            self.entries.remove(&oldest.remove());
        }
    }
}

impl<C: Time> Drop for AddressPermit<C> {
    fn drop(&mut self) {
        let address = self.address;
        let leave = |entry: &mut Entry<C>, _| entry.connections -= 1;
        self.addresses.with_entry(address, leave);
    }
}

/// Takes one from a bucket that has one; `Err` says when it has one again.
fn take_one<C: Time>(bucket: &Option<Bucket<C>>, now: Duration) -> Result<(), Duration> {
    match bucket.as_ref().map(RateLimiter::check) {
        Some(Err(until)) => Err(until.wait_time_from(now)),
        Some(Ok(())) | None => Ok(()),
    }
}

fn per_second(rate: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(rate.get().saturating_mul(BURST_SECONDS)).unwrap_or(rate);
    Quota::per_second(rate).allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Milliseconds, which pass when they are told to.
    #[derive(Clone, Debug, Default)]
    struct Hand(Arc<AtomicU64>);

    impl Hand {
        fn pass(&self, seconds: f64) {
            let ms = (seconds * 1000.0) as u64;
            self.0.fetch_add(ms, Ordering::Relaxed);
        }
    }

    impl Clock for Hand {
        type Instant = Duration;

        fn now(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn addresses(connections: u32, rate: u32, failures: u32) -> (Addresses<Hand>, Hand) {
        let clock = Hand::default();
        let limits = AddressLimits {
            connections: NonZeroU32::new(connections),
            connection_rate: NonZeroU32::new(rate),
            request_rate: NonZeroU32::new(rate),
            failures_per_minute: NonZeroU32::new(failures),
        };
        (Addresses::with_clock(limits, clock.clone()), clock)
    }

    fn address(text: &str) -> Address {
        Address::of(text.parse().unwrap()).unwrap()
    }

    fn nth(n: u32) -> Address {
        Address(IpAddr::V4((0x0b00_0000 + n).into()))
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        assert_eq!(address("2001:db8::1"), address("2001:db8:0:0:ffff::2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:203.0.113.7"), address("203.0.113.7"));
        assert_eq!(address("2001:db8::1").to_string(), "2001:db8::/64");
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(Address::of(own.parse().unwrap()), None, "{own}");
        }
    }

    #[test]
    fn connections_are_bounded_and_come_back() {
        let (addresses, _) = addresses(2, 0, 0);
        let (here, there) = (address("203.0.113.7"), address("203.0.113.8"));
        let first = addresses.connect(here).unwrap();
        let _second = addresses.connect(here).unwrap();
        assert_eq!(
            addresses.connect(here).unwrap_err(),
            AddressLimitError::Connections
        );
        let _other = addresses.connect(there).unwrap();
        drop(first);
        let _third = addresses.connect(here).unwrap();
        assert_eq!(
            addresses.connect(here).unwrap_err(),
            AddressLimitError::Connections
        );
    }

    #[test]
    fn what_is_refused_counts_as_an_attempt() {
        let (addresses, clock) = addresses(1, 1, 0);
        let here = address("203.0.113.7");
        let _first = addresses.connect(here).unwrap();
        for _ in 1..10 {
            assert_eq!(
                addresses.connect(here).unwrap_err(),
                AddressLimitError::Connections
            );
        }
        let second = Duration::from_secs(1);
        assert_eq!(
            addresses.connect(here).unwrap_err(),
            AddressLimitError::Rate(second)
        );
        clock.pass(1.0);
        assert_eq!(
            addresses.connect(here).unwrap_err(),
            AddressLimitError::Connections
        );
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_as_time_passes() {
        let (addresses, clock) = addresses(0, 2, 0);
        let (here, there) = (address("203.0.113.7"), address("203.0.113.8"));
        for _ in 0..20 {
            drop(addresses.connect(here).unwrap());
            addresses.request(here).unwrap();
        }
        let half = Duration::from_millis(500);
        assert_eq!(
            addresses.connect(here).unwrap_err(),
            AddressLimitError::Rate(half)
        );
        assert_eq!(addresses.request(here), Err(half));
        assert_eq!(addresses.request(there), Ok(()));
        clock.pass(0.5);
        drop(addresses.connect(here).unwrap());
        assert_eq!(addresses.request(here), Ok(()));
        assert_eq!(addresses.request(here), Err(half));
    }

    #[test]
    fn who_fails_too_often_is_not_looked_at_until_it_may_fail_again() {
        let (addresses, clock) = addresses(0, 0, 6);
        let (here, there) = (address("203.0.113.7"), address("203.0.113.8"));
        for _ in 0..6 {
            assert_eq!(addresses.may_try(here), Ok(()));
            addresses.failed(here);
        }
        let ten = Duration::from_secs(10);
        assert_eq!(addresses.may_try(here), Err(ten));
        assert_eq!(addresses.may_try(there), Ok(()));
        clock.pass(10.0);
        assert_eq!(addresses.may_try(here), Ok(()));
        addresses.failed(here);
        assert_eq!(addresses.may_try(here), Err(ten));
        clock.pass(60.0);
        assert_eq!(addresses.may_try(here), Ok(()));
    }

    #[test]
    fn zero_is_no_bound() {
        let (addresses, _) = addresses(0, 0, 0);
        let here = address("203.0.113.7");
        let places: Vec<_> = (0..10_000).map(|_| addresses.connect(here)).collect();
        assert!(places.iter().all(Result::is_ok));
        assert!((0..10_000).all(|_| addresses.request(here).is_ok()));
        (0..10_000).for_each(|_| addresses.failed(here));
        assert_eq!(addresses.may_try(here), Ok(()));
    }

    /// Whoever comes from however many addresses fills the table with them and with nothing more. Those
    /// who are connected stay in it.
    #[test]
    fn a_full_table_forgets_who_has_been_idle_for_longest() {
        let (addresses, _) = addresses(1, 1, 1);
        let (known, place) = (nth(0), addresses.connect(nth(0)).unwrap());
        let many = IDLE_ADDRESSES_MAX as u32;
        for n in 1..=2 * many {
            addresses.failed(nth(n));
            assert!(addresses.count() <= IDLE_ADDRESSES_MAX + 1);
        }
        assert_eq!(addresses.count(), IDLE_ADDRESSES_MAX + 1);
        assert_eq!(
            addresses.connect(known).unwrap_err(),
            AddressLimitError::Connections
        );
        assert!(addresses.may_try(nth(2 * many)).is_err(), "the newest");
        assert!(addresses.may_try(nth(many + 1)).is_err(), "the oldest left");
        assert!(addresses.may_try(nth(many)).is_ok(), "forgotten");
        // Use is what keeps one.
        addresses.failed(nth(many + 1));
        addresses.failed(nth(2 * many + 1));
        assert!(addresses.may_try(nth(many + 1)).is_err());
        assert!(addresses.may_try(nth(many + 2)).is_ok());
        drop(place);
        assert_eq!(addresses.count(), IDLE_ADDRESSES_MAX);
    }

    #[test]
    fn a_table_grows_small_again_once_its_buckets_are_full() {
        let (addresses, clock) = addresses(1, 1, 1);
        for n in 0..1000 {
            addresses.request(nth(n)).unwrap();
        }
        assert_eq!(addresses.count(), 1000);
        clock.pass(IDLE_ADDRESS_KEPT.as_secs_f64());
        for _ in 0..1001 {
            drop(addresses.connect(nth(5000)));
        }
        assert_eq!(addresses.count(), 1);
    }
}
