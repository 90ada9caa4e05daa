//! One measurement each: start a server, bring the clients, load it, read what it cost, check what came.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::process;
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::children::{Kind, Server};
use crate::cpu::CpuTime;
use crate::fleet::{Dialect, Fleet};
use crate::floor::announcement;
use crate::frames::{client_text, server_text};
use crate::latency;
use crate::link::{Certificate, Link};
use crate::machine::Machine;

const PAYLOAD_BYTES: usize = 100;

/// Messages before the clock starts: first allocations and cold caches are not what is measured.
pub(crate) const WARM_UP_MESSAGES: u64 = 20;

/// Connections that stay open but are not counted: what the first ones load and allocate for good is
/// not the price of one more.
const WARM_UP_CONNECTIONS: usize = 32;

const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// A server that answers nothing at all must not hold a closed loop up for ever.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long a message too many has to show up before the counts are checked.
pub(crate) const DUPLICATE_GRACE: Duration = Duration::from_millis(100);

const QUIET_STEP: Duration = Duration::from_millis(250);
const QUIET_STEPS: usize = 4;
const QUIET_STEPS_MAX: usize = 40;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// An open loop: messages leave by the clock.
    PerSecond(u32),
    /// A closed loop: a message leaves when the publisher received one of its own.
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

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fanout {
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) deliveries_per_ms: f64,
    pub(crate) generator_busy_percent: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrivals {
    pub(crate) rss_kib_per_connection: f64,
    pub(crate) cpu_us_per_handshake: f64,
}

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) machine: Machine,
    /// Length on the wire of a message as wscast relays it: the floor sends as much.
    relayed_bytes: usize,
    /// What servers of case T show.
    certificate: Certificate,
}

impl Bench {
    /// Sends one message through wscast, to learn how long it is for those who receive it.
    pub(crate) fn new(options: Options, machine: Machine) -> io::Result<Bench> {
        let server = Server::start(Kind::Wscast, &[], &options, &machine)?;
        let mut fleet = Fleet::connect(server.address, 1, Dialect::WebSocket)?;
        let mut publisher = Publisher::client(&fleet)?;
        fleet.forget_counts();
        publisher.publish(1)?;
        fleet.receive(1, Instant::now() + DRAIN_DEADLINE)?;
        Ok(Bench {
            options,
            machine,
            relayed_bytes: fleet.last_frame_bytes(),
            certificate: Certificate::make()?,
        })
    }

    /// Cases A to C.
    pub(crate) fn fanout(&self, kind: Kind, load: Load) -> io::Result<Fanout> {
        self.fanout_of(self.start(kind)?, load)
    }

    /// Of a server that was started for it.
    pub(crate) fn fanout_of(&self, mut server: Server, load: Load) -> io::Result<Fanout> {
        let (fleet, publisher) = self.join(&server)?;
        self.fanout_to(&mut server, fleet, publisher, load)
    }

