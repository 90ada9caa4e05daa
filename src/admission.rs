//! Admission: decides which connections and requests are accepted, by permits, rates, origins, identities and seats.
//!
//! Each refusal is counted here. It is logged if a setting or a limit of the machine caused it.

mod room_rules;

mod backend;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::auth::{AuthError, Authority, Identity, TooManyRevocations, is_token};
use crate::auth_hook::{AuthHook, AuthQuestion};
use crate::broker::Broker;
use crate::config::LiveConfig;
use crate::limits::{Address, AddressLimitError, AddressPermit, Addresses, Permit, Permits};
use crate::logging::ThrottledLog;
use crate::metrics::Metrics;
use crate::protocol::{ClientId, ErrorCode, Refusal, RoomName};
use crate::proxy::{ForwardingHeader, TrustedProxies};
use crate::rooms::Seat;
use crate::socket::Peer;
use crate::store::StoreError;

pub(crate) use room_rules::PublishedOver;

/// Characters of a refused origin that are logged; a real origin has a host name of at most 253.
const ORIGIN_CHARS_LOGGED: usize = 300;

/// The admission control of the server, shared by all connections.
pub(crate) struct Admission {
    metrics: Arc<Metrics>,
    authority: Arc<Authority>,
    /// Decides about clients without a token that the authority checks.
    auth_hook: Option<AuthHook>,
    /// Opens the rooms in which seats are taken.
    broker: Broker,
    config: LiveConfig,
    trusted_proxies: TrustedProxies,
    connections: Permits,
    addresses: Addresses,
    connection_log: ThrottledLog,
    address_log: ThrottledLog,
    token_log: ThrottledLog,
    origin_log: ThrottledLog,
    /// True if a proxy that is not trusted was logged.
    proxy_logged: AtomicBool,
    /// True if a trusted proxy without a PROXY header was logged.
    missing_proxy_header_logged: AtomicBool,
    /// The random part of the client ids of this process.
    process: u32,
    clients_admitted: AtomicU64,
}

/// The reason to refuse a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdmissionError {
    /// The server or the machine has reached its limit.
    ServerFull,
    /// The client's address has reached its limit.
    Address(AddressLimitError),
}

impl Admission {
    /// Starts with no connections of at most `connections_max`.
    pub(crate) fn new(
        config: &LiveConfig,
        connections_max: usize,
        authority: Arc<Authority>,
        auth_hook: Option<AuthHook>,
        broker: Broker,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = config.get();
        Self {
            metrics,
            authority,
            auth_hook,
            broker,
            config: config.clone(),
            trusted_proxies: settings.trusted_proxies.clone(),
            connections: Permits::new(connections_max),
            addresses: Addresses::new(settings.limits.address),
            connection_log: ThrottledLog::default(),
            address_log: ThrottledLog::default(),
            token_log: ThrottledLog::default(),
            origin_log: ThrottledLog::default(),
            proxy_logged: AtomicBool::new(false),
            missing_proxy_header_logged: AtomicBool::new(false),
            process: rand::random(),
            clients_admitted: AtomicU64::new(0),
        }
    }

    /// Reserves a permit for an accepted socket, and one for its address unless that has no limits.
    pub(crate) fn connect(
        &self,
        peer: Peer,
    ) -> Result<(Permit, Option<AddressPermit>), AdmissionError> {
        let address_permit = self.connect_address(peer)?;
        let Some(permit) = self.connections.take() else {
            self.metrics.connections_refused.add(1);
            self.connection_log
                .warn("all connections are in use; --max-connections sets how many there may be");
            return Err(AdmissionError::ServerFull);
        };
        Ok((permit, address_permit))
    }

    /// Reserves a permit for the address of a new connection: an accepted socket, or the client in its PROXY header.
    pub(crate) fn connect_address(
        &self,
        peer: Peer,
    ) -> Result<Option<AddressPermit>, AdmissionError> {
        self.address_permit(peer).map_err(|why| {
            self.metrics.connections_refused.add(1);
            AdmissionError::Address(why)
        })
    }

