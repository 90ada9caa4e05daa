//! The load generator's clients: many sockets, one thread, one buffer.
//!
//! Reading must cost less than the server's work. Therefore a client has little state, frames are counted by their
//! headers, and only a sample of clients parses payloads.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustls::ClientConfig;

use crate::client::Client;
use crate::client_socket::{Certificate, ClientSocket};
use crate::frames::upgrade_request;

/// The index of the publisher. With one room, its own messages pace the closed loops.
pub(crate) const PUBLISHER: usize = 0;

/// The share of clients that check that offsets count up: one in this many. The publisher is one of them.
const SAMPLE_EVERY: usize = 50;

/// Connections that open at a time: enough to keep the server busy, and fewer than its backlog.
const OPENING_AT_ONCE: usize = 32;
const OPENING_DEADLINE: Duration = Duration::from_secs(30);

const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;

/// The protocol that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerProtocol {
    /// WebSocket after an upgrade. Messages have offsets.
    WebSocket,
    /// The same without offsets.
    Relay,
    /// The same without offsets and without a welcome.
    RelayWithoutWelcome,
    /// The protocol of a floor: WebSocket frames from the first byte on, without offsets.
    BareFrames,
}

pub(crate) struct ClientGroup {
    clients: Vec<Client>,
    /// The number of rooms. Client `n` is in room `n % rooms`; the first client of each room paces the closed loops.
    rooms: usize,
    /// Text frames of all clients since [`ClientGroup::reset_counts`].
    received: u64,
    epoll: OwnedFd,
    events: Vec<Event>,
    scratch: Vec<u8>,
}

impl ClientGroup {
    /// Connects `count` clients and returns when each has its welcome.
    pub(crate) fn connect(
        address: SocketAddrV4,
        count: usize,
        protocol: ServerProtocol,
    ) -> io::Result<ClientGroup> {
        let options = ConnectOptions {
            protocol,
            ..ConnectOptions::one_room(from_ref(&address))
        };
        ClientGroup::connect_with(&options, count)
    }

    /// Connects clients to rooms in turn. `count` must be a multiple of `rooms`.
    pub(crate) fn connect_to_rooms(
        address: SocketAddrV4,
        count: usize,
        rooms: usize,
        protocol: ServerProtocol,
    ) -> io::Result<ClientGroup> {
        let options = ConnectOptions {
            rooms,
            protocol,
            ..ConnectOptions::one_room(from_ref(&address))
        };
        ClientGroup::connect_with(&options, count)
    }

    /// Connects WebSocket clients to rooms in turn. The clients of each room, and the first clients of all rooms, are
    /// on the servers in turn. `count` must be a multiple of `rooms`.
    pub(crate) fn connect_spread(
        addresses: &[SocketAddrV4],
        count: usize,
        rooms: usize,
    ) -> io::Result<ClientGroup> {
        let options = ConnectOptions {
            rooms,
            ..ConnectOptions::one_room(addresses)
        };
        ClientGroup::connect_with(&options, count)
    }

    /// Connects WebSocket clients with TLS.
    pub(crate) fn connect_tls(
        address: SocketAddrV4,
        count: usize,
        certificate: &Certificate,
    ) -> io::Result<ClientGroup> {
        let tls = certificate.client();
        let options = ConnectOptions {
            tls: Some(&tls),
            ..ConnectOptions::one_room(from_ref(&address))
        };
        ClientGroup::connect_with(&options, count)
    }

    /// Connects WebSocket clients with the smallest possible receive buffer, so that they stall soon after polling
    /// stops.
    pub(crate) fn connect_with_small_buffer(
        address: SocketAddrV4,
        count: usize,
        protocol: ServerProtocol,
    ) -> io::Result<ClientGroup> {
        let options = ConnectOptions {
            connect: connect_with_small_buffer,
            protocol,
            ..ConnectOptions::one_room(from_ref(&address))
        };
        ClientGroup::connect_with(&options, count)
    }

    fn connect_with(options: &ConnectOptions<'_>, count: usize) -> io::Result<ClientGroup> {
        let mut group = ClientGroup {
            clients: Vec::with_capacity(count),
            rooms: options.rooms,
            received: 0,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
        };
        let deadline = Instant::now() + OPENING_DEADLINE;
        while group.clients.len() < count {
            for _ in 0..OPENING_AT_ONCE.min(count - group.clients.len()) {
                group.open(options)?;
            }
            group.receive(group.clients.len() as u64, deadline)?;
        }
        Ok(group)
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn rooms(&self) -> usize {
        self.rooms
    }

    /// Returns second handles to the sockets of the first `count` clients, to publish on.
    pub(crate) fn publisher_sockets(&self, count: usize) -> io::Result<Vec<ClientSocket>> {
        let publishers = self.clients[PUBLISHER..].iter().take(count);
        publishers.map(|client| client.socket.try_clone()).collect()
    }

    /// Returns the length on the wire of the last text frame that the publisher received.
    pub(crate) fn last_frame_bytes(&self) -> usize {
        let payload = self.clients[PUBLISHER].buffer.len();
        payload + if payload > 125 { 4 } else { 2 }
    }

    pub(crate) fn reset_counts(&mut self) {
        self.received = 0;
        for client in &mut self.clients {
            client.texts = 0;
            client.latencies.clear();
        }
    }

    /// Returns the latencies of stamped messages at the sampled clients since [`ClientGroup::reset_counts`].
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        let clients = self.clients.iter();
        clients
            .flat_map(|client| client.latencies.iter().copied())
            .collect()
    }

