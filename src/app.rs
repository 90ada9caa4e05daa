//! What every connection may reach: settings, counters, and the handles of the two threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::auth::{AuthError, Authority, Identity};
use crate::broadcaster::Broadcaster;
use crate::broker::Broker;
use crate::config::Config;
use crate::limits::{Address, AddressLimitError, AddressPermit, Addresses, Permits};
use crate::logging::ThrottledLog;
use crate::metrics::Metrics;
use crate::outbox::OutboxLimits;
use crate::protocol::{ClientId, ErrorCode, Refusal, RoomName};
use crate::rooms::{RoomNumbering, Seat};
use crate::shutdown::Shutdown;
use crate::socket::{Peer, tls};
use crate::store::StoreError;

/// Shared by all connections; holds no state of any one of them.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Stores and orders what is published.
    pub broker: Broker,
    /// Owns rooms and members.
    pub broadcaster: Broadcaster,
    /// Tells who a client is.
    pub authority: Arc<Authority>,
    /// What TCP connections shake hands with, if they speak TLS.
    pub tls: Option<Arc<tls::TlsAcceptor>>,
    /// Whether the server is going away.
    pub shutdown: Shutdown,
    /// WebSocket sessions that have not ended.
    pub sessions: Permits,
    /// Origins that were refused.
    pub refused_origins: ThrottledLog,
    /// Whether the log has told of a proxy that nobody trusts.
    pub proxy_noticed: AtomicBool,
    /// What clients ask by their addresses.
    addresses: Addresses,
    /// Addresses that asked too much.
    crowded_addresses: ThrottledLog,
    /// When the server started.
    pub started: Instant,
    /// The random word in the names of this process's clients.
    process: u32,
    clients_named: AtomicU64,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        metrics: Arc<Metrics>,
        broker: Broker,
        broadcaster: Broadcaster,
        authority: Arc<Authority>,
        tls: Option<Arc<tls::TlsAcceptor>>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            addresses: Addresses::new(config.limits.address),
            config,
            metrics,
            broker,
            broadcaster,
            authority,
            tls,
            shutdown,
            sessions: Permits::new(usize::MAX),
            refused_origins: ThrottledLog::default(),
            proxy_noticed: AtomicBool::new(false),
            crowded_addresses: ThrottledLog::default(),
            started: Instant::now(),
            process: rand::random(),
            clients_named: AtomicU64::new(0),
        }
    }

    /// A name no other client has.
    pub fn name_client(&self) -> ClientId {
        ClientId::new(
            self.process,
            1 + self.clients_named.fetch_add(1, Ordering::Relaxed),
        )
    }

    /// Whether this is a proxy whose word about its clients is taken.
    pub fn is_trusted_proxy(&self, peer: Peer) -> bool {
        let trusted = &self.config.trusted_proxies;
        match peer {
            Peer::Unix => trusted.trusts_unix(),
            peer => peer.ip().is_some_and(|ip| trusted.trusts(ip)),
        }
    }

    /// What a client's requests are counted by; this machine and trusted proxies have no bounds.
    fn address(&self, peer: Peer) -> Option<Address> {
        let is_bounded = !self.is_trusted_proxy(peer);
        peer.ip().filter(|_| is_bounded).and_then(Address::of)
    }

    /// A place for one more connection of this client, unless it needs none.
    pub fn place(&self, peer: Peer) -> Result<Option<AddressPermit>, AddressLimitError> {
        let Some(address) = self.address(peer) else {
            return Ok(None);
        };
        let place = self.addresses.connect(address, Instant::now()).map(Some);
        place.inspect_err(|crowded| {
            let (counter, what, setting) = match crowded {
                AddressLimitError::Connections => (
                    &self.metrics.crowded,
                    "has as many connections as it may have",
                    "--max-connections-per-address",
                ),
                AddressLimitError::Rate(_) => (
                    &self.metrics.hurried,
                    "makes connections faster than it may",
                    "--max-connection-rate",
                ),
            };
            counter.add(1);
            self.crowded_addresses
                .log(format_args!("{address} {what}; {setting} sets the bound"));
        })
    }

    /// A place for a stream. A connection of the client's own has one already; one that a proxy made for
    /// it has not.
    pub fn stream_place(&self, peer: Peer) -> Result<Option<AddressPermit>, AddressLimitError> {
        match peer {
            Peer::Forwarded(_) => self.place(peer),
            Peer::Tcp(_) | Peer::Unix => Ok(None),
        }
    }

    /// Counts an HTTP request; `Err` says how long its client is to wait with it.
    pub fn count_request(&self, peer: Peer) -> Result<(), Duration> {
        let Some(address) = self.address(peer) else {
            return Ok(());
        };
        let counted = self.addresses.count_request(address, Instant::now());
        counted.inspect_err(|_| self.metrics.http_rate_limited.add(1))
    }

    /// Client addresses that are remembered.
    pub fn addresses_known(&self) -> usize {
        self.addresses.count()
    }

    /// Who a client is by its token. Where too many were refused, none is looked at.
    pub fn identify(&self, token: Option<&str>, peer: Peer) -> Result<Arc<Identity>, AuthError> {
        let is_checked = token.is_some() && self.authority.has_keys();
        let address = self.address(peer).filter(|_| is_checked);
        if let Some(Err(wait)) =
            address.map(|address| self.addresses.check_refused_tokens(address, Instant::now()))
        {
            self.metrics.auth_shut_out.add(1);
            return Err(AuthError::TooManyFailures(wait));
        }
        let identity = self.authority.identify(token);
        if let Err(AuthError::Token(_)) = &identity {
            self.metrics.auth_failures.add(1);
            address.inspect(|address| self.addresses.count_refused_token(*address, Instant::now()));
        }
        identity
    }

    /// A room's numbering, begun now if the room is new.
    pub fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        let opened = self.broker.open(room);
        opened.inspect_err(|why| self.count_refusal(*why))
    }

    fn count_refusal(&self, why: StoreError) {
        if why == StoreError::TooManyRooms {
            self.metrics.rooms_refused.add(1);
        }
    }

    /// A seat in a room for one more member.
    pub fn enter(&self, room: &RoomName) -> Result<Seat, Refusal> {
        let most = self.config.limits.max_members_per_room;
        Seat::take(self.open(room)?, most).ok_or_else(|| {
            self.metrics.rooms_full.add(1);
            let message = "the room has as many members as it may have; try again later";
            Refusal::new(ErrorCode::RoomFull, message)
        })
    }

    /// The bounds of a client's outbox.
    pub fn outbox_limits(&self) -> OutboxLimits {
        let limits = &self.config.limits;
        OutboxLimits {
            bytes: limits.outbox_bytes,
            slow_timeout: limits.slow_timeout,
        }
    }
}
