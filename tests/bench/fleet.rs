//! The load generator's clients: many sockets, one thread, one buffer.
//!
//! It has to be cheaper than the server it loads, so a client is a few words of state, a frame is
//! counted by its header, and only a sample of clients looks into the payload.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::slice::from_ref;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::client::Client;
use crate::link::{Certificate, Link};

/// The client whose own messages pace the closed loops, where all are in one room.
pub(crate) const PUBLISHER: usize = 0;

/// One client in this many verifies that offsets follow each other; the publisher is among them.
const SAMPLE_EVERY: usize = 50;

/// Connections opening at a time: enough to keep the server busy, too few for its backlog.
const OPENING_AT_ONCE: usize = 32;
const OPENING_DEADLINE: Duration = Duration::from_secs(30);

const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;

const REQUEST_REST: &str = " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// What the other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A WebSocket server: upgrade first, and messages carry offsets.
    WebSocket,
    /// A floor: frames from the first byte on, with nothing in them.
    BareFrames,
}

pub(crate) struct Fleet {
    clients: Vec<Client>,
    /// Rooms that the clients are in by turns: the first ones are each in another, and pace the closed loops.
    rooms: usize,
    /// Text frames of all clients since [`Fleet::forget_counts`].
    received: u64,
    epoll: OwnedFd,
    events: Vec<Event>,
    scratch: Vec<u8>,
}

impl Fleet {
    /// Connects `count` clients and returns when each has its welcome.
    pub(crate) fn connect(
        address: SocketAddrV4,
        count: usize,
        dialect: Dialect,
    ) -> io::Result<Fleet> {
        let opening = Opening {
            dialect,
            ..Opening::usual(from_ref(&address))
        };
        Fleet::connect_by(&opening, count)
    }

    /// WebSocket clients in `rooms` rooms by turns. Those of one room are on the servers by turns, and so are
    /// the first ones of all rooms. The number of clients is a multiple of that of rooms.
    pub(crate) fn connect_spread(
        addresses: &[SocketAddrV4],
        count: usize,
        rooms: usize,
    ) -> io::Result<Fleet> {
        let opening = Opening {
            rooms,
            ..Opening::usual(addresses)
        };
        Fleet::connect_by(&opening, count)
    }

    /// WebSocket clients that speak TLS.
    pub(crate) fn connect_tls(
        address: SocketAddrV4,
        count: usize,
        certificate: &Certificate,
    ) -> io::Result<Fleet> {
        let opening = Opening {
            certificate: Some(certificate),
            ..Opening::usual(from_ref(&address))
        };
        Fleet::connect_by(&opening, count)
    }

    /// WebSocket clients that are to stall: once nobody polls them, their kernel takes as little for
    /// them as it can.
    pub(crate) fn connect_narrow(address: SocketAddrV4, count: usize) -> io::Result<Fleet> {
        let opening = Opening {
            dial: connect_narrow,
            ..Opening::usual(from_ref(&address))
        };
        Fleet::connect_by(&opening, count)
    }

    fn connect_by(opening: &Opening<'_>, count: usize) -> io::Result<Fleet> {
        let mut fleet = Fleet {
            clients: Vec::with_capacity(count),
            rooms: opening.rooms,
            received: 0,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
        };
        let deadline = Instant::now() + OPENING_DEADLINE;
        while fleet.clients.len() < count {
            for _ in 0..OPENING_AT_ONCE.min(count - fleet.clients.len()) {
                fleet.open(opening)?;
            }
            fleet.receive(fleet.clients.len() as u64, deadline)?;
        }
        Ok(fleet)
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

    /// Second handles of the first clients' connections, to write to; that of the publisher alone, or of
    /// those who take turns with it.
    pub(crate) fn publishers(&self, count: usize) -> io::Result<Vec<Link>> {
        let publishers = self.clients[PUBLISHER..].iter().take(count);
        publishers.map(|client| client.link.share()).collect()
    }

    /// Length on the wire of the last text frame the publisher received.
    pub(crate) fn last_frame_bytes(&self) -> usize {
        let payload = self.clients[PUBLISHER].held.len();
        payload + if payload > 125 { 4 } else { 2 }
    }

    pub(crate) fn forget_counts(&mut self) {
        self.received = 0;
        for client in &mut self.clients {
            client.texts = 0;
            client.latencies.clear();
        }
    }

    /// Of the stamped messages that the sampled clients received since [`Fleet::forget_counts`].
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        let clients = self.clients.iter();
        clients
            .flat_map(|client| client.latencies.iter().copied())
            .collect()
    }