    /// Waits until bytes arrive or `timeout` has passed, and reads all available bytes. Calls `on_own` with the number
    /// of messages that the first client of a room received.
    pub(crate) fn poll(
        &mut self,
        timeout: Duration,
        mut on_own: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.wait(timeout)?;
        for event in &self.events {
            let (data, flags) = (event.data, event.flags);
            let index = data.u64() as usize;
            let client = &mut self.clients[index];
            let texts = client
                .read(&mut self.scratch)
                .map_err(|error| at_client(index, error))?;
            if flags.contains(EventFlags::RDHUP) {
                return Err(at_client(index, io::Error::other("the server hung up")));
            }
            self.received += texts;
            if index < self.rooms && texts > 0 {
                on_own(texts)?;
            }
        }
        Ok(())
    }

    /// Reads until `expected` frames in total have arrived.
    pub(crate) fn receive(&mut self, expected: u64, deadline: Instant) -> io::Result<()> {
        while self.received < expected {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.error_missing(expected));
            }
            self.poll(left, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Reads for `duration`.
    pub(crate) fn read_for(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll(left, |_| Ok(()))?;
        }
    }

    fn error_missing(&self, expected: u64) -> io::Error {
        let least = self
            .clients
            .iter()
            .enumerate()
            .min_by_key(|(_, client)| client.texts);
        let (index, texts) = least.map_or((0, 0), |(index, client)| (index, client.texts));
        io::Error::other(format!(
            "{} of {expected} frames arrived in time, at client {index} only {texts}",
            self.received
        ))
    }

    /// Checks that every client received each message of its room once. `published` messages went to the rooms in turn.
    pub(crate) fn check_counts(&self, published: u64) -> io::Result<()> {
        let rooms = self.rooms as u64;
        let published_in = |room: u64| published / rooms + u64::from(room < published % rooms);
        for (index, client) in self.clients.iter().enumerate() {
            let expected = published_in(index as u64 % rooms);
            if client.texts != expected {
                return Err(io::Error::other(format!(
                    "client {index} received {} of {expected} messages",
                    client.texts
                )));
            }
        }
        Ok(())
    }

    fn open(&mut self, options: &ConnectOptions<'_>) -> io::Result<()> {
        let index = self.clients.len();
        let tcp = (options.connect)(options.address(index))?;
        let socket = ClientSocket::new(tcp, options.tls)?;
        let request = options.request(index);
        let parses_payloads = index.is_multiple_of(SAMPLE_EVERY);
        let client = Client::open(socket, options.protocol, request, parses_payloads)?;
        // Edge-triggered, so that a wake-up costs one `recv` and not a second one that returns nothing.
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(
            &self.epoll,
            &client.socket.tcp,
            EventData::new_u64(index as u64),
            flags,
        )?;
        self.clients.push(client);
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

type ConnectFn = fn(SocketAddrV4) -> io::Result<TcpStream>;

/// How clients connect, and to which servers and rooms.
struct ConnectOptions<'a> {
    connect: ConnectFn,
    addresses: &'a [SocketAddrV4],
    /// With one room, clients join the lobby.
    rooms: usize,
    protocol: ServerProtocol,
    tls: Option<&'a Arc<ClientConfig>>,
}

impl ConnectOptions<'_> {
    /// Connects WebSocket clients to the lobby.
    fn one_room(addresses: &[SocketAddrV4]) -> ConnectOptions<'_> {
        ConnectOptions {
            connect: connect_default,
            addresses,
            rooms: 1,
            protocol: ServerProtocol::WebSocket,
            tls: None,
        }
    }

    fn address(&self, index: usize) -> SocketAddrV4 {
        let (room, turn) = (index % self.rooms, index / self.rooms);
        self.addresses[(room + turn) % self.addresses.len()]
    }

    /// Returns the upgrade request, which a floor does not need.
    fn request(&self, index: usize) -> Option<String> {
        let target = match self.rooms {
            1 => "/ws".to_owned(),
            rooms => format!("/ws?room=room-{}", index % rooms),
        };
        (self.protocol != ServerProtocol::BareFrames).then(|| upgrade_request(&target))
    }
}

fn connect_default(address: SocketAddrV4) -> io::Result<TcpStream> {
    TcpStream::connect(address)
}

/// Sets the buffer before connecting, because the handshake fixes the TCP window.
fn connect_with_small_buffer(address: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The kernel raises this to its minimum.
    set_socket_recv_buffer_size(&socket, 1)?;
    connect(&socket, &address)?;
    Ok(TcpStream::from(socket))
}

fn at_client(index: usize, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("client {index}: {error}"))
}
