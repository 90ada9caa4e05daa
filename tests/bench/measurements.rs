//! The measurements of fan-out and of connections: start a server, load it, read what it used, check the counts.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::client_group::{ClientGroup, ServerProtocol};
use crate::client_socket::Certificate;
use crate::cpu::CpuTime;
use crate::load::{DUPLICATE_GRACE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load};
use crate::machine::{Machine, ServerCores};
use crate::servers::{Server, ServerKind};

/// Connections that are opened before the first reading, and not counted. They cause allocations that happen once
/// per process.
const WARM_UP_CONNECTIONS: usize = 32;

const QUIET_STEP: Duration = Duration::from_millis(250);
const QUIET_STEPS: usize = 4;
const QUIET_STEPS_MAX: usize = 40;

#[derive(Clone, Copy, Debug)]
pub(crate) struct FanoutFigures {
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) deliveries_per_ms: f64,
    pub(crate) generator_busy_percent: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionFigures {
    pub(crate) rss_kib_per_connection: f64,
    pub(crate) charged_kib_per_connection: f64,
    pub(crate) cpu_us_per_handshake: f64,
}

/// Starts servers and measures them.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) machine: Machine,
    /// The binary to start as wscast.
    server: PathBuf,
    /// Length of a message on the wire as wscast relays it. The floor sends messages of the same length.
    pub(crate) relayed_bytes: usize,
    /// The certificate of servers with TLS.
    certificate: Rc<Certificate>,
}

impl Bench {
    /// Sends one message through wscast, to learn its length when relayed.
    pub(crate) fn new(options: Options, machine: Machine) -> io::Result<Bench> {
        let mut bench = Bench {
            server: options.server.clone(),
            options,
            machine,
            relayed_bytes: 0,
            certificate: Rc::new(Certificate::generate()?),
        };
        let server = bench.start(ServerKind::Wscast)?;
        let mut clients = bench.clients(&server, 1)?;
        let mut publisher = Publisher::new(&clients, 1)?;
        run_load(
            &mut clients,
            &mut publisher,
            Load::Outstanding(1),
            Until::Published(1),
        )?;
        bench.relayed_bytes = clients.last_frame_bytes();
        Ok(bench)
    }

    /// Returns a copy that starts this binary as wscast.
    pub(crate) fn with_server(&self, server: PathBuf) -> Bench {
        Bench {
            server,
            ..self.clone()
        }
    }

    /// Returns a copy whose servers may use these cores.
    pub(crate) fn with_server_cores(&self, cores: ServerCores) -> Bench {
        let bench = self.clone();
        Bench {
            machine: bench.machine.with_server_cores(cores),
            ..bench
        }
    }

    /// Measures cases A to C.
    pub(crate) fn fanout(&self, kind: ServerKind, load: Load) -> io::Result<FanoutFigures> {
        self.fanout_of(self.start(kind)?, load)
    }

    /// Measures the fan-out of a fresh server.
    pub(crate) fn fanout_of(&self, mut server: Server, load: Load) -> io::Result<FanoutFigures> {
        let (clients, publisher) = self.connect_clients(&server)?;
        self.fanout_to(&mut server, clients, publisher, load)
    }

