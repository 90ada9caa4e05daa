//! A server that is killed under thousands of clients, which all come back at the same moment.
//!
//! Messages are published while they come back. Clients of wscast resume, so each gets all messages.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::blocking_client::BlockingClient;
use crate::client::Client;
use crate::client_group::{ClientGroup, ServerProtocol};
use crate::client_socket::ClientSocket;
use crate::frames::upgrade_request;
use crate::machine::Machine;
use crate::peers::numbered::{self, Position};
use crate::peers::peer::{Peer, free_port};
use crate::peers::quantity::{Measured, lower};
use crate::storage::{DatabaseFolder, HistoryStore};

/// Messages that are published while the clients come back, and the time between them.
const MESSAGES: u64 = 10;
const MESSAGE_INTERVAL: Duration = Duration::from_millis(100);

/// A client whose attempt failed waits for between this long and twice this long.
const RETRY_DELAY: Duration = Duration::from_millis(500);

const SHARE_BACK: f64 = 0.99;
const DEADLINE: Duration = Duration::from_secs(40);

/// The wait for messages once nothing more arrives.
const SILENCE: Duration = Duration::from_secs(2);
const POLL_MAX: Duration = Duration::from_millis(20);

const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;

/// Clients that connect without blocking, and try again when they fail.
struct Avalanche {
    address: SocketAddrV4,
    protocol: ServerProtocol,
    request: String,
    slots: Vec<Slot>,
    retries: Vec<(Instant, usize)>,
    /// Clients that have their welcome.
    back: usize,
    received: u64,
    epoll: OwnedFd,
    scratch: Vec<u8>,
}

enum Slot {
    Waiting,
    Connecting(TcpStream),
    Open(Client),
}

/// Measures how long 99 % of the clients take to come back, and the messages that they miss.
pub(crate) fn measure(peer: &Peer, count: usize, machine: &Machine) -> io::Result<Vec<Measured>> {
    let database = DatabaseFolder::new()?;
    let arguments = if peer.is_wscast() {
        database.arguments(HistoryStore::Sqlite)
    } else {
        Vec::new()
    };
    let port = free_port()?;
    let mut server = peer.start_on(port, &arguments, machine)?;
    let (address, protocol) = (server.address, server.protocol);
    let target = target_after_one_message(address, protocol)?;
    let before = ClientGroup::connect_to_rooms(address, count, 1, protocol)?;
    server.kill()?;
    drop(before);
    server = peer.start_on(port, &arguments, machine)?;

    let mut publisher = BlockingClient::connect_as(address, "/ws", protocol)?;
    let mut avalanche = Avalanche::start(address, protocol, &target, count)?;
    let start = Instant::now();
    let (mut published, mut back_after) = (0, None);
    let (mut last_received, mut last_change) = (0, start);
    while start.elapsed() < DEADLINE {
        if published < MESSAGES && start.elapsed() >= MESSAGE_INTERVAL * published as u32 {
            publisher.send(&numbered::message(published))?;
            published += 1;
        }
        avalanche.poll()?;
        if back_after.is_none() && avalanche.back as f64 >= count as f64 * SHARE_BACK {
            back_after = Some(start.elapsed());
        }
        if avalanche.received != last_received {
            (last_received, last_change) = (avalanche.received, Instant::now());
        }
        let complete = avalanche.received >= (MESSAGES + 1) * count as u64;
        let silent = back_after.is_some() && last_change.elapsed() >= SILENCE;
        if published == MESSAGES && (complete || silent) {
            break;
        }
    }
    server.check_alive()?;
    let back_after = back_after.ok_or_else(|| {
        let (back, seconds) = (avalanche.back, DEADLINE.as_secs());
        io::Error::other(format!(
            "{back} of {count} clients were back after {seconds} s"
        ))
    })?;
    let expected = MESSAGES as f64 * count as f64;
    let got = avalanche.received - avalanche.back as u64;
    let missing = 100.0 * (expected - got as f64) / expected;
    if peer.is_wscast() && missing != 0.0 {
        return Err(io::Error::other(format!(
            "{missing:.3} % of the messages are missing"
        )));
    }
    Ok(vec![
        lower("until 99 % are back", "s", back_after.as_secs_f64()),
        lower("messages missing", "%", missing),
    ])
}

/// Publishes a message, and returns the path and query with which clients come back.
fn target_after_one_message(address: SocketAddrV4, protocol: ServerProtocol) -> io::Result<String> {
    let mut client = BlockingClient::connect_as(address, "/ws", protocol)?;
    let position = Position::in_welcome(client.last_text());
    client.send(&numbered::message(0))?;
    while numbered::number_in(client.next_text()?).is_none() {}
    Ok(position.map_or("/ws".to_owned(), |mut position| {
        position.advance(client.last_text());
        position.target()
    }))
}

impl Avalanche {
    fn start(
        address: SocketAddrV4,
        protocol: ServerProtocol,
        target: &str,
        count: usize,
    ) -> io::Result<Avalanche> {
        let mut avalanche = Avalanche {
            address,
            protocol,
            request: upgrade_request(target),
            slots: (0..count).map(|_| Slot::Waiting).collect(),
            retries: Vec::new(),
            back: 0,
            received: 0,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            scratch: vec![0; SCRATCH_BYTES],
        };
        for slot in 0..count {
            avalanche.connect(slot)?;
        }
        Ok(avalanche)
    }

    fn connect(&mut self, slot: usize) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => {
                self.retry_later(slot);
                return Ok(());
            }
        }
        let data = EventData::new_u64(slot as u64);
        epoll::add(&self.epoll, &socket, data, EventFlags::OUT)?;
        self.slots[slot] = Slot::Connecting(TcpStream::from(socket));
        Ok(())
    }

    fn retry_later(&mut self, slot: usize) {
        self.slots[slot] = Slot::Waiting;
        let delay = RETRY_DELAY.mul_f64(rand::random_range(1.0..2.0));
        self.retries.push((Instant::now() + delay, slot));
    }

    /// Waits a little for events and handles them.
    fn poll(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let due = self.retries.extract_if(.., |(at, _)| *at <= now);
        for (_, slot) in due.collect::<Vec<_>>() {
            self.connect(slot)?;
        }
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(POLL_MAX.subsec_nanos()),
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data;
            let slot = data.u64() as usize;
            if self.advance(slot).is_err() {
                if let Slot::Open(client) = &self.slots[slot] {
                    // It comes back once more, and must not count twice.
                    self.back -= usize::from(client.texts > 0);
                    self.received -= client.texts;
                }
                self.retry_later(slot);
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> io::Result<()> {
        let slot = &mut self.slots[index];
        if let Slot::Open(client) = slot {
            let before = client.texts;
            let read = client.read(&mut self.scratch);
            self.received += client.texts - before;
            self.back += usize::from(before == 0 && client.texts > 0);
            return read.map(|_| ());
        }
        let Slot::Connecting(tcp) = std::mem::replace(slot, Slot::Waiting) else {
            return Ok(());
        };
        socket_error(&tcp)??;
        let socket = ClientSocket::new(tcp, None)?;
        let client = Client::open(socket, self.protocol, Some(self.request.clone()), false)?;
        let data = EventData::new_u64(index as u64);
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::modify(&self.epoll, &client.socket.tcp, data, flags)?;
        self.slots[index] = Slot::Open(client);
        Ok(())
    }
}