    /// Counts and logs a connection that no thread could be started for.
    pub(crate) fn refuse_without_thread(&self) -> AdmissionError {
        self.metrics.connections_refused.add(1);
        self.connection_log
            .warn("cannot start a thread: the machine's limit is reached");
        AdmissionError::ServerFull
    }

    /// Reserves an address permit for a stream that arrived through a proxy. A client that connected directly
    /// reserved its permit when its socket was accepted.
    pub(crate) fn open_stream(
        &self,
        peer: Peer,
    ) -> Result<Option<AddressPermit>, AddressLimitError> {
        match peer {
            Peer::Forwarded(_) => self.address_permit(peer),
            Peer::Tcp(_) | Peer::Unix => Ok(None),
        }
    }

    fn address_permit(&self, peer: Peer) -> Result<Option<AddressPermit>, AddressLimitError> {
        let Some(address) = self.limited_address(peer) else {
            return Ok(None);
        };
        self.addresses
            .connect(address, Instant::now())
            .map(Some)
            .inspect_err(|why| self.count_address_refusal(address, *why))
    }

    fn count_address_refusal(&self, address: Address, why: AddressLimitError) {
        let (counter, problem, setting) = match why {
            AddressLimitError::Connections => (
                &self.metrics.over_address_limit,
                "has too many connections",
                "--max-connections-per-address",
            ),
            AddressLimitError::Rate(_) => (
                &self.metrics.over_address_rate,
                "opens connections too fast",
                "--max-connection-rate",
            ),
        };
        counter.add(1);
        self.address_log.warn(format_args!(
            "{address} {problem}; {setting} sets the limit"
        ));
    }

    /// Counts an HTTP request against the rate of its address; `Err` is the time to wait.
    pub(crate) fn count_request(&self, peer: Peer) -> Result<(), Duration> {
        let Some(address) = self.limited_address(peer) else {
            return Ok(());
        };
        self.addresses
            .count_request(address, Instant::now())
            .inspect_err(|_| self.metrics.http_rate_limited.add(1))
    }

    /// Returns the identity of a client: from its token, or from the backend, which `question` asks about all others.
    pub(crate) fn identify(
        &self,
        token: Option<&str>,
        peer: Peer,
        question: impl FnOnce() -> AuthQuestion,
    ) -> Result<Arc<Identity>, AuthError> {
        match &self.auth_hook {
            Some(hook) if !(self.authority.has_keys() && token.is_some_and(is_token)) => {
                self.ask_backend(hook, token, peer, &question())
            }
            _ => self.identify_by_token(token, peer),
        }
    }

    /// Returns the identity that a token grants. After too many refused tokens of an address, further tokens of the
    /// address are refused without a check.
    pub(crate) fn identify_by_token(
        &self,
        token: Option<&str>,
        peer: Peer,
    ) -> Result<Arc<Identity>, AuthError> {
        if token.is_none() || !self.authority.has_keys() {
            return self.authority.identify(token);
        }
        self.check_token(token, peer)
    }

    /// Not inlined, so that clients without a token do not touch the stack that a check takes.
    #[inline(never)]
    fn check_token(&self, token: Option<&str>, peer: Peer) -> Result<Arc<Identity>, AuthError> {
        let address = self.limited_address(peer);
        if let Some(address) = address
            && let Err(wait) = self.addresses.check_refused_tokens(address, Instant::now())
        {
            self.metrics.auth_attempts_refused.add(1);
            // fail2ban reads this line.
            self.token_log
                .warn(format_args!("{address} sends too many wrong tokens"));
            return Err(AuthError::TooManyFailures(wait));
        }
        let identity = self.authority.identify(token);
        if let Err(AuthError::Token(_)) = &identity {
            self.metrics.auth_failures.add(1);
            if let Some(address) = address {
                self.addresses.count_refused_token(address, Instant::now());
            }
        }
        identity
    }