    /// Measures the fan-out to clients that are connected already.
    pub(crate) fn fanout_to(
        &self,
        server: &mut Server,
        mut clients: ClientGroup,
        mut publisher: Publisher,
        load: Load,
    ) -> io::Result<FanoutFigures> {
        let warm_up = Until::Published(WARM_UP_MESSAGES.max(clients.rooms() as u64));
        run_load(&mut clients, &mut publisher, Load::Outstanding(1), warm_up)?;

        let duration = Duration::from_secs_f64(self.options.seconds());
        let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
        let start = Instant::now();
        let until = Until::Time(start + duration);
        run_load(&mut clients, &mut publisher, load, until)?;
        let elapsed = start.elapsed();
        let busy = CpuTime::of(process::id())?.since(&busy_before);
        clients.read_for(DUPLICATE_GRACE)?;
        let cpu = server.cpu()?.since(&cpu_before);

        server.check_alive()?;
        clients.check_counts(publisher.published)?;
        let deliveries = clients.received() as f64;
        Ok(FanoutFigures {
            cpu_us_per_delivery: cpu.as_secs_f64() * 1e6 / deliveries,
            deliveries_per_ms: deliveries / elapsed.as_secs_f64() / 1e3,
            generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }

    /// Measures cases D and E. The connections stay open and carry no messages.
    pub(crate) fn connections(&self, kind: ServerKind) -> io::Result<ConnectionFigures> {
        let count = self.options.idle();
        let mut server = self.start(kind)?;
        let charge = server.charge();
        if !kind.is_floor() {
            // Most servers have had a connection that was no session, such as that of a health check. Its thread has used
            // more stack than a session does, and it accepts clients too.
            drop(TcpStream::connect(server.address)?);
        }
        let _warm_up = self.clients(&server, WARM_UP_CONNECTIONS)?;
        let (rss_before, charged_before) = (server.rss_kib()?, charge.kib()?);
        let cpu_before = server.cpu()?;
        let mut clients = self.clients(&server, count)?;
        clients.read_for(QUIET_STEP)?;
        let cpu = server.cpu()?.since(&cpu_before);
        let rss = quiet_rss_kib(&server, &mut clients)?;
        let charged = charge.kib()?;

        server.check_alive()?;
        clients.check_counts(1)?;
        // The cgroup can be deleted only after its server has ended.
        drop(server);
        drop(charge);
        let per_connection =
            |after: u64, before| after.saturating_sub(before) as f64 / count as f64;
        Ok(ConnectionFigures {
            rss_kib_per_connection: per_connection(rss, rss_before),
            charged_kib_per_connection: per_connection(charged, charged_before),
            cpu_us_per_handshake: cpu.as_secs_f64() * 1e6 / count as f64,
        })
    }

    fn connect_clients(&self, server: &Server) -> io::Result<(ClientGroup, Publisher)> {
        let count = self.options.clients();
        if server.kind.is_floor() {
            // The floor expects the publisher on its first connection.
            let publisher = Publisher::of_floor(server, count, 1, self.relayed_bytes)?;
            return Ok((self.clients(server, count)?, publisher));
        }
        let clients = self.clients(server, count)?;
        let publisher = Publisher::new(&clients, 1)?;
        Ok((clients, publisher))
    }

    /// Returns the certificate of servers with TLS.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn start(&self, kind: ServerKind) -> io::Result<Server> {
        let arguments: &[String] = match kind {
            ServerKind::WscastTls => &self.certificate.flags,
            _ => &[],
        };
        self.start_with(kind, arguments)
    }

    /// Starts wscast with these flags.
    pub(crate) fn start_wscast(&self, arguments: &[String]) -> io::Result<Server> {
        self.start_with(ServerKind::Wscast, arguments)
    }

    fn start_with(&self, kind: ServerKind, arguments: &[String]) -> io::Result<Server> {
        let arguments = [arguments, &self.options.server_arg].concat();
        Server::start(kind, &self.server, &arguments, &self.machine)
    }

    pub(crate) fn clients(&self, server: &Server, count: usize) -> io::Result<ClientGroup> {
        let address = server.address;
        match server.kind {
            ServerKind::Wscast | ServerKind::WscastLimited => {
                ClientGroup::connect(address, count, ServerProtocol::WebSocket)
            }
            ServerKind::WscastTls => ClientGroup::connect_tls(address, count, &self.certificate),
            ServerKind::FloorRelay | ServerKind::FloorIdle => {
                ClientGroup::connect(address, count, ServerProtocol::BareFrames)
            }
        }
    }
}

/// Returns the server's memory once it stays the same for a while, or after a limited wait.
fn quiet_rss_kib(server: &Server, clients: &mut ClientGroup) -> io::Result<u64> {
    let mut last = server.rss_kib()?;
    let mut unchanged = 0;
    for _ in 0..QUIET_STEPS_MAX {
        clients.read_for(QUIET_STEP)?;
        let now = server.rss_kib()?;
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        if unchanged == QUIET_STEPS {
            break;
        }
    }
    Ok(last)
}
