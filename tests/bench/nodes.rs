//! Case N: nodes that share a Redis, beside one that keeps its rooms to itself.

use std::io;
use std::net::SocketAddrV4;
use std::process;
use std::time::{Duration, Instant};

use crate::args::NODES;
use crate::children::{Kind, Server};
use crate::cpu::CpuTime;
use crate::fleet::Fleet;
use crate::redis_server::{RedisServer, Told};
use crate::scenarios::{
    Bench, DUPLICATE_GRACE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load,
};
use crate::storage::{Acknowledged, Publishers, publish_all};

/// Nodes tell each other once a second who came: so long until nothing of it is left to be told.
const SETTLE: Duration = Duration::from_secs(2);

/// Threads of which a node has one, so that each can be full before its cores are: what hands messages to
/// Redis, what hears them from there, and what gives them to clients.
const SERVICES: [&str; 3] = ["broker", "redis-listen", "broadcaster"];

/// Before the clock starts, where there may be many rooms.
const WARM_UP_LOAD: Load = Load::Outstanding(8);

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// One node, its rooms in memory.
    Alone,
    /// One node, its rooms in Redis.
    One,
    /// Nodes that share a Redis.
    Three,
}

/// Who is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// A multiple of the rooms.
    pub(crate) clients: usize,
    pub(crate) rooms: usize,
}

/// What a measurement took. Where there is no Redis, its figures are not numbers.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) messages: f64,
    pub(crate) deliveries: f64,
    pub(crate) seconds: f64,
    pub(crate) generator_busy_percent: f64,
    pub(crate) spent: Spent,
    pub(crate) told: Told,
}

/// CPU between two readings of a meter, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) nodes_us: Vec<f64>,
    /// Each of the services' threads, on the node where it does most.
    pub(crate) services_us: [f64; SERVICES.len()],
    pub(crate) redis_us: f64,
}

/// Running servers; the nodes end before their Redis.
struct Servers {
    nodes: Vec<Server>,
    redis: Option<RedisServer>,
}

struct Meter {
    nodes: Vec<CpuTime>,
    services: Vec<[Duration; SERVICES.len()]>,
    redis: Option<CpuTime>,
}

impl Site {
    fn nodes(self) -> usize {
        match self {
            Site::Alone | Site::One => 1,
            Site::Three => NODES,
        }
    }
}

impl Shared {
    pub(crate) fn nodes_us(&self) -> f64 {
        self.spent.nodes_us.iter().sum()
    }

    /// Of a node that publishes nothing, where clients of one room publish on the first node.
    pub(crate) fn relaying_us(&self) -> f64 {
        let relaying = &self.spent.nodes_us[1..];
        relaying.iter().sum::<f64>() / relaying.len() as f64
    }
}

impl Bench {
    /// A crowd that publishes by turns, one client of each room.
    pub(crate) fn shared_fanout(&self, site: Site, crowd: Crowd, load: Load) -> io::Result<Shared> {
        let mut servers = self.servers(site)?;
        let mut fleet = servers.crowd(crowd)?;
        let mut publisher = Publisher::clients(&fleet, crowd.rooms)?;
        let warm_up = Until::Published(WARM_UP_MESSAGES.max(crowd.rooms as u64));
        run_load(&mut fleet, &mut publisher, WARM_UP_LOAD, warm_up)?;

        let duration = Duration::from_secs_f64(self.options.seconds());
        // What Redis tells costs it something, so it is asked outside of the readings.
        let told_before = servers.told()?;
        let (before, busy_before) = (servers.meter()?, CpuTime::of(process::id())?);
        let begin = Instant::now();
        let until = Until::Time(begin + duration);
        run_load(&mut fleet, &mut publisher, load, until)?;
        let elapsed = begin.elapsed().as_secs_f64();
        let busy = CpuTime::of(process::id())?.since(&busy_before);
        fleet.idle(DUPLICATE_GRACE)?;
        let spent = servers.meter()?.since(&before);
        let told = servers.told()?.since(&told_before);

        servers.check_alive()?;
        fleet.check_counts(publisher.published)?;
        Ok(Shared {
            messages: publisher.published as f64,
            deliveries: fleet.received() as f64,
            seconds: elapsed,
            generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed,
            spent,
            told,
        })
    }

