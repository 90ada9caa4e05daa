//! Publishes messages at a given load until every client has received them.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client_group::ClientGroup;
use crate::client_socket::ClientSocket;
use crate::floor::relay_settings;
use crate::frames::{client_text, server_text};
use crate::latency;
use crate::servers::Server;

const PAYLOAD_BYTES: usize = 100;

/// Messages before the clock starts, so that first allocations and cold caches are not measured.
pub(crate) const WARM_UP_MESSAGES: u64 = 20;

/// The longest wait for the last messages of a load.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// The longest silence in a closed loop. After it, the server is considered stuck.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The wait for duplicate messages before the counts are checked.
pub(crate) const DUPLICATE_GRACE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// An open loop: publishes at fixed times.
    PerSecond(u32),
    /// A closed loop: publishes the next message when the publisher receives one of its own.
    Outstanding(u64),
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::PerSecond(rate) => write!(f, "{rate} messages/s"),
            Load::Outstanding(window) => write!(f, "{window} outstanding"),
        }
    }
}

/// Publishes through the first clients of a group, in turn, or through the floor's own connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Never empty.
    sockets: Vec<ClientSocket>,
    message: Vec<u8>,
    /// Messages since the load started.
    pub(crate) published: u64,
    /// Position in `message` of the time stamp.
    stamp_at: Option<usize>,
}

impl Publisher {
    /// Publishes through this many clients in turn.
    pub(crate) fn new(clients: &ClientGroup, count: usize) -> io::Result<Publisher> {
        Publisher::with_payload(clients, count, &"x".repeat(PAYLOAD_BYTES))
    }

    /// Publishes through this many clients in turn. Each message carries the time of its publishing.
    pub(crate) fn stamped(
        clients: &ClientGroup,
        count: usize,
        payload_bytes: usize,
    ) -> io::Result<Publisher> {
        let payload = latency::payload_with_empty_stamp(payload_bytes);
        let mut publisher = Publisher::with_payload(clients, count, &payload)?;
        publisher.stamp_at = latency::stamp_at(&publisher.message);
        Ok(publisher)
    }

    fn with_payload(clients: &ClientGroup, count: usize, payload: &str) -> io::Result<Publisher> {
        let json = format!(r#"{{"type":"message","payload":"{payload}"}}"#);
        Ok(Publisher {
            sockets: clients.publisher_sockets(count)?,
            message: client_text(json.as_bytes()),
            published: 0,
            stamp_at: None,
        })
    }

    /// Publishes through the first connection of a floor, which relays each message as it is to the rooms in turn.
    pub(crate) fn of_floor(
        server: &Server,
        clients: usize,
        rooms: usize,
        message_bytes: usize,
    ) -> io::Result<Publisher> {
        let tcp = TcpStream::connect(server.address)?;
        tcp.set_nodelay(true)?;
        let socket = ClientSocket::new(tcp, None)?;
        socket.send_all(&relay_settings(clients, rooms, message_bytes))?;
        Ok(Publisher {
            sockets: vec![socket],
            message: server_text(message_bytes),
            published: 0,
            stamp_at: None,
        })
    }

    /// Sends each message with a `send` of its own, so that only the server can batch them.
    pub(crate) fn publish(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            if let Some(at) = self.stamp_at {
                latency::write_stamp(&mut self.message[at..]);
            }
            let turn = self.published as usize % self.sockets.len();
            self.sockets[turn].send_all(&self.message)?;
            self.published += 1;
        }
        Ok(())
    }
}

/// When a load stops.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Time(Instant),
    Published(u64),
}

impl Until {
    fn is_reached(self, published: u64) -> bool {
        match self {
            Until::Time(end) => Instant::now() >= end,
            Until::Published(count) => published >= count,
        }
    }
}

/// Publishes as `load` says and returns when the expected number of frames has arrived.
pub(crate) fn run_load(
    clients: &mut ClientGroup,
    publisher: &mut Publisher,
    load: Load,
    until: Until,
) -> io::Result<()> {
    clients.reset_counts();
    publisher.published = 0;
    match load {
        Load::PerSecond(rate) => {
            open_loop(clients, publisher, Duration::from_secs(1) / rate, until)?;
        }
        Load::Outstanding(window) => closed_loop(clients, publisher, window, until)?,
    }
    let readers = clients.len() / clients.rooms();
    let expected = publisher.published * readers as u64;
    clients.receive(expected, Instant::now() + DRAIN_DEADLINE)
}

fn open_loop(
    clients: &mut ClientGroup,
    publisher: &mut Publisher,
    interval: Duration,
    until: Until,
) -> io::Result<()> {
    let mut due = Instant::now();
    while !until.is_reached(publisher.published) {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            publisher.publish(1)?;
            // Counted from the due time, so that a late message does not lower the rate.
            due += interval;
        }
        clients.poll(wait, |_| Ok(()))?;
    }
    Ok(())
}

fn closed_loop(
    clients: &mut ClientGroup,
    publisher: &mut Publisher,
    window: u64,
    until: Until,
) -> io::Result<()> {
    let (mut received, mut received_at) = (clients.received(), Instant::now());
    publisher.publish(window)?;
    while !until.is_reached(publisher.published) {
        clients.poll(SILENCE_MAX, |own_messages| {
            if until.is_reached(publisher.published) {
                Ok(())
            } else {
                publisher.publish(own_messages)
            }
        })?;
        if clients.received() != received {
            (received, received_at) = (clients.received(), Instant::now());
        } else if received_at.elapsed() >= SILENCE_MAX {
            return Err(io::Error::other("the server stopped relaying messages"));
        }
    }
    Ok(())
}