    /// To clients who have joined a server.
    pub(crate) fn fanout_to(
        &self,
        server: &mut Server,
        mut fleet: Fleet,
        mut publisher: Publisher,
        load: Load,
    ) -> io::Result<Fanout> {
        run_load(
            &mut fleet,
            &mut publisher,
            Load::Outstanding(1),
            Until::Published(WARM_UP_MESSAGES),
        )?;

        let duration = Duration::from_secs_f64(self.options.seconds());
        let (cpu_before, busy_before) = (server.cpu()?, CpuTime::of(process::id())?);
        let begin = Instant::now();
        run_load(
            &mut fleet,
            &mut publisher,
            load,
            Until::Time(begin + duration),
        )?;
        let elapsed = begin.elapsed();
        let busy = CpuTime::of(process::id())?.since(&busy_before);
        fleet.idle(DUPLICATE_GRACE)?;
        let cpu = server.cpu()?.since(&cpu_before);

        server.check_alive()?;
        fleet.check_counts(publisher.published)?;
        let deliveries = fleet.received() as f64;
        Ok(Fanout {
            cpu_us_per_delivery: cpu.as_secs_f64() * 1e6 / deliveries,
            deliveries_per_ms: deliveries / elapsed.as_secs_f64() / 1e3,
            generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }

    /// Cases D and E. The connections stay open; only their arrival and their presence cost.
    pub(crate) fn arrivals(&self, kind: Kind) -> io::Result<Arrivals> {
        let count = self.options.idle();
        let mut server = self.start(kind)?;
        let _first = self.fleet(&server, WARM_UP_CONNECTIONS)?;
        let (rss_before, cpu_before) = (server.rss_kib()?, server.cpu()?);
        let mut fleet = self.fleet(&server, count)?;
        fleet.idle(QUIET_STEP)?;
        let cpu = server.cpu()?.since(&cpu_before);
        let rss = quiet_rss_kib(&server, &mut fleet)?;

        server.check_alive()?;
        fleet.check_counts(1)?;
        Ok(Arrivals {
            rss_kib_per_connection: rss.saturating_sub(rss_before) as f64 / count as f64,
            cpu_us_per_handshake: cpu.as_secs_f64() * 1e6 / count as f64,
        })
    }

    fn join(&self, server: &Server) -> io::Result<(Fleet, Publisher)> {
        let clients = self.options.clients();
        if !server.kind.is_floor() {
            let fleet = self.fleet(server, clients)?;
            let publisher = Publisher::client(&fleet)?;
            return Ok((fleet, publisher));
        }
        // The floor takes its first connection for the one that carries the messages.
        let publisher = Publisher::control(server, clients, self.relayed_bytes)?;
        let fleet = self.fleet(server, clients)?;
        Ok((fleet, publisher))
    }

    pub(crate) fn start(&self, kind: Kind) -> io::Result<Server> {
        let arguments: &[String] = match kind {
            Kind::WscastTls => &self.certificate.flags,
            _ => &[],
        };
        Server::start(kind, arguments, &self.options, &self.machine)
    }

    pub(crate) fn fleet(&self, server: &Server, count: usize) -> io::Result<Fleet> {
        let address = server.address;
        match server.kind {
            Kind::Wscast | Kind::WscastLimited => {
                Fleet::connect(address, count, Dialect::WebSocket)
            }
            Kind::WscastTls => Fleet::connect_tls(address, count, &self.certificate),
            Kind::FloorRelay | Kind::FloorIdle => {
                Fleet::connect(address, count, Dialect::BareFrames)
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.certificate.remove();
    }
}

/// Where messages go in: one of wscast's own clients, several by turns, or the floor's control connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Never empty.
    links: Vec<Link>,
    message: Vec<u8>,
    /// Since the load began.
    pub(crate) published: u64,
    /// Where in `message` the time of publishing goes.
    stamp_at: Option<usize>,
}

impl Publisher {
    fn client(fleet: &Fleet) -> io::Result<Publisher> {
        Publisher::clients(fleet, 1)
    }

    /// This many clients by turns, so that none of them asks much or each room has its share.
    pub(crate) fn clients(fleet: &Fleet, count: usize) -> io::Result<Publisher> {
        let payload = "x".repeat(PAYLOAD_BYTES);
        let json = format!(r#"{{"type":"message","payload":"{payload}"}}"#);
        let message = client_text(json.as_bytes());
        Ok(Publisher {
            links: fleet.publishers(count)?,
            message,
            published: 0,
            stamp_at: None,
        })
    }

    /// A client whose messages tell when they were published.
    pub(crate) fn stamped(fleet: &Fleet, payload_bytes: usize) -> io::Result<Publisher> {
        let payload = latency::unstamped(payload_bytes);
        let json = format!(r#"{{"type":"message","payload":"{payload}"}}"#);
        let message = client_text(json.as_bytes());
        Ok(Publisher {
            links: fleet.publishers(1)?,
            stamp_at: latency::stamp_at(&message),
            message,
            published: 0,
        })
    }

    fn control(server: &Server, clients: usize, message_bytes: usize) -> io::Result<Publisher> {
        let socket = TcpStream::connect(server.address)?;
        socket.set_nodelay(true)?;
        let link = Link::new(socket, None)?;
        link.send_all(&announcement(clients, message_bytes))?;
        Ok(Publisher {
            links: vec![link],
            message: server_text(message_bytes),
            published: 0,
            stamp_at: None,
        })
    }

    /// Each message is a `send` of its own: that a server gets several at once is its own doing.
    fn publish(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            if let Some(at) = self.stamp_at {
                latency::stamp(&mut self.message[at..]);
            }
            let turn = self.published as usize % self.links.len();
            self.links[turn].send_all(&self.message)?;
            self.published += 1;
        }
        Ok(())
    }
}

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

/// Publishes as `load` says and returns when every client must have everything.
pub(crate) fn run_load(
    fleet: &mut Fleet,
    publisher: &mut Publisher,
    load: Load,
    until: Until,
) -> io::Result<()> {
    fleet.forget_counts();
    publisher.published = 0;
    match load {
        Load::PerSecond(rate) => open_loop(fleet, publisher, Duration::from_secs(1) / rate, until)?,
        Load::Outstanding(window) => closed_loop(fleet, publisher, window, until)?,
    }
    let readers = fleet.len() / fleet.rooms();
    let expected = publisher.published * readers as u64;
    fleet.receive(expected, Instant::now() + DRAIN_DEADLINE)
}

fn open_loop(
    fleet: &mut Fleet,
    publisher: &mut Publisher,
    interval: Duration,
    until: Until,
) -> io::Result<()> {
    let mut due = Instant::now();
    while !until.is_reached(publisher.published) {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            publisher.publish(1)?;
            // From when it was due, not from now: a late message does not thin out the load.
            due += interval;
        }
        fleet.poll(wait, |_| Ok(()))?;
    }
    Ok(())
}

fn closed_loop(
    fleet: &mut Fleet,
    publisher: &mut Publisher,
    window: u64,
    until: Until,
) -> io::Result<()> {
    let (mut seen, mut seen_at) = (fleet.received(), Instant::now());
    publisher.publish(window)?;
    while !until.is_reached(publisher.published) {
        fleet.poll(SILENCE_MAX, |own| {
            match until.is_reached(publisher.published) {
                true => Ok(()),
                false => publisher.publish(own),
            }
        })?;
        if fleet.received() != seen {
            (seen, seen_at) = (fleet.received(), Instant::now());
        } else if seen_at.elapsed() >= SILENCE_MAX {
            return Err(io::Error::other("the server has stopped answering"));
        }
    }
    Ok(())
}

/// The server's memory once it has stayed the same for a while, or after a bounded wait.
fn quiet_rss_kib(server: &Server, fleet: &mut Fleet) -> io::Result<u64> {
    let mut last = server.rss_kib()?;
    let mut same = 0;
    for _ in 0..QUIET_STEPS_MAX {
        fleet.idle(QUIET_STEP)?;
        let now = server.rss_kib()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same == QUIET_STEPS {
            break;
        }
    }
    Ok(last)
}
