//! All clients of a load: one epoll, one buffer, one count.

use std::io;

use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::client::{LoadClient, Reasons, Tally, count_reason};
use super::message::{LoadMessage, Stamp};
use super::opener::Opened;
use crate::client::error::Lost;

const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;

/// The clients of a load, and what they have received.
pub(super) struct LoadClients {
    clients: Vec<LoadClient>,
    pub(super) tally: Tally,
    /// Reasons of closed connections since the counts were reset.
    pub(super) closed: Reasons,
    /// The last of them.
    pub(super) last_lost: Option<Lost>,
    /// Messages that were published to each room since the counts were reset.
    published: Vec<u64>,
    /// The clients of each room that publish, by their index.
    publishers: Vec<Vec<usize>>,
    /// Whose turn it is in each room.
    turns: Vec<usize>,
    publishers_max: usize,
    payload_bytes: usize,
    /// Open connections.
    open: usize,
    message: LoadMessage,
    epoll: OwnedFd,
    events: Vec<Event>,
    scratch: Vec<u8>,
}

impl LoadClients {
    pub(super) fn new(
        stamp: Stamp,
        rooms: usize,
        publishers_max: usize,
        payload_bytes: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            clients: Vec::new(),
            message: LoadMessage::new(&stamp, payload_bytes),
            tally: Tally::new(stamp, rooms),
            closed: Reasons::new(),
            last_lost: None,
            published: vec![0; rooms],
            publishers: vec![Vec::new(); rooms],
            turns: vec![0; rooms],
            publishers_max,
            payload_bytes,
            open: 0,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Returns the number of open connections.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Returns the number of connections that were opened, closed ones included.
    pub(super) fn opened(&self) -> usize {
        self.clients.len()
    }

    /// Adds a client.
    pub(super) fn add(&mut self, opened: Opened) -> io::Result<()> {
        let index = self.clients.len();
        let mut client = LoadClient::new(opened.socket, opened.room);
        // Edge-triggered, so that a wake-up costs one read and not a second one that returns nothing.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Some(fd) = client.fd() {
            epoll::add(&self.epoll, fd, EventData::new_u64(index as u64), flags)?;
        }
        let parsed = client.parse(&opened.first_bytes, &mut self.tally);
        self.clients.push(client);
        self.open += 1;
        if let Err(lost) = parsed {
            self.lose(index, lost);
        }
        Ok(())
    }

    /// Closes the newest connections until `count` are open.
    pub(super) fn close_all_but(&mut self, count: usize) {
        for index in (0..self.clients.len()).rev() {
            if self.open <= count {
                return;
            }
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.is_open() {
            client.close();
            self.open -= 1;
            self.tally.welcomes -= usize::from(client.is_welcome);
        }
    }

    /// Starts a measurement with the connections that are open. Messages of an earlier one count no more.
    pub(super) fn start(&mut self) {
        self.tally.reset();
        self.message = LoadMessage::new(&self.tally.stamp, self.payload_bytes);
        self.closed.clear();
        self.last_lost = None;
        self.published.fill(0);
        self.publishers.iter_mut().for_each(Vec::clear);
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.received = 0;
            client.is_counted = client.is_open();
            let publishers = &mut self.publishers[client.room];
            if client.is_counted && publishers.len() < self.publishers_max {
                publishers.push(index);
            }
        }
    }

    pub(super) fn published(&self) -> u64 {
        self.published.iter().sum()
    }

    /// Publishes a message to a room, with a send of its own, so that only the server can batch messages. Returns false
    /// if no publisher can send now.
    pub(super) fn publish(&mut self, room: usize) -> bool {
        for _ in 0..self.publishers[room].len() {
            let turn = self.turns[room] % self.publishers[room].len();
            self.turns[room] = turn + 1;
            let index = self.publishers[room][turn];
            if !self.clients[index].is_ready() {
                continue;
            }
            let frame = self.message.stamped(&self.tally.stamp);
            match self.clients[index].send(frame) {
                Ok(()) => {
                    self.published[room] += 1;
                    return true;
                }
                Err(lost) => self.lose(index, lost),
            }
        }
        false
    }

    /// Sends other bytes from the first client that is connected.
    pub(super) fn send_from_first(&mut self, bytes: &[u8]) {
        let first = self.clients.iter().position(LoadClient::is_open);
        if let Some(first) = first
            && let Err(lost) = self.clients[first].send(bytes)
        {
            self.lose(first, lost);
        }
    }

    /// Waits until bytes arrive or `timeout` has passed, and reads what has arrived. Calls `on_own` with the room and the
    /// number of messages that its first publisher has received.
    pub(super) fn poll(
        &mut self,
        timeout: Duration,
        mut on_own: impl FnMut(&mut Self, usize, u64),
    ) -> io::Result<()> {
        self.wait(timeout)?;
        for at in 0..self.events.len() {
            let (data, flags) = (self.events[at].data, self.events[at].flags);
            let index = data.u64() as usize;
            let client = &mut self.clients[index];
            let (room, mut own) = (client.room, 0);
            let read = client
                .read(&mut self.scratch, &mut self.tally)
                .and_then(|messages| {
                    own = messages;
                    match flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                        true => Err(Lost::Broken("the connection was closed".to_owned())),
                        false if flags.contains(EventFlags::OUT) => client.flush(),
                        false => Ok(()),
                    }
                });
            if let Err(lost) = read {
                self.lose(index, lost);
            }
            if own > 0 && self.publishers[room].first() == Some(&index) {
                on_own(self, room, own);
            }
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as _,
            tv_nsec: timeout.subsec_nanos() as _,
        };
        let events = spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, events, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn lose(&mut self, index: usize, lost: Lost) {
        if self.clients[index].is_open() {
            self.close(index);
            count_reason(&mut self.closed, &lost.to_string());
            self.last_lost = Some(lost);
        }
    }

    /// Returns how many messages each client of a room should have received.
    fn expected(&self, room: usize) -> u64 {
        self.published[room].saturating_sub(self.tally.refused[room])
    }

    /// Returns how many deliveries are missing, and how many came twice.
    pub(super) fn missing_and_doubled(&self) -> (u64, u64) {
        let counted = self.clients.iter().filter(|client| client.is_counted);
        let sums = counted.map(|client| {
            let expected = self.expected(client.room);
            (
                expected.saturating_sub(client.received),
                client.received.saturating_sub(expected),
            )
        });
        sums.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    /// Returns whether a delivery to an open connection is missing.
    pub(super) fn awaits_deliveries(&self) -> bool {
        let mut clients = self.clients.iter();
        clients.any(|client| {
            client.is_open() && client.is_counted && client.received < self.expected(client.room)
        })
    }
}