    /// A crowd that does nothing.
    pub(crate) fn shared_idle(&self, site: Site, crowd: Crowd) -> io::Result<Shared> {
        let mut servers = self.servers(site)?;
        let mut fleet = servers.crowd(crowd)?;
        fleet.forget_counts();
        let told_before = servers.told()?;
        let (before, begin) = (servers.meter()?, Instant::now());
        fleet.idle(Duration::from_secs_f64(self.options.seconds()))?;
        let (spent, elapsed) = (servers.meter()?.since(&before), begin.elapsed());
        let told = servers.told()?.since(&told_before);
        servers.check_alive()?;
        fleet.check_counts(0)?;
        Ok(Shared {
            messages: 0.0,
            deliveries: 0.0,
            seconds: elapsed.as_secs_f64(),
            generator_busy_percent: f64::NAN,
            spent,
            told,
        })
    }

    /// Publishers that are each alone in a room of one node; also the CPU of Redis per publish.
    pub(crate) fn shared_acknowledged(
        &self,
        site: Site,
        publishers: Publishers,
    ) -> io::Result<(Acknowledged, f64)> {
        let mut servers = self.servers(site)?;
        let address = servers.nodes[0].address;
        let duration = Duration::from_secs_f64(self.options.seconds());
        let measured = publish_all(address, publishers, duration, || servers.meter())?;
        let (latencies, [before, after]) = measured;
        servers.check_alive()?;
        let spent = after.since(&before);
        let cpu = Duration::from_secs_f64(spent.nodes_us[0] / 1e6);
        let acknowledged = Acknowledged::new(&latencies, duration, cpu);
        Ok((acknowledged, spent.redis_us / latencies.len() as f64))
    }

    fn servers(&self, site: Site) -> io::Result<Servers> {
        let (options, machine) = (&self.options, &self.machine);
        let redis = match site {
            Site::Alone => None,
            Site::One | Site::Three => Some(RedisServer::start(machine)?),
        };
        let url = redis.as_ref().map(RedisServer::url);
        let arguments: Vec<String> = url
            .into_iter()
            .flat_map(|url| ["--redis".to_owned(), url])
            .collect();
        let nodes = (0..site.nodes())
            .map(|_| Server::start(Kind::Wscast, &arguments, options, machine))
            .collect::<io::Result<_>>()?;
        Ok(Servers { nodes, redis })
    }
}

impl Servers {
    /// Connects clients to all nodes by turns and waits until nodes have told each other of them.
    fn crowd(&self, crowd: Crowd) -> io::Result<Fleet> {
        let addresses: Vec<SocketAddrV4> = self.nodes.iter().map(|node| node.address).collect();
        let mut fleet = Fleet::connect_spread(&addresses, crowd.clients, crowd.rooms)?;
        fleet.idle(SETTLE)?;
        Ok(fleet)
    }

    fn meter(&self) -> io::Result<Meter> {
        let (nodes, services) = (self.nodes.iter(), self.nodes.iter());
        let services = services.map(|node| node.threads_cpu(SERVICES));
        Ok(Meter {
            nodes: nodes.map(Server::cpu).collect::<io::Result<_>>()?,
            services: services.collect::<io::Result<_>>()?,
            redis: self.redis.as_ref().map(RedisServer::cpu).transpose()?,
        })
    }

    fn told(&self) -> io::Result<Told> {
        self.redis
            .as_ref()
            .map_or(Ok(Told::NOTHING), RedisServer::told)
    }

    fn check_alive(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            node.check_alive()?;
        }
        self.redis.as_mut().map_or(Ok(()), RedisServer::check_alive)
    }
}

impl Meter {
    fn since(&self, earlier: &Meter) -> Spent {
        let micros = |now: &CpuTime, then: &CpuTime| now.since(then).as_secs_f64() * 1e6;
        let nodes = self.nodes.iter().zip(&earlier.nodes);
        let redis = self.redis.as_ref().zip(earlier.redis.as_ref());
        let services_us = std::array::from_fn(|service| {
            let nodes = self.services.iter().zip(&earlier.services);
            let taken = nodes.map(|(now, then)| now[service].saturating_sub(then[service]));
            taken.max().unwrap_or_default().as_secs_f64() * 1e6
        });
        Spent {
            nodes_us: nodes.map(|(now, then)| micros(now, then)).collect(),
            services_us,
            redis_us: redis.map_or(f64::NAN, |(now, then)| micros(now, then)),
        }
    }
}