    /// Waits until something arrives or `timeout` has passed and reads all there is; `on_own` is told
    /// how many messages the publisher got, or the first client of each room, as soon as it got them.
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

    /// Reads until `expected` frames have arrived altogether.
    pub(crate) fn receive(&mut self, expected: u64, deadline: Instant) -> io::Result<()> {
        while self.received < expected {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.missing(expected));
            }
            self.poll(left, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Reads for as long as `duration`, whatever comes.
    pub(crate) fn idle(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll(left, |_| Ok(()))?;
        }
    }

    fn missing(&self, expected: u64) -> io::Error {
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

    /// Every client must have got each of `published` messages once, or, where there are several rooms, each
    /// of those that were published in its room, by turns.
    pub(crate) fn check_counts(&self, published: u64) -> io::Result<()> {
        let rooms = self.rooms as u64;
        let of_room = |room: u64| published / rooms + u64::from(room < published % rooms);
        for (index, client) in self.clients.iter().enumerate() {
            let expected = of_room(index as u64 % rooms);
            if client.texts != expected {
                return Err(io::Error::other(format!(
                    "client {index} received {} of {expected} messages",
                    client.texts
                )));
            }
        }
        Ok(())
    }

    fn open(&mut self, opening: &Opening<'_>) -> io::Result<()> {
        let index = self.clients.len();
        let socket = (opening.dial)(opening.address(index))?;
        let link = Link::new(socket, opening.certificate)?;
        let request = opening.request(index);
        let client = Client::open(link, request, index.is_multiple_of(SAMPLE_EVERY))?;
        // Edge-triggered: a healthy client costs one `recv` a wake-up, without a second look.
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(
            &self.epoll,
            &client.link.socket,
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

type Dial = fn(SocketAddrV4) -> io::Result<TcpStream>;

/// How a fleet comes, and where to.
struct Opening<'a> {
    dial: Dial,
    addresses: &'a [SocketAddrV4],
    /// One is the room that everyone joins.
    rooms: usize,
    dialect: Dialect,
    certificate: Option<&'a Certificate>,
}

impl Opening<'_> {
    /// WebSocket clients in one room.
    fn usual(addresses: &[SocketAddrV4]) -> Opening<'_> {
        Opening {
            dial: connect_usual,
            addresses,
            rooms: 1,
            dialect: Dialect::WebSocket,
            certificate: None,
        }
    }

    fn address(&self, index: usize) -> SocketAddrV4 {
        let (room, turn) = (index % self.rooms, index / self.rooms);
        self.addresses[(room + turn) % self.addresses.len()]
    }

    /// What a client sends first, if the other side expects that.
    fn request(&self, index: usize) -> Option<String> {
        let target = match self.rooms {
            1 => "/ws".to_owned(),
            rooms => format!("/ws?room=room-{}", index % rooms),
        };
        let is_upgraded = self.dialect == Dialect::WebSocket;
        is_upgraded.then(|| format!("GET {target}{REQUEST_REST}"))
    }
}

fn connect_usual(address: SocketAddrV4) -> io::Result<TcpStream> {
    TcpStream::connect(address)
}

/// The window is fixed by the handshake, so the buffer has to be small before it.
fn connect_narrow(address: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The kernel raises it to the least it supports.
    set_socket_recv_buffer_size(&socket, 1)?;
    connect(&socket, &address)?;
    Ok(TcpStream::from(socket))
}

fn at_client(index: usize, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("client {index}: {error}"))
}
