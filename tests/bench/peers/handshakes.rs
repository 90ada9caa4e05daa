//! Connections that open, get their welcome and close, many at a time.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::process;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::client::Client;
use crate::client_group::ServerProtocol;
use crate::client_socket::ClientSocket;
use crate::cpu::CpuTime;
use crate::frames::{client_close, upgrade_request};
use crate::peers::peer::PeerServer;
use crate::peers::quantity::{Measured, described, higher, lower};

/// Handshakes before the clock starts.
const WARM_UP: Duration = Duration::from_millis(500);

/// The longest silence of the server.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The connections of one measurement: the same number at any time.
struct Handshakes {
    address: SocketAddrV4,
    protocol: ServerProtocol,
    request: String,
    /// `true`: the welcome has come and Close was sent.
    slots: Vec<(Client, bool)>,
    completed: u64,
    epoll: OwnedFd,
    scratch: Vec<u8>,
}

/// Measures for `duration`, with `at_once` connections at any time.
pub(crate) fn measure(
    server: &mut PeerServer,
    at_once: usize,
    duration: Duration,
) -> io::Result<Vec<Measured>> {
    let mut handshakes = Handshakes {
        address: server.address,
        protocol: server.protocol,
        request: upgrade_request("/ws"),
        slots: Vec::with_capacity(at_once),
        completed: 0,
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        scratch: vec![0; 4096],
    };
    for slot in 0..at_once {
        let client = handshakes.open(slot)?;
        handshakes.slots.push((client, false));
    }
    handshakes.run(Instant::now() + WARM_UP)?;

    let before = handshakes.completed;
    let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
    let start = Instant::now();
    handshakes.run(start + duration)?;
    let elapsed = start.elapsed().as_secs_f64();
    let busy = CpuTime::of(process::id())?.since(&busy_before);
    let cpu = server.cpu()?.since(&cpu_before);
    server.check_alive()?;
    let completed = (handshakes.completed - before) as f64;
    let cpu_us = cpu.as_secs_f64() * 1e6 / completed;
    let busy_percent = 100.0 * busy.as_secs_f64() / elapsed;
    Ok(vec![
        lower("CPU per handshake", "µs", cpu_us),
        higher("handshakes per second", "/s", completed / elapsed),
        described("load generator busy", "%", busy_percent),
    ])
}

impl Handshakes {
    fn open(&self, slot: usize) -> io::Result<Client> {
        let socket = ClientSocket::new(TcpStream::connect(self.address)?, None)?;
        let client = Client::open(socket, self.protocol, Some(self.request.clone()), false)?;
        epoll::add(
            &self.epoll,
            &client.socket.tcp,
            EventData::new_u64(slot as u64),
            EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
        )?;
        Ok(client)
    }

    fn run(&mut self, end: Instant) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(self.slots.len());
        let timeout = Timespec {
            tv_sec: SILENCE_MAX.as_secs() as i64,
            tv_nsec: 0,
        };
        while Instant::now() < end {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if events.is_empty() {
                return Err(io::Error::other("the server stopped accepting"));
            }
            for event in &events {
                let data = event.data;
                self.advance(data.u64() as usize)?;
            }
        }
        Ok(())
    }

    /// Sends Close after the welcome. Replaces the connection when the server has closed it.
    fn advance(&mut self, slot: usize) -> io::Result<()> {
        let (client, closing) = &mut self.slots[slot];
        let read = client.read(&mut self.scratch);
        if *closing {
            // Both the server's Close frame and the end of the stream are errors of `read`.
            if read.is_err() {
                self.completed += 1;
                let client = self.open(slot)?;
                self.slots[slot] = (client, false);
            }
        } else if read? > 0 {
            client.socket.send_all(&client_close())?;
            *closing = true;
        }
        Ok(())
    }
}