    /// Refuses, from now on, the tokens of a user that were issued until `at`.
    pub(crate) fn revoke(&self, user: &str, at: Duration) -> Result<(), TooManyRevocations> {
        self.authority.revocations().add(user, at).map(drop)
    }

    /// Returns whether an identity's token was revoked. A client calls this once the broadcaster knows it: a revocation
    /// either finds the client there, or is found here.
    pub(crate) fn is_revoked(&self, identity: &Identity) -> bool {
        self.authority.revocations().include(identity)
    }

    /// Number of users whose tokens were revoked.
    pub(crate) fn revoked_users(&self) -> usize {
        self.authority.revocations().len()
    }

    /// Returns whether pages of all these origins may connect. A client that is not a browser sends none.
    pub(crate) fn allows_origins<'a>(&self, mut origins: impl Iterator<Item = &'a str>) -> bool {
        let config = self.config.get();
        let allowed_origins = &config.allow_origin;
        let refused = origins.find(|origin| !allowed_origins.allows(Some(origin)));
        let Some(refused) = refused else {
            return true;
        };
        let shown: String = refused.chars().take(ORIGIN_CHARS_LOGGED).collect();
        match allowed_origins.with(refused) {
            Some(list) => self.origin_log.warn(format_args!(
                "refused origin {shown:?}; --allow-origin {list:?} would allow it"
            )),
            None => self.origin_log.warn(format_args!(
                "refused origin {shown:?}, which is not an origin"
            )),
        }
        false
    }

    /// Counts and logs a cookie that does not count, because a page of another site may have made the request.
    pub(crate) fn ignore_cookie(&self, origin: Option<&str>) {
        self.metrics.cookies_ignored.add(1);
        let origin = origin.unwrap_or("no origin");
        let shown: String = origin.chars().take(ORIGIN_CHARS_LOGGED).collect();
        self.origin_log.warn(format_args!(
            "ignored the cookie of a request of {shown:?}; --allow-origin lists the origins whose cookies count"
        ));
    }

    /// Counts a room that a client is about to join or to publish to, if that would create the room, against the
    /// limit of the client's address.
    pub(crate) fn count_new_room(&self, room: &RoomName, peer: Peer) -> Result<(), Refusal> {
        let Some(address) = self.limited_address(peer) else {
            return Ok(());
        };
        if self
            .config
            .get()
            .limits
            .address
            .new_rooms_per_minute
            .is_none()
        {
            return Ok(());
        }
        // If the store does not reply, the client's request to it fails as well.
        let is_new = matches!(self.broker.find(room), Ok(None));
        if !is_new {
            return Ok(());
        }
        self.count_room_of(address)
    }

    /// Not inlined, so that clients of known rooms do not touch the stack that counting takes.
    #[inline(never)]
    fn count_room_of(&self, address: Address) -> Result<(), Refusal> {
        let counted = self.addresses.count_new_room(address, Instant::now());
        counted.map_err(|wait| {
            self.metrics.new_rooms_rate_limited.add(1);
            self.address_log.warn(format_args!(
                "{address} creates rooms too fast; --max-new-rooms sets the limit"
            ));
            let message = "this address creates rooms too fast; try again later";
            Refusal {
                retry_after: Some(wait),
                ..Refusal::new(ErrorCode::RateLimited, message)
            }
        })
    }

    /// Takes a seat in a room for a client, and creates the room if it is new.
    pub(crate) fn take_seat(&self, room: &RoomName, peer: Peer) -> Result<Seat, Refusal> {
        self.count_new_room(room, peer)?;
        let numbering = self.broker.open(room).inspect_err(|why| {
            if *why == StoreError::TooManyRooms {
                self.metrics.rooms_refused.add(1);
            }
        })?;
        Seat::take(numbering, self.config.get().room_members_max(room)).ok_or_else(|| {
            self.metrics.rooms_full.add(1);
            let message = "the room has as many members as it may have; try again later";
            Refusal::new(ErrorCode::RoomFull, message)
        })
    }

    /// Checks that a connection may be in this many rooms.
    pub(crate) fn check_room_count(&self, rooms: usize) -> Result<(), Refusal> {
        let max = self.config.get().limits.max_rooms_per_connection;
        if rooms <= max {
            return Ok(());
        }
        self.metrics.rooms_refused.add(1);
        let message = format!("a connection may be in at most {max} rooms; leave one first");
        Err(Refusal::new(ErrorCode::TooManyRooms, message))
    }

    /// Returns a client id that no other client has.
    pub(crate) fn next_client_id(&self) -> ClientId {
        let count = 1 + self.clients_admitted.fetch_add(1, Ordering::Relaxed);
        ClientId::new(self.process, count)
    }

    /// Returns whether the peer is a proxy that may name its clients.
    pub(crate) fn is_trusted_proxy(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix => self.trusted_proxies.trusts_unix(),
            peer => peer.ip().is_some_and(|ip| self.trusted_proxies.trusts(ip)),
        }
    }

    /// Warns once about a trusted proxy whose connection does not start with a PROXY header.
    pub(crate) fn log_missing_proxy_header(&self, proxy: Peer) {
        if self
            .missing_proxy_header_logged
            .swap(true, Ordering::Relaxed)
        {
            return;
        }
        let name = proxy.name();
        log::warn!(
            "closed a connection of the trusted proxy {name}, because it does not start with a PROXY header; make the \
             proxy send one (nginx: proxy_protocol on; HAProxy: send-proxy-v2), or start without --proxy-protocol. A \
             health probe needs no header if --trusted-proxies does not list its address"
        );
    }

    /// Warns once about a peer near this machine that sends a PROXY header although none is expected from it.
    pub(crate) fn log_unexpected_proxy_header(&self, peer: Peer) {
        if !peer.is_near() || self.proxy_logged.swap(true, Ordering::Relaxed) {
            return;
        }
        let name = peer.name();
        log::warn!(
            "{name} sends a PROXY header, which is not expected from it; if it is your proxy, set --proxy-protocol and \
             --trusted-proxies {name}"
        );
    }

    /// Warns once about a peer that sends forwarding headers and is not trusted, because all clients of such a proxy
    /// share one address and its limits. Does not warn if other proxies are trusted.
    pub(crate) fn log_untrusted_proxy(&self, header: ForwardingHeader, peer: Peer) {
        if !self.trusted_proxies.is_empty() || self.proxy_logged.swap(true, Ordering::Relaxed) {
            return;
        }
        let name = peer.name();
        let header = header.name();
        log::warn!(
            "{name} sends {header}, which is ignored because {name} is not trusted; if it is your proxy, set \
             --trusted-proxies {name} to give each of its clients its own limits"
        );
    }

    /// Takes over the limits of the settings, of which `connections_max` depends on the machine too.
    pub(crate) fn reload(&self, connections_max: usize) {
        self.connections.set_max(connections_max);
        let limits = self.config.get().limits.address;
        self.addresses.set_limits(limits, Instant::now());
    }

    /// Maximum number of connections.
    pub(crate) fn connections_max(&self) -> usize {
        self.connections.max()
    }

    /// Number of client addresses that are remembered.
    pub(crate) fn known_addresses(&self) -> usize {
        self.addresses.count()
    }

    /// The address whose limits apply to a peer; `None` for this machine and trusted proxies, which have no limits.
    fn limited_address(&self, peer: Peer) -> Option<Address> {
        let ip = peer.ip().filter(|_| !self.is_trusted_proxy(peer))?;
        Address::of(ip)
    }
}
