//! Case K: clients that connect, read their welcome, close and connect again, many at a time.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustls::ClientConfig;

use crate::client::Client;
use crate::client_group::ServerProtocol;
use crate::client_socket::ClientSocket;
use crate::comparison::{Comparison, Definition, Figure};
use crate::cpu::CpuTime;
use crate::frames::{client_close, upgrade_request};
use crate::measurements::Bench;
use crate::report::{Columns, Row};
use crate::servers::ServerKind;

/// Clients that connect at the same time.
const AT_ONCE: usize = 64;
/// Connections before the clock starts. They also get the tickets with which later ones resume TLS.
const WARM_UP: u64 = 500;
/// The longest silence. After it, the server is considered stuck.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const SCRATCH_BYTES: usize = 16 * 1024;

/// The TLS of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Plain,
    /// Each handshake is a full one.
    Full,
    /// Each handshake resumes a session with a ticket.
    Resumed,
}

#[derive(Clone, Copy, Debug)]
struct ConnectingFigures {
    cpu_us: f64,
    per_ms: f64,
    generator_busy_percent: f64,
}

const FIGURES: [Definition<ConnectingFigures>; 3] = [
    ("CPU per connection", "µs", |figures| figures.cpu_us),
    ("connections per second", "k/s", |figures| figures.per_ms),
    ("load generator busy", "%", |figures| {
        figures.generator_busy_percent
    }),
];

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (title, columns, sides) in [
        (
            "K  connect, welcome, close",
            Columns::PlainAndTls,
            [Security::Plain, Security::Full],
        ),
        (
            "K  the same with TLS",
            Columns::FullAndResumed,
            [Security::Full, Security::Resumed],
        ),
    ] {
        let comparison = Comparison {
            title: title.to_owned(),
            columns,
            sides,
            figures: Figure::all(title, &FIGURES),
        };
        rows.extend(comparison.rows(bench, Bench::connecting)?);
    }
    Ok(rows)
}

impl Bench {
    fn connecting(&self, security: Security) -> io::Result<ConnectingFigures> {
        let (kind, tls) = match security {
            Security::Plain => (ServerKind::Wscast, None),
            Security::Full => (ServerKind::WscastTls, Some(self.certificate().client())),
            Security::Resumed => {
                let client = self.certificate().resuming_client();
                (ServerKind::WscastTls, Some(client))
            }
        };
        let mut server = self.start(kind)?;
        let mut connectors = Connectors::start(server.address, tls)?;
        connectors.run_until(|done| done >= WARM_UP)?;

        let end = Instant::now() + Duration::from_secs_f64(self.options.seconds());
        let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
        let (start, done_before) = (Instant::now(), connectors.done);
        connectors.run_until(|_| Instant::now() >= end)?;
        let elapsed = start.elapsed();
        let busy = CpuTime::of(process::id())?.since(&busy_before);
        let cpu = server.cpu()?.since(&cpu_before);

        server.check_alive()?;
        let done = (connectors.done - done_before) as f64;
        Ok(ConnectingFigures {
            cpu_us: cpu.as_secs_f64() * 1e6 / done,
            per_ms: done / elapsed.as_secs_f64() / 1e3,
            generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }
}

/// Clients that each open their next connection when the last one has ended.
struct Connectors {
    address: SocketAddrV4,
    tls: Option<Arc<ClientConfig>>,
    epoll: OwnedFd,
    connectors: Vec<Connector>,
    /// Connections that have ended.
    done: u64,
}

struct Connector {
    client: Client,
    is_closing: bool,
}

impl Connectors {
    fn start(address: SocketAddrV4, tls: Option<Arc<ClientConfig>>) -> io::Result<Connectors> {
        let mut connectors = Connectors {
            address,
            tls,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            connectors: Vec::with_capacity(AT_ONCE),
            done: 0,
        };
        for index in 0..AT_ONCE {
            let connector = connectors.connect(index)?;
            connectors.connectors.push(connector);
        }
        Ok(connectors)
    }

    fn connect(&self, index: usize) -> io::Result<Connector> {
        let tcp = TcpStream::connect(self.address)?;
        let socket = ClientSocket::new(tcp, self.tls.as_ref())?;
        let client = Client::open(
            socket,
            ServerProtocol::WebSocket,
            Some(upgrade_request("/ws")),
            false,
        )?;
        epoll::add(
            &self.epoll,
            &client.socket.tcp,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        Ok(Connector {
            client,
            is_closing: false,
        })
    }

    fn run_until(&mut self, is_over: impl Fn(u64) -> bool) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(AT_ONCE);
        let mut scratch = vec![0; SCRATCH_BYTES];
        let timeout = Timespec {
            tv_sec: SILENCE_MAX.as_secs() as i64,
            tv_nsec: 0,
        };
        while !is_over(self.done) {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(0) => return Err(io::Error::other("the server stopped accepting")),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let data = event.data;
                let index = data.u64() as usize;
                if self.connectors[index].advance(&mut scratch)? {
                    // Closes the socket of the old connection, which takes it out of epoll.
                    self.connectors[index] = self.connect(index)?;
                    self.done += 1;
                }
            }
        }
        Ok(())
    }
}

impl Connector {
    /// Reads what has arrived. Returns whether the server has closed the connection, as the client asked it to.
    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        if !self.is_closing {
            if self.client.read(scratch)? > 0 {
                self.client.socket.send_all(&client_close())?;
                self.is_closing = true;
            }
            return Ok(false);
        }
        loop {
            match self.client.socket.read(scratch) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
